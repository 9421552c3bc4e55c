//! An edited number is found and named, wherever it stands; and two folders of results are held against each other.

mod place;

use medft::results::{Metrics, read_record, write_record};
use place::{Place, Said};
use std::fs;
use std::path::{Path, PathBuf};

impl Place {
    /// A place where a short study has been run, to its report.
    fn with_results(change: impl Fn(String) -> String) -> Self {
        let p = Self::new();
        let two_seeds = |t: String| {
            t.replace(r#"["frozen", "unfrozen"]"#, r#"["frozen"]"#)
                .replace(r#"["linear", "mha"]"#, r#"["linear"]"#)
                .replace("seeds = [0]", "seeds = [0, 1]")
        };
        p.study("short", |t| change(two_seeds(t)));
        let a = p.medft(&["reproduce", "./short.toml"]);
        assert_eq!(a.code, 0, "{}", a.all());
        p
    }

    /// Exit code, and what was said on stdout and stderr.
    fn says(&self, args: &[&str]) -> (i32, String) {
        let a = self.medft(args);
        (a.code, a.all())
    }

    fn verify(&self) -> (i32, String) {
        self.says(&["verify-results", "./short.toml"])
    }

    /// The folder of one run.
    fn run(&self) -> PathBuf {
        let mut runs: Vec<PathBuf> = fs::read_dir(self.path("results/short"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        runs.sort();
        runs.remove(0)
    }

    /// Changes a file, looks for `words` in what verify-results finds, and puts the file back.
    #[track_caller]
    fn finds(&self, file: &Path, edit: impl Fn(Vec<u8>) -> Vec<u8>, words: &[&str]) {
        let whole = fs::read(file).unwrap();
        let edited = edit(whole.clone());
        assert_ne!(whole, edited, "{} was not edited", file.display());
        fs::write(file, edited).unwrap();
        let (code, said) = self.verify();
        assert_eq!(code, 2, "{said}");
        let name = file.file_name().unwrap().to_str().unwrap();
        for w in words.iter().chain([&name]) {
            assert!(said.contains(w), "no `{w}` in:\n{said}");
        }
        fs::write(file, whole).unwrap();
    }
}

/// Another first decimal (or last digit, of a whole number) in the first number after `key`. The last of seventeen digits would not
/// do: its neighbours may be the same double.
fn another_digit(key: &'static str) -> impl Fn(Vec<u8>) -> Vec<u8> {
    move |bytes| {
        let text = String::from_utf8(bytes).unwrap();
        let from = text.find(key).unwrap_or_else(|| panic!("no {key} in {text}")) + key.len();
        let start = from + text[from..].find(|c: char| c.is_ascii_digit()).unwrap();
        let length = text[start..].find(|c: char| !c.is_ascii_digit() && c != '.').unwrap();
        let point = text[start..start + length].find('.');
        let at = start + point.map_or(length - 1, |p| p + 1);
        let mut out = text.into_bytes();
        out[at] = if out[at] == b'9' { b'8' } else { out[at] + 1 };
        out
    }
}

fn flip(at: usize) -> impl Fn(Vec<u8>) -> Vec<u8> {
    move |mut bytes| {
        let middle = bytes.len() / 2 + at;
        bytes[middle] ^= 1;
        bytes
    }
}

#[test]
fn an_edited_number_anywhere_is_found_and_named() {
    let p = Place::with_results(|t| t);
    let (code, said) = p.verify();
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("2 runs and") && said.contains("none not as they should be"),
        "{said}"
    );
    assert_eq!(
        p.medft(&["verify-results"]).code,
        0,
        "all folders of results, the study of one being unknown by its name"
    );

    let run = p.run();
    p.finds(
        &run.join("epochs.json"),
        another_digit("\"val_loss\":"),
        &["as DONE says"],
    );
    let words = [
        "metrics.json: best.quadratic_kappa: expected",
        "as predictions.parquet gives",
    ];
    p.finds(&run.join("metrics.json"), another_digit("\"quadratic_kappa\":"), &words);
    p.finds(&run.join("predictions.parquet"), flip(0), &["as DONE says"]);
    p.finds(
        &run.join("provenance.json"),
        another_digit("\"threads\":"),
        &["as DONE says"],
    );
    p.finds(
        &run.join("spec.json"),
        another_digit("\"seed\":"),
        &["spec.json: id: expected"],
    );
    p.finds(&run.join("DONE"), flip(0), &["as DONE says"]);

    let report = p.path("reports/short");
    p.finds(
        &report.join("tables/aptos2019.md"),
        another_digit("DINOv2-B |"),
        &["aptos2019.md:7", "as the records give"],
    );
    p.finds(
        &report.join("tables/aptos2019.tex"),
        another_digit("DINOv2-B &"),
        &["as the records give"],
    );
    p.finds(
        &report.join("tables/aptos2019.html"),
        another_digit("class=\"mean\">"),
        &["as the records give"],
    );
    p.finds(
        &report.join("tables/aptos2019.csv"),
        another_digit("frozen,linear,"),
        &["aptos2019.csv:2"],
    );
    p.finds(
        &report.join("README.md"),
        another_digit("have a result"),
        &["as the records give"],
    );
    p.finds(
        &report.join("figures/scores.png"),
        flip(0),
        &["an edited one that hashes to"],
    );
    p.finds(
        &report.join("report.json"),
        another_digit("\"replicates\":"),
        &["an edited one"],
    );
    assert_eq!(p.verify().0, 0, "everything was put back");
}

/// Who corrects the hashes as well is found by what follows from other files.
#[test]
fn a_number_edited_with_its_hashes_is_found_and_named() {
    let p = Place::with_results(|t| t);
    let run = p.run();
    let path = run.join("metrics.json");
    let (mut metrics, old) = read_record::<Metrics>(&path).unwrap();
    metrics.value += 0.125;
    let new = write_record(&path, &metrics).unwrap();
    let done = fs::read_to_string(run.join("DONE")).unwrap();
    fs::write(run.join("DONE"), done.replace(&old, &new)).unwrap();
    let (code, said) = p.verify();
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains("metrics.json: value: expected") && !said.contains("best."),
        "{said}"
    );

    metrics.value -= 0.125;
    metrics.selected.corrected = Some(7);
    let newer = write_record(&path, &metrics).unwrap();
    fs::write(run.join("DONE"), done.replace(&old, &newer)).unwrap();
    let (code, said) = p.verify();
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains("metrics.json: selected.corrected: expected") && said.contains("found 7"),
        "{said}"
    );
}

#[test]
fn a_report_of_other_records_is_told_from_an_edited_one_and_data_are_not_needed() {
    let p = Place::with_results(|t| t);
    fs::remove_dir_all(p.path("data")).unwrap();
    let (code, said) = p.verify();
    assert_eq!(code, 0, "records are read without the data they came from: {said}");
    fs::remove_dir_all(p.run()).unwrap();
    let (code, said) = p.verify();
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains("one of other records") && !said.contains("as the records give"),
        "{said}"
    );
    let (code, said) = p.says(&["verify-results", "shrot"]);
    assert!(code == 2 && said.contains("shrot"), "{said}");
}

#[test]
fn two_folders_of_the_same_runs_agree_and_of_other_ones_say_what_differs() {
    let (a, b) = (Place::with_results(|t| t), Place::with_results(|t| t));
    let other = Place::with_results(|t| t.replace("lr = 2e-3", "lr = 1e-3"));
    let folder = |p: &Place| p.path("results/short").display().to_string();
    let (code, said) = a.says(&["compare", &folder(&a), &folder(&b)]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("identical") && said.contains("2 pairs") && said.contains("1 reproduced"),
        "{said}"
    );
    let (_, said) = a.says(&["compare", &folder(&a), &folder(&other)]);
    assert!(
        said.contains("lr 0.002 / 0.001") && said.contains("not paired"),
        "{said}"
    );
    let (code, said) = a.says(&["compare", &folder(&a), "nowhere"]);
    assert!(
        code == 2 && said.contains("nowhere") && said.contains("a folder of results"),
        "{said}"
    );
    fs::write(a.run().join("epochs.json"), "{}").unwrap();
    let (code, said) = a.says(&["compare", &folder(&a), &folder(&b)]);
    assert!(code == 2 && said.contains("epochs.json"), "{said}");
}

/// The whole report, resampling included, made with one thread and with five: the same bytes in every file.
#[test]
fn threads_change_no_byte_of_a_report() {
    let p = Place::with_results(|t| t);
    let render = |threads: &str| {
        fs::remove_dir_all(medft::cache::Bucket::Evidence.dir(&p.path("results"))).unwrap();
        let folder = format!("reports-{threads}");
        let mut c = p.command(&[
            "report",
            "./short.toml",
            "--replicates",
            "200",
            "--reports-dir",
            &folder,
        ]);
        let a = Said::by(c.env("RAYON_NUM_THREADS", threads).env("POLARS_MAX_THREADS", threads));
        assert_eq!(a.code, 0, "{}", a.all());
        p.files("reports/short")
    };
    let one = render("1");
    let five = render("5");
    assert!(one.len() > 20, "{} files", one.len());
    let names = |all: &[(PathBuf, Vec<u8>)]| all.iter().map(|f| f.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&one), names(&five));
    for (a, b) in one.iter().zip(&five) {
        assert!(a.1 == b.1, "{} differs", a.0.display());
    }
}

/// A report of a part never stands where the whole was: it has a folder of its own that says what it is, and is verified there.
#[test]
fn a_smaller_report_never_replaces_a_larger_one() {
    let p = Place::with_results(|t| t);
    let before = p.files("reports/short");
    let done = |folder: &str| -> (u64, u64) {
        let text = fs::read(p.path(&format!("reports/short/{folder}results.json"))).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        (json["done"].as_u64().unwrap(), json["planned"].as_u64().unwrap())
    };
    assert_eq!(done(""), (2, 2));
    for (only, folder) in [("seed=1", "only-seed=1"), ("seed=*", "only-seed=%2A")] {
        let a = p.medft(&["report", "./short.toml", "--only", only]);
        assert!(
            a.out.contains(&format!("reports/short/{folder}/README.md")),
            "{}",
            a.all()
        );
        for file in ["README.md", "index.html"] {
            let text = fs::read_to_string(p.path(&format!("reports/short/{folder}/{file}"))).unwrap();
            let body = text.split_once("<body").map_or(text.as_str(), |t| t.1);
            let first = body.find("Part of the study, only seed=").expect(file);
            assert!(first < body.find("A short study").unwrap(), "{file} says it first");
        }
    }
    assert_eq!(done("only-seed=1/"), (1, 1));
    let whole = |files: Vec<(PathBuf, Vec<u8>)>| -> Vec<(PathBuf, Vec<u8>)> {
        let of_part = |f: &PathBuf| {
            f.components()
                .any(|c| c.as_os_str().to_string_lossy().starts_with("only-"))
        };
        files.into_iter().filter(|(f, _)| !of_part(f)).collect()
    };
    assert!(
        whole(p.files("reports/short")) == before,
        "the whole report is as it was"
    );
    let (code, said) = p.verify();
    assert_eq!(code, 0, "{said}");
    let part = p.path("reports/short/only-seed=1/README.md");
    p.finds(&part, another_digit("planned runs have"), &["README.md"]);

    // The same without `--only`: results that were there are gone.
    fs::remove_dir_all(p.run()).unwrap();
    let a = p.medft(&["report", "./short.toml"]);
    assert_eq!(a.code, 1, "{}", a.all());
    assert!(a.all().contains("holds a report of 2 results"), "{}", a.all());
    assert_eq!((done(""), done("fewer-results/")), ((2, 2), (1, 2)));
    let page = fs::read_to_string(p.path("reports/short/fewer-results/README.md")).unwrap();
    assert!(
        page.starts_with("**Incomplete: 1 of 2 planned runs have a result.**"),
        "{page}"
    );
}
