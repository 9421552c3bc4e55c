//! Which runs the per-run figures show, and what they read of them.

use super::scene::Rgb;
use super::style::regime_colour;
use crate::eval::{sigmoid, softmax};
use crate::report::cells::Cells;
use crate::report::input::{DatasetFacts, ReportInput};
use crate::results::{Epoch, Predictions, RunRecord, Truth, WhichWeights};
use crate::study::{Freeze, HeadKind};
use crate::train::evaluate::SelectionRule;
use anyhow::Result;

/// The one rule, as captions state it.
pub const RULE: &str = "Shown are, for each regime, the backbone with the highest mean test score and of its runs the one with the lowest seed.";

/// A run that per-run figures show.
#[derive(Debug)]
pub(crate) struct Shown {
    pub regime: (Freeze, HeadKind),
    /// The backbone as printed.
    pub backbone: String,
    pub seed: u64,
    pub id: String,
    pub epochs: Vec<Epoch>,
    /// The epoch whose weights were tested; `None` where they are those after the last one or the untrained ones.
    pub tested: Option<u32>,
    pub predictions: Predictions,
    headline: WhichWeights,
}

impl Shown {
    pub(crate) fn colour(&self) -> Rgb {
        regime_colour(self.regime.0, self.regime.1)
    }

    /// Probabilities of the test images, row-major (images, outputs), under the weights that count.
    pub(crate) fn probabilities(&self) -> Result<Vec<f64>> {
        let logits = match self.headline {
            WhichWeights::Best => &self.predictions.best,
            WhichWeights::Last => &self.predictions.last,
        };
        Ok(match self.predictions.truth {
            Truth::Classes(_) => softmax(logits, self.predictions.outputs)?,
            Truth::Labels { .. } => sigmoid(logits),
        })
    }

    /// The true class of every image; `None` for a set with several labels an image.
    pub(crate) fn classes(&self) -> Option<&[u32]> {
        match &self.predictions.truth {
            Truth::Classes(c) => Some(c),
            Truth::Labels { .. } => None,
        }
    }

    /// The labels, row-major (images, labels); `None` for a set with one class an image.
    pub(crate) fn labels(&self) -> Option<Vec<u8>> {
        match &self.predictions.truth {
            Truth::Labels { values, .. } => Some(values.iter().map(|v| u8::from(*v != 0)).collect()),
            Truth::Classes(_) => None,
        }
    }
}

/// The runs of a data set that [`RULE`] selects, regime by regime; empty where records are not at hand.
///
/// # Errors
/// [`crate::error::BadInput`] where a record that is to be shown is torn or edited.
pub(crate) fn shown(input: &ReportInput, cells: &Cells, dataset: &DatasetFacts) -> Result<Vec<Shown>> {
    let Some(store) = &input.archive.store else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for (freeze, head) in cells.regimes(&dataset.name) {
        let mut best: Option<(f64, &str, &str, u64)> = None;
        for b in &input.backbones {
            let Some(score) = cells.get(&dataset.name, &b.name, freeze, head) else {
                continue;
            };
            if let (Some(mean), Some(id), Some(seed)) = (score.mean(), score.runs.first(), score.seeds.first())
                && best.is_none_or(|(m, ..)| mean > m)
            {
                best = Some((mean, &b.title, id, *seed));
            }
        }
        let Some((_, title, id, seed)) = best else { continue };
        let Some(record) = input.archive.records.get(id) else {
            continue;
        };
        let epochs = store.epochs(id)?;
        all.push(Shown {
            regime: (freeze, head),
            backbone: title.to_owned(),
            seed,
            id: id.to_owned(),
            tested: selected(record, &epochs).filter(|_| record.metrics.headline == WhichWeights::Best),
            epochs,
            predictions: store.predictions(id)?,
            headline: record.metrics.headline,
        });
    }
    Ok(all)
}

/// The epoch that the run's own protocol selects (PROTOCOL 7.1).
fn selected(record: &RunRecord, epochs: &[Epoch]) -> Option<u32> {
    let p = &record.spec.run.protocol;
    let metric = p.selection_metric.as_ref().unwrap_or(&record.metrics.target);
    SelectionRule::of(p).select(epochs, metric)
}

/// Who is shown, for a caption: "frozen, linear: DINOv2-B, seed 0 (run 0123456789abcdef)".
pub(crate) fn names(shown: &[Shown]) -> String {
    shown
        .iter()
        .map(|s| {
            let regime = crate::report::input::regime_title(s.regime.0, s.regime.1);
            let run = s.id.get(..crate::results::FOLDER_DIGITS).unwrap_or(&s.id);
            format!("{regime}: {}, seed {} (run {run})", s.backbone, s.seed)
        })
        .collect::<Vec<_>>()
        .join("; ")
}
