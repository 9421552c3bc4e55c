//! A set with label files and not one image was "all right" to lock, verify and plan, and only the run failed, at the first
//! image (tensorflow/datasets#2662; FairMedFM#12). Variants: some images, `.JPG` for `.jpg`, a folder too many, Git LFS
//! pointers, empty files, an archive that was not unpacked, what macOS leaves.

use crate::place::Place;
use crate::{aptos, images};
use std::fs;

fn lock(p: &Place) -> crate::place::Said {
    p.medft(&["data", "lock", "aptos2019"])
}

#[test]
fn a_set_without_images_is_not_locked_and_every_state_says_so() {
    let p = Place::new();
    let set = aptos(&p);
    fs::remove_dir_all(set.join("train_images")).unwrap();
    let a = lock(&p);
    assert_eq!(a.code, 2, "{}", a.all());
    assert!(
        a.err.contains("48 images listed, 48 not here") && a.err.contains("and 28 more"),
        "{}",
        a.err
    );
    assert!(!p.path("data/aptos2019.sha256").exists());
}

/// A list of an older medft, or of `sha256sum`, may vouch for a set without its images.
#[test]
fn a_list_of_other_origin_does_not_stand_for_the_images() {
    let p = Place::new();
    let set = aptos(&p);
    let all = images(&set);
    fs::remove_file(&all[7]).unwrap();
    fs::write(&all[9], b"").unwrap();
    let mut list = String::new();
    for f in images(&set).into_iter().chain([set.join("train_1.csv")]) {
        let bytes = fs::read(&f).unwrap();
        list.push_str(&format!(
            "{}  {}\n",
            crate::server::sha(&bytes),
            f.strip_prefix(&set).unwrap().display()
        ));
    }
    fs::write(p.path("data/aptos2019.sha256"), list).unwrap();
    let name = |i: usize| all[i].strip_prefix(&set).unwrap().display().to_string();
    for args in [
        &["data", "verify", "aptos2019"][..],
        &["data", "verify", "aptos2019", "--since-lock"],
    ] {
        let a = p.medft(args);
        assert_eq!(a.code, 2, "{}", a.all());
        let said = a.all();
        assert!(said.contains(&format!("no image   {}", name(7))), "{said}");
        assert!(
            said.contains(&format!("unreadable {}  (an empty file)", name(9))),
            "{said}"
        );
    }
    let a = p.medft(&[
        "plan",
        "paper",
        "--only",
        "dataset=aptos2019,backbone=dinov2-b,freeze=frozen,head=linear",
    ]);
    assert!(a.all().contains("blocked") && a.all().contains(&name(7)), "{}", a.all());
}

#[test]
fn what_is_there_instead_is_named_with_what_to_do() {
    let p = Place::new();
    let set = aptos(&p);
    let all = images(&set);
    let name = |i: usize| all[i].file_name().unwrap().to_str().unwrap().to_owned();
    fs::rename(&all[0], all[0].with_extension("PNG")).unwrap();
    fs::rename(&all[1], all[1].with_extension("jpeg")).unwrap();
    fs::create_dir(set.join("deeper")).unwrap();
    fs::rename(&all[2], set.join("deeper").join(name(2))).unwrap();
    fs::write(
        &all[3],
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    )
    .unwrap();
    fs::write(&all[4], b"").unwrap();
    fs::write(&all[5], b"<!DOCTYPE html><title>Sign in</title>").unwrap();
    fs::write(&all[6], b"RIFF\x24\0\0\0WEBPVP8 ").unwrap();
    fs::write(&all[7], [&[0; 128][..], b"DICM\x02\0"].concat()).unwrap();
    fs::write(&all[8], b"\x1f\x8b\x08\0").unwrap();
    fs::remove_file(&all[9]).unwrap();
    fs::write(all[9].with_file_name(format!("._{}", name(9))), b"\0\x05\x16\x07").unwrap();
    fs::write(set.join(".DS_Store"), b"x").unwrap();
    let a = lock(&p);
    assert_eq!(a.code, 2, "{}", a.all());
    for said in [
        "48 images listed, 4 not here, 6 unreadable",
        "upper and lower case differ",
        "another ending",
        "it lies at deeper/",
        "only ._x of it is here, which macOS keeps beside a file",
        "a Git LFS pointer",
        "git lfs pull",
        "an empty file",
        "a web page (HTML)",
        "sign in",
        "a WebP image, which medft does not read",
        "a DICOM file, which this build of medft does not read",
        "convert it to PNG",
        "a gzip archive",
        "Rename the files",
    ] {
        assert!(a.err.contains(said), "{said}: {}", a.err);
    }
}

#[test]
fn other_sets_go_on_and_nothing_is_said_to_be_decoded_that_is_not() {
    let p = Place::new();
    aptos(&p);
    let a = p.medft(&["data", "lock", "ddsm", "aptos2019"]);
    assert_eq!(a.code, 2, "{}", a.all());
    assert!(
        a.err.contains("DDSM") && a.out.contains("aptos2019: 49 files"),
        "{}",
        a.all()
    );
    assert!(
        a.out.contains("48 images listed, 48 not decoded (--decode does it)"),
        "{}",
        a.out
    );
    let a = p.medft(&["data", "lock", "aptos2019", "--decode"]);
    assert!(
        a.code == 0 && a.out.contains("48 images listed, all decoded"),
        "{}",
        a.all()
    );
    let a = p.medft(&["data", "verify", "aptos2019"]);
    assert!(
        a.code == 0 && a.out.contains("48 not decoded (--decode does it)"),
        "{}",
        a.all()
    );
    // A damaged image passes until it is decoded: its bytes are the locked ones.
    let victim = images(&p.path("data/APTOS2019"))[3].clone();
    let mut bytes = fs::read(&victim).unwrap();
    let half = bytes.len() / 2;
    bytes.truncate(half);
    fs::write(&victim, bytes).unwrap();
    assert_eq!(lock(&p).code, 0);
    for verb in ["verify", "lock"] {
        let a = p.medft(&["data", verb, "aptos2019", "--decode"]);
        assert_eq!(a.code, 2, "{}", a.all());
        let name = victim.file_name().unwrap().to_str().unwrap();
        assert!(
            a.all().contains("39") || a.all().contains("1 unreadable"),
            "{}",
            a.all()
        );
        assert!(a.all().contains(name), "{}", a.all());
    }
}

/// What a system leaves in a folder is no part of the set, and is said to be left out.
#[test]
fn litter_is_left_out_and_counted() {
    let p = Place::new();
    let set = aptos(&p);
    let before = lock(&p);
    let root = |out: &str| out.split("root ").nth(1).unwrap()[..64].to_owned();
    fs::create_dir_all(set.join("__MACOSX/train_images")).unwrap();
    for f in [
        "__MACOSX/train_images/._x.png",
        ".DS_Store",
        "._train_1.csv",
        "Thumbs.db",
    ] {
        fs::write(set.join(f), b"\0\x05\x16\x07").unwrap();
    }
    let after = lock(&p);
    assert_eq!(root(&before.out), root(&after.out));
    assert!(after.out.contains("left out   4 files or folders"), "{}", after.out);
    assert_eq!(p.medft(&["data", "verify", "aptos2019"]).code, 0);
}

/// One image of the first set missing ended the whole run, with the second set whole.
#[test]
fn one_image_stops_all() {
    let p = Place::new();
    aptos(&p);
    assert_eq!(lock(&p).code, 0);
    fs::remove_file(&images(&p.path("data/APTOS2019"))[0]).unwrap();
    let a = p.medft(&[
        "plan",
        "paper",
        "--only",
        "dataset=aptos2019,backbone=dinov2-b,freeze=frozen,head=linear",
    ]);
    assert!(a.all().contains("blocked"), "{}", a.all());
    assert!(a.all().contains("1 missing"), "{}", a.all());
}

/// The first image is not there: the folder was taken for one with a level more, and all images for missing.
#[test]
fn a_half_unpacked_folder_misses_only_what_is_missing() {
    let p = Place::new();
    let set = aptos(&p);
    let csv = fs::read_to_string(set.join("train_1.csv")).unwrap();
    let first = csv.lines().nth(1).unwrap().split(',').next().unwrap().to_owned();
    // One level, as in the competition's archive.
    let nested = set.join("train_images/train_images");
    for f in images(&nested) {
        fs::rename(&f, set.join("train_images").join(f.file_name().unwrap())).unwrap();
    }
    fs::remove_dir(nested).unwrap();
    fs::remove_file(set.join(format!("train_images/{first}.png"))).unwrap();
    let a = lock(&p);
    assert!(
        a.code == 2 && a.err.contains("48 images listed, 1 not here"),
        "{}",
        a.all()
    );
}
