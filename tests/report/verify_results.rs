//! An edited number is found and named, wherever it stands; and two folders of results are held against each other.

use crate::place::{Place, Said};
use medft::fsio::{below, sha256_hex};
use medft::results::{
    Content, Epochs, FOLDER_DIGITS, Failure, Metrics, Provenance, Spec, Store, read_record, write_record,
};
use medft::rng::{Purpose, Stream};
use medft::study::{Inputs, RunId};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
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

    /// Changes a file, looks for `texts` in what verify-results finds, and puts the file back.
    #[track_caller]
    fn finds(&self, file: &Path, edit: impl Fn(Vec<u8>) -> Vec<u8>, texts: &[&str]) {
        let whole = fs::read(file).unwrap();
        let edited = edit(whole.clone());
        assert_ne!(whole, edited, "{} was not edited", file.display());
        fs::write(file, edited).unwrap();
        let (code, said) = self.verify();
        assert_eq!(code, 2, "{said}");
        let name = file.file_name().unwrap().to_str().unwrap();
        for w in texts.iter().chain([&name]) {
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
    let texts = [
        "metrics.json: best.quadratic_kappa: expected",
        "as predictions.parquet gives",
    ];
    p.finds(&run.join("metrics.json"), another_digit("\"quadratic_kappa\":"), &texts);
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
    p.finds(&run.join("DONE"), flip(0), &["which is whole"]);

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

/// One bit of every file below results/ and reports/ is turned, again and again at other places: each file is named.
#[test]
fn one_bit_of_any_file_is_found_and_the_right_file_named() {
    const ROUNDS: u32 = 6;
    let p = Place::with_results(|t| t);
    // Part of the study, and runs that are not finished: one with a checkpoint, one that failed.
    let a = p.medft(&["report", "./short.toml", "--only", "seed=1"]);
    assert_eq!(a.code, 0, "{}", a.all());
    open_runs(&p);
    let (code, said) = p.verify();
    assert_eq!(code, 0, "{said}");
    let mut draw = Stream::new(5, Purpose::Test, 0, 0);
    let (mut flips, mut files) = (0, BTreeSet::new());
    for round in 0..ROUNDS {
        let records: Vec<PathBuf> = runs(&p).iter().flat_map(|r| below(r)).collect();
        let rendered = below(&p.path("reports/short"));
        // Every file of the report at once; of the records one file a run, since others are then read to say what is wrong.
        // The records that hold the others' hashes by themselves: what they say of other files cannot be read when they are broken too.
        let holds = |f: &&PathBuf| f.ends_with(".data-audit.json") || f.ends_with("report.json");
        let (holders, rest): (Vec<&PathBuf>, Vec<&PathBuf>) = rendered.iter().partition(holds);
        let mut groups: Vec<Vec<&PathBuf>> = rest.chunks(1 + rest.len() / 3).map(<[_]>::to_vec).collect();
        groups.extend(holders.into_iter().map(|f| vec![f]));
        groups.extend((0..6).map(|k| {
            runs(&p)
                .iter()
                .filter_map(|r| records.iter().filter(|f| f.starts_with(r)).nth(k))
                .collect()
        }));
        for group in groups {
            let whole: Vec<Vec<u8>> = group.iter().map(|f| fs::read(f).unwrap()).collect();
            for (file, bytes) in group.iter().zip(&whole) {
                let mut bytes = bytes.clone();
                // The ends are places of their own: a last line, a header.
                let at = match round {
                    0 => bytes.len() - 1,
                    1 => 0,
                    _ => draw.below(bytes.len() as u32) as usize,
                };
                bytes[at] ^= 1 << draw.below(8);
                fs::write(file, bytes).unwrap();
                flips += 1;
            }
            let (code, said) = p.verify();
            assert_eq!(code, 2, "{said}");
            for (file, bytes) in group.iter().zip(&whole) {
                let name = file.strip_prefix(p.path("")).unwrap().display().to_string();
                assert!(
                    said.lines()
                        .any(|l| l.contains(&format!("{name}:")) || l.contains(&format!("{name}/"))),
                    "{name} is not named in:\n{said}"
                );
                // No file is blamed that was not touched.
                for line in said.lines().filter(|l| l.contains(": expected ")) {
                    assert!(
                        group
                            .iter()
                            .any(|f| line.contains(f.strip_prefix(p.path("")).unwrap().to_str().unwrap())),
                        "{line}"
                    );
                }
                fs::write(file, bytes).unwrap();
                files.insert(name);
            }
        }
    }
    println!("{flips} bits of {} files, all found and named", files.len());
    assert_eq!(p.verify().0, 0, "everything was put back");
    for file in [
        ".seal.json",
        "data.md",
        ".data-audit.json",
        "report.json",
        "index.html",
        "DONE",
        "provenance.json",
        "failed.json",
        ".safetensors",
        "only-seed=1/report.json",
        "only-seed=1/README.md",
    ] {
        assert!(files.iter().any(|f| f.ends_with(file)), "{file}");
    }
}

/// Two runs that are not finished, as the store leaves them: one stopped after a checkpoint, one that failed.
fn open_runs(p: &Place) {
    let store = Store::new(&p.path("results"), "short");
    let like: Spec = read_record(&runs(p)[0].join("spec.json")).unwrap().0;
    for seed in [2, 3] {
        let mut spec = like.clone();
        spec.run.seed = seed;
        let pairs: Vec<(&str, &str)> = spec.weights.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        spec.id = RunId::new(&spec.run, &Inputs::new(&spec.data_sha256, &pairs).unwrap())
            .full()
            .to_owned();
        let claim = store.begin(&spec).unwrap();
        let bytes: Vec<u8> = (0..5000u32).flat_map(u32::to_le_bytes).collect();
        let name = format!("{:012}-{}.safetensors", 7, sha256_hex(&bytes));
        medft::fsio::write_atomic(&claim.join("checkpoint").join(name), &bytes).unwrap();
        if seed == 3 {
            store
                .fail(&spec.id, &Failure::by_error("the disk was full".into()))
                .unwrap();
        }
    }
}

/// Everything of a report of fewer results, which has a folder of its own, while the larger one beside it follows from no records
/// any more.
#[test]
fn a_file_of_a_report_of_fewer_results_is_found_and_named() {
    let p = Place::with_results(|t| t);
    fs::remove_dir_all(p.run()).unwrap();
    assert_eq!(p.medft(&["report", "./short.toml"]).code, 1);
    let folder = p.path("reports/short/fewer-results");
    let said = p.verify().1;
    assert!(!said.contains("fewer-results/"), "{said}");
    let files = below(&folder);
    let whole: Vec<Vec<u8>> = files.iter().map(|f| fs::read(f).unwrap()).collect();
    let held = |f: &PathBuf| f.ends_with("report.json");
    for holders in [false, true] {
        for (f, bytes) in files.iter().zip(&whole).filter(|f| held(f.0) == holders) {
            let mut bytes = bytes.clone();
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            fs::write(f, bytes).unwrap();
        }
        let (code, said) = p.verify();
        assert_eq!(code, 2, "{said}");
        for (f, bytes) in files.iter().zip(&whole) {
            let name = f.strip_prefix(p.path("")).unwrap().display().to_string();
            assert!(
                held(f) != holders || said.contains(&name),
                "{name} is not named in:\n{said}"
            );
            fs::write(f, bytes).unwrap();
        }
    }
}

/// What is not a study's, or is not in its records, is named: nobody may take it for checked.
#[test]
fn what_medft_did_not_write_is_named_wherever_it_lies() {
    let p = Place::with_results(|t| t);
    let run = p.run();
    let run = run.strip_prefix(p.path("")).unwrap().to_str().unwrap().to_owned();
    let strays = [
        "results/stray.csv".to_owned(),
        "results/.hidden".to_owned(),
        "results/short/stray.json".to_owned(),
        "results/short/.dot".to_owned(),
        format!("{run}/.metrics.json"),
        format!("{run}/.medft-0-1-x.tmp"),
        format!("{run}/notes.txt"),
        "reports/stray.html".to_owned(),
        "reports/.dot".to_owned(),
        "reports/short/data.forged.md".to_owned(),
        "reports/short/.medft-x".to_owned(),
        "reports/short/tables/forged.csv".to_owned(),
    ];
    for f in &strays {
        fs::write(p.path(f), "forged").unwrap();
    }
    let folders = ["results/short/.broken", "reports/other"];
    for f in folders {
        fs::create_dir(p.path(f)).unwrap();
    }
    let a = p.medft(&["verify-results"]);
    assert_eq!(a.code, 0, "{}", a.all());
    for name in strays.iter().map(String::as_str).chain(folders) {
        assert!(
            a.err.lines().any(|l| l.contains(name) && l.contains("not checked")),
            "{name} is not named in:\n{}",
            a.err
        );
    }
    assert!(!a.err.contains(".cache"), "{}", a.err);
}

/// A report is held against its own hashes where it cannot be rendered again: of a study that is not known by its name, and
/// beside a record that is not whole.
#[test]
fn an_edited_report_is_found_whatever_else_is_wrong() {
    let p = Place::with_results(|t| t);
    let figure = p.path("reports/short/figures/scores.png");
    let page = p.path("reports/short/data.md");
    let seal = p.path("reports/short/.seal.json");
    let whole = [&figure, &page, &seal].map(|f| fs::read(f).unwrap());
    let edit = || {
        for (f, bytes) in [&figure, &page, &seal].iter().zip(&whole) {
            fs::write(f, flip(0)(bytes.clone())).unwrap();
        }
    };
    let named = |said: &str| {
        for f in ["figures/scores.png", "data.md", ".seal.json"] {
            assert!(
                said.contains(&format!("reports/short/{f}")),
                "{f} is not named in:\n{said}"
            );
        }
    };
    edit();
    // The study is one of a file, which its folder's name does not find.
    let (code, said) = p.says(&["verify-results"]);
    assert_eq!(code, 2, "{said}");
    named(&said);
    // One bad record.
    let metrics = p.run().join("metrics.json");
    let record = fs::read(&metrics).unwrap();
    fs::write(&metrics, flip(0)(record.clone())).unwrap();
    let (code, said) = p.verify();
    assert_eq!(code, 2, "{said}");
    named(&said);
    assert!(said.contains("metrics.json"), "{said}");
    fs::write(&metrics, record).unwrap();
    // No results at all.
    let aside = p.path("aside");
    fs::rename(p.path("results/short"), &aside).unwrap();
    let (code, said) = p.says(&["verify-results"]);
    assert_eq!(code, 2, "{said}");
    named(&said);
    fs::rename(aside, p.path("results/short")).unwrap();
    for (f, bytes) in [&figure, &page, &seal].iter().zip(&whole) {
        fs::write(f, bytes).unwrap();
    }
    assert_eq!(p.says(&["verify-results"]).0, 0);
    assert_eq!(p.verify().0, 0);
}

/// A finished run that is made to look unfinished, so that an edit in it would count as work under way.
#[test]
fn an_edit_is_found_in_a_run_whose_marker_was_removed() {
    let p = Place::with_results(|t| t);
    fs::remove_dir_all(p.path("reports")).unwrap();
    let run = p.run();
    fs::remove_file(run.join("DONE")).unwrap();
    let (code, said) = p.verify();
    assert_eq!(code, 0, "a process may have been killed just then: {said}");
    for file in [
        "metrics.json",
        "epochs.json",
        "provenance.json",
        "predictions.parquet",
        "spec.json",
    ] {
        p.finds(&run.join(file), flip(0), &[file]);
    }
    let metrics = fs::read(run.join("metrics.json")).unwrap();
    fs::remove_file(run.join("metrics.json")).unwrap();
    let (code, said) = p.verify();
    assert!(
        code == 0 && said.contains("predictions.parquet is of a run that is not finished"),
        "{said}"
    );
    fs::write(run.join("metrics.json"), metrics).unwrap();
    // A lease says that a process is at it.
    fs::write(run.join("lease"), "{}").unwrap();
    let (code, said) = p.verify();
    assert!(
        code == 0 && said.contains("lease says that a process is at this run"),
        "{said}"
    );
    assert!(!said.contains("not of medft"), "{said}");
    // What a process that was killed could not remove any more from a run that is done.
    let done = runs(&p)[1].join("checkpoint/000000000001-0.safetensors");
    medft::fsio::write_atomic(&done, b"x").unwrap();
    let (code, said) = p.verify();
    assert!(
        code == 2 && said.contains("checkpoint/000000000001-0.safetensors"),
        "{said}"
    );
}

/// Heads that were never trained are alike wherever seed and shape are: no copy of one another.
#[test]
fn an_untrained_head_is_nobodys_copy() {
    let p = Place::with_results(|t| {
        t.replace(r#"["dinov2-b"]"#, r#"["dinov2-b", "mae-b", "clip-b"]"#)
            .replace(r#"heads = ["linear"]"#, r#"heads = ["linear", "mha"]"#)
            .replace("lr = 2e-3", "lr = 1e-9")
            .replace("epochs = 2", "epochs = 1")
    });
    let mut hashes = BTreeMap::<String, usize>::new();
    for run in runs(&p) {
        let m: Metrics = read_record(&run.join("metrics.json")).unwrap().0;
        *hashes.entry(m.weights_sha256["best"].clone()).or_default() += 1;
    }
    assert!(
        hashes.values().any(|n| *n > 1),
        "no two untrained heads are alike: {hashes:?}"
    );
    let (code, said) = p.verify();
    assert_eq!(code, 0, "{said}");
}

/// The page on the data has its hashes beside it whoever writes it, and in whatever order.
#[test]
fn a_page_on_the_data_is_sealed_by_whoever_writes_it() {
    let p = Place::new();
    p.study("short", |t| t.replace(r#"["frozen", "unfrozen"]"#, r#"["frozen"]"#));
    let audit = |more: &[&str]| {
        let a = p.medft(&[&["data", "audit", "--study", "./short.toml"], more].concat());
        assert_eq!(a.code, 0, "{}", a.all());
    };
    let content = |what: &str| {
        let (code, said) = p.verify();
        assert_eq!(code, 0, "{what}: {said}");
        assert!(!said.contains("data.md"), "{what}: {said}");
    };
    assert_eq!(p.medft(&["run", "./short.toml"]).code, 0);
    audit(&[]);
    content("an audit and no report");
    p.finds(&p.path("reports/short/data.md"), flip(0), &["as .data-audit.json says"]);
    assert_eq!(p.medft(&["report", "./short.toml"]).code, 0);
    content("an audit, then a report");
    audit(&[]);
    content("the audit again");
    audit(&["--labels-only"]);
    assert_eq!(p.medft(&["report", "./short.toml"]).code, 0);
    content("another audit, then a report");
    assert_eq!(p.medft(&["reproduce", "./short.toml"]).code, 0);
    content("everything");
    p.finds(&p.path("reports/short/data.md"), flip(0), &["as .data-audit.json says"]);
}

/// Templates of one's own are used where they are asked for and nowhere else, and the report says so and is sealed with them.
#[test]
fn templates_are_used_only_where_they_are_asked_for_and_are_named() {
    let p = Place::with_results(|t| t);
    let readme = || fs::read_to_string(p.path("reports/short/README.md")).unwrap();
    let before = readme();
    fs::create_dir(p.path("templates")).unwrap();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/summary.md.tera");
    let text = fs::read_to_string(own).unwrap() + "\nA line of mine.\n";
    fs::write(p.path("templates/summary.md.tera"), &text).unwrap();
    // Merely lying there they do nothing.
    assert_eq!(p.medft(&["report", "./short.toml"]).code, 0);
    assert_eq!(readme(), before);
    let with = ["report", "./short.toml", "--templates", "templates"];
    assert_eq!(p.medft(&with).code, 0);
    let hash = sha256_hex(text.as_bytes());
    let after = readme();
    assert!(after.contains("A line of mine."), "{after}");
    let rendered: Value = serde_json::from_slice(&fs::read(p.path("reports/short/report.json")).unwrap()).unwrap();
    assert_eq!(
        rendered["content"]["templates"]["summary.md.tera"],
        Value::from(hash.clone())
    );
    // Rendered again with them, and held against its hashes without.
    let (code, said) = p.says(&["verify-results", "./short.toml", "--templates", "templates"]);
    assert!(code == 0 && !said.contains("--templates"), "{said}");
    let (code, said) = p.verify();
    assert!(
        code == 0 && said.contains("other templates than those that are given here"),
        "{said}"
    );
    p.finds(&p.path("reports/short/README.md"), flip(0), &["as report.json says"]);
    // Another text of the template is another report.
    fs::write(p.path("templates/summary.md.tera"), text + "And another.\n").unwrap();
    assert_eq!(p.medft(&with).code, 0);
    assert!(readme().contains("And another."));
    assert_eq!(p.medft(&["report", "./short.toml"]).code, 0);
    assert_eq!(readme(), before);
}

/// A report that is killed at any moment leaves nothing that the next one does not remove.
#[test]
fn a_report_that_is_killed_leaves_no_temp_file_after_the_next() {
    let p = Place::with_results(|t| t);
    let expected = p.files("reports/short");
    let temps = || {
        let all = below(&p.path("reports"));
        all.into_iter()
            .filter(|f| f.file_name().unwrap().to_str().unwrap().ends_with(".tmp"))
            .count()
    };
    let (mut left, mut kills) = (0, 0);
    let began = std::time::Instant::now();
    while (left == 0 || kills < 10) && began.elapsed().as_secs() < 120 {
        fs::remove_dir_all(p.path("reports/short")).unwrap();
        let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("medft"))
            .args(["reproduce", "./short.toml"])
            .current_dir(p.path(""))
            .env("HOME", p.path(""))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // In the middle of a file, as soon as one is seen to be written.
        while temps() == 0 && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        left += usize::from(temps() > 0);
        let a = p.medft(&["reproduce", "./short.toml"]);
        assert_eq!(a.code, 0, "{}", a.all());
        assert_eq!(temps(), 0);
        let found = p.files("reports/short");
        assert!(found == expected, "after kill {kills}");
    }
    println!("{kills} kills, {left} of them left a temp file");
    assert!(left > 0, "no kill hit a file that was being written");
}

fn runs(p: &Place) -> Vec<PathBuf> {
    let mut runs: Vec<PathBuf> = fs::read_dir(p.path("results/short"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| !p.file_name().unwrap().to_str().unwrap().starts_with('.'))
        .collect();
    runs.sort();
    runs
}

/// The leaves of a JSON value with the way to them.
fn leaves(v: &Value, at: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
    let mut step = |key: String, v: &Value| {
        at.push(key);
        leaves(v, at, out);
        at.pop();
    };
    match v {
        Value::Object(m) if !m.is_empty() => m.iter().for_each(|(k, v)| step(k.clone(), v)),
        Value::Array(a) if !a.is_empty() => a.iter().enumerate().for_each(|(i, v)| step(i.to_string(), v)),
        _ => out.push(at.clone()),
    }
}

fn pointer(at: &[String]) -> String {
    at.iter()
        .map(|k| format!("/{}", k.replace('~', "~0").replace('/', "~1")))
        .collect()
}

/// Other values that the field could have.
fn others(v: &Value) -> Vec<Value> {
    match v {
        Value::Bool(b) => vec![(!b).into()],
        Value::Number(n) if n.is_u64() => vec![(n.as_u64().unwrap() + 1).into(), 0.into()],
        Value::Number(n) => vec![
            (n.as_f64().unwrap() * 1.5 + 0.01).into(),
            (n.as_f64().unwrap() / 2.0).into(),
        ],
        Value::String(s) if s.len() == 64 => vec![sha256_hex(s.as_bytes()).into(), "a".repeat(64).into()],
        Value::String(s) => vec![format!("{s}x").into()],
        Value::Null => vec![1.into(), 0.5.into()],
        Value::Array(_) | Value::Object(_) => Vec::new(),
    }
}

/// Writes a record with other content, and every hash of it corrected; `false` where no record can say this.
fn forge<T: Content>(run: &Path, file: &str, content: Value) -> bool {
    let Ok(content) = serde_json::from_value::<T>(content) else {
        return false;
    };
    let path = run.join(file);
    let (_, old) = read_record::<T>(&path).unwrap();
    let new = write_record(&path, &content).unwrap();
    let done = fs::read_to_string(run.join("DONE")).unwrap();
    fs::write(run.join("DONE"), done.replace(&old, &new)).unwrap();
    old != new
}

fn content(run: &Path, file: &str) -> Value {
    let envelope: Value = serde_json::from_slice(&fs::read(run.join(file)).unwrap()).unwrap();
    envelope["content"].clone()
}

/// Fields that nothing contradicts when they are changed with all hashes, as they stand in SECURITY.md.
const UNCONTRADICTED: &[&str] = &[
    "epochs.json: train_loss",
    "epochs.json: val_loss",
    "epochs.json: val",
    "metrics.json: weights_sha256",
    "metrics.json: divergence",
    "provenance.json: medft, commit, dirty, crates",
    "provenance.json: device, cpu, threads, isa",
    "provenance.json: command",
    "provenance.json: started, ended, phases, epoch_seconds, resumed_after",
    "spec.json: run.seed",
];

/// The line of [`UNCONTRADICTED`] that a field belongs to.
fn uncontradicted(file: &str, field: &str) -> Option<&'static str> {
    let fits = |line: &&&str| {
        let (f, names) = line.split_once(": ").unwrap();
        f == file
            && names
                .split(", ")
                .any(|n| field == n || field.starts_with(&format!("{n}.")))
    };
    UNCONTRADICTED.iter().find(fits).copied()
}

/// Every field of every record is forged in every way, with all hashes (and the run id, and its folder's name) corrected. What is
/// not found is what SECURITY.md says.
#[test]
fn a_forged_field_is_found_unless_nothing_contradicts_it() {
    let p = Place::with_results(|t| t);
    // A forger renders the report from the forged records.
    fs::remove_dir_all(p.path("reports")).unwrap();
    let security = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("SECURITY.md")).unwrap();
    let (mut tried, mut passed) = (0, BTreeMap::<String, u32>::new());
    let run = p.run();
    let save = || {
        below(&run)
            .into_iter()
            .map(|f| (f.clone(), fs::read(f).unwrap()))
            .collect::<Vec<_>>()
    };
    let whole = save();
    let mut check = |what: &str, file: &str, field: &str| {
        let (code, said) = p.verify();
        tried += 1;
        if code == 0 {
            let line = uncontradicted(file, field).unwrap_or_else(|| panic!("{what} passes:\n{said}"));
            println!("passes: {what}");
            *passed.entry(line.to_owned()).or_default() += 1;
        }
        for (f, bytes) in &whole {
            fs::write(f, bytes).unwrap();
        }
    };
    type Forge = fn(&Path, &str, Value) -> bool;
    let files: [(&str, Forge); 4] = [
        ("metrics.json", forge::<Metrics>),
        ("epochs.json", forge::<Epochs>),
        ("provenance.json", forge::<Provenance>),
        ("spec.json", forge::<Spec>),
    ];
    for (file, forge) in files {
        let old = content(&run, file);
        let mut all = Vec::new();
        leaves(&old, &mut Vec::new(), &mut all);
        for at in all {
            // The place in a list does not matter.
            let field = at
                .iter()
                .filter(|k| k.parse::<u32>().is_err())
                .cloned()
                .collect::<Vec<_>>()
                .join(".");
            for other in others(old.pointer(&pointer(&at)).unwrap()) {
                let mut new = old.clone();
                *new.pointer_mut(&pointer(&at)).unwrap() = other.clone();
                if forge(&run, file, new) {
                    check(&format!("{file}: {} = {other}", at.join(".")), file, &field);
                }
            }
        }
    }
    // Several fields at once, so that they agree with each other.
    let metrics = content(&run, "metrics.json");
    let mut with = |what: &str, change: &dyn Fn(&mut Value)| {
        let mut m = metrics.clone();
        change(&mut m);
        assert!(forge::<Metrics>(&run, "metrics.json", m), "{what}");
        check(what, "metrics.json", what);
    };
    with("headline last with its value", &|m| {
        let target = m["target"].as_str().unwrap().to_owned();
        m["headline"] = if m["headline"] == "last" {
            "best".into()
        } else {
            "last".into()
        };
        m["value"] = m[m["headline"].as_str().unwrap()][&target].clone();
    });
    with("another target with its value", &|m| {
        m["target"] = "accuracy".into();
        m["value"] = m[m["headline"].as_str().unwrap()]["accuracy"].clone();
    });
    with("a model of another size", &|m| {
        for k in ["backbone_params", "total_params"] {
            m["model"][k] = (m["model"][k].as_u64().unwrap() + 7).into();
        }
    });
    // The spec with its id, as if another run had been made.
    let spec = content(&run, "spec.json");
    let mut all = Vec::new();
    leaves(&spec, &mut Vec::new(), &mut all);
    for at in all {
        let field = at.join(".");
        for other in others(spec.pointer(&pointer(&at)).unwrap())
            .into_iter()
            .chain(values(&field))
        {
            let mut new = spec.clone();
            *new.pointer_mut(&pointer(&at)).unwrap() = other.clone();
            let Ok(mut s) = serde_json::from_value::<Spec>(new) else {
                continue;
            };
            let pairs: Vec<(&str, &str)> = s.weights.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let Ok(inputs) = Inputs::new(&s.data_sha256, &pairs) else {
                continue;
            };
            let id = RunId::new(&s.run, &inputs).full().to_owned();
            if id == s.id || field == "id" {
                continue;
            }
            // The run that it would pass for is there already.
            let moved = run.with_file_name(&id[..FOLDER_DIGITS]);
            if moved.exists() {
                continue;
            }
            s.id = id;
            let mut proof = content(&run, "provenance.json");
            proof["seed"] = s.run.seed.into();
            proof["data_sha256"] = s.data_sha256.clone().into();
            proof["weights"] = serde_json::to_value(&s.weights).unwrap();
            forge::<Provenance>(&run, "provenance.json", proof);
            forge::<Spec>(&run, "spec.json", serde_json::to_value(&s).unwrap());
            fs::rename(&run, &moved).unwrap();
            let (code, said) = p.verify();
            fs::rename(&moved, &run).unwrap();
            for (f, bytes) in &whole {
                fs::write(f, bytes).unwrap();
            }
            tried += 1;
            if code == 0 {
                // A whole run that claims to be another one: that is what a signature would be for.
                println!("passes: spec.json: {field} = {other}, as another run: {}", said.trim());
                *passed.entry("spec.json: the run as a whole".to_owned()).or_default() += 1;
            }
        }
    }
    println!("{tried} forgeries; those that pass: {passed:#?}");
    assert!(tried >= 126, "{tried}");
    for line in passed.keys() {
        assert!(security.contains(line), "SECURITY.md does not say `{line}`");
    }
}

/// Values that a field of the spec may have.
fn values(field: &str) -> Vec<Value> {
    let values: &[&str] = match field {
        "run.backbone" => &["mae-b", "vmamba-s"],
        "run.dataset" => &["ddsm", "breastmnist"],
        "run.head" => &["mha"],
        "run.freeze" => &["unfrozen"],
        "run.scale" => &["full"],
        "run.protocol.test_weights" => &["last", "best"],
        "run.protocol.mha_body" => &["one-block"],
        "run.protocol.warmup" => &["per-dataset"],
        _ => &[],
    };
    values.iter().map(|w| (*w).into()).collect()
}

/// One run's numbers under the name of another.
#[test]
fn a_run_copied_into_another_ones_folder_is_found() {
    let p = Place::with_results(|t| t);
    fs::remove_dir_all(p.path("reports")).unwrap();
    let all = runs(&p);
    let done = fs::read_to_string(all[1].join("DONE")).unwrap();
    let mut new = String::new();
    for line in done.lines() {
        let (hash, file) = line.split_once("  ").unwrap();
        let hash = if ["epochs.json", "metrics.json", "predictions.parquet"].contains(&file) {
            fs::copy(all[0].join(file), all[1].join(file)).unwrap();
            sha256_hex(&fs::read(all[1].join(file)).unwrap())
        } else {
            hash.to_owned()
        };
        new.push_str(&format!("{hash}  {file}\n"));
    }
    fs::write(all[1].join("DONE"), new).unwrap();
    let (code, said) = p.verify();
    assert_eq!(code, 2, "{said}");
    for part in [
        "predictions of its own",
        "epochs of its own",
        "trained weights of its own",
        "another run",
    ] {
        assert!(said.contains(part), "no `{part}` in:\n{said}");
    }
}

/// The same in another study's folder, where nobody looked.
#[test]
fn a_run_copied_into_another_study_is_found() {
    let p = Place::with_results(|t| t);
    let other = p.study("other", |t| {
        t.replace(r#"["frozen", "unfrozen"]"#, r#"["frozen"]"#)
            .replace(r#"["linear", "mha"]"#, r#"["linear"]"#)
            .replace("seeds = [0]", "seeds = [0, 2]")
    });
    assert_eq!(p.medft(&["run", &other]).code, 0);
    // One run is in both studies, under one id.
    let (code, said) = p.says(&["verify-results"]);
    assert!(code == 0 && said.contains("4 runs"), "{said}");
    let folders = |study: &str| -> BTreeSet<String> {
        let all = fs::read_dir(p.path(&format!("results/{study}"))).unwrap();
        all.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    };
    let (ours, theirs) = (folders("short"), folders("other"));
    let (from, to) = (
        ours.difference(&theirs).next().unwrap(),
        theirs.difference(&ours).next().unwrap(),
    );
    let (from, to) = (p.path("results/short").join(from), p.path("results/other").join(to));
    let mut done = fs::read_to_string(to.join("DONE")).unwrap();
    for file in ["epochs.json", "metrics.json", "predictions.parquet"] {
        let before = sha256_hex(&fs::read(to.join(file)).unwrap());
        fs::copy(from.join(file), to.join(file)).unwrap();
        done = done.replace(&before, &sha256_hex(&fs::read(to.join(file)).unwrap()));
    }
    fs::write(to.join("DONE"), done).unwrap();
    let (code, said) = p.says(&["verify-results"]);
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains("predictions of its own") && said.contains("epochs of its own"),
        "{said}"
    );
}

/// A report of a part never stands where the whole was: it has a folder of its own that says what it is, and is verified there.
#[test]
fn a_smaller_report_never_replaces_a_larger_one() {
    let p = Place::with_results(|t| t);
    let before = p.files("reports/short");
    let done = |folder: &str| -> (u64, u64) {
        let text = fs::read(p.path(&format!("reports/short/{folder}results.json"))).unwrap();
        let json: Value = serde_json::from_slice(&text).unwrap();
        (json["done"].as_u64().unwrap(), json["planned"].as_u64().unwrap())
    };
    assert_eq!(done(""), (2, 2));
    for (only, folder) in [("seed=1", "only-seed=1"), ("backbone=*", "only-backbone=%2A")] {
        let a = p.medft(&["report", "./short.toml", "--only", only]);
        assert!(
            a.out.contains(&format!("reports/short/{folder}/index.html")),
            "{}",
            a.all()
        );
        for file in ["README.md", "index.html"] {
            let text = fs::read_to_string(p.path(&format!("reports/short/{folder}/{file}"))).unwrap();
            let body = text.split_once("<body").map_or(text.as_str(), |t| t.1);
            let first = body.find("Part of the study, only ").expect(file);
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

/// Absolute places with spaces, in arguments and in what is said of them, come into no record and no page.
#[test]
fn no_place_of_this_machine_is_published_whatever_its_name() {
    let p = Place::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let at = |below: &str| elsewhere.path().join("jo smith").join(below).display().to_string();
    p.study("short", |t| {
        t.replace(r#"["frozen", "unfrozen"]"#, r#"["frozen"]"#)
            .replace(r#"["linear", "mha"]"#, r#"["linear"]"#)
            .replace("seeds = [0]", "seeds = [0, 1]")
    });
    let (data, weights) = (at("my data"), format!("--weights-dir={}", at("w of mine")));
    let a = p.medft(&["reproduce", "./short.toml", "--data-dir", &data, &weights]);
    assert_eq!(a.code, 0, "{}", a.all());
    // A run that fails over an image says which, and not where.
    let image = below(Path::new(&data))
        .into_iter()
        .find(|f| f.extension().is_some_and(|e| e == "png"))
        .unwrap();
    fs::remove_dir_all(p.run()).unwrap();
    fs::write(image, "no image").unwrap();
    assert_ne!(
        p.medft(&["reproduce", "./short.toml", "--data-dir", &data, &weights])
            .code,
        0
    );
    let name = elsewhere.path().file_name().unwrap().to_str().unwrap().to_owned();
    let (mut files, mut commands) = (0, 0);
    for f in ["results/short", "reports"].iter().flat_map(|d| below(&p.path(d))) {
        let text = String::from_utf8_lossy(&fs::read(&f).unwrap()).into_owned();
        for personal in ["jo smith", name.as_str()] {
            assert!(!text.contains(personal), "{} says `{personal}`", f.display());
        }
        files += 1;
        commands += usize::from(f.ends_with("provenance.json") && text.contains("…/my data"));
    }
    assert!(files > 20 && commands > 0, "{files} files, {commands} commands");
}

/// A run whose folder is a link counts in reports, and passed unseen: whoever put another folder in its place was not found. DONE in other
/// bytes says the same, and is still not what medft wrote.
#[test]
fn a_linked_run_is_checked_as_any_other_and_done_is_held_to_its_bytes() {
    let p = Place::with_results(|t| t);
    let run = p.run();
    let elsewhere = tempfile::tempdir().unwrap();
    let moved = elsewhere.path().join("run");
    fs::rename(&run, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &run).unwrap();
    let (code, said) = p.verify();
    assert!(code == 0 && said.contains("2 runs"), "{said}");
    let mut metrics = content(&run, "metrics.json");
    let target = metrics["target"].as_str().unwrap().to_owned();
    for place in [&["value"][..], &["best", &target], &["last", &target]] {
        let at = pointer(&place.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        *metrics.pointer_mut(&at).unwrap() = 0.999.into();
    }
    assert!(forge::<Metrics>(&run, "metrics.json", metrics));
    let (code, said) = p.verify();
    assert!(code == 2 && said.contains("metrics.json"), "{said}");

    let p = Place::with_results(|t| t);
    let done = p.run().join("DONE");
    let lines = fs::read_to_string(&done).unwrap();
    let turned: Vec<&str> = lines.lines().rev().collect();
    for other in [
        lines.replace('\n', "\r\n"),
        turned.join("\n"),
        lines.trim_end().to_owned(),
    ] {
        fs::write(&done, other).unwrap();
        let (code, said) = p.verify();
        assert!(code == 2 && said.contains("DONE"), "{said}");
    }
}
