//! How fast a head trains on a frozen backbone's features that are read from a table.

use crate::cache::Cache;
use crate::cli::BenchArgs;
use crate::model::Classifier;
use crate::rng::{Purpose, Stream};
use crate::train::FeatureCache;
use crate::train::features::FeatureTable;
use crate::train::loss::Target;
use crate::train::optim::AdamW;
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use medft_nn::backward;
use medft_nn::precision::scope;
use std::time::Instant;

/// Seconds of steps, a first one of each kind left out.
pub(super) struct Measured {
    /// Shape of a row.
    pub(super) dims: Vec<usize>,
    /// On rows that are read from a table and brought to the device.
    pub(super) table: Vec<f64>,
    /// On the same ones, which are there already.
    pub(super) device: Vec<f64>,
}

/// Trains the head of `m` in turn on both. The table was just written: the system has it in memory, as it has that of a small set.
pub(super) fn measure(
    a: &BenchArgs,
    device: &Device,
    (m, target, optim): (&Classifier, &Target, &mut AdamW),
) -> Result<Measured> {
    let one = m.features(&Tensor::zeros((1, 3, a.size, a.size), DType::F32, device)?)?;
    let dims = one.dims()[1..].to_vec();
    let n: usize = dims.iter().product();
    let row = |i: usize| {
        let mut r = Stream::new(0, Purpose::Test, 0, i as u32);
        // What bfloat16 holds too: the table is to hold what memory does.
        let short = |x: f32| f32::from_bits(x.to_bits() & 0xffff_0000);
        (0..n)
            .map(|_| short(r.uniform_in(-1.0, 1.0) as f32))
            .collect::<Vec<f32>>()
    };
    // Two batches, so that each step reads other rows than the one before.
    let rows = || (0..2 * a.batch).map(row);
    let place = tempfile::tempdir()?;
    let cache = FeatureCache {
        cache: Cache::below(place.path(), None),
        inputs: String::new(),
    };
    let table = FeatureTable::write(&cache, a.feature_dtype, dims.clone(), rows())?;
    let memory: Vec<f32> = rows().flatten().collect();
    let mut step = |x: &dyn Fn() -> Result<Tensor>| -> Result<f64> {
        let start = Instant::now();
        scope(a.precision.compute(), || -> Result<()> {
            optim.step(&backward(&target.loss(&m.classify(&x()?)?)?)?, 1e-4)?;
            Ok(device.synchronize()?)
        })?;
        Ok(start.elapsed().as_secs_f64())
    };
    let mut out = Measured {
        dims: dims.clone(),
        table: Vec::new(),
        device: Vec::new(),
    };
    for i in 0..=a.steps {
        let from = i % 2 * a.batch;
        let at: Vec<u32> = (from..from + a.batch).map(|i| i as u32).collect();
        let batch = &memory[from * n..(from + a.batch) * n];
        let x = Tensor::from_slice(batch, [&[a.batch], &*dims].concat(), device)?;
        let seconds = (step(&|| table.batch(&at, device))?, step(&|| Ok(x.clone()))?);
        if i > 0 {
            out.table.push(seconds.0);
            out.device.push(seconds.1);
        }
    }
    Ok(out)
}
