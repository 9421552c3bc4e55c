//! Manifests, lists and pins against real files, against coreutils' sha256sum and against every way a copy can be wrong.

use crate::common;

use medft::error::BadInput;
use medft::manifest::*;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn write(root: &Path, name: impl AsRef<OsStr>, bytes: impl AsRef<[u8]>) {
    let p = root.join(Path::new(name.as_ref()));
    fs::create_dir_all(p.parent().unwrap()).unwrap();
    fs::write(p, bytes).unwrap();
}

/// A folder `set` with a few files, beside room for lists.
fn small_set() -> (TempDir, PathBuf) {
    let dir = temp();
    let root = dir.path().join("set");
    for (name, bytes) in [
        ("a.jpg", "aaaa"),
        ("b.jpg", "bbbb"),
        ("sub/c.jpg", "cccc"),
        ("sub/d.jpg", "dddd"),
    ] {
        write(&root, name, bytes);
    }
    (dir, root)
}

fn target<'a>(root: &'a Path, stat_file: Option<&'a Path>) -> Target<'a> {
    Target {
        set: "toy",
        root,
        only: None,
        stat_file,
    }
}

fn locked(root: &Path) -> (LockReport, HashList, PathBuf) {
    let out = root.with_extension("sha256");
    let report = lock(&target(root, None), &out, &quiet).unwrap();
    let list = HashList::read(&out).unwrap();
    (report, list, out)
}

fn checked(root: &Path, list: &HashList) -> VerifyReport {
    verify(&target(root, None), list, "toy.sha256", VerifyMode::Full, &quiet).unwrap()
}

fn bad(e: anyhow::Error) -> BadInput {
    e.downcast::<BadInput>().expect("a BadInput")
}

fn names<T: ToString>(paths: &[T]) -> Vec<String> {
    paths.iter().map(ToString::to_string).collect()
}

/// Runs a shell line in `dir`; `None` where the tool is not installed.
fn shell(dir: &Path, line: &str) -> Option<(bool, Vec<u8>)> {
    let out = Command::new("sh")
        .arg("-c")
        .arg(line)
        .current_dir(dir)
        .stderr(Stdio::inherit())
        .output()
        .ok()?;
    if out.status.code() == Some(127) {
        common::skip::skipped(&format!("`{line}` is not installed"));
        return None;
    }
    Some((out.status.success(), out.stdout))
}

const ODD_NAMES: [&[u8]; 9] = [
    b"plain.jpg",
    b"two  spaces",
    b" lead",
    b"*star",
    b"nl\nx",
    b"cr\rx",
    b"back\\slash",
    b"\xff\xfe.jpg",
    b"deep/er/x.png",
];

#[test]
fn sha256sum_reads_our_lists() {
    let dir = temp();
    let root = dir.path().join("set");
    for name in ODD_NAMES {
        write(&root, OsStr::from_bytes(name), name);
    }
    let (report, list, out) = locked(&root);
    assert_eq!((report.files, list.entries.len()), (ODD_NAMES.len(), ODD_NAMES.len()));
    if let Some((ok, said)) = shell(&root, &format!("sha256sum -c '{}'", out.display())) {
        assert!(ok);
        assert_eq!(String::from_utf8_lossy(&said).matches(": OK").count(), ODD_NAMES.len());
        fs::write(root.join("plain.jpg"), "other").unwrap();
        assert!(
            !shell(&root, &format!("sha256sum -c --status '{}'", out.display()))
                .unwrap()
                .0
        );
    }
}

#[test]
fn we_read_the_lists_of_sha256sum_and_its_digest_of_a_list_is_the_root() {
    let dir = temp();
    let root = dir.path().join("set");
    for name in ODD_NAMES {
        write(&root, OsStr::from_bytes(name), name);
    }
    let (report, ours, out) = locked(&root);
    let Some((_, theirs)) = shell(&root, "find . -type f -print0 | sort -z -r | xargs -0 sha256sum --") else {
        return;
    };
    let theirs = HashList::parse(&theirs, "theirs").unwrap();
    assert_eq!(theirs, ours);
    assert!(checked(&root, &theirs).ok);
    let (_, digest) = shell(dir.path(), &format!("sha256sum < '{}'", out.display())).unwrap();
    assert!(String::from_utf8_lossy(&digest).starts_with(&report.root.to_string()));
}

#[test]
fn the_root_is_of_names_and_contents_alone() {
    let (dir, root) = small_set();
    let (first, ..) = locked(&root);
    let elsewhere = dir.path().join("elsewhere/Other Name");
    fs::create_dir_all(elsewhere.parent().unwrap()).unwrap();
    fs::rename(&root, &elsewhere).unwrap();
    assert_eq!(locked(&elsewhere).0.root, first.root);
    fs::rename(elsewhere.join("a.jpg"), elsewhere.join("A.jpg")).unwrap();
    assert_ne!(locked(&elsewhere).0.root, first.root);
}

#[test]
fn a_changed_byte_a_missing_an_extra_and_a_swapped_pair_are_named() {
    let (_dir, root) = small_set();
    let (_, list, _) = locked(&root);
    let fine = checked(&root, &list);
    assert!(fine.ok && fine.hashed == 4 && fine.bytes == 16);

    fs::write(root.join("a.jpg"), "aaab").unwrap();
    fs::remove_file(root.join("b.jpg")).unwrap();
    write(&root, "sub/new.jpg", "new");
    fs::rename(root.join("sub/c.jpg"), root.join("t")).unwrap();
    fs::rename(root.join("sub/d.jpg"), root.join("sub/c.jpg")).unwrap();
    fs::rename(root.join("t"), root.join("sub/d.jpg")).unwrap();
    let r = checked(&root, &list);
    assert!(!r.ok);
    assert_eq!(names(&r.missing), ["b.jpg"]);
    assert_eq!(names(&r.extra), ["sub/new.jpg"]);
    assert!(r.moved.is_empty() && r.unreadable.is_empty());
    let changed: Vec<_> = r.changed.iter().map(|c| (c.path.to_string(), c.swapped)).collect();
    assert_eq!(
        changed,
        [
            ("a.jpg".into(), false),
            ("sub/c.jpg".into(), true),
            ("sub/d.jpg".into(), true)
        ]
    );
    assert_eq!(r.changed[1].content_of.as_ref().unwrap().to_string(), "sub/d.jpg");
    let text = r.to_string();
    for part in [
        "1 missing, 1 extra, 3 changed",
        "missing    b.jpg",
        "extra      sub/new.jpg",
        "(swapped with sub/c.jpg)",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let json = serde_json::to_value(&r).unwrap();
    assert_eq!(json["changed"][0]["path"], "a.jpg");
    assert_eq!(json["changed"][1]["content_of"], "sub/d.jpg");
    assert_eq!(json["missing"][0], "b.jpg");
}

#[test]
fn a_renamed_file_is_recognised_and_a_copy_over_another_too() {
    let (_dir, root) = small_set();
    let (_, list, _) = locked(&root);
    fs::rename(root.join("a.jpg"), root.join("z.jpg")).unwrap();
    fs::copy(root.join("b.jpg"), root.join("sub/c.jpg")).unwrap();
    let r = checked(&root, &list);
    assert_eq!(
        (names(&r.missing), names(&r.extra)),
        (vec!["a.jpg".into()], vec!["z.jpg".into()])
    );
    assert_eq!(
        (r.moved[0].from.to_string(), r.moved[0].to.to_string()),
        ("a.jpg".into(), "z.jpg".into())
    );
    assert_eq!(r.changed.len(), 1);
    assert!(r.changed[0].content_of.as_ref().unwrap().to_string() == "b.jpg" && !r.changed[0].swapped);
    assert!(r.to_string().contains("(the same content lies at z.jpg)"));
    assert!(r.text(0).contains("missing    … and 1 more"));
}

#[test]
fn unchanged_files_are_believed_since_the_lock_and_changed_ones_are_not() {
    let (dir, root) = small_set();
    let stat = dir.path().join(".medft-toy.stat");
    let t = target(&root, Some(&stat));
    let out = dir.path().join("toy.sha256");
    lock(&t, &out, &quiet).unwrap();
    let list = HashList::read(&out).unwrap();
    let since = || verify(&t, &list, "toy.sha256", VerifyMode::SinceLock, &quiet).unwrap();
    assert_eq!(since().hashed, 4, "files written a moment ago are not believed");
    std::thread::sleep(std::time::Duration::from_millis(2_200));
    assert_eq!(since().hashed, 4);
    let r = since();
    assert!(r.ok && r.hashed == 0 && r.unchanged_since_lock == 4, "{r}");
    assert!(r.to_string().contains("4 of them by size and time"));

    // The same size, and the modification time put back: the time of status change still tells.
    let before = fs::metadata(root.join("a.jpg")).unwrap().modified().unwrap();
    fs::write(root.join("a.jpg"), "aaab").unwrap();
    fs::File::options()
        .write(true)
        .open(root.join("a.jpg"))
        .unwrap()
        .set_modified(before)
        .unwrap();
    let r = since();
    assert_eq!((r.hashed, r.unchanged_since_lock, r.changed.len()), (1, 3, 1));
    assert_eq!(r.changed[0].path.to_string(), "a.jpg");

    let full = verify(&t, &list, "toy.sha256", VerifyMode::Full, &quiet).unwrap();
    assert_eq!((full.hashed, full.changed.len()), (4, 1));
    fs::write(&stat, "rubbish").unwrap();
    assert_eq!(since().hashed, 4);
}

#[test]
fn a_list_is_not_written_into_its_own_folder_nor_for_an_empty_one() {
    let (dir, root) = small_set();
    let e = bad(lock(&target(&root, None), &root.join("toy.sha256"), &quiet).unwrap_err());
    assert!(e.to_string().contains("outside of the folder"), "{e}");
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let e = bad(lock(&target(&empty, None), &dir.path().join("l"), &quiet).unwrap_err());
    assert_eq!(
        (e.expected.as_str(), e.found.as_str()),
        ("the files of a data set", "none")
    );
    let e = bad(verify(
        &target(&root, None),
        &HashList::default(),
        "l",
        VerifyMode::Full,
        &quiet,
    )
    .unwrap_err());
    assert!(e.remedy.contains("medft data lock toy"));
    let gone = dir.path().join("gone");
    let e = bad(lock(&target(&gone, None), &dir.path().join("l"), &quiet).unwrap_err());
    assert!(e.at.ends_with("gone") && e.remedy.contains("--data-dir"), "{e}");
}

#[test]
fn a_place_that_cannot_be_written_leaves_the_old_list() {
    let (dir, root) = small_set();
    write(dir.path(), "file", "in the way");
    let e = bad(lock(&target(&root, None), &dir.path().join("file/toy.sha256"), &quiet).unwrap_err());
    assert!(
        e.at.ends_with("file/toy.sha256") && e.expected == "to write this file",
        "{e}"
    );
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"in the way");
}

#[test]
fn what_is_no_file_is_reported_and_never_opened() {
    let (dir, root) = small_set();
    let (_, list, _) = locked(&root);
    fs::remove_file(root.join("a.jpg")).unwrap();
    let Some((true, _)) = shell(&root, "mkfifo a.jpg") else {
        return;
    };
    std::os::unix::fs::symlink("nowhere", root.join("link")).unwrap();
    let r = checked(&root, &list);
    let odd: Vec<_> = r.unreadable.iter().map(|u| format!("{}: {}", u.path, u.why)).collect();
    assert_eq!(odd[0], "a.jpg: a pipe, not a file");
    assert!(odd[1].starts_with("link: a link to nothing"), "{odd:?}");
    assert!(r.missing.is_empty() && !r.ok);
    let e = bad(lock(&target(&root, None), &dir.path().join("l"), &quiet).unwrap_err());
    assert!(
        e.found.contains("a.jpg (a pipe, not a file)") && e.found.contains("link (a link to nothing"),
        "{e}"
    );
}

#[test]
fn progress_ends_at_the_total() {
    let (_dir, root) = small_set();
    let last = std::sync::Mutex::new(Progress::default());
    let on = |p: Progress| {
        let mut l = last.lock().unwrap();
        l.files_done = l.files_done.max(p.files_done);
        l.bytes_done = l.bytes_done.max(p.bytes_done);
        (l.files_total, l.bytes_total) = (p.files_total, p.bytes_total);
    };
    lock(&target(&root, None), &root.with_extension("l"), &on).unwrap();
    assert_eq!(
        *last.lock().unwrap(),
        Progress {
            files_done: 4,
            files_total: 4,
            bytes_done: 16,
            bytes_total: 16
        }
    );
}

// ---- whole sets

fn verify_real(set: &str, data_dir: &Path) -> SetReport {
    verify_set(
        Catalogue::embedded(),
        set,
        DataKind::Real,
        data_dir,
        VerifyMode::Full,
        &quiet,
    )
    .unwrap()
}

#[test]
fn a_set_goes_from_missing_to_locked_to_verified_to_differing() {
    let dir = temp();
    let data = dir.path();
    let r = verify_real("chexpert", data);
    assert_eq!(r.state, SetState::Missing);
    assert!(r.remedy.contains("stanfordaimi") && r.remedy.contains("agreement"));
    assert!(r.require().unwrap_err().found == "none of it");
    let e = bad(lock_set(Catalogue::embedded(), "chexpert", data, false, &quiet).unwrap_err());
    assert!(e.remedy.contains("stanfordaimi"), "{e}");

    write(data, "CheXpert/train.csv", "Path\n");
    write(data, "CheXpert/train/patient00001/study1/view1_frontal.jpg", "image");
    let r = verify_real("chexpert", data);
    assert_eq!((r.state, r.root), (SetState::NotLocked, None));
    assert!(r.remedy.contains("medft data lock chexpert"));
    assert!(
        r.text(9).contains("label file train.csv: note: no published checksum"),
        "{}",
        r.text(9)
    );

    let lock = lock_set(Catalogue::embedded(), "chexpert", data, false, &quiet).unwrap();
    assert_eq!(
        (lock.files, lock.list.as_path()),
        (2, data.join("chexpert.sha256").as_path())
    );
    let r = verify_real("chexpert", data);
    assert_eq!((r.state, r.root), (SetState::Verified, Some(lock.root)));
    assert_eq!(r.require().unwrap(), lock.root);
    let json = serde_json::to_value(&r).unwrap();
    assert_eq!(json["root"], lock.root.to_string());
    assert_eq!(json["state"], "verified");

    write(data, "CheXpert/train.csv", "Path\r\n");
    let r = verify_real("chexpert", data);
    assert_eq!((r.state, r.root), (SetState::Differs, None));
    let e = r.require().unwrap_err();
    assert!(
        e.found.contains("changed    train.csv") && e.remedy.contains("medft data lock chexpert"),
        "{e}"
    );

    fs::write(data.join("chexpert.sha256"), "nonsense\n").unwrap();
    let e = bad(verify_set(
        Catalogue::embedded(),
        "chexpert",
        DataKind::Real,
        data,
        VerifyMode::Full,
        &quiet,
    )
    .unwrap_err());
    assert!(e.at.ends_with("chexpert.sha256:1"), "{e}");
}

#[test]
fn label_files_that_are_not_the_published_ones_are_refused_alike_by_lock_and_verify() {
    let dir = temp();
    write(dir.path(), "ISIC2019/ISIC_2019_Training_GroundTruth.csv", "image,MEL\n");
    write(
        dir.path(),
        "ISIC2019/ISIC_2019_Training_Input/ISIC_2019_Training_Input/x.jpg",
        "image",
    );
    let lock = |accept| lock_set(Catalogue::embedded(), "isic2019", dir.path(), accept, &quiet);
    // A label file that is not there cannot be accepted.
    for accept in [false, true] {
        let e = bad(lock(accept).unwrap_err());
        assert!(e.found.contains("ISIC_2019_Training_Metadata.csv: missing"), "{e}");
    }
    write(dir.path(), "ISIC2019/ISIC_2019_Training_Metadata.csv", "image\n");
    let e = bad(lock(false).unwrap_err());
    assert!(
        e.found.contains("1291479 bytes") && e.found.contains("found 10 bytes"),
        "{e}"
    );
    assert!(e.remedy.contains("`medft data lock isic2019 --accept-labels`"), "{e}");
    assert_eq!(verify_real("isic2019", dir.path()).state, SetState::NotLocked);

    let report = lock(true).unwrap();
    let r = verify_real("isic2019", dir.path());
    assert_eq!((r.state, r.root), (SetState::Verified, Some(report.root)));
    let said = r.text(9);
    assert!(
        said.contains("found 10 bytes") || said.contains("10 bytes was accepted when the set was locked"),
        "{said}"
    );
    assert_eq!(r.label_notes().len(), 2);

    // A list of before the rule, without the acceptance: verify says what to run, and that settles it.
    let list = dir.path().join("isic2019.sha256");
    let text = fs::read_to_string(&list).unwrap();
    let bare: String = text
        .lines()
        .filter(|l| !l.starts_with('#'))
        .map(|l| format!("{l}\n"))
        .collect();
    fs::write(&list, bare).unwrap();
    let e = verify_real("isic2019", dir.path()).require().unwrap_err();
    assert!(e.remedy.contains("`medft data lock isic2019 --accept-labels`"), "{e}");
}

#[test]
fn sets_that_share_a_folder_do_not_see_each_other() {
    let dir = temp();
    write(dir.path(), "medmnist/chestmnist.npz", "one");
    write(dir.path(), "medmnist/dermamnist.npz", "two");
    let a = lock_set(Catalogue::embedded(), "chestmnist", dir.path(), true, &quiet).unwrap();
    assert_eq!(a.files, 1);
    write(dir.path(), "medmnist/dermamnist.npz", "three");
    let r = verify_real("chestmnist", dir.path());
    assert!(r.files.as_ref().unwrap().ok);
    // The publisher's MD5 is known, and this is not it: it was accepted, and is said.
    assert_eq!(r.state, SetState::Verified);
    assert!(
        r.text(9).contains("md5 02c8a6516a18b556561a56cbdd36c4a8"),
        "{}",
        r.text(9)
    );
    assert_eq!(verify_real("retinamnist", dir.path()).state, SetState::Missing);
}

#[test]
fn a_users_own_list_goes_before_the_committed_one_but_not_before_the_publishers_hashes() {
    let dir = temp();
    write(dir.path(), "medmnist/breastmnist_64.npz", "not it");
    let r = verify_real("breastmnist", dir.path());
    let f = r.files.as_ref().unwrap();
    assert_eq!(f.list, "data-manifests/breastmnist.sha256");
    assert_eq!(
        (names(&f.missing), names(&f.extra)),
        (vec!["breastmnist.npz".into()], vec!["breastmnist_64.npz".into()])
    );
    assert!(r.remedy.contains("medft data lock breastmnist"));
    let refused = bad(lock_set(Catalogue::embedded(), "breastmnist", dir.path(), false, &quiet).unwrap_err());
    assert!(
        refused.found.contains("md5 742edef2a1fd1524b2efff4bd7ba9364"),
        "{refused}"
    );
    lock_set(Catalogue::embedded(), "breastmnist", dir.path(), true, &quiet).unwrap();
    let r = verify_real("breastmnist", dir.path());
    assert!(r.files.as_ref().unwrap().ok && r.state == SetState::Verified);
    assert!(
        r.text(9).contains("md5 742edef2a1fd1524b2efff4bd7ba9364"),
        "{}",
        r.text(9)
    );
}

#[test]
fn a_stand_in_is_held_against_its_own_list() {
    let dir = temp();
    write(dir.path(), "data/DDSM/ddsm_raw/x.jpg", "image");
    let manifests = dir.path().join("manifests");
    let all = Catalogue::embedded();
    lock_phantom(all, "ddsm", &dir.path().join("data"), &manifests).unwrap();
    for f in ["ddsm", "isic2019"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("data-manifests/{f}.toml"));
        fs::copy(from, manifests.join(format!("{f}.toml"))).unwrap();
    }
    let all = Catalogue::from_dir(&manifests).unwrap();
    let data = dir.path().join("data");
    let r = verify_set(&all, "ddsm", DataKind::Phantom, &data, VerifyMode::Full, &quiet).unwrap();
    assert!(r.state == SetState::Verified && r.labels.is_empty());
    write(&data, "DDSM/ddsm_raw/x.jpg", "imagE");
    let r = verify_set(&all, "ddsm", DataKind::Phantom, &data, VerifyMode::Full, &quiet).unwrap();
    assert!(r.state == SetState::Differs && r.remedy.contains("medft data synth ddsm"));
}

#[test]
fn real_label_files_are_recognised_in_both_forms_of_line_ends() {
    let all = Catalogue::embedded();
    for (set, folder) in [("isic2019", "labels/isic2019"), ("ddsm", "labels")] {
        let Some(from) = common::real(folder) else { return };
        let m = all.set(set).unwrap();
        let asis: Vec<_> = check_labels(m, &from).into_iter().map(|c| c.outcome).collect();
        assert!(
            asis.iter().all(|o| matches!(o, LabelOutcome::Matches { .. })),
            "{asis:?}"
        );
        for ends in ["\n", "\r\n"] {
            let dir = temp();
            for l in &m.label_files {
                let text = fs::read_to_string(from.join(&l.path)).unwrap().replace('\r', "");
                write(dir.path(), &l.path, text.replace('\n', ends));
            }
            let got = check_labels(m, dir.path());
            assert!(
                got.iter().all(|c| matches!(c.outcome, LabelOutcome::Matches { .. })),
                "{got:?}"
            );
            let first = &m.label_files[0];
            let mut bytes = fs::read(dir.path().join(&first.path)).unwrap();
            bytes[100] ^= 1;
            write(dir.path(), &first.path, &bytes);
            let got = check_labels(m, dir.path());
            assert!(matches!(&got[0].outcome, LabelOutcome::Differs { strict, .. } if *strict == first.strict));
            assert_eq!(got[0].ok(), !first.strict);
        }
    }
}

#[test]
fn real_medmnist_files_are_the_published_ones_but_for_the_reordered_copy() {
    let Some(from) = common::real("data/medmnist") else {
        return;
    };
    // Nothing is written beside the real files: the data directory is a temporary one with a link in it.
    let linked = temp();
    std::os::unix::fs::symlink(&from, linked.path().join("medmnist")).unwrap();
    for set in ["retinamnist", "breastmnist"] {
        let r = verify_real(set, linked.path());
        assert_eq!(r.state, SetState::Verified, "{}", r.text(9));
    }
    let dir = temp();
    fs::create_dir(dir.path().join("medmnist")).unwrap();
    let copy = from.join("pneumoniamnist_content_reordered.npz");
    fs::copy(copy, dir.path().join("medmnist/pneumoniamnist.npz")).unwrap();
    let lock = |accept| lock_set(Catalogue::embedded(), "pneumoniamnist", dir.path(), accept, &quiet);
    // The labels are in the archive itself: other bytes are other labels, and only on request are they those that are meant.
    let said = lock(false).unwrap_err().to_string();
    assert!(said.contains("found 4158908 bytes with sha256 91163a7f"), "{said}");
    lock(true).unwrap();
    let r = verify_real("pneumoniamnist", dir.path());
    assert!(
        r.text(9).contains("was accepted when the set was locked"),
        "{}",
        r.text(9)
    );
}

// ---- weights

/// A catalogue of one backbone `toy` whose pins the test writes; `keys` is what tells them apart.
fn pins(dir: &Path, list: &[(&str, u32, &str)]) -> Catalogue {
    for (name, rank, keys) in list {
        let text = format!(
            "schema = 1\nname = \"{name}\"\nbackbone = \"toy\"\nrank = {rank}\nlicence = \"none\"\nconfidence = \"low\"\n\
             layout = \"hf\"\nformat = \"safetensors\"\n{keys}\n[source]\nlayout = \"here\"\nsize = \"here\"\nsha256 = \"here\"\n\
             revision = \"here\"\nmd5 = \"here\"\nmd5_prefix = \"here\"\nsha256_prefix = \"here\"\n"
        );
        write(dir, format!("manifests/weights/{name}.toml"), text);
    }
    Catalogue::from_dir(&dir.join("manifests")).unwrap()
}

fn places(dir: &Path) -> Places {
    Places {
        weights_dir: dir.join("weights"),
        hub: Some(dir.join("hub")),
    }
}

fn judged(all: &Catalogue, dir: &Path, check: Check) -> WeightsReport {
    verify_weights(all, "toy", &places(dir), check, &quiet).unwrap()
}

fn pinned(bytes: &[u8]) -> String {
    let sha = Sha::of(bytes);
    format!(
        "repo = \"pub/toy-model\"\nrevision = \"abc\"\nfile = \"model.safetensors\"\nurl = \"https://x/y\"\nsize = {}\nsha256 = \"{sha}\"",
        bytes.len()
    )
}

#[test]
fn weights_are_found_verified_and_refused() {
    let dir = temp();
    let all = pins(dir.path(), &[("toy-hf", 1, &pinned(b"weights"))]);
    let r = judged(&all, dir.path(), Check::Cached);
    assert_eq!(r.state, WeightsState::Missing);
    let e = r.require().unwrap_err();
    assert!(e.remedy.contains("medft weights fetch toy"), "{e}");
    let by_hand = all.pins("toy").unwrap()[0].by_hand(Path::new("weights"));
    assert_eq!(
        by_hand,
        "hf download pub/toy-model model.safetensors --revision abc --local-dir 'weights/toy-hf'"
    );

    for place in [
        "weights/toy-hf/model.safetensors",
        "weights/toy/model.safetensors",
        "weights/toy-model/model.safetensors",
        "weights/model.safetensors",
        "hub/models--pub--toy-model/snapshots/abc/model.safetensors",
    ] {
        write(dir.path(), place, "weights");
        let r = judged(&all, dir.path(), Check::Cached);
        assert_eq!(r.state, WeightsState::Present, "{place}");
        let w = r.require().unwrap();
        assert!(w.path.ends_with(place) && w.sha256 == Sha::of(b"weights") && w.note.is_none());

        write(dir.path(), place, "weighTs");
        let e = judged(&all, dir.path(), Check::Cached).require().unwrap_err();
        assert!(
            e.at.ends_with(place) && e.expected.starts_with("sha256 ") && e.found.starts_with("sha256 "),
            "{e}"
        );
        assert!(
            e.remedy
                .starts_with("Delete the file and fetch it again: medft weights fetch toy"),
            "{e}"
        );
        fs::remove_file(dir.path().join(place)).unwrap();
    }
    write(dir.path(), "weights/toy-hf/model.safetensors", "short");
    let r = judged(&all, dir.path(), Check::NoRead);
    assert_eq!(r.state, WeightsState::WrongHash);
    let e = r.require().unwrap_err();
    assert_eq!((e.expected.as_str(), e.found.as_str()), ("7 bytes", "5 bytes"));
    assert!(r.text().contains("refused    "), "{}", r.text());
    let json = serde_json::to_value(&r).unwrap();
    assert_eq!(
        (json["state"].as_str(), json["rejected"][0]["pin"].as_str()),
        (Some("wrong-hash"), Some("toy-hf"))
    );
    // Another revision in the hub's cache is another file, unless it is the same: the pin is the hash of its content.
    fs::remove_file(dir.path().join("weights/toy-hf/model.safetensors")).unwrap();
    let other = "hub/models--pub--toy-model/snapshots/def/model.safetensors";
    write(dir.path(), other, "weighTs");
    assert_ne!(judged(&all, dir.path(), Check::Cached).state, WeightsState::Present);
    write(dir.path(), other, "weights");
    assert_eq!(judged(&all, dir.path(), Check::Cached).state, WeightsState::Present);
}

#[test]
fn a_refused_file_does_not_come_in_by_a_pin_that_knows_no_hash() {
    let dir = temp();
    let unknown = "repo = \"pub/toy-model\"\nrevision = \"new\"\nfile = \"model.safetensors\"\nurl = \"https://x/y\"\nsize_unknown = \"?\"\nsha256_unknown = \"?\"";
    let all = pins(
        dir.path(),
        &[("toy-hf", 1, &pinned(b"weights")), ("toy-new", 2, unknown)],
    );
    for place in [
        "weights/toy/model.safetensors",
        "weights/toy-model/model.safetensors",
        "weights/model.safetensors",
    ] {
        write(dir.path(), place, "weighTs");
        assert_eq!(
            judged(&all, dir.path(), Check::Cached).state,
            WeightsState::WrongHash,
            "{place}"
        );
        fs::remove_file(dir.path().join(place)).unwrap();
    }
    // In its own folder it is meant.
    write(dir.path(), "weights/toy-new/model.safetensors", "others");
    let r = judged(&all, dir.path(), Check::Cached);
    assert!(matches!(r.state, WeightsState::PresentUnverified { .. }));
    assert_eq!(r.pin.unwrap().name, "toy-new");
    // And a wrong preferred file does not hide a good one, but is told.
    write(dir.path(), "weights/toy-hf/model.safetensors", "weighTs");
    let r = judged(&all, dir.path(), Check::Cached);
    assert!(r.require().is_ok() && r.rejected.len() == 1);
}

#[test]
fn a_hash_first_seen_is_locked_and_holds() {
    let dir = temp();
    let unknown =
        "file = \"toy.pth\"\nurl = \"https://x/toy.pth\"\nsize_unknown = \"?\"\nsha256_unknown = \"not published\"";
    let all = pins(dir.path(), &[("toy-fb", 1, unknown)]);
    let file = dir.path().join("weights/toy.pth");
    write(dir.path(), "weights/toy.pth", "weights");
    let r = judged(&all, dir.path(), Check::NoRead);
    assert!(r.require().unwrap_err().remedy.contains("medft weights verify"));
    let w = judged(&all, dir.path(), Check::Cached).require().unwrap();
    assert!(w.note.unwrap().starts_with("no published sha256 (not published)"));
    let lock = fs::read_to_string(dir.path().join("weights/weights.lock")).unwrap();
    assert!(
        lock.contains(&Sha::of(b"weights").to_string()) && lock.contains("name = \"toy-fb\""),
        "{lock}"
    );
    assert!(judged(&all, dir.path(), Check::Full).require().is_ok());

    fs::write(&file, "weighTs").unwrap();
    let e = judged(&all, dir.path(), Check::Cached).require().unwrap_err();
    assert!(e.expected.contains("the one first seen (weights.lock)"), "{e}");
    assert!(e.remedy.contains("medft weights fetch toy"), "{e}");
    assert_eq!(
        fs::read_to_string(dir.path().join("weights/weights.lock")).unwrap(),
        lock
    );
    fs::write(dir.path().join("weights/weights.lock"), "[[file]]\nname = 3\n").unwrap();
    let e = bad(verify_weights(&all, "toy", &places(dir.path()), Check::Cached, &quiet).unwrap_err());
    assert!(e.at.ends_with("weights.lock"), "{e}");
}

#[test]
fn other_published_digits_are_checked_where_there_is_no_sha256() {
    let head =
        "file = \"toy.pth\"\nurl = \"https://x/toy.pth\"\nsize_unknown = \"?\"\nsha256_unknown = \"not published\"\n";
    // MD5 and SHA-256 of "abc", from RFC 1321 and FIPS 180.
    for (key, good, wrong) in [
        (
            "md5",
            "900150983cd24fb0d6963f7d28e17f72",
            "100150983cd24fb0d6963f7d28e17f72",
        ),
        ("md5_prefix", "900150", "900151"),
        ("sha256_prefix", "ba7816bf", "ba7816b0"),
    ] {
        let dir = temp();
        write(dir.path(), "weights/toy.pth", "abc");
        let all = pins(dir.path(), &[("toy-fb", 1, &format!("{head}{key} = \"{wrong}\""))]);
        let r = judged(&all, dir.path(), Check::Cached);
        assert_eq!(r.state, WeightsState::WrongHash, "{key}");
        assert!(!dir.path().join("weights/weights.lock").exists());
        let all = pins(dir.path(), &[("toy-fb", 1, &format!("{head}{key} = \"{good}\""))]);
        let w = judged(&all, dir.path(), Check::Cached).require().unwrap();
        assert!(w.note.unwrap().contains(good), "{key}");
    }
}

#[test]
fn a_reference_on_the_hub_is_followed_in_its_cache() {
    let dir = temp();
    let sha = Sha::of(b"weights");
    let keys = format!(
        "repo = \"pub/toy\"\nrevision_unknown = \"?\"\nref = \"refs/pr/10\"\nfile = \"model.safetensors\"\nurl = \"https://x\"\nsize_unknown = \"?\"\nsha256 = \"{sha}\""
    );
    let all = pins(dir.path(), &[("toy-hf", 1, &keys)]);
    write(
        dir.path(),
        "hub/models--pub--toy/snapshots/c0ffee/model.safetensors",
        "weights",
    );
    assert_eq!(judged(&all, dir.path(), Check::Cached).state, WeightsState::Missing);
    write(dir.path(), "hub/models--pub--toy/refs/refs/pr/10", "c0ffee");
    assert_eq!(judged(&all, dir.path(), Check::Cached).state, WeightsState::Present);
}

#[test]
fn real_weights_are_themselves_and_not_dinov2() {
    let Some(from) = common::real("weights") else { return };
    let dir = temp();
    // A copy by link, since the side file is written into the weights directory.
    std::os::unix::fs::symlink(
        from.join("dinov2_vits14_imgfocus"),
        dir.path().join("dinov2_vits14_imgfocus"),
    )
    .unwrap();
    let at = Places {
        weights_dir: dir.path().into(),
        hub: None,
    };
    let all = Catalogue::embedded();
    let r = verify_weights(all, "dinov2-s-imgfocus", &at, Check::Cached, &quiet).unwrap();
    assert_eq!(r.state, WeightsState::Present, "{}", r.text());
    // Hashed once, then believed: a listing, which reads nothing, knows it.
    let r = verify_weights(all, "dinov2-s-imgfocus", &at, Check::NoRead, &quiet).unwrap();
    assert_eq!(r.state, WeightsState::Present, "{}", r.text());
    // The official file has the same size; as DINOv2 this one is refused.
    std::os::unix::fs::symlink(from.join("dinov2_vits14_imgfocus"), dir.path().join("dinov2-s-hf")).unwrap();
    let r = verify_weights(all, "dinov2-s", &at, Check::Cached, &quiet).unwrap();
    assert_eq!(r.state, WeightsState::WrongHash);
    assert!(r.require().unwrap_err().expected.contains("ae1e99fc"));
}

// ---- cards

/// Croissant 1.0: the context's terms, the data set's required properties, and for every file object an id of its own, a name,
/// an address, a media type and a SHA-256.
fn is_a_card(card: &serde_json::Value, files: usize) {
    for term in [
        "@vocab",
        "cr",
        "sc",
        "dct",
        "conformsTo",
        "citeAs",
        "recordSet",
        "field",
        "fileObject",
        "sha256",
    ] {
        let in_vocabulary = term == "sha256";
        assert_eq!(card["@context"].get(term).is_some(), !in_vocabulary, "{term}");
    }
    assert_eq!(card["@type"], "sc:Dataset");
    assert_eq!(card["conformsTo"], "http://mlcommons.org/croissant/1.0");
    for key in ["name", "description", "license", "url", "citeAs"] {
        assert!(card[key].as_str().is_some_and(|s| !s.is_empty()), "{key}");
    }
    let objects = card["distribution"].as_array().unwrap();
    assert_eq!(objects.len(), files);
    let mut ids = std::collections::BTreeSet::new();
    for o in objects {
        assert_eq!(o["@type"], "cr:FileObject");
        assert!(ids.insert(o["@id"].as_str().unwrap()), "{o}");
        assert!(Sha::parse(o["sha256"].as_str().unwrap()).is_some(), "{o}");
        for key in ["name", "contentUrl", "encodingFormat"] {
            assert!(o[key].as_str().is_some_and(|s| !s.is_empty()), "{key}: {o}");
        }
    }
    for set in card["recordSet"].as_array().into_iter().flatten() {
        for f in set["field"].as_array().unwrap() {
            assert!(ids.contains(f["source"]["fileObject"]["@id"].as_str().unwrap()), "{f}");
            assert_eq!(f["source"]["extract"]["column"], f["name"]);
        }
    }
}

/// Every set's card, by what is published and by a list with odd names; held against the reference validator where Python
/// has it.
#[test]
fn every_card_is_croissant() {
    let dir = temp();
    let mut list = HashList::default();
    for name in ODD_NAMES {
        list.entries.insert(RelPath::new(name).unwrap(), Sha::of(name));
    }
    list.entries.insert(RelPath::new(b"train.csv").unwrap(), Sha::of(b"x"));
    let tables = [card::Columns {
        path: "train.csv".into(),
        names: vec!["Path".into(), "Frontal/Lateral".into(), "Pleural Effusion".into()],
    }];
    let mut made = Vec::new();
    for m in Catalogue::embedded().sets() {
        let whole = card::card(m, Some(&list), |_| Some(7), &tables, false);
        assert!(whole.left_out.is_empty());
        is_a_card(&whole.json, list.entries.len());
        assert_eq!(whole.json["recordSet"][0]["field"].as_array().unwrap().len(), 3);
        let published = card::card(m, None, |_| None, &[], false);
        let known = m.archives.iter().filter(|a| a.sha256.is_some()).count();
        assert!(
            published.json["distribution"].as_array().unwrap().len() >= known,
            "{}",
            m.set
        );
        assert!(known == m.archives.len() || !published.left_out.is_empty());
        made.extend([whole.json, published.json]);
    }
    let breast = Catalogue::embedded();
    let published = card::card(
        breast.set("breastmnist").unwrap(),
        breast.list("breastmnist"),
        |_| None,
        &[],
        false,
    );
    let object = &published.json["distribution"][0];
    let sha = "3a22d2a4625e7dd8903f0f59030e81a3d0c222bece2e5e10927456cb50efdec1";
    assert_eq!(object["sha256"], sha);
    assert!(
        object["contentUrl"]
            .as_str()
            .unwrap()
            .starts_with("https://zenodo.org/records/10519652/")
    );
    made.push(published.json);
    let paths: Vec<String> = made
        .iter()
        .enumerate()
        .map(|(i, json)| {
            write(dir.path(), format!("{i}.json"), serde_json::to_vec(json).unwrap());
            format!("{i}.json")
        })
        .collect();
    let Ok(out) = Command::new("python3").args(["-c", "import mlcroissant"]).output() else {
        common::skip::skipped("no python3");
        return;
    };
    if !out.status.success() {
        common::skip::skipped("python3 has no mlcroissant");
        return;
    }
    let script = "import sys, mlcroissant\nfor path in sys.argv[1:]: mlcroissant.Dataset(jsonld=path)";
    let out = Command::new("python3")
        .args(["-c", script])
        .args(&paths)
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    println!("{} cards are valid for mlcroissant", paths.len());
}
