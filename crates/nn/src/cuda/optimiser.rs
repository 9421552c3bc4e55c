//! AdamW and the gradients' norm over all parameters, a launch each.

use super::composed::instead_of;
use super::launch::{Arg, Spread, launch};
use super::tables::table;
use crate::autograd::Value;
use crate::emulation::KernelParam;
use crate::fallback::Kernel;
use crate::optimiser::constants::{BETA1, BETA2, EPS};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, DType, InplaceOp1, Layout, Result, Tensor, bail};
use std::sync::atomic::{AtomicU64, Ordering};

/// Elements that one block works on (kernels/optimiser.cu).
const CHUNK: usize = 4096;
/// Which address of a slot is that of the gradient, which is only read.
const GRADIENT: usize = 1;

/// What AdamW reads and writes of one parameter; all float32 and contiguous, of equal size.
pub(crate) struct Update<'a> {
    pub parameter: &'a Tensor,
    pub gradient: &'a Tensor,
    pub m: &'a Tensor,
    pub v: &'a Tensor,
    /// The parameter in 16 bits, where a copy is kept.
    pub copy: Option<Tensor>,
    /// 1 − lr · weight decay.
    pub shrink: f32,
    /// lr / (1 − β₁ᵗ).
    pub step: f32,
    /// √(1 − β₂ᵗ).
    pub bias2: f32,
}

/// Where a tensor lies, to be written there.
#[derive(Default)]
struct Address(AtomicU64);

impl InplaceOp1 for Address {
    fn name(&self) -> &'static str {
        "address"
    }
    fn cpu_fwd(&self, s: &mut CpuStorage, l: &Layout) -> Result<()> {
        let Some((begin, end)) = l.contiguous_offsets() else {
            bail!("the optimiser needs contiguous tensors")
        };
        let at = match s {
            CpuStorage::F32(v) => v[begin..end].as_mut_ptr() as u64,
            CpuStorage::BF16(v) => v[begin..end].as_mut_ptr() as u64,
            CpuStorage::F16(v) => v[begin..end].as_mut_ptr() as u64,
            s => bail!("the optimiser has no use for {:?}", s.dtype()),
        };
        self.0.store(at, Ordering::Relaxed);
        Ok(())
    }
    #[cfg_attr(not(feature = "cuda"), allow(unused_variables))]
    fn cuda_fwd(&self, s: &mut CudaStorage, l: &Layout) -> Result<()> {
        #[cfg(feature = "cuda")]
        if let Some((begin, _)) = l.contiguous_offsets() {
            let at = super::driver::address(s)? + (s.dtype().size_in_bytes() * begin) as u64;
            self.0.store(at, Ordering::Relaxed);
            return Ok(());
        }
        bail!("the optimiser needs contiguous float32 tensors")
    }
}

fn address(t: &Tensor, n: usize) -> Result<u64> {
    if t.dtype() != DType::F32 || t.elem_count() != n {
        bail!(
            "the optimiser needs float32 tensors of {n} values, not {:?} {:?}",
            t.dtype(),
            t.dims()
        );
    }
    place(t)
}

fn place(t: &Tensor) -> Result<u64> {
    let a = Address::default();
    t.inplace_op1(&a)?;
    Ok(a.0.load(Ordering::Relaxed))
}

/// Words of a `Slot` of kernels/optimiser.cu.
const WORDS: usize = 8;

/// A `Slot`; `copy` is a copy's address and type.
fn slot([p, g, m, v]: [u64; 4], (copy, kind): (u64, u32), n: usize, [shrink, step, bias2]: [f32; 3]) -> [i64; WORDS] {
    let pair = |a: f32, b: f32| (u64::from(a.to_bits()) | u64::from(b.to_bits()) << 32).cast_signed();
    let word = u64::cast_signed;
    [
        word(p),
        word(g),
        word(m),
        word(v),
        word(n as u64),
        pair(shrink, step),
        pair(bias2, f32::from_bits(kind)),
        word(copy),
    ]
}

/// (slot, chunk) of every chunk of all slots.
fn pieces(sizes: &[usize]) -> Vec<u32> {
    let of = |(slot, n): (u32, &usize)| (0..n.div_ceil(CHUNK) as u32).flat_map(move |c| [slot, c]);
    (0..).zip(sizes).flat_map(of).collect()
}

/// The sum of squares of all gradients, in float64, brought to the host.
pub(crate) fn square_sum(gradients: &[&Tensor]) -> Result<f64> {
    let Some(first) = gradients.first() else {
        return Ok(0.0);
    };
    let device = first.device();
    if instead_of(Kernel::SquareSum, device) {
        let of = |g: &&Tensor| g.detach().to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>();
        return gradients.iter().map(of).sum();
    }
    let mut slots = Vec::with_capacity(gradients.len());
    let mut indirect = Vec::with_capacity(gradients.len());
    for g in gradients {
        let (n, at) = (g.elem_count(), address(g, g.elem_count())?);
        slots.push(slot([0, at, 0, 0], (0, 0), n, [0.0; 3]));
        indirect.push(KernelParam::Read { at, bytes: 4 * n });
    }
    let (slots, pieces, count) = tables(&slots, gradients.iter().map(|g| g.elem_count()), first)?;
    let mut sums = Value::new(count, DType::F64, device)?;
    // SAFETY: the arguments are those of kernels/optimiser.cu, for operands of these sizes.
    unsafe {
        launch(
            device,
            ("optimiser", "square_sums"),
            Spread::Blocks(count),
            &mut [Arg::In(&slots), Arg::In(&pieces), Arg::U32(count), Arg::Out(&mut sums)],
            &indirect,
        )
    }?;
    let sums = sums.tensor();
    let mut total = Value::new((), DType::F64, device)?;
    // SAFETY: the arguments are those of kernels/optimiser.cu, for operands of these sizes.
    unsafe {
        launch(
            device,
            ("optimiser", "sum_f64"),
            Spread::Blocks(1),
            &mut [Arg::In(&sums), Arg::Out(&mut total), Arg::U64(count)],
            &[],
        )
    }?;
    total.tensor().to_scalar()
}

/// The slots, which hold addresses and are uploaded anew, the pieces of tensors of these sizes, and how many pieces.
fn tables(
    slots: &[[i64; WORDS]],
    sizes: impl Iterator<Item = usize>,
    like: &Tensor,
) -> Result<(Tensor, Tensor, usize)> {
    let (sizes, device): (Vec<usize>, _) = (sizes.collect(), like.device());
    let slots = Tensor::from_vec(slots.concat(), slots.len() * WORDS, device)?;
    let pieces = table("pieces of parameters", &sizes, device, || pieces(&sizes))?;
    let count = pieces.elem_count() / 2;
    Ok((slots, pieces, count))
}

/// Updates parameters and moments in place; gradients are first multiplied by `scale`.
pub(crate) fn adamw(updates: &[Update<'_>], scale: f32) -> Result<()> {
    let Some(first) = updates.first() else {
        return Ok(());
    };
    if instead_of(Kernel::AdamW, first.parameter.device()) {
        return updates.iter().try_for_each(|u| composed(u, scale));
    }
    let mut slots = Vec::with_capacity(updates.len());
    let mut indirect = Vec::with_capacity(4 * updates.len());
    for u in updates {
        let n = u.parameter.elem_count();
        let mut at = [0; 4];
        for (i, t) in [u.parameter, u.gradient, u.m, u.v].into_iter().enumerate() {
            let (place, bytes) = (address(t, n)?, 4 * n);
            at[i] = place;
            indirect.push(KernelParam::Read { at: place, bytes });
            if i != GRADIENT {
                indirect.push(KernelParam::Write { at: place, bytes });
            }
        }
        let copy = match &u.copy {
            None => (0, 0),
            Some(c) if c.elem_count() == n && matches!(c.dtype(), DType::BF16 | DType::F16) => {
                let at = place(c)?;
                indirect.push(KernelParam::Write { at, bytes: 2 * n });
                (at, if c.dtype() == DType::BF16 { 1 } else { 2 })
            }
            Some(c) => bail!("a copy of {n} values in {:?} has {:?}", c.dtype(), c.dims()),
        };
        slots.push(slot(at, copy, n, [u.shrink, u.step, u.bias2]));
    }
    let sizes = updates.iter().map(|u| u.parameter.elem_count());
    let (slots, pieces, count) = tables(&slots, sizes, first.parameter)?;
    // SAFETY: the arguments are those of kernels/optimiser.cu, for operands of these sizes.
    unsafe {
        launch(
            first.parameter.device(),
            ("optimiser", "adamw"),
            Spread::Blocks(count),
            &mut [Arg::In(&slots), Arg::In(&pieces), Arg::U32(count), Arg::F32(scale)],
            &indirect,
        )
    }
}

/// The update of one parameter from candle's ops.
fn composed(u: &Update<'_>, scale: f32) -> Result<()> {
    let n = u.parameter.elem_count();
    let flat = |t: &Tensor| t.detach().reshape(n);
    let write = |to: &Tensor, x: &Tensor| flat(to)?.slice_set(x, 0, 0);
    let factor = f64::from;
    let d = (flat(u.gradient)? * factor(scale))?;
    let m = flat(u.m)?;
    let m = (&m + ((&d - &m)? * (1.0 - BETA1))?)?;
    let v = ((flat(u.v)? * BETA2)? + (d.sqr()? * (1.0 - BETA2))?)?;
    let size = (v.sqrt()?.affine(1.0 / factor(u.bias2), EPS))?;
    let p = ((flat(u.parameter)? * factor(u.shrink))? - ((&m / size)? * factor(u.step))?)?;
    write(u.m, &m)?;
    write(u.v, &v)?;
    write(u.parameter, &p)?;
    match &u.copy {
        Some(copy) => write(copy, &p.to_dtype(copy.dtype())?),
        None => Ok(()),
    }
}
