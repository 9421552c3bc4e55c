//! The random split of APTOS2019 and ISIC2019, and the reader of APTOS2019.

use super::*;

/// The lists were written by CPython (PROTOCOL 1.5), the prefixes stand in its text.
#[test]
fn random_splits_equal_cpythons_member_for_member() {
    for (file, prefixes) in [
        ("toy_n10", None),
        (
            "isic2019_n25331",
            Some(["28ab89d618406fcd", "3b37132dd137a955", "6d343cec6e90ed44"]),
        ),
        (
            "aptos_train1_n2930",
            Some(["59aa3d8a2e57db40", "18220d317637c9e7", "9aeb2584117085a7"]),
        ),
        (
            "aptos_full_n3662",
            Some(["31c895cea1546ef5", "7a2c0c1bda8639f2", "33e75ca8c85af985"]),
        ),
    ] {
        let v = json(&format!("split_{file}.json"));
        let got = split::random(v["n"].as_u64().unwrap() as u32, v["frac"].as_f64().unwrap());
        for (part, key) in [(&got.train, "train"), (&got.val, "val"), (&got.test, "test")] {
            assert_eq!(*part, ids(&v[key]), "{file} {key}");
        }
        for (part, prefix) in [&got.train, &got.val, &got.test].iter().zip(prefixes.iter().flatten()) {
            assert_eq!(&split::digest(part)[..16], *prefix, "{file}");
        }
    }
}

fn aptos(rows: usize) -> String {
    (0..rows).fold("id_code,diagnosis\n".to_string(), |mut s, i| {
        let _ = writeln!(s, "{i:012x},{}", i % 5);
        s
    })
}

/// Copies of one file go to the part of the first of them; the other images stay where the seed puts them.
#[test]
fn aptos_keeps_copies_of_an_image_together() {
    let d = Files::new(&[("train_1.csv", &aptos(40))]);
    let grouped = Protocol {
        duplicates: Duplicates::Together,
        ..Protocol::faithful()
    };
    let apart = d.load("aptos2019", &Protocol::faithful()).unwrap();
    let picture = |row: u32| format!("train_images/train_images/{row:012x}.png");
    for row in 0..40 {
        d.put(&picture(row), format!("picture {row:02}").as_bytes());
    }
    assert_eq!(
        d.load("aptos2019", &grouped).unwrap().test,
        apart.test,
        "no copies, nothing moves"
    );
    // A training image again in the test part, and a validation image again there.
    let (a, b) = ((apart.train[3], apart.test[0]), (apart.val[1], apart.test[2]));
    for (from, to) in [a, b] {
        d.put(&picture(to), format!("picture {from:02}").as_bytes());
    }
    let together = d.load("aptos2019", &grouped).unwrap();
    assert_eq!(together.train, [&apart.train[..], &[a.1]].concat());
    assert_eq!(together.val, [&apart.val[..], &[b.1]].concat());
    let rest: Vec<u32> = apart.test.iter().copied().filter(|&i| i != a.1 && i != b.1).collect();
    assert_eq!(together.test, rest);
    let group = |i: u32| together.samples[i as usize].group.clone();
    assert!(group(a.0).is_some() && group(a.0) == group(a.1) && group(a.0) != group(b.0));
    assert_eq!(
        d.load("aptos2019", &Protocol::faithful()).unwrap().test,
        apart.test,
        "the authors look at no image"
    );
}

#[test]
fn aptos_reads_the_csv_the_protocol_names_and_the_folder_that_is_there() {
    let d = Files::new(&[("train_1.csv", &aptos(2930)), ("train.csv", &aptos(3662))]);
    let faithful = d.load("aptos2019", &Protocol::faithful()).unwrap();
    let v = json("split_aptos_train1_n2930.json");
    assert_eq!(
        (ids(&v["train"]), ids(&v["val"])),
        (faithful.train.clone(), faithful.val.clone())
    );
    assert_eq!(faithful.labels.of(7), [2]);
    assert_eq!(file_of(&faithful, 10), "train_images/train_images/00000000000a.png");
    let corrected = d.load("aptos2019", &Protocol::corrected()).unwrap();
    assert_eq!(ids(&json("split_aptos_full_n3662.json")["test"]), corrected.test);
    d.put("train_images/000000000000.png", b"");
    let flat = d.load("aptos2019", &Protocol::faithful()).unwrap();
    assert_eq!(file_of(&flat, 10), "train_images/00000000000a.png");
    let source = registry::find("aptos2019").unwrap();
    assert_eq!(
        source.label_files(&Protocol::faithful()),
        [PathBuf::from("train_1.csv")]
    );
    assert_eq!(
        source.optional_files(&Protocol::faithful()),
        [PathBuf::from("val_ids.json")]
    );
    assert_eq!(source.label_files(&Protocol::corrected()), [PathBuf::from("train.csv")]);
    assert!(source.optional_files(&Protocol::corrected()).is_empty());
}

#[test]
fn val_ids_json_is_obeyed_when_its_lengths_fit_and_only_under_the_faithful_switch() {
    let (faithful, ignore) = (
        Protocol::faithful(),
        Protocol {
            val_ids_file: ValIdsFile::Ignore,
            ..Protocol::faithful()
        },
    );
    let d = Files::new(&[("train_1.csv", &aptos(10))]);
    let seed42 = d.load("aptos2019", &faithful).unwrap();
    assert_eq!((seed42.train.len(), seed42.val.len(), seed42.test.len()), (7, 1, 2));
    assert!(
        !d.root().join("val_ids.json").exists(),
        "loading must not write among the data"
    );

    d.put(
        "val_ids.json",
        br#"{"train_split": [9,8,7,6,5,4,3], "val_split": [2,0,1]}"#,
    );
    let own = d.load("aptos2019", &faithful).unwrap();
    assert_eq!(
        (own.train, own.val, own.test),
        (vec![9, 8, 7, 6, 5, 4, 3], vec![2], vec![0, 1])
    );
    assert_eq!(d.load("aptos2019", &ignore).unwrap().train, seed42.train);
    d.put("val_ids.json", b"[5, 9, 0]");
    let bare = d.load("aptos2019", &faithful).unwrap();
    assert_eq!(
        (bare.train, bare.val, bare.test),
        (vec![1, 2, 3, 4, 6, 7, 8], vec![5], vec![9, 0])
    );
    // Lengths that do not fit: the authors' code draws its own split again.
    for stale in ["[5, 9]", r#"{"train_split": [0], "val_split": [1,2,3]}"#] {
        d.put("val_ids.json", stale.as_bytes());
        assert_eq!(d.load("aptos2019", &faithful).unwrap().train, seed42.train, "{stale}");
    }
    for (text, said) in [
        (
            r#"{"train_split": [9,8,7,6,5,4,3], "val_split": [2,0,3]}"#,
            "found 3 twice",
        ),
        (
            r#"{"train_split": [9,8,7,6,5,4,3], "val_split": [2,0,10]}"#,
            "row numbers below 10, found 10",
        ),
        (
            r#"{"train_split": [9,8,7,6,5,4,-3], "val_split": [2,0,1]}"#,
            "expected an object",
        ),
        (r#"{"val_split": [2,0,1]}"#, "expected an object"),
        ("{\n\"train_split\": [9,\n", "val_ids.json:3: expected an object"),
    ] {
        d.put("val_ids.json", text.as_bytes());
        d.fails("aptos2019", &faithful, &["val_ids.json", said, "Delete val_ids.json"]);
    }
}

#[test]
fn broken_aptos_files_are_refused() {
    let p = Protocol::faithful();
    Files::new(&[]).fails(
        "aptos2019",
        &p,
        &["train_1.csv: expected a label file, found no such file", "--data-dir"],
    );
    for (text, said) in [
        (
            "id_code,diagnosis\na,5\n",
            "train_1.csv:2: expected a diagnosis from 0 to 4, found \"5\"",
        ),
        (
            "id_code,diagnosis\na,1\nb,\n",
            "train_1.csv:3: expected a diagnosis from 0 to 4, found \"\"",
        ),
        (
            "id_code,grade\na,1\n",
            "train_1.csv:1: expected a column \"diagnosis\", found only id_code, grade",
        ),
        (
            "id_code,diagnosis\na,1\nb,1\na,2\n",
            "train_1.csv:4: expected every image once, found \"a\" again, first at",
        ),
        (
            "id_code,diagnosis\n../a,1\n",
            "train_1.csv:2: expected the plain name of an image, found \"../a\"",
        ),
        ("id_code,diagnosis\n/a,1\n", "found \"/a\""),
        (
            "id_code,diagnosis\na,1,2\n",
            "train_1.csv:2: expected 2 fields, found 3",
        ),
        (
            "id_code,diagnosis\na,1\n",
            "expected images for train, val and test, found 1, 0 and 0",
        ),
        ("", "an empty file"),
    ] {
        Files::new(&[("train_1.csv", text)]).fails("aptos2019", &p, &[said]);
    }
}
