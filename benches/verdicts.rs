//! How often the verdicts are wrong: thousands of studies drawn from known truths and judged by the real code.
//!
//! `cargo bench --bench verdicts` prints the tables of `docs/STATISTICS.md`; `-- N` draws N studies of each kind (1,000). Seeds are fixed, so the
//! same build prints the same numbers. Every share is held against its bar; one that is crossed ends the bench with code 1. `tests/study/verdicts.rs`
//! holds a cut of it.

#[allow(dead_code)]
#[path = "../tests/shared/simulate/mod.rs"]
mod simulate;

use rayon::prelude::*;
use simulate::{ClaimTruth, Truth, claim_rates, coverage, rates};
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
