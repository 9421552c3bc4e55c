//! Features of a frozen backbone, computed once and read by every head, seed and epoch that sees the same images.
//!
//! A table is one file of raw float32 rows, memory-mapped. Its name is a hash over everything the rows depend on: data,
//! weights, the protocol's data, transform and model switches, and the rows themselves. Batches of fixed size in index order
//! make the bytes independent of who computes them.

use super::{FeatureCache, Job, Progress, state};
use crate::cache::Bucket;
use crate::data::loader::Mode;
use crate::error::BadInput;
use crate::model::Classifier;
use crate::study::{HeadKind, Scope};
use crate::{fsio, mapped, stop};
use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use memmap2::Mmap;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

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

/// What a table is described by, beside its rows.
#[derive(serde::Serialize, serde::Deserialize)]
struct About {
    dims: Vec<usize>,
    /// Of the rows.
    sha256: String,
}

/// Rows under way.
enum Sink {
    Memory(Vec<f32>),
    File {
        path: PathBuf,
        out: Box<fsio::Pending>,
        hash: Sha256,
    },
}

/// Opens the features of `indices` under the validation transform for each of `members` (which share backbone and images),
/// and computes those that are not there in one pass over the images.
///
/// # Errors
/// For images that cannot be read, and tables that are torn or were edited.
pub fn tables(
    members: &[(&Job<'_>, &Classifier)],
    indices: &[u32],
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<FeatureTable>> {
    let mut paths = Vec::new();
    for (job, _) in members {
        let path = job
            .feature_cache
            .as_ref()
            .map(|c| Ok::<_, anyhow::Error>(c.dir.join(format!("{}.f32", key(job, c, indices)?))));
        paths.push(path.transpose()?);
    }
    let missing: Vec<usize> = (0..members.len())
        .filter(|&i| paths[i].as_ref().is_none_or(|p| !(p.exists() && about(p).exists())))
        .collect();
    let mut memory = compute(members, &missing, &paths, indices, progress)?;
    paths
        .iter()
        .enumerate()
        .map(|(i, path)| match path {
            Some(p) => open(p, indices.len()),
            None => memory.remove(&i).context("a table was not computed"),
        })
        .collect()
}

/// Computes the tables of the members in `missing`; returns those that have no file.
fn compute(
    members: &[(&Job<'_>, &Classifier)],
    missing: &[usize],
    paths: &[Option<PathBuf>],
    indices: &[u32],
    progress: &mut dyn FnMut(Progress),
) -> Result<BTreeMap<usize, FeatureTable>> {
    let Some(&first) = missing.first() else {
        return Ok(BTreeMap::new());
    };
    let (job, model) = members[first];
    let mut sinks = missing
        .iter()
        .map(|&i| Sink::new(paths[i].as_deref()))
        .collect::<Result<Vec<_>>>()?;
    let mut dims = vec![Vec::new(); missing.len()];
    let mut done = 0;
    for b in job
        .images
        .batches(indices, Mode::Val, job.spec.protocol.batch as usize, false)
        .onto(job.device)
    {
        let b = b?;
        stop::check()?;
        done += b.indices.len();
        let features = model.backbone.forward(&b.images)?;
        for (s, &i) in missing.iter().enumerate() {
            let f = members[i].1.read(&features)?.to_device(&Device::Cpu)?;
            dims[s] = f.dims()[1..].to_vec();
            sinks[s].put(&f.flatten_all()?.to_vec1::<f32>()?)?;
        }
        progress(Progress::Images {
            done,
            of: indices.len(),
        });
    }
    let mut memory = BTreeMap::new();
    for ((sink, dims), &i) in sinks.into_iter().zip(dims).zip(missing) {
        match sink {
            Sink::Memory(rows) => {
                memory.insert(
                    i,
                    FeatureTable {
                        rows: Rows::Memory(rows),
                        dims,
                    },
                );
            }
            Sink::File { path, out, hash } => {
                out.publish()?;
                let sha256 = fsio::hex(&hash.finalize());
                fsio::write_atomic(&about(&path), &serde_json::to_vec(&About { dims, sha256 })?)?;
            }
        }
    }
    Ok(memory)
}

impl Sink {
    fn new(path: Option<&Path>) -> Result<Self> {
        Ok(match path {
            None => Self::Memory(Vec::new()),
            Some(path) => Self::File {
                path: path.into(),
                out: Box::new(fsio::Pending::create(path)?),
                hash: Sha256::new(),
            },
        })
    }

    fn put(&mut self, x: &[f32]) -> Result<()> {
        match self {
            Self::Memory(rows) => rows.extend_from_slice(x),
            Self::File { out, hash, .. } => {
                hash.update(state::as_bytes(x));
                out.put(state::as_bytes(x))?;
            }
        }
        Ok(())
    }
}

fn about(table: &Path) -> PathBuf {
    table.with_extension("json")
}

/// Maps a table of `n` rows and checks its bytes.
fn open(path: &Path, n: usize) -> Result<FeatureTable> {
    let torn = |expected: String, found: String| {
        let remedy = "Remove the file and run again: it is computed anew.";
        BadInput::new(path.display(), expected, found, remedy)
    };
    let About { dims, sha256 } = serde_json::from_slice(&fsio::read(&about(path))?).map_err(|e| {
        torn(
            "a table with its description".into(),
            format!("a description that says: {e}"),
        )
    })?;
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let map = mapped::map(&file).with_context(|| format!("cannot map {}", path.display()))?;
    let want = n * dims.iter().product::<usize>() * 4;
    if map.len() != want {
        return Err(torn(format!("{want} bytes"), format!("{} bytes", map.len())).into());
    }
    let found = fsio::sha256_hex(&map);
    if found != sha256 {
        return Err(torn(
            format!("rows that hash to {sha256}"),
            format!("rows that hash to {found}"),
        )
        .into());
    }
    Ok(FeatureTable {
        rows: Rows::Mapped(map),
        dims,
    })
}

/// A hash over everything that the rows depend on.
fn key(job: &Job<'_>, cache: &FeatureCache, indices: &[u32]) -> Result<String> {
    let s = job.spec;
    // What happens after the backbone does not change its features.
    let p = s.protocol.scoped(&[Scope::Images, Scope::Features]);
    let tokens = s.head == HeadKind::Mha;
    Bucket::Features.key(&(
        (env!("CARGO_PKG_VERSION"), &s.dataset, &s.backbone, s.scale, tokens),
        &p,
        &cache.inputs,
        // Another device, or other vector instructions, may round the rows otherwise.
        (
            crate::device::name(job.device),
            medft_nn::isa::chosen()?.name(),
            format!("{:?}", medft_nn::precision::current()),
        ),
        indices,
    ))
}

/// Where a study keeps features: below its results folder.
pub fn default_dir(results: &std::path::Path) -> PathBuf {
    Bucket::Features.dir(results)
}
