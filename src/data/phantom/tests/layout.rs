//! Files, headers, names and classes are as in the real sets.

use super::*;

/// First ids of PROTOCOL 1.5's table.
#[test]
fn the_split_of_these_tests_is_the_published_one() {
    let (val, test) = held_out(25_331, 0.2);
    assert_eq!(
        (&val[..3], &test[..3]),
        (&[19993, 22352, 7][..], &[10529, 9719, 8588][..])
    );
}

#[test]
fn every_class_is_in_every_part_at_the_default_size() {
    for (name, plan, images) in SETS {
        let dir = written(plan, images);
        for (part, rows) in ["train", "val", "test"].iter().zip(parts(name, &dir)) {
            all_there(&format!("{name} {part}"), &rows);
        }
        if name == "aptos2019" {
            let rows = aptos_truth(&dir, "train.csv");
            let (val, test) = held_out(rows.len(), 0.3);
            for (part, ids) in [("val", val), ("test", test)] {
                let rows: Truth = ids.iter().map(|&i| rows[i].clone()).collect();
                all_there(&format!("{name} train.csv {part}"), &rows);
            }
        }
        if name == "chexpert" {
            all_there("chexpert valid.csv", &chexpert_truth(&dir, "valid.csv"));
        }
    }
}

/// Every class (by name of the set), or both values of every label.
fn all_there(what: &str, rows: &Truth) {
    let width = rows[0].1.len();
    let mut count = [[0usize; 8]; 14];
    for (_, truth) in rows {
        for (label, &t) in truth.iter().enumerate() {
            count[label][usize::from(t)] += 1;
        }
    }
    let classes = match what.split(' ').next() {
        Some("ddsm") => 3,
        Some("isic2019") => 8,
        Some("aptos2019") => 5,
        _ => 2,
    };
    println!("{what}: {} images", rows.len());
    for (label, count) in count.iter().enumerate().take(width) {
        println!("  {:?}", &count[..classes]);
        assert!(
            count[..classes].iter().all(|&n| n > 0),
            "{what}, label {label}: {count:?}"
        );
    }
}

/// [`isic2019::DEAL`] and [`aptos2019::DEAL`] are what their comments say.
#[test]
fn the_deals_are_the_first_that_fit() {
    let fits = |classes: &[usize], n: usize, share: f64| {
        let (val, test) = held_out(classes.len(), share);
        let all = |ids: &[usize]| (0..n).all(|c| ids.iter().any(|&i| classes[i] == c));
        all(&val) && all(&test)
    };
    let isic = |deal: &usize| fits(&isic2019::classes(isic2019::DEFAULT_IMAGES, *deal), 8, 0.2);
    assert_eq!((0..).find(isic), Some(isic2019::DEAL));
    let aptos = |deal: &usize| {
        let mut rows = aptos2019::rows(aptos2019::DEFAULT_IMAGES, *deal);
        let grades = |rows: &[(String, usize)]| rows.iter().map(|r| r.1).collect::<Vec<_>>();
        let first = grades(&rows[..aptos2019::first_rows(aptos2019::DEFAULT_IMAGES)]);
        rows.sort();
        fits(&first, 5, 0.3) && fits(&grades(&rows), 5, 0.3)
    };
    assert_eq!((0..).find(aptos), Some(aptos2019::DEAL));
}

#[test]
fn ddsm_layout() {
    let dir = written(ddsm::plan, ddsm::DEFAULT_IMAGES);
    let mut cases = BTreeSet::new();
    let mut images = 0;
    for (list, n) in [("train", 144), ("val", 48), ("test", 48)] {
        let names = lines(&dir, &format!("ddsm_raw_image_lists/{list}.txt"));
        assert_eq!(names.len(), n);
        assert!(names.is_sorted());
        let mut here = BTreeMap::new();
        for name in &names {
            // The pattern of the real lists: benign_01-B_3091_1.LEFT_CC.LJPEG.1.jpg
            let parts: Vec<&str> = name.split('.').collect();
            assert_eq!(parts[2..], ["LJPEG", "1", "jpg"], "{name}");
            let case = parts[0].split_once('-').unwrap().1.to_owned();
            here.entry(case).or_insert_with(Vec::new).push(parts[1].to_owned());
            let image = image::open(dir.path().join("ddsm_raw").join(name)).unwrap();
            assert_eq!(image.color(), image::ColorType::L8);
            images += 1;
        }
        for (case, views) in here {
            assert_eq!(views, ["LEFT_CC", "LEFT_MLO", "RIGHT_CC", "RIGHT_MLO"], "{case}");
            assert!(cases.insert(case.clone()), "{case} is in two lists");
        }
    }
    assert_eq!(images, ddsm::DEFAULT_IMAGES);
    assert_eq!(files(dir.path()).len(), ddsm::DEFAULT_IMAGES + 3);
}

/// The real lists, where they are at hand: same names once digits and words are taken out.
#[test]
fn ddsm_names_look_like_the_real_ones() {
    let real = real_file("labels/ddsm_raw_image_lists/train.txt");
    let Some(real) = real else { return };
    let shape = |name: &str| -> String {
        let (word, rest) = name.split_once('-').unwrap();
        let word = word.trim_end_matches(|c: char| c.is_ascii_digit());
        format!("{word}{}", rest.replace(|c: char| c.is_ascii_digit(), "N"))
    };
    let shapes: BTreeSet<String> = real.lines().map(shape).collect();
    let dir = written(ddsm::plan, ddsm::DEFAULT_IMAGES);
    for name in lines(&dir, "ddsm_raw_image_lists/train.txt") {
        let s = shape(&name);
        // The real set has no benign_without_callback case from scanners A and D; letters carry no meaning here.
        let s = if s.starts_with("benign_without") {
            s.replace("_A_", "_B_").replace("_D_", "_B_")
        } else {
            s
        };
        assert!(shapes.contains(&s), "{name}: {s}");
    }
}

fn real_file(name: &str) -> Option<String> {
    let root = std::env::var("MEDFT_REAL").map_or_else(
        |_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/real"),
        PathBuf::from,
    );
    let path = root.join(name);
    if !path.exists() {
        crate::skip::skipped(&format!("{} is not there", path.display()));
        return None;
    }
    Some(fsio::read_to_string(&path).unwrap())
}

/// Header of the release's train.csv (PROTOCOL 1.2 names the 14 labels in this order).
const CHEXPERT_HEADER: &str = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,\
Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,\
Support Devices";

#[test]
fn chexpert_layout() {
    let dir = written(chexpert::plan, chexpert::DEFAULT_IMAGES);
    let mut values = BTreeSet::new();
    for (file, n) in [("train.csv", 210), ("valid.csv", 30)] {
        let rows = lines(&dir, file);
        assert_eq!(rows[0], CHEXPERT_HEADER);
        assert_eq!(rows.len(), n + 1);
        let part = file.strip_suffix(".csv").unwrap();
        for row in &rows[1..] {
            let cells = cells(row);
            assert_eq!(cells.len(), 19);
            let path: Vec<&str> = cells[0].split('/').collect();
            assert_eq!((path[0], path[1], path.len()), ("CheXpert-v1.0-small", part, 5));
            assert!(path[2].starts_with("patient") && path[2].len() == 12 && path[3].starts_with("study"));
            assert_eq!(path[4].ends_with("_lateral.jpg"), cells[3] == "Lateral");
            assert_eq!(cells[4].is_empty(), cells[3] == "Lateral");
            let image = image::open(dir.path().join(path[1..].join("/"))).unwrap();
            assert_eq!(image.color(), image::ColorType::L8);
            for value in &cells[5..] {
                values.insert((part.to_owned(), (*value).to_owned()));
            }
        }
    }
    let value = |part: &str, v: &str| (part.to_owned(), v.to_owned());
    let all = ["", "-1.0", "0.0", "1.0"].map(|v| value("train", v));
    let sure = ["0.0", "1.0"].map(|v| value("valid", v));
    assert_eq!(values, all.into_iter().chain(sure).collect());
    assert_eq!(files(dir.path()).len(), chexpert::DEFAULT_IMAGES + 2);
}

/// The disorder that PROTOCOL 1.2's label slices depend on.
#[test]
fn chexpert_rows_are_nearly_sorted_and_the_cuts_are_not_at_their_numbers() {
    let dir = written(chexpert::plan, chexpert::DEFAULT_IMAGES);
    let rows = chexpert_truth(&dir, "train.csv");
    let patient = |i: usize| rows[i].0.iter().nth(1).unwrap().to_owned();
    assert!((1..rows.len()).all(|i| patient(i - 1) <= patient(i)));
    let (sorted, k, h) = label_slices(&rows);
    let wanted = (0.2 * rows.len() as f64) as usize + 15;
    println!("N {}, K {wanted}, p(K) {k}, H {}, p(H) {h}", rows.len(), k.div_ceil(2));
    assert!(k != wanted || h != k.div_ceil(2), "sorted at both cuts");
    assert!(sorted.iter().enumerate().filter(|&(p, &row)| p != row).count() > rows.len() / 5);
    assert!(rows.iter().any(|r| r.0.to_str().unwrap().contains("study11")));
    // At least one row whose labels are all 0 after U-Zeroes, for the No Finding rule.
    assert!(rows.iter().any(|r| r.1.iter().all(|&l| l == 0)));
}

#[test]
fn isic_layout() {
    let dir = written(isic2019::plan, isic2019::DEFAULT_IMAGES);
    let truth = text(&dir, "ISIC_2019_Training_GroundTruth.csv");
    let metadata = text(&dir, "ISIC_2019_Training_Metadata.csv");
    let heads = [
        "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK",
        "image,age_approx,anatom_site_general,lesion_id,sex",
    ];
    for (text, head) in [(&truth, heads[0]), (&metadata, heads[1])] {
        assert!(text.starts_with(&format!("{head}\r\n")) && text.ends_with("\r\n"));
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
        assert_eq!(text.lines().count(), isic2019::DEFAULT_IMAGES + 1);
    }
    for (name, head) in [("GroundTruth", heads[0]), ("Metadata", heads[1])] {
        if let Some(real) = real_file(&format!("labels/isic2019/ISIC_2019_Training_{name}.csv")) {
            assert!(real.starts_with(&format!("{head}\r\n")));
        }
    }
    let mut lesions: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut shapes = BTreeSet::new();
    let rows = isic_truth(&dir);
    for (i, (line, (path, class))) in metadata.lines().skip(1).zip(&rows).enumerate() {
        let cells = cells(line);
        assert_eq!(cells.len(), 5);
        assert!(
            path.to_str().unwrap().ends_with(&format!("/{}.jpg", cells[0])),
            "row {i}"
        );
        lesions.entry(cells[3]).or_default().push(usize::from(class[0]));
        let image = image::open(dir.path().join(path)).unwrap();
        assert_eq!(image.color(), image::ColorType::Rgb8);
        shapes.insert(image.width() == image.height());
    }
    assert_eq!(shapes.len(), 2, "square and wide images");
    let unnamed = lesions.remove("").unwrap().len();
    let several = lesions.values().filter(|l| l.len() > 1).count();
    println!(
        "{unnamed} without lesion, {} lesions, {several} of them with several images",
        lesions.len()
    );
    assert!(unnamed > 5 && several > 20);
    assert!(lesions.values().all(|l| l.iter().all(|c| *c == l[0])));
}

#[test]
fn aptos_layout() {
    let dir = written(aptos2019::plan, aptos2019::DEFAULT_IMAGES);
    let (all, most) = (lines(&dir, "train.csv"), lines(&dir, "train_1.csv"));
    assert_eq!(
        (all[0].as_str(), most[0].as_str()),
        ("id_code,diagnosis", "id_code,diagnosis")
    );
    assert_eq!((all.len(), most.len()), (241, 193));
    assert!(!text(&dir, "train.csv").contains('\r'));
    let listed: BTreeSet<&String> = all[1..].iter().collect();
    assert!(most[1..].iter().all(|row| listed.contains(row)));
    for (path, _) in aptos_truth(&dir, "train.csv") {
        let id = path.file_stem().unwrap().to_str().unwrap();
        assert!(id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
        assert_eq!(
            image::open(dir.path().join(&path)).unwrap().color(),
            image::ColorType::Rgb8
        );
    }
    assert_eq!(files(dir.path()).len(), aptos2019::DEFAULT_IMAGES + 2);
}

#[test]
fn medmnist_layout() {
    for name in medmnist::NAMES {
        let dir = tempfile::tempdir().unwrap();
        medmnist::write(dir.path(), name, medmnist::DEFAULT_IMAGES).unwrap();
        let arrays = arrays(std::fs::read(dir.path().join(format!("{name}.npz"))).unwrap());
        let (colour, labels, classes) = match name {
            "retinamnist" => (", 3", 1, 5),
            "dermamnist" => (", 3", 1, 7),
            "chestmnist" => ("", 14, 2),
            _ => ("", 1, 2),
        };
        for (i, (part, n)) in [("train", 168), ("val", 24), ("test", 48)].iter().enumerate() {
            let (images, truth) = (&arrays[i], &arrays[i + 3]);
            assert_eq!(images.0, format!("{part}_images.npy"));
            assert_eq!(images.1, format!("{n}, 28, 28{colour}"));
            assert_eq!(images.2.len(), n * 28 * 28 * if colour.is_empty() { 1 } else { 3 });
            assert_eq!(
                (truth.0.as_str(), truth.1.as_str()),
                (&*format!("{part}_labels.npy"), &*format!("{n}, {labels}"))
            );
            for label in 0..labels {
                let seen: BTreeSet<u8> = truth.2.iter().skip(label).step_by(labels).copied().collect();
                assert_eq!(seen, (0..classes).collect(), "{name} {part} {label}");
            }
        }
    }
}

/// The whole of the four sets is small and quick; prints what it is.
#[test]
fn size_and_time_of_the_four_sets() {
    let start = std::time::Instant::now();
    let mut bytes = 0;
    for (name, plan, images) in SETS {
        let dir = written(plan, images);
        let set: usize = files(dir.path()).values().map(Vec::len).sum();
        println!("{name}: {images} images, {} KB", set / 1000);
        bytes += set;
    }
    println!(
        "four sets: {} KB in {:.2} s",
        bytes / 1000,
        start.elapsed().as_secs_f64()
    );
    assert!(bytes < 4_000_000);
}
