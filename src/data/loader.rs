//! From indices to batches of normalised pixels: in order, ahead of the consumer, the same for any number of threads.
//!
//! What is random about an image hangs on (seed, epoch, sample index) alone, so neither the batch it is in nor the thread it
//! runs on matters. The prepared images (see [`super::transform`]) come from memory, from a [`DiskCache`] or straight from the
//! files; this is a question of speed and never of results.
//!
//! A [`Batches`] owns one producer thread, which fills batch after batch with a few helpers and waits when [`AHEAD`] batches
//! are finished. Dropping the iterator stops the work within an image and joins the threads.

use super::cache::DiskCache;
use super::transform::Transform;
use super::{Dataset, ImageArray, Label, Pixels};
use crate::error::BadInput;
use crate::rng::{Purpose, Stream};
use crate::study::Protocol;
use crate::study::protocol::Normalisation;
use anyhow::{Context, Result, anyhow};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Finished batches that may wait for the consumer.
const AHEAD: usize = 2;

/// Which transform an image goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As in validation and test; nothing is random.
    Val,
    /// As in training; the view of a sample is drawn from the stream (`seed`, Augment, `epoch`, sample index).
    Train { seed: u64, epoch: u32 },
}

/// How images are kept between epochs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads that decode and augment, at least 1.
    pub workers: usize,
    /// Where prepared images of file-based data sets may be kept between runs.
    pub cache: Option<PathBuf>,
    /// Sets of fewer prepared bytes are not worth a cache: they are decoded in a second or two.
    pub worth_caching: usize,
    /// Bytes of memory that prepared images may take.
    pub memory: usize,
}

impl Options {
    /// No disk cache; a quarter of the memory that is free now.
    pub fn new(workers: usize) -> Self {
        Self {
            workers: workers.max(1),
            cache: None,
            worth_caching: 64 << 20,
            memory: free_memory() / 4,
        }
    }

    /// With a disk cache below `dir`.
    pub fn cached(workers: usize, dir: &Path) -> Self {
        Self {
            cache: Some(dir.to_path_buf()),
            ..Self::new(workers)
        }
    }
}

/// Bytes of memory that programs can still take; 4 GiB where the system does not say.
fn free_memory() -> usize {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = info.lines().find_map(|l| {
        l.strip_prefix("MemAvailable:")?
            .trim()
            .strip_suffix("kB")?
            .trim()
            .parse::<usize>()
            .ok()
    });
    kib.map_or(4 << 30, |k| k << 10)
}

/// A data set's images under one transform.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
    workers: usize,
}

struct Inner {
    data: Dataset,
    transform: Transform,
    store: Store,
}

/// Where prepared images come from.
enum Store {
    /// Each time from the source.
    Source,
    /// By sample index; `None` where the sample is in no split.
    Memory(Vec<Option<ImageArray>>),
    /// The cache, and for each sample index the position in it.
    Disk(DiskCache, Vec<Option<u32>>),
}

impl Images {
    /// Prepares the images of all splits, normalised with the data set's statistics. File-based sets that are not small go
    /// through the disk cache if there is one; others are held in memory if they fit, or prepared each time they are needed.
    /// `progress` hears (images ready, images in all), from any thread.
    ///
    /// # Errors
    /// [`BadInput`] naming an image that is missing, truncated or no image, or a cache that cannot be written; also
    /// for a protocol that wants the backbone's statistics [Q19], which come through [`Images::with_transform`].
    pub fn prepare(
        data: &Dataset,
        p: &Protocol,
        options: &Options,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self> {
        if p.normalisation != Normalisation::Dataset {
            let remedy = "Set `normalisation = \"dataset\"` in the study.";
            return Err(BadInput::new(
                "protocol",
                "the data set's own statistics",
                "normalisation = backbone",
                remedy,
            )
            .into());
        }
        let transform = Transform::new(p, &data.info.mean, &data.info.std)?;
        Self::with_transform(data, transform, options, progress)
    }

    /// As [`Images::prepare`], with a transform of the caller's (other statistics, for instance).
    pub fn with_transform(
        data: &Dataset,
        transform: Transform,
        options: &Options,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self> {
        let used: BTreeSet<u32> = [&data.train, &data.val, &data.test]
            .into_iter()
            .flatten()
            .copied()
            .collect();
        let used: Vec<u32> = used.into_iter().collect();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(options.workers);
        let pool = pool.build().context("cannot start threads for decoding")?;
        let preparation = transform.preparation();
        let files = used
            .iter()
            .any(|&i| matches!(data.samples[i as usize].pixels, Pixels::File(_)));
        let bytes = used.len().saturating_mul(preparation.bytes());
        let store = match &options.cache {
            Some(dir) if files && bytes >= options.worth_caching => {
                let cache = pool.install(|| DiskCache::open(dir, data, &used, preparation, progress))?;
                let mut positions = vec![None; data.samples.len()];
                for (at, &i) in (0..).zip(&used) {
                    positions[i as usize] = Some(at);
                }
                Store::Disk(cache, positions)
            }
            _ if bytes <= options.memory => {
                let done = AtomicUsize::new(0);
                let one = |&i: &u32| -> Result<ImageArray> {
                    let img = preparation.open(&data.root, &data.samples[i as usize])?;
                    progress(done.fetch_add(1, Ordering::Relaxed) + 1, used.len());
                    Ok(img)
                };
                // All results, and then the first error in order: the same complaint whichever thread was faster.
                let images: Vec<Result<ImageArray>> = pool.install(|| used.par_iter().map(one).collect());
                let mut held = vec![None; data.samples.len()];
                for (&i, img) in used.iter().zip(images) {
                    held[i as usize] = Some(img?);
                }
                Store::Memory(held)
            }
            _ => Store::Source,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                data: data.clone(),
                transform,
                store,
            }),
            workers: options.workers.max(1),
        })
    }

    /// The transform, for its sizes.
    pub fn transform(&self) -> &Transform {
        &self.inner.transform
    }

    /// Batches of `indices` (of samples) in order; an incomplete last one is dropped where `drop_last`. Nothing is shuffled
    /// here: the caller's order is the order (for training: [`epoch_order`]).
    ///
    /// # Errors
    /// The iterator ends with the first error, in order: a [`BadInput`] that names the image.
    pub fn batches(&self, indices: &[u32], mode: Mode, batch: usize, drop_last: bool) -> Batches {
        let batch = batch.max(1);
        let n = if drop_last {
            indices.len() / batch * batch
        } else {
            indices.len()
        };
        Batches::start(self, indices[..n].to_vec(), mode, batch)
    }
}

/// The order of one epoch of training: `indices` shuffled by the stream (`seed`, Shuffle, `epoch`, 0).
pub fn epoch_order(indices: &[u32], seed: u64, epoch: u32) -> Vec<u32> {
    let mut order = indices.to_vec();
    Stream::new(seed, Purpose::Shuffle, epoch, 0).shuffle(&mut order);
    order
}

impl Inner {
    /// The prepared image of a sample.
    fn prepared(&self, index: u32) -> Result<Cow<'_, ImageArray>> {
        let sample = &self.data.samples[index as usize];
        let kept = match &self.store {
            Store::Source => None,
            Store::Memory(held) => held[index as usize].as_ref().map(Cow::Borrowed),
            Store::Disk(cache, positions) => positions[index as usize]
                .and_then(|p| cache.get(p as usize))
                .map(Cow::Owned),
        };
        match kept {
            Some(img) => Ok(img),
            None => Ok(Cow::Owned(self.transform.preparation().open(&self.data.root, sample)?)),
        }
    }

    /// Writes one image into its slot of a batch.
    fn fill(&self, index: u32, mode: Mode, out: &mut [f32]) -> Result<()> {
        let img = self.prepared(index)?;
        match mode {
            Mode::Val => self.transform.finish_val(&img, out),
            Mode::Train { seed, epoch } => {
                let mut stream = Stream::new(seed, Purpose::Augment, epoch, index);
                self.transform.finish_train(&img, &mut stream, out);
            }
        }
        Ok(())
    }

    /// Fills the slots of a batch with `workers` threads; stops early (with whatever is there) when `stop` is set.
    fn fill_all(
        &self,
        indices: &[u32],
        mode: Mode,
        workers: usize,
        stop: &AtomicBool,
        pixels: &mut [f32],
    ) -> Result<()> {
        let slots = pixels.chunks_exact_mut(self.transform.len()).zip(indices).enumerate();
        let queue = Mutex::new(slots);
        let failure: Mutex<Option<(usize, anyhow::Error)>> = Mutex::new(None);
        let failed = AtomicBool::new(false);
        let work = || {
            while !stop.load(Ordering::Relaxed) && !failed.load(Ordering::Relaxed) {
                let Some((at, (out, &index))) = lock(&queue).next() else {
                    return;
                };
                if let Err(e) = self.fill(index, mode, out) {
                    failed.store(true, Ordering::Relaxed);
                    // Slots are taken in order and finished once taken, so the first failing one is always among them.
                    let mut first = lock(&failure);
                    if first.as_ref().is_none_or(|(other, _)| at < *other) {
                        *first = Some((at, e));
                    }
                }
            }
        };
        match workers.min(indices.len()) {
            0 | 1 => work(),
            n => std::thread::scope(|s| (0..n).for_each(|_| drop(s.spawn(work)))),
        }
        match failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Some((_, e)) => Err(e),
            None => Ok(()),
        }
    }
}

/// A panic in another thread is reported where that thread is joined.
fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Images (B, C, H, W), normalised float32, with their truth. Its memory goes back to the loader when it is dropped.
pub struct Batch {
    /// Sample indices, in the order of the images.
    pub indices: Vec<u32>,
    /// The truth of each image.
    pub labels: Vec<Label>,
    /// B, C, H, W.
    pub dims: [usize; 4],
    /// B · C · H · W values.
    pub pixels: Vec<f32>,
    home: Sender<Vec<f32>>,
}

impl Batch {
    /// The images as a tensor (B, C, H, W).
    pub fn tensor(&self, device: &Device) -> Result<Tensor> {
        Ok(Tensor::from_slice(&self.pixels, &self.dims[..], device)?)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // The loader may be gone; then the memory is freed.
        let _ = self.home.send(std::mem::take(&mut self.pixels));
    }
}

/// The iterator over batches; see [`Images::batches`].
pub struct Batches {
    ready: Option<Receiver<Result<Batch>>>,
    producer: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Batches {
    fn start(images: &Images, indices: Vec<u32>, mode: Mode, batch: usize) -> Self {
        let (send, ready) = mpsc::sync_channel(AHEAD);
        let stop = Arc::new(AtomicBool::new(false));
        let (inner, workers, stopped) = (images.inner.clone(), images.workers, stop.clone());
        let producer = std::thread::spawn(move || produce(&inner, &indices, mode, batch, workers, &stopped, &send));
        Self {
            ready: Some(ready),
            producer: Some(producer),
            stop,
        }
    }

    /// Ends the work and reports a panic in it.
    fn finish(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.ready = None;
        match self.producer.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(anyhow!("a loader thread panicked; the message is above")),
            _ => Ok(()),
        }
    }
}

fn produce(
    inner: &Inner,
    indices: &[u32],
    mode: Mode,
    batch: usize,
    workers: usize,
    stop: &AtomicBool,
    send: &SyncSender<Result<Batch>>,
) {
    let preparation = inner.transform.preparation();
    let (home, used) = mpsc::channel::<Vec<f32>>();
    for indices in indices.chunks(batch) {
        let mut pixels = used.try_iter().find(|v| v.capacity() > 0).unwrap_or_default();
        pixels.resize(indices.len() * inner.transform.len(), 0.0);
        let filled = inner.fill_all(indices, mode, workers, stop, &mut pixels);
        let failed = filled.is_err();
        let item = filled.map(|()| Batch {
            indices: indices.to_vec(),
            labels: indices
                .iter()
                .map(|&i| inner.data.samples[i as usize].label.clone())
                .collect(),
            dims: [
                indices.len(),
                preparation.channels(),
                preparation.side(),
                preparation.side(),
            ],
            pixels,
            home: home.clone(),
        });
        // Also when the consumer is gone: a half-filled batch of a stopped loader is never sent, for nobody receives it.
        if stop.load(Ordering::Relaxed) || send.send(item).is_err() || failed {
            return;
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.ready.as_ref()?.recv() {
            Ok(Ok(batch)) => Some(Ok(batch)),
            Ok(Err(e)) => {
                // The error is what the caller needs to know; a panic cannot have happened as well.
                let _ = self.finish();
                Some(Err(e))
            }
            Err(_) => self.finish().err().map(Err),
        }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::data::{DatasetInfo, Sample, Task};
    use crate::study::protocol::Warmup;

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
                label: Label::Class(i as u32 % 3),
            })
            .collect();
        let all: Vec<u32> = (0..samples.len() as u32).collect();
        Dataset {
            info: info(channels),
            root: root.to_path_buf(),
            train: all.clone(),
            val: all.clone(),
            test: all,
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
    pub fn set(n: u32, variant: u32) -> Dataset {
        let image = |i| Pixels::Array(Arc::new(noise(i + 1000 * variant, 1)));
        dataset(Path::new("nowhere"), 1, (0..n).map(image))
    }

    /// An RGB data set of PNG files below `root`.
    pub fn files(root: &Path, n: u32) -> Dataset {
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

    fn options(workers: usize) -> Options {
        Options {
            workers,
            cache: None,
            worth_caching: 0,
            memory: 1 << 30,
        }
    }

    fn images(data: &Dataset, options: &Options) -> Images {
        Images::prepare(data, &protocol(), options, &|_, _| {}).unwrap()
    }

    /// Everything a run of batches yields, as bits.
    fn collect(
        images: &Images,
        indices: &[u32],
        mode: Mode,
        batch: usize,
        drop_last: bool,
    ) -> Vec<(Vec<u32>, Vec<u32>)> {
        let bits = |b: Batch| (b.indices.clone(), b.pixels.iter().map(|v| v.to_bits()).collect());
        images
            .batches(indices, mode, batch, drop_last)
            .map(|b| bits(b.unwrap()))
            .collect()
    }

    const TRAIN: Mode = Mode::Train { seed: 5, epoch: 2 };

    #[test]
    fn workers_stores_and_batches_change_nothing() {
        let root = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let data = files(root.path(), 23);
        let order = epoch_order(&data.train, 5, 2);
        let reference = images(&data, &options(1));
        for mode in [Mode::Val, TRAIN] {
            let expected = collect(&reference, &order, mode, 5, false);
            assert_eq!(expected.iter().map(|b| b.0.len()).collect::<Vec<_>>(), [5, 5, 5, 5, 3]);
            for workers in [1, 2, 8] {
                let cached = Options {
                    cache: Some(dir.path().into()),
                    ..options(workers)
                };
                let from_files = Options {
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
        for mode in [Mode::Val, TRAIN] {
            let batch = images.batches(&order, mode, 4, false).next().unwrap().unwrap();
            assert_eq!((batch.indices.as_slice(), batch.dims), (&order[..], [3, 1, 28, 28]));
            assert_eq!(batch.labels, [Label::Class(0), Label::Class(0), Label::Class(0)]);
            for (&i, found) in order.iter().zip(batch.pixels.chunks(t.len())) {
                let img = t.prepare(&noise(i, 1));
                let mut out = vec![0.0; t.len()];
                match mode {
                    Mode::Val => t.finish_val(&img, &mut out),
                    Mode::Train { seed, epoch } => {
                        t.finish_train(&img, &mut Stream::new(seed, Purpose::Augment, epoch, i), &mut out);
                    }
                }
                assert_eq!(found, out);
            }
            let tensor = batch.tensor(&Device::Cpu).unwrap();
            assert_eq!(tensor.dims(), [3, 1, 28, 28]);
        }
        let other = Mode::Train { seed: 5, epoch: 3 };
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
            let o = Options {
                memory: 0,
                ..options(workers)
            };
            let mut batches = images(&data, &o).batches(&data.train, Mode::Val, 4, false);
            assert!(batches.next().unwrap().is_ok());
            let e = batches.next().unwrap().err().unwrap().downcast::<BadInput>().unwrap();
            assert!(e.at.ends_with("6.png"), "{e}");
            assert!(batches.next().is_none() && batches.next().is_none());
            let e = Images::prepare(&data, &protocol(), &options(workers), &|_, _| {})
                .err()
                .unwrap();
            assert!(e.downcast::<BadInput>().unwrap().at.ends_with("6.png"));
        }
    }

    /// A damaged record of the cache is replaced by the source without a word to the caller.
    #[test]
    fn a_damaged_cache_gives_the_same_batches() {
        let root = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let data = files(root.path(), 4);
        let o = Options {
            cache: Some(dir.path().into()),
            ..options(2)
        };
        let expected = collect(&images(&data, &o), &data.train, TRAIN, 4, false);
        let folder = std::fs::read_dir(dir.path().join("test"))
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
        assert_eq!(images.batches(&[], Mode::Val, 8, false).count(), 0);
    }

    #[test]
    fn a_panic_in_a_worker_is_an_error_and_no_end() {
        let data = set(4, 0);
        let images = images(&data, &options(2));
        let mut batches = images.batches(&[0, 1, 99], Mode::Val, 3, false);
        let e = batches.next().unwrap().err().unwrap();
        assert!(e.to_string().contains("panicked"), "{e}");
        assert!(batches.next().is_none());
    }

    #[test]
    fn memory_goes_round() {
        let data = set(40, 0);
        let images = images(&data, &options(1));
        let mut places = BTreeSet::new();
        for batch in images.batches(&data.train, Mode::Val, 4, false) {
            places.insert(batch.unwrap().pixels.as_ptr() as usize);
        }
        assert!(places.len() <= AHEAD + 3, "{} buffers for 10 batches", places.len());
    }
}
