//! There is something to learn.

use super::*;

/// A picture as 16 × 16 means of its pixels (channels last).
fn thumbnail(width: usize, height: usize, pixels: &[u8]) -> Vec<f64> {
    const N: usize = 16;
    let channels = pixels.len() / (width * height);
    let (mut sum, mut count) = (vec![0.0; N * N * channels], [0.0; N * N]);
    for (i, px) in pixels.chunks_exact(channels).enumerate() {
        let cell = (i / width * N / height) * N + i % width * N / width;
        count[cell] += 1.0;
        for (c, v) in px.iter().enumerate() {
            sum[cell * channels + c] += f64::from(*v) / 255.0;
        }
    }
    sum.iter().enumerate().map(|(k, s)| s / count[k / channels]).collect()
}

/// Scores (rows of `test`) × (columns of `y`) of ridge regression on centred features, solved in the dual.
fn ridge(train: &[Vec<f64>], y: &[Vec<f64>], test: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let n = train.len();
    let mean: Vec<f64> = (0..train[0].len())
        .map(|j| train.iter().map(|x| x[j]).sum::<f64>() / n as f64)
        .collect();
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).zip(&mean).map(|((a, b), m)| (a - m) * (b - m)).sum() };
    let mut system: Vec<Vec<f64>> = (0..n)
        .map(|i| {
            let kernel = train.iter().map(|x| dot(&train[i], x));
            kernel.chain(y[i].iter().copied()).collect()
        })
        .collect();
    let weight = 0.02 * (0..n).map(|i| system[i][i]).sum::<f64>() / n as f64;
    (0..n).for_each(|i| system[i][i] += weight);
    // Gauss–Jordan without pivoting: the matrix is positive definite.
    for i in 0..n {
        let pivot: Vec<f64> = system[i].iter().map(|v| v / system[i][i]).collect();
        for row in system.iter_mut() {
            let f = row[i];
            row.iter_mut().zip(&pivot).for_each(|(v, p)| *v -= f * p);
        }
        system[i] = pivot;
    }
    let score = |x: &Vec<f64>| -> Vec<f64> {
        let kernel: Vec<f64> = train.iter().map(|t| dot(t, x)).collect();
        (n..system[0].len())
            .map(|c| system.iter().zip(&kernel).map(|(row, k)| row[c] * k).sum())
            .collect()
    };
    test.iter().map(score).collect()
}

/// Share of (positive, negative) pairs in the right order, ties half.
fn auc(truth: &[bool], score: &[f64]) -> f64 {
    let (mut right, mut pairs) = (0.0, 0.0);
    for (i, _) in truth.iter().enumerate().filter(|(_, t)| **t) {
        for (j, _) in truth.iter().enumerate().filter(|(_, t)| !**t) {
            pairs += 1.0;
            right += match score[i].total_cmp(&score[j]) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            };
        }
    }
    right / pairs
}

type Examples = (Vec<Vec<f64>>, Vec<Vec<u8>>);

/// Mean area under the curve of fourteen labels or two classes, macro recall of more, of a linear model on thumbnails.
fn skill((train, y): &Examples, (test, truth): &Examples) -> f64 {
    let labels = y[0].len();
    if labels > 1 {
        let targets: Vec<Vec<f64>> = y.iter().map(|r| r.iter().map(|&b| f64::from(b)).collect()).collect();
        let scores = ridge(train, &targets, test);
        let one = |k: usize| {
            let truth: Vec<bool> = truth.iter().map(|r| r[k] == 1).collect();
            auc(&truth, &scores.iter().map(|s| s[k]).collect::<Vec<_>>())
        };
        return (0..labels).map(one).sum::<f64>() / labels as f64;
    }
    let classes = usize::from(y.iter().map(|r| r[0]).max().unwrap()) + 1;
    let count = |rows: &[Vec<u8>], c: usize| rows.iter().filter(|r| usize::from(r[0]) == c).count() as f64;
    let target = |r: &Vec<u8>| -> Vec<f64> {
        let hot = |c| if usize::from(r[0]) == c { 1.0 / count(y, c) } else { 0.0 };
        (0..classes).map(hot).collect()
    };
    let scores = ridge(train, &y.iter().map(target).collect::<Vec<_>>(), test);
    if classes == 2 {
        let truth: Vec<bool> = truth.iter().map(|r| r[0] == 1).collect();
        return auc(&truth, &scores.iter().map(|s| s[1] - s[0]).collect::<Vec<_>>());
    }
    let best = |s: &Vec<f64>| (0..classes).max_by(|&a, &b| s[a].total_cmp(&s[b])).unwrap();
    let mut recall = vec![0.0; classes];
    for (s, r) in scores.iter().zip(truth) {
        let c = usize::from(r[0]);
        recall[c] += f64::from(u8::from(best(s) == c)) / count(truth, c);
    }
    recall.iter().sum::<f64>() / classes as f64
}

/// The signal is there for the simplest model: a linear one on 16 × 16 thumbnails, trained on train, asked about val
/// and test, is well above chance on every set.
#[test]
fn a_linear_model_on_thumbnails_beats_chance() {
    for (name, chance, wanted) in [
        ("ddsm", 0.5, 0.75),
        ("chexpert", 0.5, 0.7),
        ("isic2019", 0.125, 0.5),
        ("aptos2019", 0.2, 0.4),
    ] {
        let (_, plan, images) = SETS.into_iter().find(|s| s.0 == name).unwrap();
        let dir = written(plan, images);
        let [train, val, test] = parts(name, &dir).map(|rows| -> Examples {
            let thumb = |path: &PathBuf| {
                let image = image::open(dir.path().join(path)).unwrap();
                thumbnail(image.width() as usize, image.height() as usize, image.as_bytes())
            };
            let truth = |t: &Vec<u8>| if name == "ddsm" { vec![t[0].min(1)] } else { t.clone() };
            (
                rows.iter().map(|r| thumb(&r.0)).collect(),
                rows.iter().map(|r| truth(&r.1)).collect(),
            )
        });
        let held = ([val.0, test.0].concat(), [val.1, test.1].concat());
        let found = skill(&train, &held);
        println!("{name}: {found:.3} where chance is {chance}");
        assert!(found > wanted, "{name}: {found}");
    }
    for (name, chance, wanted) in [
        ("breastmnist", 0.5, 0.8),
        ("retinamnist", 0.2, 0.35),
        ("dermamnist", 1.0 / 7.0, 0.5),
        ("pneumoniamnist", 0.5, 0.75),
        ("chestmnist", 0.5, 0.7),
    ] {
        let dir = tempfile::tempdir().unwrap();
        medmnist::write(dir.path(), name, medmnist::DEFAULT_IMAGES).unwrap();
        let arrays = arrays(std::fs::read(dir.path().join(format!("{name}.npz"))).unwrap());
        let examples = |part: usize| -> Examples {
            let n: usize = arrays[part].1.split(',').next().unwrap().parse().unwrap();
            let each = |k: usize| arrays[k].2.chunks_exact(arrays[k].2.len() / n);
            (
                each(part).map(|px| thumbnail(28, 28, px)).collect(),
                each(part + 3).map(<[u8]>::to_vec).collect(),
            )
        };
        let found = skill(&examples(0), &examples(2));
        println!("{name}: {found:.3} where chance is {chance:.3}");
        assert!(found > wanted, "{name}: {found}");
    }
}
