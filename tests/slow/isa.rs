//! The same bytes with every set of vector instructions that this machine has: one tiny model of every family and both heads,
//! logits, loss, gradients and an optimiser step.
//!
//! Each set computes in a process of its own, since `MEDFT_ISA` is read once.

use candle_core::{Device, Tensor};
use medft::data::{Labels, Task};
use medft::fsio::sha256_hex;
use medft::model::{Classifier, registry};
use medft::rng::{Purpose, Stream};
use medft::study::{Freeze, HeadKind, Protocol, RunSpec, Scale};
use medft::train::loss::Target;
use medft::train::optim::{AdamW, AdamWConfig};
use medft_nn::backward;
use medft_nn::isa::{Isa, VARIABLE};
use std::process::Command;

/// How a line of results begins.
const MARK: &str = "bytes of ";

fn bytes(t: &Tensor) -> Vec<u8> {
    let v: Vec<f32> = t.flatten_all().unwrap().to_vec1().unwrap();
    v.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Hashes of logits, gradients and weights after a step.
fn computed(backbone: &str, head: HeadKind) -> [String; 3] {
    let mut protocol = Protocol::faithful();
    protocol.crop = 64;
    let spec = RunSpec {
        dataset: "test".into(),
        backbone: backbone.into(),
        scale: Scale::Tiny,
        freeze: Freeze::Unfrozen,
        head,
        seed: 0,
        protocol,
    };
    let m = Classifier::random(&spec, 3, 5, &Device::Cpu).unwrap();
    let config = AdamWConfig {
        weight_decay: 1e-2,
        layer_decay: 1.0,
        clip: 1.0,
    };
    let mut optim = AdamW::new(&m.params, config).unwrap();
    let mut r = Stream::new(5, Purpose::Test, 1, 0);
    let x: Vec<f32> = (0..2 * 3 * 64 * 64).map(|_| r.uniform_in(-1.0, 1.0) as f32).collect();
    let x = Tensor::from_vec(x, (2, 3, 64, 64), &Device::Cpu).unwrap();
    let labels = Labels::Classes(vec![1, 3]);
    let target = Target::new(Task::MultiClass(5), &labels, &Device::Cpu).unwrap();
    let logits = m.forward(&x).unwrap();
    let gradients = backward(&target.loss(&logits).unwrap()).unwrap();
    let of = |each: &dyn Fn(&Tensor) -> Vec<u8>| {
        let all: Vec<u8> = m.params.trainable().flat_map(|(_, v)| each(v.as_tensor())).collect();
        assert!(!all.is_empty());
        sha256_hex(&all)
    };
    let gradient = of(&|v| gradients.get(v).unwrap().map_or_else(Vec::new, |g| bytes(&g)));
    assert!(optim.step(&gradients, 1e-3).unwrap().grad_norm.is_finite());
    [sha256_hex(&bytes(&logits)), gradient, of(&bytes)]
}

/// One backbone of every family.
fn families() -> Vec<&'static str> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for entry in registry::all() {
        if found.iter().all(|(family, _)| *family != entry.family) {
            found.push((entry.family, entry.name));
        }
    }
    found.into_iter().map(|(_, name)| name).collect()
}

#[test]
#[ignore = "run by every_instruction_set_gives_the_same_bytes, once for each set"]
fn child() {
    println!();
    for backbone in families() {
        for head in [HeadKind::Linear, HeadKind::Mha] {
            println!("{MARK}{backbone} {head:?} {}", computed(backbone, head).join(" "));
        }
    }
}

/// The child's lines with this set.
fn run(isa: &str) -> Result<Vec<String>, String> {
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "isa::child", "--ignored", "--nocapture"])
        .env(VARIABLE, isa)
        .output()
        .unwrap();
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout));
    }
    let text = String::from_utf8(out.stdout).unwrap();
    Ok(text
        .lines()
        .filter(|l| l.starts_with(MARK))
        .map(str::to_owned)
        .collect())
}

#[test]
fn every_instruction_set_gives_the_same_bytes() {
    let mut first: Option<Vec<String>> = None;
    for isa in Isa::ALL {
        if !isa.available() {
            println!("not run: {isa} (this processor lacks it)");
            continue;
        }
        let lines = run(isa.name()).unwrap();
        assert_eq!(lines.len(), 2 * families().len());
        match &first {
            None => first = Some(lines),
            Some(generic) => {
                for (a, b) in generic.iter().zip(&lines) {
                    assert_eq!(a, b, "{isa} differs from {}", Isa::ALL[0]);
                }
            }
        }
        println!("run: {isa}");
    }
}

#[test]
fn instructions_that_are_not_there_end_a_process_with_the_list() {
    let e = run("sse9").unwrap_err();
    assert!(e.contains("`sse9`") && e.contains("generic"), "{e}");
}
