//! The audit on label files and images whose findings are known.

use super::*;
use medft::data::audit::{self, Across, LabelAudit, PictureAudit, Twins, Within};

fn across(t: &Twins) -> [usize; 3] {
    let pairs: Vec<_> = t.across.iter().map(|a: &Across| (a.earlier, a.later)).collect();
    assert_eq!(pairs, [("train", "val"), ("train", "test"), ("val", "test")]);
    [0, 1, 2].map(|i| t.across[i].images)
}

fn within(t: &Twins) -> [usize; 3] {
    let parts: Vec<_> = t.within.iter().map(|w: &Within| w.part).collect();
    assert_eq!(parts, ["train", "val", "test"]);
    [0, 1, 2].map(|i| t.within[i].images)
}

fn pictures(d: &Dataset, p: &Protocol) -> PictureAudit {
    audit::pictures(d, p, &|_, _| ()).unwrap()
}

/// Equal pictures: study facts. Pictures that look the same: imagehash and NumPy (`vectors/make/looks.py` on these files).
#[test]
fn the_known_duplicates_of_medmnist_are_found() {
    let Some(root) = real("data/medmnist") else { return };
    let p = Protocol::faithful();
    let reordered = Files::new(&[]);
    let bytes = fs::read(root.join("pneumoniamnist_content_reordered.npz")).unwrap();
    reordered.put("pneumoniamnist.npz", &bytes);
    let load = |root: &Path, name: &str| registry::find(name).unwrap().load(root, &p).unwrap();

    let breast = pictures(&load(&root, "breastmnist"), &p);
    assert_eq!(
        (across(&breast.same_pixels), within(&breast.same_pixels)),
        ([0, 1, 0], [0, 0, 0])
    );
    let t = &breast.same_looks;
    assert_eq!((t.images, t.clusters.len()), (182, 82));
    assert_eq!(across(t)[..2], [15, 26]);

    let pneumonia = pictures(&load(reordered.root(), "pneumoniamnist"), &p);
    let t = &pneumonia.same_pixels;
    assert_eq!((across(t), within(t)), ([8, 0, 0], [18, 0, 3]));
    assert_eq!(t.conflicting, 0);
    assert_eq!(
        pneumonia.same_looks, pneumonia.same_pixels,
        "no other pair looks the same"
    );
    assert_eq!((t.images, t.clusters.len()), (56, 27));

    let retina = pictures(&load(&root, "retinamnist"), &p);
    assert_eq!(retina.same_pixels.images, 0);
    let t = &retina.same_looks;
    assert_eq!((t.images, t.clusters.len(), across(t)), (52, 26, [0, 0, 0]));
    assert_eq!(
        (retina.read, retina.sizes.largest, retina.failed.len()),
        (1600, (28, 28), 0)
    );
    assert!(retina.same_files.clusters.is_empty() && retina.warnings.is_empty());
}

/// Counted from the lists and from lesion_id by others (study facts, data-manifests).
#[test]
fn the_real_label_files_show_what_the_parts_share() {
    let Some(labels) = real("labels") else { return };
    let audited = |set: &str, root: &Path, p: &Protocol| -> LabelAudit {
        audit::labels(&registry::find(set).unwrap().load(root, p).unwrap())
    };
    let isic = audited("isic2019", &labels.join("isic2019"), &Protocol::faithful());
    assert_eq!(isic.leaks.test_in_train.images_of_shared_groups, 1535);
    assert_eq!(isic.leaks.val_in_train.images_of_shared_groups, 1523);
    let g = &isic.groups;
    assert_eq!(
        (g.known, g.shared, g.images_of_shared, g.images_without),
        (11847, 5059, 16459, 2084)
    );
    assert_eq!(isic.parts[0].classes, [3636, 10265, 2670, 712, 2085, 189, 195, 513]);
    assert_eq!(
        isic.parts.iter().map(|p| p.images).collect::<Vec<_>>(),
        [20265, 2533, 2533]
    );

    let ddsm = audited("ddsm", &labels, &Protocol::faithful());
    assert_eq!(ddsm.leaks.test_in_train.groups, ["A_1632"]);
    assert_eq!(ddsm.leaks.val_in_train.groups, ["B_3470", "C_0412", "C_0478"]);
    assert_eq!(ddsm.leaks.test_in_val.groups, ["B_3159"]);
    // 2,605 exams of four views; 18 case numbers stand in two volumes.
    assert_eq!((ddsm.groups.known, ddsm.groups.images_without), (2605 - 18, 0));
    assert!(audited("ddsm", &labels, &Protocol::corrected()).leaks.none());
}

/// A DDSM of files whose pixels are Pillow's (`vectors/pillow`): the same file twice, the same pixels in another file, the same
/// picture in another quality, what is no whole image, and files that hold more than their pixels.
#[test]
fn files_pixels_looks_conflicts_and_warnings_are_told_apart() {
    let name = |class: &str, n: u32| format!("{class}_01-A_{n:04}_1.LEFT_CC.LJPEG.1.jpg");
    let (n, b) = (|i| name("normal", i), |i| name("benign", i));
    let list = |names: &[String]| names.join("\n");
    let d = Files::new(&[
        ("ddsm_raw_image_lists/train.txt", &list(&[n(1), b(2), n(3), b(4)])),
        ("ddsm_raw_image_lists/val.txt", &list(&[n(5), n(6), n(7)])),
        ("ddsm_raw_image_lists/test.txt", &list(&[b(8), n(9)])),
    ]);
    let put = |name: &str, from: &str| d.put(&format!("ddsm_raw/{name}"), &fs::read(vector(from)).unwrap());
    put(&n(1), "pillow/420.jpg");
    put(&b(2), "pillow/420.jpg");
    put(&n(3), "pillow/rgb8.png");
    put(&b(4), "pillow/grey16.png");
    put(&n(5), "pillow/progressive.jpg");
    put(&n(6), "../fixtures/preprocess/images/exif.jpg");
    put(&b(8), "pillow/q30.jpg");
    d.put(
        &format!("ddsm_raw/{}", n(9)),
        &fs::read(vector("pillow/420.jpg")).unwrap()[..1000],
    );
    let p = Protocol::faithful();
    let set = d.load("ddsm", &p).unwrap();
    let found = pictures(&set, &p);

    assert_eq!(found.read, 7);
    let failed: Vec<_> = found
        .failed
        .iter()
        .map(|f| (f.image.as_str(), f.why.as_str()))
        .collect();
    assert_eq!(failed[1], (n(9).as_str(), "a file that ends early"));
    assert!(
        failed[0].0 == n(7) && failed[0].1.contains("no such file"),
        "{failed:?}"
    );

    assert_eq!(
        (within(&found.same_files), across(&found.same_files)),
        ([1, 0, 0], [0, 0, 0])
    );
    assert_eq!(
        (within(&found.same_pixels), across(&found.same_pixels)),
        ([1, 0, 0], [1, 0, 0])
    );
    assert_eq!(
        (within(&found.same_looks), across(&found.same_looks)),
        ([1, 0, 0], [1, 1, 1])
    );
    let t = &found.same_looks;
    assert_eq!((t.clusters.len(), t.conflicting, t.conflicting_images), (1, 1, 4));
    let members: Vec<_> = t.clusters[0]
        .images
        .iter()
        .map(|m| (m.parts[0], m.label.as_str()))
        .collect();
    let (normal, lesion) = ("normal", "benign or cancer");
    assert_eq!(
        members,
        [("train", normal), ("train", lesion), ("val", normal), ("test", lesion)]
    );

    let told = |what: &str| {
        let w = found.warnings.iter().find(|w| w.what == what);
        w.unwrap_or_else(|| panic!("{what}: {:?}", found.warnings))
            .images
            .clone()
    };
    assert_eq!(told("16 bits clipped at 255"), [b(4)]);
    assert_eq!(told("EXIF or XMP ask to turn the image; the protocol does not"), [n(6)]);
    assert_eq!(told("colour file read as grey"), [n(1), b(2), n(3), n(5), n(6), b(8)]);
    let sane = pictures(&set, &Protocol::corrected());
    let found: Vec<&str> = sane.warnings.iter().map(|w| w.what.as_str()).collect();
    assert_eq!(
        found,
        [
            "16 bits scaled to 8",
            "colour file read as grey",
            "turned as EXIF or XMP ask"
        ]
    );
}

#[test]
fn a_set_without_images_can_be_audited_by_its_labels_only() {
    let d = Files::new(&[
        (
            "ddsm_raw_image_lists/train.txt",
            "normal_01-A_0001_1.L.jpg\nbenign_01-A_0001_1.R.jpg",
        ),
        ("ddsm_raw_image_lists/val.txt", "normal_01-A_0002_1.L.jpg"),
        ("ddsm_raw_image_lists/test.txt", "cancer_01-A_0001_1.B.jpg"),
    ]);
    let p = Protocol::faithful();
    let set = d.load("ddsm", &p).unwrap();
    let e = audit::pictures(&set, &p, &|_, _| ()).unwrap_err().to_string();
    assert!(e.contains("--labels-only") && e.contains("no such file"), "{e}");
    let l = audit::labels(&set);
    assert_eq!(l.groups.divided.len(), 1);
    let labels: Vec<_> = l.groups.divided[0]
        .labels
        .iter()
        .map(|(l, n)| (l.as_str(), *n))
        .collect();
    assert_eq!(labels, [("benign or cancer", 2), ("normal", 1)]);
    assert_eq!((l.parts[0].groups, l.parts[1].classes.clone()), (1, vec![1, 0]));
}
