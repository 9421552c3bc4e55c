//! The machine that reads `data.pkl` of PyTorch checkpoints.
#![no_main]

use libfuzzer_sys::fuzz_target;
use medft_readers::model::pickle::vm;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(p) = vm::run(bytes) {
        let _ = p.root();
    }
});
