//! A trained model as one safetensors file: the backbone by the names of the layout that it came in, the head under `head.*`, and in the
//! metadata what one has to know to use it.

use super::about::About;
use super::checkpoint::in_layout;
use super::classifier::Classifier;
use super::pretrained::WeightsFile;
use super::registry;
use super::safetensors::as_bytes;
use crate::spec::RunSpec;
use anyhow::Result;
use candle_core::{DType, Tensor};
use serde_json::{Map, Value, json};
use std::io::Write;

/// A trained model's tensors by the names of the file.
///
/// # Errors
/// Where a tensor has no name in the layout.
pub fn named(spec: &RunSpec, layout: &str, params: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>> {
    let entry = registry::find(&spec.backbone)?;
    let file = WeightsFile {
        path: "trained weights".into(),
        layout: layout.to_owned(),
        sha256: None,
    };
    let rules = registry::rules(entry, &file)?;
    let (backbone, head) = Classifier::parts(spec, params.iter().cloned());
    let mut out = Vec::new();
    for (name, tensor) in &backbone {
        out.extend(in_layout(rules, name, tensor)?);
    }
    out.extend(head.into_iter().map(|(name, t)| (format!("head.{name}"), t)));
    Ok(out)
}

/// Writes a safetensors file, tensor by tensor; the same bytes for the same content.
///
/// # Errors
/// What `out` says.
pub fn write(out: &mut dyn Write, metadata: Map<String, Value>, tensors: &[(String, Tensor)]) -> Result<()> {
    out.write_all(&header(
        metadata,
        tensors.iter().map(|(name, t)| (name.as_str(), t.dims())),
    )?)?;
    for (_, t) in tensors {
        let values = t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        out.write_all(as_bytes(&values))?;
    }
    Ok(())
}

/// What stands before the float32 tensors of these names and shapes in a safetensors file.
///
/// # Errors
/// Where a name cannot be written as JSON.
pub fn header<'t>(
    metadata: Map<String, Value>,
    tensors: impl Iterator<Item = (&'t str, &'t [usize])>,
) -> Result<Vec<u8>> {
    let mut header = Map::from_iter([("__metadata__".to_owned(), Value::Object(metadata))]);
    let mut end = 0;
    for (name, dims) in tensors {
        let start = end;
        end += 4 * dims.iter().product::<usize>();
        header.insert(
            name.to_owned(),
            json!({"dtype": "F32", "shape": dims, "data_offsets": [start, end]}),
        );
    }
    let mut header = serde_json::to_vec(&header)?;
    // The tensors begin at a multiple of eight bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok([&(header.len() as u64).to_le_bytes()[..], &header].concat())
}

/// As [`write()`], of a trained model.
///
/// # Errors
/// As [`named`] and [`write()`].
pub fn write_model(out: &mut dyn Write, about: &About, spec: &RunSpec, params: &[(String, Tensor)]) -> Result<()> {
    write(out, about.to_metadata(), &named(spec, &about.layout, params)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::checkpoint::Checkpoint;
    use crate::spec::{Freeze, HeadKind, Protocol, Scale};
    use candle_core::Device;

    /// Every backbone in each of its layouts, under both heads, colour and grey: what is written is read back bit by bit, and the
    /// backbone alone is a checkpoint of that layout.
    #[test]
    fn what_is_kept_is_read_back_in_every_layout() {
        let dir = tempfile::tempdir().unwrap();
        for entry in registry::BACKBONES.built_in() {
            for (layout, rules) in entry.layouts {
                for (head, channels) in [(HeadKind::Linear, 3), (HeadKind::Mha, 1)] {
                    let mut protocol = Protocol::faithful();
                    protocol.crop = 64;
                    let spec = RunSpec {
                        dataset: "ddsm".into(),
                        backbone: entry.name.into(),
                        scale: Scale::Tiny,
                        freeze: Freeze::Frozen,
                        head,
                        seed: 1,
                        protocol,
                    };
                    let model = Classifier::random(&spec, channels, 3, &Device::Cpu).unwrap();
                    let params: Vec<_> = model
                        .params
                        .0
                        .iter()
                        .map(|p| (p.name.clone(), p.tensor.clone()))
                        .collect();
                    let about = About {
                        run: "0".into(),
                        weights: "best".into(),
                        backbone: entry.name.into(),
                        layout: (*layout).into(),
                        dataset: "ddsm".into(),
                        task: "classes".into(),
                        classes: vec!["a".into(), "1".into(), "\"".into()],
                        channels,
                        mean: vec![0.1; channels],
                        std: vec![0.3; channels],
                        resize: 72,
                        crop: 64,
                    };
                    let path = dir.path().join("weights.safetensors");
                    let mut bytes = Vec::new();
                    write_model(&mut bytes, &about, &spec, &params).unwrap();
                    crate::fsio::write_atomic(&path, &bytes).unwrap();
                    assert_eq!(About::read(&path, None).unwrap(), about);
                    let file = WeightsFile {
                        path,
                        layout: (*layout).into(),
                        sha256: None,
                    };
                    let again = Classifier::trained(&spec, channels, 3, &file, &Device::Cpu).unwrap();
                    assert_eq!(again.params.0.len(), params.len());
                    for (p, (name, tensor)) in again.params.0.iter().zip(&params) {
                        let absent = *layout == "timm" && name.ends_with("mask_token");
                        let bits = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                        assert_eq!(&p.name, name);
                        assert!(
                            absent || bits(&p.tensor) == bits(tensor),
                            "{} {layout} {name}",
                            entry.name
                        );
                    }
                    let alone = named(&spec, layout, &params)
                        .unwrap()
                        .into_iter()
                        .filter(|t| !t.0.starts_with("head."));
                    let alone = Checkpoint::from_tensors("f", alone.collect(), rules).unwrap();
                    let (backbone, _) = Classifier::parts(&spec, params.iter().cloned());
                    let missing: Vec<_> = backbone
                        .iter()
                        .filter(|p| !alone.contains(&p.0))
                        .map(|p| &p.0)
                        .collect();
                    assert!(
                        missing.iter().all(|m| *m == "mask_token"),
                        "{} {layout} {missing:?}",
                        entry.name
                    );
                }
            }
        }
    }
}
