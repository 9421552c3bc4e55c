//! VMamba against MzeroMiko/VMamba.

use super::model::*;
use candle_core::{Tensor, Var};
use medft::model::Backbone;
use medft::model::backbone::BackboneOptions;
use medft::model::checkpoint::Checkpoint;
use medft::model::params::Builder;
use medft::model::vmamba::{Config, VSSM, Vmamba};
use medft::study::Protocol;
use medft_nn::precision::{Compute, scope};
use medft_nn::{Orders, SelectiveScan, cross_merge, cross_scan};
use serde_json::Value;
use std::collections::BTreeMap;

fn list(j: &Value) -> Vec<usize> {
    j.as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_u64().unwrap() as usize)
        .collect()
}

fn config(j: &Value) -> Config {
    let act = j["act"].as_str().unwrap();
    assert!(act.contains("silu in SS2D") && act.contains("gelu (erf)"), "{act}");
    Config {
        dims: list(&j["dims"]),
        depths: list(&j["depths"]),
        d_state: int(j, "/d_state"),
        d_conv: int(j, "/d_conv"),
        conv_bias: j["conv_bias"].as_bool().unwrap(),
        dt_rank: j["dt_rank"].as_u64().map(|r| r as usize),
        ssm_ratio: number(j, "/ssm_ratio"),
        mlp_ratio: number(j, "/mlp_ratio"),
        layer_norm_eps: number(j, "/layer_norm_eps"),
    }
}

#[test]
fn vmamba_outputs_and_gradients() {
    if !crate::compute::ready() {
        return;
    }
    let j = family("vmamba/vmamba.json");
    let mut worst = Worst::default();
    for file in j["weights"].as_object().unwrap().keys() {
        let b = builder(&format!("vmamba/{file}"), VSSM);
        let m = Vmamba::new(
            &config(&j["config"]),
            BackboneOptions::new(&Protocol::faithful(), 3),
            &b,
        )
        .unwrap();
        b.finish_source().unwrap();
        for (case, d) in j["cases"].as_object().unwrap() {
            let io = tensors(&format!("vmamba/{}", d["file"].as_str().unwrap()));
            let name = format!("{file} {case}");
            backbone_case(&name, &m, &b.params(), &io, &["logits"], &mut worst);
            let store = backward(&m.forward(&io["input"]).unwrap().pooled.sum_all().unwrap()).unwrap();
            // The ImageNet head, which upstream leaves without gradient, is not part of the encoder.
            for p in j["no_grad_params"].as_array().unwrap() {
                assert!(p.as_str().unwrap().starts_with("classifier.head."), "{p}");
            }
            no_gradient(&name, &store, &b.params(), &Value::Array(vec![]));
            if crate::compute::SIXTEEN_BITS {
                gradients_in_bf16(&name, &m, &b, &io);
            }
        }
    }
    worst.print("vmamba");
}

/// Bound of all gradients together in bfloat16, in norm; upstream's classes under PyTorch's bf16 autocast (2.15 on a CPU, with
/// CUDA's rules) are off by 4.1e-2 and 4.6e-2.
const BF16_GRADIENT: f64 = 4e-2;

fn gradients_in_bf16(name: &str, m: &Vmamba, b: &Builder, io: &BTreeMap<String, Tensor>) {
    let run = || {
        let feature = m.forward(&io["input"]).unwrap().pooled;
        backward(&(feature * &io["loss.weight"]).unwrap().sum_all().unwrap()).unwrap()
    };
    let e = distance(&b.params(), &scope(Compute::Bfloat16, run), &run());
    println!("{name}: relative error of gradients in bf16 {e:.1e}");
    assert!(e <= BF16_GRADIENT, "{name}: gradients in bf16 are off by {e:.2e}");
}

/// Linear weights stored as 1×1 convolutions give the same model, and a transposed one is refused.
#[test]
fn vmamba_reads_linear_weights_as_convolutions() {
    if !crate::compute::ready() {
        return;
    }
    let j = family("vmamba/vmamba.json");
    let c = config(&j["config"]);
    let file = j["weights"].as_object().unwrap().keys().next().unwrap().clone();
    let io = tensors(&format!("vmamba/{}", j["cases"]["native"]["file"].as_str().unwrap()));
    let run = |t: BTreeMap<String, Tensor>| -> anyhow::Result<Tensor> {
        let b = Builder::from_checkpoint(Checkpoint::from_tensors(&file, t, VSSM)?, &crate::compute::device());
        let m = Vmamba::new(&c, BackboneOptions::new(&Protocol::faithful(), 3), &b)?;
        Ok(m.forward(&io["input"])?.pooled)
    };
    let plain = tensors(&format!("vmamba/{file}"));
    let is_linear = |n: &str| {
        ["in_proj.weight", "out_proj.weight", "fc1.weight", "fc2.weight"]
            .iter()
            .any(|s| n.ends_with(s))
    };
    let convolutions = |f: fn(&Tensor) -> Tensor| -> BTreeMap<String, Tensor> {
        plain
            .iter()
            .map(|(n, t)| (n.clone(), if is_linear(n) { f(t) } else { t.clone() }))
            .collect()
    };
    let a = run(plain.clone()).unwrap();
    let b = run(convolutions(|t| t.unsqueeze(2).unwrap().unsqueeze(3).unwrap())).unwrap();
    assert_eq!(error("1×1 convolutions", &b, &a), 0.0);
    let e = run(convolutions(|t| t.t().unwrap().contiguous().unwrap())).unwrap_err();
    assert!(e.to_string().contains("shape"), "{e:#}");
}

#[test]
fn vmamba_cross_scan_and_merge() {
    if !crate::compute::ready() {
        return;
    }
    let t = tensors("vmamba/ops.safetensors");
    let mut worst = Worst::default();
    // (B, C, H, W) → (B, L, C), the layout of the project's maps.
    let (b, c, h, w) = t["cross_scan.x"].dims4().unwrap();
    let orders = Orders::cross(h, w);
    let x = Var::from_tensor(&t["cross_scan.x"]).unwrap();
    let flat = |x: &Tensor| {
        let (b, c, h, w) = x.dims4().unwrap();
        x.reshape((b, c, h * w))
            .unwrap()
            .transpose(1, 2)
            .unwrap()
            .contiguous()
            .unwrap()
    };
    let y = cross_scan(&flat(x.as_tensor()), &orders)
        .unwrap()
        .transpose(2, 3)
        .unwrap();
    let y = y.contiguous().unwrap();
    close("cross_scan.y", &y, &t["cross_scan.y"], OUTPUT, &mut worst.output);
    let store = backward(&(y * &t["cross_scan.loss.weight"]).unwrap().sum_all().unwrap()).unwrap();
    let got = &store.get(x.as_tensor()).unwrap().unwrap();
    assert_eq!(got.dims(), [b, c, h, w]);
    close(
        "cross_scan.grad.x",
        got,
        &t["cross_scan.grad.x"],
        GRADIENT,
        &mut worst.gradient,
    );
    let (b, k, d, h, w) = t["cross_merge.y"].dims5().unwrap();
    let y = t["cross_merge.y"].reshape((b, k, d, h * w)).unwrap();
    let y = y.transpose(2, 3).unwrap().contiguous().unwrap();
    let got = cross_merge(&y, &Orders::cross(h, w)).unwrap();
    let got = got.transpose(1, 2).unwrap().contiguous().unwrap();
    close("cross_merge.x", &got, &t["cross_merge.x"], OUTPUT, &mut worst.output);
    worst.print("vmamba cross-scan and merge");
}

/// Upstream's general scan has its own input for every direction: each is run here as a scan of one direction whose step
/// sizes are given directly (the identity as their projection).
#[test]
fn vmamba_selective_scan() {
    if !crate::compute::ready() {
        return;
    }
    let t = tensors("vmamba/ops.safetensors");
    let mut worst = Worst::default();
    let prefixes: Vec<String> = t
        .keys()
        .filter_map(|k| k.strip_suffix(".delta_bias").filter(|k| !k.contains(".grad")))
        .map(str::to_owned)
        .collect();
    assert!(!prefixes.is_empty());
    for p in prefixes {
        let get = |n: &str| &t[&format!("{p}.{n}")];
        let (_, kd, l) = get("u").dims3().unwrap();
        let (_, k, n, _) = get("B").dims4().unwrap();
        let d = kd / k;
        for i in 0..k {
            // This direction's part of a tensor, with positions before channels.
            let rows = |n: &str| {
                get(n)
                    .narrow(1, i * d, d)
                    .unwrap()
                    .transpose(1, 2)
                    .unwrap()
                    .contiguous()
                    .unwrap()
            };
            let states = |n: &str| {
                let s = get(n).narrow(1, i, 1).unwrap().squeeze(1).unwrap();
                s.transpose(1, 2).unwrap().contiguous().unwrap()
            };
            let own = |n: &str| get(n).narrow(0, i * d, d).unwrap().contiguous().unwrap();
            let var = |x: Tensor| Var::from_tensor(&x).unwrap();
            let u = var(rows("u"));
            let projected = var(Tensor::cat(&[rows("delta"), states("B"), states("C")], 2).unwrap());
            let a_log = var(own("A").neg().unwrap().log().unwrap());
            let (skip, bias) = (var(own("D")), var(own("delta_bias").reshape((1, d)).unwrap()));
            let eye = Tensor::eye(d, u.dtype(), u.device())
                .unwrap()
                .reshape((1, d, d))
                .unwrap();
            let scan = SelectiveScan {
                u: u.as_tensor(),
                projected: projected.as_tensor(),
                dt_weight: &eye,
                dt_bias: bias.as_tensor(),
                a_log: a_log.as_tensor(),
                skip: skip.as_tensor(),
            };
            let y = scan.run(&Orders::single(l)).unwrap();
            let name = |n: &str| format!("{p}.{n}, direction {i}");
            close(&name("y"), &y, &rows("y"), OUTPUT, &mut worst.output);
            let store = backward(&(y * rows("loss.weight")).unwrap().sum_all().unwrap()).unwrap();
            let grad = |v: &Var| store.get(v.as_tensor()).unwrap().unwrap();
            let dp = grad(&projected);
            let part = |at: usize, len: usize| dp.narrow(2, at, len).unwrap().contiguous().unwrap();
            let mut check = |n: &str, got: &Tensor, want: &Tensor| {
                close(&name(n), got, want, GRADIENT, &mut worst.gradient);
            };
            check("grad.u", &grad(&u), &rows("grad.u"));
            check("grad.delta", &part(0, d), &rows("grad.delta"));
            check("grad.B", &part(d, n), &states("grad.B"));
            check("grad.C", &part(d + n, n), &states("grad.C"));
            check("grad.D", &grad(&skip), &own("grad.D"));
            check(
                "grad.delta_bias",
                &grad(&bias).squeeze(0).unwrap(),
                &own("grad.delta_bias"),
            );
            // d/dA = d/d log(−A) / A.
            let da = (grad(&a_log) / own("A")).unwrap();
            check("grad.A", &da, &own("grad.A"));
        }
    }
    worst.print("vmamba selective scan");
}
