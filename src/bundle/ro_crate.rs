//! The archive's description: JSON-LD as RO-Crate 1.2 and the Process Run Crate profile 0.5 ask for.

use super::Contents;
use crate::build_info::BuildInfo;
use crate::fsio;
use crate::results::{Provenance, Spec, read_record};
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

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
            "startTime": made.started,
            "endTime": made.ended,
            "actionStatus": { "@id": "http://schema.org/CompletedActionStatus" },
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
        "datePublished": last,
        "license": { "@id": "LICENSE-MIT" },
        "conformsTo": { "@id": "https://w3id.org/ro/wfrun/process/0.5" },
        "hasPart": parts,
        "mentions": mentions,
    }));
    graph.push(json!({
        "@id": "https://w3id.org/ro/wfrun/process/0.5",
        "@type": "CreativeWork",
        "name": "Process Run Crate",
        "version": "0.5",
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
                "url": "https://arxiv.org/abs/2505.19779",
                "version": version,
                "softwareVersion": if commit.is_empty() { version.clone() } else { format!("{version} at commit {commit}") },
                "license": [{ "@id": "LICENSE-MIT" }, { "@id": "LICENSE-APACHE" }],
            }),
        }
    }
}

fn program_id(made: &Provenance) -> String {
    let built = format!("{} {:?} {:?}", made.medft, made.commit, made.dirty);
    format!("#medft-{}", &fsio::sha256_hex(built.as_bytes())[..16])
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
        "contentSize": about.bytes.to_string(),
        "encodingFormat": format,
        "sha256": about.sha256,
    })
}
