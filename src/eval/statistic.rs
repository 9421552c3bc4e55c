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
use super::block::{Block, LANES, Statistic};
use super::confusion::Confusion;
use super::labels::{LabelCounts, outcome};
use super::passes::{AreaPass, PrecisionPass, drawn_of};
use super::tables::{ClassTable, LabelTable};

/// A function of the confusion matrix.
pub(super) fn confusion_cells(t: &ClassTable<'_>, of: fn(&Confusion, bool) -> f64) -> Box<dyn Statistic> {
    let (classes, all_classes) = (t.classes, t.all_classes);
    let mut cells = vec![Vec::new(); classes * classes];
    for (i, (&t, &p)) in t.truth.iter().zip(t.predicted()).enumerate() {
        cells[t as usize * classes + p as usize].push(i as u32);
    }
    Box::new(Cells {
        images: t.truth.len(),
        cells,
        of: Box::new(move |counts| of(&Confusion::from_counts(classes, counts.to_vec()), all_classes)),
    })
}

/// A function of the counts of every label.
pub(super) fn label_cells(t: &LabelTable<'_>, of: fn(&LabelCounts) -> f64) -> Box<dyn Statistic> {
    let labels = t.labels;
    let images = t.truth.len() / labels;
    let mut cells = vec![Vec::new(); 3 * labels + 1];
    let rows = t.probs.chunks_exact(labels).zip(t.truth.chunks_exact(labels));
    for (i, (p, t)) in rows.enumerate() {
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
    Box::new(Cells {
        images,
        cells,
        of: Box::new(move |counts| {
            of(&LabelCounts {
                labels: counts[..3 * labels]
                    .chunks_exact(3)
                    .map(|c| [c[0], c[1], c[2]])
                    .collect(),
                exact: counts[3 * labels],
                images: counts[3 * labels + 1],
            })
        }),
    })
}

/// Column 1 of two classes, one-vs-one of more; `undefined` where the test set has no area.
pub(super) fn class_areas(t: &ClassTable<'_>, undefined: f64) -> Box<dyn Statistic> {
    areas(t, undefined, one_vs_one)
}

/// Column 1 of two classes, each class against the rest of more.
pub(super) fn one_vs_rest(t: &ClassTable<'_>) -> Box<dyn Statistic> {
    areas(t, f64::NAN, |t| {
        let pass = |k| AreaPass::new(&column(t.probs, t.classes, k), |i| t.truth[i] as usize == k, |i| i);
        (0..t.classes).map(pass).collect()
    })
}

fn areas(t: &ClassTable<'_>, undefined: f64, of_many: fn(&ClassTable<'_>) -> Vec<AreaPass>) -> Box<dyn Statistic> {
    let (passes, without) = if t.classes == 2 {
        let positive = t.positive();
        let pass = AreaPass::new(&column(t.probs, 2, 1), |i| positive[i], |i| i);
        (vec![pass], None)
    } else if multiclass_area_exists(t.probs, t.classes, t.truth) {
        (of_many(t), None)
    } else {
        let value = undefined;
        (Vec::new(), Some(Constant { value, times: 1 }))
    };
    Box::new(Areas {
        images: t.truth.len(),
        passes,
        without,
    })
}

/// Average precision of class 1 of two.
pub(super) fn average_precision(t: &ClassTable<'_>) -> Box<dyn Statistic> {
    Box::new(Precisions {
        images: t.truth.len(),
        passes: vec![PrecisionPass::new(&column(t.probs, 2, 1), &t.positive())],
    })
}

/// Average precision of every label.
pub(super) fn label_precisions(t: &LabelTable<'_>) -> Box<dyn Statistic> {
    let pass = |k| PrecisionPass::new(&column(t.probs, t.labels, k), &t.positive(k));
    Box::new(Precisions {
        images: t.truth.len() / t.labels,
        passes: (0..t.labels).map(pass).collect(),
    })
}

/// Both directed areas of every pair of classes. Each pair has as many images in either direction, and a mean of means
/// of two is the mean of all.
fn one_vs_one(t: &ClassTable<'_>) -> Vec<AreaPass> {
    let (probs, classes, truth) = (t.probs, t.classes, t.truth);
    class_pairs(classes, truth)
        .flat_map(|(a, b, images)| {
            [a, b].map(|class| {
                let scores: Vec<f64> = images.iter().map(|&i| probs[i * classes + class as usize]).collect();
                AreaPass::new(&scores, |k| truth[images[k]] == class, |k| images[k])
            })
        })
        .collect()
}

/// The areas of all labels. A label that the test set leaves constant has no pass; where constant ones count, it counts as
/// `multilabel` counts it.
pub(super) fn label_areas(t: &LabelTable<'_>, count_constant: bool) -> Box<dyn Statistic> {
    let (probs, labels, truth) = (t.probs, t.labels, t.truth);
    let (mut passes, mut without) = (Vec::new(), None);
    for k in 0..labels {
        // Asked in the order of the scores: all of one label's are nearer than their rows.
        let positive = t.positive(k);
        let positives = positive.iter().filter(|&&p| p).count();
        if 0 < positives && positives < positive.len() {
            passes.push(AreaPass::new(&column(probs, labels, k), |i| positive[i], |i| i));
        } else if count_constant {
            let constant = without.get_or_insert(Constant { value: 0.5, times: 0 });
            constant.times += 1;
            if positives > 0 {
                constant.value = f64::NAN;
            }
        }
    }
    Box::new(Areas {
        images: truth.len() / labels,
        passes,
        without,
    })
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
