//! Checkpoints in the background: a copy on the host is taken between two steps and written by a thread of its own while the run
//! goes on. A checkpoint that costs more comes less often, so that all of them take at most two hundredths of the time.

use crate::train::Job;
use crate::train::state::HostCopy;
use anyhow::{Result, anyhow};
use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// The part of the time that checkpoints may take.
const SHARE: f64 = 0.02;
/// Bytes a second at which a checkpoint is taken to be copied, hashed and written until one has been: the pace of a slow disk.
const PACE: f64 = 200e6;

/// Writes checkpoints, one after the other.
pub(super) struct Saver<'s, 'e> {
    scope: &'s Scope<'s, 'e>,
    /// The least time between two.
    every: Duration,
    /// When the latest was begun; at first, when the run was.
    begun: Instant,
    budget: Budget,
    started: Instant,
    writing: Option<ScopedJoinHandle<'s, Result<Duration>>>,
}

/// What checkpoints have cost the run: the copies, and what their writing took from the processors that train.
struct Budget {
    spent: Duration,
    /// What the next one will cost, by the latest; before the first, by its size.
    next: Duration,
}

impl Budget {
    fn new(bytes: u64) -> Self {
        Self {
            spent: Duration::ZERO,
            next: of_the_threads(Duration::from_secs_f64(bytes as f64 / PACE)),
        }
    }

    /// Whether the next one keeps all of them within their share of the time since the start.
    fn allows(&self, since: Duration) -> bool {
        self.spent + self.next <= since.mul_f64(SHARE)
    }

    fn copied(&mut self, took: Duration) {
        self.spent += took;
        self.next = took;
    }

    fn written(&mut self, took: Duration) {
        self.spent += took;
        self.next += took;
    }
}

/// The part of the run's time that one thread's time is.
fn of_the_threads(time: Duration) -> Duration {
    time / rayon::current_num_threads() as u32
}

impl<'s, 'e> Saver<'s, 'e> {
    /// `every`: the least time between two checkpoints; at zero there is one after every step, each waited for by the next. `bytes`: the
    /// least size of one.
    pub(super) fn new(scope: &'s Scope<'s, 'e>, every: Duration, bytes: u64) -> Self {
        let now = Instant::now();
        Self {
            scope,
            every,
            begun: now,
            budget: Budget::new(bytes),
            started: now,
            writing: None,
        }
    }

    /// Whether a checkpoint is to be begun.
    ///
    /// # Errors
    /// Those of the latest one.
    pub(super) fn due(&mut self) -> Result<bool> {
        if self.every.is_zero() {
            self.wait()?;
            return Ok(true);
        }
        if self.writing.as_ref().is_some_and(|w| !w.is_finished()) {
            return Ok(false);
        }
        self.wait()?;
        Ok(self.begun.elapsed() >= self.every && self.budget.allows(self.started.elapsed()))
    }

    /// Writes copies, which took so long to take.
    ///
    /// # Errors
    /// Where the system has no thread for it.
    pub(super) fn begin<'a: 's>(&mut self, copies: Vec<(HostCopy, &'a Job<'a>)>, took: Duration) -> Result<()> {
        self.begun = Instant::now();
        self.budget.copied(took);
        let write = move || {
            let start = Instant::now();
            for (copy, job) in copies {
                copy.write(job.checkpoint_dir, job.may_write)?;
            }
            Ok(start.elapsed())
        };
        let thread = Builder::new().name("checkpoint".into());
        self.writing = Some(thread.spawn_scoped(self.scope, write)?);
        Ok(())
    }

    /// Waits for the checkpoint under way.
    ///
    /// # Errors
    /// Its own.
    pub(super) fn wait(&mut self) -> Result<()> {
        if let Some(w) = self.writing.take() {
            let seconds = w
                .join()
                .map_err(|_| anyhow!("the thread that writes checkpoints has panicked"))??;
            self.budget.written(of_the_threads(seconds));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The times at which checkpoints of these costs are begun, within `end`, and what they cost in all at most as a share of the time.
    fn begun(every: f64, bytes: u64, costs: impl Fn(usize) -> f64, end: f64) -> (Vec<f64>, f64) {
        let s = Duration::from_secs_f64;
        let mut budget = Budget::new(bytes);
        let (mut times, mut most, mut last, mut now) = (Vec::new(), 0f64, 0.0, 0.0);
        while now < end {
            now += 0.25;
            if now - last >= every && budget.allows(s(now)) {
                times.push(now);
                last = now;
                let cost = costs(times.len());
                budget.copied(s(cost / 4.0));
                budget.written(s(0.75 * cost));
                now += cost;
            }
            most = most.max(budget.spent.as_secs_f64() / now);
        }
        (times, most)
    }

    #[test]
    fn at_every_moment_checkpoints_have_taken_at_most_their_share() {
        // Cheap ones come as often as they may.
        let (times, most) = begun(60.0, 1, |_| 0.1, 600.0);
        assert!(times.len() == 9 && most <= SHARE, "{times:?}");
        // GPU.md's MAE-H, half a minute each; the size of the first tells no more than that it is dear.
        let bytes = (PACE * 30.0) as u64 * rayon::current_num_threads() as u64;
        let (times, most) = begun(60.0, bytes, |_| 30.0, 10_000.0);
        assert!(
            (times[0] - 1500.0).abs() < 1.0 && (times[1] - 3000.0).abs() < 1.0,
            "{times:?}"
        );
        assert!(most <= SHARE + 1e-9);
        // A run of a few minutes makes none that it cannot afford.
        assert_eq!(begun(60.0, bytes, |_| 30.0, 300.0).0, Vec::<f64>::new());
        // Each costs what the one before did, or less.
        assert!(begun(1.0, bytes, |n| 30.0 / n as f64, 10_000.0).1 <= SHARE + 1e-9);
        // One that costs four times what was expected is made up for by those after it.
        let (times, _) = begun(60.0, bytes / 4, |_| 30.0, 10_000.0);
        assert!(
            (times[0] - 375.0).abs() < 1.0 && (times[1] - 3000.0).abs() < 1.0,
            "{times:?}"
        );
    }
}
