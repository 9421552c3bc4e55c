//! SAM 2.1's image encoder against facebookresearch/sam2.

use super::model::*;
use medft::model::backbone::BackboneOptions;
use medft::model::hiera;
use medft::model::sam2::{Config, PT, Sam2};
use medft::study::Protocol;
use serde_json::Value;

fn list(j: &Value) -> Vec<usize> {
    j.as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_u64().unwrap() as usize)
        .collect()
}

fn pair(j: &Value) -> (usize, usize) {
    (int(j, "/0"), int(j, "/1"))
}

fn config(j: &Value) -> Config {
    assert_eq!(j["fpn_interp_model"], "nearest");
    Config {
        trunk: hiera::Config {
            embed_dim: int(j, "/embed_dim"),
            num_heads: int(j, "/num_heads"),
            stages: list(&j["stages"]),
            global_att_blocks: list(&j["global_att_blocks"]),
            window_spec: list(&j["window_spec"]),
            window_pos_embed_bkg_spatial_size: pair(&j["window_pos_embed_bkg_spatial_size"]),
            q_pool: int(j, "/q_pool"),
            q_stride: pair(&j["q_stride"]),
            dim_mul: number(j, "/dim_mul"),
            head_mul: number(j, "/head_mul"),
            mlp_ratio: number(j, "/mlp_ratio"),
            layer_norm_eps: number(j, "/layer_norm_eps"),
        },
        d_model: int(j, "/d_model"),
        fpn_top_down_levels: list(&j["fpn_top_down_levels"]),
        scalp: int(j, "/scalp"),
    }
}

#[test]
fn sam2_outputs_and_gradients() {
    if !crate::compute::ready() {
        return;
    }
    let j = family("sam2/sam2.json");
    let mut worst = Worst::default();
    for (variant, v) in j["variants"].as_object().unwrap() {
        let c = config(&v["config"]);
        for (i, (plan, want)) in c
            .trunk
            .blocks()
            .iter()
            .zip(v["config"]["blocks"].as_array().unwrap())
            .enumerate()
        {
            let (dims, heads) = ((plan.dim, plan.dim_out), plan.heads);
            assert_eq!(
                (dims, heads),
                ((int(want, "/dim"), int(want, "/dim_out")), int(want, "/heads"))
            );
            assert_eq!(plan.window, int(want, "/window"), "{variant}: block {i}");
            assert_eq!(plan.q_pool, want["q_pool"].as_bool().unwrap(), "{variant}: block {i}");
        }
        let b = builder(&format!("sam2/{}", v["weights"].as_str().unwrap()), PT);
        let m = Sam2::new(&c, BackboneOptions::new(&Protocol::faithful(), 3), &b).unwrap();
        b.finish_source().unwrap();
        for (case, d) in v["cases"].as_object().unwrap() {
            let name = format!("{variant} {case}");
            let io = tensors(&format!("sam2/{}", d["file"].as_str().unwrap()));
            backbone_case(&name, &m, &b.params(), &io, &[], &mut worst);
            use medft::model::Backbone;
            let store = backward(&m.forward(&io["input"]).unwrap().pooled.sum_all().unwrap()).unwrap();
            no_gradient(&name, &store, &b.params(), &v["no_grad_params"]);
        }
    }
    worst.print("sam2");
}

#[test]
fn sam2_position_tables() {
    if !crate::compute::ready() {
        return;
    }
    let t = tensors("sam2/posembed_tables.safetensors");
    let mut worst = Worst::default();
    let mut compared = 0;
    for (key, table) in &t {
        let Some(variant) = key.strip_suffix(".pos_embed") else {
            continue;
        };
        let window = &t[&format!("{variant}.pos_embed_window")];
        for (key, want) in &t {
            let Some(side) = key.strip_prefix(&format!("{variant}.out.")) else {
                continue;
            };
            let side: usize = side.parse().unwrap();
            let got = hiera::positions(table, window, (side, side)).unwrap();
            // A full table, or every 16th row and column of it.
            let step = side / want.dim(1).unwrap();
            let every: Vec<u32> = (0..side as u32).step_by(step).collect();
            let every = candle_core::Tensor::new(every, &crate::compute::device()).unwrap();
            let got = got.index_select(&every, 1).unwrap().index_select(&every, 2).unwrap();
            close(key, &got, want, OUTPUT, &mut worst.output);
            compared += 1;
        }
    }
    assert!(compared > 0);
    worst.print("sam2 positions");
}
