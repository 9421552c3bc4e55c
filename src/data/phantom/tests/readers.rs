//! The readers read what the phantoms write, and every switch leaves every class in every part.

use crate::data::{Label, Pixels, Task, registry};
use crate::study::Protocol;
use crate::study::protocol::{ChexpertTest, DdsmTask};

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
    for source in registry::all() {
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
                let labels = part.iter().map(|&i| &set.samples[i as usize].label);
                match set.info.task {
                    Task::MultiClass(n) => {
                        let mut count = vec![0; n];
                        labels.for_each(|l| match l {
                            Label::Class(c) => count[*c as usize] += 1,
                            Label::Labels(_) => panic!("{name}"),
                        });
                        println!("{name} {:?} {}: {count:?}", p.preset, part.len());
                        assert!(count.iter().all(|&c| c > 0), "{name}: {count:?}");
                    }
                    Task::MultiLabel(n) => {
                        let mut count = vec![[0; 2]; n];
                        labels.for_each(|l| match l {
                            Label::Labels(bits) => {
                                bits.iter()
                                    .enumerate()
                                    .for_each(|(k, &b)| count[k][usize::from(b)] += 1);
                            }
                            Label::Class(_) => panic!("{name}"),
                        });
                        println!("{name} {:?} {}: {count:?}", p.preset, part.len());
                        assert!(count.iter().all(|c| c[0] > 0 && c[1] > 0), "{name}: {count:?}");
                    }
                }
            }
        }
    }
}
