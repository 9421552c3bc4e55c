//! Whole studies drawn from known truths, judged by the real code: what `benches/verdicts.rs` counts by the thousand and
//! `tests/verdicts.rs` by the hundred.
//!
//! Four data sets with the margins of `experiments/papers/paper2025/tolerance.toml`, eleven backbones with code, four regimes of which the published
//! figure shows one. A run is its truth plus normal noise; a published value is one run, rounded to three decimals.

use medft::eval::{Components, Delong, Resamples, Statistic, multiclass_statistic, percentile};
use medft::report::cells::Key;
use medft::report::sampled::Sampled;
use medft::report::{
    Archive, BackboneFacts, Cells, ClaimVerdict, Comparison, DatasetFacts, Judged, PaperLevel, ProtocolNote,
    PublishedPoint, ReportInput, Score, Verdict, claims, compare, paper_level,
};
use medft::results::{Evidence, Evidences, frame};
use medft::rng::{Purpose, Stream};
use medft::study::{Claims, Freeze, HeadKind};
use std::collections::BTreeMap;

pub(crate) mod patients;
pub(crate) mod sizes;

const SETS: [(&str, f64); 4] = [
    ("ddsm", 0.005),
    ("chexpert", 0.005),
    ("isic2019", 0.01),
    ("aptos2019", 0.01),
];
const BACKBONES: [(&str, &str); 11] = [
    ("aimv2-l", "AIMv2"),
    ("aimv2-h", "AIMv2"),
    ("dinov2-b", "DINOv2"),
    ("dinov2-l", "DINOv2"),
    ("sam2-b", "SAM2"),
    ("sam2-l", "SAM2"),
    ("mae-b", "MAE"),
    ("mae-l", "MAE"),
    ("mae-h", "MAE"),
    ("coca-b", "CoCa"),
    ("coca-l", "CoCa"),
];
pub(crate) const REGIMES: [(Freeze, HeadKind); 4] = [
    (Freeze::Frozen, HeadKind::Linear),
    (Freeze::Frozen, HeadKind::Mha),
    (Freeze::Unfrozen, HeadKind::Linear),
    (Freeze::Unfrozen, HeadKind::Mha),
];
/// The regime that the figure shows.
const SHOWN: usize = 1;

/// What a study is drawn from.
#[derive(Clone, Copy)]
pub(crate) struct Truth {
    /// Standard deviation between runs.
    pub sd: f64,
    pub seeds: usize,
    /// Ours − the authors', in margins, the same for every backbone.
    pub bias: f64,
    /// Whether regimes differ (by 0.05 each, farther than any bias, and by backbone); else the hypotheses cannot be told apart.
    pub regimes_differ: bool,
}

fn input(sets: &[(&str, f64)], backbones: &[(&str, &str)]) -> ReportInput {
    ReportInput {
        study: "simulated".into(),
        title: String::new(),
        description: String::new(),
        expected: String::new(),
        demo: false,
        protocol: ProtocolNote::default(),
        datasets: sets
            .iter()
            .map(|(name, margin)| DatasetFacts {
                name: (*name).into(),
                title: (*name).into(),
                set: (*name).into(),
                plain_title: (*name).into(),
                split: "authors".into(),
                train_fraction: 1.0,
                metric: "m".into(),
                metric_title: "m".into(),
                classes: Vec::new(),
                margin: Some(*margin),
                margin_reason: String::new(),
            })
            .collect(),
        backbones: backbones
            .iter()
            .map(|(name, family)| BackboneFacts {
                name: (*name).into(),
                title: (*name).into(),
                family: (*family).into(),
                params: None,
            })
            .collect(),
        planned: Vec::new(),
        runs: frame(&[]).unwrap(),
        evidence: Evidences::default(),
        published: Vec::new(),
        context: Vec::new(),
        sources: Vec::new(),
        caveats: Vec::new(),
        without_code: Vec::new(),
        alpha: 0.05,
        archive: Archive::default(),
        claims: None,
        sweep: None,
        only: Vec::new(),
        templates: None,
    }
}

fn rounded(v: f64) -> f64 {
    (v * 1000.0).round() / 1000.0
}

/// A study as it would be read, and what the code makes of it.
pub(crate) struct Drawn {
    /// The published values before they were rounded, in the order of the comparisons.
    pub exact: Vec<f64>,
    pub comparisons: Vec<Comparison>,
    pub paper: PaperLevel,
}

/// Study number `index` of a truth.
pub(crate) fn study(truth: Truth, index: u32) -> Drawn {
    let mut rng = Stream::new(
        20_250_519,
        Purpose::Test,
        truth.seeds as u32 * 1000 + (truth.sd * 1e5) as u32,
        index,
    );
    let mut report = input(&SETS, &BACKBONES);
    let mut cells = BTreeMap::<Key, Score>::new();
    let mut exact = Vec::new();
    for (d, margin) in SETS {
        for (b, _) in BACKBONES {
            let centre = 0.88 + 0.02 * rng.normal();
            for (k, (freeze, head)) in REGIMES.into_iter().enumerate() {
                let apart = if truth.regimes_differ {
                    0.05 * (k as f64 - SHOWN as f64) + if k == SHOWN { 0.0 } else { 0.004 * rng.normal() }
                } else {
                    0.0
                };
                let theirs = centre + apart;
                let ours = theirs + truth.bias * margin;
                let values: Vec<f64> = (0..truth.seeds).map(|_| ours + truth.sd * rng.normal()).collect();
                let seeds = (0..truth.seeds as u64).collect();
                cells.insert(
                    (d.into(), b.into(), freeze, head),
                    Score::derived(truth.seeds, values, seeds),
                );
                if k == SHOWN {
                    let value = theirs + truth.sd * rng.normal();
                    exact.push(value);
                    report.published.push(PublishedPoint {
                        dataset: d.into(),
                        backbone: b.into(),
                        freeze: None,
                        head: None,
                        metric: "m".into(),
                        params_millions: None,
                        value: rounded(value),
                        uncertainty: 0.0,
                        shared_offset: 0.0,
                        rounding: 0.0005,
                        runs: None,
                        sd: None,
                        no_verdict: None,
                        note: None,
                    });
                }
            }
        }
    }
    let cells = Cells::of(cells);
    let paper = paper_level::judge(&report, &cells);
    Drawn {
        exact,
        comparisons: compare::compare(&report, &cells, &paper),
        paper,
    }
}

/// Shares over many studies.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Rates {
    pub studies: f64,
    /// Of values, in the regime that the figure shows.
    pub value: [f64; 4],
    /// Of values whose published counterpart lies in the prediction interval, as printed and as it was before it was rounded (the interval then
    /// without what is added for the rounding).
    pub predicted: f64,
    pub predicted_exactly: f64,
    /// Of data sets, under the best hypothesis: Reproduced, Consistent, Differs, Inconclusive.
    pub set: [f64; 4],
    /// Of studies with any data set Reproduced, and with any that Differs, under the best hypothesis.
    pub any_reproduced: f64,
    pub any_differs: f64,
    /// Of studies whose best hypothesis is the true one, and of those where it is named without a doubt although it is not.
    pub found: f64,
    pub misnamed: f64,
    /// Of intervals that a further source of uncertainty made narrower.
    pub narrowed: f64,
}

fn place(v: &Verdict) -> usize {
    match v {
        Verdict::Reproduced => 0,
        Verdict::Consistent => 1,
        Verdict::Differs => 2,
        Verdict::Inconclusive(_) | Verdict::NotRun(_) => 3,
    }
}

/// Draws and counts `studies` studies.
pub(crate) fn rates(truth: Truth, studies: u32) -> Rates {
    let mut r = Rates::default();
    for index in 0..studies {
        let drawn = study(truth, index);
        let shown: Vec<&Comparison> = drawn
            .comparisons
            .iter()
            .filter(|c| c.regime == Some(REGIMES[SHOWN]))
            .collect();
        let each = 1.0 / shown.len() as f64;
        for (c, exact) in shown.iter().zip(&drawn.exact) {
            r.value[place(c.verdict.as_ref().unwrap())] += each;
            let (low, high) = c.prediction.unwrap();
            r.predicted += if low <= 0.0 && high >= 0.0 { each } else { 0.0 };
            let half = (high - low) / 2.0 - c.uncertainty;
            r.predicted_exactly += if (c.mean.unwrap() - exact).abs() <= half {
                each
            } else {
                0.0
            };
            let widths = [c.interval, c.interval_runs, c.interval_ours].map(|i| i.unwrap().1 - i.unwrap().0);
            r.narrowed += if widths[0] < widths[1] || widths[1] < widths[2] {
                each
            } else {
                0.0
            };
        }
        let best: Vec<_> = drawn.paper.best().collect();
        for s in &best {
            r.set[place(&s.verdict)] += 1.0 / best.len() as f64;
        }
        let any = |word: &Verdict| f64::from(u8::from(best.iter().any(|s| s.verdict == *word)));
        r.any_reproduced += any(&Verdict::Reproduced);
        r.any_differs += any(&Verdict::Differs);
        let right =
            drawn.paper.ranking[0].hypothesis.shows == paper_level::Shows::Regime(REGIMES[SHOWN].0, REGIMES[SHOWN].1);
        r.found += f64::from(u8::from(right));
        let certain = !drawn.paper.sentences[0].starts_with("None can be told");
        r.misnamed += f64::from(u8::from(certain && !right));
    }
    r.studies = f64::from(studies);
    let n = r.studies;
    for x in r.value.iter_mut().chain(&mut r.set) {
        *x /= n;
    }
    for x in [
        &mut r.predicted,
        &mut r.predicted_exactly,
        &mut r.any_reproduced,
        &mut r.any_differs,
        &mut r.found,
        &mut r.misnamed,
        &mut r.narrowed,
    ] {
        *x /= n;
    }
    r
}

/// What claims are drawn from: the same score everywhere, but for the head and the families.
#[derive(Clone, Copy)]
pub(crate) struct ClaimTruth {
    pub sd: f64,
    /// The unfrozen runs' standard deviation over the frozen ones'.
    pub unequal: f64,
    /// How many times as noisy one single frozen MHA cell is, as one whose runs diverge.
    pub exploded: f64,
    pub seeds: usize,
    /// Standard error over test images, and the correlation between cells there.
    pub images: f64,
    pub correlation: f64,
    /// True gain of MHA on frozen backbones, in smallest effects that matter.
    pub mha: f64,
}

/// Shares of claims by verdict.
#[derive(Debug, Default, Clone)]
pub(crate) struct ClaimRates {
    /// Claim → Supported, Refuted as the other way round, Refuted as too small.
    pub by_claim: BTreeMap<String, [f64; 3]>,
    /// Of studies with any claim Supported or Refuted as the other way round, though nothing differs.
    pub any: f64,
}

const FAMILIES: [(&str, &str); 7] = [
    ("clip-b", "CLIP"),
    ("mae-b", "MAE"),
    ("coca-b", "CoCa"),
    ("dinov2-b", "DINOv2"),
    ("vmamba-b", "VMamba"),
    ("sam2-b", "SAM2"),
    ("aimv2-l", "AIMv2"),
];

/// The claims of the project with these ids.
fn asked(ids: &[&str]) -> Claims {
    let mut all = Claims::parse(
        "claims.toml",
        include_str!("../../../experiments/papers/paper2025/claims.toml"),
    )
    .unwrap();
    all.claims.retain(|c| ids.contains(&c.id.as_str()));
    assert_eq!(all.claims.len(), ids.len());
    all
}

/// Judges `studies` studies and counts the verdicts.
fn count(studies: u32, study: impl Fn(u32) -> Vec<Judged>) -> ClaimRates {
    let mut rates = ClaimRates::default();
    for index in 0..studies {
        let mut any = false;
        for j in &study(index) {
            let counts = rates.by_claim.entry(j.claim.id.clone()).or_default();
            let at = match &j.verdict {
                ClaimVerdict::Supported => Some(0),
                ClaimVerdict::Refuted(why) if why.contains("other way") => Some(1),
                ClaimVerdict::Refuted(_) => Some(2),
                ClaimVerdict::Undetermined(_) => None,
            };
            if let Some(at) = at {
                counts[at] += 1.0 / f64::from(studies);
                any |= at < 2;
            }
        }
        rates.any += f64::from(u8::from(any)) / f64::from(studies);
    }
    rates
}

/// A cell of these values whose replicates lie about their mean as `deviations` say.
fn drawn_score(images: &str, values: Vec<f64>, deviations: &[f64]) -> Score {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let mut evidence = Evidences::default();
    let runs: Vec<String> = (0..values.len()).map(|s| s.to_string()).collect();
    for id in &runs {
        let found = Evidence {
            images: images.into(),
            count: 1000,
            groups: None,
            replicates: deviations.iter().map(|e| mean + e).collect(),
            components: None,
        };
        evidence.insert(id.clone(), found);
    }
    let sampled = Sampled::of(&evidence, &runs, &values);
    let mut score = Score::derived(values.len(), values, (0..runs.len() as u64).collect());
    score.sampled = sampled;
    score
}

/// Draws `studies` studies of two data sets and seven families and judges the claims that they can be asked.
pub(crate) fn claim_rates(truth: ClaimTruth, studies: u32) -> ClaimRates {
    let claims = asked(&[
        "families-mean",
        "families-top",
        "mha-frozen",
        "mha-frozen-more",
        "fine-tuning-every",
        "progress",
    ]);
    count(studies, |index| claim_study(truth, &claims, index))
}

fn claim_study(truth: ClaimTruth, claims: &Claims, index: u32) -> Vec<Judged> {
    const REPLICATES: usize = 200;
    let sets = [SETS[0], SETS[3]];
    let mut rng = Stream::new(
        711,
        Purpose::Test,
        truth.seeds as u32 * 100 + (truth.unequal * 10.0) as u32 + (truth.exploded as u32 - 1) * 10_000,
        index,
    );
    let report = ReportInput {
        claims: Some(claims.clone()),
        ..input(&sets, &FAMILIES)
    };
    let mut cells = BTreeMap::<Key, Score>::new();
    let (own, shared) = ((1.0 - truth.correlation).sqrt(), truth.correlation.sqrt());
    for (d, _) in sets {
        // One deviation of the set that every cell shares, and the same in every replicate.
        let common: Vec<f64> = (0..=REPLICATES).map(|_| rng.normal()).collect();
        for (b, _) in FAMILIES {
            for (freeze, head) in REGIMES {
                let deviation: Vec<f64> = common
                    .iter()
                    .map(|c| truth.images * (shared * c + own * rng.normal()))
                    .collect();
                let gain = if (freeze, head) == (Freeze::Frozen, HeadKind::Mha) {
                    0.005 * truth.mha
                } else {
                    0.0
                };
                let sd = if freeze == Freeze::Unfrozen {
                    truth.sd * truth.unequal
                } else {
                    truth.sd
                };
                let alone = (d, b, freeze, head) == (sets[0].0, FAMILIES[0].0, Freeze::Frozen, HeadKind::Mha);
                let sd = sd * if alone { truth.exploded } else { 1.0 };
                let values: Vec<f64> = (0..truth.seeds)
                    .map(|_| 0.88 + gain + deviation[0] + sd * rng.normal())
                    .collect();
                let score = drawn_score(d, values, &deviation[1..]);
                cells.insert((d.into(), b.into(), freeze, head), score);
            }
        }
    }
    claims::judge(claims, &report, &Cells::of(cells))
}

/// Coverage of 95 % intervals of an area under the ROC curve over patients.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Coverage {
    /// Percentile interval over resampled patients.
    pub bootstrap: f64,
    /// Obuchowski's normal interval.
    pub clustered: f64,
    /// Percentile interval over resampled images, which takes them for independent.
    pub images: f64,
}

/// `patients` patients of four images each, half of the patients positive, scores with this correlation within a patient.
pub(crate) fn coverage(patients: usize, correlation: f64, studies: u32) -> Coverage {
    const EACH: usize = 4;
    const REPLICATES: usize = 400;
    let shift = 1.2;
    // P(positive scores above negative) of two normals 1.2 apart: Φ(1.2/√2).
    let area = 1.0 - medft::eval::normal_two_sided(shift / 2f64.sqrt()) / 2.0;
    let n = patients * EACH;
    let groups: Vec<u32> = (0..n).map(|i| (i / EACH) as u32).collect();
    let truth: Vec<u32> = groups.iter().map(|g| g % 2).collect();
    let positive: Vec<bool> = truth.iter().map(|t| *t == 1).collect();
    let mut out = Coverage::default();
    for index in 0..studies {
        let mut rng = Stream::new(1997, Purpose::Test, (correlation * 10.0) as u32, index);
        let shared: Vec<f64> = (0..patients).map(|_| rng.normal()).collect();
        let scores: Vec<f64> = (0..n)
            .map(|i| {
                let noise = correlation.sqrt() * shared[i / EACH] + (1.0 - correlation).sqrt() * rng.normal();
                noise + if positive[i] { shift } else { 0.0 }
            })
            .collect();
        // The metric takes probabilities of two classes: a monotone function of the score.
        let probs: Vec<f64> = scores
            .iter()
            .flat_map(|s| {
                let p = 1.0 / (1.0 + (-s).exp());
                [1.0 - p, p]
            })
            .collect();
        let statistic: Box<dyn Statistic> = multiclass_statistic("roc_auc", &probs, 2, &truth, false).unwrap();
        let stream = |r| {
            let mut s = Stream::new(u64::from(index), Purpose::Bootstrap, 9, r);
            move || s.next_u64()
        };
        let holds = |r: Resamples| {
            let i = percentile(&r.evaluate(&*statistic).unwrap(), 0.95).unwrap().interval;
            f64::from(u8::from(i.low <= area && area <= i.high)) / f64::from(studies)
        };
        out.bootstrap += holds(Resamples::draw_groups(&groups, REPLICATES, stream).unwrap());
        out.images += holds(Resamples::draw(n, REPLICATES, stream).unwrap());
        let c = Components::grouped(&scores, &positive, &groups).unwrap();
        let i = Delong::of(&[&c]).unwrap().interval(0, 0.95).unwrap();
        out.clustered += f64::from(u8::from(i.low <= area && area <= i.high)) / f64::from(studies);
    }
    out
}
