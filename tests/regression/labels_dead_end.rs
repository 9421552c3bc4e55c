//! `data lock` said yes, `data verify` and `plan` said no and sent back to `data lock`, for ever: a label file beside the
//! one that is read has other bytes (scripts that rewrite CSV files), or one blank line more.

use crate::place::Place;
use crate::{aptos, copy};
use std::fs;

#[test]
fn lock_and_verify_go_by_one_rule_and_the_remedy_works() {
    let p = Place::new();
    let set = aptos(&p);
    // Another file of the competition's, with other bytes than the published ones.
    let rows = fs::read_to_string(set.join("train_1.csv"))
        .unwrap()
        .replace('\n', "\r\n");
    fs::write(set.join("train.csv"), rows).unwrap();
    let a = p.medft(&["data", "lock", "aptos2019"]);
    assert_eq!(a.code, 2, "{}", a.all());
    assert!(a.err.contains("train.csv: expected"), "{}", a.err);
    let remedy = "medft data lock aptos2019 --accept-labels";
    assert!(a.err.contains(remedy), "{}", a.err);
    // As verify and plan have it, where no list is yet.
    let a = p.medft(&["data", "verify", "aptos2019"]);
    assert!(a.code == 1 && a.out.contains(remedy), "{}", a.all());
    let a = p.medft(&[
        "plan",
        "paper",
        "--only",
        "dataset=aptos2019,backbone=dinov2-b,freeze=frozen,head=linear",
    ]);
    assert!(a.all().contains(remedy), "{}", a.all());
    // The remedy is a command, and it settles the matter for all.
    let args: Vec<&str> = remedy.split(' ').skip(1).collect();
    let a = p.medft(&args);
    assert_eq!(a.code, 0, "{}", a.all());
    let a = p.medft(&["data", "verify", "aptos2019"]);
    assert_eq!(a.code, 0, "{}", a.all());
    assert!(a.out.contains("was accepted when the set was locked"), "{}", a.out);
    let a = p.medft(&[
        "plan",
        "paper",
        "--only",
        "dataset=aptos2019,backbone=dinov2-b,freeze=frozen,head=linear",
    ]);
    assert!(!a.all().contains("label file train.csv: expected"), "{}", a.all());
    // Accepted is what was there, not what comes later.
    fs::write(set.join("train.csv"), "id_code,diagnosis\nx,0\n").unwrap();
    let a = p.medft(&["data", "verify", "aptos2019"]);
    assert!(a.code == 2 && a.out.contains("changed    train.csv"), "{}", a.all());
}

#[test]
fn a_blank_line_at_the_end_of_a_label_file_is_no_dead_end() {
    let p = Place::new();
    let a = p.medft(&["data", "synth", "isic2019", "--images", "120", "--data-dir", "made"]);
    assert_eq!(a.code, 0, "{}", a.all());
    let set = p.path("data/ISIC2019");
    copy(&p.path("made/phantom/ISIC2019"), &set);
    let truth = set.join("ISIC_2019_Training_GroundTruth.csv");
    let text = fs::read_to_string(&truth).unwrap();
    fs::write(&truth, format!("{text}\n")).unwrap();
    let a = p.medft(&["data", "lock", "isic2019"]);
    assert!(a.code == 2 && a.err.contains("--accept-labels"), "{}", a.all());
    let a = p.medft(&["data", "lock", "isic2019", "--accept-labels"]);
    assert_eq!(a.code, 0, "{}", a.all());
    assert_eq!(p.medft(&["data", "verify", "isic2019"]).code, 0);
}
