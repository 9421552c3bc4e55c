//! Which of the matrix library's algorithms a product is computed by.
//!
//! By itself the library's own first choice, which follows from the shape: never from a measurement, so that a result can be had again.
//! Where it is asked for ([`Choice::Time`]), the candidates of every product that comes are timed once, on the device, and what was
//! fastest is recorded; from then on the record decides, not the clock, and with one record a device gives one result.

use candle_core::{Device, DeviceLocation};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// An algorithm as cuBLASLt keeps it (`cublasLtMatmulAlgo_t`): what it may be run by again, with the same version of the library.
pub type Algorithm = [u64; 8];

/// Candidates of a product that are timed, the library's first among them.
pub const CANDIDATES: usize = 8;
/// Runs of each that are timed, after one that is not.
pub const RUNS: usize = 5;
/// What another candidate must save of the first one's time to be taken: less is within what a clock says.
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

/// The algorithm that `product` is to be computed by, out of the library's candidates in its order; `time` gives the microseconds of the
/// runs of one, or nothing where it does not run.
///
/// A candidate of the record that the library does not offer any more is passed over. Nothing is chosen where there are no candidates.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
pub(crate) fn algorithm(
    at: DeviceLocation,
    product: &str,
    candidates: &[Algorithm],
    mut time: impl FnMut(&Algorithm) -> Option<Vec<f64>>,
) -> Option<Algorithm> {
    let first = *candidates.first()?;
    let known = |record: &Record| {
        record
            .get(product)
            .map(|t| t.algorithm)
            .filter(|a| candidates.contains(a))
    };
    let unknown = of(at, |c| match c {
        Choice::First => Err(first),
        Choice::Recorded(record) => Err(known(record).unwrap_or(first)),
        Choice::Time(record) => known(record).map_or(Ok(()), Err),
    });
    if let Err(decided) = unknown {
        return Some(decided);
    }
    let times: Vec<Option<f64>> = candidates.iter().map(|c| time(c).and_then(median)).collect();
    let timed = fastest(candidates, &times)?;
    let algorithm = timed.algorithm;
    of(at, |c| {
        if let Choice::Time(record) = c {
            record.insert(product.to_owned(), timed);
        }
    });
    Some(algorithm)
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

    /// A clock by which candidate `n` takes `times[n]`, and how often it was asked.
    fn asked(
        at: DeviceLocation,
        product: &str,
        candidates: &[u64],
        times: &dyn Fn(u64) -> Option<Vec<f64>>,
    ) -> (Option<u64>, usize) {
        let mut n = 0;
        let all: Vec<Algorithm> = candidates.iter().map(|&c| OF(c)).collect();
        let taken = algorithm(at, product, &all, |a| {
            n += 1;
            times(a[0])
        });
        (taken.map(|a| a[0]), n)
    }

    #[test]
    fn the_clock_is_asked_once_a_product_and_only_where_that_is_wanted() {
        let at = DeviceLocation::Cuda { gpu_id: 70 };
        let speeds = |n: u64| (n != 9).then(|| vec![100.0, 50.0 - 10.0 * n as f64, 50.0 - 10.0 * n as f64, 1.0, 300.0]);
        // Nobody asked for it.
        assert_eq!(asked(at, "p", &[0, 1, 2], &speeds), (Some(0), 0));
        let set = |c: Choice| {
            let mut all = CHOICES.lock().unwrap();
            all.retain(|(l, _)| *l != at);
            all.push((at, c));
        };
        set(Choice::Time(Record::new()));
        assert_eq!(asked(at, "p", &[0, 1, 9, 2], &speeds), (Some(2), 4));
        assert_eq!(asked(at, "p", &[0, 1, 2], &speeds), (Some(2), 0), "it is recorded");
        assert_eq!(asked(at, "q", &[9, 1], &speeds), (Some(1), 2), "the first does not run");
        assert_eq!(asked(at, "r", &[9], &speeds).0, None);
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
