//! The self-check of a device by the emulator, and of the CPU engine: it passes, finds every kernel that was broken, and has candle's
//! ops stand in for it.

use candle_core::{Device, Tensor};
use medft::data::{Labels, Task};
use medft::model::Classifier;
use medft::rng::{Purpose, Stream};
use medft::study::{Freeze, HeadKind, Protocol, RunSpec, Scale};
use medft::train::loss::Target;
use medft::train::optim::{AdamW, AdamWConfig};
use medft_nn::backward;
use medft_nn::emulation::{self, Executor, KernelParam, Launch, LibraryProduct};
use medft_nn::fallback::{self, Kernel};
use medft_nn::isa::Isa;
use medft_nn::precision::{Compute, scope};
use medft_nn::selfcheck::{self, Checked};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// Runs kernels by the emulator and notes their names; breaks what one of them writes.
struct Broken {
    inner: Arc<dyn Executor>,
    kernel: Option<String>,
    seen: Mutex<BTreeSet<String>>,
}

/// What cuBLASLt's products are called here.
const PRODUCT: &str = "product";

impl Broken {
    fn new(inner: &Arc<impl Executor + 'static>, kernel: Option<&str>) -> Arc<Self> {
        #[allow(clippy::arc_with_non_send_sync)] // As `emulate` takes it.
        Arc::new(Self {
            inner: inner.clone(),
            kernel: kernel.map(str::to_owned),
            seen: Mutex::default(),
        })
    }

    fn see(&self, kernel: &str) -> bool {
        self.seen.lock().unwrap().insert(kernel.to_owned());
        self.kernel.as_deref() == Some(kernel)
    }

    fn seen(&self) -> BTreeSet<String> {
        self.seen.lock().unwrap().clone()
    }
}

impl Executor for Broken {
    unsafe fn run(&self, l: &Launch<'_>) -> candle_core::Result<()> {
        // SAFETY: passed on to the caller.
        unsafe { self.inner.run(l)? };
        if self.see(l.kernel) {
            let written = l.params.iter().chain(l.indirect).filter_map(|w| match *w {
                KernelParam::Write { at, bytes } if bytes > 0 => Some((at, bytes)),
                _ => None,
            });
            for (at, bytes) in written {
                // The exponents of one of the first values and of the last, whatever their type: what a kernel writes at one end
                // may be of no use (a scan's first chunk has none before it).
                let first = at + bytes.min(8) as u64 - 1;
                let last = at + bytes as u64 - 1;
                for place in BTreeSet::from([first, last]) {
                    // SAFETY: a byte of the operand, which the launch may write.
                    unsafe { *(place as *mut u8) ^= 0x40 };
                }
            }
        }
        Ok(())
    }

    fn product(&self, _: &LibraryProduct) -> candle_core::Result<bool> {
        Ok(!self.see(PRODUCT))
    }
}

/// A kernel's name without its types.
fn family(kernel: &str) -> String {
    let types = ["f16", "bf16", "f32", "f64"];
    let parts: Vec<&str> = kernel.split('_').filter(|w| !types.contains(w)).collect();
    parts.join("_")
}

/// A model of each kind of kernels, in a precision: trained for a step by the rest of the thread's kernels.
const TRAININGS: [(&str, HeadKind, Compute); 10] = [
    ("dinov2-b", HeadKind::Linear, Compute::Float32),
    ("dinov2-b", HeadKind::Mha, Compute::Bfloat16),
    ("aimv2-l", HeadKind::Linear, Compute::Float32),
    ("aimv2-l", HeadKind::Linear, Compute::Bfloat16),
    ("clip-b", HeadKind::Linear, Compute::Float32),
    ("clip-b", HeadKind::Linear, Compute::Float16),
    ("sam2-b", HeadKind::Linear, Compute::Float32),
    ("sam2-b", HeadKind::Linear, Compute::Bfloat16),
    ("vmamba-s", HeadKind::Linear, Compute::Float32),
    ("vmamba-s", HeadKind::Linear, Compute::Float16),
];

/// The losses of two steps, and the norms of their gradients.
fn trained((backbone, head, compute): (&str, HeadKind, Compute)) -> Vec<f64> {
    let mut protocol = Protocol::faithful();
    protocol.crop = 64;
    let spec = RunSpec {
        dataset: "test".into(),
        backbone: backbone.into(),
        scale: Scale::Tiny,
        freeze: Freeze::Unfrozen,
        head,
        seed: 0,
        protocol,
    };
    scope(compute, || {
        let m = Classifier::random(&spec, 3, 5, &Device::Cpu).unwrap();
        let config = AdamWConfig {
            weight_decay: 1e-2,
            layer_decay: 1.0,
            clip: 1.0,
        };
        let mut optim = AdamW::new(&m.params, config).unwrap();
        let mut r = Stream::new(5, Purpose::Test, 0, 0);
        let x: Vec<f32> = (0..2 * 3 * 64 * 64).map(|_| r.uniform_in(-1.0, 1.0) as f32).collect();
        let x = Tensor::from_vec(x, (2, 3, 64, 64), &Device::Cpu).unwrap();
        let target = Target::new(Task::MultiClass(5), &Labels::Classes(vec![0, 3]), &Device::Cpu).unwrap();
        let mut out = Vec::new();
        for _ in 0..2 {
            let loss = target.loss(&m.forward(&x).unwrap()).unwrap();
            out.push(f64::from(loss.to_scalar::<f32>().unwrap()));
            out.push(optim.step(&backward(&loss).unwrap(), 1e-3).unwrap().grad_norm);
        }
        out
    })
}

/// The same training: of 16 bits as far as their roundings allow.
fn same_training(what: &str, compute: Compute, a: &[f64], b: &[f64]) {
    let bound = if compute == Compute::Float32 { 1e-4 } else { 3e-2 };
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= bound * b.abs(), "{what}: {a} against {b}");
    }
}

/// Breaks one kernel of every `n`th family that the check launches: the check finds it, replaces what is broken, passes then, and a
/// model that would launch it trains as before.
fn break_every(n: usize) {
    let Some(emulator) = crate::harness::emulator::get() else {
        return;
    };
    let whole = Broken::new(emulator, None);
    let mended = emulation::emulate(whole.clone(), || selfcheck::mend(&Device::Cpu));
    let failed: Vec<_> = mended.first.iter().filter(|c| c.failed.is_some()).collect();
    assert!(failed.is_empty() && mended.replaced.is_empty(), "{failed:?}");
    // What each training launches, and what came of it.
    let trainings = TRAININGS.map(|t| {
        let whole = Broken::new(emulator, None);
        (t, emulation::emulate(whole.clone(), || trained(t)), whole.seen())
    });
    let mut families = BTreeMap::new();
    for kernel in whole.seen() {
        families.entry(family(&kernel)).or_insert(kernel);
    }
    assert!(families.len() > 25, "{families:?}");
    let mut wrong = Vec::new();
    for kernel in families.into_values().step_by(n) {
        let broken = Broken::new(emulator, Some(&kernel));
        emulation::emulate(broken.clone(), || {
            let mended = selfcheck::mend(&Device::Cpu);
            let names = |of: &[Checked]| -> Vec<String> {
                let failed = of.iter().filter(|c| c.failed.is_some());
                failed.map(|c| c.name.clone()).collect()
            };
            let replaced: Vec<&str> = mended.replaced.iter().map(|k| k.name()).collect();
            println!(
                "{kernel}: {} replaced; found by {}",
                replaced.join(", "),
                names(&mended.first).join("; ")
            );
            if names(&mended.first).is_empty() || !names(&mended.last).is_empty() {
                wrong.push(format!(
                    "{kernel}: {:?}, then {:?}",
                    names(&mended.first),
                    names(&mended.last)
                ));
                return;
            }
            broken.seen.lock().unwrap().clear();
            if let Some((t, sound, _)) = trainings.iter().find(|(.., launched)| launched.contains(&kernel)) {
                same_training(&format!("{kernel} in {t:?}"), t.2, &trained(*t), sound);
            }
            assert!(!broken.seen().contains(&kernel), "{kernel} is launched still");
        });
        fallback::replace(&Device::Cpu, &[]);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn broken_kernels_are_found_and_replaced() {
    break_every(11);
}

#[test]
#[ignore = "the check several times for every family of kernels: minutes"]
fn every_broken_kernel_is_found_and_replaced() {
    break_every(1);
}

/// A device all of whose kernels are refused.
struct Refusing;

impl Executor for Refusing {
    unsafe fn run(&self, l: &Launch<'_>) -> candle_core::Result<()> {
        candle_core::bail!("{} was launched", l.kernel)
    }

    fn product(&self, p: &LibraryProduct) -> candle_core::Result<bool> {
        candle_core::bail!("{p:?} was asked for")
    }
}

/// No kernel is without a form to stand in for it, and those forms are right, together too.
#[test]
fn without_any_kernel_models_train_the_same() {
    let cpu = |t: (&str, HeadKind, Compute)| trained((t.0, t.1, Compute::Float32));
    let exact = TRAININGS.map(cpu);
    #[allow(clippy::arc_with_non_send_sync)] // As `emulate` takes it.
    let refusing = Arc::new(Refusing);
    emulation::emulate(refusing, || {
        fallback::replace(&Device::Cpu, Kernel::ALL);
        let failed: Vec<Checked> = selfcheck::kernels(&Device::Cpu)
            .into_iter()
            .filter(|c| c.failed.is_some())
            .collect();
        assert!(failed.is_empty(), "{failed:#?}");
        for (t, exact) in TRAININGS.iter().zip(&exact) {
            same_training(&format!("{t:?}"), t.2, &trained(*t), exact);
        }
        fallback::replace(&Device::Cpu, &[]);
    });
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
