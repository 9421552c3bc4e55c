//! Checkpoints in the background: a copy on the host is taken between two steps and written by a thread of its own while the run
//! goes on. A checkpoint that costs more comes less often, so that all of them take at most two hundredths of the time.

use crate::train::Job;
use crate::train::state::HostCopy;
use anyhow::{Result, anyhow};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// The part of the time that checkpoints may take.
const SHARE: f64 = 0.02;

/// Writes checkpoints, one after the other.
pub(super) struct Saver<'s, 'e> {
    scope: &'s Scope<'s, 'e>,
    every: Duration,
    /// The latest checkpoint was begun then.
    begun: Instant,
    /// What it cost the run: the copy, and what its writing took from the processors that train.
    cost: Duration,
    writing: Option<ScopedJoinHandle<'s, Result<Duration>>>,
}

impl<'s, 'e> Saver<'s, 'e> {
    /// `every`: the least time between two checkpoints; at zero there is one after every step, each waited for by the next.
    pub(super) fn new(scope: &'s Scope<'s, 'e>, every: Duration) -> Self {
        Self {
            scope,
            every,
            begun: Instant::now(),
            cost: Duration::ZERO,
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
        Ok(self.begun.elapsed() >= pause(self.every, self.cost))
    }

    /// Writes copies, which took so long to take.
    pub(super) fn begin<'a: 's>(&mut self, copies: Vec<(HostCopy, &'a Job<'a>)>, took: Duration) {
        self.begun = Instant::now();
        self.cost = took;
        self.writing = Some(self.scope.spawn(move || {
            let start = Instant::now();
            for (copy, job) in copies {
                copy.write(job.checkpoint_dir, job.may_write)?;
            }
            Ok(start.elapsed())
        }));
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
            self.cost += seconds / rayon::current_num_threads() as u32;
        }
        Ok(())
    }
}

/// The time from the beginning of a checkpoint of that cost to that of the next.
fn pause(every: Duration, cost: Duration) -> Duration {
    every.max(cost.div_f64(SHARE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dear_checkpoint_comes_less_often() {
        let s = Duration::from_secs;
        assert_eq!(pause(s(60), Duration::from_millis(100)), s(60));
        // GPU.md's MAE-H: half a minute each.
        assert_eq!(pause(s(60), s(30)), s(1500));
        for cost in [0.1, 1.0, 7.5, 100.0] {
            let cost = Duration::from_secs_f64(cost);
            assert!(cost.as_secs_f64() <= SHARE * pause(s(60), cost).as_secs_f64() + 1e-9);
        }
    }
}
