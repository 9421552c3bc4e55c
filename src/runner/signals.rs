//! SIGINT, SIGTERM and SIGHUP while runs are fitted: the step is finished, a checkpoint written.
//!
//! A signal that was ignored when medft began stays ignored: `nohup medft … &` outlives its terminal. Batch systems send SIGTERM
//! to every process of a job and scripts forward it, so it comes twice: only a second SIGINT, which a person types, ends the
//! process at once.

use crate::cli::exit::INTERRUPTED;
use crate::{stop, tell};
use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether runs are being fitted; at any other time a signal ends the process, as it does by default.
static FITTING: AtomicBool = AtomicBool::new(false);

/// While it lives, signals ask for a stop.
pub(super) struct Listening;

/// Listens from now on.
///
/// # Errors
/// Where the system refuses handlers.
pub(super) fn listen() -> Result<Listening> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = INSTALLED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !*installed {
        let heard: Vec<i32> = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|s| !ignored(*s)).collect();
        let signals = Signals::new(heard).context("cannot listen for signals")?;
        std::thread::spawn(move || answer(signals));
        *installed = true;
    }
    FITTING.store(true, Ordering::SeqCst);
    Ok(Listening)
}

impl Drop for Listening {
    fn drop(&mut self) {
        FITTING.store(false, Ordering::SeqCst);
    }
}

fn answer(mut signals: Signals) {
    let mut typed = 0;
    for signal in signals.forever() {
        typed += u32::from(signal == SIGINT);
        // Once a stop is under way, the last words are said in peace.
        let idle = !FITTING.load(Ordering::SeqCst) && (signal == SIGINT || !stop::requested());
        if typed > 1 || idle {
            std::process::exit(i32::from(INTERRUPTED));
        }
        if !stop::requested() {
            stop::request();
            tell!("stopping after this step; interrupt again to stop at once");
        }
    }
}

/// Whether the process was started with this signal ignored. Where the system does not tell, SIGHUP counts as ignored: its
/// disposition is then left as it is, and so is what `nohup` made of it.
fn ignored(signal: i32) -> bool {
    let Some(status) = crate::fsio::read_system("/proc/self/status") else {
        return signal == SIGHUP;
    };
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok())
        .is_some_and(|m| m >> (signal - 1) & 1 == 1)
}
