use super::batches::AHEAD;
use super::*;
use crate::data::{DatasetInfo, Labels, Sample, Task};
use crate::spec::protocol::Warmup;
use candle_core::Device;
use std::path::Path;

fn info(channels: usize) -> DatasetInfo {
    DatasetInfo {
        name: "test",
        title: "Test",
        folder: "test",
        task: Task::MultiClass(3),
        channels,
        mean: vec![0.4; channels],
        std: vec![0.2; channels],
        classes: vec!["a".into(), "b".into(), "c".into()],
        target: "accuracy",
        warmup: Warmup::None,
    }
}

fn dataset(root: &Path, channels: usize, pixels: impl Iterator<Item = Pixels>) -> Dataset {
    let samples: Vec<Sample> = pixels
        .enumerate()
        .map(|(i, pixels)| Sample {
            id: format!("image {i}"),
            group: None,
            pixels,
        })
        .collect();
    let all: Vec<u32> = (0..samples.len() as u32).collect();
    Dataset {
        info: info(channels),
        root: root.into(),
        train: all.clone(),
        val: all.clone(),
        test: all,
        labels: Labels::Classes((0..samples.len() as u32).map(|i| i % 3).collect()),
        samples,
    }
}

fn noise(i: u32, channels: usize) -> ImageArray {
    let mut s = Stream::new(9, Purpose::Test, 1, i);
    let (width, height) = (30 + s.below(40) as usize, 30 + s.below(40) as usize);
    let data = (0..width * height * channels).map(|_| s.next_u32() as u8).collect();
    ImageArray {
        width,
        height,
        channels,
        data,
    }
}

/// A grey data set of arrays; `variant` changes the pixels.
pub(crate) fn set(n: u32, variant: u32) -> Dataset {
    let image = |i| Pixels::Array(Arc::new(noise(i + 1000 * variant, 1)));
    dataset(Path::new("nowhere"), 1, (0..n).map(image))
}

/// An RGB data set of PNG files below `root`.
pub(crate) fn files(root: &Path, n: u32) -> Dataset {
    for i in 0..n {
        let img = noise(i, 3);
        let mut bytes = Vec::new();
        let mut png = png::Encoder::new(&mut bytes, img.width as u32, img.height as u32);
        png.set_color(png::ColorType::Rgb);
        png.write_header().unwrap().write_image_data(&img.data).unwrap();
        std::fs::write(root.join(format!("{i}.png")), bytes).unwrap();
    }
    dataset(root, 3, (0..n).map(|i| Pixels::File(format!("{i}.png").into())))
}

fn protocol() -> Protocol {
    Protocol {
        resize: 32,
        crop: 28,
        ..Protocol::faithful()
    }
}

fn options(workers: usize) -> LoaderOptions {
    LoaderOptions {
        workers,
        cache: None,
        worth_caching: 0,
        memory: 1 << 30,
    }
}

fn images(data: &Dataset, options: &LoaderOptions) -> Images {
    Images::prepare(data, &protocol(), options, &|_, _| {}).unwrap()
}

/// Everything a run of batches yields, as bits.
fn collect(
    images: &Images,
    indices: &[u32],
    mode: ViewMode,
    batch: usize,
    drop_last: bool,
) -> Vec<(Vec<u32>, Vec<u32>)> {
    let bits = |b: Batch| (b.indices.clone(), b.pixels.iter().map(|v| v.to_bits()).collect());
    images
        .batches(indices, mode, batch, drop_last)
        .map(|b| bits(b.unwrap()))
        .collect()
}

const TRAIN: ViewMode = ViewMode::Train { seed: 5, epoch: 2 };

#[test]
fn workers_stores_and_batches_change_nothing() {
    let root = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let data = files(root.path(), 23);
    let order = epoch_order(&data.train, 5, 2);
    let reference = images(&data, &options(1));
    for mode in [ViewMode::Val, TRAIN] {
        let expected = collect(&reference, &order, mode, 5, false);
        assert_eq!(expected.iter().map(|b| b.0.len()).collect::<Vec<_>>(), [5, 5, 5, 5, 3]);
        for workers in [1, 2, 8] {
            let cached = LoaderOptions {
                cache: Some(Cache::below(dir.path(), None)),
                ..options(workers)
            };
            let from_files = LoaderOptions {
                memory: 0,
                ..options(workers)
            };
            for o in [options(workers), cached, from_files] {
                assert!(
                    collect(&images(&data, &o), &order, mode, 5, false) == expected,
                    "{o:?} {mode:?}"
                );
            }
        }
        // Another batch size groups the same images; dropping the last leaves the others alone.
        let flat = |b: Vec<(Vec<u32>, Vec<u32>)>| b.into_iter().flat_map(|b| b.1).collect::<Vec<_>>();
        assert!(flat(collect(&reference, &order, mode, 7, false)) == flat(expected.clone()));
        assert!(collect(&reference, &order, mode, 5, true) == expected[..4]);
    }
}

/// The batches hold what the transform alone makes of each image, with labels and indices beside it.
#[test]
fn batches_are_the_transform_of_each_image() {
    let data = set(7, 0);
    let images = images(&data, &options(2));
    let t = Transform::new(&protocol(), &data.info.mean, &data.info.std).unwrap();
    let order = [6, 0, 3];
    for mode in [ViewMode::Val, TRAIN] {
        let batch = images.batches(&order, mode, 4, false).next().unwrap().unwrap();
        assert_eq!((batch.indices.as_slice(), batch.dims), (&order[..], [3, 1, 28, 28]));
        assert_eq!(batch.labels, Labels::Classes(vec![0; 3]));
        for (&i, found) in order.iter().zip(batch.pixels.chunks(t.len())) {
            let img = t.prepare(&noise(i, 1));
            let mut out = vec![0.0; t.len()];
            match mode {
                ViewMode::Val => t.finish_val(&img, &mut out),
                ViewMode::Train { seed, epoch } => {
                    t.finish_train(&img, &mut Stream::new(seed, Purpose::Augment, epoch, i), &mut out);
                }
            }
            assert_eq!(found, out);
        }
        let tensor = batch.tensor(&Device::Cpu).unwrap();
        assert_eq!(tensor.dims(), [3, 1, 28, 28]);
    }
    let other = ViewMode::Train { seed: 5, epoch: 3 };
    assert!(collect(&images, &order, TRAIN, 3, false) != collect(&images, &order, other, 3, false));
}

/// With a chance of 1 in 10¹⁸ of a false alarm the order differs from the file order, and from epoch to epoch.
#[test]
fn the_order_of_an_epoch_is_a_permutation_of_its_own() {
    let all: Vec<u32> = (0..20).collect();
    let (a, b) = (epoch_order(&all, 0, 1), epoch_order(&all, 0, 2));
    assert_ne!(a, all);
    assert_ne!(a, b);
    assert_eq!(a, epoch_order(&all, 0, 1));
    let mut sorted = a;
    sorted.sort_unstable();
    assert_eq!(sorted, all);
}

/// The first bad image in order is named, whatever the threads do, and nothing follows it.
#[test]
fn an_unreadable_image_ends_the_iteration_with_its_name() {
    let root = tempfile::tempdir().unwrap();
    let data = files(root.path(), 12);
    for bad in [6, 9] {
        std::fs::write(root.path().join(format!("{bad}.png")), b"no image").unwrap();
    }
    for workers in [1, 2, 8] {
        let o = LoaderOptions {
            memory: 0,
            ..options(workers)
        };
        let mut batches = images(&data, &o).batches(&data.train, ViewMode::Val, 4, false);
        assert!(batches.next().unwrap().is_ok());
        let e = batches.next().unwrap().err().unwrap().downcast::<BadInput>().unwrap();
        assert!(e.at.ends_with("6.png"), "{e}");
        assert!(batches.next().is_none() && batches.next().is_none());
    }
}

/// Whether images are held in memory or cached on disk, everything that cannot be read is told at once, in order and with all that
/// is to be done about it.
#[test]
fn all_unreadable_images_are_named_together() {
    let root = tempfile::tempdir().unwrap();
    let data = files(root.path(), 12);
    std::fs::remove_file(root.path().join("3.png")).unwrap();
    std::fs::write(root.path().join("6.png"), b"no image").unwrap();
    std::fs::write(root.path().join("9.png"), b"RIFF\x20\0\0\0WEBPVP8 ").unwrap();
    let cache = tempfile::tempdir().unwrap();
    for workers in [1, 8] {
        let cached = LoaderOptions {
            cache: Some(Cache::below(cache.path(), None)),
            ..options(workers)
        };
        let said = [options(workers), cached].map(|o| {
            let e = Images::prepare(&data, &protocol(), &o, &|_, _| {}).err().unwrap();
            e.downcast::<BadInput>().unwrap()
        });
        for e in said {
            assert_eq!(e.at, "3 images", "{e}");
            let at =
                ["3.png", "6.png", "9.png"].map(|name| e.found.find(name).unwrap_or_else(|| panic!("{name}: {e}")));
            assert!(at.is_sorted(), "{e}");
            assert!(e.found.contains("no such file") && e.found.contains("WebP"), "{e}");
            assert!(
                e.remedy.contains("onvert"),
                "what is true of one of them only is said as well: {e}"
            );
        }
    }
}

/// A damaged record of the cache is replaced by the source without a word to the caller.
#[test]
fn a_damaged_cache_gives_the_same_batches() {
    let root = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let data = files(root.path(), 4);
    let o = LoaderOptions {
        cache: Some(Cache::below(dir.path(), None)),
        ..options(2)
    };
    let expected = collect(&images(&data, &o), &data.train, TRAIN, 4, false);
    let folder = std::fs::read_dir(dir.path().join(".cache/images-3"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let shard = folder.join("0000.px");
    let mut bytes = std::fs::read(&shard).unwrap();
    bytes[100] ^= 0x40;
    std::fs::write(&shard, bytes).unwrap();
    assert!(collect(&images(&data, &o), &data.train, TRAIN, 4, false) == expected);
}

/// Dropped early, an iterator takes its threads with it: it returns at once and the data are free again.
#[test]
fn dropping_an_iterator_joins_its_threads() {
    let data = set(400, 0);
    let images = images(&data, &options(4));
    for taken in 0..3 {
        let mut batches = images.batches(&data.train, TRAIN, 8, false);
        for _ in 0..taken {
            batches.next().unwrap().unwrap();
        }
        drop(batches);
        assert_eq!(
            Arc::strong_count(&images.inner),
            1,
            "no thread holds the images any more"
        );
    }
    assert_eq!(images.batches(&[], ViewMode::Val, 8, false).count(), 0);
}

#[test]
fn a_panic_in_a_worker_is_an_error_and_no_end() {
    let data = set(4, 0);
    let images = images(&data, &options(2));
    let mut batches = images.batches(&[0, 1, 99], ViewMode::Val, 3, false);
    let e = batches.next().unwrap().err().unwrap();
    assert!(e.to_string().contains("panicked"), "{e}");
    assert!(batches.next().is_none());
}

#[test]
fn memory_goes_round() {
    let data = set(40, 0);
    let images = images(&data, &options(1));
    let mut places = BTreeSet::new();
    for batch in images.batches(&data.train, ViewMode::Val, 4, false) {
        places.insert(batch.unwrap().pixels.as_ptr() as usize);
    }
    assert!(places.len() <= AHEAD + 3, "{} buffers for 10 batches", places.len());
}

/// Batches that a thread carries to a device are those that are read directly, to the bit; an error comes in its place; a
/// consumer may stop at any batch.
#[test]
fn carried_batches_are_the_same() {
    let root = tempfile::tempdir().unwrap();
    let mut data = files(root.path(), 23);
    let device = Device::Cpu;
    let seen = |b: Result<DeviceBatch>| -> (Vec<u32>, usize, Vec<usize>, Vec<u32>) {
        let b = b.unwrap();
        let bits = b.images.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let bits = bits.into_iter().map(f32::to_bits).collect();
        (b.indices, b.labels.len(), b.images.dims().to_vec(), bits)
    };
    let o = LoaderOptions {
        memory: 0,
        ..options(2)
    };
    let set = images(&data, &o);
    let batches = || set.batches(&data.train, TRAIN, 4, false);
    let direct: Vec<_> = batches().onto(&device).map(seen).collect();
    let carried: Vec<_> = batches().carried(&device).map(seen).collect();
    assert!(direct.len() > 4 && direct == carried);
    for n in 0..4 {
        assert_eq!(batches().carried(&device).take(n).count(), n);
    }
    std::fs::remove_file(root.path().join("6.png")).unwrap();
    data.train = (0..23).collect();
    let mut batches = set.batches(&data.train, ViewMode::Val, 4, false).carried(&device);
    assert!(batches.next().unwrap().is_ok());
    let e = batches.next().unwrap().err().unwrap().to_string();
    assert!(e.contains("6.png"), "{e}");
    assert!(batches.next().is_none());
}
