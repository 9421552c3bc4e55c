//! The reader of DDSM.

use super::*;

fn ddsm() -> Files {
    Files::new(&[
        (
            "ddsm_raw_image_lists/train.txt",
            "normal_01-A_0001_1.LEFT_CC.LJPEG.1.jpg\nbenign_without_callback_01-B_3159_1.LEFT_CC.LJPEG.1.jpg\n\
             cancer_02-C_0003_1.LEFT_CC.LJPEG.1.jpg\n",
        ),
        (
            "ddsm_raw_image_lists/val.txt",
            "benign_01-B_3159_1.LEFT_CC.LJPEG.1.jpg\r\n\r\n",
        ),
        (
            "ddsm_raw_image_lists/test.txt",
            "sub/cancer_01-A_0007_1.LEFT_CC.LJPEG.1.jpg",
        ),
    ])
}

#[test]
fn ddsm_labels_follow_the_task_and_groups_the_case() {
    let files = ddsm();
    for (task, want) in [
        (DdsmTask::NormalVsLesion, [0, 1, 1, 1, 1]),
        (DdsmTask::ThreeClass, [0, 1, 2, 1, 2]),
        (DdsmTask::CancerVsRest, [0, 0, 1, 0, 1]),
    ] {
        let p = Protocol {
            ddsm_task: task,
            ..Protocol::faithful()
        };
        let d = files.load("ddsm", &p).unwrap();
        assert_eq!(d.labels, Labels::Classes(want.to_vec()), "{task:?}");
        assert_eq!((d.train, d.val, d.test), (vec![0, 1, 2], vec![3], vec![4]));
        assert_eq!(d.info.classes.len(), if task == DdsmTask::ThreeClass { 3 } else { 2 });
    }
    let d = files.load("ddsm", &Protocol::faithful()).unwrap();
    assert_eq!(file_of(&d, 4), "ddsm_raw/sub/cancer_01-A_0007_1.LEFT_CC.LJPEG.1.jpg");
    let l = leaks(&d);
    assert_eq!(
        (l.val_in_train.groups, l.val_in_train.images_of_shared_groups),
        (vec!["B_3159".into()], 1)
    );
    assert!(l.test_in_train.groups.is_empty());
    let p = Protocol {
        ddsm_split: DdsmSplit::ByCase,
        ..Protocol::faithful()
    };
    // The case B_3159 goes whole to train; val would be empty, which is told.
    files.fails("ddsm", &p, &["4, 0 and 1 of them"]);
    files.put(
        "ddsm_raw_image_lists/val.txt",
        b"benign_01-B_3159_1.LEFT_CC.LJPEG.1.jpg\nnormal_01-A_0009_1.LEFT_CC.LJPEG.1.jpg\n",
    );
    let d = files.load("ddsm", &p).unwrap();
    assert_eq!(
        (d.train.clone(), d.val.clone(), d.test.clone()),
        (vec![0, 1, 2, 3], vec![4], vec![5])
    );
    assert!(leaks(&d).none());
}

#[test]
fn broken_ddsm_lists_are_refused() {
    let p = Protocol::faithful();
    for (text, said) in [
        (
            "normal_01-A_0002_1.jpg\nunknown_1.jpg\n",
            "val.txt:2: expected a name that begins with normal_",
        ),
        (
            "normal_01.jpg 1\n",
            "val.txt:1: expected one image name without spaces, found \"normal_01.jpg 1\"",
        ),
        ("../normal_01.jpg\n", "val.txt:1: expected a relative image path"),
        ("/normal_01.jpg\n", "val.txt:1: expected a relative image path"),
        (
            "normal_01-A_0001_1.LEFT_CC.LJPEG.1.jpg\n",
            "val.txt:1: expected every image once",
        ),
        ("", "val.txt: expected at least one line"),
    ] {
        let files = ddsm();
        files.put("ddsm_raw_image_lists/val.txt", text.as_bytes());
        files.fails("ddsm", &p, &[said]);
    }
    let files = ddsm();
    files.put("ddsm_raw_image_lists/val.txt", b"normal_1.jpg\nnormal_\xff.jpg\n");
    files.fails("ddsm", &p, &["val.txt:2: expected UTF-8 text, found the byte 0xff"]);
    fs::remove_file(files.root().join("ddsm_raw_image_lists/test.txt")).unwrap();
    files.put("ddsm_raw_image_lists/val.txt", b"normal_1.jpg\n");
    files.fails("ddsm", &p, &["test.txt: expected a label file, found no such file"]);
    Files::new(&[]).fails("ddsm", &p, &["ddsm_raw_image_lists is missing as well"]);
}

/// Counts by list and class from the lists' repository (PROTOCOL 1.1), the five shared cases from the study facts.
#[test]
fn the_real_ddsm_lists_give_the_published_counts() {
    let Some(root) = real("labels") else { return };
    let three = Protocol {
        ddsm_task: DdsmTask::ThreeClass,
        ..Protocol::faithful()
    };
    let source = registry::find("ddsm").unwrap();
    let d = source.load(&root, &three).unwrap();
    for (part, want) in [
        (&d.train, [2216, 3200, 2920]),
        (&d.val, [288, 384, 368]),
        (&d.test, [276, 400, 368]),
    ] {
        assert_eq!(classes_of(&d, part), want);
    }
    let two = source.load(&root, &Protocol::faithful()).unwrap();
    assert_eq!((two.train.len(), two.val.len(), two.test.len()), (8336, 1040, 1044));
    assert_eq!(classes_of(&two, &two.test), [276, 768]);
    assert!(two.samples.iter().all(|s| s.group.is_some()));
    let l = leaks(&d);
    assert_eq!(l.val_in_train.groups, ["B_3470", "C_0412", "C_0478"]);
    assert_eq!(l.test_in_train.groups, ["A_1632"]);
    assert_eq!(l.test_in_val.groups, ["B_3159"]);
    assert_eq!(l.test_in_train.images_of_shared_groups, 4);

    // By hand from the five cases, four images a list each: 4 of test and 12 of val go to train, 4 of test to val.
    let c = source.load(&root, &Protocol::corrected()).unwrap();
    assert!(leaks(&c).none());
    assert_eq!(
        (c.train.len(), c.val.len(), c.test.len()),
        (8336 + 16, 1040 - 12 + 4, 1044 - 8)
    );
    assert!(c.test.iter().all(|i| two.test.contains(i)));
}
