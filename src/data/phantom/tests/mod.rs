//! Layout, byte stability and learnability of the phantoms, read back from their files.

mod bytes;
mod layout;
mod readers;
mod signal;

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
