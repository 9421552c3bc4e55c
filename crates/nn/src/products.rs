//! Which of the matrix library's algorithms a product is computed by.
//!
//! By itself the library's own first choice, which follows from the shape: never from a measurement, so that a result can be had again.
//! Where it is asked for ([`Choice::Time`]), the candidates of every product that comes are timed once, on the device, and what was
//! fastest is recorded; from then on the record decides, not the clock. An entry holds for one version of the library, and as long as the
//! library offers what it names.

use candle_core::{Device, DeviceLocation, Result};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// An algorithm as cuBLASLt keeps it (`cublasLtMatmulAlgo_t`): what it may be run by again, with the same version of the library.
pub type Algorithm = [u64; 8];

/// Candidates of a product that are timed, the library's first among them.
pub const CANDIDATES: usize = 8;
/// Times that each is timed, in turn with the others, after a round that is not.
pub const ROUNDS: usize = 5;
/// Runs that are timed together.
pub const RUNS: usize = 10;
/// What another candidate must save of the first one's time to be taken.
const WORTH: f64 = 0.02;

/// The algorithm of one product, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Timed {
    /// What is run.
    pub algorithm: Algorithm,
    /// Its place among the library's candidates, from 0.
    pub place: usize,
    /// Microseconds of the library's first, median.
    pub first_us: f64,
    /// Microseconds of the one that is run, median.
    pub taken_us: f64,
}

/// By product: its shape, types, alignment and what it does besides.
pub type Record = BTreeMap<String, Timed>;

/// How algorithms are chosen on a device.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Choice {
    /// The library's first.
    #[default]
    First,
    /// What the record says; for a product that it does not have, the library's first.
    Recorded(Record),
    /// What the record says; a product that it does not have is timed and recorded.
    Time(Record),
}

/// What is not [`Choice::First`].
static CHOICES: Mutex<Vec<(DeviceLocation, Choice)>> = Mutex::new(Vec::new());

/// Chooses so on `device` from now on. A product that has been computed in this process keeps its algorithm.
pub fn choose(device: &Device, choice: Choice) {
    let mut all = CHOICES.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|(at, _)| *at != device.location());
    all.push((device.location(), choice));
}

/// How algorithms are chosen on `device`.
pub fn chosen(device: &Device) -> Choice {
    of(device.location(), |c| c.clone())
}

fn of<T>(at: DeviceLocation, f: impl FnOnce(&mut Choice) -> T) -> T {
    let mut all = CHOICES.lock().unwrap_or_else(PoisonError::into_inner);
    match all.iter_mut().find(|(location, _)| *location == at) {
        Some((_, choice)) => f(choice),
        None => f(&mut Choice::First),
    }
}

/// Whether no other than the library's first can be chosen.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
pub(crate) fn is_first(at: DeviceLocation) -> bool {
    of(at, |c| *c == Choice::First)
}

/// The algorithm that `product` is to be computed by, out of the library's candidates in its order; `time` gives the microseconds of a
/// run of one.
///
/// A candidate of the record that the library does not offer any more is passed over. Nothing is chosen where there are no candidates.
///
/// # Errors
/// The last of `time`, where no candidate runs.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
pub(crate) fn algorithm(
    at: DeviceLocation,
    product: &str,
    candidates: &[Algorithm],
    mut time: impl FnMut(&Algorithm) -> Result<f64>,
) -> Result<Option<Algorithm>> {
    let Some(&first) = candidates.first() else {
        return Ok(None);
    };
    let known = |record: &Record| {
        let offered = |t: &Timed| candidates.contains(&t.algorithm).then_some(t.algorithm);
        record.get(product).map(|t| offered(t).unwrap_or(first))
    };
    let decided = of(at, |c| match c {
        Choice::First => Some(first),
        Choice::Recorded(record) => Some(known(record).unwrap_or(first)),
        Choice::Time(record) => known(record),
    });
    if decided.is_some() {
        return Ok(decided);
    }
    let (mut times, mut failed) = (vec![Vec::new(); candidates.len()], None);
    // In turn, since a GPU's clock rises while it works; the first round warms it.
    for round in 0..=ROUNDS {
        for (candidate, times) in candidates.iter().zip(&mut times) {
            match time(candidate) {
                Ok(us) if round > 0 => times.push(us),
                Ok(_) => {}
                Err(e) => failed = Some(e),
            }
        }
    }
    let medians: Vec<Option<f64>> = times.into_iter().map(median).collect();
    let Some(timed) = fastest(candidates, &medians) else {
        return failed.map_or(Ok(None), Err);
    };
    let algorithm = timed.algorithm;
    of(at, |c| {
        if let Choice::Time(record) = c {
            record.insert(product.to_owned(), timed);
        }
    });
    Ok(Some(algorithm))
}

fn median(mut times: Vec<f64>) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

/// The first candidate that runs, unless another is faster by enough.
fn fastest(candidates: &[Algorithm], times: &[Option<f64>]) -> Option<Timed> {
    let runs = || times.iter().enumerate().filter_map(|(i, t)| Some((i, (*t)?)));
    let (first, first_us) = runs().next()?;
    let (place, taken_us) = runs()
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .filter(|(_, t)| *t < first_us * (1.0 - WORTH))
        .unwrap_or((first, first_us));
    Some(Timed {
        algorithm: candidates[place],
        place,
        first_us,
        taken_us,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: fn(u64) -> Algorithm = |n| [n; 8];

    /// What is taken by a clock by which candidate `n` takes `times(n)`, and how often it was asked.
    fn asked(
        at: DeviceLocation,
        product: &str,
        candidates: &[u64],
        times: &dyn Fn(u64) -> Result<f64>,
    ) -> (Option<u64>, usize) {
        let mut n = 0;
        let all: Vec<Algorithm> = candidates.iter().map(|&c| OF(c)).collect();
        let taken = algorithm(at, product, &all, |a| {
            n += 1;
            times(a[0])
        });
        (taken.ok().flatten().map(|a| a[0]), n)
    }

    #[test]
    fn the_clock_is_asked_once_a_product_and_only_where_that_is_wanted() {
        let at = DeviceLocation::Cuda { gpu_id: 70 };
        let speeds = |n: u64| match n {
            9 => candle_core::bail!("not on this device"),
            n => Ok(50.0 - 10.0 * n as f64),
        };
        // Nobody asked for it.
        assert_eq!(asked(at, "p", &[0, 1, 2], &speeds), (Some(0), 0));
        let set = |c: Choice| {
            let mut all = CHOICES.lock().unwrap();
            all.retain(|(l, _)| *l != at);
            all.push((at, c));
        };
        set(Choice::Time(Record::new()));
        let asks = ROUNDS + 1;
        assert_eq!(asked(at, "p", &[0, 1, 9, 2], &speeds), (Some(2), 4 * asks));
        assert_eq!(asked(at, "p", &[0, 1, 2], &speeds), (Some(2), 0), "it is recorded");
        assert_eq!(asked(at, "p", &[0, 1], &speeds), (Some(0), 0), "and stays so");
        assert_eq!(
            asked(at, "q", &[9, 1], &speeds),
            (Some(1), 2 * asks),
            "the first does not run"
        );
        assert!(
            algorithm(at, "r", &[OF(9)], |_| speeds(9))
                .unwrap_err()
                .to_string()
                .contains("not on this device")
        );
        assert_eq!(asked(at, "s", &[], &speeds), (None, 0));
        let Choice::Time(record) = of(at, |c| c.clone()) else {
            panic!("another choice")
        };
        assert_eq!(record.keys().collect::<Vec<_>>(), ["p", "q"]);
        assert_eq!(
            (record["p"].place, record["p"].first_us, record["p"].taken_us),
            (3, 50.0, 30.0)
        );
        // The record decides, whatever a clock would say, and where it knows nothing the library does.
        set(Choice::Recorded(record));
        assert_eq!(asked(at, "p", &[0, 1, 2], &|_| panic!("timed")), (Some(2), 0));
        assert_eq!(
            asked(at, "p", &[0, 1], &|_| panic!("timed")),
            (Some(0), 0),
            "not offered any more"
        );
        assert_eq!(asked(at, "other", &[5, 2], &|_| panic!("timed")), (Some(5), 0));
        // Another device has its own.
        assert_eq!(
            asked(DeviceLocation::Cuda { gpu_id: 71 }, "p", &[0, 2], &speeds),
            (Some(0), 0)
        );
    }

    #[test]
    fn a_candidate_that_is_hardly_faster_is_not_taken() {
        let of = |times: &[Option<f64>]| fastest(&[OF(0), OF(1), OF(2)], times).map(|t| t.place);
        assert_eq!(of(&[Some(100.0), Some(99.0), Some(98.5)]), Some(0));
        assert_eq!(of(&[Some(100.0), Some(97.0), Some(95.0)]), Some(2));
        assert_eq!(of(&[None, Some(97.0), Some(96.9)]), Some(1));
        assert_eq!(of(&[None, None, None]), None);
        assert_eq!(of(&[Some(f64::NAN), Some(1.0), None]), Some(0));
    }
}
