//! Which image is trained on, which one chooses the epoch, which one is tested: the authors' rules to the letter
//! (PROTOCOL 1.2, 1.5) and their corrections.
//!
//! All of it is integer work on row numbers, so a split is the same on every machine. The shuffle is CPython's own
//! (`random.Random(42).shuffle`), rebuilt on the Mersenne Twister; nothing else in medft uses that generator.

use super::files;
use super::folder::Folder;
use crate::error::BadInput;
use crate::spec::protocol::ValIdsFile;
use anyhow::Result;
use rand_mt::Mt;
use std::cmp::{Ordering, Reverse};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Seed of the authors' shuffle (PROTOCOL 1.5).
pub const SEED: u32 = 42;
/// The file beside the data that the authors' code obeys (Q43).
pub const VAL_IDS: &str = "val_ids.json";

/// Row numbers of the three parts, each in the protocol's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    pub train: Vec<u32>,
    pub val: Vec<u32>,
    pub test: Vec<u32>,
}

impl Parts {
    /// # Errors
    /// [`BadInput`] at the data set's folder when a part has no image.
    pub fn none_empty(self, root: &Path) -> Result<Self> {
        let sizes = [self.train.len(), self.val.len(), self.test.len()];
        if sizes.iter().all(|&n| n > 0) {
            return Ok(self);
        }
        Err(BadInput::new(
            root.display(),
            "images for train, val and test",
            format!("{}, {} and {} of them", sizes[0], sizes[1], sizes[2]),
            "Bring the whole data set; a phantom wants more images.",
        )
        .into())
    }
}

/// SHA-256 of the comma-joined row numbers, in lower-case hex: the fingerprint of PROTOCOL 1.5.
pub fn digest(ids: &[u32]) -> String {
    let texts: Vec<String> = ids.iter().map(u32::to_string).collect();
    crate::fsio::sha256_hex(texts.join(",").as_bytes())
}

/// CPython's `random.Random(seed).shuffle(items)`.
///
/// For i = len−1 down to 1, swap items i and j with j uniform below m = i+1: the top `bit_length(m)` bits of one 32-bit
/// output, drawn again while they are not below m.
pub fn python_shuffle(items: &mut [u32], seed: u32) {
    let mut mt = Mt::new_with_key([seed]);
    for i in (1..items.len()).rev() {
        let m = u32::try_from(i + 1).expect("fewer than 2^32 images");
        let drop = m.leading_zeros();
        let mut j = mt.next_u32() >> drop;
        while j >= m {
            j = mt.next_u32() >> drop;
        }
        items.swap(i, j as usize);
    }
}

/// The authors' random split of `n` rows: a fraction `held` is val and test, one half each (PROTOCOL 1.5).
pub fn random(n: u32, held: f64) -> Parts {
    let mut ids: Vec<u32> = (0..n).collect();
    python_shuffle(&mut ids, SEED);
    let train = ids.split_off(held_out(n, held));
    halves(train, ids)
}

/// ⌊n·held⌋ in double precision.
fn held_out(n: u32, held: f64) -> usize {
    (f64::from(n) * held).floor() as usize
}

fn halves(train: Vec<u32>, mut held: Vec<u32>) -> Parts {
    let test = held.split_off(held.len() / 2);
    Parts { train, val: held, test }
}

/// [`random`], unless the data set's folder holds a `val_ids.json` that the protocol obeys.
///
/// A file whose lengths do not fit is passed over, as in the authors' code. That code then overwrites it, and writes one where
/// there is none; medft never writes among the data, since both would only hold what [`random`] gives anyway.
///
/// # Errors
/// [`BadInput`] for a file that is not what it should be: other JSON, or numbers that are not every row once. (The authors
/// do not look at the numbers; a wrong one would put an image into two parts or none.)
pub fn random_or_file(root: &Folder, n: u32, held: f64, obey: ValIdsFile) -> Result<Parts> {
    if obey == ValIdsFile::Ignore || !root.has(VAL_IDS.as_ref()) {
        return Ok(random(n, held));
    }
    let path = root.join(VAL_IDS);
    let (train, val) = parse_val_ids(root, n)?;
    let v = held_out(n, held);
    if val.len() != v || train.len() != n as usize - v {
        return Ok(random(n, held));
    }
    let mut seen = vec![false; n as usize];
    for &id in train.iter().chain(&val) {
        match seen.get_mut(usize::try_from(id).unwrap_or(usize::MAX)) {
            Some(s) if !*s => *s = true,
            Some(_) => return Err(bad_ids(path.display(), "every row number once", format!("{id} twice"))),
            None => {
                return Err(bad_ids(
                    path.display(),
                    &format!("row numbers below {n}"),
                    id.to_string(),
                ));
            }
        }
    }
    let narrow = |ids: Vec<u64>| ids.into_iter().map(|id| id as u32).collect();
    Ok(halves(narrow(train), narrow(val)))
}

/// (train, val+test) of a `val_ids.json`: an object with both lists, or a bare list of val+test whose rest is train in
/// ascending order (the order of a Python set of small integers).
fn parse_val_ids(root: &Folder, n: u32) -> Result<(Vec<u64>, Vec<u64>)> {
    use serde_json::Value;
    const SHAPE: &str = "an object with the integer lists train_split and val_split, or one list";
    let path = root.join(VAL_IDS);
    let text = files::read_text(root, VAL_IDS.as_ref())?;
    let json: Value = serde_json::from_str(&text)
        .map_err(|e| bad_ids(format!("{}:{}", path.display(), e.line()), SHAPE, e.to_string()))?;
    let list = |v: Option<&Value>| -> Result<Vec<u64>> {
        let ids = v
            .and_then(Value::as_array)
            .and_then(|a| a.iter().map(Value::as_u64).collect());
        ids.ok_or_else(|| bad_ids(path.display(), SHAPE, "something else".into()))
    };
    if json.is_array() {
        let val = list(Some(&json))?;
        let held: HashSet<u64> = val.iter().copied().collect();
        return Ok(((0..u64::from(n)).filter(|id| !held.contains(id)).collect(), val));
    }
    Ok((list(json.get("train_split"))?, list(json.get("val_split"))?))
}

/// What a reader lists as its optional files: `val_ids.json` where the split is random and the protocol obeys the file.
pub fn obeyed_files(random: bool, obey: ValIdsFile) -> Vec<PathBuf> {
    let obeyed = random && obey == ValIdsFile::ReadIfPresent;
    obeyed.then(|| PathBuf::from(VAL_IDS)).into_iter().collect()
}

fn bad_ids(at: impl ToString, expected: &str, found: String) -> anyhow::Error {
    BadInput::new(
        at,
        expected,
        found,
        format!("Delete {VAL_IDS} to get the seed-{SEED} split, or set val_ids_file = \"ignore\" in the study."),
    )
    .into()
}

/// K of PROTOCOL 1.2: ⌊0.2·n⌋ + 15.
fn cut(n: usize) -> usize {
    (0.2 * n as f64).floor() as usize + 15
}

/// CheXpert's pandas label slices (PROTOCOL 1.2, Q10). `sorted[position]` is the row number at that place of the sorted list;
/// `None` where pandas raises KeyError.
///
/// Cut where the *labels* K and H stand, both ends included, so one row is in train and test, one in val and test.
pub fn label_slices(sorted: &[u32]) -> Option<Parts> {
    let position = |label: usize| sorted.iter().position(|&row| row as usize == label);
    let k = position(cut(sorted.len()))?;
    let h = position(k.div_ceil(2))?;
    (h <= k).then(|| Parts {
        train: sorted[k..].to_vec(),
        val: sorted[..=h].to_vec(),
        test: sorted[h..=k].to_vec(),
    })
}

/// What the label slices were meant to be: K and H are positions, each moved on to the next patient border, and no row is
/// used twice. `patient(row)` must be contiguous along `sorted`.
pub fn patient_borders<'a>(sorted: &[u32], patient: impl Fn(u32) -> Option<&'a str>) -> Parts {
    let border = |from: usize| {
        (from.max(1)..sorted.len())
            .find(|&i| patient(sorted[i - 1]) != patient(sorted[i]))
            .unwrap_or(sorted.len())
    };
    let k = border(cut(sorted.len()));
    let h = border(k / 2).min(k);
    Parts {
        train: sorted[k..].to_vec(),
        val: sorted[..h].to_vec(),
        test: sorted[h..k].to_vec(),
    }
}

/// Given parts with every group whole: a group of several parts goes to the first of them (train, val, test), so that
/// what is validated and tested is a part of what it was. Rows without a group stay. Parts are in file order.
pub fn whole_groups<'a>(given: &Parts, group: impl Fn(u32) -> Option<&'a str>) -> Parts {
    let Parts {
        mut train,
        mut val,
        mut test,
    } = together(given, group);
    [&mut train, &mut val, &mut test]
        .into_iter()
        .for_each(|rows| rows.sort_unstable());
    Parts { train, val, test }
}

/// As [`whole_groups`], in the order of the given parts; rows that move come last.
pub fn together<'a>(given: &Parts, group: impl Fn(u32) -> Option<&'a str>) -> Parts {
    let mut home: HashMap<&str, usize> = HashMap::new();
    let mut parts: [Vec<u32>; 3] = Default::default();
    for (part, rows) in [&given.train, &given.val, &given.test].into_iter().enumerate() {
        for &row in rows {
            let to = group(row).map_or(part, |g| *home.entry(g).or_insert(part));
            parts[to].push(row);
        }
    }
    let [train, val, test] = parts;
    Parts { train, val, test }
}

/// A random split that keeps groups whole (Q41): sizes as of [`random`], each class in proportion, as near as groups allow.
///
/// A row without a group is its own. Every part has a whole number of places for each class (largest remainders) and
/// for all. Groups are shuffled ([`python_shuffle`], seed 42) and handed out, those of several classes first, then by
/// falling size: each to the part with the largest share of its class's places still open, among those with room for it;
/// where the class has no room anywhere, to the part with the largest share of all places open. The many single
/// images at the end fill the places exactly. Parts are in file order.
pub fn by_group(groups: &[Option<&str>], classes: &[u32], held: f64) -> Parts {
    assert_eq!(groups.len(), classes.len());
    let members = collect_groups(groups);
    let places = quotas(classes, held);
    let all = places.iter().fold([0; 3], |a, q| [0, 1, 2].map(|p| a[p] + q[p]));
    let (mut open, mut open_all) = (places.clone(), all);
    let kinds: Vec<_> = members.iter().map(|rows| class_counts(rows, classes)).collect();
    let mut order: Vec<u32> = (0..members.len() as u32).collect();
    python_shuffle(&mut order, SEED);
    order.sort_by_key(|&g| {
        (
            Reverse(kinds[g as usize].len().min(2)),
            Reverse(members[g as usize].len()),
        )
    });

    let mut parts: [Vec<u32>; 3] = Default::default();
    for g in order {
        let (rows, counts) = (&members[g as usize], &kinds[g as usize]);
        let size = rows.len() as i64;
        let main = counts
            .iter()
            .max_by_key(|c| (c.1, Reverse(c.0)))
            .expect("no group is empty")
            .0;
        let room = |p: &usize| open_all[*p] >= size;
        let class_room = |p: &usize| room(p) && counts.iter().all(|&(c, k)| open[c][*p] >= k);
        let part = (0..3)
            .filter(class_room)
            .max_by(|&a, &b| more_open(&open[main], &places[main], a, b))
            .or_else(|| (0..3).filter(room).max_by(|&a, &b| more_open(&open_all, &all, a, b)))
            .or_else(|| (0..3).max_by_key(|&p| (open_all[p], Reverse(p))))
            .unwrap_or(0);
        counts.iter().for_each(|&(c, k)| open[c][part] -= k);
        open_all[part] -= size;
        parts[part].extend(rows);
    }
    parts.iter_mut().for_each(|part| part.sort_unstable());
    let [train, val, test] = parts;
    Parts { train, val, test }
}

/// Compares open/places of parts `a` and `b` without dividing; of equal shares the earlier part's is the larger.
fn more_open(open: &[i64; 3], places: &[i64; 3], a: usize, b: usize) -> Ordering {
    (open[a] * places[b]).cmp(&(open[b] * places[a])).then(b.cmp(&a))
}

/// Rows of each group, groups in order of first appearance.
fn collect_groups(groups: &[Option<&str>]) -> Vec<Vec<u32>> {
    let mut members: Vec<Vec<u32>> = Vec::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    for (row, group) in groups.iter().enumerate() {
        let next = members.len();
        let g = group.map_or(next, |name| *known.entry(name).or_insert(next));
        if g == next {
            members.push(Vec::new());
        }
        members[g].push(row as u32);
    }
    members
}

/// (class, images of it), by class.
fn class_counts(rows: &[u32], classes: &[u32]) -> Vec<(usize, i64)> {
    let mut counts: Vec<(usize, i64)> = Vec::new();
    for &row in rows {
        let class = classes[row as usize] as usize;
        match counts.iter_mut().find(|c| c.0 == class) {
            Some(c) => c.1 += 1,
            None => counts.push((class, 1)),
        }
    }
    counts.sort_unstable();
    counts
}

/// Images of every class for (train, val, test): val+test gets its share of each class by largest remainders, then each
/// class is halved; the odd images go to test and val in turn.
fn quotas(classes: &[u32], held: f64) -> Vec<[i64; 3]> {
    let n = classes.len() as i64;
    let v = held_out(classes.len() as u32, held) as i64;
    let mut total = vec![0i64; classes.iter().max().map_or(0, |&c| c as usize + 1)];
    for &c in classes {
        total[c as usize] += 1;
    }
    let mut take: Vec<i64> = total.iter().map(|t| t * v / n).collect();
    let mut by_rest: Vec<usize> = (0..total.len()).collect();
    by_rest.sort_by_key(|&c| (Reverse(total[c] * v % n), c));
    let left = v - take.iter().sum::<i64>();
    for &c in by_rest.iter().take(left as usize) {
        take[c] += 1;
    }
    let mut odd = 0;
    let halve = |(t, held): (i64, i64)| {
        odd += held % 2;
        let val = held / 2 + i64::from(held % 2 == 1 && odd % 2 == 0);
        [t - held, val, held - val]
    };
    total.into_iter().zip(take).map(halve).collect()
}
