//! Nothing that was not verified is computed with: files exchanged while a study runs, at random times and places.
//!
//! A study of two data sets is run undisturbed; then again and again while an image, a label file, an archive or a cache is
//! exchanged behind its back, with size and time kept or not, and put back or not. Whatever a run records under an id must be the
//! bytes of the undisturbed run of that id.

use crate::place::Place;
use medft::rng::{Purpose, Stream};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// Swaps in `make test`; the whole number runs with `cargo test --release --test slow -- --ignored`.
const SWAPS: u32 = 16;
const ALL_SWAPS: u32 = 200;

/// What is swapped, in turn: each kind in `make test` as well.
const KINDS: [Kind; 8] = [
    Kind::Changed("png"),
    Kind::Changed("csv"),
    Kind::Changed("npz"),
    Kind::Changed("px"),
    Kind::Changed("f32"),
    Kind::Changed("json"),
    Kind::Exchanged,
    Kind::Checkpoint,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// A file of this extension becomes another.
    Changed(&'static str),
    /// Two entries of a bucket of caches, whole and valid, take each other's place.
    Exchanged,
    /// The checkpoint of a run is changed, or made another run's, between its stop and its going on.
    Checkpoint,
}

fn study(t: String) -> String {
    t.replace(r#"["frozen", "unfrozen"]"#, r#"["frozen"]"#)
        .replace(r#"["linear", "mha"]"#, r#"["linear"]"#)
        .replace(r#"["aptos2019"]"#, r#"["aptos2019", "ddsm"]"#)
        .replace("epochs = 2", "epochs = 1\naugment = \"none\"")
}

/// Of two backbones, whose tables are of one size, and with a set that is an archive.
fn wide_study(t: String) -> String {
    study(t)
        .replace(r#"["aptos2019", "ddsm"]"#, r#"["aptos2019", "ddsm", "breastmnist"]"#)
        .replace(r#"["dinov2-b"]"#, r#"["dinov2-b", "mae-b"]"#)
}

/// The bytes of every finished run, without what holds times, by folder and file.
fn records(p: &Place) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut out = BTreeMap::new();
    for run in fs::read_dir(p.path("results/s")).into_iter().flatten().flatten() {
        if !run.path().join("DONE").exists() {
            continue;
        }
        for file in ["spec.json", "epochs.json", "metrics.json", "predictions.parquet"] {
            let name = PathBuf::from(run.file_name()).join(file);
            out.insert(name, fs::read(run.path().join(file)).unwrap());
        }
    }
    out
}

fn start(p: &Place) -> Child {
    // What blocks a run from the start is told on stdout, what ends one on stderr.
    let said = fs::File::create(p.path("stderr")).unwrap();
    Command::new(assert_cmd::cargo::cargo_bin("medft"))
        .args(["run", "./s.toml", "--workers", "2"])
        .current_dir(p.path(""))
        .stdin(Stdio::null())
        .stdout(said.try_clone().unwrap())
        .stderr(said)
        .spawn()
        .unwrap()
}

/// As [`start`], with prepared images in a cache however few they are.
fn start_cached(p: &Place, more: &[&str]) -> Child {
    let said = fs::File::create(p.path("stderr")).unwrap();
    Command::new(assert_cmd::cargo::cargo_bin("medft"))
        .args(["run", "./s.toml", "--workers", "2"])
        .args(more)
        .current_dir(p.path(""))
        .env("MEDFT_IMAGE_CACHE_FROM", "0")
        .stdin(Stdio::null())
        .stdout(said.try_clone().unwrap())
        .stderr(said)
        .spawn()
        .unwrap()
}

/// A file as it was.
struct Saved {
    path: PathBuf,
    bytes: Vec<u8>,
    time: SystemTime,
}

impl Saved {
    fn of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            bytes: fs::read(path).unwrap(),
            time: path.metadata().unwrap().modified().unwrap(),
        }
    }

    /// Puts `bytes` in its place, by a rename as rsync does or by writing over it, with its time or a new one. Where a cache was
    /// replaced meanwhile its folder may be gone: then nothing is put.
    fn put(&self, bytes: &[u8], rename: bool, keep_time: bool) {
        let run = || -> std::io::Result<()> {
            // Not beside it: a file that nobody listed would be found there instead.
            let target = match rename {
                true => tempfile::NamedTempFile::new()?.into_temp_path().to_path_buf(),
                false => self.path.clone(),
            };
            if rename || self.path.exists() {
                fs::write(&target, bytes)?;
            }
            if keep_time {
                fs::File::options().write(true).open(&target)?.set_modified(self.time)?;
            }
            if rename {
                fs::rename(&target, &self.path)?;
            }
            Ok(())
        };
        let _ = run();
    }
}

/// Everything that a run reads below the folder of data and of caches.
fn places(p: &Place) -> Vec<PathBuf> {
    let mut all = medft::fsio::below(&p.path("data/phantom"));
    all.extend(medft::fsio::below(&p.path("results/.cache")));
    all.retain(|f| !f.file_name().unwrap().to_string_lossy().starts_with(".medft"));
    all
}

fn is(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|e| e == extension)
}

/// Other bytes that a reader may well take: another file of the kind (an image for an image), or the same with one changed.
fn other(saved: &Saved, all: &[PathBuf], draw: &mut Stream, same_size: bool) -> Vec<u8> {
    let alike: Vec<&PathBuf> = all
        .iter()
        .filter(|o| **o != saved.path && o.extension() == saved.path.extension())
        .collect();
    if !same_size && !alike.is_empty() && is(&saved.path, "png") {
        return fs::read(alike[draw.below(alike.len() as u32) as usize]).unwrap();
    }
    let mut bytes = saved.bytes.clone();
    // In a label file another digit where there is one, so that it still parses.
    let digits: Vec<usize> = (0..bytes.len()).filter(|&i| bytes[i].is_ascii_digit()).collect();
    if is(&saved.path, "csv") {
        let at = digits[digits.len() - 1 - draw.below(digits.len() as u32 / 2) as usize];
        bytes[at] = b'0' + (bytes[at] - b'0' + 1) % 5;
    } else if !bytes.is_empty() {
        let at = draw.below(bytes.len() as u32) as usize;
        bytes[at] ^= 1 << draw.below(8);
    }
    bytes
}

/// A study, what it records undisturbed, and how long that takes.
struct Swaps {
    p: Place,
    expected: BTreeMap<PathBuf, Vec<u8>>,
    length: Duration,
    draw: Stream,
    wrong: Vec<String>,
    noticed: u32,
}

impl Swaps {
    fn new() -> Self {
        let p = Place::new();
        p.study("s", wide_study);
        // The archive is no published one: whoever means to use it says so.
        for args in [
            &["data", "synth", "breastmnist"][..],
            &[
                "data",
                "lock",
                "breastmnist",
                "--data-dir",
                "data/phantom",
                "--accept-labels",
            ],
        ] {
            let a = p.medft(args);
            assert_eq!(a.code, 0, "{}", a.all());
        }
        assert!(
            start_cached(&p, &[]).wait().unwrap().success(),
            "{}",
            fs::read_to_string(p.path("stderr")).unwrap()
        );
        let expected = records(&p);
        assert_eq!(expected.len(), 6 * 4);
        fs::remove_dir_all(p.path("results/s")).unwrap();
        let begun = Instant::now();
        assert!(start_cached(&p, &[]).wait().unwrap().success());
        let length = begun.elapsed();
        assert_eq!(records(&p), expected);
        Self {
            p,
            expected,
            length,
            draw: Stream::new(14, Purpose::Test, 0, 0),
            wrong: Vec::new(),
            noticed: 0,
        }
    }

    fn bit(&mut self) -> bool {
        self.draw.below(2) == 0
    }

    fn one_of(&mut self, all: &[PathBuf]) -> PathBuf {
        all[self.draw.below(all.len() as u32) as usize].clone()
    }

    /// Every record under its id must be the undisturbed one.
    fn look(&mut self, what: &str) {
        for (file, found) in records(&self.p) {
            if self.expected[&file] != found {
                self.wrong
                    .push(format!("{} under a wrong id after {what}", file.display()));
            }
        }
    }

    /// A file becomes another while a study runs, and is put back at once or at the end; what ends a run is named.
    fn changed(&mut self, extension: &str, round: u32) {
        let all = places(&self.p);
        let of_kind: Vec<PathBuf> = all.iter().filter(|f| is(f, extension)).cloned().collect();
        assert!(!of_kind.is_empty(), "no .{extension} in {all:?}");
        let path = self.one_of(&of_kind);
        // Half of the swaps happen to a study without caches; those of caches to one that has them.
        if self.bit() && path.starts_with(self.p.path("data")) {
            let _ = fs::remove_dir_all(self.p.path("results/.cache"));
        }
        let saved = Saved::of(&path);
        let (rename, keep_time, same_size, back) = (self.bit(), self.bit(), self.bit(), self.bit());
        let bytes = other(&saved, &all, &mut self.draw, same_size);
        let mut child = start_cached(&self.p, &[]);
        std::thread::sleep(self.length.mul_f64(self.draw.uniform()));
        saved.put(&bytes, rename, keep_time);
        if back {
            std::thread::sleep(self.length.mul_f64(0.3 * self.draw.uniform()));
            saved.put(&saved.bytes, rename, true);
        }
        let ok = child.wait().unwrap().success();
        saved.put(&saved.bytes, true, true);
        self.look(&path.display().to_string());
        if !ok {
            self.noticed += 1;
            let said = fs::read_to_string(self.p.path("stderr")).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(said.contains(name), "round {round}: {name} is not named in:\n{said}");
        }
    }

    /// Two valid entries of a bucket take each other's place, before a study or while it runs.
    fn exchanged(&mut self) {
        let cache = self.p.path("results/.cache");
        let mut pairs = Vec::new();
        for bucket in fs::read_dir(&cache).unwrap().map(|b| b.unwrap().path()) {
            let mut entries: Vec<PathBuf> = fs::read_dir(bucket).unwrap().map(|e| e.unwrap().path()).collect();
            entries.sort();
            for (i, a) in entries.iter().enumerate() {
                pairs.extend(entries[..i].iter().map(|b| (a.clone(), b.clone())));
            }
        }
        pairs.sort();
        let size = |e: &PathBuf| -> u64 { medft::fsio::below(e).iter().map(|f| f.metadata().unwrap().len()).sum() };
        pairs.retain(|(a, b)| size(a) == size(b));
        assert!(!pairs.is_empty(), "no two entries are of one size");
        let (a, b) = pairs[self.draw.below(pairs.len() as u32) as usize].clone();
        let aside = self.p.path("aside");
        let exchange = || {
            let _ = fs::rename(&a, &aside)
                .and_then(|()| fs::rename(&b, &a))
                .and_then(|()| fs::rename(&aside, &b));
            let _ = fs::remove_dir_all(&aside);
        };
        let before = self.bit();
        if before {
            exchange();
        }
        let mut child = start_cached(&self.p, &[]);
        if !before {
            std::thread::sleep(self.length.mul_f64(self.draw.uniform()));
            exchange();
        }
        let ok = child.wait().unwrap().success();
        self.noticed += u32::from(!ok);
        self.look(&format!("{} and {}", a.display(), b.display()));
    }

    /// A study is killed as soon as a checkpoint is there; that is changed, cut, or becomes another run's; the study goes on.
    fn checkpoint(&mut self) {
        let results = self.p.path("results/s");
        let checkpoints = || -> Vec<PathBuf> {
            let all = medft::fsio::below(&results);
            all.into_iter().filter(|f| is(f, "safetensors")).collect()
        };
        let began = Instant::now();
        let path = loop {
            assert!(began.elapsed() < Duration::from_secs(120), "no checkpoint was seen");
            let _ = fs::remove_dir_all(&results);
            let mut child = start_cached(&self.p, &["--checkpoint-every", "0"]);
            while checkpoints().is_empty() && child.try_wait().unwrap().is_none() {
                std::thread::yield_now();
            }
            child.kill().unwrap();
            child.wait().unwrap();
            if let Some(path) = checkpoints().pop() {
                break path;
            }
        };
        let mut bytes = fs::read(&path).unwrap();
        let mut to = path.clone();
        match self.draw.below(3) {
            0 => {
                let at = self.draw.below(bytes.len() as u32) as usize;
                bytes[at] ^= 1 << self.draw.below(8);
            }
            1 => bytes.truncate(self.draw.below(bytes.len() as u32) as usize),
            _ => {
                // Another run's folder, where that run has not begun.
                let others: Vec<PathBuf> = self
                    .expected
                    .keys()
                    .map(|f| results.join(f.parent().unwrap()))
                    .filter(|d| !path.starts_with(d) && !d.join("DONE").exists())
                    .collect();
                if !others.is_empty() {
                    let other = self.one_of(&others);
                    to = other.join("checkpoint").join(path.file_name().unwrap());
                    fs::create_dir_all(other.join("checkpoint")).unwrap();
                }
            }
        }
        fs::write(&to, bytes).unwrap();
        let ok = start_cached(&self.p, &[]).wait().unwrap().success();
        let said = fs::read_to_string(self.p.path("stderr")).unwrap();
        assert!(ok, "{said}");
        self.look(&format!("a checkpoint at {}", to.display()));
        assert_eq!(records(&self.p).len(), self.expected.len());
    }
}

fn swap(count: u32) {
    let mut all = Swaps::new();
    let mut kinds = BTreeMap::<Kind, u32>::new();
    for round in 0..count {
        let _ = fs::remove_dir_all(all.p.path("results/s"));
        // What an earlier round took away from the caches is there again.
        if !places(&all.p).iter().any(|f| is(f, "f32")) || !places(&all.p).iter().any(|f| is(f, "px")) {
            assert!(start_cached(&all.p, &[]).wait().unwrap().success());
            fs::remove_dir_all(all.p.path("results/s")).unwrap();
        }
        let kind = KINDS[round as usize % KINDS.len()];
        *kinds.entry(kind).or_default() += 1;
        match kind {
            Kind::Changed(extension) => all.changed(extension, round),
            Kind::Exchanged => all.exchanged(),
            Kind::Checkpoint => all.checkpoint(),
        }
    }
    println!(
        "{count} swaps {kinds:?}: {} noticed, {} records under a wrong id",
        all.noticed,
        all.wrong.len()
    );
    assert!(all.wrong.is_empty(), "{:#?}", all.wrong);
    assert_eq!(kinds.len(), KINDS.len(), "every kind was swapped");
    // With everything in its place the study ends in the undisturbed bytes.
    let _ = fs::remove_dir_all(all.p.path("results/s"));
    assert!(start_cached(&all.p, &[]).wait().unwrap().success());
    assert_eq!(records(&all.p), all.expected);
}

/// Weights exchanged, edited and cut while they are loaded: what is handed out are the values of the verified file, or an error.
#[test]
fn weights_that_change_while_they_are_loaded_are_never_others() {
    use candle_core::{DType, Device, Tensor};
    use medft::model::safetensors::SafetensorsFile;
    let dir = tempfile::tempdir().unwrap();
    let (path, aside) = (dir.path().join("w.safetensors"), dir.path().join("aside"));
    let tensors: std::collections::HashMap<String, Tensor> = (0..40)
        .map(|i| {
            (
                format!("t{i:02}"),
                Tensor::full(i as f32, (200, 40), &Device::Cpu).unwrap(),
            )
        })
        .collect();
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let whole = fs::read(&path).unwrap();
    let sha = medft::fsio::sha256_hex(&whole);
    let mut draw = Stream::new(15, Purpose::Test, 0, 0);
    let (mut refused, mut loaded) = (0, 0);
    for _ in 0..ALL_SWAPS {
        fs::write(&aside, &whole).unwrap();
        fs::rename(&aside, &path).unwrap();
        let file = SafetensorsFile::open(&path, Some(&sha)).unwrap();
        let at = draw.below(40);
        for i in 0..40 {
            if i == at {
                let mut bytes = whole.clone();
                match draw.below(4) {
                    // Another valid file under the name: the open one stays what it is.
                    0 => {
                        bytes.reverse();
                        fs::write(&aside, bytes).unwrap();
                        fs::rename(&aside, &path).unwrap();
                    }
                    1 => fs::write(&path, &whole[..draw.below(whole.len() as u32) as usize]).unwrap(),
                    _ => {
                        let from = whole.len() - 1 - draw.below(40 * 200 * 40 * 4) as usize;
                        bytes[from..].iter_mut().for_each(|b| *b ^= 0x40);
                        fs::write(&path, bytes).unwrap();
                    }
                }
            }
            match file.load(&format!("t{i:02}"), &Device::Cpu) {
                Ok(t) => {
                    let values: Vec<f32> = t
                        .to_dtype(DType::F32)
                        .unwrap()
                        .flatten_all()
                        .unwrap()
                        .to_vec1()
                        .unwrap();
                    assert!(values.iter().all(|v| *v == i as f32), "t{i:02}");
                    loaded += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    println!("{ALL_SWAPS} swaps of weights: {loaded} tensors as verified, {refused} refused, 0 others");
    assert!(loaded > 0 && refused > 0);
}

#[test]
fn swaps_at_random_times_and_places_record_nothing_under_a_wrong_id() {
    swap(SWAPS);
}

#[test]
#[ignore = "takes minutes: the whole number of swaps"]
fn two_hundred_swaps_at_random_times_and_places() {
    swap(ALL_SWAPS);
}

/// D1: a run of two sets is stopped during the first, the images of the second are exchanged, and it goes on.
#[test]
fn images_exchanged_while_an_earlier_set_runs_are_not_used() {
    let p = Place::new();
    p.study("s", |t| {
        study(t)
            .replace(r#"["aptos2019", "ddsm"]"#, r#"["ddsm", "aptos2019"]"#)
            .replace("epochs = 1", "epochs = 30")
    });
    assert!(start(&p).wait().unwrap().success());
    let expected = records(&p);
    fs::remove_dir_all(p.path("results/s")).unwrap();
    let images: Vec<PathBuf> = places(&p)
        .into_iter()
        .filter(|f| f.extension().is_some_and(|e| e == "png"))
        .collect();
    let saved: Vec<Saved> = images.iter().map(|f| Saved::of(f)).collect();
    let mut child = start(&p);
    // The first run's folder says that the check is over.
    let began = Instant::now();
    while fs::read_dir(p.path("results/s")).into_iter().flatten().count() == 0 {
        assert!(began.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(2));
    }
    for (a, b) in saved.iter().zip(saved.iter().skip(1)) {
        a.put(&b.bytes, true, true);
    }
    let ok = child.wait().unwrap().success();
    let found = records(&p);
    for s in &saved {
        s.put(&s.bytes, true, true);
    }
    assert!(!ok);
    for (file, bytes) in &found {
        assert!(expected[file] == *bytes, "{} differs", file.display());
    }
    assert_eq!(found.len(), 4, "the set that was not touched went on");
    let said = fs::read_to_string(p.path("stderr")).unwrap();
    assert!(said.contains(".png: other bytes"), "{said}");
    assert!(start(&p).wait().unwrap().success());
    assert_eq!(records(&p), expected);
}
