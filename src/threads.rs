//! The one pool of jobs that are not rayon's: each waits for a disk, a network or another pool.
//!
//! Not rayon's, because reading parquet waits for another pool, and a rayon worker that waits takes up the next job meanwhile, and the
//! next one within that, until the stack is full and everything is in memory at once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Runs `work` on `n` threads at a time, or as many as the system allows; on this one where that is none, or one is enough.
pub fn on_threads(n: usize, work: impl Fn() + Sync) {
    if n < 2 {
        return work();
    }
    thread::scope(|s| {
        let start = |_: &usize| thread::Builder::new().spawn_scoped(s, &work).is_ok();
        if (0..n).filter(start).count() == 0 {
            work();
        }
    });
}

/// `f` of every item, in the order of the items, `n` at a time.
pub fn in_threads<T: Sync, R: Send>(n: usize, items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let slots: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    on_threads(n.min(items.len()), || {
        while let Some((item, slot)) = {
            let i = next.fetch_add(1, Ordering::Relaxed);
            items.get(i).zip(slots.get(i))
        } {
            let done = f(item);
            *slot.lock().expect("only this thread has this slot") = Some(done);
        }
    });
    slots
        .into_iter()
        .filter_map(|s| s.into_inner().expect("no thread panicked"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..1000).collect();
        assert_eq!(in_threads(1, &items, |i| i + 1), (1..1001).collect::<Vec<_>>());
        assert_eq!(
            in_threads(4, &items, |i| i * 2),
            (0..2000).step_by(2).collect::<Vec<_>>()
        );
        assert!(in_threads(4, &[0u8; 0], |_| ()).is_empty());
    }
}
