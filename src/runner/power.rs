//! `medft power`: how many seeds each verdict takes, from measured scatter where there are runs, else from a stated assumption.

use super::Context;
use super::estimate::{Estimator, Machine};
use super::foresight::{self, ClaimOutlook, ENOUGH, MOST_SEEDS, SetNoise};
use super::plan::Plan;
use crate::cli::PowerArgs;
use crate::eval::Outlook;
use crate::study::Tolerances;
use anyhow::Result;
use serde::Serialize;

/// A verdict on a data set and the seeds it takes.
#[derive(Debug, Serialize)]
pub struct VerdictNeed {
    pub dataset: String,
    /// `value` or `data set`.
    pub level: &'static str,
    pub verdict: &'static str,
    /// The true difference under which it is wanted.
    pub difference: f64,
    #[serde(flatten)]
    pub need: Need,
}

/// The least number of seeds, from two on, with which a probability is enough.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Need {
    /// `None` where the most that are looked at are not enough.
    pub seeds: Option<usize>,
    /// With that many, or with the most.
    pub probability: f64,
    /// With the study's own.
    pub now: f64,
}

fn need(seeds: usize, f: impl Fn(usize) -> f64) -> Need {
    let found = (2..=MOST_SEEDS).find(|&n| f(n) >= ENOUGH);
    Need {
        seeds: found,
        probability: f(found.unwrap_or(MOST_SEEDS)),
        now: f(seeds.max(2)),
    }
}

/// What every verdict takes.
#[derive(Debug)]
pub struct Power {
    pub study: String,
    /// The study's own number of seeds.
    pub seeds: usize,
    pub alpha: f64,
    pub noises: Vec<SetNoise>,
    pub lines: Vec<VerdictNeed>,
    /// What each claim takes, where anything can be said, and what is said of it with the study's own seeds.
    pub claims: Vec<(Option<Need>, ClaimOutlook)>,
}

/// How many seeds each verdict on a study's results takes.
///
/// # Errors
/// Where study, records or claims cannot be read.
pub fn power(c: &Context, a: &PowerArgs) -> Result<Power> {
    let (study, runs) = c.study(&a.study)?;
    let plan = Plan::make(c, study, runs)?;
    let study = &plan.study;
    let mut estimator = Estimator::new(c, &plan.inventory, &plan.listing, &Machine::this(c))?;
    let noises = foresight::noises(c, study, &plan.listing.done, &mut estimator, a.sd)?;
    let alpha = Tolerances::of(&study.report.published, &c.global.experiments_dir)?.alpha;
    let seeds = study.seeds.len();
    let lines: Vec<VerdictNeed> = noises.iter().flat_map(|n| lines(n, seeds, alpha)).collect();

    let specs: Vec<_> = plan.entries.iter().map(|e| e.spec.clone()).collect();
    let cells = foresight::cells(&specs);
    let all = foresight::asked(c, study)?;
    let outline = foresight::Outline::of(&all, &cells, &noises);
    let at = |n: usize| outline.with(n);
    let claims: Vec<_> = at(seeds.max(2))
        .into_iter()
        .enumerate()
        .map(|(i, now)| {
            let p = |n: usize| at(n)[i].probability.unwrap_or(0.0);
            (now.probability.is_some().then(|| need(seeds, p)), now)
        })
        .collect();
    Ok(Power {
        study: study.name.clone(),
        seeds,
        alpha,
        noises,
        lines,
        claims,
    })
}

fn lines(n: &SetNoise, seeds: usize, alpha: f64) -> Vec<VerdictNeed> {
    let Some(margin) = n.margin.filter(|_| !n.backbones.is_empty()) else {
        return Vec::new();
    };
    type Level = fn(&SetNoise, usize, f64, f64) -> Option<Outlook>;
    type Pick = fn(&Outlook) -> f64;
    let levels: [(&str, Level); 2] = [("value", SetNoise::value), ("data set", SetNoise::all_values)];
    let verdicts: [(&str, f64, Pick); 3] = [
        ("Reproduced", 0.0, |o| o.reproduced),
        ("Consistent or Reproduced", 0.0, |o| o.reproduced + o.consistent),
        ("Differs", 2.0 * margin, |o| o.differs),
    ];
    let mut out = Vec::new();
    for (level, of) in levels {
        for (verdict, difference, pick) in &verdicts {
            let p = |k: usize| of(n, k, *difference, alpha).map_or(0.0, |o| pick(&o));
            out.push(VerdictNeed {
                dataset: n.dataset.clone(),
                level,
                verdict,
                difference: *difference,
                need: need(seeds, p),
            });
        }
    }
    out
}
