//! What is cached is computed with only where it is what was asked for, and takes no more of the disk than is allowed.

use crate::place::Place;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Frozen backbones with a linear head on images that are not augmented: everything is read from feature tables.
fn frozen(backbones: &'static str, epochs: u32) -> impl Fn(String) -> String {
    move |t| {
        t.replace(r#"["frozen", "unfrozen"]"#, r#"["frozen"]"#)
            .replace(r#"["linear", "mha"]"#, r#"["linear"]"#)
            .replace(r#"["dinov2-b"]"#, backbones)
            .replace("epochs = 2", &format!("epochs = {epochs}\naugment = \"none\""))
    }
}

/// The bytes of every finished run, without what holds times.
fn records(p: &Place) -> BTreeMap<PathBuf, Vec<u8>> {
    p.files("results/s").into_iter().collect()
}

/// The folders of feature tables.
fn tables(p: &Place) -> Vec<PathBuf> {
    let bucket = medft::cache::Bucket::Features.dir(&p.path("results"));
    let mut all: Vec<PathBuf> = fs::read_dir(bucket)
        .into_iter()
        .flatten()
        .map(|e| e.unwrap().path())
        .filter(|d| d.join("about.json").exists())
        .collect();
    all.sort();
    all
}

fn bytes(dir: &Path) -> u64 {
    medft::fsio::below(dir)
        .iter()
        .map(|f| f.metadata().unwrap().len())
        .sum()
}

/// One process, three backbones, room for two: what the first needed goes for the third.
#[test]
fn one_process_keeps_no_more_than_the_limit() {
    let p = Place::new();
    p.study("s", frozen(r#"["dinov2-b", "mae-b", "clip-b"]"#, 2));
    let a = p.medft(&["run", "./s.toml"]);
    assert_eq!(a.code, 0, "{}", a.all());
    let cache = p.path("results/.cache");
    let (all, expected) = (bytes(&cache), records(&p));
    assert_eq!(tables(&p).len(), 9, "train, validation and test of three");
    fs::remove_dir_all(p.path("results")).unwrap();
    let limit = all * 7 / 10;
    let a = p.medft(&["run", "./s.toml", "--cache-bytes", &limit.to_string()]);
    assert_eq!(a.code, 0, "{}", a.all());
    assert!(bytes(&cache) <= limit, "{} of {limit} bytes", bytes(&cache));
    assert!((6..9).contains(&tables(&p).len()), "{}", tables(&p).len());
    assert!(records(&p) == expected);
}

/// Augmented views that are kept: computed once for all seeds, and what is trained on them is what the images give. Rounded to
/// bfloat16 they take half the room, and a run that keeps nothing of its training images rounds them too.
#[test]
fn views_that_are_kept_train_as_the_images_do() {
    let weights = |p: &Place| -> Vec<String> {
        let of = |(path, bytes): (PathBuf, Vec<u8>)| {
            let metrics = path.file_name()? == "metrics.json";
            metrics.then(|| {
                serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["content"]["weights_sha256"].to_string()
            })
        };
        p.files("results/s").into_iter().filter_map(of).collect()
    };
    let mut seen = Vec::new();
    for dtype in ["f32", "bf16"] {
        let run = |views: u32, seeds: &str| {
            let p = Place::new();
            let switches = format!("augment = \"paper\"\nviews = {views}\nfeature_dtype = \"{dtype}\"");
            p.study("s", |t| {
                let t = frozen(r#"["dinov2-b"]"#, 2)(t).replace("augment = \"none\"", &switches);
                t.replace("seeds = [0]", &format!("seeds = {seeds}"))
            });
            let a = p.medft(&["run", "./s.toml"]);
            assert_eq!(a.code, 0, "{}", a.all());
            p
        };
        let (fresh, kept) = (run(0, "[0]"), run(2, "[0]"));
        assert_eq!(
            (tables(&fresh).len(), tables(&kept).len()),
            (2, 4),
            "validation and test; two views more"
        );
        assert_eq!(weights(&fresh), weights(&kept), "{dtype}");
        let both = run(2, "[0, 1]");
        assert_eq!(
            (tables(&both).len(), weights(&both).len()),
            (4, 2),
            "the second seed computes none"
        );
        let one = run(1, "[0]");
        assert_eq!(tables(&one).len(), 3);
        assert_ne!(weights(&one), weights(&kept), "one view is another study");
        let size: u64 = (tables(&kept).iter())
            .map(|t| t.join(format!("rows.{dtype}")).metadata().unwrap().len())
            .sum();
        seen.push((size, weights(&kept)));
    }
    assert_eq!(seen[0].0, 2 * seen[1].0);
    assert_ne!(seen[0].1, seen[1].1, "rounding is seen");
}

/// Two whole tables of equal size, each in the other's place: what a backbone gave is never read as another's.
#[test]
fn tables_in_each_others_place_are_not_used() {
    let p = Place::new();
    p.study("s", frozen(r#"["dinov2-b", "mae-b"]"#, 2));
    assert_eq!(p.medft(&["run", "./s.toml"]).code, 0);
    let expected = records(&p);
    let all = tables(&p);
    let size = |t: &PathBuf| t.join("rows.f32").metadata().unwrap().len();
    let mut exchanged = 0;
    for (i, a) in all.iter().enumerate() {
        for b in all[..i].iter().filter(|b| size(b) == size(a)) {
            let aside = p.path("aside");
            fs::rename(a, &aside).unwrap();
            fs::rename(b, a).unwrap();
            fs::rename(&aside, b).unwrap();
            fs::remove_dir_all(p.path("results/s")).unwrap();
            let said = p.medft(&["run", "./s.toml"]);
            assert_eq!(said.code, 0, "{}", said.all());
            assert!(records(&p) == expected, "{} and {}", a.display(), b.display());
            exchanged += 1;
        }
    }
    assert!(exchanged > 0, "no two tables are of one size");
}

/// A table that is flipped, cut, emptied or removed while a run reads it: the run records what it should or nothing, names the
/// file, and the next one ends in the undisturbed bytes.
#[test]
fn a_table_that_changes_while_it_is_read_costs_a_run_and_nothing_else() {
    let p = Place::new();
    p.study("s", frozen(r#"["dinov2-b"]"#, 60));
    assert_eq!(p.medft(&["run", "./s.toml"]).code, 0);
    let expected = records(&p);
    let largest = |p: &Place| {
        let rows = tables(p).into_iter().map(|t| t.join("rows.f32"));
        rows.max_by_key(|f| f.metadata().map_or(0, |m| m.len()))
    };
    let whole = fs::read(largest(&p).unwrap()).unwrap();
    type Harm = fn(&Path, &[u8]);
    let harms: [(&str, Harm); 4] = [
        ("flip", |f, whole| {
            let mut bytes = whole.to_vec();
            bytes.iter_mut().step_by(64).for_each(|b| *b ^= 1);
            // In place, as a disk would.
            let file = fs::File::options().write(true).open(f).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
        }),
        ("cut", |f, whole| {
            let file = fs::File::options().write(true).open(f).unwrap();
            file.set_len(whole.len() as u64 / 2).unwrap();
        }),
        ("empty", |f, _| fs::write(f, b"").unwrap()),
        ("remove", |f, _| fs::remove_file(f).unwrap()),
    ];
    for (name, harm) in harms {
        fs::remove_dir_all(p.path("results/s")).unwrap();
        let mut child = Command::new(assert_cmd::cargo::cargo_bin("medft"))
            .args(["run", "./s.toml", "--checkpoint-every", "0"])
            .current_dir(p.path(""))
            .stdout(Stdio::null())
            .stderr(fs::File::create(p.path("stderr")).unwrap())
            .spawn()
            .unwrap();
        // Its first checkpoint says that it reads the tables, which are there from before.
        let at_work = || {
            medft::fsio::below(&p.path("results/s"))
                .iter()
                .any(|f| f.extension().is_some_and(|e| e == "safetensors"))
        };
        let began = Instant::now();
        while !at_work() {
            assert!(began.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(1));
        }
        harm(&largest(&p).unwrap(), &whole);
        let ok = child.wait().unwrap().success();
        let said = fs::read_to_string(p.path("stderr")).unwrap();
        assert!(!said.contains("panicked"), "{name}: {said}");
        assert!(!ok || name == "remove", "{name} was not noticed");
        if ok {
            println!("{name}: went on with what was opened");
            assert!(records(&p) == expected, "{name}");
        } else {
            println!("{name}: ended the run");
            assert!(said.contains("rows.f32"), "{name}: {said}");
            assert!(
                medft::fsio::below(&p.path("results/s"))
                    .iter()
                    .all(|f| !f.ends_with("DONE"))
            );
        }
        let again = p.medft(&["run", "./s.toml"]);
        assert_eq!(again.code, 0, "{name}: {}", again.all());
        let found: BTreeMap<PathBuf, Vec<u8>> = records(&p);
        assert!(found == expected, "{name}: {:?}", found.keys());
    }
}

/// A checkpoint of another run, whole and with the hash that its name says, in a run's folder.
#[test]
fn a_checkpoint_of_another_run_is_not_taken_up() {
    let p = Place::new();
    let study = |seeds: &'static str| move |t: String| frozen(r#"["dinov2-b"]"#, 3)(t).replace("seeds = [0]", seeds);
    p.study("s", study("seeds = [0, 1]"));
    assert_eq!(p.medft(&["run", "./s.toml"]).code, 0);
    let expected = records(&p);
    fs::remove_dir_all(p.path("results/s")).unwrap();
    // Stopped after its first steps, again and again until a checkpoint of either run is there.
    let checkpoints = || -> Vec<PathBuf> {
        let all = medft::fsio::below(&p.path("results/s"));
        all.into_iter()
            .filter(|f| f.extension().is_some_and(|e| e == "safetensors"))
            .collect()
    };
    let began = Instant::now();
    while checkpoints().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(120));
        let _ = fs::remove_dir_all(p.path("results/s"));
        let mut child = Command::new(assert_cmd::cargo::cargo_bin("medft"))
            .args(["run", "./s.toml", "--checkpoint-every", "0", "--only", "seed=0"])
            .current_dir(p.path(""))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while checkpoints().is_empty() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let other = checkpoints().remove(0);
    let (name, bytes) = (other.file_name().unwrap().to_owned(), fs::read(&other).unwrap());
    let of = |seed: u64| {
        expected
            .keys()
            .find(|f| {
                f.ends_with("spec.json") && {
                    let spec: serde_json::Value = serde_json::from_slice(&expected[*f]).unwrap();
                    spec["content"]["run"]["seed"] == seed
                }
            })
            .and_then(|f| f.parent())
            .unwrap()
            .to_owned()
    };
    fs::remove_dir_all(p.path("results/s")).unwrap();
    let place = p.path("results/s").join(of(1)).join("checkpoint");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join(name), bytes).unwrap();
    let a = p.medft(&["run", "./s.toml"]);
    assert_eq!(a.code, 0, "{}", a.all());
    assert!(records(&p) == expected);
}
