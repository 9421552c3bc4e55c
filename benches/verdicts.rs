//! How often the verdicts are wrong: thousands of studies drawn from known truths and judged by the real code.
//!
//! `cargo bench --bench verdicts` prints the tables of `docs/STATISTICS.md`; `-- N` draws N studies of each kind (1,000). Seeds are fixed, so the
//! same build prints the same numbers. Every share is held against its bar; one that is crossed ends the bench with code 1. `tests/study/verdicts.rs`
//! holds a cut of it.

#[allow(dead_code)]
#[path = "../tests/shared/simulate/mod.rs"]
mod simulate;

use rayon::prelude::*;
use simulate::patients::{PatientTruth, patient_rates};
use simulate::sizes::{SizeTruth, size_rates};
use simulate::{ClaimRates, ClaimTruth, Truth, claim_rates, coverage, rates};
use std::sync::atomic::{AtomicUsize, Ordering};

fn percent(x: f64) -> String {
    format!("{:.1}", 100.0 * x)
}

/// Bars that were crossed.
static CROSSED: AtomicUsize = AtomicUsize::new(0);

/// A share that may be at most `bar`, with three standard errors of so many studies.
fn hold(what: &str, share: f64, bar: f64, studies: u32) {
    let slack = 3.0 * (bar * (1.0 - bar) / f64::from(studies)).sqrt();
    if share > bar + slack {
        CROSSED.fetch_add(1, Ordering::Relaxed);
        println!("CROSSED: {what}: {} % of at most {} %", percent(share), percent(bar));
    }
}

fn main() {
    let studies: u32 = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(1000);
    println!("{studies} studies of each kind; shares in percent.\n");
    values(studies);
    alike(studies);
    claims(studies);
    sizes(studies);
    predictions(studies);
    patients(studies);
    let crossed = CROSSED.load(Ordering::Relaxed);
    println!("\n{crossed} bars crossed (each with three standard errors of {studies} studies)");
    std::process::exit(i32::from(crossed > 0));
}

fn values(studies: u32) {
    println!(
        "| sd | seeds | bias (margins) | value: R | C | D | I | in prediction interval | data set: R | C | D | I | any R | any D | regime found | misnamed |"
    );
    println!("| --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |");
    let mut all = Vec::new();
    for sd in [0.002, 0.004, 0.008] {
        for seeds in [2, 3, 5, 10] {
            for bias in [0.0, 0.5, 1.0, 2.0] {
                all.push(Truth {
                    sd,
                    seeds,
                    bias,
                    regimes_differ: true,
                });
            }
        }
    }
    let lines: Vec<String> = all
        .par_iter()
        .map(|t| {
            let r = rates(*t, studies);
            let at = format!("sd {}, {} seeds, bias {}", t.sd, t.seeds, t.bias);
            hold(&format!("{at}: intervals narrowed"), r.narrowed, 0.0, studies);
            hold(&format!("{at}: another regime named"), r.misnamed, 0.05, studies);
            if t.bias == 0.0 {
                hold(&format!("{at}: any data set differs"), r.any_differs, 0.05, studies);
                hold(&format!("{at}: a value differs"), r.value[2], 0.05, studies);
                hold(
                    &format!("{at}: values outside their prediction interval"),
                    1.0 - r.predicted,
                    0.065,
                    studies,
                );
            }
            if t.bias == 1.0 {
                hold(
                    &format!("{at}: any data set reproduced"),
                    r.any_reproduced,
                    0.05,
                    studies,
                );
                hold(&format!("{at}: a value reproduced"), r.value[0], 0.05, studies);
            }
            let mut cells = vec![t.sd.to_string(), t.seeds.to_string(), t.bias.to_string()];
            cells.extend(r.value.map(percent));
            cells.push(percent(r.predicted));
            cells.extend(r.set.map(percent));
            cells.extend([r.any_reproduced, r.any_differs, r.found, r.misnamed].map(percent));
            format!("| {} |", cells.join(" | "))
        })
        .collect();
    println!("{}\n", lines.join("\n"));
}

/// Four regimes with one truth: the best-fitting one is chosen by chance, and its verdict must bear that.
fn alike(studies: u32) {
    println!("| regimes alike: sd | seeds | bias | any R | any D |\n| --: | --: | --: | --: | --: |");
    let all: Vec<(f64, usize, f64)> = [0.002, 0.004]
        .into_iter()
        .flat_map(|sd| [2, 3, 10].map(|n| (sd, n)))
        .flat_map(|(sd, n)| [0.0, 1.0].map(|b| (sd, n, b)))
        .collect();
    let lines: Vec<String> = all
        .par_iter()
        .map(|&(sd, seeds, bias)| {
            let t = Truth {
                sd,
                seeds,
                bias,
                regimes_differ: false,
            };
            let r = rates(t, studies);
            let at = format!("regimes alike, sd {sd}, {seeds} seeds, bias {bias}");
            match bias {
                0.0 => hold(&format!("{at}: any data set differs"), r.any_differs, 0.05, studies),
                _ => hold(
                    &format!("{at}: any data set reproduced"),
                    r.any_reproduced,
                    0.05,
                    studies,
                ),
            }
            let (reproduced, differs) = (percent(r.any_reproduced), percent(r.any_differs));
            format!("| {sd} | {seeds} | {bias} | {reproduced} | {differs} |")
        })
        .collect();
    println!("{}\n", lines.join("\n"));
}

fn claims(studies: u32) {
    println!(
        "| claims: seeds | unfrozen sd / frozen sd | one cell's sd | correlation of cells | MHA's gain (smallest effects) | any wrong way | claim | Supported | Refuted: other way | Refuted: too small |"
    );
    println!("| --: | --: | --: | --: | --: | --: | :-- | --: | --: | --: |");
    let mut all = Vec::new();
    for (seeds, unequal, exploded, correlation) in [
        (2, 1.0, 1.0, 0.8),
        (3, 1.0, 1.0, 0.8),
        (5, 1.0, 1.0, 0.8),
        (2, 4.0, 1.0, 0.8),
        (2, 1.0, 50.0, 0.8),
        (3, 1.0, 50.0, 0.8),
        (3, 1.0, 1.0, 0.0),
    ] {
        for mha in [0.0, 1.0, 2.0] {
            all.push(ClaimTruth {
                sd: 0.004,
                unequal,
                exploded,
                seeds,
                images: 0.01,
                correlation,
                mha,
            });
        }
    }
    let lines: Vec<String> = all
        .par_iter()
        .map(|t| {
            let r = claim_rates(*t, studies);
            let of = |id: &str| r.by_claim.get(id).copied().unwrap_or_default();
            let at = format!(
                "{} seeds, unfrozen × {}, one cell × {}, MHA {}",
                t.seeds, t.unequal, t.exploded, t.mha
            );
            if t.mha == 0.0 {
                hold(&format!("{at}: any claim the wrong way"), r.any, 0.05, studies);
            }
            if t.mha == 1.0 {
                let decided: f64 = of("mha-frozen").iter().sum();
                hold(
                    &format!("{at}: the smallest effect that matters decided"),
                    decided,
                    0.05,
                    studies,
                );
            }
            // Of the claims on something else than MHA, all of which are about no effect, the worst.
            let mut lines = Vec::new();
            for id in [
                "mha-frozen",
                "families-mean",
                "families-top",
                "fine-tuning-every",
                "progress",
            ] {
                if id != "mha-frozen" && t.mha != 0.0 {
                    continue;
                }
                let any = if t.mha == 0.0 { percent(r.any) } else { "–".to_owned() };
                let shares = of(id).map(percent).join(" | ");
                lines.push(format!(
                    "| {} | {} | {} | {} | {} | {any} | {id} | {shares} |",
                    t.seeds, t.unequal, t.exploded, t.correlation, t.mha
                ));
            }
            lines.join("\n")
        })
        .collect();
    println!("{}\n", lines.join("\n"));
}

/// A claim's shares, as cells of a table.
fn shares(r: &ClaimRates, id: &str) -> String {
    r.by_claim.get(id).copied().unwrap_or_default().map(percent).join(" | ")
}

/// The claims about the size of backbones: where nothing depends on it, where each verdict is just not true, and where it is plainly true.
fn sizes(studies: u32) {
    println!(
        "| claims on size: tables | seeds | what else a table does (sd) | truth | claim | Supported | Refuted: other way | Refuted: too small |"
    );
    println!("| :-- | --: | --: | :-- | :-- | --: | --: | --: |");
    let none = SizeTruth {
        sd: 0.004,
        seeds: 3,
        images: 0.01,
        correlation: 0.8,
        advantage: [0.0; 4],
        slope: 0.0,
        between: 0.0,
        shares: false,
    };
    // (truth, in words, claim, which shares are errors)
    let turns = |advantage| SizeTruth { advantage, ..none };
    let mut all = Vec::new();
    for seeds in [2, 3, 5] {
        let none = SizeTruth { seeds, ..none };
        all.push((none, "no advantage anywhere", "size-by-data-set", [true, true, false]));
        for between in [0.0, 0.005, 0.02] {
            let t = SizeTruth { between, ..none };
            all.push((t, "no slope", "size-by-images", [true, true, false]));
            let t = SizeTruth { slope: 1.0, ..t };
            all.push((t, "the smallest slope that matters", "size-by-images", [true; 3]));
            let shares = SizeTruth {
                shares: true,
                between,
                ..none
            };
            all.push((shares, "no slope", "size-by-fraction", [true, true, false]));
            let t = SizeTruth { slope: 1.0, ..shares };
            all.push((t, "the smallest slope that matters", "size-by-fraction", [true; 3]));
        }
    }
    let edge = [true, false, false];
    all.push((
        turns([4.0, 4.0, 4.0, -1.0]),
        "one set turns by just the smallest effect",
        "size-by-data-set",
        [true; 3],
    ));
    all.push((
        turns([1.0, -4.0, -4.0, -4.0]),
        "one set turns by just the smallest effect",
        "size-by-data-set",
        [true; 3],
    ));
    all.push((
        turns([4.0, 4.0, 4.0, 4.0]),
        "the same advantage everywhere",
        "size-by-data-set",
        edge,
    ));
    all.push((
        turns([4.0, -4.0, 0.0, 0.0]),
        "two sets far apart",
        "size-by-data-set",
        [false, true, true],
    ));
    let slope = SizeTruth {
        slope: 6.0,
        between: 0.002,
        ..none
    };
    all.push((
        slope,
        "six times the smallest slope",
        "size-by-images",
        [false, true, true],
    ));
    let lines: Vec<String> = all
        .par_iter()
        .map(|(t, truth, id, wrong)| {
            let r = size_rates(*t, studies);
            let found = r.by_claim.get(*id).copied().unwrap_or_default();
            let at = format!("{id}, {truth}, {} seeds, tables by {}", t.seeds, t.between);
            let errors: f64 = found.iter().zip(wrong).filter(|x| *x.1).map(|x| x.0).sum();
            hold(&format!("{at}: wrong"), errors, 0.05, studies);
            if !t.shares && truth.starts_with("no advantage") {
                hold(&format!("{at}: either claim the wrong way"), r.any, 0.05, studies);
            }
            let tables = if t.shares { "3 shares" } else { "4 data sets" };
            let shares = shares(&r, id);
            format!("| {tables} | {} | {} | {truth} | {id} | {shares} |", t.seeds, t.between)
        })
        .collect();
    println!("{}\n", lines.join("\n"));
}

/// Claims from predictions of images of patients, resampled as a report resamples them.
fn predictions(studies: u32) {
    println!(
        "| claims from predictions: patients (4 images each) | seeds | drawn | MHA's gain (smallest effects) | any wrong way | mha-frozen: Supported | Refuted: other way | Refuted: too small |"
    );
    println!("| --: | --: | :-- | --: | --: | --: | --: | --: |");
    let mut all = Vec::new();
    for (patients, seeds) in [(60, 2), (60, 3), (120, 3)] {
        for mha in [0.0, 1.0] {
            all.push(PatientTruth {
                patients,
                seeds,
                mha,
                by_patient: true,
            });
        }
    }
    all.push(PatientTruth {
        patients: 60,
        seeds: 3,
        mha: 0.0,
        by_patient: false,
    });
    let lines: Vec<String> = all
        .par_iter()
        .map(|t| {
            let r = patient_rates(*t, studies);
            let at = format!("{} patients, {} seeds, MHA {}", t.patients, t.seeds, t.mha);
            if t.by_patient && t.mha == 0.0 {
                hold(&format!("{at}: any claim the wrong way"), r.any, 0.05, studies);
            }
            if t.by_patient && t.mha == 1.0 {
                let decided: f64 = r.by_claim.get("mha-frozen").copied().unwrap_or_default().iter().sum();
                hold(
                    &format!("{at}: the smallest effect that matters decided"),
                    decided,
                    0.05,
                    studies,
                );
            }
            let drawn = if t.by_patient { "patients" } else { "images" };
            let any = if t.mha == 0.0 { percent(r.any) } else { "–".to_owned() };
            let shares = shares(&r, "mha-frozen");
            format!(
                "| {} | {} | {drawn} | {} | {any} | {shares} |",
                t.patients, t.seeds, t.mha
            )
        })
        .collect();
    println!("{}\n", lines.join("\n"));
}

fn patients(studies: u32) {
    println!(
        "| patients (4 images each) | correlation within | patients drawn | Obuchowski | images drawn |\n| --: | --: | --: | --: | --: |"
    );
    for patients in [60, 120, 250] {
        for correlation in [0.0, 0.5] {
            let c = coverage(patients, correlation, studies);
            let at = format!("{patients} patients, correlation {correlation}");
            hold(
                &format!("{at}: intervals over patients that miss"),
                1.0 - c.bootstrap,
                0.065,
                studies,
            );
            hold(
                &format!("{at}: Obuchowski's that miss"),
                1.0 - c.clustered,
                0.065,
                studies,
            );
            let shares = [c.bootstrap, c.clustered, c.images].map(percent).join(" | ");
            println!("| {patients} | {correlation} | {shares} |");
        }
    }
}
