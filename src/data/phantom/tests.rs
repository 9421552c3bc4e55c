//! Layout, byte stability and learnability of the phantoms, read back from their files.

use super::*;
use rand_mt::Mt;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use tempfile::TempDir;

type Plan = fn(usize) -> Result<Phantom>;
/// (name, plan at a size, default size).
const SETS: [(&str, Plan, usize); 4] = [
    ("ddsm", ddsm::plan, ddsm::DEFAULT_IMAGES),
    ("chexpert", chexpert::plan, chexpert::DEFAULT_IMAGES),
    ("isic2019", isic2019::plan, isic2019::DEFAULT_IMAGES),
    ("aptos2019", aptos2019::plan, aptos2019::DEFAULT_IMAGES),
];
const SMALL: usize = 160;

fn written(plan: Plan, images: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    plan(images).unwrap().write(dir.path(), WRITERS).unwrap();
    dir
}

/// Every file below `dir`, by its path.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn digest(files: &BTreeMap<String, Vec<u8>>) -> String {
    let mut all = Vec::new();
    for (name, bytes) in files {
        all.extend(format!("{name}\0{}\0", bytes.len()).into_bytes());
        all.extend(bytes);
    }
    fsio::sha256_hex(&all)
}

fn text(dir: &TempDir, name: &str) -> String {
    fsio::read_to_string(&dir.path().join(name)).unwrap()
}

fn lines(dir: &TempDir, name: &str) -> Vec<String> {
    text(dir, name).lines().map(str::to_owned).collect()
}

fn cells(line: &str) -> Vec<&str> {
    line.split(',').collect()
}

/// The expected value is this module's own output: it is here to pin the bytes, on every machine and across upgrades of
/// the encoders, because manifests with these hashes are committed. What the bytes mean is tested below.
#[test]
fn golden_bytes() {
    const GOLDEN: [(&str, &str); 9] = [
        (
            "ddsm",
            "714cfc73258ccef848ba003e094993d0cf2a22a686b4300a848b95db37f79cc7",
        ),
        (
            "chexpert",
            "6dfd0aa71885611acfd9cb4a45b1cde98007232a55c0d06f43722c9d5f626065",
        ),
        (
            "isic2019",
            "d4efdc24b78f20d54e821db0363a5e394a629d5784b901d897899ed260eb6f62",
        ),
        (
            "aptos2019",
            "1299d07852436bd66610691b36b4c01fb3a26631f481d0506ec4eaaded125fe2",
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

/// Names of images and their truth, as the label files of a phantom give them.
type Truth = Vec<(PathBuf, Vec<u8>)>;

fn ddsm_truth(dir: &TempDir, list: &str) -> Truth {
    let row = |name: &String| {
        let class = ["normal", "benign", "cancer"]
            .iter()
            .position(|c| name.split('_').next() == Some(c));
        (Path::new("ddsm_raw").join(name), vec![class.unwrap() as u8])
    };
    lines(dir, &format!("ddsm_raw_image_lists/{list}.txt"))
        .iter()
        .map(row)
        .collect()
}

fn chexpert_truth(dir: &TempDir, file: &str) -> Truth {
    let row = |line: &String| {
        let cells = cells(line);
        let bits = cells[5..].iter().map(|&c| u8::from(c == "1.0")).collect();
        (PathBuf::from(cells[0].split_once('/').unwrap().1), bits)
    };
    lines(dir, file)[1..].iter().map(row).collect()
}

fn isic_truth(dir: &TempDir) -> Truth {
    let row = |line: &String| {
        let cells = cells(line);
        let class = cells[1..].iter().position(|&c| c == "1.0").unwrap();
        let folder = Path::new("ISIC_2019_Training_Input/ISIC_2019_Training_Input");
        (folder.join(format!("{}.jpg", cells[0])), vec![class as u8])
    };
    lines(dir, "ISIC_2019_Training_GroundTruth.csv")[1..]
        .iter()
        .map(row)
        .collect()
}

fn aptos_truth(dir: &TempDir, file: &str) -> Truth {
    let row = |line: &String| {
        let cells = cells(line);
        let path = Path::new("train_images/train_images").join(format!("{}.png", cells[0]));
        (path, vec![cells[1].parse().unwrap()])
    };
    lines(dir, file)[1..].iter().map(row).collect()
}

/// Row numbers of val and test in PROTOCOL 1.5's random split.
fn held_out(n: usize, share: f64) -> (Vec<usize>, Vec<usize>) {
    let mut ids: Vec<usize> = (0..n).collect();
    let mut mt = Mt::new_with_key([42]);
    for i in (1..n).rev() {
        let bits = usize::BITS - (i + 1).leading_zeros();
        let mut draw = || (mt.next_u32() >> (32 - bits)) as usize;
        let mut j = draw();
        while j > i {
            j = draw();
        }
        ids.swap(i, j);
    }
    let held = (n as f64 * share).floor() as usize;
    ids.truncate(held);
    let test = ids.split_off(held / 2);
    (ids, test)
}

/// First ids of PROTOCOL 1.5's table.
#[test]
fn the_split_of_these_tests_is_the_published_one() {
    let (val, test) = held_out(25_331, 0.2);
    assert_eq!(
        (&val[..3], &test[..3]),
        (&[19993, 22352, 7][..], &[10529, 9719, 8588][..])
    );
}

/// Parts (train, val, test) of a default phantom under the authors' rules.
fn parts(name: &str, dir: &TempDir) -> [Truth; 3] {
    let by_ids = |rows: Truth, (val, test): (Vec<usize>, Vec<usize>)| {
        let pick = |ids: &[usize]| -> Truth { ids.iter().map(|&i| rows[i].clone()).collect() };
        let rest: Vec<usize> = (0..rows.len())
            .filter(|i| !val.contains(i) && !test.contains(i))
            .collect();
        [pick(&rest), pick(&val), pick(&test)]
    };
    match name {
        "ddsm" => ["train", "val", "test"].map(|l| ddsm_truth(dir, l)),
        "isic2019" => {
            let rows = isic_truth(dir);
            let ids = held_out(rows.len(), 0.2);
            by_ids(rows, ids)
        }
        "aptos2019" => {
            let rows = aptos_truth(dir, "train_1.csv");
            let ids = held_out(rows.len(), 0.3);
            by_ids(rows, ids)
        }
        _ => {
            let rows = chexpert_truth(dir, "train.csv");
            let (sorted, k, h) = label_slices(&rows);
            let pick = |positions: std::ops::RangeInclusive<usize>| -> Truth {
                sorted[positions].iter().map(|&row| rows[row].clone()).collect()
            };
            [pick(k..=rows.len() - 1), pick(0..=h), pick(h..=k)]
        }
    }
}

/// PROTOCOL 1.2: row numbers by path, and the positions p(K) and p(H).
fn label_slices(rows: &Truth) -> (Vec<usize>, usize, usize) {
    let mut sorted: Vec<usize> = (0..rows.len()).collect();
    sorted.sort_by_key(|&i| rows[i].0.to_str().unwrap());
    let position = |label: usize| sorted.iter().position(|&row| row == label).unwrap();
    let k = position((0.2 * rows.len() as f64).floor() as usize + 15);
    let h = position(k.div_ceil(2));
    (sorted, k, h)
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
        println!("skipped: {} is not there", path.display());
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

/// npy arrays of a stored npz: (name, shape as written, values).
fn arrays(bytes: Vec<u8>) -> Vec<(String, String, Vec<u8>)> {
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let read = |i| {
        let mut file = zip.by_index(i).unwrap();
        let mut npy = Vec::new();
        std::io::copy(&mut file, &mut npy).unwrap();
        let head = String::from_utf8(npy[10..128].to_vec()).unwrap();
        assert_eq!(&npy[..10], b"\x93NUMPY\x01\x00\x76\x00");
        let shape = head
            .strip_prefix("{'descr': '|u1', 'fortran_order': False, 'shape': (")
            .unwrap();
        let shape = shape.split_once("), }").unwrap().0.to_owned();
        (file.name().unwrap().into_owned(), shape, npy[128..].to_vec())
    };
    (0..6).map(read).collect()
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

/// A picture as 16 × 16 means of its pixels (channels last).
fn thumbnail(width: usize, height: usize, pixels: &[u8]) -> Vec<f64> {
    const N: usize = 16;
    let channels = pixels.len() / (width * height);
    let (mut sum, mut count) = (vec![0.0; N * N * channels], [0.0; N * N]);
    for (i, px) in pixels.chunks_exact(channels).enumerate() {
        let cell = (i / width * N / height) * N + i % width * N / width;
        count[cell] += 1.0;
        for (c, v) in px.iter().enumerate() {
            sum[cell * channels + c] += f64::from(*v) / 255.0;
        }
    }
    sum.iter().enumerate().map(|(k, s)| s / count[k / channels]).collect()
}

/// Scores (rows of `test`) × (columns of `y`) of ridge regression on centred features, solved in the dual.
fn ridge(train: &[Vec<f64>], y: &[Vec<f64>], test: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let n = train.len();
    let mean: Vec<f64> = (0..train[0].len())
        .map(|j| train.iter().map(|x| x[j]).sum::<f64>() / n as f64)
        .collect();
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).zip(&mean).map(|((a, b), m)| (a - m) * (b - m)).sum() };
    let mut system: Vec<Vec<f64>> = (0..n)
        .map(|i| {
            let kernel = train.iter().map(|x| dot(&train[i], x));
            kernel.chain(y[i].iter().copied()).collect()
        })
        .collect();
    let weight = 0.02 * (0..n).map(|i| system[i][i]).sum::<f64>() / n as f64;
    (0..n).for_each(|i| system[i][i] += weight);
    // Gauss–Jordan without pivoting: the matrix is positive definite.
    for i in 0..n {
        let pivot: Vec<f64> = system[i].iter().map(|v| v / system[i][i]).collect();
        for row in system.iter_mut() {
            let f = row[i];
            row.iter_mut().zip(&pivot).for_each(|(v, p)| *v -= f * p);
        }
        system[i] = pivot;
    }
    let score = |x: &Vec<f64>| -> Vec<f64> {
        let kernel: Vec<f64> = train.iter().map(|t| dot(t, x)).collect();
        (n..system[0].len())
            .map(|c| system.iter().zip(&kernel).map(|(row, k)| row[c] * k).sum())
            .collect()
    };
    test.iter().map(score).collect()
}

/// Share of (positive, negative) pairs in the right order, ties half.
fn auc(truth: &[bool], score: &[f64]) -> f64 {
    let (mut right, mut pairs) = (0.0, 0.0);
    for (i, _) in truth.iter().enumerate().filter(|(_, t)| **t) {
        for (j, _) in truth.iter().enumerate().filter(|(_, t)| !**t) {
            pairs += 1.0;
            right += match score[i].total_cmp(&score[j]) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            };
        }
    }
    right / pairs
}

type Examples = (Vec<Vec<f64>>, Vec<Vec<u8>>);

/// Mean area under the curve of fourteen labels or two classes, macro recall of more, of a linear model on thumbnails.
fn skill((train, y): &Examples, (test, truth): &Examples) -> f64 {
    let labels = y[0].len();
    if labels > 1 {
        let targets: Vec<Vec<f64>> = y.iter().map(|r| r.iter().map(|&b| f64::from(b)).collect()).collect();
        let scores = ridge(train, &targets, test);
        let one = |k: usize| {
            let truth: Vec<bool> = truth.iter().map(|r| r[k] == 1).collect();
            auc(&truth, &scores.iter().map(|s| s[k]).collect::<Vec<_>>())
        };
        return (0..labels).map(one).sum::<f64>() / labels as f64;
    }
    let classes = usize::from(y.iter().map(|r| r[0]).max().unwrap()) + 1;
    let count = |rows: &[Vec<u8>], c: usize| rows.iter().filter(|r| usize::from(r[0]) == c).count() as f64;
    let target = |r: &Vec<u8>| -> Vec<f64> {
        let hot = |c| if usize::from(r[0]) == c { 1.0 / count(y, c) } else { 0.0 };
        (0..classes).map(hot).collect()
    };
    let scores = ridge(train, &y.iter().map(target).collect::<Vec<_>>(), test);
    if classes == 2 {
        let truth: Vec<bool> = truth.iter().map(|r| r[0] == 1).collect();
        return auc(&truth, &scores.iter().map(|s| s[1] - s[0]).collect::<Vec<_>>());
    }
    let best = |s: &Vec<f64>| (0..classes).max_by(|&a, &b| s[a].total_cmp(&s[b])).unwrap();
    let mut recall = vec![0.0; classes];
    for (s, r) in scores.iter().zip(truth) {
        let c = usize::from(r[0]);
        recall[c] += f64::from(u8::from(best(s) == c)) / count(truth, c);
    }
    recall.iter().sum::<f64>() / classes as f64
}

/// The signal is there for the simplest model: a linear one on 16 × 16 thumbnails, trained on train, asked about val and test,
/// is well above chance on every set.
#[test]
fn a_linear_model_on_thumbnails_beats_chance() {
    for (name, chance, wanted) in [
        ("ddsm", 0.5, 0.75),
        ("chexpert", 0.5, 0.7),
        ("isic2019", 0.125, 0.5),
        ("aptos2019", 0.2, 0.4),
    ] {
        let (_, plan, images) = SETS.into_iter().find(|s| s.0 == name).unwrap();
        let dir = written(plan, images);
        let [train, val, test] = parts(name, &dir).map(|rows| -> Examples {
            let thumb = |path: &PathBuf| {
                let image = image::open(dir.path().join(path)).unwrap();
                thumbnail(image.width() as usize, image.height() as usize, image.as_bytes())
            };
            let truth = |t: &Vec<u8>| if name == "ddsm" { vec![t[0].min(1)] } else { t.clone() };
            (
                rows.iter().map(|r| thumb(&r.0)).collect(),
                rows.iter().map(|r| truth(&r.1)).collect(),
            )
        });
        let held = ([val.0, test.0].concat(), [val.1, test.1].concat());
        let found = skill(&train, &held);
        println!("{name}: {found:.3} where chance is {chance}");
        assert!(found > wanted, "{name}: {found}");
    }
    for (name, chance, wanted) in [
        ("breastmnist", 0.5, 0.8),
        ("retinamnist", 0.2, 0.35),
        ("dermamnist", 1.0 / 7.0, 0.5),
        ("pneumoniamnist", 0.5, 0.75),
        ("chestmnist", 0.5, 0.7),
    ] {
        let dir = tempfile::tempdir().unwrap();
        medmnist::write(dir.path(), name, medmnist::DEFAULT_IMAGES).unwrap();
        let arrays = arrays(std::fs::read(dir.path().join(format!("{name}.npz"))).unwrap());
        let examples = |part: usize| -> Examples {
            let n: usize = arrays[part].1.split(',').next().unwrap().parse().unwrap();
            let each = |k: usize| arrays[k].2.chunks_exact(arrays[k].2.len() / n);
            (
                each(part).map(|px| thumbnail(28, 28, px)).collect(),
                each(part + 3).map(<[u8]>::to_vec).collect(),
            )
        };
        let found = skill(&examples(0), &examples(2));
        println!("{name}: {found:.3} where chance is {chance:.3}");
        assert!(found > wanted, "{name}: {found}");
    }
}
