//! With the feature `cuda`, compiles the kernels in src/cuda/kernels to PTX, which the driver finishes for its GPU.

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

fn kernels() {
    for v in ["NVCC", "CUDA_COMPUTE_CAP"] {
        println!("cargo:rerun-if-env-changed={v}");
    }
    let nvcc = env::var("NVCC").unwrap_or_else(|_| "nvcc".to_owned());
    let capability = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| "80".to_owned());
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
        compile(&nvcc, &capability, &source, &out);
    }
}

fn compile(nvcc: &str, capability: &str, source: &Path, out: &Path) {
    let Some(stem) = source.file_stem() else { return };
    let ptx = out.join(stem).with_extension("ptx");
    let ended = Command::new(nvcc)
        .args([
            "-ptx",
            "-O3",
            "-std=c++17",
            &format!("-arch=compute_{capability}"),
            "-o",
        ])
        .args([&ptx, source])
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
