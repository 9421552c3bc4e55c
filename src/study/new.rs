//! A study file to begin with: what was asked for, every other key with the values it takes, as a comment.

use super::file::{Known, Study};
use crate::error::BadInput;
use crate::names::and_list;
use crate::spec::protocol::{Preset, Protocol, show};
use crate::spec::{Freeze, HeadKind, KeepWeights, Scale, SplitRule};
use serde_json::json;
use std::fmt::Write as _;

/// What a new study is about.
#[derive(Debug, Clone)]
pub struct NewStudy {
    /// Name of its file without `.toml`.
    pub name: String,
    pub title: Option<String>,
    pub preset: Preset,
    pub scale: Scale,
    pub datasets: Vec<String>,
    pub backbones: Vec<String>,
    pub freeze: Vec<Freeze>,
    pub heads: Vec<HeadKind>,
    pub seeds: Vec<u64>,
    /// Switches with their values as TOML: `lr` and `[1e-5, 1e-4]`.
    pub set: Vec<(String, String)>,
}

/// Switches that most studies of one's own think about; the others are in the documentation.
const OFTEN: [&str; 9] = [
    "lr",
    "epochs",
    "batch",
    "weight_decay",
    "warmup",
    "augment",
    "resize",
    "train_fraction",
    "precision",
];

impl NewStudy {
    /// The text of the file, read back as the study it is.
    ///
    /// # Errors
    /// As [`Study::parse`]: an unknown name brings the known ones.
    pub fn text(&self, file: &str, known: &Known) -> Result<(String, Study), BadInput> {
        let text = self.write(known);
        let study = Study::parse(&self.name, file, &text, known)?;
        Ok((text, study))
    }

    fn write(&self, known: &Known) -> String {
        let quoted = |all: &[String]| all.iter().map(|w| json!(w).to_string()).collect::<Vec<_>>().join(", ");
        let shown = |all: Vec<String>| format!("[{}]", quoted(&all));
        let title = self.title.clone().unwrap_or_else(|| {
            let on = and_list(&self.datasets);
            format!("{} on {on}", and_list(&self.backbones))
        });
        let others = |all: &[&str], own: &[String]| {
            let rest: Vec<&str> = all.iter().copied().filter(|w| !own.iter().any(|o| o == w)).collect();
            rest.join(" ")
        };
        let mut out = String::from(
            "# Made by `medft new`; every key of a study is in docs/OWN-DATA.md, every switch in docs/PROTOCOL.md.\n",
        );
        let _ = writeln!(out, "title = {}", json!(title));
        let _ = writeln!(out, "# description = \"…\"         # what a reader should know of it");
        let _ = writeln!(
            out,
            "# expected = \"…\"            # what you expect it to give, written down before it runs\n"
        );
        let _ = writeln!(
            out,
            "# faithful: the paper's published code, quirks included; corrected: what a reader of the paper would expect"
        );
        let _ = writeln!(out, "preset = \"{}\"", self.preset);
        let _ = writeln!(
            out,
            "# full: the pretrained models; tiny: small random ones, to see within minutes that everything works"
        );
        let _ = writeln!(out, "scale = \"{}\"\n", self.scale);
        let _ = writeln!(out, "# also known: {}", others(known.datasets, &self.datasets));
        let _ = writeln!(out, "datasets = [{}]", quoted(&self.datasets));
        let _ = writeln!(out, "# also known: {}", others(known.backbones, &self.backbones));
        let _ = writeln!(out, "backbones = [{}]", quoted(&self.backbones));
        let _ = writeln!(
            out,
            "# frozen: the head alone learns, on features computed once; unfrozen: everything learns"
        );
        let _ = writeln!(
            out,
            "freeze = {}",
            shown(self.freeze.iter().map(ToString::to_string).collect())
        );
        let _ = writeln!(
            out,
            "# linear: one layer on the pooled feature; mha: attention over the tokens"
        );
        let _ = writeln!(
            out,
            "heads = {}",
            shown(self.heads.iter().map(ToString::to_string).collect())
        );
        let _ = writeln!(
            out,
            "# every cell is run with each seed: tables give mean, spread and an interval over them"
        );
        let _ = writeln!(out, "seeds = {:?}", self.seeds);
        let splits = shown(SplitRule::ALL[..2].iter().map(ToString::to_string).collect());
        let _ = writeln!(
            out,
            "# splits = {splits}   # several ways to cut the data, a table each; without it the preset's"
        );
        let keep: Vec<&str> = KeepWeights::ALL.iter().map(|k| k.as_str()).collect();
        let _ = writeln!(
            out,
            "# keep_weights = \"{}\"      # trained weights that every run leaves in its folder: {}",
            KeepWeights::default(),
            keep.join(", ")
        );
        out.push_str("\n[protocol]\n");
        out.push_str(
            "# A list is a sweep: every value a table of its own, and one chosen by the validation images alone.\n",
        );
        for (field, value) in &self.set {
            let _ = writeln!(out, "{field} = {value}");
        }
        out.push_str("# As the preset has it, where the line is a comment:\n");
        let preset = self.preset.protocol();
        for field in OFTEN.into_iter().filter(|f| !self.set.iter().any(|s| s.0 == *f)) {
            let Some(switch) = Protocol::find(field) else { continue };
            let value = preset.get(field);
            let value = if value.is_string() {
                value.to_string()
            } else {
                show(&value)
            };
            let _ = writeln!(
                out,
                "# {:<40} # {}",
                format!("{field} = {value}"),
                switch.values.allowed()
            );
        }
        out
    }
}
