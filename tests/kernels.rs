//! The CUDA kernels' own source on the CPU: every op against its CPU form and finite differences, and the parity fixtures.
//!
//! A C++ compiler builds the kernels with `crates/nn/tests/emulator`; where there is none, every test says "skipped". Each launch
//! runs twice, in another order of blocks with another grid and its operands at other addresses, and must give the same bytes;
//! operands end at guard pages.

#[path = "kernels/attention.rs"]
mod attention;
#[path = "kernels/emulator.rs"]
mod emulator;
#[path = "kernels/ops.rs"]
mod ops;
#[path = "kernels/parity.rs"]
mod parity;
#[path = "kernels/resume.rs"]
mod resume;

/// Where these tests compute.
mod compute {
    use candle_core::Device;
    use medft_nn::cuda;

    /// Whether bf16 is checked too.
    pub const SIXTEEN_BITS: bool = true;

    /// Runs the rest of the calling thread's layers as kernels; says so where that is not possible.
    pub fn ready() -> bool {
        match super::emulator::get() {
            Some(e) => cuda::emulate_from_here(e.clone()),
            None => println!("skipped: no C++ compiler"),
        }
        super::emulator::get().is_some()
    }

    pub fn device() -> Device {
        Device::Cpu
    }

    /// Calls `f` with layers run as kernels.
    pub fn kernels<R>(f: impl FnOnce(&Device) -> R) -> Option<R> {
        let Some(e) = super::emulator::get() else {
            println!("skipped: no C++ compiler");
            return None;
        };
        Some(cuda::emulate(e.clone(), || f(&Device::Cpu)))
    }
}

/// Every kernel is there for every element type that its ops can ask for.
#[test]
fn kernels_are_listed() {
    let Some(e) = emulator::get() else {
        println!("skipped: no C++ compiler");
        return;
    };
    for family in ["layer_norm", "rms_norm", "layer_norm_dx", "rms_norm_dparams"] {
        for types in ["f32_f32", "f64_f64", "f32_bf16", "f32_f16", "bf16_bf16", "f16_f16"] {
            assert!(e.kernels.contains_key(&format!("{family}_{types}")), "{family}_{types}");
        }
    }
    for pass in ["", "_dq", "_dkv"] {
        for form in ["16_bf16", "64_f16", "80_bf16", "96_f16", "128_bf16", "128_f16"] {
            let name = format!("attention{pass}_{form}");
            assert!(e.kernels.contains_key(&name), "{name}");
        }
    }
}
