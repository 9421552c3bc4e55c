//! One binary. What a user types is in `cli`, what it does in `commands`.
#![forbid(unsafe_code)]

use clap::Parser;
use medft::build_info::BuildInfo;
use medft::cli::Cli;
use medft::print::ReaderLeft;
use medft::tell;
use medft_nn::memory::{LargePages, keep_memory};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: LargePages = LargePages;

fn main() -> ExitCode {
    keep_memory();
    let (commit, dirty) = medft_commit::commit!();
    BuildInfo { commit, dirty }.set();
    let cli = Cli::parse();
    match medft::commands::run(cli) {
        Ok(code) => ExitCode::from(code),
        // As a shell says of a program that a closed pipe has ended.
        Err(e) if e.is::<ReaderLeft>() => ExitCode::from(141),
        Err(e) => {
            tell!("error: {e:#}");
            ExitCode::from(2)
        }
    }
}
