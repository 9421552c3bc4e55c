//! How far long work is: bars on a terminal; elsewhere, where somebody may read a log later, a line now and then.
//!
//! One [`Progress`] a process owns all bars, so that bars of work side by side do not write over each other and lines of
//! results stand above them. A bar is a line that is never longer than the terminal is wide ([`row`]): one that wraps is torn when
//! the next is drawn.

use crate::fetch::Event;
use crate::print::columns;
use crate::text::{clock, folded};
use crate::{manifest, tell};
use indicatif::{
    HumanBytes, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};
use std::fmt;
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
    bars: Vec<(usize, ProgressBar, Arc<Mutex<BarState>>)>,
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
    /// Steps of what another bar counts: words alone.
    Steps,
}

/// One piece of work; its bar goes when it is dropped.
pub struct Bar {
    all: Arc<All>,
    number: usize,
    bar: ProgressBar,
    work: Arc<Mutex<BarState>>,
}

/// What a bar tells of.
struct BarState {
    name: String,
    unit: Unit,
    began: Instant,
    /// Done before this process did any: says nothing of its speed.
    before: u64,
    working: bool,
    message: String,
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

    /// A bar that counts `len` things; 0 where their number is not known (yet): then it tells the time.
    pub fn items(&self, name: &str, len: usize) -> Bar {
        self.bar(name, len as u64, Unit::Items)
    }

    /// A line below another bar: what is being done of it now.
    pub fn steps(&self, name: &str) -> Bar {
        self.bar(name, 0, Unit::Steps)
    }

    fn bar(&self, name: &str, len: u64, unit: Unit) -> Bar {
        let work = Arc::new(Mutex::new(BarState {
            name: name.to_owned(),
            unit,
            began: Instant::now(),
            before: 0,
            working: false,
            message: String::new(),
        }));
        let shown = Arc::clone(&work);
        let bar = ProgressBar::with_draw_target(Some(len), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{row}") {
            let row = move |s: &ProgressState, to: &mut dyn fmt::Write| {
                let width = columns(std::io::stderr()).unwrap_or(80) - 1;
                // A line as wide as the terminal moves some of them on to the next.
                let _ = to.write_str(&row(&lock(&shown), s.pos(), s.len().unwrap_or(0), width));
            };
            bar.set_style(style.with_key("row", row));
        }
        let bar = self.all.bars.add(bar);
        if self.all.watched && len == 0 && unit == Unit::Items {
            bar.enable_steady_tick(Duration::from_secs(1));
        }
        let mut live = lock(&self.all.live);
        let number = live.next;
        live.next += 1;
        live.bars.push((number, bar.clone(), Arc::clone(&work)));
        if !self.all.watched && !std::mem::replace(&mut live.beating, true) {
            live.said = Instant::now();
            let all = Arc::downgrade(&self.all);
            std::thread::spawn(move || beat(&all));
        }
        Bar {
            all: Arc::clone(&self.all),
            number,
            bar,
            work,
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
        let width = if self.watched { columns(std::io::stderr()) } else { None };
        self.bars.suspend(|| (self.sink)(&folded(line, width, 9)));
    }

    /// Says where every bar stands, when nothing was said for long.
    fn remind(&self) {
        let lines: Vec<String> = {
            let mut live = lock(&self.live);
            if live.bars.is_empty() || live.said.elapsed() < self.every {
                return;
            }
            live.said = Instant::now();
            let line = |(_, bar, work): &(usize, ProgressBar, Arc<Mutex<BarState>>)| {
                // The bar's own lock is let go before the work's is taken: who draws takes them in that order.
                let (done, of) = (bar.position(), bar.length().unwrap_or(0));
                state(done, of, &lock(work))
            };
            live.bars.iter().map(line).collect()
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
fn state(done: u64, of: u64, work: &BarState) -> String {
    let of = Some(of).filter(|n| *n > 0);
    let time = work.began.elapsed();
    let line = match work.unit {
        Unit::Bytes => bytes_line(&work.name, done, work.before, of, time),
        Unit::Items if of.is_none() => format!("{}: {} so far", work.name, clock(time)),
        _ => items_line(&work.name, done, work.before, of, time),
    };
    match work.message.as_str() {
        "" => line,
        m => format!("{line}, {m}"),
    }
}

/// A bar as a line of at most `width` columns: name, bar, count, what else there is, time left. What does not fit goes, the bar
/// first, what else there is next; the name is cut last.
fn row(work: &BarState, done: u64, of: u64, width: usize) -> String {
    let spaced = |parts: &[&str]| {
        let parts: Vec<&str> = parts.iter().copied().filter(|p| !p.is_empty()).collect();
        parts.join("   ")
    };
    let time = work.began.elapsed();
    let rate = rate(done, work.before, time);
    let left = match of.saturating_sub(done) as f64 / rate {
        left if of > 0 && rate > 0.0 => format!("ETA {}", clock(Duration::from_secs_f64(left.min(1e9)))),
        _ => String::new(),
    };
    let (count, more) = match work.unit {
        Unit::Steps => return cut(&format!("{:9}{}", "", spaced(&[&work.name, &work.message])), width),
        Unit::Items if of == 0 => {
            return cut(
                &spaced(&[&format!("{:<8}", work.name), &clock(time), &work.message]),
                width,
            );
        }
        Unit::Items => (format!("{done}/{of}"), work.message.clone()),
        Unit::Bytes => {
            let count = match of {
                0 => HumanBytes(done).to_string(),
                of => format!("{}/{}", HumanBytes(done), HumanBytes(of)),
            };
            (count, format!("{}/s", HumanBytes(rate as u64)))
        }
    };
    let name = format!("{:<8}", work.name);
    let whole = spaced(&[&count, &more, &left]);
    let room = width.saturating_sub(name.chars().count() + whole.chars().count() + 3);
    if room >= 5 && of > 0 {
        let long = room.min(40);
        let full = (done.min(of) as f64 / of as f64 * long as f64) as usize;
        return format!(
            "{name} {}{}  {whole}",
            "\u{2588}".repeat(full),
            "\u{2591}".repeat(long - full)
        );
    }
    let tail = match work.name.chars().count() + 1 + whole.chars().count() <= width {
        true => whole,
        false => spaced(&[&count, &left]),
    };
    let name = cut(work.name.as_str(), width.saturating_sub(tail.chars().count() + 1));
    cut(&format!("{name} {tail}"), width)
}

/// The first `width` characters; where some are left out, the last one says so.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let short: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{short}\u{2026}")
}

impl Bar {
    /// So much is done, of so much.
    pub fn at(&self, done: u64, of: u64) {
        {
            let mut w = lock(&self.work);
            if !w.working {
                (w.before, w.began, w.working) = (done, Instant::now(), true);
            }
        }
        self.bar.set_length(of);
        self.bar.set_position(done);
    }

    /// What is done beside the number.
    pub fn message(&self, text: String) {
        lock(&self.work).message = text;
        self.bar.tick();
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
                {
                    let mut w = lock(&self.work);
                    // What an earlier process had left says nothing of the speed of the network.
                    if before || !w.working {
                        (w.before, w.began, w.working) = (bytes, Instant::now(), !before);
                    }
                }
                if let Some(of) = of {
                    self.bar.set_length(of);
                }
                self.bar.set_position(bytes);
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

    fn work(name: &str, unit: Unit, message: &str) -> BarState {
        BarState {
            name: name.to_owned(),
            unit,
            began: Instant::now().checked_sub(Duration::from_secs(10)).unwrap(),
            before: 0,
            working: true,
            message: message.to_owned(),
        }
    }

    /// What does not fit goes in this order: the bar, what else there is, the end of the name. A count and the time left stay.
    #[test]
    fn a_row_is_never_wider_than_the_terminal() {
        let runs = work("runs", Unit::Items, "2 failed");
        assert_eq!(
            row(&runs, 4, 8, 80),
            format!(
                "runs     {}{}  4/8   2 failed   ETA 0:10",
                "\u{2588}".repeat(20),
                "\u{2591}".repeat(20)
            )
        );
        assert_eq!(row(&runs, 4, 8, 30), "runs 4/8   2 failed   ETA 0:10");
        assert_eq!(row(&runs, 4, 8, 24), "runs 4/8   ETA 0:10");
        assert_eq!(
            row(&runs, 0, 8, 24),
            "runs 0/8   2 failed",
            "no time left is known of what has not begun"
        );
        let file = work("a_file_with_a_long_name.safetensors", Unit::Bytes, "");
        let short = row(&file, 1 << 30, 2 << 30, 39);
        assert!(
            short.ends_with("1.00 GiB/2.00 GiB   ETA 0:10") && short.starts_with("a_file"),
            "{short}"
        );
        let run = work(
            "isic2019 sam2-b unfrozen linear seed 0",
            Unit::Steps,
            "epoch 2/3   loss 1.8300",
        );
        assert_eq!(row(&run, 1, 2, 39), "         isic2019 sam2-b unfrozen line\u{2026}");
        let report = work("report", Unit::Items, "");
        assert_eq!(row(&report, 0, 0, 39), "report     0:10");
        for w in [&runs, &file, &run, &report] {
            for width in 0..200 {
                for (done, of) in [(0, 0), (0, 9), (7, 9), (9, 9), (1 << 40, 2 << 40)] {
                    let row = row(w, done, of, width);
                    assert!(row.chars().count() <= width.max(1), "{width}: {row}");
                }
            }
        }
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
