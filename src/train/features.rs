//! Features of a frozen backbone, computed once and read by every head, seed and epoch that sees the same images.
//!
//! A table is one file of raw rows: the very values that a head reads, so that a run on a table is a run on images; float32, or the
//! upper halves of them where the protocol rounds features to bfloat16. Its name is a hash over everything the rows depend on: data,
//! weights, the protocol's data, transform and model switches, the view and the list of images. Batches of fixed size in index order make the bytes independent of who computes them. Rows are
//! held against the table's hash whenever they are read; a table that does not fit it is computed anew.

use super::{FeatureCache, Job, Progress};
use crate::cache::{Bucket, Held};
use crate::data::loader::{Images, ViewMode};
use crate::error::BadInput;
use crate::fsio::{self, HashedFile};
use crate::limits;
use crate::model::Classifier;
use crate::model::safetensors::as_bytes;
use crate::spec::protocol::FeatureDtype;
use crate::spec::{HeadKind, Scope};
use crate::stop;
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Rows of features, one a sample of an index list; row-major.
pub struct FeatureTable {
    rows: Rows,
    dtype: FeatureDtype,
    /// Shape of one row: (D) or (N, F).
    dims: Vec<usize>,
}

enum Rows {
    Memory(Vec<u8>),
    /// The table and where it lies.
    File(
        HashedFile,
        PathBuf,
        #[expect(dead_code, reason = "the entry stays while this lives")] Held,
    ),
}

impl FeatureTable {
    /// Rows at `positions` (of the index list the table was made for) as (B, …).
    ///
    /// # Errors
    /// [`BadInput`] where the table's file was changed since it was opened; it is then removed, to be computed anew.
    pub fn batch(&self, positions: &[u32], device: &Device) -> Result<Tensor> {
        let n: usize = self.dims.iter().product();
        let size = n * bytes_of(self.dtype);
        let mut out = vec![0f32; positions.len() * n];
        let row = |(out, &p): (&mut [f32], &u32)| -> Result<()> {
            match &self.rows {
                Rows::Memory(all) => decode(self.dtype, &all[p as usize * size..(p as usize + 1) * size], out),
                Rows::File(file, path, _) => {
                    let size = size as u64;
                    let row = file.read(u64::from(p) * size..(u64::from(p) + 1) * size).map_err(|e| {
                        // What cannot be removed is found again when it is opened again.
                        let _ = std::fs::remove_file(path);
                        let remedy = "It was removed. Run again: it is computed anew.";
                        BadInput::new(path.display(), "the rows that were written", e.to_string(), remedy)
                    })?;
                    decode(self.dtype, &row, out);
                }
            }
            Ok(())
        };
        // The tokens of an image are hundreds of kilobytes or more, to be read and hashed; a feature alone is not worth a thread.
        out.par_chunks_mut(n)
            .zip(positions)
            .with_min_len((32 << 10) / size + 1)
            .try_for_each(row)?;
        let mut dims = vec![positions.len()];
        dims.extend(&self.dims);
        Ok(Tensor::from_vec(out, dims, device)?)
    }

    /// Writes `rows`, each of shape `dims`, to a table in `cache` and opens it. The cache's `inputs` alone tell it from others of its shape.
    ///
    /// # Errors
    /// For a table that cannot be written.
    pub fn write(
        cache: &FeatureCache,
        dtype: FeatureDtype,
        dims: Vec<usize>,
        rows: impl ExactSizeIterator<Item = Vec<f32>>,
    ) -> Result<Self> {
        let n = rows.len();
        let path = cache
            .cache
            .entry(Bucket::Features, &Bucket::Features.key(&(&cache.inputs, dtype, &dims))?);
        let bytes = dims.iter().product::<usize>() * bytes_of(dtype) * n;
        let mut sink = Sink::new(Some((&path, cache)), dtype, bytes as u64)?;
        for row in rows {
            sink.put(&encode(dtype, &row))?;
        }
        sink.end(n, dtype, dims)
    }
}

/// Bytes of a value in a table.
pub fn bytes_of(dtype: FeatureDtype) -> usize {
    match dtype {
        FeatureDtype::F32 => 4,
        FeatureDtype::Bf16 => 2,
    }
}

/// The bytes of values that are `dtype`'s already.
fn encode(dtype: FeatureDtype, x: &[f32]) -> Cow<'_, [u8]> {
    match dtype {
        FeatureDtype::F32 => Cow::Borrowed(as_bytes(x)),
        // A bfloat16 is the upper half of a float32.
        FeatureDtype::Bf16 => x
            .iter()
            .flat_map(|v| ((v.to_bits() >> 16) as u16).to_le_bytes())
            .collect(),
    }
}

fn decode(dtype: FeatureDtype, row: &[u8], out: &mut [f32]) {
    match dtype {
        FeatureDtype::F32 => {
            for (v, &b) in out.iter_mut().zip(row.as_chunks::<4>().0) {
                *v = f32::from_le_bytes(b);
            }
        }
        FeatureDtype::Bf16 => {
            for (v, &b) in out.iter_mut().zip(row.as_chunks::<2>().0) {
                *v = f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16);
            }
        }
    }
}

/// What a table is described by, beside its rows.
#[derive(serde::Serialize, serde::Deserialize)]
struct About {
    /// The key it was made under, which also names its folder: a table that was moved there is another one's.
    key: String,
    dims: Vec<usize>,
    /// Of the rows.
    sha256: String,
}

/// Rows under way.
enum Sink {
    Memory(Vec<u8>),
    File {
        path: PathBuf,
        out: Box<fsio::Pending>,
        hash: Sha256,
        held: Held,
    },
}

/// Opens the features of `indices`, seen as `mode` says, for each of `members` (which share backbone and `images`), and computes
/// those that are not there, or not whole, in one pass over the images.
///
/// # Errors
/// For images that cannot be read, and tables that cannot be written.
pub fn tables(
    members: &[(&Job<'_>, &Classifier)],
    images: &Images,
    (indices, mode): (&[u32], ViewMode),
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<FeatureTable>> {
    let mut paths = Vec::new();
    for (job, _) in members {
        let path = job
            .feature_cache
            .as_ref()
            .map(|c| Ok::<_, anyhow::Error>(c.cache.entry(Bucket::Features, &key(job, c, (indices, mode))?)));
        paths.push(path.transpose()?);
    }
    let mut tables: BTreeMap<usize, FeatureTable> = BTreeMap::new();
    for (i, ((job, _), path)) in members.iter().zip(&paths).enumerate() {
        if let (Some(path), Some(c)) = (path, &job.feature_cache)
            && let Ok(table) = open(
                path,
                (indices.len(), job.spec.protocol.feature_dtype),
                c.cache.hold(path),
            )
        {
            tables.insert(i, table);
        }
    }
    let missing: Vec<usize> = (0..members.len()).filter(|i| !tables.contains_key(i)).collect();
    tables.append(&mut compute(
        members,
        &missing,
        &paths,
        images,
        (indices, mode),
        progress,
    )?);
    Ok(tables.into_values().collect())
}

/// Computes the tables of the members in `missing`.
fn compute(
    members: &[(&Job<'_>, &Classifier)],
    missing: &[usize],
    paths: &[Option<PathBuf>],
    images: &Images,
    (indices, mode): (&[u32], ViewMode),
    progress: &mut dyn FnMut(Progress),
) -> Result<BTreeMap<usize, FeatureTable>> {
    let Some(&first) = missing.first() else {
        return Ok(BTreeMap::new());
    };
    let (job, model) = members[first];
    let dtype = job.spec.protocol.feature_dtype;
    let mut sinks: Vec<Sink> = Vec::new();
    let mut dims = vec![Vec::new(); missing.len()];
    let mut done = 0;
    for b in images
        .batches(indices, mode, job.spec.protocol.batch as usize, false)
        .onto(job.device)
    {
        let b = b?;
        stop::check()?;
        done += b.indices.len();
        let features = model.backbone.forward(&b.images)?;
        for (s, &i) in missing.iter().enumerate() {
            let f = members[i].1.read(&features)?.to_device(&Device::Cpu)?;
            dims[s] = f.dims()[1..].to_vec();
            if sinks.len() == s {
                let bytes = dims[s].iter().product::<usize>() * bytes_of(dtype) * indices.len();
                let place = paths[i].as_deref().zip(members[i].0.feature_cache.as_ref());
                sinks.push(Sink::new(place, dtype, bytes as u64)?);
            }
            sinks[s].put(&encode(dtype, &f.flatten_all()?.to_vec1::<f32>()?))?;
        }
        progress(Progress::Images {
            done,
            of: indices.len(),
        });
    }
    let mut tables = BTreeMap::new();
    for ((sink, dims), &i) in sinks.into_iter().zip(dims).zip(missing) {
        tables.insert(i, sink.end(indices.len(), dtype, dims)?);
    }
    Ok(tables)
}

impl Sink {
    /// For a table of `bytes`, in memory or at its place in a cache.
    fn new(place: Option<(&Path, &FeatureCache)>, dtype: FeatureDtype, bytes: u64) -> Result<Self> {
        let Some((path, c)) = place else {
            return Ok(Self::Memory(Vec::new()));
        };
        let held = c.cache.hold(path);
        held.make_room(bytes);
        Ok(Self::File {
            path: path.into(),
            out: Box::new(fsio::Pending::create(&path.join(rows_file(dtype)))?),
            hash: Sha256::new(),
            held,
        })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Memory(rows) => rows.extend_from_slice(bytes),
            Self::File { out, hash, .. } => {
                hash.update(bytes);
                out.put(bytes)?;
            }
        }
        Ok(())
    }

    /// The table of `n` rows.
    fn end(self, n: usize, dtype: FeatureDtype, dims: Vec<usize>) -> Result<FeatureTable> {
        match self {
            Self::Memory(rows) => {
                let rows = Rows::Memory(rows);
                Ok(FeatureTable { rows, dtype, dims })
            }
            Self::File { path, out, hash, held } => {
                out.publish()?;
                let sha256 = fsio::hex(&hash.finalize());
                let key = name(&path);
                fsio::write_atomic(&path.join(ABOUT), &serde_json::to_vec(&About { key, dims, sha256 })?)?;
                open(&path, (n, dtype), held)
            }
        }
    }
}

/// Describes a table, beside its rows.
const ABOUT: &str = "about.json";

fn rows_file(dtype: FeatureDtype) -> String {
    format!("rows.{dtype}")
}

/// The key that names a table's folder.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Opens a table of `n` rows of `dtype` and holds it against its key and its hash.
///
/// # Errors
/// Where it is not there, not whole, or was made under another key.
fn open(path: &Path, (n, dtype): (usize, FeatureDtype), held: Held) -> Result<FeatureTable> {
    let about = path.join(ABOUT);
    let text =
        fsio::read_at_most(&about, limits::RECORD).with_context(|| format!("cannot read {}", about.display()))?;
    let About { key, dims, sha256 } = serde_json::from_slice(&text)?;
    ensure!(key == name(path), "{} is of another table", about.display());
    let rows = path.join(rows_file(dtype));
    let row = dims
        .iter()
        .try_fold(bytes_of(dtype), |a, &d| a.checked_mul(d))
        .context("rows without end")?;
    ensure!(row > 0, "{} has rows of nothing", about.display());
    let file = HashedFile::open_rows(&rows, row).with_context(|| format!("cannot read {}", rows.display()))?;
    ensure!(file.sha256() == sha256, "{} is not what was written", rows.display());
    ensure!(
        (row as u64).checked_mul(n as u64) == Some(file.len()),
        "{} is of another size",
        rows.display()
    );
    Ok(FeatureTable {
        rows: Rows::File(file, rows, held),
        dtype,
        dims,
    })
}

/// A hash over everything that the rows depend on.
fn key(job: &Job<'_>, cache: &FeatureCache, (indices, mode): (&[u32], ViewMode)) -> Result<String> {
    let s = job.spec;
    // What happens after the backbone does not change its features.
    let p = s.protocol.scoped(&[Scope::Images, Scope::Features]);
    let tokens = s.head == HeadKind::Mha;
    let view = match mode {
        ViewMode::Val => None,
        ViewMode::Train { seed, epoch } => Some((s.protocol.augment, s.protocol.crop_scale, seed, epoch)),
    };
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
        (indices, view),
    ))
}
