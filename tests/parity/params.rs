//! Names and shapes of every published layout against the listings made with the upstream classes, at full size and without
//! their memory: tensors here are one broadcast zero each.

use super::common::fixtures;
use super::model::*;
use candle_core::{DType, Device, Tensor};
use medft::model::backbone::BackboneOptions;
use medft::model::checkpoint::{Checkpoint, NameRule};
use medft::model::head::{DEIT, DEIT_BASE, MhaHead};
use medft::model::params::Builder;
use medft::model::{facts, registry};
use medft::study::{Protocol, Scale};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

type Shapes = BTreeMap<String, Vec<usize>>;

/// Lists in a params JSON, and the layouts whose files have those names.
const LISTS: &[(&str, &[&str])] = &[
    (
        "tensors",
        &[
            "hub",
            "fb",
            "timm",
            "open_clip",
            "openai",
            "aimv2-apple",
            "sam2-pt",
            "vmamba",
        ],
    ),
    ("hf_tensors", &["hf", "hf-laion"]),
];

fn listed(j: &Value) -> Shapes {
    let list = j.as_array().unwrap();
    let shapes: Shapes = list
        .iter()
        .map(|t| {
            let dims = t["shape"].as_array().unwrap();
            let dims = dims.iter().map(|d| d.as_u64().unwrap() as usize).collect();
            (t["name"].as_str().unwrap().to_owned(), dims)
        })
        .collect();
    assert_eq!(shapes.len(), list.len(), "names occur once");
    shapes
}

/// The parameters of a backbone at its published size for 224 px.
fn built(entry: &medft::model::BackboneEntry) -> Shapes {
    let b = Builder::shapes();
    (entry.build)(Scale::Full, 224, BackboneOptions::new(&Protocol::faithful(), 3), &b).unwrap();
    let params = b.params();
    params
        .0
        .iter()
        .map(|p| (p.name.clone(), p.tensor.dims().to_vec()))
        .collect()
}

/// Tensors of the given shapes that take no memory.
fn hollow(shapes: &Shapes) -> BTreeMap<String, Tensor> {
    let zero = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap();
    let tensor = |dims: &Vec<usize>| zero.broadcast_as(dims.as_slice()).unwrap();
    shapes.iter().map(|(n, d)| (n.clone(), tensor(d))).collect()
}

fn same_shapes(name: &str, got: &Shapes, want: &Shapes) {
    for (n, d) in want {
        assert_eq!(got.get(n), Some(d), "{name}: {n}");
    }
    for n in got.keys() {
        assert!(want.contains_key(n), "{name}: {n} is not in the listing");
    }
}

/// The listing of a variant, or `None` where this fixture set has none.
fn listing(upstream: &str) -> Option<Value> {
    let rel = format!("params/{upstream}.json");
    fixtures().join(&rel).exists().then(|| family(&rel))
}

#[test]
fn params_of_every_published_layout() {
    let mut layouts = 0;
    for (backbone, fact) in facts::all() {
        let (Ok(entry), Some(j)) = (registry::find(backbone), listing(fact.upstream)) else {
            println!("{backbone}: not built or not listed");
            continue;
        };
        let canonical = built(entry);
        for (list, names) in LISTS {
            let Some(j) = j.get(list) else { continue };
            let file = listed(j);
            let mut used = 0;
            for (layout, rules) in entry.layouts.iter().filter(|(l, _)| names.contains(l)) {
                let name = format!("{backbone} {layout}");
                let c = Checkpoint::from_tensors(&name, hollow(&file), rules).unwrap();
                let mut got: Shapes = c.shapes().unwrap().into_iter().collect();
                // A name map may add a batch axis; reading compares the number of elements then.
                for (n, d) in &mut got {
                    if let Some(want) = canonical.get(n)
                        && want.iter().product::<usize>() == d.iter().product::<usize>()
                        && want.len() > d.len()
                    {
                        d.clone_from(want);
                    }
                }
                same_shapes(&name, &got, &canonical);
                used += 1;
            }
            assert!(used > 0, "{}: no layout reads {list}", backbone);
            layouts += used;
        }
        println!(
            "{}: {} parameters in {} layouts",
            backbone,
            canonical.len(),
            entry.layouts.len()
        );
    }
    println!("params: {layouts} layouts agree name for name and shape for shape");
    assert!(layouts > 0);
}

/// Whole published files, with text towers, decoders and heads: the name maps leave out what they name and nothing else.
#[test]
fn params_of_whole_published_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures-own/names");
    let mut files = 0;
    for f in std::fs::read_dir(&folder).unwrap() {
        let path = f.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some((backbone, layout)) = name.strip_suffix(".json").and_then(|n| n.split_once('.')) else {
            continue;
        };
        let j: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let tensors = j["tensors"].as_object().unwrap();
        let whole: Shapes = tensors
            .iter()
            .map(|(n, s)| (n.clone(), serde_json::from_value(s.clone()).unwrap()))
            .collect();
        let (rules, canonical) = if backbone == "deit-b" {
            (DEIT, deit())
        } else {
            let entry = registry::find(backbone).unwrap();
            let layouts = entry.layouts.iter().find(|(l, _)| *l == layout);
            (layouts.unwrap().1, built(entry))
        };
        let mut c = Checkpoint::from_tensors(&name, hollow(&whole), rules).unwrap();
        for (n, dims) in &canonical {
            // Reading one name after the other checks shapes, pieces and transposition.
            c.take(n, dims, &Device::Cpu).unwrap();
        }
        c.finish().unwrap();
        // One more tensor, or one less, is an error.
        let mut more = whole.clone();
        more.insert("another.weight".into(), vec![1]);
        let refused = |shapes: &Shapes| -> bool {
            let Ok(mut c) = Checkpoint::from_tensors(&name, hollow(shapes), rules) else {
                return true;
            };
            let taken = canonical.iter().all(|(n, d)| c.take(n, d, &Device::Cpu).is_ok());
            !taken || c.finish().is_err()
        };
        assert!(refused(&more), "{name}");
        let used = a_used_name(&name, &whole, rules);
        let mut less = whole.clone();
        less.remove(&used);
        assert!(refused(&less), "{name} without {used}");
        files += 1;
    }
    assert_eq!(files, 9);
}

/// A name of the file that the model uses.
fn a_used_name(at: &str, whole: &Shapes, rules: &[NameRule]) -> String {
    let alone = |n: &&String| {
        let one: Shapes = whole
            .iter()
            .filter(|(m, _)| m == n)
            .map(|(m, d)| (m.clone(), d.clone()))
            .collect();
        Checkpoint::from_tensors(at, hollow(&one), rules).is_ok_and(|c| c.names().count() == 1)
    };
    whole.keys().rev().find(alone).unwrap().clone()
}

/// The parameters of the MHA head's body.
fn deit() -> Shapes {
    let b = Builder::shapes();
    let (p, fc) = (b.scope("projector"), b.scope("fc"));
    MhaHead::new_at(8, 2, DEIT_BASE, &p, &b, &fc).unwrap();
    let own = |n: &str| !n.starts_with("projector.") && !n.starts_with("fc.");
    let params = b.params().0.into_iter().filter(|p| own(&p.name));
    params.map(|p| (p.name, p.tensor.dims().to_vec())).collect()
}

#[test]
fn params_facts_are_the_upstream_counts() {
    let summary = family("params/summary.json");
    // timm's ViT has its own listing and test (timm_vit.rs).
    let own = super::timm_vit::described();
    let own = own["published"].as_object().unwrap();
    assert_eq!(summary.as_object().unwrap().len() + own.len(), facts::all().len());
    for (name, f) in facts::all().into_iter().filter(|(_, f)| !own.contains_key(f.upstream)) {
        let j = &summary[f.upstream];
        let count = j["total_params_without_classifier_head"].as_u64();
        assert_eq!(Some(f.parameters), count, "{name}");
        assert_eq!(Some(f.gmacs_224), j["gmacs_224"].as_f64(), "{name}");
        assert_eq!(f.scan_gflops_224, j["scan"].as_f64(), "{name}");
        assert_eq!(f.feature, int(j, "/feature_dim"), "{name}");
        assert_eq!(f.tokens.0, int(j, "/tokens_224"), "{name}");
        let shape = &family(&format!("real/{}.json", f.upstream))["tokens_shape"];
        assert_eq!(f.tokens, (int(shape, "/1"), int(shape, "/2")), "{name}");
        let Ok(entry) = registry::find(name) else { continue };
        let b = Builder::shapes();
        let m = (entry.build)(Scale::Full, 224, BackboneOptions::new(&Protocol::faithful(), 3), &b).unwrap();
        assert_eq!((m.feature_dim(), m.token_dim()), (f.feature, f.tokens.1), "{name}");
        let extra = (j["total_params"].as_u64().unwrap() - f.parameters) as usize;
        let built = b.params().count();
        assert!(
            built == f.parameters as usize || built == f.parameters as usize + extra,
            "{name}: {built}"
        );
    }
}
