//! How far long work is: bars on a terminal; elsewhere, where somebody may read a log later, a line now and then.
//!
//! One [`Progress`] a process owns all bars, so that bars of work side by side do not write over each other and lines of
//! results stand above them.

use crate::fetch::Event;
use crate::{manifest, tell};
use indicatif::{HumanBytes, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Between two lines where nobody watches.
const EVERY: Duration = Duration::from_secs(30);

/// Where lines go.
type Sink = Box<dyn Fn(&str) + Send + Sync>;

/// All bars of a process.
#[derive(Clone)]
pub struct Progress {
    all: Arc<All>,
}

struct All {
    bars: MultiProgress,
    /// Whether people watch stderr.
    watched: bool,
    every: Duration,
    live: Mutex<Live>,
    sink: Sink,
}

struct Live {
    bars: Vec<(usize, ProgressBar, Arc<Mutex<Speed>>)>,
    next: usize,
    /// When the last line was written.
    said: Instant,
    beating: bool,
}

/// What a bar counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Bytes,
    Items,
}

/// One piece of work; its bar goes when it is dropped.
pub struct Bar {
    all: Arc<All>,
    number: usize,
    bar: ProgressBar,
    speed: Arc<Mutex<Speed>>,
}

struct Speed {
    unit: Unit,
    began: Instant,
    /// Done before this process did any: says nothing of its speed.
    before: u64,
    working: bool,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Progress {
    fn default() -> Self {
        let watched = std::io::stderr().is_terminal();
        let target = if watched {
            ProgressDrawTarget::stderr_with_hz(5)
        } else {
            ProgressDrawTarget::hidden()
        };
        Self::with(target, watched, EVERY, Box::new(|line| tell!("{line}")))
    }
}

impl Progress {
    fn with(target: ProgressDrawTarget, watched: bool, every: Duration, sink: Sink) -> Self {
        Self {
            all: Arc::new(All {
                bars: MultiProgress::with_draw_target(target),
                watched,
                every,
                live: Mutex::new(Live {
                    bars: Vec::new(),
                    next: 0,
                    said: Instant::now(),
                    beating: false,
                }),
                sink,
            }),
        }
    }

    /// A bar that counts bytes.
    pub fn bytes(&self, name: &str) -> Bar {
        self.bar(name, 0, Unit::Bytes)
    }

    /// A bar that counts `len` things; 0 where their number is not known yet.
    pub fn items(&self, name: &str, len: usize) -> Bar {
        self.bar(name, len as u64, Unit::Items)
    }

    fn bar(&self, name: &str, len: u64, unit: Unit) -> Bar {
        let template = match unit {
            Unit::Bytes => "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}",
            Unit::Items => "{prefix} {wide_bar} {pos}/{len} ETA {eta} {msg}",
        };
        let bar = self.all.bars.add(ProgressBar::new(len));
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(name.to_owned());
        let speed = Arc::new(Mutex::new(Speed {
            unit,
            began: Instant::now(),
            before: 0,
            working: false,
        }));
        let mut live = lock(&self.all.live);
        let number = live.next;
        live.next += 1;
        live.bars.push((number, bar.clone(), Arc::clone(&speed)));
        if !self.all.watched && !std::mem::replace(&mut live.beating, true) {
            live.said = Instant::now();
            let all = Arc::downgrade(&self.all);
            std::thread::spawn(move || beat(&all));
        }
        Bar {
            all: Arc::clone(&self.all),
            number,
            bar,
            speed,
        }
    }

    /// A line for people, above the bars.
    pub fn say(&self, line: &str) {
        self.all.say(line);
    }

    /// What concerns no single file of a download.
    pub fn on_event(&self, e: Event) {
        if let Event::Note(note) = e {
            self.say(&note);
        }
    }
}

impl All {
    fn say(&self, line: &str) {
        lock(&self.live).said = Instant::now();
        self.bars.suspend(|| (self.sink)(line));
    }

    /// Says where every bar stands, when nothing was said for long.
    fn remind(&self) {
        let lines: Vec<String> = {
            let mut live = lock(&self.live);
            if live.bars.is_empty() || live.said.elapsed() < self.every {
                return;
            }
            live.said = Instant::now();
            live.bars
                .iter()
                .map(|(_, bar, speed)| state(bar, &lock(speed)))
                .collect()
        };
        lines.iter().for_each(|l| (self.sink)(l));
    }
}

/// Looks now and then whether a line is due, as long as the bars' owner lives.
fn beat(all: &Weak<All>) {
    loop {
        let Some(every) = all.upgrade().map(|a| a.every) else {
            return;
        };
        std::thread::sleep((every / 30).max(Duration::from_millis(1)));
        let Some(all) = all.upgrade() else { return };
        all.remind();
    }
}

/// A bar in a line of words.
fn state(bar: &ProgressBar, speed: &Speed) -> String {
    let of = bar.length().filter(|n| *n > 0);
    let line = match speed.unit {
        Unit::Bytes => bytes_line(&bar.prefix(), bar.position(), speed.before, of, speed.began.elapsed()),
        Unit::Items => items_line(&bar.prefix(), bar.position(), speed.before, of, speed.began.elapsed()),
    };
    match bar.message() {
        m if m.is_empty() => line,
        m => format!("{line}, {m}"),
    }
}

impl Bar {
    /// So much is done, of so much.
    pub fn at(&self, done: u64, of: u64) {
        self.bar.set_length(of);
        self.bar.set_position(done);
        let mut s = lock(&self.speed);
        if !s.working {
            (s.before, s.began, s.working) = (done, Instant::now(), true);
        }
    }

    /// What is done beside the number.
    pub fn message(&self, text: String) {
        self.bar.set_message(text);
    }

    /// One more is done.
    pub fn step(&self) {
        self.bar.inc(1);
    }

    /// Counts what verifying a file tells.
    pub fn verified(&self) -> impl Fn(manifest::Progress) + Sync + '_ {
        |p| self.at(p.bytes_done, p.bytes_total)
    }

    /// Counts things.
    pub fn counted(&self) -> impl Fn(usize, usize) + Sync + '_ {
        |done, of| self.at(done as u64, of as u64)
    }

    /// What a download tells.
    pub fn on_event(&self, e: Event) {
        match e {
            Event::Note(note) => self.all.say(&note),
            Event::At { bytes, of, before } => {
                if let Some(of) = of {
                    self.bar.set_length(of);
                }
                self.bar.set_position(bytes);
                let mut s = lock(&self.speed);
                // What an earlier process had left says nothing of the speed of the network.
                if before || !s.working {
                    (s.before, s.began, s.working) = (bytes, Instant::now(), !before);
                    self.bar.reset_eta();
                }
            }
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        self.all.bars.remove(&self.bar);
        lock(&self.all.live).bars.retain(|b| b.0 != self.number);
    }
}

fn bytes_line(name: &str, bytes: u64, before: u64, of: Option<u64>, time: Duration) -> String {
    let rate = rate(bytes, before, time);
    let mut out = format!("{name}: {}", HumanBytes(bytes));
    if let Some(of) = of {
        let percent = 100.0 * bytes as f64 / of as f64;
        out.push_str(&format!(" of {} ({percent:.0} %)", HumanBytes(of)));
    }
    out.push_str(&format!(", {}/s", HumanBytes(rate as u64)));
    out + &left(bytes, of, rate)
}

fn items_line(name: &str, done: u64, before: u64, of: Option<u64>, time: Duration) -> String {
    match of {
        None => name.to_owned(),
        Some(of) => format!(
            "{name}: {done} of {of}{}",
            left(done, Some(of), rate(done, before, time))
        ),
    }
}

fn rate(done: u64, before: u64, time: Duration) -> f64 {
    done.saturating_sub(before) as f64 / time.as_secs_f64().max(1e-3)
}

fn left(done: u64, of: Option<u64>, rate: f64) -> String {
    let Some(left) = of.map(|of| of.saturating_sub(done) as f64).filter(|_| rate > 0.0) else {
        return String::new();
    };
    format!(
        ", {} left",
        HumanDuration(Duration::from_secs_f64((left / rate).min(1e9)))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_an_earlier_process_are_not_speed() {
        let said = bytes_line("x", 60 << 20, 40 << 20, Some(100 << 20), Duration::from_secs(10));
        assert_eq!(said, "x: 60.00 MiB of 100.00 MiB (60 %), 2.00 MiB/s, 20 seconds left");
        let said = bytes_line("x", 1 << 20, 0, None, Duration::from_secs(1));
        assert_eq!(said, "x: 1.00 MiB, 1.00 MiB/s");
        let said = items_line("runs", 3, 1, Some(7), Duration::from_secs(10));
        assert_eq!(said, "runs: 3 of 7, 20 seconds left");
    }

    /// Without a terminal a piece of work that tells nothing for long is still spoken of, and only while it is under way.
    #[test]
    fn a_line_comes_now_and_then_where_nobody_watches() {
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let into = Arc::clone(&said);
        let every = Duration::from_millis(30);
        let sink = move |line: &str| lock(&into).push(line.to_owned());
        let p = Progress::with(ProgressDrawTarget::hidden(), false, every, Box::new(sink));
        let bar = p.items("runs", 7);
        bar.at(2, 7);
        bar.message("epoch 3".into());
        let begun = Instant::now();
        while lock(&said).len() < 2 && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let lines = lock(&said).clone();
        assert!(lines.len() >= 2, "{lines:?}");
        assert!(
            lines
                .iter()
                .all(|l| l.starts_with("runs: 2 of 7") && l.ends_with("epoch 3")),
            "{lines:?}"
        );
        drop(bar);
        let n = lock(&said).len();
        std::thread::sleep(every * 4);
        assert_eq!(lock(&said).len(), n, "work that has ended is not spoken of");
    }

    /// On a terminal the bars speak.
    #[test]
    fn no_line_comes_where_somebody_watches() {
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let into = Arc::clone(&said);
        let sink = move |line: &str| lock(&into).push(line.to_owned());
        let p = Progress::with(
            ProgressDrawTarget::hidden(),
            true,
            Duration::from_millis(5),
            Box::new(sink),
        );
        let _bar = p.items("runs", 7);
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(lock(&said).len(), 0);
        p.say("done");
        assert_eq!(lock(&said).len(), 1);
    }
}
