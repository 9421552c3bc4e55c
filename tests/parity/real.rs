//! The real configurations at 224 px, one after the other, with weights from the hash formula that each JSON file states.
//!
//! A test per backbone, so that one can be run alone (`cargo test --release --test parity real_mae_h`); a lock keeps two of
//! them from holding their weights at the same time.

use super::common::fixtures;
use super::model::*;
use candle_core::{Device, Tensor};
use medft::model::backbone::BackboneOptions;
use medft::model::checkpoint::Checkpoint;
use medft::model::params::Builder;
use medft::model::{facts, registry};
use medft::spec::protocol::Dinov2Tokens;
use medft::study::{Protocol, Scale};
use rayon::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Mutex;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// FNV-1a, 32 bits.
fn fnv(s: &str) -> u32 {
    s.bytes()
        .fold(0x811c_9dc5, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

/// `shift + scale · u` for every flat index, as the JSON's `formula` says.
fn hashed(salt: &str, name: &str, dims: &[usize], shift: f32, scale: f32) -> Tensor {
    let seed = fnv(&format!("{salt}/{name}"));
    let n: usize = dims.iter().product();
    let values: Vec<f32> = (0..n as u32)
        .into_par_iter()
        .with_min_len(1 << 16)
        .map(|i| {
            let mut h = i.wrapping_add(seed).wrapping_mul(0x9E37_79B1);
            h = (h ^ (h >> 16)).wrapping_mul(0x85EB_CA6B);
            h = (h ^ (h >> 13)).wrapping_mul(0xC2B2_AE35);
            h ^= h >> 16;
            let u = (h >> 8) as f32 * (1.0 / 8_388_608.0) - 1.0;
            shift + scale * u
        })
        .collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

fn dims(j: &Value) -> Vec<usize> {
    j.as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_u64().unwrap() as usize)
        .collect()
}

/// The tensors of a variant.
fn weights(j: &Value) -> BTreeMap<String, Tensor> {
    let salt = j["salt"].as_str().unwrap();
    let tensors = j["tensors"].as_array().unwrap();
    tensors
        .iter()
        .map(|t| {
            let name = t[0].as_str().unwrap();
            let (shift, scale) = (number(t, "/2") as f32, number(t, "/3") as f32);
            (name.to_owned(), hashed(salt, name, &dims(&t[1]), shift, scale))
        })
        .collect()
}

/// Holds one block's output against its line of the ladder; returns the largest error relative to the mean magnitude.
fn rung(name: &str, got: &Tensor, want: &Value) -> f64 {
    assert_eq!(got.dims(), dims(&want["shape"]), "{name}: shape");
    let v: Vec<f32> = got.flatten_all().unwrap().to_vec1().unwrap();
    let n = v.len() as f64;
    let scale = number(want, "/abs_mean");
    let mean = v.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let abs_mean = v.iter().map(|&x| f64::from(x).abs()).sum::<f64>() / n;
    let mut worst = (mean - number(want, "/mean")).abs().max((abs_mean - scale).abs()) / scale;
    for (i, w) in want["first"].as_array().unwrap().iter().enumerate() {
        worst = worst.max((f64::from(v[i]) - w.as_f64().unwrap()).abs() / scale);
    }
    // Against the mean magnitude, not the largest: float32 leaves single values of a deep block some 5e-6 apart.
    assert!(worst <= 3e-5, "{name}: relative error {worst:.3e}");
    worst
}

fn real(name: &str) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let fact = facts::find(name).unwrap();
    let entry = registry::find(name).unwrap();
    if std::env::var_os("MEDFT_FIXTURES").is_some() && !fixtures().join(format!("real/{}.json", fact.upstream)).exists()
    {
        crate::common::skip::skipped(&format!("{name} is not in this fixture set"));
        return;
    }
    let j = family(&format!("real/{}.json", fact.upstream));
    let rules = entry.layouts[0].1;
    let c = Checkpoint::from_tensors(name, weights(&j), rules).unwrap();
    let b = Builder::from_checkpoint(c, &Device::Cpu).trainable(false);
    let mut options = BackboneOptions::new(&Protocol::faithful(), 3);
    if entry.family == "CLIP" {
        // open_clip's tokens; PROTOCOL 3.7's are those of the last block, which the ladder holds.
        options.dinov2_tokens = Dinov2Tokens::Normed;
    }
    let io = tensors(&format!("real/{}.safetensors", fact.upstream));
    let m = (entry.build)(Scale::Full, 224, options, &b).unwrap();
    b.finish_source().unwrap();
    drop(b);
    // "1.5 * u('input'), shape (1, 3, 224, 224)"
    let x = hashed(j["salt"].as_str().unwrap(), "input", &[1, 3, 224, 224], 0.0, 1.5);
    assert!(j["input"].as_str().unwrap().starts_with("1.5 * u('input')"));
    let ladder = j["ladder"].as_array().unwrap();
    let (mut rungs, mut worst_rung) = (0, 0f64);
    let f = m
        .forward_observed(&x, &mut |n, t| {
            let numbers: Vec<&str> = n.split('.').filter(|s| s.parse::<usize>().is_ok()).collect();
            let block = match numbers[..] {
                [i] if n == format!("block.{i}") => format!("blocks.{i}"),
                [i, j] if n == format!("layer.{i}.block.{j}") => format!("layers.{i}.blocks.{j}"),
                _ => return,
            };
            let want = &ladder[rungs];
            assert!(want["block"].as_str().unwrap().ends_with(&block), "{name} {n}: {want}");
            worst_rung = worst_rung.max(rung(&format!("{name} {n}"), t, want));
            rungs += 1;
        })
        .unwrap();
    assert_eq!(rungs, ladder.len(), "{name}: blocks");
    let mut worst = 0f64;
    close(
        &format!("{name} feature"),
        &f.pooled,
        &io["feature"],
        OUTPUT,
        &mut worst,
    );
    assert_eq!(f.tokens.dims(), dims(&j["tokens_shape"]), "{name}");
    let n = f.tokens.dim(1).unwrap();
    let every = Tensor::from_vec(
        (0..n as u32).step_by(16).collect::<Vec<_>>(),
        n.div_ceil(16),
        &Device::Cpu,
    )
    .unwrap();
    let some = f.tokens.index_select(&every, 1).unwrap();
    close(
        &format!("{name} tokens"),
        &some,
        &io["tokens_every_16"],
        OUTPUT,
        &mut worst,
    );
    println!("real {name}: largest relative error of outputs {worst:.2e}, of {rungs} blocks {worst_rung:.2e}");
}

macro_rules! reals {
    ($($test:ident $name:literal)+) => { $(#[test] fn $test() { real($name); })+ };
}
reals! {
    real_aimv2_l "aimv2-l"
    real_aimv2_h "aimv2-h"
    real_dinov2_s "dinov2-s"
    real_dinov2_b "dinov2-b"
    real_dinov2_l "dinov2-l"
    real_sam2_b "sam2-b"
    real_sam2_l "sam2-l"
    real_mae_b "mae-b"
    real_mae_l "mae-l"
    real_mae_h "mae-h"
    real_vmamba_s "vmamba-s"
    real_vmamba_b "vmamba-b"
    real_coca_b "coca-b"
    real_coca_l "coca-l"
    real_clip_b "clip-b"
}

/// The largest encoders, read from files and run at batch 8: the most memory the process ever held.
///
/// Writes 2.7 GB and measures the whole process, so it runs alone and on demand:
/// `cargo test --release --test parity memory_of_the_largest -- --ignored --nocapture`.
#[test]
#[ignore = "writes 2.7 GB; run it alone"]
fn memory_of_the_largest_encoders() {
    let gib = |key: &str| -> f64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1_048_576.0
    };
    for name in ["aimv2-h", "mae-h"] {
        let (fact, entry) = (facts::find(name).unwrap(), registry::find(name).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.safetensors");
        let all: std::collections::HashMap<_, _> = weights(&family(&format!("real/{}.json", fact.upstream)))
            .into_iter()
            .collect();
        candle_core::safetensors::save(&all, &path).unwrap();
        drop(all);
        for (trainable, checkpointing) in [(false, false), (true, true)] {
            // Starts the high-water mark anew.
            std::fs::write("/proc/self/clear_refs", "5").unwrap();
            let before = gib("VmRSS");
            let file = medft::model::WeightsFile {
                sha256: None,
                path: path.clone(),
                layout: entry.layouts[0].0.to_owned(),
            };
            let b = Builder::from_checkpoint(registry::open(entry, &file).unwrap(), &Device::Cpu).trainable(trainable);
            let options = BackboneOptions {
                checkpointing,
                ..BackboneOptions::new(&Protocol::faithful(), 3)
            };
            let m = (entry.build)(Scale::Full, 224, options, &b).unwrap();
            b.finish_source().unwrap();
            drop(b);
            let loaded = gib("VmHWM");
            std::fs::write("/proc/self/clear_refs", "5").unwrap();
            let x = hashed("memory", "input", &[8, 3, 224, 224], 0.0, 1.5);
            let f = m.forward(&x).unwrap();
            let forward = gib("VmHWM");
            println!(
                "{name}, trainable {trainable}, checkpointing {checkpointing}: {before:.2} GiB before, at most {loaded:.2} \
                 while loading, {forward:.2} in the forward pass of 8 images"
            );
            assert_eq!(f.pooled.dims(), [8, fact.feature]);
            assert!(loaded.max(forward) < 6e9 / 1_073_741_824.0, "{name}");
        }
    }
}

#[test]
fn real_covers_every_backbone_of_the_registry() {
    // timm's ViT has small fixtures alone: its blocks and shapes are those of MAE-B, which is here.
    let own = super::timm_vit::described();
    let listed = facts::all()
        .into_iter()
        .filter(|f| own["published"].get(f.1.upstream).is_none());
    for name in listed.map(|f| f.0).filter(|n| registry::find(n).is_ok()) {
        let test = format!("real_{}", name.replace('-', "_"));
        assert!(
            include_str!("real.rs").contains(&format!("{test} \"{name}\"")),
            "{name}"
        );
    }
}
