//! The binary from the outside: the way from data to table, what bad input says, and that nothing computed is lost.

use crate::place::{Place, Said};
use assert_cmd::Command;
use std::fs;
use std::path::{Path, PathBuf};

impl Place {
    /// A phantom set laid where a user's own data would be.
    fn own(&self, set: &str, folder: &str) -> PathBuf {
        let a = self.medft(&["data", "synth", set]);
        assert_eq!(a.code, 0, "{}", a.err);
        fs::rename(self.path("data/phantom").join(folder), self.path("data").join(folder)).unwrap();
        self.path("data").join(folder)
    }
}

#[track_caller]
fn complains(a: &Said, code: i32, texts: &[&str]) {
    assert_eq!(a.code, code, "stdout: {}\nstderr: {}", a.out, a.err);
    let all = a.all();
    for w in texts {
        assert!(all.contains(w), "`{w}` is not in:\n{all}");
    }
}

#[test]
fn a_study_runs_to_its_report_and_a_second_time_does_nothing() {
    let p = Place::new();
    let s = p.study("short", |t| t);
    let first = p.medft(&["reproduce", &s]);
    assert_eq!(first.code, 0, "{}", first.err);
    for file in [
        "README.md",
        "compare.md",
        "figures/scores.svg",
        "index.html",
        "paper.tex",
        "results.json",
        "tables/aptos2019.tex",
        "tables/aptos2019.md",
    ] {
        assert!(p.path("reports/short").join(file).is_file(), "{file}");
    }
    let readme = fs::read_to_string(p.path("reports/short/README.md")).unwrap();
    assert!(readme.lines().next().unwrap().contains("mean nothing"), "{readme}");
    let before = p.files("results/short");
    let page = p.path("reports/short/data.md");
    let made = |f: &Path| fs::metadata(f).unwrap().modified().unwrap();
    let audited = made(&page);
    let second = p.medft(&["reproduce", &s]);
    assert_eq!(second.code, 0, "{}", second.err);
    assert!(second.err.contains("4 done"), "{}", second.err);
    assert_eq!(before, p.files("results/short"));
    assert_eq!(made(&page), audited, "the data are audited once");
    let plan = p.medft(&["plan", &s, "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&plan.out).unwrap();
    assert!(plan.as_array().unwrap().iter().all(|r| r["state"] == "done"), "{plan}");
}

/// `reproduce` audits before it reports: with images where they are whole, by labels where not, and a reason where nothing can be
/// read. It never stops the report. `report` alone renders what is there and audits nothing.
#[test]
fn a_reproduction_audits_its_data_and_a_report_alone_does_not() {
    let p = Place::new();
    let s = p.study("short", |t| t);
    let page = || fs::read_to_string(p.path("reports/short/data.md")).unwrap();
    let html = || fs::read_to_string(p.path("reports/short/index.html")).unwrap();
    assert_eq!(p.medft(&["data", "synth", "aptos2019"]).code, 0);
    complains(&p.medft(&["report", &s]), 1, &["reports/short/index.html"]);
    assert!(!p.path("reports/short/data.md").exists(), "{}", html());
    let reproduce = || p.medft(&["reproduce", &s]);
    complains(&reproduce(), 0, &[]);
    assert!(
        page().contains("| same looks |") && page().contains("## APTOS2019"),
        "{}",
        page()
    );
    let data = fs::read_to_string(p.path("reports/short/data.html")).unwrap();
    assert!(data.contains("same looks") && p.path("reports/short/data.svg").is_file());
    // What a user changes by hand is made anew; a report shows it as it is.
    fs::write(p.path("reports/short/data.md"), "edited").unwrap();
    p.medft(&["report", &s]);
    assert_eq!(page(), "edited");
    reproduce();
    assert!(page().contains("| same looks |"));
    // Labels that are none: the set's runs are on record, its data are not there.
    fs::write(p.path("data/phantom/APTOS2019/train_1.csv"), "nonsense").unwrap();
    let a = p.medft(&["data", "audit", "--study", &s]);
    complains(&a, 1, &["train_1.csv"]);
    assert!(
        page().contains("## Not audited") && page().contains("train\\_1.csv"),
        "{}",
        page()
    );
}

#[test]
fn threads_and_order_do_not_change_a_byte() {
    let (a, b) = (Place::new(), Place::new());
    let s = a.study("short", |t| t);
    b.study("short", |t| t);
    assert_eq!(a.medft(&["run", &s, "--workers", "1"]).code, 0);
    // The other place runs one cell first, with other threads everywhere.
    let out = Command::cargo_bin("medft")
        .unwrap()
        .current_dir(b.path(""))
        .env("RAYON_NUM_THREADS", "1")
        .args(["run", &s, "--workers", "8", "--only", "freeze=unfrozen,head=mha"])
        .output()
        .unwrap();
    assert!(out.status.success());
    assert_eq!(b.medft(&["run", &s, "--workers", "2"]).code, 0);
    assert_eq!(a.files("results/short"), b.files("results/short"));
}

/// The heads of a frozen backbone are trained in one pass; each must come out as it does alone.
#[test]
fn heads_trained_together_are_those_trained_apart() {
    let (a, b) = (Place::new(), Place::new());
    let frozen = |t: String| t.replace("[\"frozen\", \"unfrozen\"]", "[\"frozen\"]");
    for (name, augment) in [("cached", "\naugment = \"none\"\n"), ("drawn", "")] {
        let change = |t: String| frozen(t) + augment;
        let s = a.study(name, change);
        b.study(name, change);
        let together = a.medft(&["run", &s, "-v"]);
        assert_eq!(together.code, 0, "{}", together.err);
        for head in ["head=mha", "head=linear"] {
            assert_eq!(b.medft(&["run", &s, "--only", head]).code, 0);
        }
        assert_eq!(a.files(&format!("results/{name}")), b.files(&format!("results/{name}")));
    }
}

/// Real training with a checkpoint after every step: the kills fall into the writing of phantoms, features, steps,
/// checkpoints and records.
#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let (a, b) = (Place::new(), Place::new());
    let longer = |t: String| t.replace("epochs = 2", "epochs = 6");
    let s = a.study("short", longer);
    b.study("short", longer);
    assert_eq!(a.medft(&["run", &s]).code, 0);
    let mut hit = 0;
    for wait in [20, 60, 150, 300, 600, 900, 200, 700, 500, 400] {
        let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("medft"))
            .current_dir(b.path(""))
            .args(["run", &s, "--checkpoint-every", "0"])
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        hit += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(hit >= 5, "only {hit} kills met a living process");
    let last = b.medft(&["run", &s]);
    assert_eq!(last.code, 0, "{}", last.err);
    assert_eq!(a.files("results/short"), b.files("results/short"));
}

/// SIGINT finishes the step, writes a checkpoint and ends with 130; the next run goes on from there.
#[test]
fn an_interrupted_run_checkpoints_and_goes_on_to_the_same_bytes() {
    let (a, b) = (Place::new(), Place::new());
    let longer = |t: String| t.replace("epochs = 2", "epochs = 40");
    let s = a.study("short", longer);
    b.study("short", longer);
    let only = ["--only", "freeze=unfrozen,head=linear"];
    assert_eq!(a.medft(&[&["run", &s], &only[..]].concat()).code, 0);
    assert_eq!(b.medft(&["data", "synth", "aptos2019"]).code, 0);
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("medft"))
        .current_dir(b.path(""))
        .args(["run", &s, "--checkpoint-every", "0"])
        .args(only)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // The first checkpoint says that training is under way.
    let checkpoints = || {
        let runs = fs::read_dir(b.path("results/short")).into_iter().flatten().flatten();
        runs.flat_map(|r| {
            fs::read_dir(r.path().join("checkpoint"))
                .into_iter()
                .flatten()
                .flatten()
        })
        .count()
    };
    while checkpoints() == 0 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let kill = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(checkpoints() > 0);
    let plan = b.medft(&[&["plan", &s, "--json"], &only[..]].concat());
    assert!(plan.out.contains("\"resume\""), "{}", plan.out);
    assert_eq!(b.medft(&[&["run", &s], &only[..]].concat()).code, 0);
    assert_eq!(a.files("results/short"), b.files("results/short"));
}

#[test]
fn an_exploding_run_leaves_its_evidence_and_the_study_goes_on() {
    let p = Place::new();
    let s = p.study("wild", |t| t.replace("lr = 2e-3", "lr = 1e9\ndivergence = \"stop\""));
    let a = p.medft(&["run", &s, "--only", "freeze=unfrozen"]);
    complains(&a, 1, &["failed", "loss", "step"]);
    let mut failed = 0;
    for e in fs::read_dir(p.path("results/wild")).unwrap() {
        let run = e.unwrap().path();
        let text = fs::read_to_string(run.join("failed.json")).unwrap();
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        let f = &record["content"];
        assert!(f["step"].as_u64().unwrap() >= 1 && f["lr"] == 1e9, "{text}");
        assert_eq!(f["images"].as_array().unwrap().len(), 16, "{text}");
        assert!(!f["losses"].as_array().unwrap().is_empty(), "{text}");
        assert!(fs::read_dir(run.join("checkpoint")).unwrap().count() > 0);
        failed += 1;
    }
    assert_eq!(failed, 2, "both heads were tried");
    let plan = p.medft(&["plan", &s, "--only", "freeze=unfrozen"]);
    complains(&plan, 0, &["failed", "loss"]);
}

#[test]
fn without_data_reproduce_says_what_is_missing_and_leaves_nothing() {
    let p = Place::new();
    let a = p.medft(&["reproduce", "paper", "--only", "dataset=ddsm"]);
    complains(&a, 1, &["ddsm", "weights", "dinov2-b", "missing  data ddsm (168 runs)"]);
    assert_eq!(
        fs::read_dir(p.path("")).unwrap().count(),
        0,
        "nothing half-done is left behind"
    );
}

#[test]
fn a_typo_in_a_study_names_file_line_and_the_nearest_name() {
    let p = Place::new();
    let s = p.study("typo", |t| t.replace("epochs = 2", "epoch = 2"));
    complains(&p.medft(&["plan", &s]), 2, &["typo.toml:", "epochs"]);
    let s = p.study("backbone", |t| t.replace("dinov2-b", "dinov3-b"));
    complains(&p.medft(&["run", &s]), 2, &["backbone.toml:", "dinov2-b"]);
    complains(&p.medft(&["run", "no-such-study"]), 2, &["no-such-study", "demo"]);
    complains(&p.medft(&["plan", "demo", "--only", "head=mlp"]), 2, &["linear", "mha"]);
    complains(&p.medft(&["plan", "demo", "--device", "tpu"]), 2, &["cuda:N"]);
}

#[test]
fn label_files_that_are_wrong_are_refused_with_line_and_remedy() {
    let p = Place::new();
    let root = p.own("aptos2019", "APTOS2019");
    let csv = root.join("train_1.csv");
    let good = fs::read_to_string(&csv).unwrap();
    let first = good.lines().nth(1).unwrap().to_owned();
    let cases: [(&str, String, &[&str]); 4] = [
        (
            "a wrong label",
            good.replacen(&first, &format!("{}9", &first[..first.len() - 1]), 1),
            &["train_1.csv:2", "0"],
        ),
        (
            "a missing column",
            good.replacen("diagnosis", "grade", 1),
            &["train_1.csv", "diagnosis"],
        ),
        (
            "a duplicate id",
            format!("{}\n{first}\n", good.trim_end()),
            &["train_1.csv:", "found"],
        ),
        ("an empty file", String::new(), &["train_1.csv"]),
    ];
    for (what, text, texts) in cases {
        fs::write(&csv, text).unwrap();
        let a = p.medft(&["data", "lock", "aptos2019"]);
        assert_eq!(a.code, 2, "{what}: {}{}", a.out, a.err);
        complains(&a, 2, texts);
    }
    fs::write(&csv, good).unwrap();
    // A drawn train.csv is not the publisher's: it is taken only where the user says so, and is noted from then on.
    let a = p.medft(&["data", "lock", "aptos2019"]);
    complains(&a, 2, &["train.csv", "--accept-labels"]);
    let a = p.medft(&["data", "lock", "aptos2019", "--accept-labels"]);
    assert_eq!(a.code, 0, "{}{}", a.out, a.err);
    complains(
        &p.medft(&["data", "verify", "aptos2019"]),
        0,
        &["train.csv", "accepted when the set was locked"],
    );
}

#[test]
fn verify_names_changed_missing_extra_and_swapped_files() {
    let p = Place::new();
    let root = p.own("aptos2019", "APTOS2019");
    assert_eq!(p.medft(&["data", "lock", "aptos2019", "--accept-labels"]).code, 0);
    let images = root.join("train_images/train_images");
    let mut names: Vec<PathBuf> = fs::read_dir(&images).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    let name = |i: usize| names[i].file_name().unwrap().to_str().unwrap().to_owned();
    let mut bytes = fs::read(&names[0]).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&names[0], bytes).unwrap();
    fs::remove_file(&names[1]).unwrap();
    fs::write(images.join("zzz.png"), b"x").unwrap();
    let (a, b) = (fs::read(&names[2]).unwrap(), fs::read(&names[3]).unwrap());
    fs::write(&names[2], b).unwrap();
    fs::write(&names[3], a).unwrap();
    let (n0, n1, n2, n3) = (name(0), name(1), name(2), name(3));
    complains(
        &p.medft(&["data", "verify", "aptos2019"]),
        2,
        &[&n0, &n1, "zzz.png", &n2, &n3],
    );
}

#[test]
fn a_truncated_image_is_named() {
    let p = Place::new();
    let root = p.own("aptos2019", "APTOS2019");
    let images = root.join("train_images/train_images");
    let victim = fs::read_dir(&images).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&victim).unwrap();
    fs::write(&victim, &bytes[..bytes.len() / 2]).unwrap();
    let a = p.medft(&["bench", "decode", "--steps", "1", "--images", images.to_str().unwrap()]);
    complains(&a, 2, &[victim.file_name().unwrap().to_str().unwrap()]);
}

#[test]
fn weights_of_the_right_size_but_the_wrong_hash_are_refused() {
    let p = Place::new();
    let dir = p.path("weights/dinov2-s-hf");
    fs::create_dir_all(&dir).unwrap();
    let f = fs::File::create(dir.join("model.safetensors")).unwrap();
    f.set_len(88_249_960).unwrap();
    let a = p.medft(&["weights", "verify", "dinov2-s"]);
    complains(&a, 2, &["model.safetensors", "ae1e99fc", "refused"]);
}

/// Weights without a published hash are trusted on first use, so only their tensors can tell that they are wrong.
#[test]
fn weights_with_missing_or_misshaped_tensors_are_named() {
    let p = Place::new();
    p.own("chexpert", "CheXpert");
    assert_eq!(p.medft(&["data", "lock", "chexpert"]).code, 0);
    let s = p.study("full", |t| {
        t.replace("\"tiny\"", "\"full\"")
            .replace("aptos2019", "chexpert")
            .replace("dinov2-b", "mae-b")
            .replace("crop = 64", "crop = 224")
            .replace("resize = 72", "resize = 256")
    });
    let dir = p.path("weights/mae-b-timm");
    fs::create_dir_all(&dir).unwrap();
    for (shape, texts) in [
        (vec![1, 1, 768], ["pos_embed", "missing"]),
        (vec![1, 1, 3], ["cls_token", "[1, 1, 3]"]),
    ] {
        let bytes = vec![0u8; shape.iter().product::<usize>() * 4];
        let t = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, &bytes).unwrap();
        let file = safetensors::serialize([("cls_token", t)], None).unwrap();
        let _ = fs::remove_file(p.path("weights/weights.lock"));
        fs::write(dir.join("model.safetensors"), file).unwrap();
        let a = p.medft(&["run", &s, "--only", "freeze=frozen,head=linear"]);
        complains(&a, 1, &["model.safetensors", texts[0], texts[1], "weights"]);
    }
}

#[test]
fn a_results_folder_that_cannot_be_written_stops_before_anything_is_lost() {
    let p = Place::new();
    let s = p.study("short", |t| t);
    fs::write(p.path("results"), b"a file, not a folder").unwrap();
    let a = p.medft(&["run", &s]);
    complains(&a, 2, &["results"]);
}

/// Needs the right to mount; says so where it is not there.
#[test]
fn a_full_disk_keeps_what_is_done() {
    let p = Place::new();
    let s = p.study("short", |t| t);
    assert_eq!(p.medft(&["run", &s, "--only", "head=linear"]).code, 0);
    let before = p.files("results/short");
    let small = p.path("small");
    fs::create_dir(&small).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(&small)
        .output()
        .is_ok_and(|o| o.status.success());
    if !mounted {
        crate::skip::skipped("a small file system cannot be mounted here");
        return;
    }
    let a = p.medft(&["run", &s, "--results-dir", "small"]);
    let left = p.medft(&["plan", &s, "--results-dir", "small", "--json"]);
    let _ = std::process::Command::new("umount").arg(&small).status();
    // 1 where the failure could still be recorded, 2 where not even that.
    complains(&a, a.code.clamp(1, 2), &["small", "space"]);
    let left: serde_json::Value = serde_json::from_str(&left.out).unwrap();
    assert!(left.as_array().unwrap().iter().any(|r| r["state"] != "done"), "{left}");
    assert_eq!(before, p.files("results/short"));
}

#[test]
fn an_edited_record_is_found_and_not_counted() {
    let p = Place::new();
    let s = p.study("short", |t| t);
    assert_eq!(p.medft(&["run", &s]).code, 0);
    let run = fs::read_dir(p.path("results/short"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let file = run.join("metrics.json");
    let text = fs::read_to_string(&file).unwrap().replacen("0.", "0.9", 1);
    fs::write(&file, text).unwrap();
    let a = p.medft(&["report", &s]);
    complains(&a, 1, &["metrics.json"]);
    let plan = p.medft(&["plan", &s]);
    complains(&plan, 0, &["stale"]);
}

/// With one benchmark stored, its backbone's runs are measured and the others guessed; without any, nothing is claimed.
#[test]
fn a_plan_says_how_long_and_where_it_guesses() {
    let p = Place::new();
    let plan = |p: &Place| {
        let only = "dataset=ddsm,seed=0,freeze=frozen,head=linear,backbone=dinov2-b,backbone=mae-b";
        let a = p.medft(&["plan", "paper", "--only", only, "--json"]);
        serde_json::from_str::<serde_json::Value>(&a.out).unwrap()
    };
    for line in plan(&p).as_array().unwrap() {
        assert!(line["hours"].is_null() && line["basis"]["from"] == "unknown", "{line}");
    }
    let a = p.medft(&[
        "bench",
        "forward",
        "--backbone",
        "dinov2-b",
        "--batch",
        "1",
        "--steps",
        "1",
        "--size",
        "56",
        "--json",
    ]);
    assert_eq!(a.code, 0, "{}", a.err);
    let rate = serde_json::from_str::<serde_json::Value>(&a.out).unwrap()["images_per_s"]
        .as_f64()
        .unwrap();
    let after = plan(&p);
    let [dinov2, mae] = after.as_array().unwrap().as_slice() else {
        panic!("{after}")
    };
    assert_eq!(
        (&dinov2["basis"]["from"], &mae["basis"]["from"]),
        (&"bench".into(), &"guess".into())
    );
    // One frozen pass over 8,336 images in each of 100 epochs and one over the 2,084 others, at 16 times the pixels.
    let expected = (8336.0 * 100.0 + 1040.0 + 1044.0) * 16.0 / rate / 3600.0;
    let found = dinov2["hours"].as_f64().unwrap();
    assert!((found / expected - 1.0).abs() < 1e-6, "{found} against {expected}");
}

#[test]
fn completions_and_doctor_answer() {
    let p = Place::new();
    complains(&p.medft(&["completions", "bash"]), 0, &["_medft"]);
    complains(&p.medft(&["doctor"]), 0, &["vector instructions"]);
    complains(&p.medft(&["weights", "list"]), 0, &["dinov2-b", "apache-2.0"]);
    complains(&p.medft(&["data", "list"]), 0, &["ddsm", "isic2019"]);
}

#[test]
fn the_audit_of_a_study_is_a_page_with_a_figure() {
    let p = Place::new();
    assert_eq!(p.medft(&["data", "synth", "ddsm"]).code, 0);
    let s = p.study("short", |t| t.replace("[\"aptos2019\"]", "[\"ddsm\", \"isic2019\"]"));
    // ISIC2019 is not here: its place says so, and the code is 1.
    let a = p.medft(&["data", "audit", "--study", &s]);
    complains(
        &a,
        1,
        &[
            "reports/short/data.md",
            "isic2019: not audited",
            "medft data synth isic2019",
        ],
    );
    let page = fs::read_to_string(p.path("reports/short/data.md")).unwrap();
    let first = page.lines().next().unwrap();
    assert!(
        first.contains("phantom") && page.contains("## DDSM, authors split"),
        "{page}"
    );
    assert!(
        page.contains("| authors (used) |") && page.contains("| same looks |"),
        "{page}"
    );
    assert!(page.contains("## Not audited"), "{page}");
    for file in ["data.svg", "data.png"] {
        assert!(p.path("reports/short").join(file).is_file(), "{file}");
    }
    // The same input gives the same bytes.
    let before = p.files("reports/short");
    p.medft(&["data", "audit", "--study", &s, "--workers", "1"]);
    assert_eq!(before, p.files("reports/short"));
    let a = p.medft(&["data", "audit", "ddsm", "--phantom", "--labels-only", "--json"]);
    assert_eq!(a.code, 0, "{}", a.err);
    let json: serde_json::Value = serde_json::from_str(&a.out).unwrap();
    assert!(json[0]["pictures"].is_null() && json[0]["labels"]["leaks"]["test_in_train"]["images"] == 0);
    assert!(p.path("reports/data/ddsm.md").is_file());
    complains(&p.medft(&["data", "audit"]), 2, &["no data set", "--study"]);
    complains(&p.medft(&["data", "audit", "chexpert"]), 2, &["CheXpert", "agreement"]);
}

#[test]
fn the_audit_holds_counts_against_the_manifest_and_names_a_broken_image() {
    let p = Place::new();
    let root = p.own("ddsm", "DDSM");
    let images = root.join("ddsm_raw");
    let mut names: Vec<PathBuf> = fs::read_dir(&images).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    let bytes = fs::read(&names[0]).unwrap();
    fs::write(&names[0], &bytes[..bytes.len() / 2]).unwrap();
    let a = p.medft(&["data", "audit", "ddsm"]);
    complains(&a, 1, &["numbers differ from the manifest", "1 unreadable"]);
    let page = fs::read_to_string(p.path("reports/data/ddsm.md")).unwrap();
    let name = names[0].file_name().unwrap().to_str().unwrap().replace('_', "\\_");
    assert!(page.contains("expected 8,336") && page.contains(&name), "{page}");
}

#[test]
fn verify_reports_as_json_and_trusts_what_has_not_changed() {
    let p = Place::new();
    let root = p.own("chexpert", "CheXpert");
    complains(
        &p.medft(&["data", "verify", "chexpert"]),
        1,
        &["no list", "medft data lock chexpert"],
    );
    assert_eq!(p.medft(&["data", "lock", "chexpert"]).code, 0);
    let verify = |flag: &str| {
        let a = p.medft(&["data", "verify", "chexpert", flag, "--json"]);
        let json: serde_json::Value = serde_json::from_str(&a.out).unwrap();
        (a.code, json[0].clone())
    };
    std::thread::sleep(std::time::Duration::from_millis(2_200));
    assert_eq!(verify("--since-lock").0, 0);
    let (code, r) = verify("--since-lock");
    assert_eq!(
        (code, &r["state"], &r["files"]["hashed"]),
        (0, &"verified".into(), &0.into())
    );
    let (code, r) = verify("--full");
    assert_eq!(code, 0);
    assert_eq!(r["files"]["hashed"], r["files"]["files"]);
    fs::write(root.join("train.csv"), "Path\n").unwrap();
    for flag in ["--since-lock", "--full"] {
        let (code, r) = verify(flag);
        assert_eq!(
            (code, &r["files"]["changed"][0]["path"]),
            (2, &"train.csv".into()),
            "{flag}"
        );
    }
    complains(
        &p.medft(&["data", "verify", "chexpert", "--full", "--since-lock"]),
        2,
        &["cannot be used with"],
    );
}

#[test]
fn the_list_of_sets_has_every_licence_and_citation() {
    let p = Place::new();
    let a = p.medft(&["data", "list"]);
    assert_eq!(a.code, 0);
    for m in medft::manifest::Catalogue::embedded().sets() {
        for text in [&m.citation.text, &m.licence.labels, &m.licence.text()] {
            assert!(a.out.contains(text.as_str()), "{}: {text}", m.set);
        }
    }
}

/// One study, both splits of a set: a table each, from runs on different images.
#[test]
fn a_study_may_have_several_splits_of_a_set() {
    let p = Place::new();
    let s = p.study("both", |t| {
        t.replace("\"aptos2019\"", "\"isic2019\"")
            .replace("[\"frozen\", \"unfrozen\"]", "[\"frozen\"]")
            .replace("[\"linear\", \"mha\"]", "[\"linear\"]")
            .replace("seeds = [0]", "seeds = [0]\nsplits = [\"authors\", \"grouped\"]")
    });
    let a = p.medft(&["reproduce", &s]);
    assert_eq!(a.code, 0, "{}", a.err);
    for (rule, title) in [
        ("authors", "ISIC2019, authors split"),
        ("grouped", "ISIC2019, grouped split"),
    ] {
        let table = fs::read_to_string(p.path(&format!("reports/both/tables/isic2019-{rule}.md"))).unwrap();
        assert!(table.contains(title) && !table.contains("no result"), "{table}");
    }
    let runs = p.medft(&["plan", &s, "--json"]);
    let runs: serde_json::Value = serde_json::from_str(&runs.out).unwrap();
    let ids: Vec<&str> = runs
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["id"].as_str().unwrap())
        .collect();
    assert!(ids.len() == 2 && ids[0] != ids[1], "{runs}");
    let tested = |id: &str| {
        let folder = fs::read_dir(p.path("results/both")).unwrap().map(|e| e.unwrap().path());
        let mut folder = folder.filter(|f| f.file_name().is_some_and(|n| id.starts_with(n.to_str().unwrap())));
        fs::read(folder.next().unwrap().join("predictions.parquet")).unwrap()
    };
    assert_ne!(tested(ids[0]), tested(ids[1]));
    complains(
        &p.medft(&["plan", &s, "--only", "split=official"]),
        2,
        &["authors or grouped"],
    );
}
