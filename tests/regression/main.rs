//! Trouble that people met in the field, one file a case or a kind of cases; the public report stands where there is one.
//! Inputs are made anew here with the property that mattered.
//!
//! | case | test |
//! |---|---|
//! | zip21 (mae#3, pytorch#72654) | `zip21` |
//! | nohup (LlamaFactory#3036, SparK#19, rust-ctrlc#103) | `unattended::nohup_outlives…`, `unattended::a_second_sigterm…` |
//! | broken-pipe (rust#119980, fd#24) | `unattended::a_reader_that_leaves…`, `unattended::training_goes_on…` |
//! | chmod-eperm (gogs#3303, WSL#7225), fsync-dir-einval (rocksdb#2929, libgit2#5356, syncthing#4432) | `poor_file_systems` |
//! | flock (huggingface_hub#2399, datasets#2618) | `poor_file_systems::weights_are_fetched_without_locks…`, `crash` |
//! | lock-no-images, one-image-stops-all (tensorflow/datasets#2662, FairMedFM#12) | `lock_no_images`; all bad images in one list: `runner::schedule::a_bad_image…`, `data::loader::all_unreadable…` |
//! | labels-dead-end | `labels_dead_end` |
//! | hub-stale-file, hub-small, hf-mirror-308 (huggingface_hub#1222, #4487, #4637) | `hub` |
//! | tls-roots (ureq#1181) | `tls_roots` |
//! | kaggle-credentials (kaggle-cli#873, #1188) | `kaggle_credentials` |
//! | read-only-data (huggingface_hub#2797) | `read_only_data` |
//! | messages | `messages`, `siunitx` |
//! | images-peers | `images_peers`, `djpeg` |
//! | numbers without a bound | `numbers` |
//! | attacker | `attacker`, which says where its other findings are kept away |
#![allow(clippy::disallowed_methods)] // What a test reads it has written.

mod attacker;
mod cuda_libraries;
mod djpeg;
mod hub;
mod images_peers;
mod kaggle_credentials;
mod labels_dead_end;
mod lock_no_images;
mod login_node;
mod messages;
mod numbers;
#[path = "../shared/place/mod.rs"]
mod place;
mod poor_file_systems;
mod read_only_data;
#[path = "../shared/server/mod.rs"]
mod server;
mod siunitx;
#[path = "../shared/skip.rs"]
mod skip;
mod tls_roots;
mod try_it;
mod unattended;
mod zip21;

use place::Place;
pub(crate) use skip::skipped;
use std::fs;
use std::path::{Path, PathBuf};

/// Whether a program is installed.
pub(crate) fn has(program: &str) -> bool {
    std::process::Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .is_ok_and(|o| o.status.success())
}

/// Copies a folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for e in fs::read_dir(from).unwrap().flatten() {
        let dest = to.join(e.file_name());
        if e.path().is_dir() {
            copy(&e.path(), &dest);
        } else {
            fs::copy(e.path(), dest).unwrap();
        }
    }
}

/// APTOS in the authors' copy below `data`, drawn by medft: `train_1.csv` and the 48 images that it lists. Returns its folder.
pub(crate) fn aptos(p: &Place) -> PathBuf {
    let a = p.medft(&["data", "synth", "aptos2019", "--images", "60", "--data-dir", "made"]);
    assert_eq!(a.code, 0, "{}", a.all());
    let set = p.path("data/APTOS2019");
    copy(&p.path("made/phantom/APTOS2019"), &set);
    fs::remove_file(set.join("train.csv")).unwrap();
    let listed = fs::read_to_string(set.join("train_1.csv")).unwrap();
    for image in images(&set) {
        let id = image.file_stem().unwrap().to_str().unwrap().to_owned();
        if !listed.lines().any(|l| l.split(',').next() == Some(id.as_str())) {
            fs::remove_file(image).unwrap();
        }
    }
    assert_eq!(images(&set).len(), 48);
    set
}

/// The image files below a folder, sorted.
pub(crate) fn images(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for e in fs::read_dir(dir).unwrap().flatten() {
        match e.path() {
            p if p.is_dir() => out.extend(images(&p)),
            p if p.extension().is_some_and(|e| e == "png" || e == "jpg") => out.push(p),
            _ => {}
        }
    }
    out.sort();
    out
}
