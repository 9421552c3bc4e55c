//! A trained model for other programs: what `timm` and `transformers` load, and the original names.
//!
//! What a family's trained model is called there, and which of the programs' classes computes the same, stands in the family's own file;
//! here are the layouts, the head, and what they share.

use super::checkpoint::{NameRule, in_layout};
use super::entry::{Exported, Trained};
use crate::error::BadInput;
use crate::spec::HeadKind;
use crate::spec::protocol::{Aspect, Readout};
use anyhow::{Context, Result};
use candle_core::Tensor;
use serde_json::{Map, Value, json};

/// Layouts of programs.
pub const LAYOUTS: [&str; 3] = ["hf", "timm", "hub"];

/// Of families that no other program has with a head that reads the same.
///
/// # Errors
/// Always.
pub fn hub_alone(layout: &str, t: &Trained<'_>) -> Result<Exported> {
    Err(t
        .not_for(layout, &["hub"], "no class of it computes what this one does")
        .into())
}

/// A trained model for a program.
///
/// # Errors
/// [`BadInput`] where no class of the program computes the same.
pub fn export(layout: &str, t: &Trained<'_>) -> Result<Exported> {
    if layout == "hub" {
        return t.original();
    }
    if t.spec.head == HeadKind::Mha {
        let why = "an MHA head reads all tokens through a body of its own, which no class there has";
        return Err(t.not_for(layout, &["hub"], why).into());
    }
    if t.spec.protocol.aspect == Aspect::Pad {
        let why = "it puts zeros around an image after the normalisation, which no preprocessor there does";
        return Err(t.not_for(layout, &["hub"], why).into());
    }
    (t.entry.export)(layout, t)
}

impl Trained<'_> {
    /// The complaint that a program has no class for this model.
    pub fn not_for(&self, layout: &str, offered: &[&str], why: &str) -> BadInput {
        BadInput::new(
            format!("--layout {layout}"),
            format!(
                "a layout that a run of {} can have: {}",
                self.spec.backbone,
                offered.join(", ")
            ),
            format!("`{layout}` ({why})"),
            "Name one of these; `medft predict` and weights.safetensors have every model.",
        )
    }

    /// A tensor of the backbone.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        let found = self.backbone.iter().find(|t| t.0 == name);
        found
            .map(|t| &t.1)
            .with_context(|| format!("no {name} in the trained model"))
    }

    /// Weight (K, D) and bias (K) of a linear head.
    ///
    /// # Errors
    /// Where the head is another one.
    pub fn linear(&self) -> Result<(Tensor, Tensor)> {
        let of = |name: &str| {
            let found = self.head.iter().find(|t| t.0 == name);
            found
                .map(|t| t.1.clone())
                .with_context(|| format!("no {name} in the trained model"))
        };
        Ok((of("fc.weight")?, of("fc.bias")?))
    }

    /// Whether the head reads the mean of the tokens.
    pub fn reads_mean(&self) -> bool {
        self.spec.protocol.readout == Readout::MeanTokens
    }

    /// The backbone under the names of a layout.
    ///
    /// # Errors
    /// Where a tensor has no name in the layout, or another shape than it wants.
    pub fn in_layout(&self, rules: &[NameRule]) -> Result<Vec<(String, Tensor)>> {
        let mut out = Vec::new();
        for (name, tensor) in &self.backbone {
            out.extend(in_layout(rules, name, tensor)?);
        }
        Ok(out)
    }

    /// The original implementation's names, the head under `head.*`; for code that builds the model itself.
    fn original(&self) -> Result<Exported> {
        let layout = self.entry.own_layout();
        let rules = self
            .entry
            .layouts
            .iter()
            .find(|l| l.0 == layout)
            .map_or(&[][..], |l| l.1);
        let mut tensors = self.in_layout(rules)?;
        tensors.extend(self.head.iter().map(|(name, t)| (format!("head.{name}"), t.clone())));
        let config = json!({
            "architecture": self.entry.facts.upstream,
            "layout": layout,
            "head": self.spec.head.as_str(),
            "scale": self.spec.scale.as_str(),
            "num_classes": self.about.classes.len(),
            "id2label": self.id2label(),
            "input_size": [self.about.channels, self.about.crop, self.about.crop],
        });
        Ok(Exported { config, tensors })
    }

    /// Number of an output → its name, as `transformers` writes it.
    fn id2label(&self) -> Map<String, Value> {
        self.about
            .classes
            .iter()
            .enumerate()
            .map(|(i, c)| (i.to_string(), json!(c)))
            .collect()
    }

    /// The fields of a `transformers` config that every image classifier has.
    pub fn hf_config(&self, class: &str, model_type: &str, fields: &Value) -> Value {
        let label2id: Map<String, Value> = self
            .about
            .classes
            .iter()
            .enumerate()
            .map(|(i, c)| (c.clone(), json!(i)))
            .collect();
        let mut config = json!({
            "architectures": [class],
            "model_type": model_type,
            "dtype": "float32",
            "image_size": self.about.crop,
            "num_channels": self.about.channels,
            "id2label": self.id2label(),
            "label2id": label2id,
            "problem_type": match self.about.task.as_str() {
                "labels" => "multi_label_classification",
                _ => "single_label_classification",
            },
        });
        merge(&mut config, fields);
        config
    }

    /// A `timm` config: what `timm.create_model("local-dir:…")` and `hf-hub:` read. `args` are those of the architecture.
    pub fn timm_config(&self, architecture: &str, pool: &str, args: &Value) -> Value {
        let a = self.about;
        let mut model_args = json!({"img_size": a.crop, "in_chans": a.channels, "global_pool": pool});
        merge(&mut model_args, args);
        // timm rounds crop / crop_pct down to get the side after the resize.
        let crop_pct = f64::from(a.crop) / (f64::from(a.resize) + 1e-6);
        json!({
            "architecture": architecture,
            "num_classes": a.classes.len(),
            "global_pool": pool,
            "model_args": model_args,
            "pretrained_cfg": {
                "input_size": [a.channels, a.crop, a.crop],
                "fixed_input_size": true,
                "interpolation": "bilinear",
                "crop_pct": crop_pct,
                "crop_mode": match self.spec.protocol.aspect {
                    Aspect::Squash | Aspect::Pad => "squash",
                    Aspect::ShortSide => "center",
                },
                "mean": a.mean,
                "std": a.std,
                "num_classes": a.classes.len(),
                "label_names": a.classes,
                "first_conv": "patch_embed.proj",
                "classifier": "head",
            },
        })
    }

    /// `preprocessor_config.json`: resize, centre crop, scale, normalise, in the words of `transformers`.
    pub fn preprocessor(&self) -> Value {
        let a = self.about;
        let size = match self.spec.protocol.aspect {
            Aspect::Squash | Aspect::Pad => json!({"height": a.resize, "width": a.resize}),
            Aspect::ShortSide => json!({"shortest_edge": a.resize}),
        };
        json!({
            "image_processor_type": "BitImageProcessor",
            "do_convert_rgb": a.channels == 3,
            "do_resize": true,
            "size": size,
            "resample": 2,
            "do_center_crop": self.spec.protocol.aspect != Aspect::Pad,
            "crop_size": {"height": a.crop, "width": a.crop},
            "do_rescale": true,
            "rescale_factor": 1.0 / 255.0,
            "do_normalize": true,
            "image_mean": a.mean,
            "image_std": a.std,
        })
    }
}

fn merge(into: &mut Value, fields: &Value) {
    if let (Some(into), Some(fields)) = (into.as_object_mut(), fields.as_object()) {
        into.extend(fields.clone());
    }
}
