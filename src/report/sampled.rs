//! What the test images say of a cell: the mean over its seeds on resampled test sets, and whether two cells differ there.

use crate::eval::{Components, Delong, ImageSpread, Interval, holm, paired_bootstrap, percentile};
use crate::results::{Evidence, Evidences};

/// Coverage of every interval over test images.
pub const COVERAGE: f64 = 0.95;

/// The mean over a cell's seeds, on resampled test sets.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// Names the test images; cells that share it may be compared replicate by replicate.
    pub images: String,
    /// Number of test images.
    pub count: usize,
    /// The mean over seeds on every resample; NaN where the metric is not defined for one of them.
    pub replicates: Vec<f64>,
    /// Percentile interval of level [`COVERAGE`].
    pub interval: Interval,
    /// Standard deviation of the replicates.
    pub standard_error: f64,
    /// Replicates without a defined metric.
    pub undefined: usize,
    /// DeLong's components of the mean area, where the metric is one.
    pub components: Option<Components>,
}

impl Sampled {
    /// From the runs of one cell; `None` when there is none, when one has no evidence, when they were tested on different
    /// images, or when no replicate is defined.
    pub fn of(evidence: &Evidences, runs: &[String]) -> Option<Self> {
        let all: Vec<&Evidence> = runs.iter().map(|id| evidence.get(id)).collect::<Option<_>>()?;
        let first = all.first()?;
        if all.iter().any(|e| e.images != first.images) {
            return None;
        }
        let n = all.len() as f64;
        let replicates: Vec<f64> = (0..first.replicates.len())
            .map(|r| all.iter().map(|e| e.replicates[r]).sum::<f64>() / n)
            .collect();
        let p = percentile(&replicates, COVERAGE).ok()?;
        let components: Option<Vec<&Components>> = all.iter().map(|e| e.components.as_ref()).collect();
        Some(Self {
            images: first.images.clone(),
            count: first.count,
            interval: p.interval,
            standard_error: p.standard_error,
            undefined: p.undefined,
            replicates,
            components: components.and_then(|c| Components::mean(&c).ok()),
        })
    }

    /// What the images add to a test over seeds.
    pub fn spread(&self) -> ImageSpread {
        ImageSpread {
            standard_error: self.standard_error,
            replicates: self.replicates.len() - self.undefined,
        }
    }

    /// Whether `self` and `other` were measured on the same images.
    pub fn paired_with(&self, other: &Self) -> bool {
        self.images == other.images && self.replicates.len() == other.replicates.len()
    }
}

/// How two cells are compared over the test images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageTest {
    Delong,
    PairedBootstrap,
}

impl ImageTest {
    /// As printed.
    pub fn title(self) -> &'static str {
        match self {
            Self::Delong => "DeLong's test",
            Self::PairedBootstrap => "the paired bootstrap",
        }
    }
}

/// Two-sided p of "the means of two cells are equal over test images": DeLong where both are two-class areas, else the paired
/// bootstrap. `None` where they were not tested on the same images.
pub fn p_equal(a: &Sampled, b: &Sampled) -> Option<(f64, ImageTest)> {
    if !a.paired_with(b) {
        return None;
    }
    if let (Some(x), Some(y)) = (&a.components, &b.components) {
        let test = Delong::of(&[x, y]).and_then(|d| d.compare(0, 1, COVERAGE)).ok()?;
        return Some((test.p, ImageTest::Delong));
    }
    let test = paired_bootstrap(&a.replicates, &b.replicates, COVERAGE).ok()?;
    Some((test.p, ImageTest::PairedBootstrap))
}

/// Holm-adjusted p values of "equal to the best" for every cell but the best itself; `None` where a cell cannot be tested.
///
/// The family is the column: as many tests as there are cells beside the best one. A bootstrap p is never below
/// 2/(1 + replicates), so a family of more than α·(1 + replicates)/2 cells could mark nothing as different.
pub fn against_best(best: usize, cells: &[Option<&Sampled>]) -> (Vec<Option<f64>>, Option<ImageTest>) {
    let mut out = vec![None; cells.len()];
    let Some(top) = cells[best] else { return (out, None) };
    let found: Vec<(usize, f64, ImageTest)> = cells
        .iter()
        .enumerate()
        .filter(|(i, _)| *i != best)
        .filter_map(|(i, c)| p_equal(top, (*c)?).map(|(p, t)| (i, p, t)))
        .collect();
    let p: Vec<f64> = found.iter().map(|f| f.1).collect();
    if let Ok(adjusted) = holm(&p) {
        for ((i, ..), p) in found.iter().zip(adjusted) {
            out[*i] = Some(p);
        }
    }
    (out, found.first().map(|f| f.2))
}
