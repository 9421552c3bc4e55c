//! Whether this machine computes what it should: every kernel on small odd shapes against the CPU engine, and the CPU engine's wide
//! vector instructions against its plain loops.
//!
//! A driver, a GPU or a processor that nobody has tried is not trusted untested: a wrong kernel would still train to something.

use crate::dispatch::uses_kernels;
use crate::emulation;
use crate::fallback::{self, Kernel, Kernel as K};
use crate::isa::{self, Isa};
use crate::loss::{bce_with_logits, cross_entropy};
use crate::optimiser::{Moments, Update, adamw, square_sum};
use crate::precision::{Compute, compute_type, scope, to_float};
use crate::testing::Normal;
use crate::{
    Act, LayerNorm, Linear, Orders, RmsNorm, SelectiveScan, Stack, TransformerBlock, Windows, add, add_scaled,
    attention, attention_packed, backward, conv2d_map, conv2d_tokens, cross_merge, cross_scan, depthwise_conv2d, gelu,
    linear, max_pool, patch_embed, quick_gelu, silu_mul, window_attention,
};
use candle_core::{DType, Device, Result, Tensor, Var};

/// What came of a check.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// The op, and how it was computed: `attention, 64 wide, bf16`.
    pub name: String,
    /// Why it failed; `None` where it did not.
    pub failed: Option<String>,
}

impl Checked {
    fn is_of(&self, case: &Case) -> bool {
        self.name.rsplit_once(", ").is_some_and(|(op, _)| op == case.name)
    }
}

/// An op with the shapes of its operands.
struct Case {
    name: &'static str,
    shapes: &'static [&'static [usize]],
    /// Whether it is computed in 16 bits and TF32 too.
    short: bool,
    /// The kernels that are replaced where it fails, one after the other and then all, beside those of cases before it.
    kernels: &'static [Kernel],
    run: fn(&[Tensor]) -> Result<Tensor>,
}

const fn case(
    name: &'static str,
    shapes: &'static [&'static [usize]],
    short: bool,
    kernels: &'static [Kernel],
    run: fn(&[Tensor]) -> Result<Tensor>,
) -> Case {
    Case {
        name,
        shapes,
        short,
        kernels,
        run,
    }
}

/// Heads of each width that attention has a kernel for.
macro_rules! heads {
    ($name:literal, $d:literal) => {
        case(
            $name,
            &[&[2, 7, 3, $d], &[2, 19, 3, $d], &[2, 19, 3, $d]],
            true,
            &[K::Attention, K::ShortAttention],
            |x| attention(&x[0], &x[1], &x[2]),
        )
    };
}

const CASES: &[Case] = &[
    // First what other ops are made of: it is replaced alone where it fails.
    case("change of types", &[&[5, 33]], true, &[K::Cast], |x| {
        to_float(&crate::cuda::cast(&x[0], compute_type(&x[0]))?)
    }),
    case("sums of few rows", &[&[40, 12]], true, &[K::Parts, K::Columns], sums),
    case("sums of many rows", &[&[1100, 5]], true, &[K::Parts, K::Columns], sums),
    case("linear without bias", &[&[3, 5], &[33, 5]], true, &[K::Product], |x| {
        linear(&x[0], &x[1], None)
    }),
    case("linear", &[&[5, 7], &[9, 7], &[9]], true, &[K::Product], |x| {
        linear(&x[0], &x[1], Some(&x[2]))
    }),
    // cuBLASLt may refuse a bias here, which a kernel then adds.
    case(
        "linear of one row",
        &[&[1, 7], &[9, 7], &[9]],
        true,
        &[K::Bias, K::Residual, K::Product],
        |x| linear(&x[0], &x[1], Some(&x[2])),
    ),
    case(
        "linear and GELU",
        &[&[5, 7], &[9, 7], &[9]],
        true,
        &[K::Activation, K::Product],
        |x| Linear::new(x[1].clone(), Some(x[2].clone())).forward_gelu(&x[0]),
    ),
    case("GELU", &[&[5, 33]], true, &[K::Activation], |x| gelu(&x[0])),
    case("QuickGELU", &[&[5, 33]], true, &[K::Activation], |x| quick_gelu(&x[0])),
    case("SiLU gate", &[&[5, 33], &[5, 33]], true, &[K::Gate], |x| {
        silu_mul(&x[0], &x[1])
    }),
    case("layer norm", &[&[9, 37], &[37], &[37]], true, &[K::LayerNorm], |x| {
        LayerNorm::new(x[1].clone(), x[2].clone(), 1e-6).forward(&x[0])
    }),
    case("RMS norm", &[&[9, 37], &[37]], true, &[K::RmsNorm], |x| {
        RmsNorm::new(x[1].clone(), 1e-1).forward(&x[0])
    }),
    case("residual", &[&[5, 33], &[5, 33]], true, &[K::Residual], |x| {
        add(&x[0], &x[1])
    }),
    case(
        "scaled residual",
        &[&[5, 33], &[5, 33], &[33]],
        true,
        &[K::ScaledResidual],
        |x| add_scaled(&x[0], &x[1], &x[2]),
    ),
    heads!("attention, 4 wide", 4),
    heads!("attention, 16 wide", 16),
    heads!("attention, 64 wide", 64),
    heads!("attention, 80 wide", 80),
    heads!("attention, 96 wide", 96),
    heads!("attention, 128 wide", 128),
    case(
        "packed attention",
        &[&[2, 19, 36]],
        true,
        &[K::Attention, K::ShortAttention],
        |x| attention_packed(&x[0], 3),
    ),
    case(
        "transformer block",
        &[
            &[2, 7, 12],
            &[12],
            &[12],
            &[36, 12],
            &[36],
            &[12, 12],
            &[12],
            &[12],
            &[12],
            &[20, 12],
            &[20],
            &[12, 20],
            &[12],
            &[12],
            &[12],
        ],
        true,
        &[
            K::LayerNorm,
            K::Product,
            K::Attention,
            K::ShortAttention,
            K::Activation,
            K::ScaledResidual,
            K::Residual,
        ],
        |x| {
            let linear = |i: usize| Linear::new(x[i].clone(), Some(x[i + 1].clone()));
            let block = TransformerBlock {
                norm1: LayerNorm::new(x[1].clone(), x[2].clone(), 1e-6),
                qkv: linear(3),
                proj: linear(5),
                norm2: LayerNorm::new(x[7].clone(), x[8].clone(), 1e-6),
                fc1: linear(9),
                fc2: linear(11),
                ls1: Some(x[13].clone()),
                ls2: Some(x[14].clone()),
                heads: 3,
                act: Act::GeluErf,
            };
            Stack::new([block], false).forward(&x[0], |_, _| Ok(()))
        },
    ),
    case(
        "patch embedding",
        &[&[2, 3, 6, 9], &[5, 3, 3, 3], &[5]],
        false,
        &[K::Product],
        |x| patch_embed(&x[0], &x[1], Some(&x[2])),
    ),
    case(
        "convolution to tokens",
        &[&[1, 2, 16, 12], &[4, 2, 7, 7]],
        false,
        &[K::Unfold],
        |x| conv2d_tokens(&x[0], &x[1], None, 4, 3),
    ),
    case(
        "convolution of maps",
        &[&[2, 8, 5, 3], &[4, 3, 3, 3], &[4]],
        false,
        &[K::Unfold],
        |x| conv2d_map(&x[0], &x[1], Some(&x[2]), 2, 1),
    ),
    case(
        "depthwise convolution",
        &[&[2, 5, 4, 19], &[19, 1, 3, 3], &[19]],
        false,
        &[K::Depthwise, K::Activation],
        |x| depthwise_conv2d(&x[0], &x[1], Some(&x[2]), true),
    ),
    case("max pooling", &[&[2, 5, 7, 8]], false, &[K::MaxPool], |x| {
        max_pool(&x[0], (2, 3))
    }),
    case(
        "window attention",
        &[&[2, 5, 7, 18], &[18]],
        false,
        &[K::Windows],
        |x| {
            let windows = Windows {
                heads: 2,
                side: 3,
                pool: (1, 1),
            };
            window_attention(&x[0], &x[1], windows)
        },
    ),
    case(
        "pooled window attention",
        &[&[2, 4, 8, 18], &[18]],
        false,
        &[K::Windows, K::MaxPool],
        |x| {
            let windows = Windows {
                heads: 2,
                side: 6,
                pool: (2, 2),
            };
            window_attention(&x[0], &x[1], windows)
        },
    ),
    case(
        "selective scan",
        &[&[2, 5, 7, 5], &[2, 5, 7, 16], &[4, 5, 2], &[4, 5], &[20, 1], &[20]],
        false,
        &[K::Scan],
        |x| {
            SelectiveScan {
                u: &x[0],
                projected: &x[1],
                dt_weight: &x[2],
                dt_bias: &x[3],
                a_log: &x[4],
                skip: &x[5],
            }
            .run(&Orders::cross(5, 7))
        },
    ),
    case("cross scan", &[&[2, 12, 5]], false, &[K::Cross], |x| {
        cross_scan(&x[0], &Orders::cross(3, 4))
    }),
    case("cross merge", &[&[2, 4, 12, 5]], false, &[K::Cross], |x| {
        cross_merge(&x[0], &Orders::cross(3, 4))
    }),
    case("cross entropy", &[&[7, 5]], false, &[K::CrossEntropy], |x| {
        cross_entropy(&x[0], &Tensor::new(&[0u32, 3, 4, 2, 1, 1, 0], x[0].device())?)
    }),
    case(
        "binary cross entropy",
        &[&[4, 3]],
        false,
        &[K::BinaryCrossEntropy],
        |x| {
            let y = [[1f32, 0., 0.], [0., 1., 1.], [0., 0., 0.], [1., 1., 0.]];
            bce_with_logits(&x[0], &Tensor::new(&y, x[0].device())?)
        },
    ),
    case("optimiser", &[&[5001], &[5001]], false, &[K::AdamW, K::SquareSum], step),
];

/// The sums of columns, in float32.
fn sums(x: &[Tensor]) -> Result<Tensor> {
    let rows = crate::convert::converted(&x[0], compute_type(&x[0]))?;
    let sums = if uses_kernels(&rows) {
        crate::cuda::column_sums(&rows)?.flatten_all()?
    } else {
        rows.sum(0)?
    };
    // The operand passes through too, so that this op has a gradient as the others have.
    Tensor::cat(&[&sums, &x[0].sum_all()?.reshape(1)?], 0)
}

/// A step of AdamW; the parameter, both moments and the gradient's square sum behind each other.
fn step(x: &[Tensor]) -> Result<Tensor> {
    let (parameter, gradient) = (x[0].detach().copy()?, x[1].detach());
    let mut moments = Moments::zeros(&parameter)?;
    let sum = square_sum(&[&gradient])?;
    let update = Update {
        parameter: &parameter,
        gradient: &gradient,
        moments: &mut moments,
        shrink: 0.99,
        step: 1e-2,
        bias2: 0.5,
    };
    adamw(vec![update], 0.25)?;
    let [m, v] = moments.to_host()?;
    let rest: Vec<f32> = m.iter().chain(v.iter()).copied().chain([sum as f32]).collect();
    let n = rest.len();
    let rest = Tensor::from_vec(rest, n, &Device::Cpu)?.to_device(x[0].device())?;
    // The operands pass through too, so that this op has gradients as the others have.
    let through = (x[0].sum_all()? + x[1].sum_all()?)?.reshape(1)?;
    Tensor::cat(&[&parameter, &rest, &through], 0)
}

impl Case {
    /// On `device` twice, in every precision, against the CPU engine.
    fn checked(&self, device: &Device) -> Vec<Checked> {
        let exact = emulation::without(|| self.on(&Device::Cpu));
        let precisions = PRECISIONS.into_iter().take(if self.short { 4 } else { 1 });
        let check = |(compute, word, bound): (Compute, &str, f64)| {
            let run = || scope(compute, || self.on(device));
            let failed = match (run(), run(), &exact) {
                (Ok(a), Ok(b), _) if !same(&a, &b) => Some("two passes differ".to_owned()),
                (Ok(a), Ok(_), Ok(exact)) => off(&a, exact, bound),
                (Err(e), ..) | (_, Err(e), _) => Some(e.to_string()),
                (.., Err(e)) => Some(format!("on the CPU: {e}")),
            };
            Checked {
                name: format!("{}, {word}", self.name),
                failed,
            }
        };
        precisions.map(check).collect()
    }

    /// The result and the gradients of Σ y·w by every operand, on `device`, as float32 on the host.
    fn on(&self, device: &Device) -> Result<Vec<Vec<f32>>> {
        let draw = |dims: &[usize], key: u32| -> Result<Tensor> {
            let mut s = Normal::new(11, key);
            // Weights as trained networks have them: with larger ones the softmax saturates.
            let scale = if dims.len() == 2 {
                1.0 / (dims[1] as f64).sqrt()
            } else {
                1.0
            };
            let v: Vec<f32> = (0..dims.iter().product()).map(|_| (s.draw() * scale) as f32).collect();
            Tensor::from_vec(v, dims, &Device::Cpu)?.to_device(device)
        };
        let vars: Vec<Var> = self
            .shapes
            .iter()
            .zip(0..)
            .map(|(s, i)| Var::from_tensor(&draw(s, i)?))
            .collect::<Result<_>>()?;
        let operands: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let y = (self.run)(&operands)?;
        let w = draw(y.dims(), 99)?.to_dtype(y.dtype())?;
        let g = backward(&(&y * w)?.sum_all()?)?;
        let host = |t: &Tensor| {
            t.to_dtype(DType::F32)?
                .flatten_all()?
                .to_device(&Device::Cpu)?
                .to_vec1::<f32>()
        };
        let mut out = vec![host(&y)?];
        for v in &vars {
            // A bias without padding has none.
            out.push(g.get(v.as_tensor())?.map_or_else(|| Ok(Vec::new()), |g| host(&g))?);
        }
        Ok(out)
    }
}

/// How far results may be from the CPU engine's, of the largest value; 16 bits and TF32 cost their rounding.
const PRECISIONS: [(Compute, &str, f64); 4] = [
    (Compute::Float32, "f32", 1e-5),
    (Compute::Tf32, "tf32", 1e-2),
    (Compute::Bfloat16, "bf16", 8e-2),
    (Compute::Float16, "f16", 1e-2),
];

/// Every kernel on `device`, twice, against the CPU engine.
pub fn kernels(device: &Device) -> Vec<Checked> {
    CASES.iter().flat_map(|c| c.checked(device)).collect()
}

/// What came of [`mend`].
#[derive(Debug, Clone, PartialEq)]
pub struct Mended {
    /// Every check as it came out at first.
    pub first: Vec<Checked>,
    /// What ops on the device do without now ([`crate::fallback`]).
    pub replaced: Vec<Kernel>,
    /// Every check with those replaced; the first where none is.
    pub last: Vec<Checked>,
}

/// Checks every kernel on `device`, and replaces those that are wrong where candle's ops can stand in for them: as few as make the
/// checks pass, found by trying. Where no replacement helps, the check stays failed.
pub fn mend(device: &Device) -> Mended {
    fallback::replace(device, &[]);
    let first = kernels(device);
    let mut replaced: Vec<Kernel> = Vec::new();
    for c in CASES
        .iter()
        .filter(|c| first.iter().any(|f| f.failed.is_some() && f.is_of(c)))
    {
        let passes = |more: &[Kernel]| {
            fallback::replace(device, &[&replaced, more].concat());
            c.checked(device).iter().all(|c| c.failed.is_none())
        };
        if passes(&[]) {
            continue;
        }
        let one = c.kernels.iter().copied().find(|k| passes(&[*k]));
        match one {
            Some(k) => replaced.push(k),
            None if passes(c.kernels) => replaced.extend(c.kernels),
            None => {}
        }
    }
    replaced.sort_unstable();
    replaced.dedup();
    fallback::replace(device, &replaced);
    let last = if replaced.is_empty() {
        first.clone()
    } else {
        kernels(device)
    };
    Mended { first, replaced, last }
}

/// The CPU engine with every set of vector instructions that this processor has: the same bits as its plain loops.
pub fn instructions() -> Vec<Checked> {
    instructions_altered(|_, _, _| {})
}

/// The same with results altered before they are compared, by the op's name and the instructions: for tests that the check finds
/// what is wrong.
#[doc(hidden)]
pub fn instructions_altered(alter: impl Fn(&str, Isa, &mut [Vec<f32>])) -> Vec<Checked> {
    let run = |isa: Isa, c: &Case| {
        let mut out = isa::with(isa, || c.on(&Device::Cpu))??;
        alter(c.name, isa, &mut out);
        Ok::<_, candle_core::Error>(out)
    };
    let mut all = Vec::new();
    for c in CASES {
        let plain = run(Isa::Generic, c);
        for isa in Isa::all_available().filter(|i| *i != Isa::Generic) {
            let failed = match (run(isa, c), &plain) {
                (Ok(a), Ok(b)) if same(&a, b) => None,
                (Ok(a), Ok(b)) => Some(off(&a, b, 0.0).unwrap_or_else(|| "other bits of equal values".into())),
                (Err(e), _) => Some(e.to_string()),
                (_, Err(e)) => Some(format!("in plain loops: {e}")),
            };
            all.push(Checked {
                name: format!("{}, {isa}", c.name),
                failed,
            });
        }
    }
    all
}

fn same(a: &[Vec<f32>], b: &[Vec<f32>]) -> bool {
    let bits =
        |x: &[Vec<f32>]| -> Vec<Vec<u32>> { x.iter().map(|v| v.iter().map(|f| f.to_bits()).collect()).collect() };
    bits(a) == bits(b)
}

/// What is too far off.
fn off(a: &[Vec<f32>], exact: &[Vec<f32>], bound: f64) -> Option<String> {
    for (i, (a, b)) in a.iter().zip(exact).enumerate() {
        let what = if i == 0 {
            "the result".to_owned()
        } else {
            format!("gradient {i}")
        };
        if a.len() != b.len() {
            return Some(format!("{what} has {} values, not {}", a.len(), b.len()));
        }
        let max = b.iter().fold(1e-30, |m: f64, v| m.max(f64::from(v.abs())));
        for (a, b) in a.iter().zip(b) {
            let e = (f64::from(*a) - f64::from(*b)).abs() / max;
            // Not a number is not within a bound.
            if e.is_nan() || e > bound {
                return Some(format!(
                    "{what} is off by {e:.1e} of its largest value, allowed {bound:.0e}"
                ));
            }
        }
    }
    None
}

/// Names of the ops that are checked.
pub fn ops() -> impl Iterator<Item = &'static str> {
    CASES.iter().map(|c| c.name)
}

/// Of a GPU: products in bfloat16 in TFLOPS, and copies in GB/s, the best of a few.
///
/// # Errors
/// What the device says.
pub fn rates(device: &Device) -> Result<(f64, f64)> {
    const N: usize = 8192;
    let best = |work: &dyn Fn() -> Result<Tensor>| -> Result<f64> {
        let mut best = f64::INFINITY;
        for _ in 0..6 {
            device.synchronize()?;
            let start = std::time::Instant::now();
            let y = work()?;
            device.synchronize()?;
            best = best.min(start.elapsed().as_secs_f64());
            drop(y);
        }
        Ok(best)
    };
    let a = Tensor::zeros((N, N), DType::BF16, device)?;
    let product = best(&|| a.matmul(&a))?;
    let copy = best(&|| a.copy())?;
    let flop = 2.0 * (N as f64).powi(3);
    // Read once and written once, two bytes each.
    let bytes = 4.0 * (N as f64).powi(2);
    Ok((flop / product / 1e12, bytes / copy / 1e9))
}
