//! Lists of hashes, manifests of data sets, pins of weights, studies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use medft::manifest::{DataManifest, WeightsManifest, list::HashList};
use medft::study::{Known, Study};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(list) = HashList::parse(bytes, "fuzz") {
        let again = HashList::parse(&list.to_bytes(), "fuzz").expect("what was written is read");
        assert_eq!(again, list);
        assert_eq!(again.root(), list.root());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = DataManifest::parse(text, "fuzz").map(|m| m.how_to_get());
        let _ = WeightsManifest::parse(text, "fuzz");
        let known = Known {
            datasets: &["ddsm", "isic2019", "chexpert"],
            backbones: &["dinov2-b", "sam2-l"],
            published: &["paper2025"],
        };
        if let Ok(study) = Study::parse("fuzz", "fuzz.toml", text, &known) {
            // Seeds are few in a text that a person would write.
            assert!(study.seeds.len() > 1000 || study.runs().len() == study.cells() * study.seeds.len());
        }
    }
});
