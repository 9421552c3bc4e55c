//! The data-set readers on small files in the real layouts, on vectors made by CPython, pandas and NumPy, and on the real
//! label files where they are at hand.

mod audit;
mod chexpert;
mod ddsm;
mod isic2019;
mod medmnist;
mod random;

use medft::data::{Dataset, Labels, Pixels, leaks, registry, split};
use medft::error::BadInput;
use medft::spec::protocol::*;
use medft::study::Protocol;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

fn json(name: &str) -> serde_json::Value {
    serde_json::from_slice(&fs::read(vector(name)).unwrap()).unwrap()
}

fn ids(v: &serde_json::Value) -> Vec<u32> {
    v.as_array()
        .unwrap()
        .iter()
        .map(|i| i.as_u64().unwrap() as u32)
        .collect()
}

/// The real files' folder; `None` (and a note about it) where they are absent.
fn real(below: &str) -> Option<PathBuf> {
    let root = std::env::var_os("MEDFT_REAL").map(PathBuf::from);
    let root = root
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/real"))
        .join(below);
    if !root.exists() {
        crate::common::skip::skipped(&format!("no {}", root.display()));
        return None;
    }
    Some(root)
}

/// A folder of text files.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let new = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|(name, text)| new.put(name, text.as_bytes()));
        new
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn load(&self, set: &str, p: &Protocol) -> anyhow::Result<Dataset> {
        registry::find(set).unwrap().load(self.root(), p)
    }

    /// Loading must fail with a BadInput whose text holds all `texts`.
    fn fails(&self, set: &str, p: &Protocol, texts: &[&str]) {
        let e = self.load(set, p).err().unwrap_or_else(|| panic!("{texts:?}: no error"));
        assert!(e.downcast_ref::<BadInput>().is_some(), "not a BadInput: {e:?}");
        for w in texts {
            assert!(e.to_string().contains(w), "{w:?} is not in: {e}");
        }
    }
}

fn classes_of(d: &Dataset, part: &[u32]) -> Vec<usize> {
    let mut counts = vec![0; d.info.task.outputs()];
    for &i in part {
        d.labels.of(i).iter().for_each(|&c| counts[c as usize] += 1);
    }
    counts
}

fn file_of(d: &Dataset, i: u32) -> &str {
    match &d.samples[i as usize].pixels {
        Pixels::File(f) => f.to_str().unwrap(),
        Pixels::Array(_) => panic!("not a file"),
    }
}

#[test]
fn the_registry_is_in_order_and_an_unknown_name_lists_the_known_ones() {
    let names = registry::names();
    let want = "ddsm chexpert isic2019 aptos2019 breastmnist retinamnist dermamnist pneumoniamnist chestmnist bloodmnist \
                octmnist organamnist organcmnist organsmnist pathmnist tissuemnist";
    assert_eq!(names.join(" "), want);
    let e = registry::find("isic2018").err().unwrap().to_string();
    assert!(
        e.contains("isic2018") && e.contains("ddsm, chexpert, isic2019") && e.contains("chestmnist"),
        "{e}"
    );
}

/// PROTOCOL section 1, table; MedMNIST's facts from its own info.py (study facts).
#[test]
fn facts_are_those_of_the_protocol() {
    let p = Protocol::faithful();
    for (name, folder, outputs, channels, target, warmup) in [
        ("ddsm", "DDSM", 2, 1, "roc_auc", Warmup::Epochs(5)),
        ("chexpert", "CheXpert", 14, 1, "roc_auc", Warmup::Iterations(1000)),
        ("isic2019", "ISIC2019", 8, 3, "recall", Warmup::Iterations(1000)),
        ("aptos2019", "APTOS2019", 5, 3, "quadratic_kappa", Warmup::Epochs(5)),
        ("breastmnist", "medmnist", 2, 1, "roc_auc", Warmup::Epochs(5)),
        ("retinamnist", "medmnist", 5, 3, "quadratic_kappa", Warmup::Epochs(5)),
        ("dermamnist", "medmnist", 7, 3, "recall", Warmup::Iterations(1000)),
        ("pneumoniamnist", "medmnist", 2, 1, "roc_auc", Warmup::Epochs(5)),
        ("chestmnist", "medmnist", 14, 1, "roc_auc", Warmup::Iterations(1000)),
    ] {
        let i = registry::find(name).unwrap().info(&p);
        assert_eq!(
            (i.name, i.folder, i.task.outputs(), i.channels),
            (name, folder, outputs, channels)
        );
        assert_eq!((i.target, i.warmup), (target, warmup), "{name}");
        assert_eq!(
            (i.mean.len(), i.std.len(), i.classes.len()),
            (channels, channels, outputs),
            "{name}"
        );
        assert_eq!(
            matches!(i.task, medft::data::Task::MultiLabel(_)),
            name.starts_with("che"),
            "{name}"
        );
    }
    let stats = |name: &str| {
        let i = registry::find(name).unwrap().info(&p);
        (i.mean, i.std)
    };
    assert_eq!(stats("ddsm"), (vec![0.286], vec![0.267]));
    assert_eq!(stats("chexpert"), (vec![0.503], vec![0.292]));
    assert_eq!(
        stats("aptos2019"),
        (vec![0.415, 0.221, 0.073], vec![0.275, 0.150, 0.081])
    );
    let isic = (
        vec![0.66776717, 0.529_608_9, 0.52434725],
        vec![0.22381877, 0.20363036, 0.21538623],
    );
    assert_eq!(stats("isic2019"), isic);
    for (set, like) in [
        ("breastmnist", "ddsm"),
        ("pneumoniamnist", "ddsm"),
        ("retinamnist", "aptos2019"),
        ("dermamnist", "isic2019"),
        ("chestmnist", "chexpert"),
    ] {
        assert_eq!(stats(set), stats(like), "{set}");
    }
}
