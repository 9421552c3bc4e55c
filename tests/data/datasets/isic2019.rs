//! The reader of ISIC2019 and the split by lesion.

use super::*;

const ISIC_HEAD: &str = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK";
const TRUTH: &str = "ISIC_2019_Training_GroundTruth.csv";
const META: &str = "ISIC_2019_Training_Metadata.csv";

/// 40 images; image i has class i mod 8 and, from the ninth on, shares lesion L(i/2) with its neighbour.
fn isic(end: &str) -> (String, String) {
    let mut truth = format!("{ISIC_HEAD}{end}");
    let mut meta = format!("image,age_approx,anatom_site_general,lesion_id,sex{end}");
    for i in 0..40 {
        let row: Vec<&str> = (0..9).map(|c| if c == i / 2 % 8 { "1.0" } else { "0.0" }).collect();
        let lesion = if i < 8 { String::new() } else { format!("L{}", i / 2) };
        let _ = write!(truth, "ISIC_{i:07},{}{end}", row.join(","));
        let _ = write!(meta, "ISIC_{i:07},50,,{lesion},male{end}");
    }
    (truth, meta)
}

#[test]
fn isic_reads_crlf_and_lf_alike_and_finds_one_or_two_folders() {
    let p = Protocol::faithful();
    let mut all = Vec::new();
    for end in ["\n", "\r\n"] {
        let (truth, meta) = isic(end);
        let d = Files::new(&[(TRUTH, &truth), (META, &meta)]);
        let set = d.load("isic2019", &p).unwrap();
        let folder = "ISIC_2019_Training_Input";
        assert_eq!(file_of(&set, 3), format!("{folder}/{folder}/ISIC_0000003.jpg"));
        d.put(&format!("{folder}/ISIC_0000000.jpg"), b"");
        let flat = d.load("isic2019", &p).unwrap();
        assert_eq!(file_of(&flat, 3), format!("{folder}/ISIC_0000003.jpg"));
        assert_eq!(
            (set.samples[0].group.clone(), set.samples[9].group.clone()),
            (None, Some("L4".into()))
        );
        let samples: Vec<_> = set.samples.into_iter().map(|s| (s.id, s.group)).collect();
        all.push((samples, set.train, set.val, set.test, set.labels));
    }
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0].4.of(5), [2]);
    assert_eq!((all[0].1.len(), all[0].2.len(), all[0].3.len()), (32, 4, 4));
}

#[test]
fn a_lesion_split_keeps_lesions_whole() {
    let (truth, meta) = isic("\n");
    let d = Files::new(&[(TRUTH, &truth), (META, &meta)]);
    let set = d.load("isic2019", &Protocol::corrected()).unwrap();
    assert!(leaks(&set).none());
    let mut all = [set.train.clone(), set.val.clone(), set.test.clone()].concat();
    all.sort_unstable();
    assert_eq!(all, (0..40).collect::<Vec<_>>());
    assert!(set.train.is_sorted() && set.val.is_sorted() && set.test.is_sorted());
    assert_eq!((set.train.len(), set.val.len(), set.test.len()), (32, 4, 4));
    let random = leaks(&d.load("isic2019", &Protocol::faithful()).unwrap());
    assert!(!random.none() && !random.test_in_train.groups.is_empty());
}

#[test]
fn broken_isic_files_are_refused() {
    let (truth, meta) = isic("\n");
    let line = |l: &str| format!("{ISIC_HEAD}\n{l}\n");
    let fails = |truth: &str, meta: &str, texts: &[&str]| {
        Files::new(&[(TRUTH, truth), (META, meta)]).fails("isic2019", &Protocol::faithful(), texts);
    };
    let at = "GroundTruth.csv:2: expected ";
    let one = "exactly one positive class, found ";
    fails(
        &line("a,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0"),
        &meta,
        &[at, one, "0 of them"],
    );
    fails(
        &line("a,1.0,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0"),
        &meta,
        &[at, one, "2 of them"],
    );
    fails(&line("a,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0"), &meta, &[at, "UNK"]);
    fails(
        &line("a,0.5,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0"),
        &meta,
        &[at, "0.0 or 1.0", "\"0.5\""],
    );
    fails(&line("a,1.0"), &meta, &[at, "10 fields, found 2"]);
    fails(
        &line("../a,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0"),
        &meta,
        &[at, "plain name", "../a"],
    );
    fails(
        "image,MEL,NV\na,1.0,0.0\n",
        &meta,
        &["GroundTruth.csv:1: expected a column \"BCC\""],
    );
    let again = truth.clone() + "ISIC_0000004,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0\n";
    fails(
        &again,
        &meta,
        &["GroundTruth.csv:42: expected every image once", "GroundTruth.csv:6"],
    );
    fails(
        &truth,
        &meta.replace("ISIC_0000007", "other"),
        &["Metadata.csv: expected a row for every image", "ISIC_0000007"],
    );
    fails(
        &truth,
        &meta.replace("lesion_id", "lesion"),
        &["Metadata.csv:1: expected a column \"lesion_id\""],
    );
    Files::new(&[(TRUTH, &truth)]).fails("isic2019", &Protocol::faithful(), &["Metadata.csv", "no such file"]);
}

/// Counts published with the data set (study facts) and PROTOCOL 1.5.
#[test]
fn the_real_isic_label_files_give_the_published_split() {
    let Some(root) = real("labels/isic2019") else { return };
    let source = registry::find("isic2019").unwrap();
    let d = source.load(&root, &Protocol::faithful()).unwrap();
    assert_eq!((d.train.len(), d.val.len(), d.test.len()), (20_265, 2_533, 2_533));
    let all: Vec<u32> = (0..d.samples.len() as u32).collect();
    assert_eq!(classes_of(&d, &all), [4522, 12875, 3323, 867, 2624, 239, 253, 628]);
    assert_eq!(d.samples.iter().filter(|s| s.group.is_none()).count(), 2084);
    assert_eq!(&split::digest(&d.test)[..16], "6d343cec6e90ed44");
    let names: Vec<&str> = d.test.iter().map(|&i| d.samples[i as usize].id.as_str()).collect();
    let published = "fd91b9405f6a73a1b5b5d51f14ce31d6364a9bcfbe3b84ea3c072d7541b513d1";
    assert_eq!(medft::fsio::sha256_hex(names.join("\n").as_bytes()), published);
    let l = leaks(&d);
    assert_eq!(
        (
            l.test_in_train.images_of_shared_groups,
            l.val_in_train.images_of_shared_groups
        ),
        (1535, 1523)
    );
    assert_eq!(
        (l.test_in_train.images, l.val_in_train.images, l.test_in_val.images),
        (0, 0, 0)
    );

    let c = source.load(&root, &Protocol::corrected()).unwrap();
    assert!(leaks(&c).none());
    assert_eq!((c.train.len(), c.val.len(), c.test.len()), (20_265, 2_533, 2_533));
    // From vectors/sets/by_group.py, the same rule in plain Python.
    let digests = [&c.train, &c.val, &c.test].map(|part| split::digest(part)[..16].to_string());
    assert_eq!(digests, ["7a5a79e456d45afa", "b257440fb4b27bc8", "77e89f5daadacc69"]);
    let (val, test) = (classes_of(&c, &c.val), classes_of(&c, &c.test));
    for (k, n) in [4522, 12875, 3323, 867, 2624, 239, 253, 628].into_iter().enumerate() {
        for held in [val[k], test[k]] {
            assert!((10 * held).abs_diff(n) <= 10, "class {k}: {val:?} {test:?}");
        }
    }
}
