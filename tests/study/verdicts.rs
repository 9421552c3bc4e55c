//! Error rates of the verdicts on simulated studies: a cut of `cargo bench --bench verdicts`, whose table is in
//! `docs/STATISTICS.md`. Seeds are fixed: the counts are the same on every machine, and a bar that is crossed was crossed by a
//! change of the code.

#[allow(dead_code)]
use crate::simulate::patients::{PatientTruth, patient_rates};
use crate::simulate::sizes::{SizeTruth, size_rates};
use crate::simulate::{ClaimTruth, Truth, claim_rates, coverage, rates};

const STUDIES: u32 = 150;

/// Five in a hundred, and three standard errors of so many studies.
fn bar(studies: u32) -> f64 {
    0.05 + 3.0 * (0.05f64 * 0.95 / f64::from(studies)).sqrt()
}

fn truth(sd: f64, seeds: usize, bias: f64) -> Truth {
    Truth {
        sd,
        seeds,
        bias,
        regimes_differ: true,
    }
}

#[test]
fn a_perfect_reproduction_is_found_and_does_not_differ() {
    for (sd, seeds) in [(0.002, 3), (0.004, 2), (0.008, 3)] {
        let r = rates(truth(sd, seeds, 0.0), STUDIES);
        println!("{sd} {seeds}: {r:?}");
        assert!(r.any_differs <= bar(STUDIES), "{r:?}");
        assert!(r.value[2] <= 0.05, "a single value differs: {r:?}");
        assert!(r.narrowed == 0.0);
        // Values of a study share nothing but its regime: 44 of each.
        // The reading widens every prediction interval: more than 95 % is right, less is not.
        assert!(r.predicted > 0.935, "{r:?}");
        assert!(r.misnamed <= bar(STUDIES), "{r:?}");
        if sd == 0.002 {
            assert!(r.set[0] > 0.95 && r.found > 0.99, "Reproduced cannot be reached: {r:?}");
        }
    }
}

#[test]
fn a_difference_of_one_margin_is_not_called_reproduced() {
    for (sd, seeds, regimes_differ) in [(0.002, 3, true), (0.002, 10, false), (0.004, 3, false)] {
        let t = Truth {
            regimes_differ,
            ..truth(sd, seeds, 1.0)
        };
        let r = rates(t, STUDIES);
        println!("{sd} {seeds} {regimes_differ}: {r:?}");
        assert!(r.any_reproduced <= bar(STUDIES) && r.value[0] <= 0.05, "{r:?}");
    }
    let r = rates(truth(0.002, 3, 2.0), STUDIES);
    assert!(r.set[2] > 0.9, "two margins differ: {r:?}");
}

#[test]
fn claims_without_an_effect_are_neither_supported_nor_turned_round() {
    let none = ClaimTruth {
        sd: 0.004,
        unequal: 1.0,
        exploded: 1.0,
        seeds: 2,
        images: 0.01,
        correlation: 0.8,
        mha: 0.0,
    };
    let r = claim_rates(none, STUDIES);
    println!("{r:?}");
    assert!(r.any <= bar(STUDIES), "{r:?}");
    // One cell that holds nearly all the noise lends the others no degrees of freedom of its own.
    let exploded = claim_rates(ClaimTruth { exploded: 50.0, ..none }, STUDIES);
    println!("{exploded:?}");
    assert!(exploded.any <= bar(STUDIES), "{exploded:?}");
    // Exactly the smallest effect that matters: neither larger nor smaller.
    let edge = claim_rates(ClaimTruth { mha: 1.0, ..none }, STUDIES);
    println!("{edge:?}");
    assert!(
        edge.by_claim["mha-frozen"].iter().sum::<f64>() <= bar(STUDIES),
        "{edge:?}"
    );
    let plain = claim_rates(ClaimTruth { mha: 4.0, ..none }, 40);
    assert!(plain.by_claim["mha-frozen"][0] > 0.9, "{plain:?}");
}

#[test]
fn claims_on_size_err_no_more_often_than_they_say() {
    let none = SizeTruth {
        sd: 0.004,
        seeds: 2,
        images: 0.01,
        correlation: 0.8,
        advantage: [0.0; 4],
        slope: 0.0,
        between: 0.0,
        shares: false,
    };
    let r = size_rates(none, STUDIES);
    println!("{r:?}");
    assert!(r.any <= bar(STUDIES), "{r:?}");
    // What else the data sets differ in is no slope, and the smallest slope that matters is neither.
    for shares in [false, true] {
        let id = if shares { "size-by-fraction" } else { "size-by-images" };
        for slope in [0.0, 1.0] {
            let t = SizeTruth {
                slope,
                between: 0.01,
                shares,
                ..none
            };
            let r = size_rates(t, STUDIES);
            println!("{shares} {slope}: {r:?}");
            let [supported, other_way, small] = r.by_claim[id];
            let wrong = supported + other_way + if slope > 0.0 { small } else { 0.0 };
            assert!(wrong <= bar(STUDIES), "{r:?}");
        }
    }
    // A set that turns by exactly the smallest effect is neither a turn nor none.
    for advantage in [[4.0, 4.0, 4.0, -1.0], [1.0, -4.0, -4.0, -4.0]] {
        let r = size_rates(SizeTruth { advantage, ..none }, STUDIES);
        println!("{advantage:?}: {r:?}");
        assert!(
            r.by_claim["size-by-data-set"].iter().sum::<f64>() <= bar(STUDIES),
            "{r:?}"
        );
    }
    let far = SizeTruth {
        advantage: [4.0, -4.0, 0.0, 0.0],
        ..none
    };
    let r = size_rates(far, 40);
    assert!(r.by_claim["size-by-data-set"][0] > 0.9, "{r:?}");
}

/// Decided from resampled patients; and what it would cost to draw images.
#[test]
fn claims_from_the_predictions_of_patients_err_no_more_often_than_they_say() {
    let none = PatientTruth {
        patients: 60,
        seeds: 3,
        mha: 0.0,
        by_patient: true,
    };
    let (patients, images) = (
        patient_rates(none, 100),
        patient_rates(
            PatientTruth {
                by_patient: false,
                ..none
            },
            100,
        ),
    );
    println!("{patients:?}\n{images:?}");
    assert!(patients.any <= bar(100), "{patients:?}");
    assert!(images.any > bar(100), "what ignoring patients would cost: {images:?}");
}

#[test]
fn intervals_over_patients_cover() {
    let (alone, together) = (coverage(120, 0.0, 300), coverage(120, 0.5, 300));
    println!("{alone:?} {together:?}");
    for c in [alone, together] {
        // ± 1.5 %, and three standard errors of 300 studies.
        for share in [c.bootstrap, c.clustered] {
            assert!(
                (share - 0.95).abs() < 0.015 + 3.0 * (0.95f64 * 0.05 / 300.0).sqrt(),
                "{c:?}"
            );
        }
    }
    assert!(
        together.images < 0.85,
        "what ignoring patients would cost: {together:?}"
    );
}
