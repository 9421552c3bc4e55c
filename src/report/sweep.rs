//! What a study sweeps, as the report is given it.

use crate::eval::Direction;
use std::collections::BTreeMap;

/// What the study sweeps.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// As printed: `lr`, `weight decay`.
    pub switches: Vec<String>,
    /// In the order of the study's tables.
    pub points: Vec<Point>,
    /// Run id → the selecting metric on validation, at the epoch whose weights are tested.
    pub validation: BTreeMap<String, f64>,
}

/// One point on one data set and split: a table of the study.
#[derive(Debug, Clone)]
pub struct Point {
    /// Name of its own table.
    pub table: String,
    /// Name that the tables of all points have in common, and title.
    pub family: String,
    pub title: String,
    /// Values of the switches, as printed, in their order.
    pub values: Vec<String>,
    /// The same as `--only` takes it.
    pub only: String,
    /// The metric that selects, and which way it is better.
    pub selects: String,
    pub direction: Direction,
}

impl Sweep {
    /// The point of a table, as printed: `lr 1e-5`.
    pub fn values(&self, table: &str) -> Option<String> {
        let p = self.points.iter().find(|p| p.table == table)?;
        let pairs = self.switches.iter().zip(&p.values).map(|(s, v)| format!("{s} {v}"));
        Some(pairs.collect::<Vec<_>>().join(", "))
    }

    /// The point of a table, as `--only` takes it: `,lr=1e-5`.
    pub fn only(&self, table: &str) -> &str {
        let p = self.points.iter().find(|p| p.table == table);
        p.map_or("", |p| &p.only)
    }
}
