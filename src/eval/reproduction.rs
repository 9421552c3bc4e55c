//! Could a published run be one more run of this code? One value, then all values of a data set.
//!
//! Both are measured on the same test images, so images are not drawn anew: the noise is that of runs alone, ours and theirs.

use super::confusion::mean;
use super::error::{EvalError, Result, argument, finite};
use super::interval::Interval;
use super::sample::Sample;
use super::student::{f_quantile, f_upper_tail, t_quantile, t_upper_tail};

/// A published value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PublishedRun {
    pub value: f64,
    /// Hard half-width of all that separates the number at hand from the one that was measured: reading, offset, rounding.
    pub reading: f64,
    /// Runs it is the mean of.
    pub runs: u32,
    /// Standard deviation between those runs, where the source gives it.
    pub sd: Option<f64>,
}

/// Ours minus a published value, with the noise of both.
#[derive(Debug, Clone, PartialEq)]
pub struct Reproduction {
    pub sample: Sample,
    pub difference: f64,
    /// Of the difference: √(s²/n + s²/n₀), or √(s²/n + s₀²/n₀) where the source has s₀.
    pub standard_error: f64,
    /// n − 1, or Welch's.
    pub df: f64,
    pub reading: f64,
    /// Of coverage 1 − 2α for the difference, widened by the reading on either side.
    pub interval: Interval,
    /// The same if the published value were exact: our noise alone.
    pub interval_ours: Interval,
    /// The same with the published run's noise, but read exactly.
    pub interval_runs: Interval,
    /// Of coverage 1 − α: where the published value may lie, less ours, if it is another run of this code. Holds 0 exactly
    /// when the published value lies in the prediction interval.
    pub prediction: Interval,
    /// Of "the difference is at least the margin in size".
    pub p_same: f64,
    /// Of "the difference is at most the margin in size, or the published value is one more run of this code".
    pub p_differs: f64,
}

impl Reproduction {
    /// Whether the published value lies in the prediction interval of as many runs as it is the mean of.
    pub fn predicted(&self) -> bool {
        self.prediction.low <= 0.0 && self.prediction.high >= 0.0
    }
}

/// Noise of a difference of two means: one t, or Welch's t held up by that of either side alone.
struct Noise {
    /// (standard error, degrees of freedom); the widest interval counts.
    tests: Vec<(f64, f64)>,
}

impl Noise {
    /// Welch's degrees of freedom lie above the smaller side's, so that a well-known second variance can narrow the interval
    /// of a badly known first one. Taking the widest of the three keeps what a variance adds from ever taking away.
    fn new(ours: &Sample, published: &PublishedRun) -> Self {
        let (n, n0) = (ours.n as f64, f64::from(published.runs));
        let of_ours = ours.sd * ours.sd / n;
        match published.sd.filter(|_| published.runs >= 2) {
            None => Self {
                tests: vec![((of_ours + ours.sd * ours.sd / n0).sqrt(), n - 1.0)],
            },
            Some(sd) => {
                let theirs = sd * sd / n0;
                let total = of_ours + theirs;
                let df = if total > 0.0 {
                    total * total / (of_ours * of_ours / (n - 1.0) + theirs * theirs / (n0 - 1.0))
                } else {
                    (n - 1.0).min(n0 - 1.0)
                };
                Self {
                    tests: vec![(total.sqrt(), df), (of_ours.sqrt(), n - 1.0), (theirs.sqrt(), n0 - 1.0)],
                }
            }
        }
    }

    fn half_width(&self, coverage: f64) -> Result<f64> {
        let mut widest = 0.0f64;
        for &(se, df) in &self.tests {
            widest = widest.max(t_quantile((1.0 + coverage) / 2.0, df)? * se);
        }
        Ok(widest)
    }

    /// P(noise > x).
    fn upper_tail(&self, x: f64) -> Result<f64> {
        let mut p = 0.0f64;
        for &(se, df) in &self.tests {
            p = p.max(t_upper_tail(if x == 0.0 { 0.0 } else { x / se }, df)?);
        }
        Ok(p)
    }
}

/// Holds the mean over seeds against a published value.
///
/// `p_differs` asks two things, and takes the weaker: the difference is beyond the margin (one-sided), and it is not 0
/// (two-sided). The second is the prediction interval's; without it one run in ten of this very code would differ where
/// the margin is small against the noise.
///
/// # Errors
/// Below two seeds, for a value that is not finite, a negative margin or reading, no published run, and α outside (0, ½).
pub fn reproduction(values: &[f64], published: &PublishedRun, margin: f64, alpha: f64) -> Result<Reproduction> {
    let sample = Sample::of(values)?;
    if sample.n < 2 {
        return Err(EvalError::TooFew {
            what: "seeds",
            needed: 2,
            found: sample.n,
        });
    }
    let good = |x: f64| x.is_finite() && x >= 0.0;
    finite("published value", &[published.value])?;
    argument("margin", "a finite number, not negative", margin, good(margin))?;
    argument(
        "reading",
        "a finite number, not negative",
        published.reading,
        good(published.reading),
    )?;
    argument(
        "published runs",
        "1 or more",
        f64::from(published.runs),
        published.runs > 0,
    )?;
    argument("alpha", "a number between 0 and 0.5", alpha, alpha > 0.0 && alpha < 0.5)?;
    if let Some(sd) = published.sd {
        argument("published sd", "a finite number, not negative", sd, good(sd))?;
    }
    let noise = Noise::new(&sample, published);
    let (difference, reading) = (sample.mean - published.value, published.reading);
    let around = |half: f64, level: f64| Interval {
        low: difference - half,
        high: difference + half,
        level,
    };
    let coverage = 1.0 - 2.0 * alpha;
    let half = noise.half_width(coverage)?;
    // As `Noise` forms it, so that the two intervals compare to the bit.
    let of_ours = (sample.sd * sample.sd / sample.n as f64).sqrt();
    let ours = t_quantile((1.0 + coverage) / 2.0, sample.n as f64 - 1.0)? * of_ours;
    let room = margin - reading;
    let beyond = difference.abs() - margin - reading;
    Ok(Reproduction {
        difference,
        standard_error: noise.tests[0].0,
        df: noise.tests[0].1,
        reading,
        interval: around(half + reading, coverage),
        interval_ours: around(ours, coverage),
        interval_runs: around(half, coverage),
        prediction: around(noise.half_width(1.0 - alpha)? + reading, 1.0 - alpha),
        p_same: noise
            .upper_tail(room - difference)?
            .max(noise.upper_tail(room + difference)?),
        p_differs: noise
            .upper_tail(beyond)?
            .max((2.0 * noise.upper_tail((difference.abs() - reading).max(0.0))?).min(1.0)),
        sample,
    })
}

/// One backbone of a data set: ours minus published.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub difference: f64,
    /// Of the difference, by run noise alone.
    pub variance: f64,
    /// Of that variance.
    pub df: f64,
    pub reading: f64,
}

/// All values of a data set against all published ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Together {
    pub points: usize,
    /// Mean of ours − published.
    pub mean: f64,
    /// Standard deviation between backbones, which holds run noise and what differs from backbone to backbone.
    pub sd: f64,
    pub standard_error: f64,
    /// Of coverage 1 − 2α for the mean difference, widened by the mean reading.
    pub interval: Interval,
    /// Of coverage 1 − α, the same way.
    pub wide: Interval,
    pub rmse: f64,
    /// Root mean square that run noise alone would give.
    pub noise: f64,
    /// `rmse / noise`; infinite where the runs have no noise.
    pub ratio: f64,
    /// Of coverage 1 − α for the true ratio (F).
    pub ratio_interval: Interval,
    /// Root mean square of what is left when run noise is taken out: √(rmse² − noise²), at least 0.
    pub excess: f64,
    /// Of "the mean difference is at least the margin in size".
    pub p_same: f64,
    /// Of "no difference beyond the margin": the smaller of that of the mean and that of the scatter, doubled.
    pub p_differs: f64,
}

/// Tests the mean difference over backbones, with the scatter between them, and the root mean square of the differences.
///
/// The scatter test holds rmse² against `noise² + margin²` (F with the number of values and Satterthwaite's degrees of freedom
/// of the noise): backbones that differ both ways by more than the margin cancel in the mean, not here.
///
/// # Errors
/// Below two points; as [`reproduction`] for margin and α.
pub fn together(points: &[Point], margin: f64, alpha: f64) -> Result<Together> {
    let k = points.len();
    if k < 2 {
        return Err(EvalError::TooFew {
            what: "backbones",
            needed: 2,
            found: k,
        });
    }
    argument("margin", "a number above 0", margin, margin.is_finite() && margin > 0.0)?;
    argument("alpha", "a number between 0 and 0.5", alpha, alpha > 0.0 && alpha < 0.5)?;
    let d: Vec<f64> = points.iter().map(|p| p.difference).collect();
    let sample = Sample::of(&d)?;
    let (se, df) = (sample.standard_error(), k as f64 - 1.0);
    let reading = mean(points.iter().map(|p| p.reading));
    let tail = |x: f64| t_upper_tail(if x == 0.0 { 0.0 } else { x / se }, df);
    let around = |coverage: f64| -> Result<Interval> {
        let half = t_quantile((1.0 + coverage) / 2.0, df)? * se + reading;
        Ok(Interval {
            low: sample.mean - half,
            high: sample.mean + half,
            level: coverage,
        })
    };
    let room = margin - reading;
    let beyond = sample.mean.abs() - margin - reading;
    let mean_differs = tail(beyond)?.max((2.0 * tail((sample.mean.abs() - reading).max(0.0))?).min(1.0));

    let square = |f: &dyn Fn(&Point) -> f64| mean(points.iter().map(|p| f(p) * f(p)));
    let rmse2 = square(&|p| p.difference);
    let noise2 = mean(points.iter().map(|p| p.variance));
    // A difference within its reading may be none at all.
    let least2 = square(&|p| (p.difference.abs() - p.reading).max(0.0));
    let sum: f64 = points.iter().map(|p| p.variance).sum();
    let parts: f64 = points.iter().map(|p| p.variance * p.variance / p.df).sum();
    let noise_df = if sum > 0.0 {
        sum * sum / parts
    } else {
        points.iter().map(|p| p.df).sum()
    };
    let (k, ratio2) = (k as f64, if rmse2 == 0.0 { 0.0 } else { rmse2 / noise2 });
    let ends = [1.0 - alpha / 2.0, alpha / 2.0].map(|p| f_quantile(p, k, noise_df));
    let [upper, lower] = ends;
    let scatter_differs = f_upper_tail(least2 / (noise2 + margin * margin), k, noise_df)?;
    Ok(Together {
        points: points.len(),
        mean: sample.mean,
        sd: sample.sd,
        standard_error: se,
        interval: around(1.0 - 2.0 * alpha)?,
        wide: around(1.0 - alpha)?,
        rmse: rmse2.sqrt(),
        noise: noise2.sqrt(),
        ratio: ratio2.sqrt(),
        ratio_interval: Interval {
            low: (ratio2 / upper?).sqrt(),
            high: (ratio2 / lower?).sqrt(),
            level: 1.0 - alpha,
        },
        excess: (rmse2 - noise2).max(0.0).sqrt(),
        p_same: tail(room - sample.mean)?.max(tail(room + sample.mean)?),
        p_differs: (2.0 * mean_differs.min(scatter_differs)).min(1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(value: f64, reading: f64, runs: u32, sd: Option<f64>) -> PublishedRun {
        PublishedRun {
            value,
            reading,
            runs,
            sd,
        }
    }

    /// n = 3, s = 0.002, one published run: SE = 0.002·√(4/3), t = 2.919986 (0.95, 2) and 4.302653 (0.975, 2): the half-width is
    /// 3.37·s, the prediction interval's 4.97·s.
    #[test]
    fn three_seeds_against_one_run_by_hand() {
        let r = reproduction(&[0.938, 0.940, 0.942], &published(0.9395, 0.0, 1, None), 0.01, 0.05).unwrap();
        let se = 0.002 * (4.0f64 / 3.0).sqrt();
        assert!((r.standard_error - se).abs() < 1e-15 && r.df == 2.0);
        assert!((r.interval.high - (0.0005 + 2.919_985_580_353_726 * se)).abs() < 1e-12);
        assert!((r.prediction.low - (0.0005 - 4.302_652_729_749_464 * se)).abs() < 1e-12);
        assert!(r.predicted() && r.p_same < 0.05 && r.p_differs > 0.5);
        let read = reproduction(&[0.938, 0.940, 0.942], &published(0.9395, 0.001, 1, None), 0.01, 0.05).unwrap();
        assert!((read.interval.high - r.interval.high - 0.001).abs() < 1e-15);
        assert_eq!(read.interval_runs, r.interval_runs);
    }

    /// A published sd that is known well must not lend its degrees of freedom to two seeds.
    #[test]
    fn no_variance_and_no_reading_ever_narrows() {
        let mut next = crate::eval::resample::splitmix(5);
        let mut unit = move || (next() >> 11) as f64 / (1u64 << 53) as f64;
        for _ in 0..2000 {
            let n = 2 + (4.0 * unit()) as usize;
            let values: Vec<f64> = (0..n).map(|_| 0.9 + 0.01 * unit()).collect();
            let runs = 1 + (12.0 * unit()) as u32;
            let width = |sd: Option<f64>, reading: f64| {
                let r = reproduction(&values, &published(0.9, reading, runs, sd), 0.005, 0.05).unwrap();
                [r.interval, r.prediction].map(|i| i.high - i.low)
            };
            let (sd, more, reading) = (0.005 * unit(), 0.005 * unit(), 0.001 * unit());
            let base = width(Some(sd), reading);
            for wider in [width(Some(sd + more), reading), width(Some(sd), reading + 0.001)] {
                assert!(wider[0] >= base[0] && wider[1] >= base[1], "{sd} {more}");
            }
            let ours = reproduction(&values, &published(0.9, 0.0, runs, Some(sd)), 0.005, 0.05).unwrap();
            assert!(ours.interval.high >= ours.interval_ours.high);
            let one = reproduction(&values, &published(0.9, 0.0, runs, None), 0.005, 0.05).unwrap();
            assert!(one.interval.high >= one.interval_ours.high);
        }
    }

    /// Differences of ±0.02 with almost no noise: their mean is 0, and yet the values are not the published ones.
    #[test]
    fn what_cancels_in_the_mean_shows_in_the_scatter() {
        let point = |difference: f64| Point {
            difference,
            variance: 1e-6,
            df: 2.0,
            reading: 0.0,
        };
        let both: Vec<Point> = (0..10).map(|i| point(if i % 2 == 0 { 0.02 } else { -0.02 })).collect();
        let t = together(&both, 0.005, 0.05).unwrap();
        assert!(t.mean == 0.0 && t.p_differs < 1e-3 && t.excess > 0.0199, "{t:?}");
        let none: Vec<Point> = (0..10)
            .map(|i| point(if i % 2 == 0 { 0.001 } else { -0.001 }))
            .collect();
        let t = together(&none, 0.005, 0.05).unwrap();
        assert!(t.p_same < 1e-3 && t.p_differs > 0.5 && t.ratio == 1.0, "{t:?}");
        assert!(t.ratio_interval.low < 1.0 && t.ratio_interval.high > 1.0);
        assert!(together(&none[..1], 0.005, 0.05).is_err());
    }
}
