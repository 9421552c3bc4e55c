//! Kernels that are not trusted on a device, and what stands in for them: the same from candle's own ops, slow and right.
//!
//! A self-check that finds a kernel wrong ([`crate::selfcheck::mend`]) has it replaced for the rest of the process; every op asks
//! here before it launches one. The forms themselves stand beside the kernels that they replace, or in [`crate::reference`].

use candle_core::{Device, DeviceLocation};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

macro_rules! kernels {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What one or a few kernels do together, and candle's ops can do instead.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kernel {
            $($(#[$doc])* $name,)*
        }

        impl Kernel {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name, for records and people.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

kernels! {
    /// Changes of element types.
    Cast = "cast",
    /// The second half of every sum over rows.
    Parts = "sum of parts",
    /// The first half of a bias's gradient.
    Columns = "column sums",
    /// Products by cuBLASLt; candle's are by cuBLAS.
    Product = "product",
    /// A bias where cuBLASLt adds none.
    Bias = "bias",
    /// GELU, QuickGELU and SiLU.
    Activation = "activation",
    /// The gate of SwiGLU.
    Gate = "SiLU gate",
    /// LayerNorm.
    LayerNorm = "layer norm",
    /// RMSNorm.
    RmsNorm = "RMS norm",
    /// Residual sums.
    Residual = "residual",
    /// Residual sums with LayerScale.
    ScaledResidual = "scaled residual",
    /// Attention in float32.
    Attention = "attention",
    /// Attention in 16 bits, on tensor cores.
    ShortAttention = "attention in 16 bits",
    /// The unfold of a convolution.
    Unfold = "unfold",
    /// Depthwise convolution.
    Depthwise = "depthwise convolution",
    /// Max pooling.
    MaxPool = "max pooling",
    /// Windows of a map, cut out and put together.
    Windows = "windows",
    /// The selective scan.
    Scan = "selective scan",
    /// Maps in the orders of a scan, there and back.
    Cross = "cross scan",
    /// Cross entropy.
    CrossEntropy = "cross entropy",
    /// Binary cross entropy.
    BinaryCrossEntropy = "binary cross entropy",
    /// AdamW.
    AdamW = "AdamW",
    /// The gradients' norm.
    SquareSum = "gradient norm",
}

impl Kernel {
    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|k| k.name() == name)
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// What is replaced on any GPU: where nothing is, no op looks further.
static ANY: AtomicU32 = AtomicU32::new(0);
/// What is replaced, by GPU.
static REPLACED: Mutex<Vec<(DeviceLocation, u32)>> = Mutex::new(Vec::new());

thread_local! {
    /// What is replaced where this thread emulates a GPU.
    static EMULATED: Cell<u32> = const { Cell::new(0) };
}

/// Has ops on `device` do without these kernels from now on, and with all others. Where kernels are emulated, this thread's ops.
pub fn replace(device: &Device, kernels: &[Kernel]) {
    let bits = kernels.iter().fold(0, |b, k| b | k.bit());
    if device.is_cpu() {
        EMULATED.set(bits);
        return;
    }
    let mut all = REPLACED.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|(at, _)| *at != device.location());
    all.push((device.location(), bits));
    ANY.store(all.iter().fold(0, |b, (_, of)| b | of), Ordering::Release);
}

/// What ops on `device` do without.
pub fn replaced(device: &Device) -> Vec<Kernel> {
    let is = |k: &Kernel| is_replaced(*k, device);
    Kernel::ALL.iter().copied().filter(is).collect()
}

/// Whether ops on `device` do without a kernel.
pub(crate) fn is_replaced(kernel: Kernel, device: &Device) -> bool {
    if device.is_cpu() {
        return EMULATED.get() & kernel.bit() != 0;
    }
    if ANY.load(Ordering::Acquire) & kernel.bit() == 0 {
        return false;
    }
    let all = REPLACED.lock().unwrap_or_else(PoisonError::into_inner);
    let here = all.iter().find(|(at, _)| *at == device.location());
    here.is_some_and(|(_, bits)| bits & kernel.bit() != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_apart_and_lead_back() {
        assert!(Kernel::ALL.len() <= 32, "a bit each");
        for (i, k) in Kernel::ALL.iter().enumerate() {
            assert_eq!(Kernel::named(k.name()), Some(*k));
            assert_eq!(k.bit(), 1 << i);
        }
        assert_eq!(Kernel::named("none"), None);
    }

    #[test]
    fn what_a_thread_replaces_is_its_own() {
        replace(&Device::Cpu, &[Kernel::Cast, Kernel::SquareSum]);
        assert_eq!(replaced(&Device::Cpu), [Kernel::Cast, Kernel::SquareSum]);
        let beside = std::thread::spawn(|| replaced(&Device::Cpu)).join().unwrap();
        assert_eq!(beside, []);
        replace(&Device::Cpu, &[]);
        assert_eq!(replaced(&Device::Cpu), []);
    }
}
