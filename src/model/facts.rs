//! What is known about each backbone before it is built: counted on the upstream implementations, not here.
//!
//! A parity test holds the counts against the recorded upstream listing and, where the encoder is built, against it.

use crate::study::protocol::GreyStem;

/// Where the numbers come from.
pub const SOURCE: &str = "the upstream classes at 224 px, counted with PyTorch's FlopCounterMode (matrix products, \
                          convolutions and attention; element-wise work is not in it); tests/fixtures/params/summary.json";

/// The size of a backbone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Facts {
    /// Word used in studies.
    pub name: &'static str,
    /// The variant's name in the upstream code.
    pub upstream: &'static str,
    /// Scalars of the encoder, without a classification head.
    pub parameters: u64,
    /// Multiply-adds of one 224 px image, in units of 10⁹.
    pub gmacs_224: f64,
    /// Floating-point operations of the selective scan, in units of 10⁹; they are not in `gmacs_224`.
    pub scan_gflops_224: Option<f64>,
    /// D: width of what the linear head reads.
    pub feature: usize,
    /// (N, F): the tokens that the MHA head reads under the faithful protocol.
    pub tokens: (usize, usize),
}

const fn facts(
    name: &'static str,
    upstream: &'static str,
    parameters: u64,
    gmacs_224: f64,
    feature: usize,
    tokens: (usize, usize),
) -> Facts {
    Facts {
        name,
        upstream,
        parameters,
        gmacs_224,
        scan_gflops_224: None,
        feature,
        tokens,
    }
}

/// All backbones, in the order of tables.
#[rustfmt::skip]
pub const ALL: &[Facts] = &[
    facts("aimv2-l", "aimv2-large-patch14-224", 309_197_824, 82.295, 1024, (256, 1024)),
    facts("aimv2-h", "aimv2-huge-patch14-224", 680_851_968, 179.009, 1536, (256, 1536)),
    facts("dinov2-s", "dinov2_vits14", 22_056_576, 6.124, 384, (256, 384)),
    facts("dinov2-b", "dinov2_vitb14", 86_580_480, 23.161, 768, (256, 768)),
    facts("dinov2-l", "dinov2_vitl14", 304_368_640, 81.012, 1024, (256, 1024)),
    facts("sam2-b", "sam2.1_hiera_base_plus", 69_106_816, 12.808, 256, (196, 256)),
    facts("sam2-l", "sam2.1_hiera_large", 212_703_280, 44.44, 256, (196, 256)),
    facts("mae-b", "mae_vit_base_patch16", 85_798_656, 17.563, 768, (196, 768)),
    facts("mae-l", "mae_vit_large_patch16", 303_301_632, 61.554, 1024, (196, 1024)),
    facts("mae-h", "mae_vit_huge_patch14", 630_764_800, 167.294, 1280, (256, 1280)),
    Facts { scan_gflops_224: Some(0.169), ..facts("vmamba-s", "vmamba_small_0229", 49_378_752, 8.499, 768, (49, 768)) },
    Facts { scan_gflops_224: Some(0.225), ..facts("vmamba-b", "vmamba_base_0229", 87_532_800, 15.07, 1024, (49, 1024)) },
    facts("coca-b", "coca_ViT-B-32", 89_164_032, 4.595, 512, (256, 512)),
    facts("coca-l", "coca_ViT-L-14", 306_724_864, 81.82, 768, (256, 768)),
    facts("clip-b", "clip_vitb16", 86_192_640, 17.563, 512, (196, 768)),
];

/// The facts of a backbone; a fine-tuned copy (`dinov2-s-imgfocus`) has those of its original.
pub fn find(name: &str) -> Option<&'static Facts> {
    let original = match name {
        "dinov2-s-imgfocus" => "dinov2-s",
        n => n,
    };
    ALL.iter().find(|f| f.name == original)
}

/// Mean and standard deviation (RGB, of values in 0..1) that a backbone was pretrained with [Q19], for `channels` input channels.
///
/// CLIP, CoCa and AIMv2 use OpenAI CLIP's, all others ImageNet's (the `mean`/`std` of the upstream preprocessing). For one channel: those of the kernels
/// that read it, red alone or the average of the three.
pub fn input_statistics(backbone: &str, channels: usize, stem: GreyStem) -> (Vec<f32>, Vec<f32>) {
    const IMAGENET: [[f32; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];
    const CLIP: [[f32; 3]; 2] = [
        [0.481_454_66, 0.457_827_5, 0.408_210_73],
        [0.268_629_54, 0.261_302_6, 0.275_777_1],
    ];
    let clip = ["clip-", "coca-", "aimv2-"].iter().any(|p| backbone.starts_with(p));
    let [mean, std] = if clip { CLIP } else { IMAGENET };
    let of = |x: [f32; 3]| match (channels, stem) {
        (1, GreyStem::RedKernel) => vec![x[0]],
        (1, GreyStem::SummedKernels) => vec![(x[0] + x[1] + x[2]) / 3.0],
        _ => x.to_vec(),
    };
    (of(mean), of(std))
}
