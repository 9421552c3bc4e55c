//! What test images and seeds say of a cell: the mean over its seeds on resampled test sets, and whether two cells differ.

use crate::eval::{Components, Delong, Estimate, Interval, Percentile, VarianceSource, holm, percentile};
use crate::results::{DECISION, Evidence, Evidences};

/// Coverage of every interval over test images.
pub const COVERAGE: f64 = 0.95;

/// The mean over a cell's seeds, on resampled test sets.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// Names the test images; cells that share it may be compared replicate by replicate.
    pub images: String,
    /// Number of test images.
    pub count: usize,
    /// Groups (patients, lesions, cases) that were drawn; `None` where none is known and images were.
    pub groups: Option<usize>,
    pub mean: f64,
    /// The mean over seeds on every resample; NaN where the metric is not defined for one of them.
    pub replicates: Vec<f64>,
    /// Standard deviation of the replicates that decide.
    pub standard_error: f64,
    /// What is printed; `None` where no interval was asked for.
    pub shown: Option<Shown>,
    /// DeLong's components of the mean area, where the metric is one.
    pub components: Option<Components>,
    /// Noise of the mean by its seeds; `None` for one seed, whose noise is not known.
    pub seeds: Option<VarianceSource>,
}

/// An interval as printed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shown {
    /// Of level [`COVERAGE`] for the mean over other seeds and other test images.
    pub interval: Interval,
    /// Resamples that it was made from.
    pub replicates: usize,
    /// Those without a defined metric, left out.
    pub undefined: usize,
}

impl Sampled {
    /// From the runs of one cell and their scores; `None` when there is none, when one has no evidence, when they were tested on different
    /// images, or when no replicate is defined.
    pub fn of(evidence: &Evidences, runs: &[String], values: &[f64]) -> Option<Self> {
        let all: Vec<&Evidence> = runs.iter().map(|id| evidence.get(id)).collect::<Option<_>>()?;
        let first = all.first()?;
        if all.iter().any(|e| e.images != first.images) {
            return None;
        }
        let n = all.len() as f64;
        let replicates: Vec<f64> = (0..first.replicates.len())
            .map(|r| all.iter().map(|e| e.replicates[r]).sum::<f64>() / n)
            .collect();
        let decides = percentile(&replicates[..replicates.len().min(DECISION)], COVERAGE).ok()?;
        let components: Option<Vec<&Components>> = all.iter().map(|e| e.components.as_ref()).collect();
        let seeds = noise(values);
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let shown = evidence.replicates.min(replicates.len());
        let shown = (shown > 0).then(|| percentile(&replicates[..shown], COVERAGE).ok());
        Some(Self {
            images: first.images.clone(),
            count: first.count,
            groups: first.groups,
            mean,
            standard_error: decides.standard_error,
            shown: shown.flatten().map(|p| Shown {
                interval: joined(mean, &p, seeds),
                replicates: evidence.replicates.min(replicates.len()),
                undefined: p.undefined,
            }),
            replicates,
            components: components.and_then(|c| Components::mean(&c).ok()),
            seeds,
        })
    }

    /// Whether `self` and `other` were measured on the same images.
    pub fn paired_with(&self, other: &Self) -> bool {
        self.images == other.images && self.replicates.len() == other.replicates.len()
    }

    /// The replicates that decide.
    fn decisive(&self) -> &[f64] {
        &self.replicates[..self.replicates.len().min(DECISION)]
    }
}

/// Noise of a mean over seeds; `None` below two.
pub(super) fn noise(values: &[f64]) -> Option<VarianceSource> {
    let s = crate::eval::Sample::of(values).ok().filter(|s| s.n > 1)?;
    Some(VarianceSource::new(s.standard_error(), Some(s.n as f64 - 1.0)))
}

/// A percentile interval over test images with the noise of seeds: on either side the two half-widths joined as the root of
/// their sum of squares, so that the seeds never narrow it.
pub(super) fn joined(mean: f64, images: &Percentile, seeds: Option<VarianceSource>) -> Interval {
    let half = seeds.and_then(|s| s.half_width(COVERAGE).ok()).unwrap_or(0.0);
    let Interval { low, high, level } = images.interval;
    if half == 0.0 {
        return Interval { low, high, level };
    }
    let wider = |side: f64| (side.max(0.0).powi(2) + half * half).sqrt();
    Interval {
        low: mean - wider(mean - low),
        high: mean + wider(high - mean),
        level,
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
            Self::Delong => "DeLong's test over groups",
            Self::PairedBootstrap => "the paired bootstrap",
        }
    }
}

/// Two-sided p of "the means of two cells are equal", over seeds and test images: the variance of the images is DeLong's over groups
/// (Obuchowski) where both are two-class areas, else that of the paired bootstrap. `None` where they were not tested on
/// the same images.
pub fn p_equal(a: &Sampled, b: &Sampled) -> Option<(f64, ImageTest)> {
    if !a.paired_with(b) {
        return None;
    }
    let (images, test) = match (&a.components, &b.components) {
        (Some(x), Some(y)) => {
            let d = Delong::of(&[x, y]).and_then(|d| d.compare(0, 1, COVERAGE)).ok()?;
            (d.standard_error, ImageTest::Delong)
        }
        _ => {
            let both = a.decisive().iter().zip(b.decisive());
            let d: Vec<f64> = both.map(|(x, y)| x - y).collect();
            (
                percentile(&d, COVERAGE).ok()?.standard_error,
                ImageTest::PairedBootstrap,
            )
        }
    };
    let images = VarianceSource::new(images, None);
    let sources = [a.seeds, b.seeds].into_iter().flatten().chain([images]).collect();
    let e = Estimate {
        value: a.mean - b.mean,
        sources,
    };
    Some((e.p_two_sided().ok()?, test))
}

/// Holm-adjusted p values of "equal to the best" for every cell but the best itself; `None` where a cell cannot be tested.
///
/// The family is the column: as many tests as there are cells beside the best one.
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
