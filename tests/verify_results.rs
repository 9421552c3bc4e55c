//! An edited number is found and named, wherever it stands; and two folders of results are held against each other.

mod place;

use medft::fsio::{below, sha256_hex};
use medft::results::{Content, Epochs, FOLDER_DIGITS, Metrics, Provenance, Spec, read_record, write_record};
use medft::rng::{Purpose, Stream};
use medft::study::{Inputs, RunId};
use place::{Place, Said};
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
    ] {
        assert!(files.iter().any(|f| f.ends_with(file)), "{file}");
    }
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
    "provenance.json: device, cpu, threads",
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
            .chain(words(&field))
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
                let _ = said;
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

/// Words that a field of the spec may have.
fn words(field: &str) -> Vec<Value> {
    let words: &[&str] = match field {
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
    words.iter().map(|w| (*w).into()).collect()
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
    for words in [
        "predictions of its own",
        "epochs of its own",
        "trained weights of its own",
        "another run",
    ] {
        assert!(said.contains(words), "no `{words}` in:\n{said}");
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
