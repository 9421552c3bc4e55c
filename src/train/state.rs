//! Checkpoints of a run: everything that the rest of the run depends on.
//!
//! One safetensors file a checkpoint: parameters, moments, best weights, and a JSON header with the run's id and the position in it.
//! All random numbers are keyed by (seed, purpose, epoch, image), so the position is the whole state of the generators.
//! The file's SHA-256 stands in its name; a torn one and one of another run are skipped, and the one before it is used.

use super::loss_scale::LossScale;
use super::optim::AdamW;
use super::{Divergence, Epoch, Timing};
use crate::fsio::{self, HashedFile, HashedPending};
use crate::model::kept::header;
use crate::model::safetensors::{SafetensorsFile, as_bytes};
use anyhow::{Context, Result};
use candle_core::Device;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const KEPT: usize = 2;

/// Copies of the trainable parameters that lie on disk at most: in each checkpoint that is kept and the one being written,
/// values, two moments and the weights of the epochs that three rules select.
pub const MOST_COPIES: u64 = (KEPT as u64 + 1) * 6;

/// The position in a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Epochs finished, validation included.
    pub epochs_done: u32,
    /// Steps done in the epoch under way.
    pub step_in_epoch: u64,
    /// Optimiser steps since the start.
    pub steps: u64,
    /// Sum of the losses of the epoch under way.
    #[serde(with = "crate::nan::value")]
    pub loss_sum: f64,
    /// Seconds of the epoch under way.
    pub epoch_seconds: f64,
    /// The latest losses, evidence where a run fails.
    #[serde(with = "crate::nan::list")]
    pub recent: VecDeque<f64>,
    pub epochs: Vec<Epoch>,
    /// For each rule of selection: value and epoch of the best weights; `None` is the initial weights.
    pub best: Vec<Option<(f64, u32)>>,
    pub timing: Timing,
    /// The factor on the loss, in float16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
    #[serde(default)]
    pub divergence: Divergence,
    /// Updates each parameter has had, in order.
    updates: Vec<u64>,
}

/// Trainable parameters by value, in order.
pub type Weights = Vec<Vec<f32>>;

/// Keys of the header.
const RUN: &str = "run";
const POSITION: &str = "position";

/// Weights of the epochs that a rule would select; never changed, so a checkpoint under way may share them.
pub type Kept = BTreeMap<u32, Arc<Weights>>;

/// All of a checkpoint on the host: it can be written while the run goes on.
pub struct HostCopy {
    run: String,
    position: Position,
    moments: Vec<[Vec<f32>; 2]>,
    weights: Weights,
    kept: Kept,
}

impl HostCopy {
    /// The run of this id as it is now; the one copy that a checkpoint takes.
    ///
    /// # Errors
    /// What the device says.
    pub fn take(run: &str, position: &Position, optim: &AdamW, weights: Weights, kept: &Kept) -> Result<Self> {
        let mut position = position.clone();
        position.updates = optim.slots.iter().map(|s| s.updates).collect();
        Ok(Self {
            run: run.to_owned(),
            position,
            moments: optim
                .slots
                .iter()
                .map(|s| Ok(s.moments()?.map(Cow::into_owned)))
                .collect::<Result<_>>()?,
            weights,
            kept: kept.clone(),
        })
    }

    /// Names and values, in the order of the file.
    fn tensors(&self) -> Vec<(String, &[f32])> {
        let mut all: Vec<(String, &[f32])> = Vec::new();
        for (i, [m, v]) in self.moments.iter().enumerate() {
            all.push((format!("m.{i:05}"), m));
            all.push((format!("v.{i:05}"), v));
            all.push((format!("p.{i:05}"), &self.weights[i]));
            for (epoch, w) in &self.kept {
                all.push((format!("kept.{epoch}.{i:05}"), &w[i]));
            }
        }
        all
    }

    /// Writes the checkpoint, hashing it on the way, and drops all but the last two; `may_publish` is asked before it gets its name.
    ///
    /// # Errors
    /// [`crate::error::BadInput`] where the disk is full or the folder not writable, and where `may_publish` says no; the last
    /// checkpoint is then untouched.
    pub fn write(&self, dir: &Path, may_publish: &dyn Fn() -> Result<()>) -> Result<()> {
        let tensors = self.tensors();
        let meta = Map::from_iter([
            (RUN.to_owned(), Value::from(self.run.clone())),
            (POSITION.to_owned(), serde_json::to_string(&self.position)?.into()),
        ]);
        let lengths: Vec<[usize; 1]> = tensors.iter().map(|t| [t.1.len()]).collect();
        let shapes = tensors
            .iter()
            .zip(&lengths)
            .map(|((name, _), n)| (name.as_str(), n.as_slice()));
        let mut out = HashedPending::create(&dir.join("checkpoint"))?;
        out.put(&header(meta, shapes)?)?;
        for (_, values) in &tensors {
            out.put(as_bytes(values))?;
        }
        may_publish()?;
        let place = self.position.steps * 2 + u64::from(self.position.step_in_epoch == 0);
        out.publish_as(|hash| dir.join(format!("{place:012}-{hash}.safetensors")))?;
        for old in files(dir)?.iter().rev().skip(KEPT) {
            match fs::remove_file(old) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(e).with_context(|| format!("cannot remove {}", old.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Writes a checkpoint of the run of this id and drops all but the last two.
///
/// # Errors
/// As [`HostCopy::write`].
pub fn save(dir: &Path, run: &str, position: &Position, optim: &AdamW, weights: Weights, kept: &Kept) -> Result<()> {
    HostCopy::take(run, position, optim, weights, kept)?.write(dir, &|| Ok(()))
}

/// What a checkpoint holds.
pub struct Restored {
    pub position: Position,
    pub weights: Weights,
    /// Weights of the epochs that a rule would select.
    pub kept: Kept,
}

/// Reads the newest whole checkpoint of the run of this id, with `rules` rules of selection, into the optimiser's moments;
/// `None` where there is none that fits.
///
/// # Errors
/// Where the folder or a file in it cannot be read.
pub fn load(dir: &Path, run: &str, optim: &mut AdamW, rules: usize) -> Result<Option<Restored>> {
    if !dir.exists() {
        return Ok(None);
    }
    for path in files(dir)?.into_iter().rev() {
        if let Some(r) = read(&path, run, optim, rules)? {
            return Ok(Some(r));
        }
    }
    Ok(None)
}

/// Epochs that the newest checkpoint of a run has behind it, by its header alone; `None` where there is none.
pub fn epochs_done(dir: &Path) -> Option<u32> {
    use std::io::Read;
    /// Headers of real models have some hundred kilobytes.
    const MOST: u64 = 16 << 20;
    let mut file = fsio::open_file(files(dir).ok()?.last()?).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let mut header = Vec::new();
    let length = u64::from_le_bytes(length).min(MOST);
    file.take(length).read_to_end(&mut header).ok()?;
    let header: Value = serde_json::from_slice(&header).ok()?;
    let position: Position = serde_json::from_str(header["__metadata__"][POSITION].as_str()?).ok()?;
    Some(position.epochs_done)
}

fn read(path: &Path, run: &str, optim: &mut AdamW, rules: usize) -> Result<Option<Restored>> {
    let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    let Some((_, hash)) = stem.split_once('-') else {
        return Ok(None);
    };
    // Tensor by tensor: of a large model a checkpoint is larger than what is read whole.
    let file = match HashedFile::open(path, None) {
        Ok(file) if file.sha256() == hash => file,
        Ok(_) => return Ok(None),
        // What is no file at all is no checkpoint either.
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    let Ok(file) = SafetensorsFile::of(path, file) else {
        return Ok(None);
    };
    if file.note(RUN) != Some(run) {
        return Ok(None);
    }
    let Some(position) = file.note(POSITION).and_then(|p| serde_json::from_str(p).ok()) else {
        return Ok(None);
    };
    let position: Position = position;
    let get = |name: String, n: usize| -> Option<Vec<f32>> {
        let v = file.load(&name, &Device::Cpu).ok()?.flatten_all().ok()?;
        v.to_vec1::<f32>().ok().filter(|v| v.len() == n)
    };
    if position.updates.len() != optim.slots.len() || position.best.len() != rules {
        return Ok(None);
    }
    let mut kept: BTreeMap<u32, Weights> = position.best.iter().flatten().map(|b| (b.1, Vec::new())).collect();
    let (mut weights, mut moments) = (Vec::new(), Vec::new());
    for (i, s) in optim.slots.iter().enumerate() {
        let n = s.len();
        let (Some(m), Some(v), Some(p)) = (
            get(format!("m.{i:05}"), n),
            get(format!("v.{i:05}"), n),
            get(format!("p.{i:05}"), n),
        ) else {
            return Ok(None);
        };
        weights.push(p);
        moments.push((m, v));
        for (epoch, w) in &mut kept {
            let Some(x) = get(format!("kept.{epoch}.{i:05}"), n) else {
                return Ok(None);
            };
            w.push(x);
        }
    }
    for ((s, (m, v)), u) in optim.slots.iter_mut().zip(moments).zip(&position.updates) {
        s.set_moments(m, v, *u)?;
    }
    Ok(Some(Restored {
        position,
        weights,
        kept: kept.into_iter().map(|(epoch, w)| (epoch, Arc::new(w))).collect(),
    }))
}

/// Checkpoint files, oldest first.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut out = BTreeMap::new();
    for e in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let p = e?.path();
        if p.extension().is_some_and(|e| e == "safetensors") {
            out.insert(p.file_name().unwrap_or_default().to_owned(), p);
        }
    }
    Ok(out.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::super::optim::AdamWConfig;
    use super::*;
    use crate::model::params::{Builder, Init};

    fn optim() -> AdamW {
        let b = Builder::seeded(0, &Device::Cpu);
        b.param([3], "w", Init::Const(1.0)).unwrap();
        let config = AdamWConfig {
            weight_decay: 0.0,
            layer_decay: 1.0,
            clip: 0.0,
        };
        AdamW::new(&b.params(), config).unwrap()
    }

    fn at(steps: u64) -> Position {
        Position {
            steps,
            step_in_epoch: 1,
            best: vec![Some((0.5, 1)), None],
            recent: [0.25, f64::NAN].into(),
            ..Position::default()
        }
    }

    /// Three checkpoints: two stay; the newest is read, and the one before it where the newest is torn.
    #[test]
    fn a_run_on_two_devices_says_so() {
        let mut position = Position::default();
        for d in ["gpu", "gpu", "cpu"] {
            position.timing.on(d.to_owned());
            position = serde_json::from_str(&serde_json::to_string(&position).unwrap()).unwrap();
        }
        assert_eq!(position.timing.devices, ["gpu", "cpu"]);
    }

    #[test]
    fn checkpoints_rotate_and_a_torn_one_falls_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut o = optim();
        for steps in 1..=3 {
            o.slots[0]
                .set_moments(vec![steps as f32; 3], vec![0.0; 3], steps)
                .unwrap();
            let w = vec![vec![10.0 * steps as f32; 3]];
            let kept = Kept::from([(1, Arc::new(vec![vec![0.5; 3]]))]);
            save(dir.path(), "a", &at(steps), &o, w, &kept).unwrap();
        }
        let all = files(dir.path()).unwrap();
        assert_eq!(all.len(), 2);
        let mut fresh = optim();
        let r = load(dir.path(), "a", &mut fresh, 2).unwrap().unwrap();
        assert_eq!(
            (
                r.position.steps,
                r.weights[0][0],
                fresh.slots[0].moments().unwrap()[0][0]
            ),
            (3, 30.0, 3.0)
        );
        assert_eq!((&*r.kept[&1], r.position.best.len()), (&vec![vec![0.5; 3]], 2));
        assert!(r.position.recent[0] == 0.25 && r.position.recent[1].is_nan());
        // A checkpoint of another run is not this run's, nor is one of a run with other rules.
        assert!(load(dir.path(), "b", &mut fresh, 2).unwrap().is_none());
        assert!(load(dir.path(), "a", &mut fresh, 1).unwrap().is_none());

        let bytes = fs::read(&all[1]).unwrap();
        for torn in [&bytes[..bytes.len() - 5], &[bytes.as_slice(), b"x"].concat(), b""] {
            fs::write(&all[1], torn).unwrap();
            let r = load(dir.path(), "a", &mut fresh, 2).unwrap().unwrap();
            assert_eq!(
                (
                    r.position.steps,
                    r.weights[0][0],
                    fresh.slots[0].moments().unwrap()[0][0]
                ),
                (2, 20.0, 2.0)
            );
        }
        // Where the newest is of another run, the one before it is taken up.
        save(
            dir.path(),
            "b",
            &at(9),
            &o,
            vec![vec![0.0; 3]],
            &Kept::from([(1, Arc::new(vec![vec![0.5; 3]]))]),
        )
        .unwrap();
        let newest = files(dir.path()).unwrap().pop().unwrap();
        assert!(load(dir.path(), "b", &mut fresh, 2).unwrap().is_some());
        fs::remove_file(newest).unwrap();
        fs::write(&all[0], b"").unwrap();
        assert!(load(dir.path(), "a", &mut fresh, 2).unwrap().is_none());
    }
}
