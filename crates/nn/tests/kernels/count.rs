//! What a block's training step costs by count: launches and bytes, in docs/PERFORMANCE.md.
//!
//! Bytes are those that cross a GPU's memory if nothing stays in its caches: every operand of a launch once, as a whole; what
//! AdamW reads and writes, twice. Of products, the operands, what is added and the result, each once; of what candle's own kernels
//! do on the way, the same. Kernels are launched by the code that a GPU would run, with the sizes of a real block, and not run.

use candle_core::{DType, Device, Result, Tensor, Var};
use medft_nn::emulation::{self, Executor, Launch, LibraryProduct};
use medft_nn::optimiser::{Moments, Update, adamw, square_sum};
use medft_nn::precision::{Compute, scope};
use medft_nn::{Act, LayerNorm, Linear, Stack, TransformerBlock, backward};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What launches have in common.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) launches: usize,
    pub(crate) bytes: usize,
}

/// Counts and computes nothing.
#[derive(Default)]
struct Counter(Mutex<BTreeMap<String, Count>>);

impl Counter {
    fn note(&self, name: &str, bytes: usize) {
        let mut all = self.0.lock().unwrap();
        let c = all.entry(name.to_owned()).or_default();
        c.launches += 1;
        c.bytes += bytes;
    }
}

impl Executor for Counter {
    unsafe fn run(&self, l: &Launch<'_>) -> Result<()> {
        self.note(l.kernel, l.bytes());
        Ok(())
    }

    fn product(&self, p: &LibraryProduct) -> Result<bool> {
        let mut name = "product".to_owned();
        for (with, what) in [
            (p.bias, " + bias"),
            (p.onto, " + residual"),
            (p.sums, ", bias gradient"),
        ] {
            name += if with { what } else { "" };
        }
        self.note(&name, p.bytes);
        Ok(false)
    }

    fn elsewhere(&self, op: &'static str, bytes: usize) {
        self.note(&format!("candle's {op}"), bytes);
    }
}

/// One block of a backbone.
struct Shape {
    batch: usize,
    tokens: usize,
    width: usize,
    hidden: usize,
    heads: usize,
    scales: bool,
}

/// A step of the second of two such blocks trained one above the other: what a block within a stack costs.
fn step(s: &Shape, compute: Compute) -> BTreeMap<String, Count> {
    let counter = Arc::new(Counter::default());
    let d = Device::Cpu;
    let counts = || counter.0.lock().unwrap().clone();
    let (one, two) = emulation::emulate(counter.clone(), || {
        let parameter = |dims: &[usize]| Var::zeros(dims, DType::F32, &d).unwrap().as_tensor().clone();
        let mut parameters = Vec::new();
        let mut new = |dims: &[usize]| {
            parameters.push(parameter(dims));
            parameters.last().unwrap().clone()
        };
        let (w, h) = (s.width, s.hidden);
        let mut blocks = || {
            let mut linear = |out: usize, inp: usize| Linear::new(new(&[out, inp]), Some(new(&[out])));
            let (qkv, proj, fc1, fc2) = (linear(3 * w, w), linear(w, w), linear(h, w), linear(w, h));
            let mut vectors: Vec<Tensor> = (0..6).map(|_| new(&[w])).collect();
            let mut next = || vectors.pop().unwrap();
            TransformerBlock {
                norm1: LayerNorm::new(next(), next(), 1e-6),
                qkv,
                proj,
                ls1: s.scales.then(&mut next),
                norm2: LayerNorm::new(next(), next(), 1e-6),
                fc1,
                fc2,
                ls2: s.scales.then(&mut next),
                heads: s.heads,
                act: Act::GeluErf,
            }
        };
        let all = [blocks(), blocks(), blocks()];
        let mut moments: Vec<Moments> = parameters.iter().map(|p| Moments::zeros(p).unwrap()).collect();
        let x = Var::zeros((s.batch, s.tokens, w), DType::F32, &d).unwrap();
        // The second step is counted: what is made once is there then.
        let mut of = |blocks: &[TransformerBlock]| {
            let mut before = BTreeMap::new();
            for _ in 0..2 {
                before = counts();
                scope(compute, || {
                    let y = Stack::new(blocks.to_vec(), false)
                        .forward(x.as_tensor(), |_, _| Ok(()))
                        .unwrap();
                    let dy = Tensor::zeros(y.shape(), y.dtype(), &d).unwrap();
                    let grads = backward(&(y * dy).unwrap().sum_all().unwrap()).unwrap();
                    let found: Vec<Option<Tensor>> = parameters.iter().map(|p| grads.get(p).unwrap()).collect();
                    square_sum(&found.iter().flatten().collect::<Vec<_>>()).unwrap();
                    let trained = parameters.iter().zip(&mut moments).zip(&found);
                    let updates = trained.filter_map(|((parameter, moments), gradient)| {
                        Some(Update {
                            parameter,
                            gradient: gradient.as_ref()?,
                            moments,
                            shrink: 1.0,
                            step: 0.0,
                            bias2: 1.0,
                        })
                    });
                    adamw(updates.collect(), 1.0).unwrap();
                });
            }
            less(&counts(), &before)
        };
        (of(&all[..2]), of(&all))
    });
    less(&two, &one)
}

/// What is in `a` beyond `b`.
fn less(a: &BTreeMap<String, Count>, b: &BTreeMap<String, Count>) -> BTreeMap<String, Count> {
    let mut all = BTreeMap::new();
    for (name, a) in a {
        let b = b.get(name).copied().unwrap_or_default();
        let (launches, bytes) = (a.launches - b.launches, a.bytes - b.bytes);
        if launches + bytes > 0 {
            all.insert(name.clone(), Count { launches, bytes });
        }
    }
    all
}

/// Launches and bytes in all, and the bytes that neither products nor attention nor the optimiser move.
fn totals(step: &BTreeMap<String, Count>) -> (Count, usize) {
    let mut all = Count::default();
    let mut passes = 0;
    for (name, c) in step {
        all.launches += c.launches;
        all.bytes += c.bytes;
        let other = ["product", "attention", "adamw", "square_sums"];
        passes += if other.iter().any(|o| name.starts_with(o)) {
            0
        } else {
            c.bytes
        };
    }
    (all, passes)
}

/// MAE-L's and DINOv2-L's blocks at the paper's batch.
fn shape(batch: usize, tokens: usize, scales: bool) -> Shape {
    Shape {
        batch,
        tokens,
        width: 1024,
        hidden: 4096,
        heads: 16,
        scales,
    }
}

fn print(name: &str, s: &Shape) -> (Count, usize) {
    let step = step(s, Compute::Bfloat16);
    println!("| {name}, batch {}, bfloat16 | launches | MB |\n|---|--:|--:|", s.batch);
    for (kernel, c) in &step {
        println!("| {kernel} | {} | {:.1} |", c.launches, c.bytes as f64 / 1e6);
    }
    let (all, passes) = totals(&step);
    let megabytes = |bytes: usize| bytes as f64 / 1e6;
    println!("| all | {} | {:.1} |", all.launches, megabytes(all.bytes));
    println!("outside products, attention and optimiser: {:.1} MB", megabytes(passes));
    (all, passes)
}

#[test]
#[ignore = "the tables of docs/PERFORMANCE.md: 6 GB of memory"]
fn a_block_at_the_papers_batch() {
    print("MAE-L", &shape(64, 197, false));
    print("DINOv2-L", &shape(64, 257, true));
}

/// At a smaller batch, so that it takes a moment: launches of a step and bytes of a token, to a hundredth.
#[test]
fn a_block_costs_no_more_than_the_documentation_says() {
    for (name, scales, launches, bytes) in [("MAE-L", false, 23, 231.3), ("DINOv2-L", true, 31, 263.5)] {
        let (all, _) = print(name, &shape(2, 197, scales));
        let (more, _) = print(name, &shape(3, 197, scales));
        assert_eq!((all.launches, more.launches), (launches, launches), "{name}");
        let token = (more.bytes - all.bytes) as f64 / 197.0 / 1024.0;
        println!("{name}: {token:.2} bytes a value of a token");
        assert!((token / bytes - 1.0).abs() < 1e-2, "{name}: {token}, not {bytes}");
    }
}
