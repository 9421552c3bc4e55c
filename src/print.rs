//! What is said on stdout and stderr, and what a reader who leaves means.
//!
//! Results go to stdout by [`outln!`](crate::outln): a pipe whose reader has left ends the verb quietly, a full disk is an error.
//! Words for people go to stderr by [`tell!`](crate::tell): nobody reading them is no reason to end anything.

use crate::error::BadInput;
use anyhow::Result;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;

/// The reader of stdout has left: there is nobody to print for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reader of standard output has left")]
pub struct ReaderLeft;

/// How many columns the terminal has that `of` is; `None` where it is none, or does not say.
pub fn columns(of: impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(of).ok()?;
    Some(usize::from(size.ws_col)).filter(|n| *n > 0)
}

/// Writes to stdout.
///
/// # Errors
/// [`ReaderLeft`] for a closed pipe, [`BadInput`] for a disk that is full.
pub fn write(text: fmt::Arguments<'_>) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(ReaderLeft.into()),
        Err(e) => Err(BadInput::new(
            "standard output",
            "to write the result",
            e.to_string(),
            "Free some space or send the output elsewhere, then run the same command again.",
        )
        .into()),
    }
}

/// Writes a value as indented JSON to stdout.
///
/// # Errors
/// As [`write()`].
pub fn json(value: &impl serde::Serialize) -> Result<()> {
    write(format_args!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Writes a line to stderr, where anybody reads it.
pub fn tell(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A line on stdout; see [`write()`].
#[macro_export]
macro_rules! outln {
    ($($arg:tt)*) => { $crate::print::write(format_args!("{}\n", format_args!($($arg)*))) };
}

/// A line on stderr; see [`tell`].
#[macro_export]
macro_rules! tell {
    ($($arg:tt)*) => { $crate::print::tell(format_args!($($arg)*)) };
}
