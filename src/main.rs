//! One binary. What a user types is in `cli`, what it does in `commands`.
#![forbid(unsafe_code)]

use clap::FromArgMatches;
use medft::build_info::BuildInfo;
use medft::cli::{self, Cli};
use medft::commands::COMPLETE;
use medft::print::ReaderLeft;
use medft::tell;
use medft_nn::memory::LargePages;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: LargePages = LargePages;

fn main() -> ExitCode {
    let (commit, dirty) = medft_commit::commit!();
    BuildInfo { commit, dirty }.set();
    clap_complete::CompleteEnv::with_factory(cli::command)
        .var(COMPLETE)
        .complete();
    let cli = match Cli::from_arg_matches(&cli::command().get_matches()) {
        Ok(cli) => cli,
        Err(e) => e.exit(),
    };
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
