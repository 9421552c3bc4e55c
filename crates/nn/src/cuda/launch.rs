//! Launching a kernel on tensors, on the device they lie on.

use super::composed::instead_of;
use crate::autograd::Value;
use crate::emulation::{self, KernelParam, Launch};
use crate::fallback::Kernel;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, DType, Device, Layout, Result, Storage, Tensor, bail};

/// An argument of a kernel.
pub(crate) enum Arg<'a> {
    /// Read; contiguous.
    In(&'a Tensor),
    /// Written, or read and written.
    Out(&'a mut Value),
    U32(usize),
    U64(usize),
    F32(f32),
    F64(f64),
}

/// How a kernel's work is spread.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Spread {
    /// So many items, a thread each.
    Items(usize),
    /// So many elements, `ITEMS` a thread.
    Elements(usize),
    /// So many rows, a warp each.
    Rows(usize),
    /// So many pieces, a block each.
    Blocks(usize),
    /// So many pieces, a block of so many threads each.
    Teams(usize, usize),
}

/// Threads a block where the work does not say; a sum over a block counts on it (`SUM_THREADS` in kernels/common.cuh).
const THREADS: usize = 256;
const WARPS: usize = THREADS / 32;
/// Elements that a thread of an elementwise kernel has at once (kernels/pack.cuh).
const ITEMS: usize = 8;

impl Spread {
    fn grid(self) -> u32 {
        let blocks = match self {
            Self::Items(n) => n.div_ceil(THREADS),
            Self::Elements(n) => n.div_ceil(ITEMS * THREADS),
            Self::Rows(n) => n.div_ceil(WARPS),
            Self::Blocks(n) | Self::Teams(n, _) => n,
        };
        blocks.clamp(1, 1 << 16) as u32
    }

    fn threads(self) -> u32 {
        match self {
            Self::Teams(_, threads) => threads as u32,
            _ => THREADS as u32,
        }
    }
}

/// Runs a kernel of a module on `device`, after everything that was launched there before.
///
/// # Errors
/// Where an operand is not contiguous, lies elsewhere or is of another type, or the kernel fails.
///
/// # Safety
/// The arguments must be those of the kernel, by number and type, and operands as large as it takes them to be; `indirect` must be
/// memory that nobody else uses.
pub(crate) unsafe fn launch(
    device: &Device,
    (module, kernel): (&'static str, &str),
    work: Spread,
    args: &mut [Arg<'_>],
    indirect: &[KernelParam],
) -> Result<()> {
    let mut params = Vec::with_capacity(args.len());
    for arg in args {
        params.push(match arg {
            Arg::In(t) => {
                let (s, l) = t.storage_and_layout();
                let (at, bytes) = address(&s, l)?;
                KernelParam::Read { at, bytes }
            }
            Arg::Out(v) => {
                let bytes = v.shape.elem_count() * v.storage.dtype().size_in_bytes();
                let at = address_mut(&mut v.storage)?;
                KernelParam::Write { at, bytes }
            }
            Arg::U32(x) => KernelParam::Number(u64::from(u32::try_from(*x).map_err(candle_core::Error::wrap)?)),
            Arg::U64(x) => KernelParam::Number(*x as u64),
            Arg::F32(x) => KernelParam::Number(u64::from(x.to_bits())),
            Arg::F64(x) => KernelParam::Number(x.to_bits()),
        });
    }
    let launch = Launch {
        module,
        kernel,
        grid: work.grid(),
        block: work.threads(),
        params: &params,
        indirect,
    };
    match device {
        Device::Cpu => match emulation::executor() {
            // SAFETY: passed on to the caller; operands are borrowed, and exclusively so where they are written.
            Some(e) => unsafe { e.run(&launch) },
            None => bail!("{kernel}: a kernel was launched on the CPU"),
        },
        #[cfg(feature = "cuda")]
        // SAFETY: passed on to the caller.
        Device::Cuda(d) => unsafe { super::driver::run(d, &launch) },
        _ => bail!("{kernel}: this binary was built without CUDA"),
    }
}

/// Where a contiguous operand lies, and its bytes.
pub(super) fn address(s: &Storage, l: &Layout) -> Result<(u64, usize)> {
    let Some((begin, end)) = l.contiguous_offsets() else {
        bail!("a kernel's operand must be contiguous, its layout is {l:?}")
    };
    let size = s.dtype().size_in_bytes();
    let base = match s {
        Storage::Cpu(c) => cpu_address(c)?,
        #[cfg(feature = "cuda")]
        Storage::Cuda(c) => super::driver::address(c)?,
        _ => bail!("a kernel's operand lies on a device without kernels"),
    };
    Ok((base + (begin * size) as u64, (end - begin) * size))
}

pub(super) fn address_mut(s: &mut Storage) -> Result<u64> {
    macro_rules! of {
        ($c:expr, $($t:ident),*) => {
            match $c {
                $(CpuStorage::$t(v) => Ok(v.as_mut_ptr() as u64),)*
                c => bail!("kernels do not write {:?}", c.dtype()),
            }
        };
    }
    match s {
        Storage::Cpu(c) => of!(c, U32, I64, BF16, F16, F32, F64),
        #[cfg(feature = "cuda")]
        Storage::Cuda(c) => super::driver::address(c),
        _ => bail!("a kernel's result lies on a device without kernels"),
    }
}

fn cpu_address(c: &CpuStorage) -> Result<u64> {
    macro_rules! of {
        ($($t:ident),*) => {
            match c {
                $(CpuStorage::$t(v) => Ok(v.as_ptr() as u64),)*
                c => bail!("kernels do not read {:?}", c.dtype()),
            }
        };
    }
    of!(U32, I64, BF16, F16, F32, F64)
}

/// The ending of a kernel's name for an element type.
pub(crate) fn tag(t: DType) -> Result<&'static str> {
    Ok(match t {
        DType::F32 => "f32",
        DType::F64 => "f64",
        DType::BF16 => "bf16",
        DType::F16 => "f16",
        t => bail!("there are no kernels for {t:?}"),
    })
}

/// Packs (kernels/pack.cuh) that kernels take `d` neighbouring elements by, `widest` being the widest type of an operand; single
/// elements where `d` is not a multiple.
pub(crate) fn packs(d: usize, widest: DType) -> usize {
    let pack = 16 / widest.size_in_bytes();
    if d.is_multiple_of(pack) { d / pack } else { d }
}

/// Blocks of rows that a sum over rows is cut into; a function of the number of rows alone.
///
/// 32 rows a block are few enough that narrow and wide rows alike fill a GPU with threads, and so many that the sums of blocks
/// are little memory beside the rows.
pub(crate) fn row_blocks(rows: usize) -> usize {
    rows.div_ceil(32).clamp(1, 1024)
}

/// (outer, parts, len) → (outer, len), the parts added in an order that follows from their number.
pub(crate) fn sum_parts(parts: &Tensor, outer: usize, count: usize, len: usize) -> Result<Value> {
    let device = parts.device();
    if instead_of(Kernel::Parts, device) {
        return Value::copy_of(&parts.detach().reshape((outer, count, len))?.sum(1)?);
    }
    let mut sum = Value::new((outer, len), parts.dtype(), device)?;
    let sums = outer * packs(len, parts.dtype());
    // More parts than a warp has lanes are shared among its lanes.
    let work = if count > 32 {
        Spread::Rows(sums)
    } else {
        Spread::Items(sums)
    };
    // SAFETY: the arguments are those of kernels/elementwise.cu, for operands of these sizes.
    unsafe {
        launch(
            device,
            ("elementwise", &format!("sum_parts_{}", tag(parts.dtype())?)),
            work,
            &mut [
                Arg::In(parts),
                Arg::Out(&mut sum),
                Arg::U64(outer),
                Arg::U32(count),
                Arg::U64(len),
            ],
            &[],
        )
    }?;
    Ok(sum)
}
