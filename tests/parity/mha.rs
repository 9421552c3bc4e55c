//! The DeiT-based head and the grey stem, against the authors' own classes.

use super::model::*;
use candle_core::{Tensor, Var};
use medft::model::backbone::{Backbone, BackboneOptions};
use medft::model::head::{BodyConfig, MhaHead};
use medft::model::params::Builder;
use medft::model::{dinov2, plain_vit};
use medft::study::Protocol;
use serde_json::Value;

/// The tiny backbone a fixture names, from its JSON.
pub(crate) fn backbone(kind: &str, j: &Value, size: usize, options: BackboneOptions, b: &Builder) -> Box<dyn Backbone> {
    if kind.starts_with("dinov2") {
        let c = dinov2::Config {
            embed_dim: int(j, "/embed_dim"),
            depth: int(j, "/depth"),
            num_heads: int(j, "/num_heads"),
            grid: int(j, "/grid"),
            ..dinov2::Config::published(0, 0, 1)
        };
        Box::new(dinov2::Dinov2::new(c, options, b).unwrap())
    } else if kind.starts_with("vit_") || kind.starts_with("mae") {
        let patch = int(j, "/patch");
        assert_eq!(int(j, "/img"), size);
        let c = plain_vit::Config {
            grid: int(j, "/img") / patch,
            ..plain_vit::Config::published(int(j, "/embed_dim"), int(j, "/depth"), int(j, "/num_heads"), patch)
        };
        Box::new(plain_vit::PlainVit::new(c, options, b).unwrap())
    } else {
        panic!("unknown kind {kind}")
    }
}

/// The DeiT body a fixture names; its patch size is not stored, so the grid is read off the position table.
pub(crate) fn body(j: &Value, pos_embed: &Tensor) -> BodyConfig {
    BodyConfig {
        embed_dim: int(j, "/embed_dim"),
        depth: int(j, "/depth"),
        num_heads: int(j, "/num_heads"),
        grid: (pos_embed.dim(1).unwrap() - 1).isqrt(),
        checkpointing: false,
    }
}

#[test]
fn mha_head_on_dinov2_and_mae_tokens() {
    if !crate::compute::ready() {
        return;
    }
    let j = family("mha/mha.json");
    let mut worst = Worst::default();
    for (case, d) in j["cases"].as_object().unwrap() {
        let c = &d["config"];
        let weights = format!("mha/{}", d["weights"].as_str().unwrap());
        let io = tensors(&format!("mha/{}", d["io"].as_str().unwrap()));
        let b = builder(&weights, &[]);
        // The fixture's names carry the scopes already: descend into them in the file instead.
        let kind = c["kind"].as_str().unwrap();
        let f = backbone(
            kind,
            &c["foundation"],
            int(c, "/size"),
            BackboneOptions::new(&Protocol::faithful(), 3),
            &b.pp("foundation_model.backbone"),
        );
        let all = tensors(&weights);
        let head = MhaHead::new_at(
            f.token_dim(),
            int(c, "/n_classes"),
            body(&c["deit"], &all["main_model.backbone.pos_embed"]),
            &b.pp("linear_projector"),
            &b.pp("main_model.backbone"),
            &b.pp("main_model.fc"),
        )
        .unwrap();
        b.finish_source().unwrap();
        let x = Var::from_tensor(&io["input"]).unwrap();
        let tokens = f.forward(x.as_tensor()).unwrap().tokens;
        close(
            &format!("{case} tokens"),
            &tokens,
            &io["tokens"],
            OUTPUT,
            &mut worst.output,
        );
        let mut heard = std::collections::BTreeMap::new();
        let logits = head
            .forward_observed(&tokens, &mut |n, t| {
                heard.insert(n.to_owned(), t.clone());
            })
            .unwrap();
        heard.insert("logits".into(), logits.clone());
        for (k, want) in &io {
            let Some(n) = k.strip_prefix("out.") else { continue };
            if n == "norm" || n == "projector.linear" {
                continue;
            }
            close(&format!("{case} {k}"), &heard[n], want, OUTPUT, &mut worst.output);
        }
        let labels = io["labels"].to_dtype(candle_core::DType::U32).unwrap();
        let ce = candle_nn::loss::cross_entropy(&logits, &labels).unwrap();
        close(
            &format!("{case} cross entropy"),
            &ce,
            &io["cross_entropy"],
            OUTPUT,
            &mut worst.output,
        );
        let store = backward(&(&logits * &io["loss.weight"]).unwrap().sum_all().unwrap()).unwrap();
        let mut grads = io.clone();
        grads.remove("grad.tokens");
        check_gradients(case, "grad", &store, &x, &b.params(), "", &grads, &mut worst);
        no_gradient(case, &store, &b.params(), &d["no_grad_params"]);
    }
    worst.print("mha");
}

#[test]
fn mha_position_tables() {
    if !crate::compute::ready() {
        return;
    }
    let t = tensors("mha/deit_posembed_tables.safetensors");
    let table = &t["pos_embed"];
    let grid = (table.dim(1).unwrap() - 1).isqrt();
    let mut worst = Worst::default();
    for (k, want) in t.iter().filter(|(k, _)| k.starts_with("out.")) {
        let got = medft::model::head::deit_positions(table, grid, want.dim(1).unwrap() - 1).unwrap();
        close(k, &got, want, OUTPUT, &mut worst.output);
    }
    worst.print("mha positions");
}

#[test]
fn grey_stem_is_the_red_kernel() {
    if !crate::compute::ready() {
        return;
    }
    let j = family("grey/grey.json");
    let mut worst = Worst::default();
    for (case, d) in j["cases"].as_object().unwrap() {
        let b = builder(&format!("grey/{}", d["weights"].as_str().unwrap()), &[]);
        let io = tensors(&format!("grey/{}", d["io"].as_str().unwrap()));
        let f = backbone(
            case,
            &d["config"],
            int(d, "/input_size"),
            BackboneOptions::new(&Protocol::faithful(), 1),
            &b,
        );
        let fc = medft::model::vit::default_linear(f.feature_dim(), int(d, "/n_classes"), &b.pp("fc")).unwrap();
        b.finish_source().unwrap();
        let stem = "patch_embed.proj.weight";
        let adapted = &io[&format!("{stem}.adapted")];
        assert_eq!(
            error("adapted kernel", &b.params().get(stem).unwrap().tensor, adapted),
            0.0
        );
        let x = Var::from_tensor(&io["input"]).unwrap();
        let feature = f.forward(x.as_tensor()).unwrap().pooled;
        let logits = fc.forward(&feature).unwrap();
        close(
            &format!("{case} feature"),
            &feature,
            &io["out.feature"],
            OUTPUT,
            &mut worst.output,
        );
        close(
            &format!("{case} logits"),
            &logits,
            &io["out.logits"],
            OUTPUT,
            &mut worst.output,
        );
        let store = backward(&(&logits * &io["loss.weight"]).unwrap().sum_all().unwrap()).unwrap();
        check_gradients(case, "grad", &store, &x, &b.params(), "", &io, &mut worst);
    }
    worst.print("grey");
}
