//! Loading of a data set's images against their number: what the first epoch takes and what the second does.
//!
//!     python3 benches/scale_data.py --dir PLACE --images 20000 80000      (makes the sets)
//!     cargo bench --bench epochs -- PLACE/data-20000 PLACE/data-80000
//!
//! Each set is loaded in a process of its own, by two threads. The first epoch decodes and prepares every image of all parts and writes
//! the cache, then reads, augments and batches the training images; the second only reads, augments and batches. One Markdown row an
//! epoch: seconds, processor seconds, the largest memory so far and the size of the cache; both times also for 100,000 images. The
//! number of images is that of the parts. Nothing is asserted: the numbers belong to the machine.
#![allow(clippy::disallowed_methods)] // It reads the system's own files.

use medft::cache::Cache;
use medft::data::loader::{Images, LoaderOptions, ViewMode, epoch_order};
use medft::data::registry;
use medft::study::Protocol;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const THREADS: usize = 2;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match args.as_slice() {
        [one, dir] if one == "--one" => load(Path::new(dir)),
        dirs => {
            println!("| epoch | images | wall s | CPU s | MiB | cache MB | wall s for 100,000 | CPU s for 100,000 |");
            println!("|---|--:|--:|--:|--:|--:|--:|--:|");
            for dir in dirs {
                let me = std::env::current_exe().unwrap();
                assert!(Command::new(me).args(["--one", dir]).status().unwrap().success());
            }
        }
    }
}

fn load(dir: &Path) {
    let p = Protocol::faithful();
    let (reader, place) = (registry::find("chexpert").unwrap(), tempfile::tempdir_in(dir).unwrap());
    let data = reader.load(&dir.join("CheXpert"), &p).unwrap();
    let cache = Cache::below(place.path(), None);
    let options = LoaderOptions::cached(THREADS, cache.clone());
    let used = [&data.train, &data.val, &data.test]
        .iter()
        .map(|part| part.len())
        .sum::<usize>();
    let mut images = None;
    for epoch in 1..=2 {
        let (start, before) = (Instant::now(), cpu());
        let images = images.get_or_insert_with(|| Images::prepare(&data, &p, &options, &|_, _| ()).unwrap());
        let order = epoch_order(&data.train, 0, epoch);
        let mode = ViewMode::training(&p, 0, epoch);
        let seen: usize = (images.batches(&order, mode, p.batch as usize, false))
            .map(|b| b.unwrap().indices.len())
            .sum();
        assert_eq!(seen, data.train.len());
        let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu() - before);
        let whole = 100_000.0 / used as f64;
        println!(
            "| {epoch} | {used} | {wall:.1} | {cpu:.1} | {} | {} | {:.1} | {:.1} |",
            peak_kib() / 1024,
            cache.bytes() / 1_000_000,
            wall * whole,
            cpu * whole
        );
    }
}

/// Seconds of processor time of this process: fields 14 and 15 of stat, counted after the name in brackets, in hundredths.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    fields.skip(11).take(2).map(|f| f.parse::<f64>().unwrap() / 100.0).sum()
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
