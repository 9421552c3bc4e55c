//! The parts of a set whose table names none: each class in proportion, groups whole, and images that are the same twice together.

use super::look::Seen;
use super::shares::Shares;
use super::types::Image;
use crate::rng::{Purpose, Stream};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Gives every image its part. What must stay together is handed out in a drawn order, large groups first: to a part that has nothing of
/// its rarest class yet, else to the one that has least of it for its share (Sainte-Laguë's rule, by images). So every part has some of
/// a class of three groups or more, and the same table and images are cut the same way on every machine.
pub(super) fn cut(images: &mut [Image], seen: &[Option<Seen>], classes: &[String], shares: Shares) {
    let of = strata(images, classes);
    let mut total = vec![0usize; classes.len() + 1];
    of.iter().for_each(|&c| total[c] += 1);
    let mut order = together(images, seen);
    Stream::new(0, Purpose::Shuffle, 0, 0).shuffle(&mut order);
    order.sort_by_key(|g| Reverse(g.len()));
    let mut have = vec![[0usize; 3]; classes.len() + 1];
    let mut all = [0usize; 3];
    for group in order {
        let rarest = group
            .iter()
            .map(|&i| of[i])
            .min_by_key(|&c| (total[c], c))
            .unwrap_or(classes.len());
        let half = group.len() as f64 / 2.0;
        let filled = |n: &[usize; 3], p: usize| (n[p] as f64 + half) / shares.0[p];
        let emptier = |&a: &usize, &b: &usize| {
            let class = filled(&have[rarest], a).total_cmp(&filled(&have[rarest], b));
            let without = (have[rarest][b] == 0).cmp(&(have[rarest][a] == 0));
            without
                .then(class)
                .then(filled(&all, a).total_cmp(&filled(&all, b)))
                .then(a.cmp(&b))
        };
        let part = (0..3).min_by(emptier).unwrap_or(0);
        for i in group {
            have[of[i]][part] += 1;
            all[part] += 1;
            images[i].part = Some(part);
        }
    }
}

/// Places of images that must stay together: of one group, of the same pixels, and what these chain together.
fn together(images: &[Image], seen: &[Option<Seen>]) -> Vec<Vec<usize>> {
    fn find(root: &mut [usize], mut i: usize) -> usize {
        while root[i] != i {
            root[i] = root[root[i]];
            i = root[i];
        }
        i
    }
    let mut root: Vec<usize> = (0..images.len()).collect();
    let mut first: BTreeMap<(bool, &str), usize> = BTreeMap::new();
    for (i, (image, seen)) in images.iter().zip(seen).enumerate() {
        let group = image.group.as_deref().map(|g| (true, g));
        let copy = seen.as_ref().map(|s| (false, s.hash.as_str()));
        for key in [group, copy].into_iter().flatten() {
            let other = *first.entry(key).or_insert(i);
            let (a, b) = (find(&mut root, other), find(&mut root, i));
            root[a.max(b)] = a.min(b);
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    (0..images.len()).for_each(|i| groups.entry(find(&mut root, i)).or_default().push(i));
    groups.into_values().collect()
}

/// The class of each image by its place; of several labels the rarest, and one more for none.
fn strata(images: &[Image], classes: &[String]) -> Vec<usize> {
    let place: BTreeMap<&str, usize> = classes.iter().map(String::as_str).zip(0..).collect();
    let of = |i: &Image| {
        i.labels
            .iter()
            .filter_map(|l| place.get(l.as_str()).copied())
            .collect::<Vec<_>>()
    };
    let mut count = vec![0usize; classes.len()];
    images.iter().flat_map(&of).for_each(|c| count[c] += 1);
    let rarest = |i: &Image| of(i).into_iter().min_by_key(|&c| (count[c], c));
    images.iter().map(|i| rarest(i).unwrap_or(classes.len())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::types::Origin;
    use super::*;

    fn image(i: usize, label: &str, group: Option<String>) -> Image {
        Image {
            at: format!("t.csv:{}", i + 2),
            name: i.to_string(),
            origin: Origin::File("x".into()),
            labels: vec![label.into()],
            group,
            part: None,
        }
    }

    fn count(images: &[Image], label: &str) -> [usize; 3] {
        [0, 1, 2].map(|p| {
            images
                .iter()
                .filter(|i| i.labels[0] == label && i.part == Some(p))
                .count()
        })
    }

    #[test]
    fn classes_are_in_proportion_and_rare_ones_in_every_part() {
        let labels = (0..100).map(|i| {
            if i < 90 {
                "a"
            } else if i < 97 {
                "b"
            } else {
                "c"
            }
        });
        let mut images: Vec<Image> = labels.enumerate().map(|(i, l)| image(i, l, None)).collect();
        let classes = ["a", "b", "c"].map(str::to_owned);
        let none: Vec<Option<Seen>> = images.iter().map(|_| None).collect();
        cut(&mut images, &none, &classes, "stratified:0.8/0.1/0.1".parse().unwrap());
        assert_eq!(count(&images, "a"), [72, 9, 9]);
        assert_eq!(count(&images, "b"), [5, 1, 1]);
        assert_eq!(count(&images, "c"), [1, 1, 1]);
    }

    #[test]
    fn a_group_is_never_parted_and_another_table_is_cut_another_way() {
        let of = |n: usize| {
            let mut images: Vec<Image> = (0..n)
                .map(|i| image(i, ["a", "b"][i / 3 % 2], Some(format!("p{}", i / 3))))
                .collect();
            let none: Vec<Option<Seen>> = images.iter().map(|_| None).collect();
            cut(
                &mut images,
                &none,
                &["a".to_owned(), "b".to_owned()],
                Shares([0.6, 0.2, 0.2]),
            );
            images
        };
        let images = of(90);
        for trio in images.chunks(3) {
            assert!(trio.iter().all(|i| i.part == trio[0].part));
        }
        assert_eq!(count(&images, "a").map(|n| n > 0), [true; 3]);
        let parts = |images: &[Image]| images.iter().map(|i| i.part).collect::<Vec<_>>();
        assert_eq!(parts(&images), parts(&of(90)));
        assert_ne!(parts(&images)[..60], parts(&of(60))[..]);
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        for bad in [
            "stratified",
            "stratified:0.8/0.2",
            "stratified:0.8/0.1/0.2",
            "stratified:1/0/0",
            "random:0.8/0.1/0.1",
            "stratified:a/b/c",
        ] {
            assert!(bad.parse::<Shares>().is_err(), "{bad}");
        }
        assert_eq!("stratified:0.7/0.2/0.1".parse(), Ok(Shares([0.7, 0.2, 0.1])));
    }
}
