//! The readers of MedMNIST and of npz files.

use super::*;

fn npz(name: &str) -> Vec<u8> {
    fs::read(vector("sets").join(name)).unwrap()
}

#[test]
fn npz_files_written_by_numpy_read_in_every_header_version() {
    for name in [
        "v1_u1.npz",
        "v1_stored.npz",
        "v2_i8.npz",
        "v3_i4_big_endian.npz",
        "bool_labels.npz",
    ] {
        let d = Files::new(&[]);
        d.put("breastmnist.npz", &npz(name));
        let set = d.load("breastmnist", &Protocol::faithful()).unwrap();
        assert_eq!(
            (set.train.clone(), set.val.clone(), set.test.clone()),
            (vec![0, 1, 2, 3], vec![4, 5], vec![6, 7, 8])
        );
        let mut next = 0;
        assert_eq!(set.labels, Labels::Classes(vec![0, 1, 0, 1, 0, 1, 0, 1, 0]), "{name}");
        for s in &set.samples {
            let Pixels::Array(a) = &s.pixels else { panic!("{name}") };
            assert_eq!((a.width, a.height, a.channels), (2, 3, 1));
            assert_eq!(a.data, (next..next + 6).collect::<Vec<u8>>(), "{name} {}", s.id);
            next += 6;
        }
        assert_eq!(set.samples[5].id, "val_00001");
    }
}

#[test]
fn colour_and_many_labels_read() {
    let d = Files::new(&[]);
    d.put("retinamnist.npz", &npz("rgb.npz"));
    d.put("chestmnist.npz", &npz("labels14_bits.npz"));
    let retina = d.load("retinamnist", &Protocol::faithful()).unwrap();
    let Pixels::Array(a) = &retina.samples[1].pixels else {
        panic!("pixels")
    };
    assert_eq!((a.width, a.height, a.channels), (2, 3, 3));
    assert_eq!(a.data, (18..36).collect::<Vec<u8>>());
    assert_eq!(retina.labels.of(3), [3]);
    let chest = d.load("chestmnist", &Protocol::faithful()).unwrap();
    let third = Labels::MultiHot {
        labels: 14,
        bits: [0, 1].repeat(7),
    };
    assert_eq!(chest.labels.pick([2]), third);
}

#[test]
fn the_one_size_that_is_there_is_read_and_two_are_refused() {
    let d = Files::new(&[]);
    let p = Protocol::faithful();
    d.fails(
        "breastmnist",
        &p,
        &["breastmnist.npz: expected this file, or its _64, _128 or _224 variant"],
    );
    d.put("breastmnist_224.npz", &npz("v1_u1.npz"));
    assert_eq!(d.load("breastmnist", &p).unwrap().samples.len(), 9);
    d.put("breastmnist.npz", &npz("v1_u1.npz"));
    d.fails(
        "breastmnist",
        &p,
        &["found breastmnist.npz and breastmnist_224.npz. Move all but one"],
    );
    let source = registry::find("breastmnist").unwrap();
    assert_eq!(source.label_files(&p), [PathBuf::from("breastmnist.npz")]);
    assert_eq!(source.optional_files(&p).len(), 3);
}

#[test]
fn broken_npz_files_are_refused() {
    let p = Protocol::faithful();
    let fails = |set: &str, bytes: &[u8], texts: &[&str]| {
        let d = Files::new(&[]);
        d.put(&format!("{set}.npz"), bytes);
        d.fails(set, &p, texts);
    };
    let at = "breastmnist.npz:";
    fails(
        "breastmnist",
        &npz("fortran.npz"),
        &[at, "train_images.npy: expected an array in C order"],
    );
    fails(
        "breastmnist",
        &npz("float_labels.npz"),
        &["train_labels.npy: expected an integer or boolean type", "<f4"],
    );
    fails(
        "breastmnist",
        &npz("u2_images.npz"),
        &["train_images.npy: expected pixels of type uint8, found uint16"],
    );
    fails(
        "breastmnist",
        &npz("label_2.npz"),
        &["train_labels.npy[2]: expected a class from 0 to 1, found [2]"],
    );
    fails(
        "breastmnist",
        &npz("no_val_labels.npz"),
        &["val_labels.npy: expected this array, found none"],
    );
    fails(
        "breastmnist",
        &npz("uneven.npz"),
        &["test_labels.npy: expected 3 rows", "found 2"],
    );
    fails(
        "retinamnist",
        &npz("v1_u1.npz"),
        &["train_images.npy: expected images of shape (N, H, W, 3), found [4, 3, 2]"],
    );
    fails(
        "chestmnist",
        &npz("v1_u1.npz"),
        &["train_labels.npy: expected labels of shape (N, 14), found [4, 1]"],
    );
    fails(
        "chestmnist",
        &npz("labels14.npz"),
        &["train_labels.npy[0]: expected labels of 0 or 1, found [0, 1, 2, 0"],
    );
    fails(
        "breastmnist",
        b"not a zip",
        &["breastmnist.npz: expected an npz (zip) file", "Download the file again"],
    );
    fails("breastmnist", &npz("v1_u1.npz")[..600], &["expected an npz (zip) file"]);

    let stored = npz("v1_stored.npz");
    let find = |needle: &[u8]| stored.windows(needle.len()).position(|w| w == needle).unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut copy = stored.clone();
        copy[at..at + bytes.len()].copy_from_slice(bytes);
        copy
    };
    fails(
        "breastmnist",
        &with(find(&[21, 22, 23]), &[99]),
        &["train_images.npy: expected an undamaged array"],
    );
    fails(
        "breastmnist",
        &with(find(b"(4, 3, 2)"), b"(9, 3, 2)"),
        &["train_images.npy: expected 182 bytes", "found 152 bytes"],
    );
    fails(
        "breastmnist",
        &with(find(b"(4, 3, 2)"), b"(2, 3, 2)"),
        &["train_images.npy: expected 140 bytes", "found 152 bytes"],
    );
    fails(
        "breastmnist",
        &with(find(b"NUMPY"), b"NUMPX"),
        &["expected an npy header of version 1, 2 or 3"],
    );
    fails(
        "breastmnist",
        &with(find(b"NUMPY\x01") + 5, &[9]),
        &["found version 9.0"],
    );
    fails(
        "breastmnist",
        &with(find(b"NUMPY\x01") + 7, &[255, 255]),
        &["found one of 65535 bytes"],
    );
}

/// Sizes and class counts of MedMNIST v2's files, and the equal pictures known in them (study facts).
#[test]
fn the_real_medmnist_files_give_the_published_counts() {
    let Some(root) = real("data/medmnist") else { return };
    let p = Protocol::faithful();
    let reordered = Files::new(&[]);
    reordered.put(
        "pneumoniamnist.npz",
        &fs::read(root.join("pneumoniamnist_content_reordered.npz")).unwrap(),
    );
    let load = |root: &Path, name: &str| registry::find(name).unwrap().load(root, &p).unwrap();
    let counts = |d: &Dataset| [&d.train, &d.val, &d.test].map(|part| classes_of(d, part));

    let retina = load(&root, "retinamnist");
    let grades = [
        vec![486, 128, 206, 194, 66],
        vec![54, 12, 28, 20, 6],
        vec![174, 46, 92, 68, 20],
    ];
    assert_eq!(counts(&retina), grades);
    assert!(leaks(&retina).none());
    let breast = load(&root, "breastmnist");
    assert_eq!(counts(&breast), [vec![147, 399], vec![21, 57], vec![42, 114]]);
    let l = leaks(&breast);
    assert_eq!(
        (l.test_in_train.twins, l.val_in_train.twins, l.test_in_val.twins),
        (1, 0, 0)
    );
    let pneumonia = load(reordered.root(), "pneumoniamnist");
    assert_eq!(counts(&pneumonia), [vec![1214, 3494], vec![135, 389], vec![234, 390]]);
    let l = leaks(&pneumonia);
    assert_eq!(
        (l.val_in_train.twins, l.test_in_train.twins, l.test_in_val.twins),
        (8, 0, 0)
    );
    let Pixels::Array(a) = &retina.samples[0].pixels else {
        panic!("pixels")
    };
    assert_eq!((a.width, a.height, a.channels, a.data.len()), (28, 28, 3, 2352));
}

/// The grouped rule on real files: BreastMNIST has one picture in train and test, PneumoniaMNIST eight in train and val
/// (18 pairs within train and 3 within test move nothing), RetinaMNIST none. Counts: exact pixel duplicates, found outside medft.
#[test]
fn copies_of_one_picture_stay_where_the_first_is() {
    let Some(folder) = real("data/medmnist") else { return };
    let grouped = Protocol {
        duplicates: Duplicates::Together,
        ..Protocol::faithful()
    };
    for (set, file, sizes) in [
        ("breastmnist", "breastmnist.npz", [547, 78, 155]),
        (
            "pneumoniamnist",
            "pneumoniamnist_content_reordered.npz",
            [4716, 516, 624],
        ),
        ("retinamnist", "retinamnist.npz", [1080, 120, 400]),
    ] {
        let d = Files::new(&[]);
        d.put(&format!("{set}.npz"), &fs::read(folder.join(file)).unwrap());
        let (apart, together) = (
            d.load(set, &Protocol::faithful()).unwrap(),
            d.load(set, &grouped).unwrap(),
        );
        assert_eq!(
            [&together.train, &together.val, &together.test].map(Vec::len),
            sizes,
            "{set}"
        );
        assert!(apart.samples.iter().all(|s| s.group.is_none()));
        assert_eq!(
            together.train[..apart.train.len()],
            apart.train,
            "{set}: what moves comes last"
        );
        let l = leaks(&together);
        assert_eq!(
            (
                l.val_in_train.groups.len(),
                l.test_in_train.groups.len(),
                l.test_in_val.groups.len()
            ),
            (0, 0, 0),
            "{set}"
        );
    }
}
