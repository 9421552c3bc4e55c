//! Logits to metrics, and which epoch a rule selects. PROTOCOL section 7.

use super::Epoch;
use crate::data::{Label, Task};
use crate::eval::{self, Direction};
use crate::spec::Protocol;
use crate::spec::protocol::{MacroClasses, SelectionRounding, SelectionStart};
use anyhow::Result;
use std::collections::BTreeMap;

/// Metrics of logits (n, outputs) against their labels.
pub fn metrics(task: Task, p: &Protocol, logits: &[f32], labels: &[Label]) -> Result<BTreeMap<String, f64>> {
    match task {
        Task::MultiClass(n) => {
            let truth: Vec<u32> = labels
                .iter()
                .filter_map(|l| match l {
                    Label::Class(c) => Some(*c),
                    Label::Labels(_) => None,
                })
                .collect();
            let all = p.macro_classes == MacroClasses::All;
            Ok(eval::multiclass(&eval::softmax(logits, n)?, n, &truth, all)?)
        }
        Task::MultiLabel(n) => {
            let truth: Vec<u8> = labels
                .iter()
                .flat_map(|l| match l {
                    Label::Labels(b) => b.clone(),
                    Label::Class(_) => Vec::new(),
                })
                .collect();
            Ok(eval::multilabel(&eval::sigmoid(logits), n, &truth)?)
        }
    }
}

/// A rule of epoch selection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    pub rounding: bool,
    pub start: f64,
}

impl Rule {
    /// As published: three decimals, from 0 (Q14, Q16).
    pub const FAITHFUL: Self = Self {
        rounding: true,
        start: 0.0,
    };
    /// As a reader of the paper expects.
    pub const CORRECTED: Self = Self {
        rounding: false,
        start: f64::NEG_INFINITY,
    };

    /// The protocol's own rule, then those of the presets that differ from it.
    pub fn all(p: &Protocol) -> Vec<Self> {
        let mut all = vec![Self::of(p)];
        for r in [Self::FAITHFUL, Self::CORRECTED] {
            if !all.contains(&r) {
                all.push(r);
            }
        }
        all
    }

    pub fn of(p: &Protocol) -> Self {
        Self {
            rounding: p.selection_rounding == SelectionRounding::ThreeDecimals,
            start: match p.selection_start {
                SelectionStart::Zero => 0.0,
                SelectionStart::MinusInfinity => f64::NEG_INFINITY,
            },
        }
    }

    /// The number of the epoch this rule selects by a metric.
    pub fn select(self, epochs: &[Epoch], metric: &str) -> Option<u32> {
        let direction = direction(metric);
        let values: Vec<f64> = epochs
            .iter()
            .map(|e| direction.oriented(e.val.get(metric).copied().unwrap_or(f64::NAN)))
            .collect();
        eval::select(&values, self.rounding, self.start_of(direction)).map(|i| epochs[i].epoch)
    }

    /// What an epoch must exceed by a metric that was turned so that more is better. Zero is the least of a metric that is better
    /// the higher it is; where less is better it is the best, and no start.
    pub fn start_of(self, direction: Direction) -> f64 {
        match direction {
            Direction::Higher => self.start,
            Direction::Lower => f64::NEG_INFINITY,
        }
    }
}

/// Which values of a metric are better.
pub fn direction(metric: &str) -> Direction {
    eval::METRICS.get(metric).map_or(Direction::Higher, |m| m.direction)
}
