//! Tests that cannot run here.
//!
//! A missing tool is a failure, so that nothing counts as passed without having run. With MEDFT_ALLOW_SKIPS=1 such tests are
//! counted instead, and the program's last line says how many there were and why.

use std::collections::BTreeMap;
use std::sync::{Mutex, Once, PoisonError};

static SKIPPED: Mutex<BTreeMap<&'static str, usize>> = Mutex::new(BTreeMap::new());
static AT_EXIT: Once = Once::new();

/// Counts a test that does not run.
///
/// # Panics
/// Where skips are not allowed.
pub(crate) fn skip(reason: &'static str) {
    assert!(
        std::env::var_os("MEDFT_ALLOW_SKIPS").is_some_and(|v| v == "1"),
        "{reason}; with MEDFT_ALLOW_SKIPS=1 such tests are skipped, and counted"
    );
    *SKIPPED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(reason)
        .or_default() += 1;
    // `make test` tells at its end how many there were, of all programs.
    if let Some(file) = std::env::var_os("MEDFT_SKIPPED") {
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        let file = std::fs::File::options().create(true).append(true).open(file);
        let line = format!("{name}: {reason}\n");
        file.and_then(|mut f| std::io::Write::write_all(&mut f, line.as_bytes()))
            .unwrap();
    }
    // SAFETY: a function without arguments that outlives the process.
    AT_EXIT.call_once(|| assert_eq!(unsafe { libc::atexit(report) }, 0));
}

extern "C" fn report() {
    for (reason, n) in SKIPPED.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        eprintln!("skipped: {n} tests ({reason})");
    }
}
