//! What the targets share.

use medft::data;
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
