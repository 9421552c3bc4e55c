//! Tests that cannot run here.
#![allow(dead_code)]

use std::io::Write;

/// Says that the calling test does nothing, and why. `make test` tells at its end how many there were: a line each is left in the file
/// that `MEDFT_SKIPPED` names.
pub(crate) fn skipped(why: &str) {
    eprintln!("skipped: {why}");
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    note(&name, why);
}

/// As [`skipped`], of a test by its name.
pub(crate) fn note(name: &str, why: &str) {
    let Some(file) = std::env::var_os("MEDFT_SKIPPED") else {
        return;
    };
    let file = std::fs::File::options().create(true).append(true).open(&file);
    // In one write: test programs may do so at once.
    let line = format!("{name}: {why}\n");
    file.and_then(|mut f| f.write_all(line.as_bytes())).unwrap();
}
