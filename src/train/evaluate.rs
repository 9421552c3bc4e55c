//! Logits to metrics, and which epoch a rule selects. PROTOCOL section 7.

use super::Epoch;
use crate::data::{Labels, Task};
use crate::eval::{self, Direction};
use crate::spec::protocol::{MacroClasses, SelectionRounding, SelectionStart};
use crate::spec::{LOSS, Protocol};
use anyhow::{Result, bail};
use std::collections::BTreeMap;

/// Metrics of logits (n, outputs) against their labels.
///
/// # Errors
/// Where they are not of one length or not of the task.
pub fn metrics(task: Task, p: &Protocol, logits: &[f32], labels: &Labels) -> Result<BTreeMap<String, f64>> {
    match (task, labels) {
        (Task::MultiClass(n), Labels::Classes(truth)) => {
            let all = p.macro_classes == MacroClasses::All;
            Ok(eval::multiclass(&eval::softmax(logits, n)?, n, truth, all)?)
        }
        (Task::MultiLabel(n), Labels::MultiHot { labels, bits }) if *labels == n => {
            Ok(eval::multilabel(&eval::sigmoid(logits), n, bits)?)
        }
        _ => bail!("labels of {task:?} were expected"),
    }
}

/// A rule of epoch selection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SelectionRule {
    pub rounding: bool,
    pub start: f64,
}

impl SelectionRule {
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
        let values: Vec<f64> = epochs.iter().map(|e| direction.oriented(e.value(metric))).collect();
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

/// How many of the protocol's epochs are trained, given those that were: fewer where `patience` of them in a row were no better by the
/// protocol's own rule than the best before; `None` while there is more to train.
pub fn trained(p: &Protocol, metric: &str, epochs: &[Epoch]) -> Option<u32> {
    let rule = SelectionRule::of(p);
    let stops = |n: &u32| n - rule.select(&epochs[..*n as usize], metric).unwrap_or(0) >= p.patience;
    let most = epochs.len().min(p.epochs as usize);
    let early = (1..=most as u32).filter(|_| p.patience > 0).find(stops);
    early.or((most == p.epochs as usize).then_some(p.epochs))
}

/// Which values of a metric, or of the loss, are better.
pub fn direction(metric: &str) -> Direction {
    if metric == LOSS {
        return Direction::Lower;
    }
    eval::METRICS.get(metric).map_or(Direction::Higher, |m| m.direction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Protocol;

    /// Losses as an author's loop with `epochs_no_improve == 5` would see them: it counts epochs that are not lower than the lowest.
    #[test]
    fn training_ends_where_patience_does() {
        let epochs = |losses: &[f64]| -> Vec<Epoch> {
            let one = |(i, &val_loss): (usize, &f64)| Epoch {
                epoch: i as u32 + 1,
                lr: 0.1,
                train_loss: 1.0,
                val_loss,
                val: BTreeMap::new(),
            };
            losses.iter().enumerate().map(one).collect()
        };
        let p = |patience| Protocol {
            patience,
            epochs: 12,
            selection_metric: Some(LOSS.into()),
            selection_rounding: SelectionRounding::Exact,
            selection_start: SelectionStart::MinusInfinity,
            ..Protocol::faithful()
        };
        let of = |patience, losses: &[f64]| trained(&p(patience), LOSS, &epochs(losses));
        let falls_then_rises = [0.9, 0.8, 0.7, 0.7, 0.71, 0.72, 0.7, 0.9];
        assert_eq!(of(5, &falls_then_rises[..7]), None);
        assert_eq!(of(5, &falls_then_rises), Some(8), "an equal loss is no lower one");
        assert_eq!(
            SelectionRule::of(&p(5)).select(&epochs(&falls_then_rises), LOSS),
            Some(3)
        );
        assert_eq!(of(0, &falls_then_rises), None);
        assert_eq!(of(0, &[0.5; 12]), Some(12));
        assert_eq!(of(5, &[f64::NAN; 5]), Some(5), "what is no number is never lower");
        let falls: Vec<f64> = (0..12).map(|i| 1.0 / f64::from(i + 1)).collect();
        assert_eq!(of(5, &falls), Some(12));
        // The epoch of the extra validation was not trained.
        assert_eq!(of(0, &[0.5; 13]), Some(12));
    }
}
