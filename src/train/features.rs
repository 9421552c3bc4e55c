//! Features of a frozen backbone, computed once and read by every head, seed and epoch that sees the same images.
//!
//! A table is one file of raw float32 rows, memory-mapped. Its name is a hash over everything the rows depend on: data,
//! weights, the protocol's data, transform and model switches, and the rows themselves. Batches of fixed size in index order
//! make the bytes independent of who computes them.

use super::{FeatureCache, Job, Progress, state};
use crate::data::loader::Mode;
use crate::fsio;
use crate::model::Classifier;
use crate::study::HeadKind;
use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use memmap2::Mmap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

/// Rows of features, one a sample of an index list; row-major float32.
pub struct FeatureTable {
    rows: Rows,
    /// Shape of one row: (D) or (N, F).
    dims: Vec<usize>,
}

enum Rows {
    Memory(Vec<f32>),
    Mapped(Mmap),
}

impl FeatureTable {
    /// Rows at `positions` (of the index list the table was made for) as (B, …).
    pub fn batch(&self, positions: &[u32], device: &Device) -> Result<Tensor> {
        let n: usize = self.dims.iter().product();
        let mut out = Vec::with_capacity(positions.len() * n);
        match &self.rows {
            Rows::Memory(v) => {
                for &p in positions {
                    out.extend_from_slice(&v[p as usize * n..(p as usize + 1) * n]);
                }
            }
            Rows::Mapped(m) => {
                for &p in positions {
                    let row = &m[p as usize * n * 4..(p as usize + 1) * n * 4];
                    out.extend(
                        row.chunks_exact(4)
                            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
                    );
                }
            }
        }
        let mut dims = vec![positions.len()];
        dims.extend(&self.dims);
        Ok(Tensor::from_vec(out, dims, device)?)
    }
}

/// Computes (or opens) the features of `indices` under the validation transform.
pub fn table(
    job: &Job<'_>,
    model: &Classifier,
    indices: &[u32],
    progress: &mut dyn FnMut(Progress),
) -> Result<FeatureTable> {
    let batch = job.spec.protocol.batch as usize;
    let Some(cache) = &job.feature_cache else {
        let mut rows = Vec::new();
        let dims = compute(job, model, indices, batch, progress, &mut |x| {
            rows.extend_from_slice(x);
            Ok(())
        })?;
        return Ok(FeatureTable {
            rows: Rows::Memory(rows),
            dims,
        });
    };
    let path = cache.dir.join(format!("{}.f32", key(job, cache, indices)?));
    let dims_path = path.with_extension("json");
    if !(path.exists() && dims_path.exists()) {
        let mut dims = Vec::new();
        let mut failed = None;
        fsio::write_atomic_with(&path, |w| {
            let mut put = |x: &[f32]| w.write_all(state::as_bytes(x));
            match compute(job, model, indices, batch, progress, &mut put) {
                Ok(d) => {
                    dims = d;
                    Ok(())
                }
                Err(e) => match e.downcast::<std::io::Error>() {
                    Ok(io) => Err(io),
                    Err(e) => {
                        failed = Some(e);
                        Err(std::io::Error::other("features"))
                    }
                },
            }
        })
        .map_err(|e| failed.take().unwrap_or(e))?;
        fsio::write_atomic(&dims_path, &serde_json::to_vec(&dims)?)?;
    }
    let dims: Vec<usize> = serde_json::from_slice(&fsio::read(&dims_path)?)
        .with_context(|| format!("{} is torn; remove it and run again", dims_path.display()))?;
    let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    // SAFETY: the file is written once, atomically, under the hash of its inputs, and never changed.
    let map = unsafe { Mmap::map(&file) }.with_context(|| format!("cannot map {}", path.display()))?;
    let want = indices.len() * dims.iter().product::<usize>() * 4;
    anyhow::ensure!(
        map.len() == want,
        "{} has {} bytes, {want} were expected; remove it and run again",
        path.display(),
        map.len()
    );
    Ok(FeatureTable {
        rows: Rows::Mapped(map),
        dims,
    })
}

/// Runs the backbone over `indices` in order; returns the shape of a row.
fn compute(
    job: &Job<'_>,
    model: &Classifier,
    indices: &[u32],
    batch: usize,
    progress: &mut dyn FnMut(Progress),
    put: &mut dyn FnMut(&[f32]) -> std::io::Result<()>,
) -> Result<Vec<usize>> {
    let mut dims = Vec::new();
    let mut done = 0;
    for b in job.images.batches(indices, Mode::Val, batch, false) {
        let b = b?;
        done += b.indices.len();
        let f = model.features(&b.tensor(job.device)?)?.to_device(&Device::Cpu)?;
        dims = f.dims()[1..].to_vec();
        put(&f.flatten_all()?.to_vec1::<f32>()?)?;
        progress(Progress::Images {
            done,
            of: indices.len(),
        });
    }
    Ok(dims)
}

/// A hash over everything that the rows depend on.
fn key(job: &Job<'_>, cache: &FeatureCache, indices: &[u32]) -> Result<String> {
    let s = job.spec;
    let mut p = serde_json::to_value(&s.protocol)?;
    if let Some(o) = p.as_object_mut() {
        // What happens after the backbone does not change its features.
        for after in [
            "preset",
            "augment",
            "crop_scale",
            "mha_body",
            "epochs",
            "lr",
            "weight_decay",
            "layer_decay",
            "clip",
            "warmup",
            "warmup_overshoot",
            "val_logits_f16",
            "validation_set",
            "selection_rounding",
            "selection_start",
            "extra_validation",
            "test_weights",
            "macro_classes",
            "selection_metric",
            "checkpointing",
        ] {
            o.remove(after);
        }
    }
    let tokens = s.head == HeadKind::Mha;
    let text = serde_json::to_string(&(
        ("features", 1, env!("CARGO_PKG_VERSION")),
        (&s.dataset, &s.backbone, s.scale, tokens),
        &p,
        &cache.inputs,
        crate::model::layers::cpu::vector_level(),
        indices,
    ))?;
    Ok(fsio::sha256_hex(text.as_bytes()))
}

/// Where a study keeps features: below its results folder.
pub fn default_dir(results: &std::path::Path) -> PathBuf {
    results.join(".cache").join("features")
}
