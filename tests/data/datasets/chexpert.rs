//! The reader of CheXpert and its label slices.

use super::*;

const CHEXPERT_HEAD: &str = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,\
    Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,\
    Support Devices\n";

fn chexpert<'a>(paths: impl Iterator<Item = &'a str>) -> String {
    paths.fold(CHEXPERT_HEAD.to_string(), |mut s, p| {
        let _ = writeln!(s, "{p},Female,68,Frontal,AP,,,,,,1.0,-1.0,,,0.0,,,,");
        s
    })
}

#[test]
fn chexpert_slices_are_those_of_pandas() {
    for (i, case) in json("sets/chexpert_label_slices.json")["cases"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        let paths: Vec<&str> = case["paths"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p.as_str().unwrap())
            .collect();
        let d = Files::new(&[("train.csv", &chexpert(paths.iter().copied()))]);
        if case.get("key_error").is_some() {
            d.fails(
                "chexpert",
                &Protocol::faithful(),
                &["train.csv", "KeyError", "patient-borders"],
            );
        } else {
            let set = d.load("chexpert", &Protocol::faithful()).unwrap();
            for (part, key) in [(&set.train, "train"), (&set.val, "val"), (&set.test, "test")] {
                assert_eq!(*part, ids(&case[key]), "case {i} {key}");
            }
            assert_eq!(set.samples[0].id, paths[0].split_once('/').unwrap().1);
            let l = leaks(&set);
            assert_eq!(
                (l.test_in_train.images, l.test_in_val.images, l.val_in_train.images),
                (1, 1, 0)
            );
            assert!(!l.test_in_train.groups.is_empty() && !l.test_in_val.groups.is_empty());
        }
        let set = d.load("chexpert", &Protocol::corrected()).unwrap();
        assert!(leaks(&set).none());
        assert_eq!(set.train.len() + set.val.len() + set.test.len(), paths.len());
        let k = paths.len() / 5 + 15;
        let held = set.val.len() + set.test.len();
        assert!((k..k + 22).contains(&held), "cut at {held}, position {k}");
        let order: Vec<&str> = [&set.val, &set.test, &set.train]
            .into_iter()
            .flatten()
            .map(|&i| paths[i as usize])
            .collect();
        assert!(order.is_sorted(), "case {i}");
    }
}

#[test]
fn chexpert_labels_take_uncertain_as_zero_and_may_set_no_finding() {
    let mut text = CHEXPERT_HEAD.to_string();
    for i in 0..60 {
        let labels = match i {
            0 => ",,,1.0,,-1.0,,,,,0.0,,,1.0",
            1 => ",-1.0,,,,-1.0,,,,,0.0,,,",
            _ => "1.0,,,,,,,,,,,,,",
        };
        let _ = writeln!(
            text,
            "CheXpert-v1.0-small/train/patient{i:05}/study1/view1_frontal.jpg,Male,1,Frontal,PA,{labels}"
        );
    }
    let valid = CHEXPERT_HEAD.to_string()
        + "CheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP,\
           0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0\n";
    let d = Files::new(&[("train.csv", &text), ("valid.csv", &valid)]);
    let bits = |d: &Dataset, i: u32| match d.labels.pick([i]) {
        Labels::MultiHot { labels: 14, bits } => bits.iter().map(u8::to_string).collect::<String>(),
        other => panic!("14 labels, not {other:?}"),
    };
    let faithful = d.load("chexpert", &Protocol::faithful()).unwrap();
    assert_eq!(bits(&faithful, 0), "00010000000001");
    assert_eq!(bits(&faithful, 1), "10000000000000");
    assert_eq!(faithful.samples[1].group.as_deref(), Some("patient00001"));
    assert_eq!(file_of(&faithful, 1), "train/patient00001/study1/view1_frontal.jpg");
    assert_eq!(
        bits(&d.load("chexpert", &Protocol::corrected()).unwrap(), 1),
        "00000000000000"
    );

    let official = Protocol {
        chexpert_test: ChexpertTest::OfficialValid,
        ..Protocol::faithful()
    };
    let set = d.load("chexpert", &official).unwrap();
    assert_eq!(
        (&set.train, &set.val, &set.test),
        (&faithful.train, &faithful.val, &vec![60])
    );
    assert_eq!(file_of(&set, 60), "valid/patient64541/study1/view1_frontal.jpg");
    assert_eq!(bits(&set, 60), "01000000000000");
    let files = registry::find("chexpert").unwrap().label_files(&official);
    assert_eq!(files, [PathBuf::from("train.csv"), PathBuf::from("valid.csv")]);
    fs::remove_file(d.root().join("valid.csv")).unwrap();
    d.fails("chexpert", &official, &["valid.csv", "no such file"]);
}

#[test]
fn broken_chexpert_files_are_refused() {
    let p = Protocol::faithful();
    let row = |path: &str, labels: &str| format!("{CHEXPERT_HEAD}{path},Male,1,Frontal,PA,{labels}\n");
    let good = "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg";
    let none = ",,,,,,,,,,,,,";
    for (text, said) in [
        (
            row(good, "2.0,,,,,,,,,,,,,"),
            "train.csv:2: expected \"No Finding\" to be 1.0, 0.0, -1.0 or empty, found \"2.0\"",
        ),
        (row(good, ",,"), "train.csv:2: expected 19 fields, found 8"),
        (
            row("/CheXpert/train/patient00001/study1/x.jpg", none),
            "train.csv:2: expected a relative image path",
        ),
        (
            row("CheXpert/../train/patient00001/study1/x.jpg", none),
            "train.csv:2: expected a relative image path",
        ),
        (
            row("train/x.jpg", none),
            "train.csv:2: expected a path like CheXpert-v1.0-small/train/patient00001",
        ),
        (
            row(good, none) + "other/train/patient00002/study1/x.jpg,Male,1,Frontal,PA,,,,,,,,,,,,,,\n",
            "train.csv:3: expected a path below CheXpert-v1.0-small/",
        ),
        (
            row(good, none) + &row(good, none)[CHEXPERT_HEAD.len()..],
            "train.csv:3: expected every image once",
        ),
        (
            row(good, none).replace("Edema,", ""),
            "train.csv:1: expected the last 14 columns to be No Finding",
        ),
        (
            row(good, none).replace("Path,", "File,"),
            "train.csv:1: expected a column \"Path\"",
        ),
        (CHEXPERT_HEAD.to_string(), "a header and nothing below it"),
        (row(good, none), "KeyError"),
    ] {
        Files::new(&[("train.csv", &text)]).fails("chexpert", &p, &[said]);
    }
    let one = Files::new(&[("train.csv", &row(good, none))]);
    one.fails("chexpert", &Protocol::corrected(), &["images for train, val and test"]);
}
