//! Where weights may lie, and how much of a file is read to judge it.

use crate::fetch::environment::expanded;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// How much of a file is read to judge it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Nothing: size and earlier hashes only. For listings.
    NoRead,
    /// All of it, unless it has not changed since it was hashed.
    Cached,
    /// All of it.
    Full,
}

/// Where weights may lie.
#[derive(Debug, Clone)]
pub struct Places {
    pub weights_dir: PathBuf,
    /// The cache of the Hugging Face hub.
    pub hub: Option<PathBuf>,
}

impl Places {
    /// A weights directory and the hub's cache of this machine.
    pub fn new(weights_dir: &Path) -> Self {
        Self {
            weights_dir: weights_dir.into(),
            hub: hub_cache(|k| std::env::var_os(k)),
        }
    }

    pub(super) fn lock_file(&self) -> PathBuf {
        self.weights_dir.join("weights.lock")
    }

    pub(super) fn stat_file(&self) -> PathBuf {
        self.weights_dir.join(".medft-weights.stat")
    }
}

/// Where the hub keeps its cache: `HF_HUB_CACHE`, `HF_HOME/hub`, `XDG_CACHE_HOME/huggingface/hub` or
/// `~/.cache/huggingface/hub`, as huggingface_hub decides it, `~` and `$VAR` expanded.
pub fn hub_cache(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let var = |k: &str| expanded(&env, k);
    var("HF_HUB_CACHE")
        .or_else(|| var("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| var("HF_HOME").map(|p| p.join("hub")))
        .or_else(|| var("XDG_CACHE_HOME").map(|p| p.join("huggingface/hub")))
        .or_else(|| var("HOME").map(|p| p.join(".cache/huggingface/hub")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hubs_cache_is_where_huggingface_hub_puts_it() {
        let at = |vars: &[(&str, &str)]| {
            hub_cache(|k| vars.iter().find(|v| v.0 == k).map(|v| v.1.into())).map(|p| p.display().to_string())
        };
        assert_eq!(at(&[]), None);
        assert_eq!(at(&[("HOME", "/h")]).unwrap(), "/h/.cache/huggingface/hub");
        assert_eq!(
            at(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).unwrap(),
            "/x/huggingface/hub"
        );
        assert_eq!(at(&[("HOME", "/h"), ("HF_HOME", "/f")]).unwrap(), "/f/hub");
        assert_eq!(at(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/f")]).unwrap(), "/c");
        assert_eq!(at(&[("HF_HUB_CACHE", ""), ("HF_HOME", "/f")]).unwrap(), "/f/hub");
    }
}
