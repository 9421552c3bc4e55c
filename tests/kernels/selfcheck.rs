//! The self-check of a device by the emulator, and of the CPU engine: it passes, and it finds every kernel that was broken.

use candle_core::Device;
use medft_nn::emulation::{self, Executor, KernelParam, Launch};
use medft_nn::isa::Isa;
use medft_nn::selfcheck;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// Runs kernels by the emulator and notes their names; breaks what one of them wrote.
struct Broken {
    inner: Arc<dyn Executor>,
    kernel: Option<String>,
    seen: Mutex<BTreeSet<String>>,
}

impl Executor for Broken {
    unsafe fn run(&self, l: &Launch<'_>) -> candle_core::Result<()> {
        // SAFETY: passed on to the caller.
        unsafe { self.inner.run(l)? };
        self.seen.lock().unwrap().insert(l.kernel.to_owned());
        if self.kernel.as_deref() == Some(l.kernel) {
            let written = l.params.iter().chain(l.indirect).filter_map(|w| match *w {
                KernelParam::Write { at, bytes } if bytes > 0 => Some((at, bytes)),
                _ => None,
            });
            for (at, bytes) in written {
                // The exponent of one of the first values, whatever its type.
                let last = (at + bytes.min(8) as u64 - 1) as *mut u8;
                // SAFETY: the last of the operand's first bytes, which the launch may write.
                unsafe { *last ^= 0x40 };
            }
        }
        Ok(())
    }
}

/// A kernel's name without its types.
fn family(kernel: &str) -> String {
    let types = ["f16", "bf16", "f32", "f64"];
    let parts: Vec<&str> = kernel.split('_').filter(|w| !types.contains(w)).collect();
    parts.join("_")
}

/// Breaks one kernel of every `n`th family that the check launches.
fn break_every(n: usize) {
    let Some(emulator) = crate::harness::emulator::get() else {
        return;
    };
    let check = |kernel: Option<String>| {
        #[allow(clippy::arc_with_non_send_sync)] // As `emulate` takes it.
        let broken = Arc::new(Broken {
            inner: emulator.clone(),
            kernel,
            seen: Mutex::default(),
        });
        let all = emulation::emulate(broken.clone(), || selfcheck::kernels(&Device::Cpu));
        let failed = all.iter().filter(|c| c.failed.is_some());
        let failed: Vec<String> = failed.map(|c| c.name.clone()).collect();
        let seen = broken.seen.lock().unwrap().clone();
        (failed, seen)
    };
    let (failed, seen) = check(None);
    assert!(failed.is_empty(), "{failed:?}");
    let mut families = BTreeMap::new();
    for kernel in seen {
        families.entry(family(&kernel)).or_insert(kernel);
    }
    assert!(families.len() > 25, "{families:?}");
    for kernel in families.into_values().step_by(n) {
        let (failed, _) = check(Some(kernel.clone()));
        assert!(!failed.is_empty(), "{kernel} was broken and nothing was found");
        println!("{kernel}: {}", failed.join("; "));
    }
}

#[test]
fn broken_kernels_are_found() {
    break_every(11);
}

#[test]
#[ignore = "the check once for every family of kernels: minutes"]
fn every_broken_kernel_is_found() {
    break_every(1);
}

#[test]
fn this_processor_passes() {
    let all = selfcheck::instructions();
    assert_eq!(all.len(), selfcheck::ops().count() * (Isa::all_available().count() - 1));
    let failed: Vec<_> = all.iter().filter(|c| c.failed.is_some()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// One bit of one value of one op in one set of instructions.
#[test]
fn a_wrong_bit_of_the_cpu_engine_is_found_and_named() {
    let Some(isa) = Isa::all_available().find(|i| *i != Isa::Generic) else {
        return crate::harness::skip::skip("this processor has plain instructions alone");
    };
    for (k, broken) in selfcheck::ops().enumerate() {
        let all = selfcheck::instructions_altered(|op, with, out| {
            if (op, with) == (broken, isa) {
                let part = k % out.len();
                let part = if out[part].is_empty() { 0 } else { part };
                let i = k % out[part].len();
                out[part][i] = f32::from_bits(out[part][i].to_bits() ^ 1);
            }
        });
        let failed: Vec<&str> = all
            .iter()
            .filter(|c| c.failed.is_some())
            .map(|c| c.name.as_str())
            .collect();
        assert_eq!(failed, [format!("{broken}, {isa}")]);
    }
}
