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
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// Swaps in `make test`; the whole number runs with `cargo test --release --test slow -- --ignored`.
const SWAPS: u32 = 12;
const ALL_SWAPS: u32 = 200;

fn study(t: String) -> String {
    t.replace(r#"["frozen", "unfrozen"]"#, r#"["frozen"]"#)
        .replace(r#"["linear", "mha"]"#, r#"["linear"]"#)
        .replace(r#"["aptos2019"]"#, r#"["aptos2019", "ddsm"]"#)
        .replace("epochs = 2", "epochs = 1\naugment = \"none\"")
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

fn start(p: &Place) -> std::process::Child {
    Command::new(assert_cmd::cargo::cargo_bin("medft"))
        .args(["run", "./s.toml", "--workers", "2"])
        .current_dir(p.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(p.path("stderr")).unwrap())
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

    /// Puts `bytes` in its place, by a rename as rsync does or by writing over it, with its time or a new one.
    fn put(&self, bytes: &[u8], rename: bool, keep_time: bool) {
        let target = match rename {
            true => self.path.with_extension("swap"),
            false => self.path.clone(),
        };
        // Where a cache was replaced meanwhile its folder may be gone.
        let Ok(()) = fs::write(&target, bytes) else { return };
        if keep_time {
            let f = fs::File::options().write(true).open(&target).unwrap();
            f.set_modified(self.time).unwrap();
        }
        if rename {
            fs::rename(&target, &self.path).unwrap();
        }
    }
}

/// Everything that a run reads below the folder of data and of caches.
fn places(p: &Place) -> Vec<PathBuf> {
    let mut all = medft::fsio::below(&p.path("data/phantom"));
    all.extend(medft::fsio::below(&p.path("results/.cache")));
    all.retain(|f| !f.file_name().unwrap().to_string_lossy().starts_with(".medft"));
    all
}

/// Other bytes that a reader may well take: another file of the kind (an image for an image), or the same with one changed.
fn other(saved: &Saved, all: &[PathBuf], draw: &mut Stream, same_size: bool) -> Vec<u8> {
    let alike: Vec<&PathBuf> = all
        .iter()
        .filter(|o| **o != saved.path && o.extension() == saved.path.extension())
        .collect();
    if !same_size && !alike.is_empty() && saved.path.extension().is_some_and(|e| e == "png") {
        return fs::read(alike[draw.below(alike.len() as u32) as usize]).unwrap();
    }
    let mut bytes = saved.bytes.clone();
    // In a label file another digit where there is one, so that it still parses.
    let digits: Vec<usize> = (0..bytes.len()).filter(|&i| bytes[i].is_ascii_digit()).collect();
    if saved.path.extension().is_some_and(|e| e == "csv") {
        let at = digits[digits.len() - 1 - draw.below(digits.len() as u32 / 2) as usize];
        bytes[at] = b'0' + (bytes[at] - b'0' + 1) % 5;
    } else if !bytes.is_empty() {
        let at = draw.below(bytes.len() as u32) as usize;
        bytes[at] ^= 1 << draw.below(8);
    }
    bytes
}

fn swap(count: u32) {
    let p = Place::new();
    p.study("s", study);
    assert!(
        start(&p).wait().unwrap().success(),
        "{}",
        fs::read_to_string(p.path("stderr")).unwrap()
    );
    let expected = records(&p);
    assert_eq!(expected.len(), 2 * 4);
    fs::remove_dir_all(p.path("results/s")).unwrap();
    let begun = Instant::now();
    assert!(start(&p).wait().unwrap().success());
    let length = begun.elapsed();
    assert_eq!(records(&p), expected);

    let mut draw = Stream::new(14, Purpose::Test, 0, 0);
    let (mut wrong, mut refused, mut kinds) = (0, 0, BTreeMap::<String, u32>::new());
    for round in 0..count {
        fs::remove_dir_all(p.path("results/s")).unwrap();
        if draw.below(2) == 0 {
            fs::remove_dir_all(p.path("results/.cache")).unwrap();
        }
        let all = places(&p);
        // Label files, archives and caches are few; they get half of the swaps.
        let few: Vec<&PathBuf> = all
            .iter()
            .filter(|f| f.extension().is_none_or(|e| e != "png"))
            .collect();
        let path = match draw.below(2) {
            0 => few[draw.below(few.len() as u32) as usize].clone(),
            _ => all[draw.below(all.len() as u32) as usize].clone(),
        };
        let kind = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        *kinds.entry(kind).or_default() += 1;
        let saved = Saved::of(&path);
        let bit = |d: &mut Stream| d.below(2) == 0;
        let (rename, keep_time, same_size, back) = (bit(&mut draw), bit(&mut draw), bit(&mut draw), bit(&mut draw));
        let bytes = other(&saved, &all, &mut draw, same_size);
        let mut child = start(&p);
        std::thread::sleep(length.mul_f64(draw.uniform()));
        saved.put(&bytes, rename, keep_time);
        if back {
            std::thread::sleep(length.mul_f64(0.3 * draw.uniform()));
            saved.put(&saved.bytes, rename, true);
        }
        let ok = child.wait().unwrap().success();
        saved.put(&saved.bytes, true, true);
        refused += u32::from(!ok);
        for (file, found) in records(&p) {
            if expected[&file] != found {
                wrong += 1;
                eprintln!(
                    "round {round}: {} under a wrong id after {}",
                    file.display(),
                    path.display()
                );
            }
        }
        if ok {
            continue;
        }
        let said = fs::read_to_string(p.path("stderr")).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(said.contains(name), "round {round}: {name} is not named in:\n{said}");
    }
    println!("{count} swaps {kinds:?}: {refused} noticed, {wrong} records under a wrong id");
    assert_eq!(wrong, 0);
    // With everything in its place the study ends in the undisturbed bytes.
    let _ = fs::remove_dir_all(p.path("results/s"));
    assert!(start(&p).wait().unwrap().success());
    assert_eq!(records(&p), expected);
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
    assert!(
        said.contains(".png") && said.contains("expected the verified file"),
        "{said}"
    );
    assert!(start(&p).wait().unwrap().success());
    assert_eq!(records(&p), expected);
}
