//! Work on many runs at a time, on threads of its own.
//!
//! Not rayon's: reading parquet waits for another pool, and a rayon worker that waits takes up the next run meanwhile, and the
//! next one within that, until the stack is full and every run is in memory at once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// `f` of every item, in the order of the items, as many at a time as rayon has threads.
pub fn in_threads<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let slots: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        while let Some((item, slot)) = {
            let i = next.fetch_add(1, Ordering::Relaxed);
            items.get(i).zip(slots.get(i))
        } {
            let done = f(item);
            *slot.lock().expect("only this thread has this slot") = Some(done);
        }
    };
    thread::scope(|s| {
        let start = |_: &usize| thread::Builder::new().spawn_scoped(s, work).is_ok();
        // As many as the system allows; without any this thread does it.
        if (0..rayon::current_num_threads().min(items.len())).filter(start).count() == 0 {
            work();
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
        assert_eq!(in_threads(&items, |i| i * 2), (0..2000).step_by(2).collect::<Vec<_>>());
        assert!(in_threads(&[0u8; 0], |_| ()).is_empty());
    }
}
