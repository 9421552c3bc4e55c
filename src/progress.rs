//! How far a download is: a bar with rate and time left on a terminal, a line now and then elsewhere.

use crate::fetch::Event;
use crate::text::{self as ui, Unit};
use indicatif::{HumanBytes, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Between two lines where nobody watches.
const EVERY: Duration = Duration::from_secs(30);

/// The bars of downloads that run side by side.
pub struct Meters {
    all: MultiProgress,
}

/// One download.
pub struct Meter<'a> {
    name: String,
    bar: ProgressBar,
    all: &'a MultiProgress,
    state: Mutex<State>,
}

struct State {
    began: Instant,
    spoke: Instant,
    /// Bytes that were there before the network brought any.
    before: u64,
    receiving: bool,
}

impl Meters {
    pub fn new() -> Self {
        let target = if ui::terminal() {
            ProgressDrawTarget::stderr_with_hz(5)
        } else {
            ProgressDrawTarget::hidden()
        };
        Self {
            all: MultiProgress::with_draw_target(target),
        }
    }

    pub fn one(&self, name: &str) -> Meter<'_> {
        let bar = self.all.add(ui::bar(0, Unit::Bytes));
        bar.set_prefix(name.to_owned());
        Meter {
            name: name.to_owned(),
            bar,
            all: &self.all,
            state: Mutex::new(State {
                began: Instant::now(),
                spoke: Instant::now(),
                before: 0,
                receiving: false,
            }),
        }
    }

    /// What concerns no single file.
    pub fn hear(&self, e: Event) {
        if let Event::Note(note) = e {
            self.say(&note);
        }
    }

    /// A line above the bars.
    pub fn say(&self, line: &str) {
        self.all.suspend(|| eprintln!("{line}"));
    }
}

impl Meter<'_> {
    pub fn hear(&self, e: Event) {
        match e {
            Event::Note(note) => self.all.suspend(|| eprintln!("{note}")),
            Event::At { bytes, of, before } => self.at(bytes, of, before),
        }
    }

    fn at(&self, bytes: u64, of: Option<u64>, before: bool) {
        if let Some(of) = of {
            self.bar.set_length(of);
        }
        self.bar.set_position(bytes);
        let Ok(mut s) = self.state.lock() else { return };
        // What an earlier process had left says nothing of the speed of the network.
        if before || !s.receiving {
            (s.before, s.began, s.receiving) = (bytes, Instant::now(), !before);
            self.bar.reset_eta();
        }
        if !ui::terminal() && s.spoke.elapsed() >= EVERY {
            s.spoke = Instant::now();
            eprintln!("{}", line(&self.name, bytes, s.before, of, s.began.elapsed()));
        }
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        self.all.remove(&self.bar);
    }
}

fn line(name: &str, bytes: u64, before: u64, of: Option<u64>, time: Duration) -> String {
    let rate = bytes.saturating_sub(before) as f64 / time.as_secs_f64().max(1e-3);
    let mut out = format!("{name}: {}", HumanBytes(bytes));
    if let Some(of) = of.filter(|of| *of > 0) {
        out.push_str(&format!(
            " of {} ({:.0} %)",
            HumanBytes(of),
            100.0 * bytes as f64 / of as f64
        ));
    }
    out.push_str(&format!(", {}/s", HumanBytes(rate as u64)));
    if let Some(left) = of.map(|of| of.saturating_sub(bytes) as f64).filter(|_| rate >= 1.0) {
        out.push_str(&format!(
            ", {} left",
            HumanDuration(Duration::from_secs_f64((left / rate).min(1e9)))
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_an_earlier_process_are_not_speed() {
        let said = line("x", 60 << 20, 40 << 20, Some(100 << 20), Duration::from_secs(10));
        assert_eq!(said, "x: 60.00 MiB of 100.00 MiB (60 %), 2.00 MiB/s, 20 seconds left");
        let said = line("x", 1 << 20, 0, None, Duration::from_secs(1));
        assert_eq!(said, "x: 1.00 MiB, 1.00 MiB/s");
    }
}
