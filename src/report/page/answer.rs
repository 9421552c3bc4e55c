//! What the page says first: the answer, data set by data set, under the reading of the published values that fits best.
//!
//! [`Answer`] is all that the template knows. It is filled here from comparisons and the verdicts on whole data sets, and from nothing else.

use crate::eval::chance;
use crate::report::cell_details::{CellDetails, gaps};
use crate::report::cells::Cells;
use crate::report::compare::Comparison;
use crate::report::findings::Findings;
use crate::report::input::{DatasetFacts, ReportInput, regime_title};
use crate::report::paper_level::{PaperLevel, SetVerdict, Shows};
use crate::report::sweep_table;
use crate::report::text::{PLACES, delta, fixed, thousands};
use crate::report::verdict::Verdict;
use crate::study::{Freeze, HeadKind};
use serde::Serialize;

/// The first section of the page.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    /// One or two sentences.
    pub sentences: Vec<String>,
    /// One a data set; empty without published values.
    pub sets: Vec<SetAnswer>,
    /// The best cell of every data set.
    pub best: Vec<Best>,
    /// What is missing, in one line.
    pub missing: Option<String>,
}

/// A data set's published values against ours, as one.
#[derive(Debug, Serialize)]
pub(crate) struct SetAnswer {
    pub title: String,
    pub metric: String,
    /// What the published values are read as: the hypothesis that fits best.
    pub reading: String,
    /// The verdict on all of them together, and its reason.
    pub verdict: &'static str,
    pub why: String,
    /// Published values beside ours.
    pub values: usize,
    /// Mean of ours − published with its sign; a dash where there is none.
    pub difference: String,
    pub interval: String,
    /// Verdicts of the single values, those that were given.
    pub verdicts: Vec<Count>,
}

/// How often a verdict was given.
#[derive(Debug, Serialize)]
pub(crate) struct Count {
    pub verdict: &'static str,
    /// For narrow tables.
    pub letter: &'static str,
    pub n: usize,
}

/// The highest mean of a data set.
#[derive(Debug, Serialize)]
pub(crate) struct Best {
    pub set: String,
    pub metric: String,
    pub cell: String,
    pub score: String,
    pub key: String,
}

/// Verdicts in the order in which they are named.
const ORDER: [&str; 6] = ["Reproduced", "Consistent", "Differs", "Inconclusive", "NotRun", "Shown"];

/// A verdict in a sentence.
fn said(verdict: &str) -> &str {
    match verdict {
        "Reproduced" => "reproduced",
        "Consistent" => "consistent",
        "Differs" => "different",
        "Inconclusive" => "undecided",
        "NotRun" => "not run",
        "Shown" => "shown without a verdict",
        other => other,
    }
}

/// The regime that a data set's published values are read as: that of the hypothesis that fits best, else the one with most results; `None`
/// without published values.
pub(crate) fn reading(dataset: &str, comparisons: &[Comparison], paper: &PaperLevel) -> Option<(Freeze, HeadKind)> {
    let best = paper.best().find(|s| s.dataset == dataset);
    if let Some(Shows::Regime(freeze, head)) = best.map(|s| s.hypothesis.shows) {
        return Some((freeze, head));
    }
    let mut regimes: Vec<_> = comparisons
        .iter()
        .filter(|c| c.dataset == dataset)
        .filter_map(|c| c.regime)
        .collect();
    regimes.sort_unstable();
    regimes.dedup();
    let results = |r: &(Freeze, HeadKind)| {
        let own = comparisons
            .iter()
            .filter(|c| c.dataset == dataset && c.regime == Some(*r));
        own.filter(|c| c.mean.is_some()).count()
    };
    // The first of those with most results.
    regimes.into_iter().rev().max_by_key(results)
}

/// Fills the answer.
pub(crate) fn answer(
    input: &ReportInput,
    cells: &Cells,
    details: &[CellDetails],
    (comparisons, paper, _): Findings,
) -> Answer {
    let read: Vec<(&DatasetFacts, Vec<&Comparison>)> = input
        .datasets
        .iter()
        .map(|d| {
            let own = comparisons.iter().filter(|c| c.dataset == d.name && c.counted);
            (d, own.collect())
        })
        .collect();
    let sets: Vec<SetAnswer> = read
        .iter()
        .filter(|(_, c)| !c.is_empty())
        .map(|(d, c)| {
            set(
                d,
                c,
                reading(&d.name, comparisons, paper),
                paper.best().find(|s| s.dataset == d.name),
            )
        })
        .collect();
    let done = cells.iter().map(|(_, s)| s.n()).sum::<usize>();
    let all: Vec<&Comparison> = read.into_iter().flat_map(|(_, c)| c).collect();
    Answer {
        sentences: match input.demo {
            true => demo(input, cells, done),
            false => sentences(input, &all, paper, done),
        }
        .into_iter()
        .chain(sweep_table::answer(input, cells))
        .collect(),
        sets,
        best: input.datasets.iter().filter_map(|d| best(input, d, details)).collect(),
        missing: missing(input, details, done),
    }
}

fn counts(all: &[&Comparison]) -> Vec<Count> {
    let count = |verdict: &'static str| Count {
        verdict,
        letter: letter(verdict),
        n: all.iter().filter(|c| c.name() == verdict).count(),
    };
    ORDER.into_iter().map(count).filter(|c| c.n > 0).collect()
}

/// A verdict in one letter.
pub(crate) fn letter(verdict: &str) -> &'static str {
    match verdict {
        "Reproduced" => "R",
        "Consistent" => "C",
        "Differs" => "D",
        "Inconclusive" => "I",
        "Shown" => "S",
        _ => "–",
    }
}

/// What may be concluded from a demo, and what not.
fn demo(input: &ReportInput, cells: &Cells, done: usize) -> Vec<String> {
    let mut all = vec![format!(
        "Every station works on this machine: {} of {} planned runs have a result.",
        thousands(done),
        thousands(input.planned.len())
    )];
    let guess = |set: &str| {
        let d = input.datasets.iter().find(|d| d.name == set)?;
        chance(&d.metric, d.classes.len())
    };
    let unfrozen = cells
        .iter()
        .filter(|((_, _, freeze, _), _)| *freeze == Freeze::Unfrozen);
    let above: Vec<bool> = unfrozen
        .filter_map(|((set, ..), score)| Some(score.mean()? > guess(set)?))
        .collect();
    if !above.is_empty() {
        all.push(format!(
            "Models that train learn: {} of {} cells with an unfrozen backbone are above chance, by the mean of their seeds.",
            above.iter().filter(|a| **a).count(),
            above.len()
        ));
    }
    all.push(
        "Nothing else may be concluded: these are small random models on drawn images, and verdicts and claims below are an example of what a study shows."
            .to_owned(),
    );
    all
}

fn sentences(input: &ReportInput, all: &[&Comparison], paper: &PaperLevel, done: usize) -> Vec<String> {
    let runs = format!(
        "{} of {} planned runs have a result",
        thousands(done),
        thousands(input.planned.len())
    );
    if all.is_empty() {
        return vec![
            format!("{runs}."),
            "This study has no published value to compare with; the best of each data set:".to_owned(),
        ];
    }
    let parts: Vec<String> = counts(all)
        .iter()
        .map(|c| format!("{} {} {}", c.n, if c.n == 1 { "is" } else { "are" }, said(c.verdict)))
        .collect();
    let (last, first) = parts.split_last().map_or(("", &[][..]), |(l, f)| (l.as_str(), f));
    let list = match first {
        [] => last.to_owned(),
        first => format!("{} and {last}", first.join(", ")),
    };
    let mut out = paper.sentences.clone();
    if let Some(sentence) = together(paper) {
        out.push(sentence);
    }
    out.push(format!("Of {} published values, each counted once, {list}.", all.len()));
    out
}

/// The verdicts on whole data sets, in a sentence.
fn together(paper: &PaperLevel) -> Option<String> {
    let of = |v: fn(&Verdict) -> bool| paper.best().filter(|s| v(&s.verdict)).count();
    let sets = paper.best().count();
    let parts: Vec<String> = [
        (of(|v| *v == Verdict::Reproduced), "reproduced"),
        (of(|v| *v == Verdict::Consistent), "consistent with one more run"),
        (of(|v| *v == Verdict::Differs), "different from ours"),
        (of(|v| matches!(v, Verdict::Inconclusive(_))), "undecided"),
        (of(|v| matches!(v, Verdict::NotRun(_))), "not run"),
    ]
    .into_iter()
    .filter(|p| p.0 > 0)
    .map(|(n, sentence)| format!("{n} {sentence}"))
    .collect();
    (sets > 0).then(|| format!("Of {sets} data sets, all backbones together: {}.", parts.join(", ")))
}

fn set(
    dataset: &DatasetFacts,
    own: &[&Comparison],
    regime: Option<(Freeze, HeadKind)>,
    together: Option<&SetVerdict>,
) -> SetAnswer {
    let mean = together.and_then(|s| s.mean);
    let interval = together.and_then(|s| s.interval);
    SetAnswer {
        title: dataset.title.clone(),
        metric: dataset.metric_title.clone(),
        reading: match (together, regime) {
            (Some(s), _) => s.hypothesis.title(),
            (None, Some((f, h))) => regime_title(f, h),
            (None, None) => "none".to_owned(),
        },
        verdict: together.map_or("–", |s| s.verdict.name()),
        why: together.map_or_else(String::new, |s| s.verdict.why().to_owned()),
        values: together.map_or(0, |s| s.rows.len()),
        difference: mean.map_or_else(|| "–".to_owned(), delta),
        interval: interval.map_or_else(String::new, |i| format!("{} to {}", delta(i.0), delta(i.1))),
        verdicts: counts(own),
    }
}

fn best(input: &ReportInput, dataset: &DatasetFacts, details: &[CellDetails]) -> Option<Best> {
    let own = details.iter().filter(|c| c.dataset == dataset.name && c.mean.is_some());
    let c = own.max_by(|a, b| a.mean.unwrap_or(f64::NAN).total_cmp(&b.mean.unwrap_or(f64::NAN)))?;
    let sd = c.sd.map_or_else(String::new, |sd| format!(" ± {}", fixed(sd, PLACES)));
    Some(Best {
        set: dataset.title.clone(),
        metric: dataset.metric_title.clone(),
        cell: format!(
            "{}, {}",
            input.backbone_title(c.backbone),
            regime_title(c.freeze, c.head)
        ),
        score: format!("{}{sd}", fixed(c.mean?, PLACES)),
        key: c.key.clone(),
    })
}

fn missing(input: &ReportInput, details: &[CellDetails], done: usize) -> Option<String> {
    let runs = input.planned.len().saturating_sub(done);
    let cells = details.iter().filter(|d| d.n < d.planned).count();
    let first = gaps(details.iter()).into_iter().next()?;
    let reason = match first.runs == runs {
        true => first.reason,
        false => format!("{} of them: {}", thousands(first.runs), first.reason),
    };
    Some(format!(
        "Missing: {} runs of {} cells ({reason}).",
        thousands(runs),
        thousands(cells)
    ))
}
