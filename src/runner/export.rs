//! The folder of a trained model that another program loads: config, preprocessing, weights, and a card with the numbers of the run.

use super::trained::TrainedRun;
use crate::data::registry;
use crate::error::BadInput;
use crate::fsio;
use crate::manifest::Catalogue;
use crate::model::Classifier;
use crate::model::entry::Trained;
use crate::model::export::export;
use crate::model::kept::write;
use crate::study::Scale;
use anyhow::{Context as _, Result};
use candle_core::Device;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Writes the folder; the files in it.
///
/// # Errors
/// [`BadInput`] where the program has no class that computes the same, or the folder holds something already.
pub fn write_folder(run: &TrainedRun, layout: &str, to: &Path, catalogue: &Catalogue) -> Result<Vec<PathBuf>> {
    let occupied = fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some());
    if occupied || to.is_file() {
        let remedy = "Name a new folder.";
        return Err(BadInput::new(
            format!("--out {}", to.display()),
            "an empty folder or none",
            "something in it",
            remedy,
        )
        .into());
    }
    let spec = &run.record.spec.run;
    let model = run.model(&Device::Cpu)?;
    let all = model.params.0.iter().map(|p| (p.name.clone(), p.tensor.clone()));
    let (backbone, head) = Classifier::parts(spec, all);
    let entry = crate::model::registry::find(&spec.backbone)?;
    let trained = Trained {
        entry,
        spec,
        about: &run.about,
        backbone,
        head,
    };
    let exported = export(layout, &trained)?;
    let json = |value: &Value| {
        serde_json::to_vec_pretty(value).map(|mut bytes| {
            bytes.push(b'\n');
            bytes
        })
    };
    let files = [
        ("config.json", json(&exported.config)?),
        ("preprocessor_config.json", json(&trained.preprocessor())?),
        ("README.md", card(run, layout, &exported.config, catalogue).into_bytes()),
    ];
    let mut written = Vec::new();
    for (name, bytes) in files {
        written.push(to.join(name));
        fsio::write_atomic(&to.join(name), &bytes)?;
    }
    let path = to.join("model.safetensors");
    let metadata = Map::from_iter([
        ("format".to_owned(), json!("pt")),
        ("run".to_owned(), json!(run.record.id())),
    ]);
    let mut out = fsio::Pending::create(&path)?;
    write(&mut out, metadata, &exported.tensors).with_context(|| format!("cannot write {}", path.display()))?;
    out.publish()?;
    written.push(path);
    Ok(written)
}

/// A model card: YAML for the hub, then what a reader has to know. Texts are quoted as JSON, which YAML reads too.
fn card(run: &TrainedRun, layout: &str, config: &Value, catalogue: &Catalogue) -> String {
    let (record, about) = (&run.record, &run.about);
    let (spec, m) = (&record.spec.run, &record.metrics);
    let quoted = |s: &str| Value::from(s).to_string();
    let entry = crate::model::registry::find(&spec.backbone).ok();
    let title = registry::find(&spec.dataset)
        .map_or_else(|_| spec.dataset.clone(), |s| s.info(&spec.protocol).title.to_owned());
    let backbone = entry.map_or(spec.backbone.as_str(), |e| e.title);
    let pin = catalogue
        .pins(&spec.backbone)
        .ok()
        .and_then(|pins| pins.first().copied());
    let licence = pin.and_then(|p| p.licence.clone());
    let metrics = if about.weights == "best" { &m.best } else { &m.last };
    let library = if layout == "hf" {
        "transformers"
    } else if layout == "timm" {
        "timm"
    } else {
        "medft"
    };
    let mut out = String::from("---\n");
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line("license: other\nlicense_name: not-chosen".into());
    line(format!("library_name: {library}\npipeline_tag: image-classification"));
    line("tags:\n- medft\n- image-classification\nmodel-index:".into());
    line(format!(
        "- name: {}\n  results:\n  - task:\n      type: image-classification",
        quoted(&record.id()[..16])
    ));
    line(format!(
        "    dataset:\n      type: {}\n      name: {}\n      split: test",
        quoted(&spec.dataset),
        quoted(&title)
    ));
    line(format!(
        "      revision: {}\n    metrics:",
        quoted(&record.spec.data_sha256)
    ));
    for (name, value) in metrics.iter().filter(|m| m.1.is_finite()) {
        line(format!("    - type: {}\n      value: {value}", quoted(name)));
    }
    line("---\n".into());
    line(format!("# {backbone} on {title}\n"));
    if spec.scale == Scale::Tiny {
        line("**A small model, to try the program: its numbers mean nothing.**\n".into());
    }
    line(format!(
        "The {} weights of run `{}` of medft: {}, {} backbone, {} head, seed {}. Not for clinical use: nobody has validated it for any decision \
         about a patient.\n",
        about.weights,
        record.id(),
        backbone,
        spec.freeze,
        spec.head,
        spec.seed
    ));
    line(format!("Outputs ({}): {}.\n", about.task, about.classes.join(", ")));
    line(format!(
        "Input: {} channel(s), resized to {} pixels (Pillow, bilinear), centre crop of {}, values in 0..1 normalised by mean {:?} and standard \
         deviation {:?}. `preprocessor_config.json` says the same; a program that resizes otherwise than Pillow gives slightly other logits.{}\n",
        about.channels,
        about.resize,
        about.crop,
        about.mean,
        about.std,
        if about.channels == 1 {
            " Images are read as grey."
        } else {
            ""
        }
    ));
    let load = match layout {
        "hf" => "from transformers import AutoModelForImageClassification\nmodel = AutoModelForImageClassification.from_pretrained(\"<this folder>\")".to_owned(),
        "timm" => "import timm\nmodel = timm.create_model(\"local-dir:<this folder>\", pretrained=True).eval()".to_owned(),
        _ => format!("# The names are those of {} (layout {}); the head stands under head.*\nfrom safetensors.torch import load_file\nstate = load_file(\"<this folder>/model.safetensors\")", config["architecture"], config["layout"]),
    };
    line(format!("```python\n{load}\n```\n"));
    line(format!(
        "Licence: of the trained model none was chosen. The weights it started from: {}.\n",
        licence.map_or_else(|| "licence unknown".to_owned(), |l| format!("licence {l}"))
    ));
    let hashes: Vec<String> = record
        .spec
        .weights
        .iter()
        .map(|(role, hash)| format!("{role} `{hash}`"))
        .collect();
    let _ = writeln!(
        out,
        "SHA-256: data `{}`; weights it started from: {}; file it was made from: `{}`.",
        record.spec.data_sha256,
        hashes.join(", "),
        run.file.sha256.as_deref().unwrap_or_default()
    );
    out
}
