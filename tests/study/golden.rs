//! What must not change while the code is moved about: the ids of every run of the built-in studies, and the bytes of records.
//!
//! The values were written down by commit f925d73. A deliberate change of a record's format or of the meaning of a switch changes
//! them together with the schema version or `PROTOCOL_REVISION`; nothing else may.

use clap::Parser;
use medft::cli::Cli;
use medft::fsio::sha256_hex;
use medft::study::{Inputs, Known, RunId, Study};
use medft::train::scripted::Scripted;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Study, number of runs, SHA-256 over their ids in order.
const IDS: &str = "\
demo 448 4201d084846ada95a59f557f41c88d65e554f39e7a5efbd44956cb3f1993cf36
medmnist 10 f9f926ff45775975b0067ff551c2cf959436df9976e765fd85ed57f2ab7bc57c
paper 672 b145d0ac9e4b22156375e19335f592b15f25760b8b7dadfd85bd57a87698a7ab
paper-corrected 672 19e9a2b423833a11b672529932ba44a792834406c6d460b64b3476c702a2127c
splits 36 5bd0a3bb3c16f0f627afb21998e6f5a04a1f092cff475ba80ab9fb3015e3125d
";

#[test]
fn run_ids_are_what_they_were() {
    let (datasets, backbones) = (medft::data::registry::names(), medft::model::registry::names());
    let known = Known {
        datasets: &datasets,
        backbones: &backbones,
        published: &["paper2025", "medmnist2023", "medmnistplus2025"],
    };
    let inputs = Inputs::new(
        &"a".repeat(64),
        &[("backbone", &"b".repeat(64)), ("deit-base", &"c".repeat(64))],
    )
    .unwrap();
    let experiments = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    let mut found = String::new();
    for name in ["demo", "medmnist", "paper", "paper-corrected", "splits"] {
        let study = Study::resolve(name, &experiments, &known).unwrap();
        let ids: Vec<String> = study
            .runs()
            .iter()
            .map(|spec| RunId::new(spec, &inputs).full().to_owned())
            .collect();
        let hash = sha256_hex(ids.join("\n").as_bytes());
        writeln!(found, "{name} {} {hash}", ids.len()).unwrap();
    }
    assert_eq!(found, IDS);
}

const STUDY: &str = r#"
title = "A scripted study"
expected = "Nothing: it tests the program."
preset = "faithful"
scale = "tiny"
datasets = ["aptos2019", "chexpert"]
backbones = ["dinov2-b", "vmamba-s"]
freeze = ["frozen", "unfrozen"]
heads = ["linear", "mha"]
seeds = [0]
[protocol]
resize = 72
crop = 64
epochs = 3
batch = 16
"#;

/// SHA-256 over the list of all records of [`STUDY`] but provenance. At f925d73 it began with d8c38c67; since then predictions have gained
/// the column `group`, specs the switches `divergence`, `train_fraction`, `views`, `feature_dtype` and those of a
/// second paper (ids, and with them the names of the folders, are what they were), and the phantoms' images another exposure, so that the
/// hash of the data, which is in every spec and id, is another one too.
const RECORDS: &str = "2519427be70a89f9f3de714f362ab1f6c2f715670825bd0a4983c50f7a1cae58";

/// Records hold no number that a processor's vector instructions or thread count decide here: the trainer is a scripted one.
#[test]
fn records_are_what_they_were() {
    static TRAINER: Scripted = Scripted { epoch: Duration::ZERO };
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    fs::write(at("study.toml"), STUDY).unwrap();
    let (study, data, results) = (at("study.toml"), at("data"), at("results"));
    let cli = Cli::parse_from(["medft", "run", &study, "--data-dir", &data, "--results-dir", &results]);
    assert_eq!(medft::commands::run_with(cli, &TRAINER).unwrap(), 0);
    let mut files = BTreeMap::new();
    for run in fs::read_dir(place.path().join("results/study")).unwrap() {
        let run = run.unwrap();
        let name = run.file_name().into_string().unwrap();
        if name.starts_with('.') {
            continue;
        }
        for file in ["spec.json", "epochs.json", "predictions.parquet", "metrics.json"] {
            let hash = sha256_hex(&fs::read(run.path().join(file)).unwrap());
            files.insert(format!("{name}/{file}"), hash);
        }
    }
    assert_eq!(files.len(), 16 * 4);
    let list: String = files.iter().map(|(f, h)| format!("{h}  {f}\n")).collect();
    assert_eq!(sha256_hex(list.as_bytes()), RECORDS, "{list}");
}
