//! `medft completions`: the script by which a shell asks this binary what may follow.

use crate::cli::exit::OK;
use crate::print;
use crate::runner::Context;
use anyhow::{Context as _, Result};

/// The variable by which a shell's script asks for completions.
pub const COMPLETE: &str = "COMPLETE";

/// Prints the script that asks this binary for completions.
pub(super) fn run(c: &Context, shell: clap_complete::Shell) -> Result<u8> {
    let name = shell.to_string();
    let shells = clap_complete::env::Shells::builtins();
    let completer = shells
        .completer(&name)
        .context("clap_complete has no completions of this shell")?;
    let mut script = Vec::new();
    completer.write_registration(COMPLETE, "medft", "medft", "medft", &mut script)?;
    if shell == clap_complete::Shell::Bash {
        script.extend_from_slice(include_bytes!("completions.bash"));
    }
    let script = String::from_utf8(script)?;
    match c.global.json {
        true => print::json(&serde_json::json!({ "shell": name, "script": script }))?,
        false => print::write(format_args!("{script}"))?,
    }
    Ok(OK)
}
