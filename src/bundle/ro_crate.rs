//! The archive's description: JSON-LD as RO-Crate 1.2 and the Process Run Crate profile 0.5 ask for.

use super::Contents;
use crate::build_info::BuildInfo;
use crate::fsio;
use crate::results::{Provenance, Spec, read_record};
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Under which medft and what it writes may be used, at the reader's option: address, name, and the archive's file.
const LICENCES: [(&str, &str, &str); 2] = [
    (
        "https://spdx.org/licenses/MIT",
        "MIT License",
        "Its text is LICENSE-MIT of this archive.",
    ),
    (
        "https://spdx.org/licenses/Apache-2.0",
        "Apache License 2.0",
        "Its text is LICENSE-APACHE of this archive.",
    ),
];

/// What is known of a file.
pub(super) struct About {
    pub bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
}

/// `ro-crate-metadata.json`: the files, the program that made the runs, and an action a run.
pub(super) fn metadata(c: &Contents<'_>, files: &BTreeMap<String, About>, runs: &[String]) -> Result<String> {
    let mut graph = Vec::new();
    let mut actions = Vec::new();
    let mut programs = BTreeSet::new();
    let mut last = String::new();
    let study = format!("experiments/{}.toml", c.study);
    for run in runs {
        let folder = run.rsplit('/').next().unwrap_or_default();
        let (spec, _) = read_record::<Spec>(&c.results.join(folder).join("spec.json"))?;
        let (made, _) = read_record::<Provenance>(&c.results.join(folder).join("provenance.json"))?;
        let program = program_id(&made);
        let mut inputs = vec![
            json!({ "@id": study }),
            json!({ "@id": format!("urn:sha256:{}", spec.data_sha256) }),
        ];
        inputs.extend(
            spec.weights
                .values()
                .map(|h| json!({ "@id": format!("urn:sha256:{h}") })),
        );
        let results: Vec<Value> = files
            .keys()
            .filter(|f| f.starts_with(&format!("{run}/")))
            .map(|f| json!({ "@id": f }))
            .collect();
        actions.push(json!({
            "@id": format!("#run-{folder}"),
            "@type": "CreateAction",
            "name": format!("{} ({})", spec.run, spec.id),
            "description": format!("One run of the study {}: trained and tested on {}.", c.study, made.device),
            "instrument": { "@id": program },
            "object": inputs,
            "result": results,
            "startTime": with_offset(&made.started),
            "endTime": with_offset(&made.ended),
            "actionStatus": "http://schema.org/CompletedActionStatus",
        }));
        for (role, hash) in std::iter::once(("data set's list", &spec.data_sha256))
            .chain(spec.weights.iter().map(|(role, h)| (role.as_str(), h)))
        {
            programs.insert(Thing::Input(hash.clone(), role.to_owned(), spec.run.dataset.clone()));
        }
        last = last.max(made.ended.clone());
        programs.insert(Thing::Program(
            program,
            made.medft.clone(),
            made.commit.clone().unwrap_or_default(),
        ));
    }
    let parts: Vec<Value> = files.keys().map(|f| json!({ "@id": f })).collect();
    let mentions: Vec<Value> = actions.iter().map(|a| json!({ "@id": a["@id"] })).collect();
    graph.push(json!({
        "@id": "ro-crate-metadata.json",
        "@type": "CreativeWork",
        "about": { "@id": "./" },
        "conformsTo": { "@id": "https://w3id.org/ro/crate/1.2" },
    }));
    graph.push(json!({
        "@id": "./",
        "@type": "Dataset",
        "name": format!("medft study {}: {}", c.study, c.title),
        "description": format!(
            "Study file, manifests, records of {} runs and report, as medft {} wrote them{}.",
            runs.len(),
            env!("CARGO_PKG_VERSION"),
            match BuildInfo::get().commit {
                Some(commit) => format!(" (bundled by commit {commit})"),
                None => String::new(),
            }
        ),
        "datePublished": with_offset(&last),
        "license": { "@id": LICENCES[0].0 },
        "conformsTo": { "@id": "https://w3id.org/ro/wfrun/process/0.5" },
        "hasPart": parts,
        "mentions": mentions,
    }));
    graph.push(json!({
        "@id": "https://w3id.org/ro/wfrun/process/0.5",
        "@type": ["CreativeWork", "Profile"],
        "name": "Process Run Crate",
        "description": "How the runs of programs, their inputs and their outputs are described in an RO-Crate.",
        "version": "0.5",
    }));
    graph.extend(LICENCES.map(|(id, name, description)| {
        json!({ "@id": id, "@type": "CreativeWork", "name": name, "description": description })
    }));
    graph.extend(programs.into_iter().map(Thing::describe));
    graph.extend(files.iter().map(|(name, about)| file(name, about)));
    graph.extend(actions);
    let crate_json = json!({ "@context": "https://w3id.org/ro/crate/1.2/context", "@graph": graph });
    Ok(format!("{}\n", serde_json::to_string_pretty(&crate_json)?))
}

/// What runs refer to besides files of the archive.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    /// Hash, role and data set of an input whose bytes are not in the archive.
    Input(String, String, String),
    /// Id, version and commit of the program.
    Program(String, String, String),
}

impl Thing {
    fn describe(self) -> Value {
        match self {
            Self::Input(hash, role, set) => json!({
                "@id": format!("urn:sha256:{hash}"),
                "@type": "CreativeWork",
                "name": format!("{role} of a run on {set}"),
                "description": "Named by its SHA-256; its bytes are not in this archive.",
                "sha256": hash,
            }),
            Self::Program(id, version, commit) => json!({
                "@id": id,
                "@type": "SoftwareApplication",
                "name": "medft",
                "description": "Reproduces papers on medical image classification end to end; the program that made these runs.",
                "version": if commit.is_empty() { version } else { format!("{version} at commit {commit}") },
                "license": LICENCES.map(|l| json!({ "@id": l.0 })),
            }),
        }
    }
}

fn program_id(made: &Provenance) -> String {
    let built = format!("{} {:?} {:?}", made.medft, made.commit, made.dirty);
    format!("#medft-{}", &fsio::sha256_hex(built.as_bytes())[..16])
}

/// A time in UTC with the offset written out, as the profile has it.
fn with_offset(time: &str) -> String {
    match time.strip_suffix('Z') {
        Some(local) => format!("{local}+00:00"),
        None => time.to_owned(),
    }
}

/// What a file of the archive is.
fn description(name: &str) -> &'static str {
    let last = name.rsplit('/').next().unwrap_or_default();
    match (name.split('/').next().unwrap_or_default(), last) {
        ("results", "spec.json") => {
            "What the run was to do, and the hashes of its data and weights: its id is the hash of this."
        }
        ("results", "metrics.json") => "The metrics of the run.",
        ("results", "epochs.json") => "Losses, rates and validation metrics of every epoch of the run.",
        ("results", "predictions.parquet") => "The run's score of every test image.",
        ("results", "provenance.json") => "Program, machine and times of the run.",
        ("results", "DONE") => "The mark of a run whose record is whole.",
        ("results", _) => "A file of a run's record.",
        ("experiments", _) => "The study: what was to be run.",
        ("data-manifests", _) if name.contains("/weights/") => {
            "Source, size, hash and licence of a file of pretrained weights."
        }
        ("data-manifests", _) if name.ends_with(".sha256") => "SHA-256 of every file of a data set.",
        ("data-manifests", _) => "Source, files, hashes and licence of a data set.",
        ("reports", _) if name.contains("/cards/") => "Model card of a run.",
        ("reports", _) if name.contains("/figures/") => "A figure of the report.",
        ("reports", _) if name.contains("/tables/") => "A table of the report.",
        ("reports", _) => "A file of the report.",
        (_, "Cargo.lock") => "Every package that medft was built from, with its hash.",
        (_, "NOTICE") => "What medft carries or follows of others.",
        (_, licence) if licence.starts_with("LICENSE") => "A licence.",
        _ => "A file of the archive.",
    }
}

fn file(name: &str, about: &About) -> Value {
    let format = match name.rsplit('.').next().unwrap_or_default() {
        "json" => "application/json",
        "toml" => "application/toml",
        "md" => "text/markdown",
        "html" => "text/html",
        "csv" => "text/csv",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "pdf" => "application/pdf",
        "tex" => "text/x-tex",
        "parquet" => "application/vnd.apache.parquet",
        "safetensors" => "application/octet-stream",
        _ => "text/plain",
    };
    json!({
        "@id": name,
        "@type": "File",
        "name": name,
        "description": description(name),
        "contentSize": about.bytes.to_string(),
        "encodingFormat": format,
        "sha256": about.sha256,
    })
}
