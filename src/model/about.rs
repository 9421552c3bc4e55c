//! What has to be known of a trained model to use it.

use super::safetensors::SafetensorsFile;
use crate::error::BadInput;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::path::Path;

/// What the metadata says; every value is a text there, lists as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The whole run id.
    pub run: String,
    /// `best` or `last`.
    pub weights: String,
    pub backbone: String,
    pub layout: String,
    pub dataset: String,
    /// `classes` (softmax) or `labels` (sigmoid).
    pub task: String,
    /// Names of classes or labels, in the order of the outputs.
    pub classes: Vec<String>,
    pub channels: usize,
    /// What pixel values in 0..1 are normalised by, for each channel.
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
    /// Side after the resize, and of the centre crop that the model sees, in pixels.
    pub resize: u32,
    pub crop: u32,
}

impl About {
    pub(super) fn to_metadata(&self) -> Map<String, Value> {
        let fields = serde_json::to_value(self).expect("texts and numbers only");
        let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        // PyTorch's readers ask for `format`.
        let mut out = Map::from_iter([("format".to_owned(), json!("pt"))]);
        out.extend(
            fields
                .as_object()
                .into_iter()
                .flatten()
                .map(|(k, v)| (k.clone(), Value::from(text(v)))),
        );
        out
    }

    /// Reads the metadata of a trained model's file.
    ///
    /// # Errors
    /// [`BadInput`] where the file was not written by medft.
    pub fn read(path: &Path, sha256: Option<&str>) -> Result<Self> {
        let file = SafetensorsFile::open(path, sha256)?;
        let texts = ["run", "weights", "backbone", "layout", "dataset", "task"];
        let mut fields = Map::new();
        for (key, text) in file.metadata() {
            let value = match texts.contains(&key.as_str()) {
                true => Value::from(text.clone()),
                false => serde_json::from_str(text).unwrap_or(Value::from(text.clone())),
            };
            fields.insert(key.clone(), value);
        }
        let remedy = "Give weights that `medft run` kept.";
        serde_json::from_value(Value::Object(fields))
            .map_err(|e| BadInput::new(path.display(), "the metadata of a trained model", e.to_string(), remedy).into())
    }
}
