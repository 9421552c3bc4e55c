//! With the feature `cuda`, compiles the kernels in src/cuda/kernels: for each file one fat binary with code for every architecture
//! that is known, which starts without being compiled again, and PTX, which the driver compiles for those that come later.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const KERNELS: &str = "src/cuda/kernels";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Without CUDA the kernels' sources are read by tests alone.
    if env::var_os("CARGO_FEATURE_CUDA").is_some() {
        println!("cargo:rerun-if-changed={KERNELS}");
        kernels();
    }
}

/// A100; A10, A40, RTX 30; L4, L40S, RTX 40; H100, H200; B200; RTX 50.
const ARCHITECTURES: [u32; 6] = [80, 86, 89, 90, 100, 120];

fn kernels() {
    println!("cargo:rerun-if-env-changed=NVCC");
    let nvcc = env::var("NVCC").unwrap_or_else(|_| "nvcc".to_owned());
    let Some(out) = env::var_os("OUT_DIR").map(PathBuf::from) else {
        fail("OUT_DIR is not set; cargo sets it");
    };
    let Ok(entries) = fs::read_dir(KERNELS) else {
        fail(&format!("{KERNELS} cannot be read"));
    };
    let mut sources: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    sources.retain(|p| p.extension().is_some_and(|e| e == "cu"));
    sources.sort();
    for source in sources {
        compile(&nvcc, &source, &out);
    }
}

fn compile(nvcc: &str, source: &Path, out: &Path) {
    let Some(stem) = source.file_stem() else { return };
    let least = ARCHITECTURES[0];
    let mut codes: Vec<String> = ARCHITECTURES
        .iter()
        .map(|a| format!("-gencode=arch=compute_{a},code=sm_{a}"))
        .collect();
    codes.push(format!("-gencode=arch=compute_{least},code=compute_{least}"));
    let ended = Command::new(nvcc)
        .args(["-fatbin", "-O3", "-std=c++17", "--compress-mode=size"])
        .args(&codes)
        .arg("-o")
        .args([&out.join(stem).with_extension("fatbin"), source])
        .status();
    match ended {
        Ok(s) if s.success() => {}
        Ok(s) => fail(&format!("{nvcc} ended with {s} on {}", source.display())),
        Err(e) => fail(&format!(
            "{nvcc} cannot be started ({e}); the feature `cuda` needs the CUDA compiler: `make cuda` brings it, or set NVCC"
        )),
    }
}

fn fail(why: &str) -> ! {
    println!("cargo:error={why}");
    std::process::exit(1)
}
