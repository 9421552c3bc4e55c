//! timm's plain ViT: outputs and gradients of small seeded models, and what timm says of the published ones.
//!
//! The fixtures are this project's own (`tests/fixtures-own/vit`, made by timm itself), so they are there whatever `MEDFT_FIXTURES` is.

use super::model::*;
use candle_core::{Tensor, safetensors};
use medft::model::backbone::BackboneOptions;
use medft::model::checkpoint::Checkpoint;
use medft::model::entry::Facts;
use medft::model::params::{Builder, LayerPosition};
use medft::model::plain_vit::{Config, PlainVit, Pool};
use medft::model::{BackboneEntry, registry};
use medft::study::{Protocol, Scale};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures-own/vit")
}

/// What `make.py` wrote.
pub(crate) fn described() -> Value {
    serde_json::from_slice(&std::fs::read(folder().join("vit.json")).unwrap()).unwrap()
}

fn read(name: String) -> BTreeMap<String, Tensor> {
    let all = safetensors::load(folder().join(name), &crate::compute::device()).unwrap();
    all.into_iter().collect()
}

#[test]
fn timm_vit_outputs_and_gradients() {
    if !crate::compute::ready() {
        return;
    }
    let mut worst = Worst::default();
    for case in described()["cases"].as_array().unwrap() {
        let (file, j) = (case["file"].as_str().unwrap(), &case["config"]);
        let patch = int(j, "/patch");
        let config = Config {
            embed_dim: int(j, "/embed_dim"),
            depth: int(j, "/depth"),
            num_heads: int(j, "/num_heads"),
            mlp_ratio: int(j, "/mlp_ratio"),
            patch_size: patch,
            grid: int(j, "/img") / patch,
            input_grid: None,
            layer_norm_eps: number(j, "/layer_norm_eps"),
            pre_norm: j["pre_norm"].as_bool().unwrap(),
            pool: Pool::ClassToken,
        };
        let weights = Checkpoint::from_tensors(file, read(format!("{file}.weights.safetensors")), &[]).unwrap();
        let b = Builder::from_checkpoint(weights, &crate::compute::device());
        let m = PlainVit::new(config, BackboneOptions::new(&Protocol::faithful(), 3), &b).unwrap();
        b.finish_source().unwrap();
        let io = read(format!("{file}.io.safetensors"));
        backbone_case(file, &m, &b.params(), &io, &[], &mut worst);
        all_gradients(file, &m, &b.params(), &io["input"], &serde_json::json!([]));
    }
    worst.print("timm's ViT");
}

/// Parameters, products, input statistics and layers are timm's own of the model that the bare name makes.
#[test]
fn timm_vit_facts_are_timm_s() {
    let j = described();
    for (upstream, says) in j["published"].as_object().unwrap() {
        let of = |e: &&BackboneEntry| e.facts.upstream == upstream;
        let entry = registry::all().into_iter().find(of).unwrap();
        let Facts {
            parameters,
            gmacs_224,
            feature,
            tokens,
            ..
        } = entry.facts;
        assert_eq!(says["total_params"].as_u64(), Some(parameters), "{upstream}");
        assert_eq!(says["gmacs_224"].as_f64(), Some(gmacs_224), "{upstream}");
        let shape = &says["tokens_shape"];
        assert_eq!(
            (feature, tokens),
            (int(says, "/feature_dim"), (int(shape, "/1"), int(shape, "/2")))
        );
        for (key, ours) in [("mean", entry.statistics.mean), ("std", entry.statistics.std)] {
            for (channel, value) in ours.into_iter().enumerate() {
                let theirs = number(says, &format!("/{key}/{channel}"));
                assert!((theirs - f64::from(value)).abs() < 1e-7, "{upstream} {key}");
            }
        }
        let b = Builder::shapes();
        let options = BackboneOptions::new(&Protocol::faithful(), 3);
        (entry.build)(Scale::Full, 224, options, &b).unwrap();
        let params = b.params();
        assert_eq!(params.count() as u64, parameters, "{upstream}");
        let groups = says["layer_decay_groups"].as_object().unwrap();
        assert_eq!(params.0.len(), groups.len(), "{upstream}");
        for p in &params.0 {
            let layer = match (entry.place)(&p.name) {
                LayerPosition::Stem => 0,
                LayerPosition::Block(0, block) => block + 1,
                LayerPosition::StageEnd(0) => 12,
                place => panic!("{upstream} {}: {place:?}", p.name),
            };
            assert_eq!(groups[&p.name].as_u64(), Some(layer as u64), "{upstream} {}", p.name);
        }
    }
}
