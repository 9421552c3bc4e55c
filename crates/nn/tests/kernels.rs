//! The CUDA kernels' own source on the CPU: every op against its CPU form and finite differences.
//!
//! A C++ compiler builds the kernels with `tests/emulator`. Each launch runs twice, in another order of blocks with another grid
//! and its operands at other addresses, and must give the same bytes; operands end at guard pages.

#[path = "kernels/attention.rs"]
mod attention;
#[path = "kernels/count.rs"]
mod count;
#[path = "kernels/fused.rs"]
mod fused;
mod harness;
#[path = "kernels/ops.rs"]
mod ops;

/// The README's example.
mod readme {
    include!("readme/example.rs");

    #[test]
    fn the_example_stands_there_as_it_runs() {
        main().unwrap();
        let fence = concat!("```rust\n", include_str!("readme/example.rs"), "```");
        assert!(include_str!("../README.md").contains(fence));
    }
}

/// Where these tests compute.
mod compute {
    use super::harness::emulator;
    use candle_core::Device;
    use medft_nn::emulation;

    /// Whether the kernels are compiled with fused multiply-adds, as nvcc compiles them.
    pub(crate) const CONTRACTED: bool = false;

    /// Calls `f` with layers run as kernels; `None` where the test is skipped.
    pub(crate) fn kernels<R>(f: impl FnOnce(&Device) -> R) -> Option<R> {
        emulator::get().map(|e| emulation::emulate(e.clone(), || f(&Device::Cpu)))
    }
}

/// Every kernel is there for every element type that its ops can ask for.
#[test]
fn kernels_are_listed() {
    let Some(e) = harness::emulator::get() else { return };
    for family in ["layer_norm", "rms_norm", "layer_norm_backward", "rms_norm_backward"] {
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
