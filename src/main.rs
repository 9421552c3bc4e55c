//! One binary. What a user types is in `cli`, what it does in `commands`.

use clap::Parser;
use medft::cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    medft::model::layers::cpu::keep_memory();
    let cli = Cli::parse();
    match medft::commands::run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::from(2)
        }
    }
}
