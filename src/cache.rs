//! What is kept below `<results>/.cache` to save work: one bucket a kind, with a version of its own.
//!
//! A bucket's version stands in the name of its folder and in every key: it is raised when the format or the meaning of what lies
//! there changes, and older entries are then never read. Whatever a cache holds can be computed again.

use crate::canonical::canonical_json;
use crate::fsio;
use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};

/// A kind of cached things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// Prepared images of a data set.
    Images,
    /// Features of a frozen backbone.
    Features,
    /// Resampled metrics of runs.
    Evidence,
    /// Benchmarks of this machine: the rates that estimates use.
    Rates,
}

impl Bucket {
    pub const ALL: [Self; 4] = [Self::Images, Self::Features, Self::Evidence, Self::Rates];

    /// Its name and the version of what lies in it.
    const fn about(self) -> (&'static str, u32) {
        match self {
            Self::Images => ("images", 3),
            Self::Features => ("features", 5),
            Self::Evidence => ("evidence", 2),
            Self::Rates => ("rates", 2),
        }
    }

    /// Name and version: `images-3`.
    pub fn name(self) -> String {
        let (name, version) = self.about();
        format!("{name}-{version}")
    }

    /// Its folder below a folder of results.
    pub fn dir(self, results: &Path) -> PathBuf {
        results.join(".cache").join(self.name())
    }

    /// The key of what depends on `parts`: 64 hex digits.
    ///
    /// # Errors
    /// Where the parts cannot be written as JSON.
    pub fn key(self, parts: &impl Serialize) -> Result<String> {
        let text = canonical_json(&json!([self.name(), serde_json::to_value(parts)?]));
        Ok(fsio::sha256_hex(text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_buckets_share_a_folder_or_a_key() {
        let keys: BTreeSet<String> = Bucket::ALL.iter().map(|b| b.key(&("a", 1)).unwrap()).collect();
        let dirs: BTreeSet<PathBuf> = Bucket::ALL.iter().map(|b| b.dir(Path::new("r"))).collect();
        assert_eq!((keys.len(), dirs.len()), (Bucket::ALL.len(), Bucket::ALL.len()));
        assert_ne!(
            Bucket::Rates.key(&("a", 1)).unwrap(),
            Bucket::Rates.key(&("a", 2)).unwrap()
        );
    }
}
