//! Where chmod, the fsync of a folder, flock, hard links or links are refused, nothing could be written or fetched: CIFS and
//! WSL's DrvFs (gogs#3303, WSL#7225), VirtualBox's shared folders and FUSE (rocksdb#2929, libgit2#5356, syncthing#4432),
//! Lustre and NFS without locks (huggingface_hub#2399, datasets#2618). Played by a library before the C library.

use crate::place::{Place, SHORT, Said};
use crate::server::{Reply, Server, sha};
use crate::{aptos, has, skipped};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The library, compiled; `None` where there is no compiler.
fn library(p: &Place) -> Option<PathBuf> {
    if !has("cc") {
        skipped("there is no C compiler");
        return None;
    }
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/regression/refuse.c");
    let to = p.path("refuse.so");
    let made = std::process::Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-w", source, "-o"])
        .arg(&to)
        .status();
    assert!(made.unwrap().success());
    Some(to)
}

fn on(p: &Place, library: &PathBuf, refuse: &str, args: &[&str]) -> Said {
    let mut c = p.command(args);
    Said::by(c.env("LD_PRELOAD", library).env("REFUSE", refuse))
}

/// chmod-eperm and fsync-dir-einval, with the other errors that such file systems give.
#[test]
fn data_are_written_and_locked_where_an_operation_is_missing() {
    let p = Place::new();
    let Some(library) = library(&p) else { return };
    aptos(&p);
    for (i, (refuse, note)) in [
        ("chmod=1", None),
        ("chmod=38", None),
        ("chmod=95", None),
        ("fsyncdir=22", Some("folders cannot be forced to the disk")),
        ("fsyncdir=38", Some("folders cannot be forced to the disk")),
        ("fsyncdir=9", Some("folders cannot be forced to the disk")),
        ("fsyncfile=22 fsyncdir=95", Some("files cannot be forced to the disk")),
        ("flock=37", None),
        ("flock=38", None),
        ("link=1", None),
        ("mmap=19", None),
    ]
    .into_iter()
    .enumerate()
    {
        let dir = format!("d{i}");
        let a = on(
            &p,
            &library,
            refuse,
            &["data", "synth", "aptos2019", "--data-dir", &dir],
        );
        assert_eq!(a.code, 0, "{refuse}: {}", a.all());
        let a = on(&p, &library, refuse, &["data", "lock", "aptos2019"]);
        assert_eq!(a.code, 0, "{refuse}: {}", a.all());
        let said = a.err.matches("note: on the file system of").count();
        match note {
            Some(note) => assert!(a.err.contains(note), "{refuse}: {}", a.err),
            None => assert_eq!(said, 0, "{refuse}: {}", a.err),
        }
        assert!(said <= 2, "each is said once: {}", a.err);
        assert_eq!(
            on(&p, &library, refuse, &["data", "verify", "aptos2019"]).code,
            0,
            "{refuse}"
        );
    }
    // A full disk is no missing operation.
    let a = on(&p, &library, "fsyncfile=28", &["data", "lock", "aptos2019"]);
    assert!(a.code == 2 && a.err.contains("Free some space"), "{}", a.all());
    let a = on(&p, &library, "fsyncfile=5", &["data", "lock", "aptos2019"]);
    assert_eq!(a.code, 2, "{}", a.all());
}

#[test]
fn a_study_runs_where_operations_are_missing() {
    let p = Place::new();
    let Some(library) = library(&p) else { return };
    let s = p.study("s", |t| t.replace("epochs = 2", "epochs = 1"));
    let only = "freeze=frozen,head=linear";
    let refuse = "chmod=1 fsyncdir=22 link=1";
    let a = on(
        &p,
        &library,
        refuse,
        &["run", &s, "--only", only, "--checkpoint-every", "0"],
    );
    assert_eq!(a.code, 0, "{}", a.all());
    assert!(SHORT.contains("epochs"));
}

/// A hub of one file; the file's place in the cache.
fn hub(p: &Place) -> (Server, Vec<u8>) {
    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    let content: Vec<u8> = (0..5000u32).map(|i| ((i * i) >> 3) as u8).collect();
    fs::create_dir_all(p.path("manifests/weights")).unwrap();
    let pin = format!(
        "schema = 1\nname = \"toy\"\nbackbone = \"dinov2-b\"\nrank = 1\nfile = \"toy.bin\"\nformat = \"safetensors\"\nlayout = \
         \"hub\"\nlicence = \"t\"\nconfidence = \"high\"\nrepo = \"org/toy\"\nrevision = \"{COMMIT}\"\nurl = \"unused\"\nsize = \
         5000\nsha256 = \"{}\"\n[source]\nlayout = \"t\"\nsize = \"t\"\nsha256 = \"t\"\nrevision = \"t\"\n",
        sha(&content)
    );
    fs::write(p.path("manifests/weights/toy.toml"), pin).unwrap();
    let body = content.clone();
    let server = Server::start(move |ask| {
        Reply::file(ask, &body, "e")
            .with("X-Repo-Commit", COMMIT)
            .with("X-Linked-Etag", format!("\"{}\"", sha(&body)))
    });
    (server, content)
}

/// flock: ENOSYS let `run` go on, and neither `weights fetch` nor `data fetch`; ENOLCK stopped everything.
#[test]
fn weights_are_fetched_without_locks_and_without_links() {
    let p = Place::new();
    let Some(library) = library(&p) else { return };
    let (server, content) = hub(&p);
    for (i, refuse) in [
        "flock=38",
        "flock=37",
        "flock=9",
        "flock=95",
        "symlink=1 link=1 fsyncdir=22 chmod=1",
        "fsyncfile=95",
    ]
    .into_iter()
    .enumerate()
    {
        let mut c = p.command(&["weights", "fetch", "dinov2-b"]);
        c.env("HF_ENDPOINT", server.url())
            .env("HF_HOME", p.path(&format!("hf{i}")));
        c.env("MEDFT_MIRROR", p.path("manifests"));
        let a = Said::by(c.env("LD_PRELOAD", &library).env("REFUSE", refuse));
        assert_eq!(a.code, 0, "{refuse}: {}", a.all());
        if refuse.starts_with("flock") {
            assert_eq!(
                a.err.matches("files cannot be locked").count(),
                1,
                "{refuse}: {}",
                a.err
            );
        }
        let file = p.path(&format!(
            "hf{i}/hub/models--org--toy/snapshots/0123456789abcdef0123456789abcdef01234567/toy.bin"
        ));
        assert_eq!(fs::read(file).unwrap(), content, "{refuse}");
    }
}

#[test]
fn paths_need_not_be_utf_8() {
    let p = Place::new();
    aptos(&p);
    let odd = p.path("").join(OsStr::from_bytes(b"d\xff\xe9"));
    fs::rename(p.path("data"), &odd).unwrap();
    // A file of the set with such a name.
    fs::write(odd.join("APTOS2019").join(OsStr::from_bytes(b"n\xff.txt")), "x").unwrap();
    let run = |args: &[&str]| {
        let mut c = p.command(args);
        let dirs: [(&str, OsString); 2] = [
            ("MEDFT_DATA_DIR", odd.clone().into()),
            ("MEDFT_RESULTS_DIR", odd.join("r").into()),
        ];
        Said::by(c.envs(dirs))
    };
    for args in [
        &["data", "lock", "aptos2019"][..],
        &["data", "lock", "aptos2019", "--json"],
        &["data", "verify", "aptos2019"],
        &["data", "verify", "aptos2019", "--json"],
        &["data", "list", "--json"],
        &["doctor", "--json"],
        &["data", "synth", "ddsm", "--images", "60"],
    ] {
        let a = run(args);
        assert_eq!(a.code, 0, "{args:?}: {}", a.all());
    }
    let a = run(&["data", "verify", "aptos2019", "--json"]);
    assert_eq!(a.json()[0]["state"], "verified");
    let s = p.study("s", |t| t.replace("epochs = 2", "epochs = 1"));
    let a = run(&["run", &s, "--only", "freeze=frozen,head=linear"]);
    assert_eq!(a.code, 0, "{}", a.all());
}
