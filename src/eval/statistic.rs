//! Metrics that can be measured on many resampled test sets at once.
//!
//! The costly part of a metric does not depend on the resample: which cell of the confusion matrix an image falls in,
//! and where its score ranks. That part is done once, here; a replicate then only adds up counts, either per cell
//! ([`Cells`]) or along the sorted scores ([`Areas`], [`Precisions`]), in integers and therefore exactly.
//!
//! What the whole test set lacks follows the rules of [`super::multiclass`] and [`super::multilabel`]. What only a
//! resample lacks (a class that was not drawn) makes that replicate NaN: the authors' 0.5 is a property of their test
//! set, not of chance.

use super::auc::{class_pairs, column, multiclass_area_exists};
use super::confusion::Confusion;
use super::error::{EvalError, Result, label_table, table};
use super::labels::{LabelCounts, outcome};
use super::metrics::{MULTICLASS_METRICS, MULTILABEL_METRICS};
use super::passes::{AreaPass, PrecisionPass, drawn_of};
use super::resample::{Block, LANES};
use super::scores::argmax;

/// A metric prepared for resampling.
pub trait Statistic: Send + Sync {
    /// Images of the test set.
    fn images(&self) -> usize;

    /// The metric in every lane, given how often every image was drawn; NaN where undefined.
    fn measure(&self, block: &Block) -> [f64; LANES];

    /// The metric on the test set itself.
    fn observed(&self) -> f64 {
        self.measure(&Block::new(vec![[1; LANES]; self.images()]))[0]
    }
}

/// The metric `name` of [`super::multiclass`], prepared for resampling.
pub fn multiclass_statistic(
    name: &str,
    probs: &[f64],
    classes: usize,
    truth: &[u32],
    all_classes: bool,
) -> Result<Box<dyn Statistic>> {
    table(probs, classes, truth)?;
    let images = truth.len();
    let positive: Vec<bool> = truth.iter().map(|&t| t == 1).collect();
    let areas = |passes, without| -> Box<dyn Statistic> {
        Box::new(Areas {
            images,
            passes,
            without,
        })
    };
    match name {
        "average_precision" if classes == 2 => {
            let label = column(probs, 2, 1);
            return Ok(Box::new(Precisions {
                images,
                passes: vec![PrecisionPass::new(&label, &positive)],
            }));
        }
        "roc_auc" | "roc_auc_strict" | "roc_auc_ovr" if classes == 2 => {
            let pass = AreaPass::new(&column(probs, 2, 1), |i| positive[i], |i| i);
            return Ok(areas(vec![pass], None));
        }
        "roc_auc" | "roc_auc_strict" | "roc_auc_ovr" if !multiclass_area_exists(probs, classes, truth) => {
            let value = if name == "roc_auc" { 0.5 } else { f64::NAN };
            return Ok(areas(Vec::new(), Some(Constant { value, times: 1 })));
        }
        "roc_auc" | "roc_auc_strict" => return Ok(areas(one_vs_one(probs, classes, truth), None)),
        "roc_auc_ovr" => {
            let pass = |k| AreaPass::new(&column(probs, classes, k), |i| truth[i] as usize == k, |i| i);
            return Ok(areas((0..classes).map(pass).collect(), None));
        }
        _ => {}
    }
    let predicted = argmax(probs, classes);
    if Confusion::new(classes, truth, &predicted)
        .metric(name, all_classes)
        .is_none()
    {
        return Err(unknown(name, &MULTICLASS_METRICS));
    }
    let mut cells = vec![Vec::new(); classes * classes];
    for (i, (&t, &p)) in truth.iter().zip(&predicted).enumerate() {
        cells[t as usize * classes + p as usize].push(i as u32);
    }
    let name = name.to_owned();
    Ok(Box::new(Cells {
        images,
        cells,
        of: Box::new(move |counts| {
            let confusion = Confusion::from_counts(classes, counts.to_vec());
            confusion.metric(&name, all_classes).unwrap_or(f64::NAN)
        }),
    }))
}

/// The metric `name` of [`super::multilabel`], prepared for resampling.
pub fn multilabel_statistic(name: &str, probs: &[f64], labels: usize, truth: &[u8]) -> Result<Box<dyn Statistic>> {
    label_table(probs, labels, truth)?;
    let images = truth.len() / labels;
    let positive = |k: usize| -> Vec<bool> { truth.iter().skip(k).step_by(labels).map(|&t| t == 1).collect() };
    match name {
        "mAP" => {
            let pass = |k| PrecisionPass::new(&column(probs, labels, k), &positive(k));
            return Ok(Box::new(Precisions {
                images,
                passes: (0..labels).map(pass).collect(),
            }));
        }
        "roc_auc" | "roc_auc_defined" => return Ok(Box::new(label_areas(name, probs, labels, truth))),
        _ => {}
    }
    if LabelCounts::new(probs, labels, truth).metric(name).is_none() {
        return Err(unknown(name, &MULTILABEL_METRICS));
    }
    let mut cells = vec![Vec::new(); 3 * labels + 1];
    for (i, (p, t)) in probs.chunks_exact(labels).zip(truth.chunks_exact(labels)).enumerate() {
        let outcomes: Vec<_> = p.iter().zip(t).map(|(&p, &t)| outcome(p, t)).collect();
        for (k, which) in outcomes.iter().enumerate() {
            if let Some(which) = which {
                cells[3 * k + which].push(i as u32);
            }
        }
        if outcomes.iter().all(|o| matches!(o, None | Some(0))) {
            cells[3 * labels].push(i as u32);
        }
    }
    // The last cell is "drawn at all": group resampling changes how many images there are.
    cells.push((0..images as u32).collect());
    let name = name.to_owned();
    Ok(Box::new(Cells {
        images,
        cells,
        of: Box::new(move |counts| {
            let table = LabelCounts {
                labels: counts[..3 * labels]
                    .chunks_exact(3)
                    .map(|c| [c[0], c[1], c[2]])
                    .collect(),
                exact: counts[3 * labels],
                images: counts[3 * labels + 1],
            };
            table.metric(&name).unwrap_or(f64::NAN)
        }),
    }))
}

fn unknown(name: &str, known: &[&str]) -> EvalError {
    EvalError::Metric {
        found: name.into(),
        allowed: known.join(", "),
    }
}

/// Both directed areas of every pair of classes. Each pair has as many images in either direction, and a mean of means
/// of two is the mean of all.
fn one_vs_one(probs: &[f64], classes: usize, truth: &[u32]) -> Vec<AreaPass> {
    class_pairs(classes, truth)
        .flat_map(|(a, b, images)| {
            [a, b].map(|class| {
                let scores: Vec<f64> = images.iter().map(|&i| probs[i * classes + class as usize]).collect();
                AreaPass::new(&scores, |k| truth[images[k]] == class, |k| images[k])
            })
        })
        .collect()
}

/// The areas of all labels. A label that the test set leaves constant has no pass: it counts as `multilabel` counts it.
fn label_areas(name: &str, probs: &[f64], labels: usize, truth: &[u8]) -> Areas {
    let (mut passes, mut without) = (Vec::new(), None);
    for k in 0..labels {
        let positive = |i: usize| truth[i * labels + k] == 1;
        let positives = (0..truth.len() / labels).filter(|&i| positive(i)).count();
        if 0 < positives && positives < truth.len() / labels {
            passes.push(AreaPass::new(&column(probs, labels, k), positive, |i| i));
        } else if name == "roc_auc" {
            let constant = without.get_or_insert(Constant { value: 0.5, times: 0 });
            constant.times += 1;
            if positives > 0 {
                constant.value = f64::NAN;
            }
        }
    }
    Areas {
        images: truth.len() / labels,
        passes,
        without,
    }
}

type Measure = Box<dyn Fn(&[u64]) -> f64 + Send + Sync>;

/// A metric of the numbers of images in cells.
struct Cells {
    images: usize,
    cells: Vec<Vec<u32>>,
    of: Measure,
}

impl Statistic for Cells {
    fn images(&self) -> usize {
        self.images
    }

    fn measure(&self, block: &Block) -> [f64; LANES] {
        let sums: Vec<[u32; LANES]> = self.cells.iter().map(|cell| drawn_of(cell, &block.counts)).collect();
        std::array::from_fn(|lane| {
            let cells: Vec<u64> = sums.iter().map(|s| u64::from(s[lane])).collect();
            (self.of)(&cells)
        })
    }
}

/// Labels that count a fixed value whatever is drawn.
struct Constant {
    value: f64,
    times: u32,
}

/// The mean of areas under ROC curves.
struct Areas {
    images: usize,
    passes: Vec<AreaPass>,
    without: Option<Constant>,
}

impl Statistic for Areas {
    fn images(&self) -> usize {
        self.images
    }

    fn measure(&self, block: &Block) -> [f64; LANES] {
        let (value, times) = self.without.as_ref().map_or((0.0, 0), |c| (c.value, c.times));
        let mut sum = [value * f64::from(times); LANES];
        for pass in &self.passes {
            for (s, area) in sum.iter_mut().zip(pass.measure(block)) {
                *s += area;
            }
        }
        sum.map(|s| s / (self.passes.len() as f64 + f64::from(times)))
    }
}

/// The mean of average precisions.
struct Precisions {
    images: usize,
    passes: Vec<PrecisionPass>,
}

impl Statistic for Precisions {
    fn images(&self) -> usize {
        self.images
    }

    fn measure(&self, block: &Block) -> [f64; LANES] {
        let mut sum = [0.0; LANES];
        for pass in &self.passes {
            for (s, precision) in sum.iter_mut().zip(pass.measure(block)) {
                *s += precision;
            }
        }
        sum.map(|s| s / self.passes.len() as f64)
    }
}
