//! The limits of this machine: multiply-adds and copies, by which `medft bench` says how much of them a measurement reached.

use super::usage::cpu_seconds;
use medft_nn::{isa, peak};
use rayon::prelude::*;
use serde::Serialize;
use std::sync::Mutex;
use std::time::Instant;

/// Bytes of the buffers that all threads copy together, and the least for one: more than caches hold.
const COPY: (usize, usize) = (512 << 20, 16 << 20);
/// Seconds of one sample.
const SAMPLE: f64 = 0.05;
/// Samples, of which the best counts: it is a limit that is looked for, and others may be using the machine.
const SAMPLES: usize = 10;

/// What threads reached together.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Limit {
    pub threads: usize,
    /// Of all threads, by the clock.
    pub per_s: f64,
    /// Of one second of processor time: what a thread reaches while it has its processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_cpu_s: Option<f64>,
}

/// The limits of this machine.
#[derive(Debug, Serialize)]
pub struct Peak {
    pub what: &'static str,
    /// The vector instructions (`generic`, `avx2` or `avx512`).
    pub instructions: &'static str,
    /// Floating-point operations a second of independent float32 multiply-adds in registers, two each; on one thread and on all.
    pub flop: Vec<Limit>,
    /// Bytes a second that a copy in memory moves, each read and written once; on one thread and on all.
    pub copied_bytes: Vec<Limit>,
}

/// The best of several samples of `work`, which returns what it did, on each of the `threads` threads at once.
fn best(threads: usize, work: &(dyn Fn(usize) -> u64 + Sync)) -> Limit {
    let mut out = Limit {
        threads,
        per_s: 0.0,
        per_cpu_s: None,
    };
    for _ in 0..SAMPLES {
        let (start, used) = (Instant::now(), cpu_seconds());
        let each = |i: usize| {
            let (begin, mut done) = (Instant::now(), 0);
            while begin.elapsed().as_secs_f64() < SAMPLE {
                done += work(i);
            }
            done
        };
        let done: u64 = (0..threads).into_par_iter().with_max_len(1).map(each).sum();
        out.per_s = out.per_s.max(done as f64 / start.elapsed().as_secs_f64());
        let cpu = cpu_seconds().zip(used).map(|(now, then)| now - then);
        if let Some(rate) = cpu.filter(|&s| s > 0.0).map(|s| done as f64 / s) {
            out.per_cpu_s = Some(out.per_cpu_s.map_or(rate, |r| r.max(rate)));
        }
    }
    out
}

/// Floating-point operations a second of multiply-adds on so many threads at once.
pub(super) fn flop(threads: usize) -> Limit {
    best(threads, &|_| peak::multiply_adds(1 << 16))
}

/// Bytes a second of copies on so many threads at once.
fn copied(threads: usize) -> Limit {
    let bytes = (COPY.0 / threads).max(COPY.1);
    let buffers: Vec<_> = (0..threads)
        .map(|_| Mutex::new((vec![1u8; bytes], vec![2u8; bytes])))
        .collect();
    best(threads, &|i| {
        let Ok(mut both) = buffers[i].lock() else { return 0 };
        let (from, to) = &mut *both;
        to.copy_from_slice(from);
        std::hint::black_box(to);
        bytes as u64
    })
}

/// Measures both limits, on one thread and on all that medft uses.
pub fn measure() -> Peak {
    let all = rayon::current_num_threads();
    let threads: Vec<usize> = if all > 1 { vec![1, all] } else { vec![1] };
    Peak {
        what: "peak",
        instructions: isa::current().name(),
        flop: threads.iter().map(|&n| flop(n)).collect(),
        copied_bytes: threads.iter().map(|&n| copied(n)).collect(),
    }
}
