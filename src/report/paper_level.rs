//! Is the paper reproduced? All published values of a data set together, under each hypothesis about what they are of.
//!
//! The figure does not say which regime it shows, nor which weights were tested. So each regime is a hypothesis, and "the best of
//! all regimes, backbone by backbone" is one, each with the best and with the last weights. A hypothesis gets one verdict a data set
//! ([`crate::eval::together`]); the tests are corrected by Holm over all hypotheses and data sets. The hypothesis whose values lie
//! nearest is named, and how clearly: whether the others fit worse than chance explains. A source that states the regime gets that
//! regime alone.

use super::cells::{Cells, Score};
use super::input::{PublishedPoint, ReportInput, regime_title};
use super::text::p_text;
use super::verdict::Verdict;
use crate::eval::{Point, Together, holm, kendall_permutation, paired_t, reproduction, together};
use crate::study::{Freeze, HeadKind};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Which of our values the published ones are held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shows {
    Regime(Freeze, HeadKind),
    /// For every backbone the highest of its regimes, seed by seed: what a table of best results would show.
    BestOfAll,
}

/// Which weights were tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TestedWeights {
    /// Those whose score counts in this study.
    Headline,
    Best,
    Last,
}

impl TestedWeights {
    /// A cell's values under these weights; empty where they are not known.
    fn of(self, score: &Score) -> &[f64] {
        match self {
            Self::Headline => &score.values,
            Self::Best => &score.best,
            Self::Last => &score.last,
        }
    }
}

/// What the published values may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hypothesis {
    pub shows: Shows,
    pub weights: TestedWeights,
}

impl Hypothesis {
    /// As printed.
    pub fn title(self) -> String {
        let shows = match self.shows {
            Shows::Regime(f, h) => regime_title(f, h),
            Shows::BestOfAll => "the best regime of each backbone".to_owned(),
        };
        match self.weights {
            TestedWeights::Headline => shows,
            TestedWeights::Best => format!("{shows}, best weights"),
            TestedWeights::Last => format!("{shows}, last weights"),
        }
    }
}

/// One backbone under one hypothesis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub backbone: String,
    pub published: f64,
    pub values: Vec<f64>,
    pub difference: f64,
    /// Of the difference, by run noise.
    pub standard_error: f64,
    /// Whether the published value lies in the prediction interval of one more run.
    pub inside: bool,
}

/// One hypothesis on one data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetVerdict {
    pub dataset: String,
    pub hypothesis: Hypothesis,
    /// The regime as far as the source states it.
    pub stated: (Option<Freeze>, Option<HeadKind>),
    pub margin: f64,
    pub rows: Vec<Row>,
    /// Published values that get a verdict but whose backbone this study does not plan so.
    pub not_planned: usize,
    /// Backbones with a planned run that has no value, and why.
    pub incomplete: Vec<(String, String)>,
    pub mean: Option<f64>,
    /// Between backbones.
    pub sd: Option<f64>,
    /// Of level 1 − 2α for the mean difference.
    pub interval: Option<(f64, f64)>,
    pub rmse: Option<f64>,
    /// Root mean square that run noise alone would give.
    pub noise: Option<f64>,
    pub ratio: Option<f64>,
    pub ratio_interval: Option<(f64, f64)>,
    /// Kendall's tau-b of the order of the backbones, and its permutation p (one-sided: as good an order by chance).
    pub tau: Option<f64>,
    pub tau_p: Option<f64>,
    /// Values inside their prediction interval.
    pub inside: usize,
    pub p_same: Option<f64>,
    pub p_differs: Option<f64>,
    /// Corrected over all data sets and the hypotheses that were not ruled out.
    pub p_same_holm: Option<f64>,
    /// Corrected over all data sets and hypotheses.
    pub p_differs_holm: Option<f64>,
    /// Whether this is the hypothesis that fits best.
    pub best: bool,
    /// Whether it fits no worse than the best one beyond chance.
    pub in_play: bool,
    pub verdict: Verdict,
}

/// How the hypotheses compare over all data sets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    pub hypothesis: Hypothesis,
    pub stated: (Option<Freeze>, Option<HeadKind>),
    /// Values that every hypothesis has.
    pub values: usize,
    /// Root of the mean squared difference, in margins.
    pub misfit: f64,
    /// Of "it fits as well as the best one", corrected over the others (Holm); `None` for the best.
    pub p: Option<f64>,
}

/// All that is said of the paper as a whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PaperLevel {
    pub sets: Vec<SetVerdict>,
    /// By group of stated regimes, the best first.
    pub ranking: Vec<Ranked>,
    /// Which hypothesis fits best and how clearly, in words; a sentence a group of stated regimes.
    pub sentences: Vec<String>,
}

impl PaperLevel {
    /// Whether a data set differs under the best hypothesis.
    pub fn differs(&self) -> bool {
        self.best().any(|s| s.verdict == Verdict::Differs)
    }

    /// The verdicts under the best hypothesis, a data set each.
    pub fn best(&self) -> impl Iterator<Item = &SetVerdict> {
        self.sets.iter().filter(|s| s.best)
    }

    /// The hypothesis that a published value counts under.
    pub(super) fn best_for(&self, p: &PublishedPoint) -> Option<Hypothesis> {
        let best = self.ranking.iter().find(|r| r.stated == (p.freeze, p.head))?;
        Some(best.hypothesis)
    }
}

type Stated = (Option<Freeze>, Option<HeadKind>);

/// Judges every data set under every hypothesis.
pub fn judge(input: &ReportInput, cells: &Cells) -> PaperLevel {
    let mut groups = BTreeMap::<Stated, Vec<&PublishedPoint>>::new();
    for p in &input.published {
        let facts = input.dataset(&p.dataset);
        if p.no_verdict.is_none() && facts.is_some_and(|d| d.metric == p.metric && d.margin.is_some()) {
            groups.entry((p.freeze, p.head)).or_default().push(p);
        }
    }
    let mut out = PaperLevel::default();
    for (stated, points) in groups {
        let group = Group { input, cells, points };
        let found = group.hypotheses(stated);
        let ranking = group.rank(stated, &found);
        out.sentences.extend(sentence(&ranking, input.alpha));
        for (h, sets) in &found {
            let at = ranking.iter().position(|r| r.hypothesis == *h);
            for (dataset, rows) in sets {
                out.sets.push(SetVerdict {
                    best: at == Some(0),
                    in_play: at.is_none_or(|i| ranking[i].p.is_none_or(|p| p >= input.alpha)),
                    ..group.measure(dataset, *h, stated, rows)
                });
            }
        }
        out.ranking.extend(ranking);
    }
    let place = |d: &str| input.datasets.iter().position(|x| x.name == d);
    out.sets.sort_by_key(|s| (place(&s.dataset), s.stated, s.hypothesis));
    decide(&mut out.sets, input.alpha);
    out
}

/// Which hypothesis fits best and how clearly.
fn sentence(ranking: &[Ranked], alpha: f64) -> Option<String> {
    let [best, others @ ..] = ranking else { return None };
    let name = best.hypothesis.title();
    if others.is_empty() {
        return Some(match best.stated {
            (Some(_), Some(_)) => format!("The source states the regime: {name}."),
            _ => format!("{name} is the only hypothesis that this study can hold the values against."),
        });
    }
    let close: Vec<String> = others
        .iter()
        .filter(|o| o.p.is_none_or(|p| p >= alpha))
        .map(|o| o.hypothesis.title())
        .collect();
    let values = best.values;
    Some(if close.is_empty() {
        let p = others.iter().filter_map(|o| o.p).fold(0.0, f64::max);
        let p = p_text(p);
        format!(
            "The published values fit \"{name}\" best, and every other hypothesis fits worse beyond chance (p at most {p} over {values} values, Holm)."
        )
    } else {
        format!(
            "None can be told: \"{name}\" fits best over {values} values, but not beyond chance better than {}.",
            close.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", ")
        )
    })
}

/// One published value under one hypothesis.
pub(super) enum Found {
    /// Our values, one a seed.
    Values(Vec<f64>),
    Incomplete(String),
    NotPlanned,
}

/// What a hypothesis finds on one data set, value by value.
type Rows<'a> = Vec<(&'a PublishedPoint, Found)>;
/// The rows of every data set.
type SetRows<'a> = Vec<(String, Rows<'a>)>;
/// (data set, backbone) → misfit.
type Misfits<'a> = BTreeMap<(&'a str, &'a str), f64>;

/// Our values that a hypothesis holds a published one against.
pub(super) fn find(cells: &Cells, p: &PublishedPoint, h: Hypothesis) -> Found {
    let get = |(f, head)| cells.get(&p.dataset, &p.backbone, f, head);
    let regimes = match h.shows {
        Shows::Regime(f, head) => vec![(f, head)],
        Shows::BestOfAll => cells.regimes_of(p),
    };
    let scores: Option<Vec<&Score>> = regimes.into_iter().map(get).collect();
    let Some(scores) = scores.filter(|s| !s.is_empty()) else {
        return Found::NotPlanned;
    };
    if let Some(why) = scores.iter().find_map(|s| s.incomplete()) {
        return Found::Incomplete(why);
    }
    let n = scores[0].n();
    if scores.iter().any(|s| s.seeds != scores[0].seeds) {
        return Found::Incomplete("its regimes were run with other seeds".to_owned());
    }
    if scores.iter().any(|s| h.weights.of(s).len() != n) {
        return Found::Incomplete("the score under these weights is not known for every run".to_owned());
    }
    let highest = |i: usize| {
        scores
            .iter()
            .map(|s| h.weights.of(s)[i])
            .fold(f64::NEG_INFINITY, f64::max)
    };
    Found::Values((0..n).map(highest).collect())
}

struct Group<'a> {
    input: &'a ReportInput,
    cells: &'a Cells,
    points: Vec<&'a PublishedPoint>,
}

impl<'a> Group<'a> {
    /// Every hypothesis with what it finds on each data set. Weights are told apart only where the source does not state
    /// the regime and some run tells them apart.
    fn hypotheses(&self, stated: Stated) -> Vec<(Hypothesis, SetRows<'a>)> {
        let mut regimes: Vec<(Freeze, HeadKind)> = self.points.iter().flat_map(|p| self.cells.regimes_of(p)).collect();
        regimes.sort_unstable();
        regimes.dedup();
        let mut shows: Vec<Shows> = regimes.iter().map(|&(f, h)| Shows::Regime(f, h)).collect();
        if regimes.len() > 1 {
            shows.push(Shows::BestOfAll);
        }
        let told = |s: &Score| !s.best.is_empty() && !s.last.is_empty() && s.best != s.last;
        let told = self.cells.iter().any(|(_, s)| told(s));
        let weights = match stated {
            (None, _) | (_, None) if told => &[TestedWeights::Best, TestedWeights::Last][..],
            _ => &[TestedWeights::Headline],
        };
        let mut out = Vec::new();
        for shows in shows {
            for &weights in weights {
                let h = Hypothesis { shows, weights };
                let mut sets = Vec::new();
                for d in &self.input.datasets {
                    let of = self.points.iter().filter(|p| p.dataset == d.name);
                    let rows: Rows = of.map(|&p| (p, find(self.cells, p, h))).collect();
                    if rows.iter().any(|r| !matches!(r.1, Found::NotPlanned)) {
                        sets.push((d.name.clone(), rows));
                    }
                }
                out.push((h, sets));
            }
        }
        out
    }

    fn margin(&self, dataset: &str) -> f64 {
        self.input.dataset(dataset).and_then(|d| d.margin).unwrap_or(f64::NAN)
    }

    /// The hypotheses by how near their values lie to the published ones, over the values that all of them have.
    ///
    /// The misfit of a value is its squared difference in margins, what the reading explains taken off. Two hypotheses are told
    /// apart by a paired t test of their misfits (the test of Vuong, 1989, for models without free parameters).
    fn rank(&self, stated: Stated, found: &[(Hypothesis, SetRows<'a>)]) -> Vec<Ranked> {
        let misfits: Vec<(Hypothesis, Misfits<'_>)> = found
            .iter()
            .map(|(h, sets)| {
                let of = sets
                    .iter()
                    .flat_map(|(d, rows)| rows.iter().map(move |r| (d.as_str(), r)));
                let known = of.filter_map(|(d, (p, f))| match f {
                    Found::Values(v) => {
                        let mean = v.iter().sum::<f64>() / v.len() as f64;
                        let beyond = ((mean - p.value).abs() - p.reading()).max(0.0) / self.margin(d);
                        Some(((d, p.backbone.as_str()), beyond * beyond))
                    }
                    _ => None,
                });
                (*h, known.collect())
            })
            .filter(|(_, m): &(Hypothesis, BTreeMap<_, f64>)| !m.is_empty())
            .collect();
        let Some(first) = misfits.first() else {
            return Vec::new();
        };
        let common: BTreeSet<(&str, &str)> = first
            .1
            .keys()
            .filter(|k| misfits.iter().all(|m| m.1.contains_key(*k)))
            .copied()
            .collect();
        if common.is_empty() {
            return Vec::new();
        }
        let mut lists: Vec<(Hypothesis, Vec<f64>)> = misfits
            .into_iter()
            .map(|(h, m)| (h, common.iter().map(|k| m[k]).collect()))
            .collect();
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        lists.sort_by(|a, b| mean(&a.1).total_cmp(&mean(&b.1)).then(a.0.cmp(&b.0)));
        // One-sided: the best is the best by construction, so twice that is honest about having looked.
        let p: Vec<f64> = lists[1..]
            .iter()
            .map(|(_, v)| paired_t(v, &lists[0].1, 0.95).map_or(1.0, |t| t.p))
            .collect();
        let adjusted = holm(&p).unwrap_or_default();
        lists
            .iter()
            .enumerate()
            .map(|(i, (hypothesis, v))| Ranked {
                hypothesis: *hypothesis,
                stated,
                values: common.len(),
                misfit: mean(v).sqrt(),
                p: i.checked_sub(1).map(|i| adjusted[i]),
            })
            .collect()
    }

    /// The numbers of one hypothesis on one data set; the verdict where none is left to the tests.
    fn measure(&self, dataset: &str, hypothesis: Hypothesis, stated: Stated, found: &Rows) -> SetVerdict {
        let (margin, alpha) = (self.margin(dataset), self.input.alpha);
        let (mut rows, mut points, mut missing, mut not_planned) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (p, f) in found {
            let title = || self.input.backbone_title(&p.backbone).to_owned();
            match f {
                Found::NotPlanned => not_planned += 1,
                Found::Incomplete(why) => missing.push((title(), why.clone())),
                Found::Values(values) => match reproduction(values, &p.run(), margin, alpha) {
                    Err(e) => missing.push((title(), e.to_string())),
                    Ok(r) => {
                        points.push(Point {
                            difference: r.difference,
                            variance: r.standard_error * r.standard_error,
                            df: r.df,
                            reading: r.reading,
                        });
                        rows.push(Row {
                            backbone: p.backbone.clone(),
                            published: p.value,
                            values: values.clone(),
                            difference: r.difference,
                            standard_error: r.standard_error,
                            inside: r.predicted(),
                        });
                    }
                },
            }
        }
        let test: Option<Together> = together(&points, margin, alpha).ok();
        let ours: Vec<f64> = rows.iter().map(|r| r.published + r.difference).collect();
        let theirs: Vec<f64> = rows.iter().map(|r| r.published).collect();
        let order = kendall_permutation(&theirs, &ours).ok();
        let verdict = match (missing.as_slice(), rows.len()) {
            ([(_, why), ..], 0) => Verdict::NotRun(why.clone()),
            ([first, ..], n) => Verdict::Inconclusive(format!(
                "{} of {} backbones are not complete ({}: {})",
                missing.len(),
                missing.len() + n,
                first.0,
                first.1
            )),
            ([], 0 | 1) => Verdict::Inconclusive("one backbone: no scatter between backbones to test with".to_owned()),
            ([], _) => Verdict::Consistent,
        };
        SetVerdict {
            dataset: dataset.to_owned(),
            hypothesis,
            stated,
            margin,
            not_planned,
            incomplete: missing,
            mean: test.as_ref().map(|t| t.mean),
            sd: test.as_ref().map(|t| t.sd),
            interval: test.as_ref().map(|t| (t.interval.low, t.interval.high)),
            rmse: test.as_ref().map(|t| t.rmse),
            noise: test.as_ref().map(|t| t.noise),
            ratio: test.as_ref().map(|t| t.ratio).filter(|r| r.is_finite()),
            ratio_interval: test
                .as_ref()
                .map(|t| (t.ratio_interval.low, t.ratio_interval.high))
                .filter(|r| r.1.is_finite()),
            tau: order.map(|o| o.tau),
            tau_p: order.map(|o| o.p_greater),
            inside: rows.iter().filter(|r| r.inside).count(),
            p_same: test.as_ref().map(|t| t.p_same),
            p_differs: test.as_ref().map(|t| t.p_differs),
            p_same_holm: None,
            p_differs_holm: None,
            best: false,
            in_play: false,
            verdict: match (&verdict, &test) {
                (Verdict::Consistent, Some(t)) => undecided(t, margin, rows.len()),
                _ => verdict,
            },
            rows,
        }
    }
}

/// What is said where neither test rejects.
fn undecided(t: &Together, margin: f64, n: usize) -> Verdict {
    use super::text::fixed;
    let likely = t.wide.low <= 0.0 && t.wide.high >= 0.0;
    if likely && t.ratio_interval.low <= 1.0 {
        return Verdict::Consistent;
    }
    Verdict::Inconclusive(if t.excess > margin {
        format!(
            "beyond run noise the backbones lie {} from the published values (root mean square), more than the margin",
            fixed(t.excess, 4)
        )
    } else if likely {
        format!(
            "the differences scatter {} times as far as run noise, but within the margin",
            fixed(t.ratio, 1)
        )
    } else {
        let half = fixed((t.interval.high - t.interval.low) / 2.0, 4);
        format!("the mean difference over {n} backbones is known to ± {half} only, which crosses the margin")
    })
}

/// Corrects the tests over their families and gives the verdicts that they decide.
fn decide(sets: &mut [SetVerdict], alpha: f64) {
    let decidable = |s: &SetVerdict| s.incomplete.is_empty() && s.rows.len() >= 2;
    // What cannot be decided today stays in the family: it may not make the correction of the others milder.
    let correct = |of: &dyn Fn(&SetVerdict) -> Option<f64>, sets: &[SetVerdict]| -> Vec<f64> {
        let p: Vec<f64> = sets
            .iter()
            .map(|s| of(s).filter(|_| decidable(s)).unwrap_or(1.0))
            .collect();
        holm(&p).unwrap_or_else(|_| vec![1.0; p.len()])
    };
    let differs = correct(&|s| s.p_differs, sets);
    let playing: Vec<usize> = (0..sets.len()).filter(|&i| sets[i].in_play).collect();
    let family: Vec<SetVerdict> = playing.iter().map(|&i| sets[i].clone()).collect();
    let same = correct(&|s| s.p_same, &family);
    for (s, p) in sets.iter_mut().zip(differs) {
        if decidable(s) {
            s.p_differs_holm = Some(p);
            if p < alpha {
                s.verdict = Verdict::Differs;
            }
        }
    }
    for (i, p) in playing.into_iter().zip(same) {
        let s = &mut sets[i];
        if decidable(s) {
            s.p_same_holm = Some(p);
            let excess = s
                .rmse
                .zip(s.noise)
                .map_or(f64::INFINITY, |(r, n)| (r * r - n * n).max(0.0).sqrt());
            if p < alpha && excess <= s.margin {
                s.verdict = Verdict::Reproduced;
            }
        }
    }
}
