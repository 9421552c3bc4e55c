//! DINOv2 against facebookresearch/dinov2 (hub) and transformers (HF).

use super::model::*;
use medft::model::backbone::{Backbone, BackboneOptions};
use medft::model::dinov2::{Config, Dinov2, HF};
use medft::spec::protocol::PositionRule;
use medft::study::Protocol;

fn config(j: &serde_json::Value) -> Config {
    Config {
        embed_dim: int(j, "/embed_dim"),
        depth: int(j, "/depth"),
        num_heads: int(j, "/num_heads"),
        mlp_ratio: int(j, "/mlp_ratio"),
        patch_size: int(j, "/patch_size"),
        grid: int(j, "/grid"),
        layer_norm_eps: number(j, "/layer_norm_eps"),
        init_values: number(j, "/init_values") as f32,
        interpolate_offset: number(j, "/interpolate_offset"),
    }
}

#[test]
fn dinov2_outputs_and_gradients() {
    if !crate::compute::ready() {
        return;
    }
    let j = family("dinov2/dinov2.json");
    let c = config(&j["config"]);
    let mut worst = Worst::default();
    for (file, rules) in [("dinov2.weights", &[][..]), ("dinov2_hf.weights", HF)] {
        let b = builder(&format!("dinov2/{file}.safetensors"), rules);
        let m = Dinov2::new(c, BackboneOptions::new(&Protocol::faithful(), 3), &b).unwrap();
        b.finish_source().unwrap();
        for (case, d) in j["cases"].as_object().unwrap() {
            let io = tensors(&format!("dinov2/{}", d["file"].as_str().unwrap()));
            backbone_case(
                &format!("{file} {case}"),
                &m,
                &b.params(),
                &io,
                &["norm", "norm1", "attn", "ls1", "mlp"],
                &mut worst,
            );
            let y = backward(&m.forward(&io["input"]).unwrap().pooled.sum_all().unwrap()).unwrap();
            no_gradient(case, &y, &b.params(), &j["no_grad_params"]);
        }
    }
    worst.print("dinov2");
}

#[test]
fn dinov2_huggingface_position_rule() {
    if !crate::compute::ready() {
        return;
    }
    let j = family("dinov2/dinov2.json");
    let mut p = Protocol::faithful();
    p.position_rule = PositionRule::Size;
    let b = builder("dinov2/dinov2_hf.weights.safetensors", HF);
    let m = Dinov2::new(config(&j["config"]), BackboneOptions::new(&p, 3), &b).unwrap();
    let mut worst = Worst::default();
    for (case, d) in j["cases"].as_object().unwrap() {
        let io = tensors(&format!("dinov2/{}", d["file"].as_str().unwrap()));
        let f = m.forward(&io["input"]).unwrap();
        close(case, &f.pooled, &io["hf.out.feature"], OUTPUT, &mut worst.output);
    }
    worst.print("dinov2, HF positions");
}

#[test]
fn dinov2_published_position_table() {
    if !crate::compute::ready() {
        return;
    }
    let j = family("dinov2/dinov2.json");
    let t = tensors(&format!(
        "dinov2/{}",
        j["posembed_518_to_224"]["file"].as_str().unwrap()
    ));
    let table = &t["pos_embed"];
    let m = (table.dim(1).unwrap() - 1).isqrt();
    let g = (t["hub.out"].dim(1).unwrap() - 1).isqrt();
    let offset = number(&j, "/config/interpolate_offset");
    let mut worst = Worst::default();
    for (key, o) in [("hub.out", offset), ("hf.out", 0.0)] {
        let step = 1.0 / ((g as f64 + o) / m as f64);
        let patches = table.narrow(1, 1, m * m).unwrap();
        let got = medft_nn::resize_table(&patches, (m, m), (g, g), (step, step)).unwrap();
        let want = t[key].narrow(1, 1, g * g).unwrap();
        close(key, &got, &want, OUTPUT, &mut worst.output);
    }
    worst.print("dinov2 positions");
}
