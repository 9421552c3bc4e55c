//! `medft power`: how many seeds each verdict takes, from measured scatter where there are runs, else from a stated assumption.

use super::Context;
use super::estimate::{Estimator, Machine};
use super::foresight::{self, ASSUMED_SD, ENOUGH, MOST_SEEDS, SetNoise};
use super::plan::Plan;
use crate::cli::PowerArgs;
use crate::cli::exit::OK;
use crate::eval::Outlook;
use crate::study::Tolerances;
use crate::text as ui;
use crate::{outln, print};
use anyhow::Result;
use serde::Serialize;

/// A verdict on a data set and the seeds it takes.
#[derive(Debug, Serialize)]
struct Line {
    dataset: String,
    /// `value` or `data set`.
    level: &'static str,
    verdict: &'static str,
    /// The true difference under which it is wanted.
    difference: f64,
    #[serde(flatten)]
    need: Need,
}

/// The least number of seeds, from two on, with which a probability is enough.
#[derive(Debug, Clone, Copy, Serialize)]
struct Need {
    /// `None` where the most that are looked at are not enough.
    seeds: Option<usize>,
    /// With that many, or with the most.
    probability: f64,
    /// With the study's own.
    now: f64,
}

fn need(seeds: usize, f: impl Fn(usize) -> f64) -> Need {
    let found = (2..=MOST_SEEDS).find(|&n| f(n) >= ENOUGH);
    Need {
        seeds: found,
        probability: f(found.unwrap_or(MOST_SEEDS)),
        now: f(seeds.max(2)),
    }
}

pub fn run(c: &Context, a: &PowerArgs) -> Result<u8> {
    let (study, runs) = c.study(&a.study)?;
    let plan = Plan::make(c, study, runs)?;
    let study = &plan.study;
    let mut estimator = Estimator::new(c, &plan.inventory, &plan.listing, &Machine::this(c))?;
    let noises = foresight::noises(c, study, &plan.listing.done, &mut estimator, a.sd)?;
    let alpha = Tolerances::of(&study.report.published, &c.global.experiments_dir)?.alpha;
    let seeds = study.seeds.len();
    let lines: Vec<Line> = noises.iter().flat_map(|n| lines(n, seeds, alpha)).collect();

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

    if c.global.json {
        let claims: Vec<_> = claims
            .iter()
            .map(|(need, o)| serde_json::json!({"claim": o.claim, "need": need, "why": o.why}))
            .collect();
        let all = serde_json::json!({
            "study": study.name, "seeds": seeds, "alpha": alpha, "enough": ENOUGH,
            "data_sets": noises, "verdicts": lines, "claims": claims,
        });
        print::json(&all)?;
        return Ok(OK);
    }
    let rows: Vec<Vec<String>> = noises
        .iter()
        .map(|n| {
            vec![
                n.dataset.clone(),
                n.metric.clone(),
                n.margin.map_or_else(|| "none stated".to_owned(), |m| m.to_string()),
                format!("{:.4}", n.sd),
                n.sd_from.clone(),
            ]
        })
        .collect();
    outln!(
        "{}",
        ui::table(&["data set", "metric", "margin", "sd over seeds", "from"], &rows)
    )?;
    let words = |n: &Need| {
        let seeds = n.seeds.map_or_else(|| format!("> {MOST_SEEDS}"), |s| s.to_string());
        [seeds, percent(n.probability), percent(n.now)]
    };
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|l| {
            let truth = format!("{} differ by {}", l.level, l.difference);
            [
                &[l.dataset.clone(), l.verdict.to_owned(), truth][..],
                &words(&l.need)[..],
            ]
            .concat()
        })
        .collect();
    let unjudged = noises.iter().filter(|n| n.backbones.is_empty());
    let unjudged: Vec<&str> = unjudged.map(|n| n.dataset.as_str()).collect();
    if !unjudged.is_empty() {
        outln!(
            "\nNo verdict on a published value can be given on {}: none is listed, or those that are have no authors' code, are of another split, \
             task or part of the images, or of another metric.",
            unjudged.join(", ")
        )?;
    }
    let now = format!("with {}", seeds.max(2));
    outln!(
        "\n{}",
        ui::table(
            &["data set", "verdict", "when in truth", "seeds", "probability", &now],
            &rows
        )
    )?;
    let rows: Vec<Vec<String>> = claims
        .iter()
        .map(|(need, o)| {
            let words = need
                .as_ref()
                .map_or_else(|| ["?".to_owned(), "?".to_owned(), "?".to_owned()], words);
            [&[o.claim.clone()][..], &words[..], &[o.why.clone()][..]].concat()
        })
        .collect();
    outln!(
        "\n{}",
        ui::table(&["claim", "seeds", "probability", &now, "remark"], &rows)
    )?;
    outln!(
        "\nSeeds are the least that give a verdict with a probability of {}; where none up to {MOST_SEEDS} does, the noise of the one \
         published run, or of the test images, is what more seeds do not help against.",
        percent(ENOUGH)
    )?;
    outln!(
        "A data set is judged over its backbones with a published value and running authors' code, at the hardest level of Holm's correction \
         over data sets and hypotheses; how its backbones scatter about their mean beyond run noise is not foreseen."
    )?;
    outln!(
        "Assumed: one published run a value; an sd over seeds of {ASSUMED_SD} where none is measured (--sd); of claims, an effect of twice \
         the smallest that matters (the paper's claims.toml), a noise of the test images as for an area of 0.95, half of it shared by two models, and the hardest level of Holm's correction."
    )?;
    Ok(OK)
}

fn lines(n: &SetNoise, seeds: usize, alpha: f64) -> Vec<Line> {
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
            out.push(Line {
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

pub(super) fn percent(p: f64) -> String {
    format!("{:.0} %", 100.0 * p)
}
