//! What every family's parity test does: run a case, compare outputs, then gradients of both losses.

use super::common::{fixtures, json};
use candle_core::{Tensor, Var};
use medft::model::backbone::{Backbone, Features};
use medft::model::checkpoint::{Checkpoint, NameRule};
use medft::model::params::{Builder, Params};
use medft_nn::precision::{Compute, scope};
pub(crate) use medft_nn::{Gradients, backward};
use std::collections::BTreeMap;

/// Bounds of the fixtures: relative to the tensor's maximum.
pub(crate) const OUTPUT: f64 = 1e-5;
pub(crate) const GRADIENT: f64 = 1e-4;
/// Bound of features in bfloat16. It is no loose one: under PyTorch's bf16 autocast (2.15 on a CPU, with CUDA's rules) upstream's own
/// VMamba is off by 2.7e-2 and 3.4e-2 on these fixtures.
pub(crate) const BF16: f64 = 2e-2;

/// The largest relative errors seen, for the last line of a test.
#[derive(Default)]
pub(crate) struct Worst {
    pub output: f64,
    pub gradient: f64,
}

impl Worst {
    pub(crate) fn print(&self, family: &str) {
        println!(
            "{family}: largest relative error of outputs {:.2e}, of gradients {:.2e}",
            self.output, self.gradient
        );
    }
}

/// A safetensors fixture as an ordered map.
pub(crate) fn tensors(rel: &str) -> BTreeMap<String, Tensor> {
    let p = fixtures().join(rel);
    let bytes = std::fs::read(&p).unwrap_or_else(|e| panic!("{}: {e}", p.display()));
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{}: {e}", p.display()));
    let read = |name: &str, v: &safetensors::tensor::TensorView| -> Tensor {
        if v.dtype() == safetensors::Dtype::I8 {
            // candle has no int8.
            let x: Vec<f32> = v.data().iter().map(|&b| f32::from(b as i8)).collect();
            return Tensor::from_vec(x, v.shape(), &crate::compute::device()).unwrap();
        }
        candle_core::safetensors::Load::load(v, &crate::compute::device())
            .unwrap_or_else(|e| panic!("{}: {name}: {e}", p.display()))
    };
    file.tensors().iter().map(|(n, v)| (n.clone(), read(n, v))).collect()
}

/// A builder that reads a fixture's weights by a name map.
pub(crate) fn builder(rel: &str, rules: &[NameRule]) -> Builder {
    let c = Checkpoint::from_tensors(rel, tensors(rel), rules).unwrap();
    Builder::from_checkpoint(c, &crate::compute::device())
}

/// Largest absolute difference over the largest absolute expected value.
pub(crate) fn error(name: &str, got: &Tensor, want: &Tensor) -> f64 {
    assert_eq!(got.dims(), want.dims(), "{name}: shape");
    let flat = |t: &Tensor| -> Vec<f32> { t.flatten_all().unwrap().to_vec1().unwrap() };
    let (g, w) = (flat(got), flat(want));
    let max = w.iter().fold(0f64, |m, v| m.max(f64::from(v.abs())));
    let mut diff = 0f64;
    for (a, b) in g.iter().zip(&w) {
        assert!(a.is_finite(), "{name}: {a}");
        diff = diff.max(f64::from((a - b).abs()));
    }
    diff / max.max(1e-12)
}

/// Checks one tensor against a bound and notes its error.
pub(crate) fn close(name: &str, got: &Tensor, want: &Tensor, bound: f64, worst: &mut f64) {
    let e = error(name, got, want);
    *worst = worst.max(e);
    assert!(e <= bound, "{name}: relative error {e:.3e} above {bound:.0e}");
}

/// The gradient of a packed qkv bias has a key third that is zero in exact arithmetic: absolute bound there.
fn gradient(name: &str, got: &Tensor, want: &Tensor, worst: &mut f64) {
    close(name, got, want, GRADIENT, worst);
}

/// A number from JSON by pointer.
pub(crate) fn number(j: &serde_json::Value, pointer: &str) -> f64 {
    j.pointer(pointer)
        .and_then(serde_json::Value::as_f64)
        .unwrap_or_else(|| panic!("no number at {pointer}"))
}

/// An integer from JSON by pointer.
pub(crate) fn int(j: &serde_json::Value, pointer: &str) -> usize {
    number(j, pointer) as usize
}

/// Runs one case of a backbone fixture: every `out.*` the observer is told of, feature, tokens, and all stored gradients.
///
/// `ignore` names outputs that only describe internals of the upstream class.
pub(crate) fn backbone_case(
    case: &str,
    model: &dyn Backbone,
    params: &Params,
    io: &BTreeMap<String, Tensor>,
    ignore: &[&str],
    worst: &mut Worst,
) {
    let x = Var::from_tensor(&io["input"]).unwrap();
    let mut heard: BTreeMap<String, Tensor> = BTreeMap::new();
    let f: Features = model
        .forward_observed(x.as_tensor(), &mut |n, t| {
            heard.insert(n.to_owned(), t.clone());
        })
        .unwrap();
    heard.insert("feature".into(), f.pooled.clone());
    heard.insert("tokens".into(), f.tokens.clone());
    let mut compared = 0;
    for (key, want) in io {
        let Some(name) = key.strip_prefix("out.") else { continue };
        match heard.get(name) {
            Some(got) => {
                close(&format!("{case} {key}"), got, want, OUTPUT, &mut worst.output);
                compared += 1;
            }
            None => assert!(
                ignore.iter().any(|i| name == *i || name.ends_with(&format!(".{i}"))),
                "{case}: {key} is not observed"
            ),
        }
    }
    assert!(compared >= 3, "{case}: only {compared} outputs compared");
    if crate::compute::SIXTEEN_BITS {
        let half = scope(Compute::Bfloat16, || model.forward(x.as_tensor())).unwrap();
        let (feature, tokens) = (
            error(case, &half.pooled, &f.pooled),
            error(case, &half.tokens, &f.tokens),
        );
        println!("{case}: relative error in bf16 {feature:.1e}, of tokens {tokens:.1e}");
        assert!(feature <= BF16, "{case}: the feature in bf16 is off by {feature:.2e}");
    }
    for (loss, grads, out) in [("loss", "grad", &f.pooled), ("tloss", "tgrad", &f.tokens)] {
        let Some(w) = io.get(&format!("{loss}.weight")) else {
            continue;
        };
        let value = (out * w).unwrap().sum_all().unwrap();
        close(
            &format!("{case} {loss}.value"),
            &value,
            &io[&format!("{loss}.value")],
            GRADIENT,
            &mut worst.output,
        );
        let store = backward(&value).unwrap();
        check_gradients(case, grads, &store, &x, params, "", io, worst);
    }
}

/// The norm of the difference of all parameters' gradients over the norm of those expected.
pub(crate) fn distance(params: &Params, got: &Gradients, want: &Gradients) -> f64 {
    let flat = |store: &Gradients| -> Vec<f32> {
        let all = params.0.iter().filter_map(|p| store.get(&p.tensor).unwrap());
        all.flat_map(|g| g.flatten_all().unwrap().to_vec1::<f32>().unwrap())
            .collect()
    };
    let (got, want) = (flat(got), flat(want));
    assert!(!want.is_empty() && got.len() == want.len());
    let square = |v: f32| f64::from(v).powi(2);
    let difference: f64 = got.iter().zip(&want).map(|(a, b)| square(a - b)).sum();
    (difference / want.iter().map(|&v| square(v)).sum::<f64>()).sqrt()
}

/// Compares `<grads>.input` and `<grads>.param.*` with a gradient store; `scope` is put before the stored names.
#[allow(clippy::too_many_arguments)]
pub(crate) fn check_gradients(
    case: &str,
    grads: &str,
    store: &Gradients,
    x: &Var,
    params: &Params,
    scope: &str,
    io: &BTreeMap<String, Tensor>,
    worst: &mut Worst,
) {
    for (key, want) in io {
        let Some(rest) = key.strip_prefix(&format!("{grads}.")) else {
            continue;
        };
        let name = format!("{case} {key}");
        let got = if rest == "input" {
            store
                .get(x.as_tensor())
                .unwrap()
                .unwrap_or_else(|| panic!("{name}: none"))
        } else if let Some(p) = rest.strip_prefix("param.") {
            let full = format!("{scope}{p}");
            let param = params
                .get(&full)
                .unwrap_or_else(|| panic!("{name}: no parameter {full}"));
            store
                .get(&param.tensor)
                .unwrap()
                .unwrap_or_else(|| panic!("{name}: no gradient reaches it"))
        } else {
            continue;
        };
        gradient(&name, &got, want, &mut worst.gradient);
    }
}

/// Checks that exactly the listed parameters get no gradient.
pub(crate) fn no_gradient(case: &str, store: &Gradients, params: &Params, listed: &serde_json::Value) {
    let listed: Vec<&str> = listed.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    for p in &params.0 {
        assert_eq!(
            store.get(&p.tensor).unwrap().is_none(),
            listed.contains(&p.name.as_str()),
            "{case}: {} and the list of parameters without gradient {listed:?}",
            p.name
        );
    }
}

/// Sends a gradient back from the pooled vector and checks that exactly the listed parameters get none.
pub(crate) fn all_gradients(
    case: &str,
    model: &dyn Backbone,
    params: &Params,
    input: &Tensor,
    listed: &serde_json::Value,
) {
    let value = model.forward(input).unwrap().pooled.sum_all().unwrap();
    let store = backward(&value).unwrap();
    no_gradient(case, &store, params, listed);
}

/// A fixture family's description.
pub(crate) fn family(rel: &str) -> serde_json::Value {
    json(rel)
}
