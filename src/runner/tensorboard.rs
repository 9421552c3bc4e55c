//! TensorBoard's event files: one folder a run, a record an epoch, written while it trains.
//!
//! A file is a sequence of TFRecords (length, masked CRC-32C of it, bytes, masked CRC-32C of those), each an `Event` message
//! (tensorflow/core/util/event.proto); only its fields that are used stand here.

use crate::error::BadInput;
use crate::study::{RunId, RunSpec};
use crate::tell;
use crate::train::Epoch;
use anyhow::{Context as _, Result};
use prost::Message;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    /// One of several kinds of value, so a 0 has to be said.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// The beginning of the name of every file that medft writes.
const PREFIX: &str = "events.out.tfevents.";
/// Its end.
const SUFFIX: &str = ".medft";

/// The event file of a run that is under way. What cannot be written is said once and stops nothing.
pub(super) struct Curves(Option<Mutex<Option<File>>>);

impl Curves {
    /// Begins the file of a run below `dir`, in place of those that earlier tries of it left: epochs from before a resumption are
    /// written again.
    pub(super) fn begin(dir: Option<&Path>, study: &str, s: &RunSpec, id: &RunId) -> Self {
        let Some(dir) = dir else { return Self(None) };
        let name = format!(
            "{}-{}-{}-{}-seed{}-{}",
            s.dataset,
            s.backbone,
            s.freeze,
            s.head,
            s.seed,
            id.short()
        );
        match create(&dir.join(study).join(name)) {
            Ok(file) => Self(Some(Mutex::new(Some(file)))),
            Err(e) => {
                tell!("warning: no curves of {} are written: {e:#}", id.short());
                Self(None)
            }
        }
    }

    /// Adds an epoch.
    pub(super) fn add(&self, epoch: &Epoch) {
        let Some(file) = &self.0 else { return };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(e)) = file.as_mut().map(|f| put(f, &event(epoch))) {
            tell!("warning: curves cannot be written any more: {e:#}");
            *file = None;
        }
    }
}

/// Makes the folder, so that a place that cannot be written to is known before the first run.
///
/// # Errors
/// [`BadInput`] where it cannot be made.
pub fn check(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|e| {
        let remedy = "Name a folder that you can write to.";
        BadInput::new(
            format!("--tensorboard {}", dir.display()),
            "a folder",
            e.to_string(),
            remedy,
        )
        .into()
    })
}

fn create(dir: &Path) -> Result<File> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    let path = dir.join(format!("{PREFIX}{}{SUFFIX}", now() as u64));
    // It grows event by event, while it is read.
    #[expect(clippy::disallowed_methods)]
    let mut file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let version = Event {
        wall_time: now(),
        file_version: Some("brain.Event:2".into()),
        ..Event::default()
    };
    put(&mut file, &version)?;
    Ok(file)
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64())
}

/// Losses, rate and validation metrics. What an epoch does not have (an extra validation trains nothing) is left out.
fn event(e: &Epoch) -> Event {
    let mut values = vec![
        ("loss/train".to_owned(), e.train_loss),
        ("loss/validation".to_owned(), e.val_loss),
        ("rate".to_owned(), e.lr),
    ];
    values.extend(e.val.iter().map(|(metric, v)| (format!("validation/{metric}"), *v)));
    let value = values.into_iter().filter(|v| !v.1.is_nan()).map(|(tag, v)| Scalar {
        tag,
        simple_value: Some(v as f32),
    });
    Event {
        wall_time: now(),
        step: i64::from(e.epoch),
        file_version: None,
        summary: Some(Summary { value: value.collect() }),
    }
}

/// One record, whole: a reader may look while it is written.
fn put(file: &mut File, event: &Event) -> Result<()> {
    let bytes = event.encode_to_vec();
    let length = (bytes.len() as u64).to_le_bytes();
    let record = [&length[..], &masked(&length), &bytes, &masked(&bytes)].concat();
    file.write_all(&record)
        .and_then(|()| file.flush())
        .context("an event file")
}

/// TensorFlow's masked CRC-32C, little-endian.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
        .to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::masked;

    /// As TensorBoard's own writer frames a record of 72 bytes: the first twelve of a file of tensorboard 2.21.
    #[test]
    fn the_mask_is_tensorflows() {
        assert_eq!(masked(&72u64.to_le_bytes()), [0xfe, 0x92, 0x48, 0x9d]);
    }
}
