//! A CUDA binary is started without make: the libraries were found through LD_LIBRARY_PATH alone, which a recipe line of the Makefile
//! set, so `target/release/medft` trained on the CPU. And a machine that the jumps are not written for is told so.

use std::fs;
use std::path::Path;
use std::process::Command;

/// What stands for NVIDIA's libraries: name, ending.
const LIBRARIES: [(&str, &str); 4] = [("cublas", "13"), ("cublasLt", "13"), ("curand", "10"), ("nvrtc", "13")];

fn run(command: &mut Command) -> Option<String> {
    let out = command.output().ok()?;
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    assert!(out.status.success(), "{command:?}: {}", text(&out.stderr));
    Some(text(&out.stdout))
}

/// Builds a program on stubs of a toolkit that has one function a library; `None` without a compiler or Python.
fn program(place: &Path) -> Option<()> {
    let kit = place.join("kit");
    fs::create_dir_all(kit.join("include")).unwrap();
    fs::create_dir_all(kit.join("lib")).unwrap();
    fs::write(kit.join("include/cuda.h"), "int cuInit(unsigned);").unwrap();
    for (name, ending) in LIBRARIES {
        let source = place.join("library.c");
        fs::write(&source, format!("int {name}Create(void) {{ return 42; }}")).unwrap();
        let out = kit.join(format!("lib/lib{name}.so.{ending}"));
        run(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(out).arg(source))?;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lazy_stubs.py");
    run(Command::new("python3").arg(script).arg(&kit).arg(place.join("stubs")))?;
    let main = "#include <stdio.h>\nint cublasCreate(void); int cuInit(unsigned);\n\
                int main(void) { printf(\"%d %d\", cublasCreate(), cuInit(0)); return 0; }";
    fs::write(place.join("main.c"), main).unwrap();
    let stub = |name: &str| place.join(format!("stubs/lib{name}.a"));
    fs::create_dir_all(place.join("bin")).unwrap();
    let mut cc = Command::new("cc");
    cc.arg(place.join("main.c"))
        .args([stub("cublas"), stub("cuda")])
        .arg("-ldl");
    run(cc.arg("-o").arg(place.join("bin/program")))?;
    Some(())
}

#[test]
fn a_binary_finds_its_libraries_where_they_are_usually_put() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return crate::skipped("the stubs are for x86-64 Linux");
    }
    let place = tempfile::tempdir().unwrap();
    let place = place.path();
    if program(place).is_none() {
        return crate::skipped("no C compiler or no python3");
    }
    let found = |variable: Option<(&str, &Path)>| {
        let mut c = Command::new(place.join("bin/program"));
        for v in [
            "LD_LIBRARY_PATH",
            "MEDFT_CUDA_LIBRARIES",
            "MEDFT_CUDA_DIR",
            "CONDA_PREFIX",
        ] {
            c.env_remove(v);
        }
        c.env("HOME", place);
        c.envs(variable);
        run(&mut c).unwrap()
    };
    // cublas's and the driver's own codes for "not there": the program starts without any of them.
    if found(None) != "1 100" {
        return crate::skipped("this machine has CUDA's libraries in the usual places");
    }
    let put = |below: &str| {
        fs::create_dir_all(place.join(below)).unwrap();
        fs::copy(
            place.join("kit/lib/libcublas.so.13"),
            place.join(below).join("libcublas.so.13"),
        )
        .unwrap();
    };
    for (below, variable) in [
        ("bin", None),
        ("bin/lib", None),
        (".cache/medft/cuda-13.0/wheels/nvidia/cu13/lib", None),
        ("own/wheels/nvidia/cu13/lib", Some(("MEDFT_CUDA_DIR", "own"))),
        ("named", Some(("MEDFT_CUDA_LIBRARIES", "named"))),
        ("conda/lib", Some(("CONDA_PREFIX", "conda"))),
    ] {
        put(below);
        let at = variable.map(|(name, folder)| (name, place.join(folder)));
        assert_eq!(found(at.as_ref().map(|(n, p)| (*n, p.as_path()))), "42 100", "{below}");
        fs::remove_file(place.join(below).join("libcublas.so.13")).unwrap();
        assert_eq!(found(None), "1 100", "{below}");
    }
}

/// `uname -m` as on a GH200: said at once, before a gigabyte is fetched, and the recipe ends there.
#[test]
fn another_machine_is_told_before_anything_is_fetched() {
    let place = tempfile::tempdir().unwrap();
    let uname = place.path().join("uname");
    fs::write(&uname, "#!/bin/sh\necho aarch64\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&uname, mode).unwrap();
    let path = format!("{}:{}", place.path().display(), std::env::var("PATH").unwrap());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let recipes = [
        (root.join("scripts/cuda-env.sh"), vec![]),
        (root.join("scripts/cuda.sh"), vec!["build"]),
    ];
    for (script, args) in recipes {
        let out = Command::new("bash")
            .arg(&script)
            .args(args)
            .current_dir(root)
            .env("PATH", &path)
            .env("MEDFT_CUDA_DIR", place.path().join("cuda"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(
            !out.status.success() && said.contains("aarch64"),
            "{}: {said}",
            script.display()
        );
        assert!(!place.path().join("cuda").exists());
    }
}
