//! The Git commit that the crate which calls [`commit!`] is compiled from.
//!
//! A build script would do as well, but whenever it runs again cargo compiles every target of its package anew: after each commit the
//! whole of medft, for the sake of one string. The macro makes only the file that calls it depend on the repository.

use proc_macro::TokenStream;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// What `git` prints; `None` where there is no repository, or no git.
fn git(args: &[&str]) -> Option<String> {
    let out = Command::new("git")
        .args(args)
        .current_dir(std::env::var_os("CARGO_MANIFEST_DIR")?)
        .output()
        .ok()?;
    out.status
        .success()
        .then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// The files that change when another commit is checked out or made.
fn changes_with_the_commit() -> Vec<PathBuf> {
    let Some(root) = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from) else {
        return Vec::new();
    };
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    ["HEAD", "logs/HEAD", "packed-refs"]
        .into_iter()
        .chain(branch.as_deref())
        .filter_map(|name| Some(root.join(git(&["rev-parse", "--git-path", name])?)))
        .filter(|p| p.is_file())
        .collect()
}

/// `(Option<&'static str>, Option<bool>)`: the commit in 40 hex digits, and whether tracked files differed from it; both are
/// `None` where the source lies outside a repository.
#[proc_macro]
pub fn commit(_: TokenStream) -> TokenStream {
    let mut code = String::from("{ ");
    // The compiler notes the files it reads, and cargo compiles the caller again when one of them is newer.
    for file in changes_with_the_commit() {
        let _ = write!(code, "const _: &[u8] = ::core::include_bytes!({file:?}); ");
    }
    let dirty = || git(&["status", "--porcelain", "--untracked-files=no"]).map(|s| !s.is_empty());
    let _ = match git(&["rev-parse", "HEAD"]) {
        Some(commit) => write!(code, "(Some({commit:?}), {:?}) }}", dirty()),
        None => write!(code, "(None, None) }}"),
    };
    code.parse().expect("the macro writes Rust")
}
