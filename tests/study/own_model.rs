//! A checkpoint of one's own to a trained model in another program: taken in, trained, kept, predicted with, exported, watched.
//!
//! What timm, transformers and TensorBoard make of it is asked of them where `python3` (or what MEDFT_PYTHON names) has them; where it has
//! not, a line says "skipped".

use crate::place::{Place, Said};
use candle_core::{Device, Tensor};
use medft::data::{Pixels, registry as sets};
use medft::model::{Classifier, about, kept, registry};
use medft::results::{RunRecord, Store, WhichWeights};
use medft::study::{Freeze, HeadKind, Protocol, RunSpec, Scale};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The interpreter, where it has all of these modules.
fn python(modules: &[&str]) -> Option<String> {
    let python = std::env::var("MEDFT_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let import = format!("import {}", modules.join(", "));
    let has = Command::new(&python)
        .args(["-c", &import])
        .output()
        .is_ok_and(|o| o.status.success());
    if !has {
        crate::skip::skipped(&format!("{python} has not all of {}", modules.join(", ")));
    }
    has.then_some(python)
}

fn ask(python: &str, script: &str, args: &[&Path], lines: &str) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/own_model")
        .join(script);
    let mut c = Command::new(python);
    c.arg(script)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = c.spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout)
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

/// A small model's tensors as `transformers` saves a fine-tuned classifier.
fn tensors(backbone: &str, layout: &str) -> BTreeMap<String, Tensor> {
    let mut protocol = Protocol::faithful();
    protocol.crop = 64;
    let spec = RunSpec {
        dataset: "aptos2019".into(),
        backbone: backbone.into(),
        scale: Scale::Tiny,
        freeze: Freeze::Frozen,
        head: HeadKind::Linear,
        seed: 9,
        protocol,
    };
    let model = Classifier::random(&spec, 3, 5, &Device::Cpu).unwrap();
    let params: Vec<_> = model
        .params
        .0
        .iter()
        .map(|p| (p.name.clone(), p.tensor.clone()))
        .collect();
    kept::named(&spec, layout, &params).unwrap().into_iter().collect()
}

pub(super) fn save(path: &Path, tensors: &BTreeMap<String, Tensor>) {
    let list: Vec<_> = tensors.iter().map(|(n, t)| (n.clone(), t.clone())).collect();
    let mut bytes = Vec::new();
    kept::write(&mut bytes, Map::new(), &list).unwrap();
    fs::write(path, bytes).unwrap();
}

pub(super) fn fine_tuned() -> BTreeMap<String, Tensor> {
    let named = |(name, t): (String, Tensor)| match name.strip_prefix("head.fc.") {
        Some(part) => (format!("classifier.{part}"), t),
        None => (format!("dinov2.{name}"), t),
    };
    tensors("dinov2-b", "hf").into_iter().map(named).collect()
}

#[track_caller]
fn refused(a: &Said, texts: &[&str]) {
    assert_eq!(a.code, 2, "{}", a.all());
    for w in texts {
        assert!(a.err.contains(w), "`{w}` is not in:\n{}", a.err);
    }
}

#[test]
fn a_checkpoint_is_taken_in_strictly_and_never_under_a_published_name() {
    let p = Place::new();
    let file = p.path("mine.safetensors");
    let good = fine_tuned();
    save(&file, &good);
    let add = |name: &str, more: &[&str]| {
        let args = [
            &["weights", "add", name, "--like", "dinov2-b", "mine.safetensors"],
            more,
        ]
        .concat();
        p.medft(&args)
    };
    for taken in [
        "dinov2-b",
        "dinov2b",
        "dinov2_b",
        "dino.v2-b",
        "mae-l",
        "dinov2-b-hub",
        "deit-b",
        "dinov2",
    ] {
        refused(&add(taken, &[]), &["expected a name", taken]);
    }
    refused(&add("Mine", &[]), &["lower-case"]);
    refused(&add("../mine", &[]), &["lower-case"]);
    refused(
        &add("mine", &["--title", "DINOv2 B"]),
        &["expected a title that no published backbone has"],
    );
    refused(
        &add("mine", &["--layout", "fb"]),
        &["a layout of dinov2-b: hub, hf, timm", "`fb`"],
    );
    refused(&add("mine", &["--layout", "hub"]), &["fits no layout", "hub:"]);
    refused(
        &p.medft(&["weights", "add", "mine", "--like", "dinov3", "mine.safetensors"]),
        &["`dinov3`", "dinov2-b"],
    );
    refused(
        &p.medft(&["weights", "add", "mine", "--like", "dinov2-b", "none.safetensors"]),
        &["none.safetensors"],
    );

    let broken = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut t = good.clone();
        change(&mut t);
        save(&file, &t);
        add("mine", &["--layout", "hf"])
    };
    let norm = "dinov2.layernorm.weight";
    refused(&broken(&|t| drop(t.remove(norm))), &["norm.weight", "missing"]);
    refused(
        &broken(&|t| drop(t.insert("dinov2.more".into(), t[norm].clone()))),
        &["extra tensor dinov2.more"],
    );
    refused(
        &broken(&|t| {
            drop(t.insert(
                norm.into(),
                Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap(),
            ))
        }),
        &["norm.weight", "[3]"],
    );
    assert!(
        !p.path("weights").exists() && !p.path("data-manifests").exists(),
        "nothing was written"
    );

    save(&file, &good);
    let a = add("mine", &["--json"]);
    assert_eq!(a.code, 0, "{}", a.err);
    let said: Value = serde_json::from_str(&a.out).unwrap();
    let sha = medft::fsio::sha256_file(&file, |_| {}).unwrap();
    assert_eq!(
        (said["layout"].as_str(), said["sha256"].as_str(), said["scale"].as_str()),
        (Some("hf"), Some(&*sha), Some("tiny"))
    );
    assert!(
        said["licence"].is_null() && said["licence_unknown"].as_str().unwrap().contains("--licence"),
        "{said}"
    );
    assert_eq!(
        fs::read(p.path("weights/mine/mine.safetensors")).unwrap(),
        fs::read(&file).unwrap()
    );
    refused(&add("mine", &[]), &["a name that no weights have"]);
    crate::json::holds("weights add", &said);
    // A file that was written a moment ago could still change within the same tick of the clock.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    assert_eq!(p.medft(&["weights", "verify", "mine"]).code, 0);
    let listed = p.medft(&["weights", "list"]);
    assert!(
        listed.out.contains("mine") && listed.out.contains("here, verified"),
        "{}",
        listed.out
    );

    // The manifest is added to the built-in ones, wherever it lies, and cannot pretend to be one of them.
    let manifest = p.path("data-manifests/weights/mine.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::create_dir_all(p.path("elsewhere/weights")).unwrap();
    fs::rename(&manifest, p.path("elsewhere/weights/mine.toml")).unwrap();
    for how in [&["--manifests-dir", "elsewhere"][..], &[]] {
        let a = p.medft(&[&["weights", "list", "--json"], how].concat());
        assert_eq!(
            (a.out.contains("\"mine\""), a.out.contains("\"mae-h\"")),
            (!how.is_empty(), true)
        );
    }
    for (name, old, new, said) in [
        ("mine", "like = \"dinov2-b\"\n", "", "like, scale, title, sha256"),
        (
            "mine",
            "title = \"DINOv2-B (mine)\"",
            "title = \"DINOv2-B\"",
            "no published backbone has",
        ),
        (
            "mine",
            "backbone = \"mine\"",
            "backbone = \"dinov2-b\"",
            "a backbone called as the file",
        ),
        ("dinov2_b", "\"mine\"", "\"dinov2_b\"", "no published backbone has"),
        ("other", "", "", "Rename the file"),
    ] {
        fs::remove_dir_all(p.path("elsewhere")).unwrap();
        fs::create_dir_all(p.path("elsewhere/weights")).unwrap();
        fs::write(
            p.path("elsewhere/weights").join(format!("{name}.toml")),
            text.replace(old, new),
        )
        .unwrap();
        let a = p.medft(&["weights", "list", "--manifests-dir", "elsewhere"]);
        assert!(
            a.code == 0 && a.err.contains(said) && a.err.contains("left out"),
            "{}",
            a.all()
        );
        assert!(
            !a.out.contains("mine.safetensors") && !a.out.contains("DINOv2-B (mine)"),
            "{}",
            a.out
        );
    }
}

/// Test images of the phantom with their ids.
fn test_images(p: &Place, spec: &RunSpec) -> BTreeMap<String, PathBuf> {
    let source = sets::find(&spec.dataset).unwrap();
    let root = p.path("data/phantom").join(source.info(&spec.protocol).folder);
    let data = source.load(&root, &spec.protocol).unwrap();
    let of = |&i: &u32| {
        let s = &data.samples[i as usize];
        let Pixels::File(file) = &s.pixels else {
            panic!("{} is no file", s.id)
        };
        (s.id.clone(), root.join(file))
    };
    data.test.iter().map(of).collect()
}

/// Logits by image, as `predict --json` says.
pub(super) fn predicted(p: &Place, run: &str, weights: &str, images: &[&Path]) -> Vec<Vec<f32>> {
    let mut args = vec!["predict", run, "--weights", weights, "--json"];
    args.extend(images.iter().map(|i| i.to_str().unwrap()));
    let a = p.medft(&args);
    assert_eq!(a.code, 0, "{}", a.err);
    let all: Vec<Value> = serde_json::from_str(&a.out).unwrap();
    all.iter()
        .map(|i| {
            i["logits"]
                .as_array()
                .unwrap()
                .iter()
                .map(|x| x.as_f64().unwrap() as f32)
                .collect()
        })
        .collect()
}

fn runs(p: &Place, study: &str) -> (Store, Vec<RunRecord>) {
    let store = Store::new(&p.path("results"), study);
    let done = store.all().unwrap().done;
    assert!(!done.is_empty());
    (store, done)
}

#[test]
fn own_weights_are_trained_kept_predicted_with_and_exported() {
    let p = Place::new();
    save(&p.path("mine.safetensors"), &fine_tuned());
    let a = p.medft(&[
        "weights",
        "add",
        "mine",
        "--like",
        "dinov2-b",
        "mine.safetensors",
        "--licence",
        "MIT",
    ]);
    assert_eq!(a.code, 0, "{}", a.err);
    let own = |t: String| {
        t.replace("[\"dinov2-b\"]", "[\"mine\"]")
            .replace("seeds = [0]", "seeds = [0]\nkeep_weights = \"both\"")
    };
    let study = p.study("own", own);
    refused(
        &p.medft(&["plan", &p.study("large", |t| own(t).replace("\"tiny\"", "\"full\""))]),
        &["scale", "mine is a checkpoint of that size"],
    );
    let a = p.medft(&["reproduce", &study, "--tensorboard", "board"]);
    assert_eq!(a.code, 0, "{}", a.err);
    assert!(
        a.err.contains("weights to be kept (both)") && a.err.contains("for 4 runs"),
        "{}",
        a.err
    );
    let table = fs::read_to_string(p.path("reports/own/tables/aptos2019.md")).unwrap();
    assert!(table.contains("DINOv2-B (mine)"), "{table}");

    let (store, done) = runs(&p, "own");
    for record in &done {
        let (id, spec) = (record.id(), &record.spec.run);
        let dir = store.run_dir(id);
        let listed = fs::read_to_string(dir.join("DONE")).unwrap();
        assert!(
            listed.contains("  weights.safetensors") && listed.contains("  weights-last.safetensors"),
            "{listed}"
        );
        let about = about::About::read(&dir.join("weights.safetensors"), None).unwrap();
        assert_eq!(
            (&*about.run, &*about.weights, &*about.layout, about.crop),
            (id, "best", "hf", 64)
        );
        assert_eq!((about.classes.len(), about.mean.len()), (5, 3));
        let there = store.predictions(id).unwrap();
        let images = test_images(&p, spec);
        let paths: Vec<&Path> = there.ids.iter().map(|i| images[i].as_path()).collect();
        for (name, which) in [("best", WhichWeights::Best), ("last", WhichWeights::Last)] {
            let expected = match which {
                WhichWeights::Best => &there.best,
                WhichWeights::Last => &there.last,
            };
            let rows: Vec<&[f32]> = expected.chunks(5).collect();
            let bits = |x: &[f32]| x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            for (i, found) in predicted(&p, &id[..10], name, &paths).iter().enumerate() {
                assert_eq!(bits(found), bits(rows[i]), "{spec} {name} {}", there.ids[i]);
            }
            // Alone and by the folder, in another batch.
            let folder = dir.to_str().unwrap();
            assert_eq!(
                bits(&predicted(&p, folder, name, &paths[3..4])[0]),
                bits(rows[3]),
                "{spec} {name} alone"
            );
        }
    }
    assert_eq!(p.medft(&["verify-results", "own"]).code, 0);
    watched(&p, &done, &store);
    documented(&p, &done[0], &store);

    // Weights are no part of what a run is.
    let without = p.medft(&["run", &study, "--keep-weights", "none", "--results-dir", "plain"]);
    assert_eq!(without.code, 0, "{}", without.err);
    for record in &done {
        let dir = p.path("plain/own").join(&record.id()[..16]);
        assert!(!dir.join("weights.safetensors").exists());
        let metrics = |d: &Path| fs::read(d.join("metrics.json")).unwrap();
        assert_eq!(metrics(&dir), metrics(&store.run_dir(record.id())));
    }
    let a = p.medft(&["predict", done[0].id(), "mine.safetensors", "--results-dir", "plain"]);
    refused(
        &a,
        &["trained weights that the run kept", "none", "--keep-weights best"],
    );
    let a = p.medft(&["run", &study, "--keep-weights", "best", "--results-dir", "plain"]);
    assert!(a.err.contains("4 finished runs have no kept weights"), "{}", a.err);

    // Images that are none are named, and the others are predicted.
    let images = test_images(&p, &done[0].spec.run);
    let good = images.values().next().unwrap().to_str().unwrap();
    let a = p.medft(&["predict", done[0].id(), "mine.safetensors", good, "absent.png", "--csv"]);
    assert_eq!(a.code, 1, "{}", a.all());
    assert!(
        a.err.contains("mine.safetensors") && a.err.contains("absent.png"),
        "{}",
        a.err
    );
    let lines: Vec<&str> = a.out.lines().collect();
    assert_eq!((lines.len(), lines[0].split(',').count()), (2, 7), "{}", a.out);
    let sum: f64 = lines[1].split(',').skip(2).map(|x| x.parse::<f64>().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-12, "{sum}");

    // What was kept is a checkpoint like any other.
    let kept = store.run_dir(done[0].id()).join("weights.safetensors");
    let a = p.medft(&[
        "weights",
        "add",
        "again",
        "--like",
        "dinov2-b",
        kept.to_str().unwrap(),
        "--json",
    ]);
    assert_eq!(a.code, 0, "{}", a.err);
    assert_eq!(serde_json::from_str::<Value>(&a.out).unwrap()["layout"], "hf");

    exported(&p, &done, &["hf", "timm", "hub"]);

    // A removed file is nothing wrong; an edited one is, and one that was put there.
    fs::remove_file(&kept).unwrap();
    assert_eq!(p.medft(&["verify-results", "own"]).code, 0);
    let last = store.run_dir(done[1].id()).join("weights-last.safetensors");
    let mut bytes = fs::read(&last).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&last, bytes).unwrap();
    fs::write(
        p.path("plain/own")
            .join(&done[0].id()[..16])
            .join("weights.safetensors"),
        b"x",
    )
    .unwrap();
    let a = p.medft(&["verify-results", "own"]);
    assert_eq!(
        (a.code, a.all().contains("weights-last.safetensors")),
        (2, true),
        "{}",
        a.all()
    );
    let a = p.medft(&["verify-results", "own", "--results-dir", "plain"]);
    assert_eq!(
        (a.code, a.all().contains("no trained weights, since DONE names none")),
        (2, true),
        "{}",
        a.all()
    );
    refused(
        &p.medft(&["predict", done[1].id(), good, "--weights", "last"]),
        &["weights-last.safetensors"],
    );
}

/// Exports the runs with a linear head and holds what timm and transformers compute against `predict`.
fn exported(p: &Place, done: &[RunRecord], layouts: &[&str]) {
    let mut folders = Vec::new();
    for record in done {
        let (id, linear) = (record.id(), record.spec.run.head == HeadKind::Linear);
        for layout in layouts {
            let out = format!("{layout}-{}", &id[..8]);
            let a = p.medft(&["export", id, "--layout", layout, "--out", &out]);
            if !linear && *layout != "hub" {
                refused(&a, &["hub", "MHA head", "medft predict"]);
                continue;
            }
            assert_eq!(a.code, 0, "{}", a.err);
            for file in [
                "config.json",
                "preprocessor_config.json",
                "model.safetensors",
                "README.md",
            ] {
                assert!(p.path(&out).join(file).is_file(), "{out}/{file}");
            }
            let card = fs::read_to_string(p.path(&out).join("README.md")).unwrap();
            assert!(card.contains("model-index:") && card.contains(id), "{card}");
            refused(
                &p.medft(&["export", id, "--layout", layout, "--out", &out]),
                &["an empty folder"],
            );
            if *layout != "hub" {
                folders.push((p.path(&out), id.to_owned(), record.spec.run.clone()));
            }
        }
    }
    let Some(python) = python(&["torch", "timm", "transformers"]) else {
        return;
    };
    let paths: Vec<&Path> = folders.iter().map(|f| f.0.as_path()).collect();
    let images = test_images(p, &folders[0].2);
    let images: Vec<&Path> = images.values().take(6).map(PathBuf::as_path).collect();
    let lines = images
        .iter()
        .map(|i| i.display().to_string())
        .collect::<Vec<_>>()
        .join("\n");
    let theirs = ask(&python, "export.py", &paths, &lines);
    assert_eq!(theirs.len(), folders.len());
    for ((folder, id, spec), said) in folders.iter().zip(&theirs) {
        let ours = predicted(p, id, "best", &images);
        let mut worst = 0.0_f64;
        for (ours, theirs) in ours.iter().zip(said["logits"].as_array().unwrap()) {
            for (x, y) in ours.iter().zip(theirs.as_array().unwrap()) {
                worst = worst.max((f64::from(*x) - y.as_f64().unwrap()).abs());
            }
        }
        println!(
            "{} {spec}: largest difference {worst:.1e}, of their preprocessing {}",
            folder.display(),
            said["processor_difference"]
        );
        assert!(worst <= 1e-4, "{} {spec}: {worst}", folder.display());
        assert_eq!(said["labels"].as_array().unwrap().len(), 5);
        // Their resize differs from Pillow's by roundings of 8-bit values: at most two of 255, over the standard deviation.
        assert!(said["processor_difference"].as_f64().unwrap() < 0.1, "{said}");
    }
}

/// Every backbone that timm has with a head that reads the same, and what is said of the others.
#[test]
fn every_family_is_exported_to_timm_or_says_why_not() {
    let p = Place::new();
    let families = "[\"mae-b\", \"clip-b\", \"aimv2-l\", \"vmamba-s\"]";
    let change = |t: String| {
        t.replace("[\"dinov2-b\"]", families)
            .replace("[\"linear\", \"mha\"]", "[\"linear\"]")
            .replace("epochs = 2", "epochs = 1")
    };
    let study = p.study("families", change);
    let a = p.medft(&["run", &study]);
    assert_eq!(a.code, 0, "{}", a.err);
    assert!(
        a.err.contains("weights to be kept (best)"),
        "the default of one's own study: {}",
        a.err
    );
    let (_, mut done) = runs(&p, "families");
    for record in &done {
        let a = p.medft(&["export", record.id(), "--layout", "hf", "--out", "x"]);
        refused(&a, &["--layout hf", "hub"]);
    }
    done.retain(|r| r.spec.run.backbone != "vmamba-s");
    exported(&p, &done, &["timm", "hub"]);
    // Those that are compiled in keep nothing unless they are told to.
    for name in ["demo", "paper", "paper-corrected", "splits", "medmnist"] {
        let text = medft::study::Study::text(name, Path::new("none")).unwrap();
        assert!(text.contains("keep_weights = \"none\""), "{name}");
    }
    assert!(
        registry::BACKBONES.get("mine").is_none(),
        "this process took nothing in"
    );
}

/// Epochs can be watched before the run has ended, and a run that is taken up again has each of them once.
#[test]
fn curves_are_written_while_a_run_trains_and_once_where_it_is_taken_up_again() {
    let p = Place::new();
    let one = |t: String| {
        t.replace("[\"linear\", \"mha\"]", "[\"linear\"]")
            .replace("[\"frozen\", \"unfrozen\"]", "[\"unfrozen\"]")
    };
    let study = p.study("long", |t| one(t).replace("epochs = 2", "epochs = 40"));
    let args = ["run", &study, "--tensorboard", "board", "--checkpoint-every", "0"];
    let mut child = p
        .process(&args)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let event_files = || -> Vec<PathBuf> {
        let below = |d: PathBuf| {
            fs::read_dir(d)
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| e.path())
                .collect::<Vec<_>>()
        };
        below(p.path("board/long")).into_iter().flat_map(below).collect()
    };
    let size = || {
        event_files()
            .first()
            .and_then(|f| fs::metadata(f).ok())
            .map_or(0, |m| m.len())
    };
    // The first record has 40 bytes, an epoch a few hundred.
    while size() < 400 {
        assert!(
            child.try_wait().unwrap().is_none(),
            "the run ended before its curves were seen"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(Store::new(&p.path("results"), "long").all().unwrap().done.is_empty());
    // As its lease lapses; the machine is this one, so its process is known to be gone.
    let a = p.medft(&args);
    assert_eq!(a.code, 0, "{}", a.err);
    assert_eq!(event_files().len(), 1);
    let (store, done) = runs(&p, "long");
    watched(&p, &done, &store);
}

/// The lines that docs/FORMATS.md has for pandas and polars, in a run's folder.
fn documented(p: &Place, record: &RunRecord, store: &Store) {
    let text = include_str!("../../docs/FORMATS.md");
    let (_, rest) = text.split_once("```python\nimport json, pandas").unwrap();
    let lines: Vec<&str> = rest.split_once("```").unwrap().0.lines().skip(1).collect();
    assert_eq!(lines.len(), 4);
    let Some(python) = python(&["pandas", "polars", "pyarrow"]) else {
        return;
    };
    let rows: Vec<String> = lines.iter().map(|l| format!("len({l})")).collect();
    let script = format!("import json, pandas as pd, polars as pl\nprint([{}])", rows.join(", "));
    let out = Command::new(python)
        .args(["-c", &script])
        .current_dir(store.run_dir(record.id()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    let (epochs, images) = (
        store.epochs(record.id()).unwrap().len(),
        test_images(p, &record.spec.run).len(),
    );
    assert_eq!(
        said,
        format!("[{epochs}, {epochs}, {images}, {images}]"),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// What TensorBoard reads is what epochs.json says, float32.
fn watched(p: &Place, done: &[RunRecord], store: &Store) {
    let study = store.folder().file_name().unwrap().to_owned();
    for record in done {
        let named = |d: &PathBuf| d.to_string_lossy().ends_with(&record.id()[..16]);
        let folders: Vec<PathBuf> = fs::read_dir(p.path("board").join(&study))
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(named)
            .collect();
        assert_eq!(folders.len(), 1, "one folder a run");
        assert_eq!(fs::read_dir(&folders[0]).unwrap().count(), 1);
    }
    let Some(python) = python(&["tensorboard"]) else { return };
    let said = ask(&python, "board.py", &[&p.path("board")], "").remove(0);
    for record in done {
        let runs = said.as_object().unwrap();
        let (name, tags) = runs.iter().find(|(n, _)| n.ends_with(&record.id()[..16])).unwrap();
        let s = &record.spec.run;
        assert!(
            name.contains(&format!(
                "/{}-{}-{}-{}-seed{}",
                s.dataset, s.backbone, s.freeze, s.head, s.seed
            )),
            "{name}"
        );
        let epochs = store.epochs(record.id()).unwrap();
        let curve = |f: &dyn Fn(&medft::results::Epoch) -> f64| -> Vec<(i64, f32)> {
            let all = epochs.iter().map(|e| (i64::from(e.epoch), f(e) as f32));
            all.filter(|e| !e.1.is_nan()).collect()
        };
        let found = |tag: &str| -> Vec<(i64, f32)> {
            let all = tags[tag].as_array().unwrap_or_else(|| panic!("no {tag} in {tags}"));
            all.iter()
                .map(|e| (e[0].as_i64().unwrap(), e[1].as_f64().unwrap() as f32))
                .collect()
        };
        assert_eq!(found("loss/train"), curve(&|e| e.train_loss));
        assert_eq!(found("loss/validation"), curve(&|e| e.val_loss));
        assert_eq!(found("rate"), curve(&|e| e.lr));
        for metric in epochs[0].val.keys() {
            assert_eq!(found(&format!("validation/{metric}")), curve(&|e| e.val[metric]));
        }
    }
}
