//! Label files: the first byte picks set and protocol, NUL parts the files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use medft::data::{DatasetReader, aptos2019::Aptos2019, chexpert::CheXpert, ddsm::Ddsm, isic2019::Isic2019};
use medft::study::{Protocol, SplitRule};
use medft_fuzz::{check, folder};
use std::fs;

fuzz_target!(|bytes: &[u8]| {
    let Some((&pick, rest)) = bytes.split_first() else { return };
    let (set, names): (&dyn DatasetReader, &[&str]) = match pick % 4 {
        0 => (&Isic2019, &["ISIC_2019_Training_GroundTruth.csv", "ISIC_2019_Training_Metadata.csv", "val_ids.json"]),
        1 => (&CheXpert, &["train.csv", "valid.csv"]),
        2 => (&Aptos2019, &["train_1.csv", "val_ids.json"]),
        _ => (&Ddsm, &["ddsm_raw_image_lists/train.txt", "ddsm_raw_image_lists/val.txt", "ddsm_raw_image_lists/test.txt"]),
    };
    let mut p = Protocol::faithful();
    let rule = SplitRule::ALL[usize::from(pick / 4) % 3];
    rule.set(set.info(&p).name, &mut p);
    let root = folder();
    fs::create_dir_all(root.join("ddsm_raw_image_lists")).unwrap();
    let mut parts = rest.splitn(names.len(), |&b| b == 0);
    for name in names {
        match parts.next() {
            Some(content) => fs::write(root.join(name), content).unwrap(),
            None => drop(fs::remove_file(root.join(name))),
        }
    }
    if let Ok(d) = set.load(root, &p) {
        check(&d);
    }
});
