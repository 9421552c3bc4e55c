//! MAE against the authors' class on timm, in the original and the Hugging Face layout.

use super::model::*;
use medft::model::backbone::BackboneOptions;
use medft::model::mae::HF;
use medft::model::plain_vit::{Config, PlainVit, Pool};
use medft::study::Protocol;

fn config(j: &serde_json::Value, input: &serde_json::Value) -> Config {
    let patch = int(j, "/patch");
    Config {
        embed_dim: int(j, "/embed_dim"),
        depth: int(j, "/depth"),
        num_heads: int(j, "/num_heads"),
        mlp_ratio: int(j, "/mlp_ratio"),
        patch_size: patch,
        grid: int(j, "/img") / patch,
        input_grid: Some((int(input, "/0") / patch, int(input, "/1") / patch)),
        layer_norm_eps: number(j, "/layer_norm_eps"),
        pre_norm: false,
        pool: Pool::MeanPatches,
    }
}

#[test]
fn mae_outputs_and_gradients() {
    if !crate::compute::ready() {
        return;
    }
    let j = family("mae/mae.json");
    let mut worst = Worst::default();
    for (file, rules) in [("mae.weights", &[][..]), ("mae_hf.weights", HF)] {
        for (case, d) in j["cases"].as_object().unwrap() {
            // The table is resized when it is loaded, so each input size is a model of its own.
            let b = builder(&format!("mae/{file}.safetensors"), rules);
            let c = config(&j["config"], &d["input_size"]);
            let m = PlainVit::new(c, BackboneOptions::new(&Protocol::faithful(), 3), &b).unwrap();
            b.finish_source().unwrap();
            let io = tensors(&format!("mae/{}", d["file"].as_str().unwrap()));
            let name = format!("{file} {case}");
            backbone_case(&name, &m, &b.params(), &io, &["norm1", "attn", "mlp"], &mut worst);
            all_gradients(&name, &m, &b.params(), &io["input"], &j["no_grad_params"]);
        }
    }
    worst.print("mae");
}
