//! AIMv2 against apple/ml-aim, in Apple's layout and that of transformers.

use super::model::*;
use medft::model::aimv2::{Aimv2, Config, HF};
use medft::model::backbone::BackboneOptions;
use medft::study::Protocol;

fn config(j: &serde_json::Value) -> Config {
    let patch = int(j, "/patch_size");
    Config {
        embed_dim: int(j, "/embed_dim"),
        depth: int(j, "/num_blocks"),
        num_heads: int(j, "/num_heads"),
        mlp_hidden_dim: int(j, "/mlp_hidden_dim"),
        patch_size: patch,
        grid: int(j, "/img") / patch,
        rms_norm_eps: number(j, "/rms_norm_eps"),
    }
}

#[test]
fn aimv2_outputs_and_gradients() {
    if !crate::compute::ready() {
        return;
    }
    let j = family("aimv2/aimv2.json");
    let c = config(&j["config"]);
    let mut worst = Worst::default();
    for (file, rules) in [("aimv2.weights", &[][..]), ("aimv2_native.weights", HF)] {
        for (case, d) in j["cases"].as_object().unwrap() {
            let name = format!("{file} {case}");
            let io = tensors(&format!("aimv2/{}", d["file"].as_str().unwrap()));
            let b = builder(&format!("aimv2/{file}.safetensors"), rules);
            let m = Aimv2::new(c, BackboneOptions::new(&Protocol::faithful(), 3), &b).unwrap();
            b.finish_source().unwrap();
            let ignore = ["norm1", "attn", "mlp", "patchifier.proj"];
            backbone_case(&name, &m, &b.params(), &io, &ignore, &mut worst);
            all_gradients(&name, &m, &b.params(), &io["input"], &j["no_grad_params"]);
        }
    }
    worst.print("aimv2");
}
