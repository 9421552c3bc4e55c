//! What is known about each backbone before it is built: counted on the upstream implementations, not here.
//!
//! The numbers stand in the backbones' entries. A parity test holds the counts against the recorded upstream listing and, where the
//! encoder is built, against it.

use super::registry::BACKBONES;
use crate::spec::protocol::GreyStem;

/// Where the numbers come from.
pub const SOURCE: &str = "the upstream classes at 224 px, counted with PyTorch's FlopCounterMode (matrix products, \
                          convolutions and attention; element-wise work is not in it); tests/fixtures/params/summary.json";

pub use super::entry::Facts;

/// The facts of every upstream variant under the first backbone of it, in the order of tables.
pub fn all() -> Vec<(&'static str, &'static Facts)> {
    let mut all: Vec<(&str, &Facts)> = Vec::new();
    for e in BACKBONES.all() {
        if !all.iter().any(|(_, f)| f.upstream == e.facts.upstream) {
            all.push((e.name, &e.facts));
        }
    }
    all
}

/// The facts of a backbone; a fine-tuned copy has those of its original.
pub fn find(name: &str) -> Option<&'static Facts> {
    BACKBONES.get(name).map(|e| &e.facts)
}

/// Mean and standard deviation (RGB, of values in 0..1) that a backbone was pretrained with (Q19), for `channels` input channels;
/// `None` for an unknown one. For one channel: those of the kernels that read it, red alone or the average of the three.
pub fn input_statistics(backbone: &str, channels: usize, stem: GreyStem) -> Option<(Vec<f32>, Vec<f32>)> {
    let s = BACKBONES.get(backbone)?.statistics;
    let of = |x: [f32; 3]| match (channels, stem) {
        (1, GreyStem::RedKernel) => vec![x[0]],
        (1, GreyStem::SummedKernels) => vec![(x[0] + x[1] + x[2]) / 3.0],
        _ => x.to_vec(),
    };
    Some((of(s.mean), of(s.std)))
}
