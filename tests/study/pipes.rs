//! A pipe that nobody writes to, and a device without end, in the place of every file that medft reads: nothing waits, nothing
//! fills memory, nothing panics.

use crate::place::Place;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs a command within 8 GB of address space and a minute; what it said, or nothing where it did not end.
fn ends(p: &Place, args: &[&str]) -> Option<(i32, String)> {
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -v 8388608; exec \"$0\" \"$@\""])
        .arg(assert_cmd::cargo::cargo_bin("medft"))
        .args(args)
        .current_dir(p.path(""))
        .env("HOME", p.path(""))
        .env("RAYON_NUM_THREADS", "2")
        .env("MEDFT_LEASE_SECONDS", "1")
        .stdin(Stdio::null())
        .stdout(fs::File::create(p.path("stdout")).unwrap())
        .stderr(fs::File::create(p.path("stderr")).unwrap())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        if let Some(status) = child.try_wait().unwrap() {
            let said = |f: &str| String::from_utf8_lossy(&fs::read(p.path(f)).unwrap()).into_owned();
            return Some((status.code().unwrap_or(-1), said("stdout") + &said("stderr")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

fn pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

#[test]
fn no_pipe_and_no_device_in_the_place_of_a_file_hangs_medft() {
    let p = Place::new();
    p.study("s", |t| {
        t.replace(r#"["frozen", "unfrozen"]"#, r#"["frozen"]"#)
            .replace(r#"["linear", "mha"]"#, r#"["linear"]"#)
            .replace("epochs = 2", "epochs = 1\naugment = \"none\"")
    });
    let good = |args: &[&str]| {
        let (code, said) = ends(&p, args).unwrap();
        assert_eq!(code, 0, "{args:?}: {said}");
    };
    good(&["reproduce", "./s.toml"]);
    good(&["bundle", "./s.toml", "--out", "b.zip"]);
    let paper = "experiments/papers/paper2025";
    fs::create_dir_all(p.path(paper)).unwrap();
    for file in ["tolerance.toml", "claims.toml", "published.csv", "published.toml"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(paper).join(file);
        fs::copy(from, p.path(paper).join(file)).unwrap();
    }
    fs::create_dir(p.path("templates")).unwrap();
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/summary.md.tera");
    fs::copy(template, p.path("templates/summary.md.tera")).unwrap();

    const VERIFY: &[&str] = &["verify-results", "./s.toml"];
    const REPORT: &[&str] = &["report", "./s.toml"];
    const RUN: &[&str] = &["run", "./s.toml"];
    const AUDIT: &[&str] = &["data", "audit", "--study", "./s.toml"];
    const PLAN: &[&str] = &["plan", "./s.toml"];
    const BUNDLE: &[&str] = &["bundle", "--verify", "b.zip"];
    const TEMPLATES: &[&str] = &["report", "./s.toml", "--templates", "templates"];
    let commands = |file: &Path| -> Vec<&[&str]> {
        let name = file.strip_prefix(p.path("")).unwrap().to_str().unwrap();
        match name.split('/').next().unwrap() {
            "b.zip" => vec![BUNDLE],
            "s.toml" => vec![PLAN, RUN, VERIFY],
            "templates" => vec![TEMPLATES],
            "experiments" => vec![PLAN, REPORT, RUN],
            "reports" => vec![REPORT, VERIFY],
            "data" => vec![RUN, AUDIT],
            _ if name.contains("/.cache/") => vec![RUN, REPORT],
            _ => vec![VERIFY, REPORT, RUN],
        }
    };
    // Of the many images one, of the report's many files those that are read again.
    let mut images = 0;
    let mut files: Vec<PathBuf> = medft::fsio::below(&p.path(""));
    files.retain(|f| {
        let image = f.extension().is_some_and(|e| e == "png") && f.starts_with(p.path("data"));
        images += usize::from(image);
        let figure = f.starts_with(p.path("reports/s/figures")) || f.starts_with(p.path("reports/s/cards"));
        !(figure || f.ends_with("stdout") || f.ends_with("stderr") || image && images > 1)
    });
    let run = fs::read_dir(p.path("results/s"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    files.extend([run.join("lease"), run.join("checkpoint/000000000001-0.safetensors")]);
    files.push(p.path("results/.cache/rates-2/forward-x-00000000.json"));
    // What a command makes anew, or sets aside, is put back.
    let saved: Vec<(PathBuf, Vec<u8>)> = ["results/s", "reports/s"]
        .iter()
        .flat_map(|d| medft::fsio::below(&p.path(d)))
        .map(|f| (f.clone(), fs::read(f).unwrap()))
        .collect();
    let restore = || {
        for dir in ["results/s", "reports/s"] {
            fs::remove_dir_all(p.path(dir)).unwrap();
        }
        for (file, bytes) in &saved {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
        }
    };
    let mut tried = 0;
    for file in &files {
        let whole = fs::read(file).ok();
        // A finished run asks for no lease and no checkpoint.
        let begun = file.ends_with("lease") || file.extension().is_some_and(|e| e == "safetensors");
        for device in [false, true] {
            // A device is refused by its type, where a pipe is: one command is enough.
            let most = if device { 1 } else { usize::MAX };
            for &command in commands(file).iter().take(most) {
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                let _ = fs::remove_file(file);
                match device {
                    true => symlink("/dev/zero", file).unwrap(),
                    false => pipe(file),
                }
                if begun {
                    fs::remove_file(run.join("DONE")).unwrap();
                }
                let what = format!(
                    "{command:?} with a {} at {}",
                    if device { "device" } else { "pipe" },
                    file.display()
                );
                let (_, said) = ends(&p, command).unwrap_or_else(|| panic!("{what} hangs"));
                assert!(
                    !said.contains("panicked") && !said.contains("memory allocation"),
                    "{what}: {said}"
                );
                tried += 1;
                restore();
            }
        }
        let _ = fs::remove_file(file);
        if let Some(bytes) = whole {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
        }
    }
    println!(
        "{tried} commands with a pipe or a device in the place of one of {} files",
        files.len()
    );
    for name in [
        "results.json",
        ".seal.json",
        "b.zip",
        "s.toml",
        "about.json",
        "rows.f32",
        ".stat",
        "/evidence-",
        "DONE",
        "predictions.parquet",
        "train_1.csv",
        "tolerance.toml",
    ] {
        let known = |f: &PathBuf| f.to_str().unwrap().contains(name);
        assert!(files.iter().any(known), "{name} is not among {files:#?}");
    }
}
