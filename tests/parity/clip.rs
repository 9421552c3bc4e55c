//! CLIP against open_clip, with both activations, in the open_clip and the Hugging Face layout.

use super::model::*;
use medft::model::backbone::{Backbone, BackboneOptions};
use medft::model::clip::{CLIP_B, Clip, Config, HF, TowerConfig, WHOLE};
use medft::model::vit::Act;
use medft::spec::protocol::Dinov2Tokens;
use medft::study::Protocol;

/// The tower that CLIP's and CoCa's fixtures describe in the same words.
pub(crate) fn tower(j: &serde_json::Value) -> TowerConfig {
    let patch = int(j, "/patch");
    TowerConfig {
        width: int(j, "/width"),
        depth: int(j, "/depth"),
        heads: int(j, "/heads"),
        mlp_ratio: int(j, "/mlp_ratio"),
        patch_size: patch,
        grid: int(j, "/img") / patch,
        layer_norm_eps: number(j, "/layer_norm_eps"),
    }
}

fn act(case: &serde_json::Value) -> Act {
    match case["act"].as_str().unwrap() {
        a if a.contains("1.702") => Act::QuickGelu,
        a if a.contains("erf") => Act::GeluErf,
        a => panic!("unknown activation {a}"),
    }
}

#[test]
fn clip_outputs_and_gradients() {
    if !crate::compute::ready() {
        return;
    }
    let j = family("clip/clip.json");
    let c = Config {
        tower: tower(&j["config"]),
        embed_dim: int(&j["config"], "/embed_dim"),
    };
    let last = format!("out.block.{}", c.tower.depth - 1);
    let mut worst = Worst::default();
    for (file, rules) in [("clip.weights", WHOLE), ("clip_hf.weights", HF)] {
        for (case, d) in j["cases"].as_object().unwrap() {
            let name = format!("{file} {case}");
            let io = tensors(&format!("clip/{}", d["file"].as_str().unwrap()));
            let options = BackboneOptions {
                activation: act(d),
                // Stock open_clip returns the tokens after the final norm; the fixture's losses are on those.
                dinov2_tokens: Dinov2Tokens::Normed,
                ..BackboneOptions::new(&Protocol::faithful(), 3)
            };
            let b = builder(&format!("clip/{file}.safetensors"), rules);
            let m = Clip::new(c, options, &b).unwrap();
            b.finish_source().unwrap();
            backbone_case(&name, &m, &b.params(), &io, &["conv1"], &mut worst);
            all_gradients(&name, &m, &b.params(), &io["input"], &j["no_grad_params"]);

            // The intended path of PROTOCOL 3.7: the patches of the last block as they are, the same pooled vector.
            let b = builder(&format!("clip/{file}.safetensors"), rules);
            let options = BackboneOptions {
                activation: act(d),
                ..BackboneOptions::new(&Protocol::faithful(), 3)
            };
            let f = Clip::new(c, options, &b).unwrap().forward(&io["input"]).unwrap();
            let want = io[&last].narrow(1, 1, io[&last].dim(1).unwrap() - 1).unwrap();
            close(
                &format!("{name} unnormed tokens"),
                &f.tokens,
                &want,
                OUTPUT,
                &mut worst.output,
            );
            close(
                &format!("{name} feature"),
                &f.pooled,
                &io["out.feature"],
                OUTPUT,
                &mut worst.output,
            );
        }
    }
    worst.print("clip");
}

#[test]
fn clip_activation_is_that_of_the_weights() {
    if !crate::compute::ready() {
        return;
    }
    let j = family("clip/clip.json");
    for (case, d) in j["cases"].as_object().unwrap() {
        let layout = match d["use"].as_str().unwrap() {
            u if u.contains("laion") => "open_clip",
            u if u.contains("OpenAI") => "hf",
            u => panic!("{case}: unknown weights {u}"),
        };
        assert_eq!((CLIP_B.activation)(layout), act(d), "{case}");
    }
}
