//! How far a result may lie from a published value and still count as the same: `experiments/tolerance.toml`.
//!
//! The margin is a choice, so it stands in a file with its reason and is printed beside every verdict made with it.

use super::located::{Section, Text};
use crate::error::BadInput;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Half-width of the interval in which a difference counts as none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tolerance {
    /// In units of the metric, above 0 and below 1.
    pub margin: f64,
    /// Why this margin and not another one.
    pub reason: String,
}

/// The margins of all metrics and the level of the tests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tolerances {
    /// Level of each of the two one-sided tests; a level of 0.05 asks for a 90 % interval inside the margin.
    pub alpha: f64,
    pub metrics: BTreeMap<String, Tolerance>,
}

impl Tolerances {
    /// Reads `<experiments_dir>/tolerance.toml`, or the copy inside the binary where there is none.
    ///
    /// # Errors
    /// [`BadInput`] with file and line.
    pub fn load(experiments_dir: &Path) -> Result<Self, BadInput> {
        const BUILT_IN: &str = include_str!("../../experiments/papers/paper2025/tolerance.toml");
        let (file, text) = super::published::beside_or_built_in(&experiments_dir.join("tolerance.toml"), BUILT_IN)?;
        Self::parse(&file, &text)
    }

    /// Reads margins from `text`; `file` is what messages call it.
    pub fn parse(file: &str, text: &str) -> Result<Self, BadInput> {
        const SHARE: (fn(f64) -> bool, &str) = (|x| x > 0.0 && x < 1.0, "a number above 0 and below 1");
        let text = Text { file, text };
        let doc = text.parse()?;
        let top = Section::top(text, &doc);
        top.only(&["alpha", "metric"])?;
        let alpha = top
            .need("alpha")?
            .real(|x| x > 0.0 && x < 0.5, "a number above 0 and below 0.5")?;
        let mut metrics = BTreeMap::new();
        for item in top.need("metric")?.section()?.items() {
            let section = item.section()?;
            section.only(&["margin", "reason"])?;
            let margin = section.need("margin")?.real(SHARE.0, SHARE.1)?;
            metrics.insert(
                item.key,
                Tolerance {
                    margin,
                    reason: section.need("reason")?.string()?,
                },
            );
        }
        Ok(Self { alpha, metrics })
    }

    /// The margin of a metric; `None` means that no verdict can be given on it.
    pub fn get(&self, metric: &str) -> Option<&Tolerance> {
        self.metrics.get(metric)
    }
}
