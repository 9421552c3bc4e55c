//! Timed algorithms of the matrix library, kept by (device, driver, build) like a self-check, and taken up before anything is computed.

use super::{Context, selfcheck};
use crate::device::Opened;
use crate::{fsio, limits};
use anyhow::Result;
use candle_core::Device;
use medft_nn::products::{self, Algorithm, Choice, Record, Timed};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One product of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Shape, types, alignment, and what is done besides.
    product: String,
    /// As cuBLASLt keeps it.
    algorithm: Algorithm,
    /// Its place among the library's candidates.
    place: usize,
    /// Microseconds of the library's first choice, and of this one.
    first_us: f64,
    taken_us: f64,
}

fn file(c: &Context, device: &Opened) -> Result<PathBuf> {
    selfcheck::file(c, device, "-products.json")
}

fn kept(c: &Context, device: &Opened) -> Option<Record> {
    parse(&fsio::read_at_most(&file(c, device).ok()?, limits::RECORD).ok()?)
}

fn parse(text: &[u8]) -> Option<Record> {
    let entries: Vec<Entry> = serde_json::from_slice(text).ok()?;
    let timed = |e: Entry| {
        let timed = Timed {
            algorithm: e.algorithm,
            place: e.place,
            first_us: e.first_us,
            taken_us: e.taken_us,
        };
        (e.product, timed)
    };
    Some(entries.into_iter().map(timed).collect())
}

fn text(record: &Record) -> Result<Vec<u8>> {
    let entry = |(product, t): (&String, &Timed)| Entry {
        product: product.clone(),
        algorithm: t.algorithm,
        place: t.place,
        first_us: t.first_us,
        taken_us: t.taken_us,
    };
    Ok(serde_json::to_vec_pretty(
        &record.iter().map(entry).collect::<Vec<_>>(),
    )?)
}

/// Has products on a GPU computed as an earlier [`time`] recorded; where there was none, as the library chooses. What was chosen in this
/// process stays.
pub(super) fn take_up(c: &Context, device: &Opened) {
    if !device.device.is_cpu()
        && products::chosen(&device.device) == Choice::First
        && let Some(record) = kept(c, device)
    {
        products::choose(&device.device, Choice::Recorded(record));
    }
}

/// Times the products of `step` that no record has, and adds them to the record of `device`. Those that it has stay as
/// they are, so that results that were computed with them can be had again.
///
/// # Errors
/// Those of the step, and where the record cannot be written.
pub(super) fn time(c: &Context, device: &Opened, step: impl FnOnce() -> Result<()>) -> Result<Record> {
    products::choose(&device.device, Choice::Time(kept(c, device).unwrap_or_default()));
    let done = step();
    let record = recorded(&device.device).unwrap_or_default();
    products::choose(&device.device, Choice::Recorded(record.clone()));
    done?;
    fsio::write_atomic(&file(c, device)?, &text(&record)?)?;
    Ok(record)
}

fn recorded(device: &Device) -> Option<Record> {
    match products::chosen(device) {
        Choice::First => None,
        Choice::Recorded(record) | Choice::Time(record) => Some(record),
    }
}

/// What chooses the algorithms of products on `device`, for a run's record; `None` where the library does.
pub(super) fn described(device: &Device) -> Option<String> {
    let record = recorded(device)?;
    let hash = fsio::sha256_hex(&text(&record).ok()?);
    Some(format!("{} timed, record {hash}", record.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_rubbish_is_none() {
        let timed = Timed {
            algorithm: [u64::MAX, 1, 2, 3, 4, 5, 6, 7],
            place: 3,
            first_us: 12.5,
            taken_us: 11.0,
        };
        let record = Record::from([("2×3 by 3×4, f32".to_owned(), timed)]);
        assert_eq!(parse(&text(&record).unwrap()), Some(record));
        assert_eq!(parse(b"[{}]"), None);
        assert_eq!(parse(b""), None);
        // A processor has none.
        assert_eq!(described(&Device::Cpu), None);
    }
}
