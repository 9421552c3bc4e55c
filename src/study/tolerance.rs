//! How far a result may lie from a published value and still count as the same: `tolerance.toml` of a paper's folder.
//!
//! The margin is a choice, so it stands in a file with its reason and is printed beside every verdict made with it.

use super::located::{Section, Text};
use super::papers::{self, Paper};
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
    /// The margins of the papers among the sets of `published` values; of all papers where none of them states any (a comparison of
    /// two folders of results, a demo). Where several papers have a margin for a metric the narrowest holds, and the lowest level.
    ///
    /// # Errors
    /// [`BadInput`] with file and line.
    pub fn of(published: &[String], experiments_dir: &Path) -> Result<Self, BadInput> {
        let stating: Vec<String> = Paper::all(experiments_dir)
            .into_iter()
            .filter(|p| p.tolerance)
            .map(|p| p.key)
            .collect();
        let compared: Vec<&String> = stating.iter().filter(|key| published.contains(key)).collect();
        let keys = if compared.is_empty() {
            stating.iter().collect()
        } else {
            compared
        };
        let mut all = Self {
            alpha: 0.5,
            metrics: BTreeMap::new(),
        };
        for key in keys {
            let Some((file, text)) = papers::text(experiments_dir, key, "tolerance.toml")? else {
                continue;
            };
            let more = Self::parse(&file, &text)?;
            all.alpha = all.alpha.min(more.alpha);
            for (metric, tolerance) in more.metrics {
                match all.metrics.get(&metric) {
                    Some(narrower) if narrower.margin <= tolerance.margin => {}
                    _ => drop(all.metrics.insert(metric, tolerance)),
                }
            }
        }
        Ok(all)
    }

    /// Reads margins from `text`; `file` is what messages call it.
    ///
    /// # Errors
    /// [`BadInput`] with file and line.
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
