//! The same bytes everywhere, and nothing of anybody else's touched.

use super::*;

/// The expected value is this module's own output: it is here to pin the bytes, on every machine and across upgrades of
/// the encoders, because manifests with these hashes are committed. What the bytes mean is tested below.
#[test]
fn golden_bytes() {
    const GOLDEN: [(&str, &str); 9] = [
        (
            "ddsm",
            "99085495d8d5bb950e2f7b7000b77c96f0eda9fd1f1d7421bce084fe5bbe03d5",
        ),
        (
            "chexpert",
            "cd7680e4b966dfc878b5f4da41a608d1af94759fec106363253a0be43347308c",
        ),
        (
            "isic2019",
            "ddc1d6d2ce853ec4974c547ac437e391d3b6ce846ad1eb871bcf0151a4652f51",
        ),
        (
            "aptos2019",
            "508c0810b50ec0e0e1c013b20cc0a64518376e1f42e13fa98e0d75a7b2d6dad8",
        ),
        (
            "breastmnist",
            "2b0cbbb66697b811b64c876603614e25295a8c8fdeb24fbb3f8ca8b11e9f321c",
        ),
        (
            "retinamnist",
            "640beec9035ec64f8a1225eb946337a00e561b68a5a43fa1da57d39a55920f2b",
        ),
        (
            "dermamnist",
            "d09d32273ebb9a397bed2a223513390959e0559672b663c3635d876a45c47cac",
        ),
        (
            "pneumoniamnist",
            "04fabf1799aa08f5023eb4408229be0d972516c438ffb43a6b91555dadb7f682",
        ),
        (
            "chestmnist",
            "5328c378c4f9d9a12c84cfad4091e14c3ac4a8ea5b671884ce8fcf0f51445f88",
        ),
    ];
    let mut found: Vec<(&str, String)> = Vec::new();
    for (name, plan, _) in SETS {
        found.push((name, digest(&files(written(plan, SMALL).path()))));
    }
    for name in medmnist::NAMES {
        let dir = tempfile::tempdir().unwrap();
        medmnist::write(dir.path(), name, SMALL).unwrap();
        found.push((name, digest(&files(dir.path()))));
    }
    let found: Vec<(&str, &str)> = found.iter().map(|(n, d)| (*n, d.as_str())).collect();
    assert_eq!(found, GOLDEN);
}

#[test]
fn bytes_do_not_depend_on_the_number_of_writers_or_on_the_number_of_images_drawn_before() {
    for (name, plan, _) in SETS {
        let (one, five) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        plan(SMALL).unwrap().write(one.path(), 1).unwrap();
        let mut other = plan(SMALL).unwrap();
        other.pictures.reverse();
        other.write(five.path(), 5).unwrap();
        assert!(files(one.path()) == files(five.path()), "{name}");
    }
}

#[test]
fn nothing_is_overwritten_and_writing_twice_is_fine() {
    let dir = written(ddsm::plan, 60);
    let before = files(dir.path());
    ddsm::write(dir.path(), 60).unwrap();
    assert!(before == files(dir.path()));
    // More images would change the lists.
    let e = ddsm::write(dir.path(), 64).unwrap_err().to_string();
    assert!(
        e.contains("ddsm_raw_image_lists") && e.contains("overwrites nothing"),
        "{e}"
    );
    assert!(before == files(dir.path()));
    // An image that is not ours stays, and the data set stays incomplete.
    let dir = tempfile::tempdir().unwrap();
    let name = ddsm::plan(60).unwrap().pictures[7].name.clone();
    fsio::write_atomic(&dir.path().join(&name), b"a real mammogram").unwrap();
    let e = ddsm::write(dir.path(), 60).unwrap_err().to_string();
    assert!(e.contains(&name) && e.contains("other content"), "{e}");
    assert_eq!(files(dir.path())[&name], b"a real mammogram");
    assert!(!dir.path().join("ddsm_raw_image_lists").exists());
}

#[test]
fn too_few_images_are_refused_in_words() {
    for (name, plan, _) in SETS {
        let e = plan(20).err().unwrap().to_string();
        assert!(e.contains("at least") && e.contains("found 20"), "{name}: {e}");
    }
    let e = medmnist::plan("organmnist", 200).err().unwrap().to_string();
    assert!(e.contains("breastmnist, retinamnist"), "{e}");
}
