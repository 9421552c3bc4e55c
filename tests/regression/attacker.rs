//! What an attacker and a fault injector found, D1 to D14 of their list, in small. Elsewhere: data exchanged after the check
//! (`swaps`), a cache that knew files by size and time (`data::cache`), forged and swapped records (`verify_results`), temp files
//! of the killed (`crash`), instruction sets (`isa`), names and homes in what is handed on (`privacy`, `bundle`), templates
//! (`report`), bombs (`data::decode`, `data::npz`, `fetch::archive`).

use crate::place::{Place, Said};
use crate::{aptos, images};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn named(dir: &Path, name: &str) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for e in fs::read_dir(dir).into_iter().flatten().flatten() {
        match e.path() {
            p if p.is_dir() => out.extend(named(&p, name)),
            p if p.file_name().is_some_and(|n| n == name) => out.push(p),
            _ => {}
        }
    }
    out
}

/// D11: a flipped bit in a table of features ended every run until the file was removed by hand.
#[test]
fn a_damaged_table_of_features_is_computed_anew() {
    let p = Place::new();
    let s = p.study("s", |t| t.replace("epochs = 2", "epochs = 1"));
    let run = || {
        let a = p.medft(&["run", &s, "--only", "freeze=frozen,head=linear"]);
        assert_eq!(a.code, 0, "{}", a.all());
        let metrics = named(&p.path("results/s"), "metrics.json");
        assert_eq!(metrics.len(), 1);
        fs::read(&metrics[0]).unwrap()
    };
    let expected = run();
    let tables = named(&p.path("results"), "rows.f32");
    assert!(!tables.is_empty(), "no table was kept");
    let whole: Vec<Vec<u8>> = tables.iter().map(|t| fs::read(t).unwrap()).collect();
    for damage in [
        "a bit",
        "the end",
        "everything",
        "what describes it",
        "what describes it, gone",
    ] {
        for table in &tables {
            let about = table.with_file_name("about.json");
            let mut bytes = fs::read(table).unwrap();
            let half = bytes.len() / 2;
            match damage {
                "a bit" => bytes[half] ^= 4,
                "the end" => bytes.truncate(half),
                "everything" => bytes.clear(),
                "what describes it" => fs::write(&about, b"{\"dims\":[1],").unwrap(),
                _ => fs::remove_file(&about).unwrap(),
            }
            fs::write(table, bytes).unwrap();
        }
        fs::remove_dir_all(p.path("results/s")).unwrap();
        assert_eq!(run(), expected, "{damage}");
        for (table, whole) in tables.iter().zip(&whole) {
            assert!(
                fs::read(table).unwrap() == *whole,
                "{damage}: the table is not whole again"
            );
        }
    }
}

/// D12: a pipe as label file or image hung, an image linked to /dev/zero ate the memory.
#[test]
fn pipes_and_devices_are_neither_waited_for_nor_read() {
    let p = Place::new();
    let set = aptos(&p);
    assert_eq!(p.medft(&["data", "lock", "aptos2019"]).code, 0);
    let image = images(&set)[5].clone();
    let label = set.join("train_1.csv");
    let pipe = |at: &Path| assert!(std::process::Command::new("mkfifo").arg(at).status().unwrap().success());
    for (what, file) in [
        ("pipe", &image),
        ("device", &image),
        ("pipe", &label),
        ("device", &label),
    ] {
        let kept = fs::read(file).unwrap();
        fs::remove_file(file).unwrap();
        match what {
            "pipe" => pipe(file),
            _ => symlink("/dev/zero", file).unwrap(),
        }
        for args in [
            &["data", "lock", "aptos2019"][..],
            &["data", "verify", "aptos2019", "--decode"],
            &["data", "audit", "aptos2019"],
        ] {
            let mut c = p.command(args);
            let a = Said::by(c.timeout(Duration::from_secs(120)));
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!([1, 2].contains(&a.code), "{what} {args:?}: {} {}", a.code, a.all());
            let page = fs::read_to_string(p.path("reports/data/aptos2019.md")).unwrap_or_default();
            assert!(
                a.all().contains(name) || page.contains(name),
                "{what} {args:?}: {}",
                a.all()
            );
        }
        fs::remove_file(file).unwrap();
        fs::write(file, kept).unwrap();
    }
}
