//! Builds the kernels for the CPU and runs launches on guarded copies of their operands.

use super::skip::skip;
use crate::compute::CONTRACTED;
use medft_nn::emulation::{Executor, KernelParam, Launch};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

type Run = unsafe extern "C" fn(*const i8, u32, u32, *const *const u64, usize, i32) -> *const i8;

/// The emulated device.
pub(crate) struct Emulator {
    run: Run,
    /// Kernels and their numbers of arguments; read by one of the programs that build the emulator.
    #[allow(dead_code)]
    pub(crate) kernels: BTreeMap<String, usize>,
    _library: libloading::Library,
    _folder: tempfile::TempDir,
}

/// The emulator, built at the first call; `None` where there is no C++ compiler, and the calling test is skipped.
pub(crate) fn get() -> Option<&'static Arc<Emulator>> {
    static EMULATOR: OnceLock<Option<Arc<Emulator>>> = OnceLock::new();
    let found = EMULATOR
        .get_or_init(|| compiler().map(|c| Arc::new(Emulator::build(&c))))
        .as_ref();
    if found.is_none() {
        skip("no C++ compiler");
    }
    found
}

/// Without contraction the emulated result is the same with every compiler; with it, it is as nvcc makes it.
fn contraction() -> &'static [&'static str] {
    match (CONTRACTED, cfg!(target_arch = "x86_64")) {
        (false, _) => &["-ffp-contract=off"],
        (true, true) => &["-ffp-contract=fast", "-mfma"],
        (true, false) => &["-ffp-contract=fast"],
    }
}

fn compiler() -> Option<String> {
    let named = std::env::var("CXX").ok();
    named
        .into_iter()
        .chain(["c++", "g++", "clang++"].map(String::from))
        .find(|c| {
            Command::new(c)
                .arg("--version")
                .output()
                .is_ok_and(|o| o.status.success())
        })
}

/// The crate `medft-nn`, for its own tests and for those of the program around it.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let below = here.join("crates/nn");
    if below.is_dir() { below } else { here.to_owned() }
}

fn sources() -> Vec<PathBuf> {
    let root = root();
    let mut all: Vec<PathBuf> = std::fs::read_dir(root.join("src/cuda/kernels"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "cu"))
        .collect();
    all.sort();
    all.push(root.join("tests/emulator/emulator.cpp"));
    all
}

impl Emulator {
    fn build(compiler: &str) -> Self {
        let root = root();
        let folder = tempfile::tempdir().unwrap();
        let mut objects = Vec::new();
        let mut running = Vec::new();
        for source in sources() {
            let object = folder.path().join(source.file_name().unwrap()).with_extension("o");
            let child = Command::new(compiler)
                .args(["-x", "c++", "-std=c++17", "-O1", "-fPIC", "-DMEDFT_EMULATOR", "-c"])
                .args(contraction())
                .arg("-I")
                .arg(root.join("tests/emulator"))
                .arg("-I")
                .arg(root.join("src/cuda/kernels"))
                .arg(&source)
                .arg("-o")
                .arg(&object)
                .spawn()
                .unwrap();
            running.push((source, child));
            objects.push(object);
        }
        for (source, mut child) in running {
            assert!(child.wait().unwrap().success(), "{} does not compile", source.display());
        }
        let library = folder.path().join("libkernels.so");
        let linked = Command::new(compiler)
            .arg("-shared")
            .args(&objects)
            .arg("-o")
            .arg(&library)
            .status()
            .unwrap();
        assert!(linked.success(), "the kernels do not link");
        // SAFETY: the library was built above from this project's sources; its functions have these types.
        unsafe {
            let library = libloading::Library::new(&library).unwrap();
            let run = *library.get::<Run>(b"emulator_run").unwrap();
            let list = library
                .get::<unsafe extern "C" fn(*mut u8, usize) -> usize>(b"emulator_list")
                .unwrap();
            let mut text = vec![0u8; list(std::ptr::null_mut(), 0)];
            list(text.as_mut_ptr(), text.len());
            let kernels = String::from_utf8(text)
                .unwrap()
                .lines()
                .map(|l| l.split_once(' ').unwrap())
                .map(|(name, n)| (name.to_owned(), n.parse().unwrap()))
                .collect();
            Self {
                run,
                kernels,
                _library: library,
                _folder: folder,
            }
        }
    }

    /// Runs a launch on guarded copies; returns the contents of what it may write.
    fn pass(&self, l: &Launch<'_>, grid: u32, descending: bool) -> candle_core::Result<Vec<Vec<u8>>> {
        let mut guarded: Vec<Option<Guarded>> = Vec::new();
        let mut values: Vec<u64> = Vec::new();
        for w in l.params {
            let (value, copy) = match *w {
                KernelParam::Number(x) => (x, None),
                KernelParam::Read { at, bytes } | KernelParam::Write { at, bytes } => {
                    let g = Guarded::copy(at, bytes, descending);
                    (g.at as u64, Some(g))
                }
            };
            values.push(value);
            guarded.push(copy);
        }
        let pointers: Vec<*const u64> = values.iter().map(std::ptr::from_ref).collect();
        let name = std::ffi::CString::new(l.kernel).unwrap();
        // SAFETY: the values have the types of the kernel's parameters; a wrong index meets a guard page.
        let failure = unsafe {
            (self.run)(
                name.as_ptr().cast(),
                grid,
                l.block,
                pointers.as_ptr(),
                pointers.len(),
                i32::from(descending),
            )
        };
        if !failure.is_null() {
            // SAFETY: a C string with static lifetime.
            let why = unsafe { std::ffi::CStr::from_ptr(failure.cast()) };
            candle_core::bail!("{}: {}", l.kernel, why.to_string_lossy());
        }
        let mut written = Vec::new();
        for (w, g) in l.params.iter().zip(&guarded) {
            assert!(
                g.as_ref().is_none_or(Guarded::alone),
                "{}: wrote beside an operand",
                l.kernel
            );
            match (*w, g) {
                (KernelParam::Read { at, bytes }, Some(g)) => {
                    assert!(g.bytes() == memory(at, bytes), "{}: an operand was changed", l.kernel);
                }
                (KernelParam::Write { .. }, Some(g)) => written.push(g.bytes().to_vec()),
                _ => {}
            }
        }
        Ok(written)
    }
}

impl Executor for Emulator {
    unsafe fn run(&self, l: &Launch<'_>) -> candle_core::Result<()> {
        let written: Vec<(u64, usize)> = l.indirect.iter().filter_map(written).collect();
        let copies = || -> Vec<Vec<u8>> { written.iter().map(|&(at, n)| memory(at, n).to_vec()).collect() };
        let before = copies();
        let first = self.pass(l, l.grid, false)?;
        let after = copies();
        for (&(at, _), b) in written.iter().zip(&before) {
            store(at, b);
        }
        let second = self.pass(l, l.grid.div_ceil(3), true)?;
        let again = written.iter().map(|&(at, n)| memory(at, n));
        assert!(
            first == second && after.iter().zip(again).all(|(a, b)| a == b),
            "{}: the result depends on the grid or the order of blocks",
            l.kernel
        );
        let targets = l.params.iter().filter_map(self::written);
        for ((at, _), bytes) in targets.zip(&first) {
            store(at, bytes);
        }
        Ok(())
    }
}

/// What a kernel may write: its address and length.
fn written(w: &KernelParam) -> Option<(u64, usize)> {
    match *w {
        KernelParam::Write { at, bytes } => Some((at, bytes)),
        _ => None,
    }
}

fn memory<'a>(at: u64, bytes: usize) -> &'a [u8] {
    // SAFETY: an operand of a launch, which lives during the call.
    unsafe { std::slice::from_raw_parts(at as *const u8, bytes) }
}

fn store(at: u64, bytes: &[u8]) {
    // SAFETY: an operand of a launch that may be written, with its length.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len()) };
}

const PAGE: usize = 4096;

/// A copy of an operand between two pages that cannot be indirect: against the page behind it, or, as far from a multiple of 16
/// bytes as the operand itself lies, at the page before it. So kernels that access memory by vectors meet addresses that allow it
/// and such that do not.
struct Guarded {
    map: *mut libc::c_void,
    size: usize,
    at: *mut u8,
    len: usize,
}

impl Guarded {
    fn copy(at: u64, len: usize, to_the_front: bool) -> Self {
        let shift = (at % 16) as usize;
        let inner = (len + shift).div_ceil(PAGE) * PAGE;
        let size = inner + 2 * PAGE;
        // SAFETY: a new private mapping; the pages at its ends are closed, the copy fits between them.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let map = libc::mmap(std::ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0);
            assert!(map != libc::MAP_FAILED, "no memory");
            let start = map.cast::<u8>().add(PAGE);
            if inner > 0 {
                assert_eq!(
                    libc::mprotect(start.cast(), inner, libc::PROT_READ | libc::PROT_WRITE),
                    0
                );
            }
            let target = start.add(if to_the_front { shift } else { inner - len });
            std::ptr::copy_nonoverlapping(at as *const u8, target, len);
            Self {
                map,
                size,
                at: target,
                len,
            }
        }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: inside the mapping.
        unsafe { std::slice::from_raw_parts(self.at, self.len) }
    }

    /// Whether everything beside the copy is as it was mapped: zero.
    fn alone(&self) -> bool {
        // SAFETY: the pages between the closed ones, which begin one page after the mapping does.
        let open = unsafe { std::slice::from_raw_parts(self.map.cast::<u8>().add(PAGE), self.size - 2 * PAGE) };
        let begin = self.at as usize - open.as_ptr() as usize;
        open[..begin].iter().chain(&open[begin + self.len..]).all(|&b| b == 0)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping made above, no longer used.
        unsafe { libc::munmap(self.map, self.size) };
    }
}
