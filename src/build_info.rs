//! What this binary was built from.

use std::sync::OnceLock;

/// The commit, which only `main.rs` knows: reading it anywhere else would compile that again at every commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BuildInfo {
    /// 40 hex digits; `None` when built outside a repository.
    pub commit: Option<&'static str>,
    /// Whether the tree had changes that are not in the commit.
    pub dirty: Option<bool>,
}

static BUILD: OnceLock<BuildInfo> = OnceLock::new();

impl BuildInfo {
    /// Says it once, at the start; later calls change nothing.
    pub fn set(self) {
        let _ = BUILD.set(self);
    }

    /// What was said; nothing is known in tests that call the library.
    pub fn get() -> Self {
        BUILD.get().copied().unwrap_or_default()
    }

    /// The commit, for people.
    pub fn commit_or_unknown(self) -> &'static str {
        self.commit.unwrap_or("an unknown commit")
    }
}
