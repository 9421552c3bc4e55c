//! Studies about the size of backbones: the claims on data sets, on their number of images and on shares of one of them.

use super::{ClaimRates, REGIMES, SETS, asked, count, drawn_score, input};
use medft::report::cells::Key;
use medft::report::{Cells, Judged, ReportInput, Score, claims};
use medft::rng::{Purpose, Stream};
use medft::study::Claims;
use std::collections::BTreeMap;

/// (smaller, larger, family), as `experiments/papers/paper2025/claims.toml` pairs them.
const PAIRS: [(&str, &str, &str); 6] = [
    ("aimv2-l", "aimv2-h", "AIMv2"),
    ("dinov2-b", "dinov2-l", "DINOv2"),
    ("sam2-b", "sam2-l", "SAM2"),
    ("mae-b", "mae-h", "MAE"),
    ("vmamba-s", "vmamba-b", "VMamba"),
    ("coca-b", "coca-l", "CoCa"),
];
/// Training images of [`SETS`], as the claim has them.
const IMAGES: [f64; 4] = [8336.0, 178_717.0, 20265.0, 2051.0];
const SHARES: [f64; 3] = [0.1, 0.3, 1.0];

/// What the advantage of larger backbones is drawn from. Tables are the four data sets, or three shares of one.
#[derive(Clone, Copy)]
pub(crate) struct SizeTruth {
    pub sd: f64,
    pub seeds: usize,
    /// Standard error over test images, and the correlation between cells there.
    pub images: f64,
    pub correlation: f64,
    /// The advantage on each table, in smallest effects that matter.
    pub advantage: [f64; 4],
    /// Its growth for ten times the images, in smallest effects that matter.
    pub slope: f64,
    /// Standard deviation of what else each table does to it.
    pub between: f64,
    /// Three shares of one data set, with its test images, instead of four data sets.
    pub shares: bool,
}

/// Draws `studies` studies and judges the claims about size.
pub(crate) fn size_rates(truth: SizeTruth, studies: u32) -> ClaimRates {
    let claims = asked(match truth.shares {
        true => &["size-by-fraction"],
        false => &["size-by-data-set", "size-by-images"],
    });
    count(studies, |index| study(truth, &claims, index))
}

fn study(truth: SizeTruth, claims: &Claims, index: u32) -> Vec<Judged> {
    const REPLICATES: usize = 200;
    const SMALLEST: f64 = 0.005;
    let mut rng = Stream::new(713, Purpose::Test, truth.seeds as u32, index);
    let backbones: Vec<(&str, &str)> = PAIRS.iter().flat_map(|p| [(p.0, p.2), (p.1, p.2)]).collect();
    let mut report = ReportInput {
        claims: Some(claims.clone()),
        ..input(&SETS, &backbones)
    };
    // (table, number that the slope is over, name of its test images)
    let tables: Vec<(String, f64, &str)> = if truth.shares {
        report.datasets.truncate(3);
        for (d, share) in report.datasets.iter_mut().zip(SHARES) {
            d.name = format!("ddsm {share}");
            d.set = "ddsm".into();
            d.train_fraction = share;
        }
        let names = report.datasets.iter().map(|d| d.name.clone());
        names.zip(SHARES).map(|(n, s)| (n, s, "ddsm")).collect()
    } else {
        let sets = SETS.iter().zip(IMAGES);
        sets.map(|((d, _), n)| ((*d).to_owned(), n, *d)).collect()
    };
    let (own, shared) = ((1.0 - truth.correlation).sqrt(), truth.correlation.sqrt());
    // One deviation of the test set that every cell shares, and one a cell; the same wherever the test images are.
    let mut common = BTreeMap::<&str, Vec<f64>>::new();
    let mut apart = BTreeMap::<(&str, &str, usize), Vec<f64>>::new();
    let mut cells = BTreeMap::<Key, Score>::new();
    for (at, (table, over, images)) in tables.iter().enumerate() {
        let common = common
            .entry(images)
            .or_insert_with(|| (0..=REPLICATES).map(|_| rng.normal()).collect())
            .clone();
        let gain = SMALLEST * (truth.advantage[at] + truth.slope * (over.log10() - 4.0)) + truth.between * rng.normal();
        for (b, _) in &backbones {
            let larger = PAIRS.iter().any(|p| p.1 == *b);
            for (r, (freeze, head)) in REGIMES.into_iter().enumerate() {
                let apart = apart
                    .entry((images, b, r))
                    .or_insert_with(|| (0..=REPLICATES).map(|_| rng.normal()).collect());
                let deviation: Vec<f64> = common
                    .iter()
                    .zip(apart.iter())
                    .map(|(c, o)| truth.images * (shared * c + own * o))
                    .collect();
                let centre = 0.88 + if larger { gain } else { 0.0 };
                let values: Vec<f64> = (0..truth.seeds)
                    .map(|_| centre + deviation[0] + truth.sd * rng.normal())
                    .collect();
                let score = drawn_score(images, values, &deviation[1..]);
                cells.insert((table.clone(), (*b).to_owned(), freeze, head), score);
            }
        }
    }
    claims::judge(claims, &report, &Cells::of(cells))
}
