//! The folder of a study's runs: who is there, in which state, and the order in which files are written.
//!
//! ```text
//! results/<study>/<first 16 characters of the run id>/
//!     lease               while a process is at the run; see `lease`
//!     spec.json           before training
//!     checkpoint/         the trainer's own, gone when the run is done
//!     failed.json         instead of the rest, when the run ended without a result
//!     weights.safetensors, weights-last.safetensors   where trained weights are kept
//!     epochs.json, predictions.parquet, provenance.json, metrics.json
//!     DONE                last: the hash of every file above, as `sha256sum -c` reads it
//! ```
//!
//! A run without `DONE` is never counted. A run whose files do not fit `DONE` or their own hash is reported as broken; when it
//! is run again, the broken folder is set aside under `.broken/`, not deleted.

use super::provenance::Provenance;
use super::record::{read_record, write_record};
use super::spec::Spec;
use super::types::{Epochs, Failure, Metrics, PredictionFile, RuleMetrics, RunOutput, RunRecord, WhichWeights};
use super::{Content, Epoch, Predictions};
use crate::error::BadInput;
use crate::fsio::{self, HashedPending};
use crate::lease::{self, Held, Holder, Lease};
use crate::limits;
use crate::privacy::without_places;
use crate::tell;
use anyhow::{Context, Result, ensure};
use rayon::prelude::*;

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How many characters of the run id name the folder.
pub const FOLDER_DIGITS: usize = 16;

pub(super) const SPEC: &str = "spec.json";
pub(super) const EPOCHS: &str = "epochs.json";
pub(super) const PREDICTIONS: &str = "predictions.parquet";
pub(super) const PROVENANCE: &str = "provenance.json";
pub(super) const METRICS: &str = "metrics.json";
pub(super) const FAILED: &str = "failed.json";
pub(super) const DONE: &str = "DONE";
pub(super) const CHECKPOINT: &str = "checkpoint";
pub(super) const LEASE: &str = "lease";
/// Where runs that cannot be used are set aside.
pub(super) const ASIDE: &str = ".broken";
/// Trained weights: the only set that is kept, or the best of both; then the last of both.
pub const WEIGHTS: &str = "weights.safetensors";
pub const LAST_WEIGHTS: &str = "weights-last.safetensors";
/// What a run may have kept. Whoever needs the room may remove them: no number follows from them.
pub(super) const KEPT: [&str; 2] = [LAST_WEIGHTS, WEIGHTS];
/// Folder of what was submitted to a batch system, beside those of the runs.
pub const JOBS: &str = ".jobs";
/// In the order of `sha256sum *`.
const FILES: [&str; 5] = [EPOCHS, METRICS, PREDICTIONS, PROVENANCE, SPEC];

/// What is in a run's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunState {
    /// No folder.
    Absent,
    /// Started and not finished.
    Partial { checkpoint: bool },
    /// Ended without a result, for this reason; a gap, not a result.
    Failed(String),
    /// Whole.
    Done,
    /// Torn or edited; never read.
    Broken(String),
}

/// Every run folder of a study, each list sorted by run id or folder name.
#[derive(Debug, Default)]
pub struct Listing {
    pub done: Vec<RunRecord>,
    /// Folder name and record of runs that ended without a result.
    pub failed: Vec<(String, Failure)>,
    /// Folder names of runs that were started and not finished.
    pub partial: Vec<String>,
    /// Folder name and complaint of runs that cannot be read.
    pub broken: Vec<(String, String)>,
}

/// A run's folder, held by this process until it is dropped: no other process may begin the same run meanwhile.
#[derive(Debug)]
pub struct Claim {
    dir: PathBuf,
    lease: Lease,
}

impl Claim {
    /// Whether the run is still this process's; asked before anything is written to its folder.
    ///
    /// # Errors
    /// [`crate::lease::Lost`] where another process took it over.
    pub fn check(&self) -> Result<()> {
        self.lease.check()
    }
}

impl std::ops::Deref for Claim {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.dir
    }
}

/// Why a run could not be begun although nothing is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Taken {
    #[error("{0}: {1}")]
    Busy(String, Held),
    #[error("{0}: this run is finished; move the folder away to make it again")]
    Finished(String),
}

/// The runs of one study below a results folder.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The store `results_root/study`; nothing is touched until a run begins.
    pub fn new(results_root: &Path, study: &str) -> Self {
        Self {
            folder: results_root.join(study),
        }
    }

    /// The store in this very folder, wherever it lies.
    pub fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// The store that a finished run's folder lies in, and its record.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn of_run(dir: &Path) -> Result<(Self, RunRecord)> {
        let record = load_dir(dir)?;
        // A bare name lies in the working folder.
        let folder = dir
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        Ok((Self::at(folder), record))
    }

    /// The study's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of a run.
    pub fn run_dir(&self, id: &str) -> PathBuf {
        self.folder.join(folder_name(id))
    }

    /// Where the trainer keeps its checkpoint; removed when the run is done.
    pub fn checkpoint_dir(&self, id: &str) -> PathBuf {
        self.run_dir(id).join(CHECKPOINT)
    }

    /// Who is at a run; `now` is the file system's time.
    pub fn holder(&self, id: &str, now: SystemTime) -> Option<Holder> {
        lease::holder(&self.run_dir(id).join(LEASE), now)
    }

    /// What is in the folder of run `id`. Reads and checks the JSON records; of the predictions only the size
    /// (see [`Store::audit`]).
    pub fn state(&self, id: &str) -> RunState {
        match inspect(&self.run_dir(id)) {
            Found::Absent => RunState::Absent,
            Found::Partial { spec: Some(spec), .. } if spec.id != id => RunState::Broken(other_run(&spec.id)),
            Found::Partial { checkpoint, .. } => RunState::Partial { checkpoint },
            Found::Failed(f) => RunState::Failed(f.reason),
            Found::Done(r) if r.id() != id => RunState::Broken(other_run(r.id())),
            Found::Done(_) => RunState::Done,
            Found::Broken(why) => RunState::Broken(why),
        }
    }

    /// Claims the folder of a run that is about to be trained and writes `spec.json`. A partial run keeps its checkpoint, and so
    /// does one that an error ended; one whose numbers failed starts afresh; a broken one is set aside. What a killed writer left half-written is removed.
    ///
    /// # Errors
    /// [`Taken`] when another process is at the run or it is done; [`BadInput`] when the results folder is not writable.
    pub fn begin(&self, spec: &Spec) -> Result<Claim> {
        let dir = self.run_dir(&spec.id);
        let name = dir.display().to_string();
        let claim = claim(dir)?;
        let write = match inspect(&claim.dir) {
            Found::Absent | Found::Partial { spec: None, .. } => true,
            Found::Partial { spec: Some(old), .. } => {
                if *old != *spec {
                    return self.replace(claim, spec);
                }
                false
            }
            Found::Failed(f) => {
                remove(&claim.join(FAILED))?;
                if !f.error {
                    remove(&claim.join(CHECKPOINT))?;
                }
                true
            }
            Found::Done(r) if r.spec == *spec => return Err(Taken::Finished(name).into()),
            Found::Done(_) | Found::Broken(_) => return self.replace(claim, spec),
        };
        fsio::sweep(&claim)?;
        fsio::sweep(&claim.join(CHECKPOINT))?;
        if write && let Err(e) = write_record(&claim.join(SPEC), spec) {
            // Whoever was stopped while it wrote may have lost the run meanwhile: that is no fault of the disk.
            return Err(match (claim.check(), claim.join(DONE).exists()) {
                (Ok(()), _) => e,
                (Err(_), true) => Taken::Finished(name).into(),
                (Err(_), false) => Taken::Busy(name, Held(None)).into(),
            });
        }
        Ok(claim)
    }

    /// Sets aside what cannot be used in a claimed folder.
    fn replace(&self, claim: Claim, spec: &Spec) -> Result<Claim> {
        self.set_aside(&claim.dir)?;
        write_record(&claim.join(SPEC), spec)?;
        Ok(claim)
    }

    fn set_aside(&self, dir: &Path) -> Result<()> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let aside = self.folder.join(ASIDE);
        fs::create_dir_all(&aside).with_context(|| format!("cannot create {}", aside.display()))?;
        let free = (1..)
            .map(|n: u32| aside.join(format!("{name}-{n}")))
            .find(|p| !p.exists());
        let target = free.context("no free name for a broken run")?;
        let moved = || -> std::io::Result<()> {
            fs::create_dir(&target)?;
            for entry in fs::read_dir(dir)? {
                let name = entry?.file_name();
                if name != LEASE {
                    fs::rename(dir.join(&name), target.join(&name))?;
                }
            }
            Ok(())
        };
        moved().with_context(|| format!("cannot move what is in {} to {}", dir.display(), target.display()))
    }

    /// As [`Store::finish_if`], where no other process can be at the run.
    ///
    /// # Errors
    /// As [`Store::finish_if`].
    pub fn finish(&self, id: &str, output: &RunOutput) -> Result<RunRecord> {
        self.finish_if(id, output, &|| Ok(()))
    }

    /// Writes everything a finished run leaves, `DONE` last, and then removes the checkpoint. Where another process has finished
    /// the run meanwhile, its record stays: the same predictions under another time.
    ///
    /// # Errors
    /// When `may_write` says that the run is another process's, the output contradicts itself or what is there, or a file cannot
    /// be written; the run is then still partial, with its checkpoint.
    pub fn finish_if(&self, id: &str, output: &RunOutput, may_write: &dyn Fn() -> Result<()>) -> Result<RunRecord> {
        let dir = self.run_dir(id);
        let (spec, spec_hash) = read_record::<Spec>(&dir.join(SPEC))?;
        ensure!(spec.id == id, "{}", other_run(&spec.id));
        let value = check_output(output)?;
        let bytes = output.predictions.to_bytes()?;
        let metrics = Metrics {
            target: output.target.clone(),
            value,
            headline: output.headline,
            best: output.best.clone(),
            last: output.last.clone(),
            selected: output.selected,
            rules: output
                .rules
                .iter()
                .map(|(rule, m)| (rule.clone(), RuleMetrics(m.clone())))
                .collect(),
            weights_sha256: output.weights_sha256.clone(),
            model: output.model.clone(),
            divergence: output.divergence.clone(),
            predictions: PredictionFile {
                sha256: fsio::sha256_hex(&bytes),
                bytes: bytes.len() as u64,
                images: output.predictions.ids.len() as u64,
            },
        };
        let provenance = Provenance {
            seed: spec.run.seed,
            data_sha256: spec.data_sha256.clone(),
            weights: spec.weights.clone(),
            ..output.provenance.clone()
        };
        may_write()?;
        // What a holder that fell silent was writing: it lost the run, and its temp file would stay in the record's folder.
        fsio::sweep_after(&dir, lease::time_out())?;
        if dir.join(DONE).exists() {
            let there = self.load(id)?;
            ensure!(
                there.metrics.predictions == metrics.predictions,
                "{}: another process has finished this run with other predictions ({}) than this one ({}); one of the two computers \
                 is not to be trusted",
                dir.display(),
                there.metrics.predictions.sha256,
                metrics.predictions.sha256
            );
            return Ok(there);
        }
        fsio::write_atomic(&dir.join(PREDICTIONS), &bytes)?;
        let mut hashes = BTreeMap::from([
            (SPEC, spec_hash),
            (PREDICTIONS, metrics.predictions.sha256.clone()),
            (EPOCHS, write_record(&dir.join(EPOCHS), &Epochs(output.epochs.clone()))?),
            (PROVENANCE, write_record(&dir.join(PROVENANCE), &provenance)?),
            (METRICS, write_record(&dir.join(METRICS), &metrics)?),
        ]);
        for file in KEPT {
            match output.kept.get(file) {
                Some(hash) => drop(hashes.insert(file, hash.clone())),
                // Of an earlier try, under another name of what is kept.
                None => remove(&dir.join(file))?,
            }
        }
        may_write()?;
        if let Err(e) = fsio::write_atomic(&dir.join(DONE), done_lines(&hashes).as_bytes()) {
            // It may have its name although the disk would not promise to keep it: then the run is finished, and a power cut now
            // costs making it again.
            if self.load(id).is_err() {
                return Err(e);
            }
            tell!("warning: {e:#}");
        }
        // What cannot be removed now is removed by `tidy`.
        let _ = remove(&dir.join(CHECKPOINT));
        Ok(RunRecord {
            spec,
            metrics,
            provenance,
        })
    }

    /// Whether a run's folder says that it is whole.
    pub fn is_done(&self, id: &str) -> bool {
        self.run_dir(id).join(DONE).exists()
    }

    /// Writes trained weights into a claimed run's folder; returns their hash, for [`RunOutput::kept`]. They are streamed: the largest
    /// models have gigabytes.
    ///
    /// # Errors
    /// [`BadInput`] where the disk is full or the folder not writable.
    pub fn keep(&self, id: &str, file: &str, fill: &dyn Fn(&mut dyn Write) -> Result<()>) -> Result<String> {
        let path = self.run_dir(id).join(file);
        let mut out = HashedPending::create(&path)?;
        fill(&mut out)?;
        out.publish_as(|_| path)
    }

    /// The trained weights that a finished run kept: path and hash, the best first.
    ///
    /// # Errors
    /// [`BadInput`] where the run is not done.
    pub fn kept(&self, id: &str) -> Result<Vec<(PathBuf, String)>> {
        let dir = self.run_dir(id);
        let done = read_done(&dir)?;
        let there = [WEIGHTS, LAST_WEIGHTS]
            .into_iter()
            .filter_map(|f| Some((dir.join(f), done.get(f)?.clone())));
        Ok(there.filter(|(path, _)| path.is_file()).collect())
    }

    /// Records that a run ended without a result. Its checkpoint stays as evidence until the run is begun again.
    ///
    /// # Errors
    /// Where the record cannot be written.
    pub fn fail(&self, id: &str, failure: &Failure) -> Result<()> {
        let failure = Failure {
            reason: without_places(&failure.reason),
            ..failure.clone()
        };
        write_record(&self.run_dir(id).join(FAILED), &failure).map(|_| ())
    }

    /// Removes what a finished run has no use for and its process did not remove: it was killed before it could, or the disk would
    /// not.
    ///
    /// # Errors
    /// Where something cannot be removed.
    pub fn tidy(&self, id: &str) -> Result<()> {
        let dir = self.run_dir(id);
        if !dir.join(DONE).exists() {
            return Ok(());
        }
        // Nobody takes the lease of a finished run; one that is there is of a process that ended before it gave it back.
        remove(&dir.join(LEASE))?;
        remove(&dir.join(FAILED))?;
        fsio::sweep(&dir)?;
        remove(&self.checkpoint_dir(id))
    }

    /// The record of a finished run.
    ///
    /// # Errors
    /// [`BadInput`] when the run is not done, torn or edited.
    pub fn load(&self, id: &str) -> Result<RunRecord> {
        let dir = self.run_dir(id);
        let record = load_dir(&dir)?;
        ensure!(record.id() == id, "{}: {}", dir.display(), other_run(record.id()));
        Ok(record)
    }

    /// The epochs of a finished run.
    ///
    /// # Errors
    /// Where the file cannot be read, or does not fit what `DONE` states of it.
    pub fn epochs(&self, id: &str) -> Result<Vec<Epoch>> {
        let dir = self.run_dir(id);
        let done = read_done(&dir)?;
        Ok(checked::<Epochs>(&dir, EPOCHS, &done)?.0)
    }

    /// The test predictions of a finished run, checked against their hash.
    ///
    /// # Errors
    /// Where the file cannot be read, or does not fit what `DONE` states of it.
    pub fn predictions(&self, id: &str) -> Result<Predictions> {
        let dir = self.run_dir(id);
        let done = read_done(&dir)?;
        let path = dir.join(PREDICTIONS);
        let bytes = fsio::read(&path)?;
        same_hash(&path, &done[PREDICTIONS], &fsio::sha256_hex(&bytes))?;
        let (metrics, _) = read_record::<Metrics>(&dir.join(METRICS))?;
        Predictions::from_bytes(&path, &bytes, Some(metrics.predictions.images))
    }

    /// What changes whenever a file of a finished run does: the text of `DONE`, and what the predictions, which no one else has
    /// read by then, hash to.
    ///
    /// # Errors
    /// Where a file of the run cannot be read.
    pub fn mark(&self, id: &str) -> Result<String> {
        let dir = self.run_dir(id);
        let predictions = fsio::sha256_file(&dir.join(PREDICTIONS), |_| {})?;
        let done = fsio::read_to_string(&dir.join(DONE))?;
        Ok(format!("{id} {predictions}\n{done}"))
    }

    /// Every run folder of the study, read in parallel. An absent folder is an empty listing.
    ///
    /// # Errors
    /// When the study's folder exists and cannot be listed.
    pub fn all(&self) -> Result<Listing> {
        let mut names = Vec::new();
        let entries = match fs::read_dir(&self.folder) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Listing::default()),
            other => other.with_context(|| format!("cannot list {}", self.folder.display()))?,
        };
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", self.folder.display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') && entry.path().is_dir() {
                names.push(name);
            }
        }
        names.sort();
        let found: Vec<Found> = names.par_iter().map(|n| inspect(&self.folder.join(n))).collect();
        let mut listing = Listing::default();
        for (name, found) in names.into_iter().zip(found) {
            match found {
                Found::Absent => {}
                Found::Partial { .. } => listing.partial.push(name),
                Found::Failed(f) => listing.failed.push((name, f)),
                Found::Done(r) => listing.done.push(*r),
                Found::Broken(why) => listing.broken.push((name, why)),
            }
        }
        listing.done.sort_by(|a, b| a.id().cmp(b.id()));
        Ok(listing)
    }
}

/// Bytes on their way to a file, hashed.
/// Makes a run's folder and takes its lease.
fn claim(dir: PathBuf) -> Result<Claim> {
    fsio::create_dir(&dir)?;
    match Lease::take(&dir.join(LEASE))? {
        Ok(lease) => Ok(Claim { dir, lease }),
        Err(held) => Err(Taken::Busy(dir.display().to_string(), held).into()),
    }
}

fn folder_name(id: &str) -> &str {
    id.get(..FOLDER_DIGITS).unwrap_or(id)
}

fn other_run(id: &str) -> String {
    format!("the folder holds another run ({id})")
}

enum Found {
    Absent,
    Partial { spec: Option<Box<Spec>>, checkpoint: bool },
    Failed(Failure),
    Done(Box<RunRecord>),
    Broken(String),
}

fn inspect(dir: &Path) -> Found {
    if !dir.exists() {
        return Found::Absent;
    }
    let broken = |e: anyhow::Error| Found::Broken(format!("{e:#}"));
    if dir.join(DONE).exists() {
        return load_dir(dir).map_or_else(broken, |r| Found::Done(Box::new(r)));
    }
    if dir.join(FAILED).exists() {
        return read_record(&dir.join(FAILED)).map_or_else(broken, |(f, _)| Found::Failed(f));
    }
    let checkpoint = fs::read_dir(dir.join(CHECKPOINT)).is_ok_and(|mut entries| entries.next().is_some());
    if !dir.join(SPEC).exists() {
        return Found::Partial { spec: None, checkpoint };
    }
    read_record::<Spec>(&dir.join(SPEC)).map_or_else(broken, |(spec, _)| Found::Partial {
        spec: Some(Box::new(spec)),
        checkpoint,
    })
}

fn load_dir(dir: &Path) -> Result<RunRecord> {
    let done = read_done(dir)?;
    let spec: Spec = checked(dir, SPEC, &done)?;
    let metrics: Metrics = checked(dir, METRICS, &done)?;
    let provenance: Provenance = checked(dir, PROVENANCE, &done)?;
    let epochs = dir.join(EPOCHS);
    same_hash(&epochs, &done[EPOCHS], &fsio::sha256_file(&epochs, |_| {})?)?;
    let folder = dir.file_name().unwrap_or_default().to_string_lossy();
    ensure!(
        folder == folder_name(&spec.id),
        "{}: {}",
        dir.display(),
        other_run(&spec.id)
    );
    let predictions = dir.join(PREDICTIONS);
    same_hash(&predictions, &done[PREDICTIONS], &metrics.predictions.sha256)?;
    let size = fs::metadata(&predictions)
        .with_context(|| format!("cannot read {}", predictions.display()))?
        .len();
    if size != metrics.predictions.bytes {
        return Err(torn(
            &predictions,
            format!("{} bytes", metrics.predictions.bytes),
            format!("{size} bytes"),
        )
        .into());
    }
    Ok(RunRecord {
        spec,
        metrics,
        provenance,
    })
}

/// The whole of `DONE`.
pub(super) fn done_lines<F: std::fmt::Display>(hashes: &BTreeMap<F, String>) -> String {
    hashes.iter().map(|(file, hash)| format!("{hash}  {file}\n")).collect()
}

/// `DONE` as file name → SHA-256, with exactly the files that a finished run has.
pub(super) fn read_done(dir: &Path) -> Result<BTreeMap<String, String>> {
    let path = dir.join(DONE);
    if !path.exists() {
        return Err(BadInput::new(
            dir.display(),
            "a finished run",
            "one without its DONE marker",
            "Run the study again: it takes up unfinished runs.",
        )
        .into());
    }
    let text =
        fsio::read_text_at_most(&path, limits::RECORD).with_context(|| format!("cannot read {}", path.display()))?;
    let hashes: BTreeMap<String, String> = text
        .lines()
        .filter_map(|l| l.split_once("  "))
        .map(|(h, f)| (f.to_owned(), h.to_owned()))
        .collect();
    let kept = KEPT.iter().filter(|f| hashes.contains_key(**f)).count();
    let whole = text.lines().count() == FILES.len() + kept && FILES.iter().all(|f| hashes.contains_key(*f));
    if !whole {
        return Err(torn(
            &path,
            format!("a hash for each of {}", FILES.join(", ")),
            "other lines".to_owned(),
        )
        .into());
    }
    Ok(hashes)
}

fn checked<T: Content>(dir: &Path, file: &str, done: &BTreeMap<String, String>) -> Result<T> {
    let path = dir.join(file);
    let (content, hash) = read_record(&path)?;
    same_hash(&path, &done[file], &hash)?;
    Ok(content)
}

fn same_hash(path: &Path, expected: &str, found: &str) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(torn(
        path,
        format!("a file that hashes to {expected}, as DONE says"),
        format!("one that hashes to {found}"),
    )
    .into())
}

fn torn(path: &Path, expected: String, found: String) -> BadInput {
    let remedy = "The file was changed after the run: restore it from a copy, or move the run's folder away and run the study again.";
    BadInput::new(path.display(), expected, found, remedy)
}

/// Removes a file or a folder if it is there.
fn remove(path: &Path) -> Result<()> {
    let gone = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match gone {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Looks for contradictions in what the trainer hands over; returns the headline value.
fn check_output(o: &RunOutput) -> Result<f64> {
    ensure!(
        o.best.keys().eq(o.last.keys()),
        "best and last weights were not measured by the same metrics"
    );
    ensure!(
        o.rules.keys().eq(o.predictions.others.keys()),
        "the rules that were tested are not those that were predicted with"
    );
    let headline = match o.headline {
        WhichWeights::Best => &o.best,
        WhichWeights::Last => &o.last,
    };
    let value = *headline
        .get(&o.target)
        .with_context(|| format!("the target metric {} was not measured", o.target))?;
    ensure!(
        o.epochs.windows(2).all(|w| w[0].epoch < w[1].epoch),
        "epochs are not in order"
    );
    for chosen in [o.selected.faithful, o.selected.corrected].into_iter().flatten() {
        ensure!(
            o.epochs.iter().any(|e| e.epoch == chosen),
            "epoch {chosen} was selected but is not recorded"
        );
    }
    Ok(value)
}
