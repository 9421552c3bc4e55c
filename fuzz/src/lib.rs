//! The rooms of medft that read files, compiled from `../src` by path, without candle and polars.
#![allow(dead_code)]

#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/fsio.rs"]
pub mod fsio;
#[path = "../../src/guarantee.rs"]
mod guarantee;
#[path = "../../src/rng.rs"]
pub mod rng;
#[path = "../../src/zipfile.rs"]
mod zipfile;
#[path = "../../src/study/mod.rs"]
pub mod study;

/// As `src/data/mod.rs`, without cache and loader.
#[path = "../../src/data"]
pub mod data {
    pub mod aptos2019;
    pub mod audit;
    pub mod chexpert;
    pub mod csv;
    pub mod ddsm;
    pub mod decode;
    pub mod duplicates;
    pub mod exif;
    pub mod files;
    pub mod format;
    pub mod isic2019;
    pub mod jpeg;
    pub mod leaks;
    pub mod medmnist;
    pub mod npz;
    pub mod phantom;
    pub mod pil;
    mod simd;
    pub mod split;
    pub mod types;
    pub use leaks::{Leaks, Overlap, leaks};
    pub use types::*;
}

/// As `src/fetch/mod.rs`, archives without the network.
#[path = "../../src/fetch"]
pub mod fetch {
    pub mod archive;
    mod error;
    mod progress;
    mod room;
    pub use error::{FetchError, ErrorKind};
    pub use progress::{Event, OnEvent};
}

/// As `src/manifest/mod.rs`, the parts that parse.
#[path = "../../src/manifest"]
pub mod manifest {
    pub mod dataset;
    pub mod hash;
    pub mod list;
    pub mod pin;
    pub use dataset::DataManifest;
    pub use pin::WeightsManifest;
}

/// As `src/model/mod.rs`, the machine that reads checkpoints.
#[path = "../../src/model"]
pub mod model {
    pub mod mapped;
    #[path = "pickle"]
    pub mod pickle {
        pub mod archive;
        pub mod call;
        pub mod value;
        pub mod vm;
    }
}

use std::path::Path;

/// A folder for the files of one input, the same for the whole process.
pub fn folder() -> &'static Path {
    static FOLDER: std::sync::LazyLock<tempfile::TempDir> =
        std::sync::LazyLock::new(|| tempfile::tempdir().expect("a temporary folder"));
    FOLDER.path()
}

/// Checks what every reader promises of a data set it returns.
pub fn check(d: &data::Dataset) {
    let n = d.samples.len() as u32;
    for part in [&d.train, &d.val, &d.test] {
        assert!(!part.is_empty() && part.iter().all(|&i| i < n));
    }
    let outputs = d.info.task.outputs();
    assert_eq!(d.labels.len(), d.samples.len());
    match &d.labels {
        data::Labels::Classes(all) => assert!(all.iter().all(|&c| (c as usize) < outputs)),
        data::Labels::MultiHot { labels, bits } => assert!(*labels == outputs && bits.iter().all(|&b| b < 2)),
    }
    for s in &d.samples {
        if let data::Pixels::File(f) = &s.pixels {
            assert!(f.components().all(|c| matches!(c, std::path::Component::Normal(_))), "{f:?}");
        }
    }
    let _ = data::audit::labels(d);
}
