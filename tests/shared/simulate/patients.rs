//! Claims decided from predictions: scores of images of patients, resampled as a report resamples them.

use super::{ClaimRates, FAMILIES, REGIMES, SETS, asked, count, input};
use medft::eval::{Resamples, multiclass_statistic, normal_quantile, normal_two_sided};
use medft::report::cells::Key;
use medft::report::sampled::Sampled;
use medft::report::{Cells, Judged, ReportInput, Score, claims};
use medft::results::{Evidence, Evidences};
use medft::rng::{Purpose, Stream};
use medft::study::{Claims, Freeze, HeadKind};
use std::collections::BTreeMap;

/// Two data sets of `patients` patients with four images each, half of the patients positive; the metric is the area under the ROC curve.
#[derive(Clone, Copy)]
pub(crate) struct PatientTruth {
    pub patients: usize,
    pub seeds: usize,
    /// True gain of MHA on frozen backbones, in smallest effects that matter.
    pub mha: f64,
    /// Whether patients are drawn, as medft does, or images, which takes the four of a patient for independent.
    pub by_patient: bool,
}

/// Variance of a score: what all models see in a patient, what one model sees in a patient, what all see in an image, what one
/// sees in an image, and what one run adds.
const SHARES: [f64; 5] = [0.2, 0.4, 0.2, 0.1, 0.1];
/// Distance of the positive from the negative: an area of Φ(1.2/√2) = 0.802.
const SHIFT: f64 = 1.2;
/// Standard deviation of that distance between runs.
const RUNS: f64 = 0.015;
const EACH: usize = 4;
const REPLICATES: usize = 200;

/// Draws `studies` studies and judges the claims that they can be asked.
pub(crate) fn patient_rates(truth: PatientTruth, studies: u32) -> ClaimRates {
    let claims = asked(&[
        "families-mean",
        "families-top",
        "mha-frozen",
        "mha-frozen-more",
        "fine-tuning-every",
        "progress",
    ]);
    count(studies, |index| study(truth, &claims, index))
}

fn study(truth: PatientTruth, claims: &Claims, index: u32) -> Vec<Judged> {
    let sets = [SETS[0], SETS[3]];
    let mut rng = Stream::new(712, Purpose::Test, (truth.patients * 100 + truth.seeds) as u32, index);
    let report = ReportInput {
        claims: Some(claims.clone()),
        ..input(&sets, &FAMILIES)
    };
    let n = truth.patients * EACH;
    let groups: Vec<u32> = (0..n).map(|i| (i / EACH) as u32).collect();
    let labels: Vec<u32> = groups.iter().map(|g| g % 2).collect();
    let scale = SHARES.map(f64::sqrt);
    let mut cells = BTreeMap::<Key, Score>::new();
    for (at, (d, _)) in sets.into_iter().enumerate() {
        let stream = |r| {
            let mut s = Stream::new(u64::from(index), Purpose::Bootstrap, at as u32, r);
            move || s.next_u64()
        };
        let resamples = match truth.by_patient {
            true => Resamples::draw_groups(&groups, REPLICATES, stream).unwrap(),
            false => Resamples::draw(n, REPLICATES, stream).unwrap(),
        };
        let mut normals = |n: usize| -> Vec<f64> { (0..n).map(|_| rng.normal()).collect() };
        let (patient, image) = (normals(truth.patients), normals(n));
        for (b, _) in FAMILIES {
            for (freeze, head) in REGIMES {
                let (own_patient, own_image) = (normals(truth.patients), normals(n));
                let mha = (freeze, head) == (Freeze::Frozen, HeadKind::Mha);
                let distance = distance(if mha { 0.005 * truth.mha } else { 0.0 });
                let (mut evidence, mut values) = (Evidences::default(), Vec::new());
                let runs: Vec<String> = (0..truth.seeds).map(|s| s.to_string()).collect();
                for id in &runs {
                    let run = normals(n + 1);
                    let distance = distance + RUNS * run[n];
                    let probs: Vec<f64> = (0..n)
                        .flat_map(|i| {
                            let g = i / EACH;
                            let score = scale[0] * patient[g]
                                + scale[1] * own_patient[g]
                                + scale[2] * image[i]
                                + scale[3] * own_image[i]
                                + scale[4] * run[i]
                                + distance * f64::from(labels[i]);
                            let p = 1.0 / (1.0 + (-score).exp());
                            [1.0 - p, p]
                        })
                        .collect();
                    let statistic = multiclass_statistic("roc_auc", &probs, 2, &labels, false).unwrap();
                    values.push(statistic.observed());
                    let found = Evidence {
                        images: d.into(),
                        count: n,
                        groups: truth.by_patient.then_some(truth.patients),
                        replicates: resamples.evaluate(&*statistic).unwrap(),
                        components: None,
                    };
                    evidence.insert(id.clone(), found);
                }
                let sampled = Sampled::of(&evidence, &runs, &values);
                let mut score = Score::derived(truth.seeds, values, (0..truth.seeds as u64).collect());
                score.sampled = sampled;
                cells.insert((d.into(), b.into(), freeze, head), score);
            }
        }
    }
    claims::judge(claims, &report, &Cells::of(cells))
}

/// The distance whose area is larger than that of [`SHIFT`] by `gain`.
fn distance(gain: f64) -> f64 {
    let area = 1.0 - normal_two_sided(SHIFT / 2f64.sqrt()) / 2.0;
    2f64.sqrt() * normal_quantile(area + gain).unwrap()
}
