//! The readers read what the phantoms write, and every switch leaves every class in every part.

use crate::data::{Labels, Pixels, Task, fraction, registry};
use crate::spec::Protocol;
use crate::spec::protocol::{ChexpertTest, DdsmTask};

#[test]
fn the_readers_read_the_phantoms_under_every_split() {
    let official = Protocol {
        chexpert_test: ChexpertTest::OfficialValid,
        ..Protocol::faithful()
    };
    let three = Protocol {
        ddsm_task: DdsmTask::ThreeClass,
        ..Protocol::corrected()
    };
    for source in registry::all().into_iter().filter(|s| s.has_phantom()) {
        let dir = tempfile::tempdir().unwrap();
        source
            .synth(dir.path(), super::super::medmnist::DEFAULT_IMAGES)
            .unwrap();
        for p in [
            Protocol::faithful(),
            Protocol::corrected(),
            official.clone(),
            three.clone(),
        ] {
            let set = source.load(dir.path(), &p).unwrap();
            let name = set.info.name;
            for sample in &set.samples {
                if let Pixels::File(path) = &sample.pixels {
                    assert!(dir.path().join(path).is_file(), "{name}: {}", path.display());
                }
            }
            for part in [&set.train, &set.val, &set.test] {
                assert_eq!(set.labels.len(), set.samples.len(), "{name}");
                match (set.info.task, set.labels.pick(part.iter().copied())) {
                    (Task::MultiClass(n), Labels::Classes(classes)) => {
                        let mut count = vec![0; n];
                        classes.iter().for_each(|&c| count[c as usize] += 1);
                        println!("{name} {:?} {}: {count:?}", p.preset, part.len());
                        assert!(count.iter().all(|&c| c > 0), "{name}: {count:?}");
                    }
                    (Task::MultiLabel(n), Labels::MultiHot { labels, bits }) if labels == n => {
                        let mut count = vec![[0; 2]; n];
                        let at = |(k, &b): (usize, &u8)| count[k % n][usize::from(b)] += 1;
                        bits.iter().enumerate().for_each(at);
                        println!("{name} {:?} {}: {count:?}", p.preset, part.len());
                        assert!(count.iter().all(|c| c[0] > 0 && c[1] > 0), "{name}: {count:?}");
                    }
                    (task, _) => panic!("{name}: labels of another task than {task:?}"),
                }
            }
        }
    }
}

/// A part of the training images of every data set and split: nested, groups whole, the rest of the set as it is.
#[test]
fn every_data_set_has_parts() {
    use std::collections::BTreeSet;
    let part = |preset: Protocol, train_fraction| Protocol {
        train_fraction,
        ..preset
    };
    for source in registry::all().into_iter().filter(|s| s.has_phantom()) {
        let dir = tempfile::tempdir().unwrap();
        let images = super::super::medmnist::DEFAULT_IMAGES;
        source.synth(dir.path(), images).unwrap();
        for preset in [Protocol::faithful(), Protocol::corrected()] {
            let whole = source.load(dir.path(), &preset).unwrap();
            let all = fraction::read(source, &dir.path().into(), &part(preset.clone(), 1.0)).unwrap();
            assert_eq!(all.train, whole.train);
            let group = |i: &u32| whole.samples[*i as usize].group.clone();
            let mut larger: BTreeSet<u32> = whole.train.iter().copied().collect();
            for f in [0.75, 0.5, 0.1] {
                let d = fraction::read(source, &dir.path().into(), &part(preset.clone(), f)).unwrap();
                let name = format!("{} {:?} {f}", d.info.name, preset.preset);
                assert_eq!((&d.val, &d.test), (&whole.val, &whole.test), "{name}");
                let kept: BTreeSet<u32> = d.train.iter().copied().collect();
                assert!(kept.is_subset(&larger), "{name}");
                // Of each class or label, and of what has none, at most a group more or less.
                let goal = f * whole.train.len() as f64;
                let mut sizes = std::collections::BTreeMap::<_, usize>::new();
                for i in &whole.train {
                    *sizes.entry(group(i).unwrap_or_else(|| i.to_string())).or_default() += 1;
                }
                let largest = sizes.values().max().copied().unwrap_or(0);
                let strata = whole.info.task.outputs() + 1;
                assert!(
                    (kept.len() as f64 - goal).abs() <= (strata * largest) as f64,
                    "{name}: {} of {goal}",
                    kept.len()
                );
                let groups: BTreeSet<_> = kept.iter().filter_map(group).collect();
                let left = whole.train.iter().filter(|i| !kept.contains(i));
                assert!(left.filter_map(group).all(|g| !groups.contains(&g)), "{name}");
                larger = kept;
            }
        }
    }
}
