//! How the process asks for memory: a training step allocates the same large buffers again and again.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Tells glibc to keep freed memory instead of handing every large buffer back to the kernel: mapping and zeroing them anew
/// took a third of a step's time. Call once, at the start.
pub fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt only sets parameters of the allocator; the values are in its range.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// Side of a large page on x86-64 and most AArch64 kernels.
const LARGE: usize = 2 << 20;

/// Buffers from this size on are counted: tensors of any size that matters.
const COUNTED: usize = 4096;
static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Bytes that this process has in use now, in buffers of 4 KiB and more; 0 where [`LargePages`] is not its allocator.
pub fn in_use() -> usize {
    IN_USE.load(Relaxed)
}

/// The most bytes that were in use at once since [`reset_peak`], or since the start.
pub fn peak() -> usize {
    PEAK.load(Relaxed)
}

/// Begins a new peak at what is in use now.
pub fn reset_peak() {
    PEAK.store(in_use(), Relaxed);
}

fn taken(bytes: usize) {
    if bytes >= COUNTED {
        let now = IN_USE.fetch_add(bytes, Relaxed) + bytes;
        PEAK.fetch_max(now, Relaxed);
    }
}

fn given_back(bytes: usize) {
    if bytes >= COUNTED {
        IN_USE.fetch_sub(bytes, Relaxed);
    }
}

/// The system's allocator, which counts what is in use and asks the kernel for large pages under large buffers: one page fault instead of 512, and
/// far fewer misses of the address cache where a product reads rows that lie on a page each. A hint; results do not change.
pub struct LargePages;

fn advise(ptr: *mut u8, bytes: usize) {
    #[cfg(all(target_os = "linux", not(miri)))]
    if bytes >= 2 * LARGE && !ptr.is_null() {
        let skip = ptr.align_offset(LARGE);
        let len = (bytes - skip) / LARGE * LARGE;
        // SAFETY: whole pages inside the buffer; the advice does not change what they hold.
        unsafe { libc::madvise(ptr.add(skip).cast(), len, libc::MADV_HUGEPAGE) };
    }
    #[cfg(any(not(target_os = "linux"), miri))]
    let _ = (ptr, bytes);
}

// SAFETY: memory comes from and goes back to the system's allocator as asked.
unsafe impl GlobalAlloc for LargePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on to the caller.
        let p = unsafe { System.alloc(layout) };
        advise(p, layout.size());
        if !p.is_null() {
            taken(layout.size());
        }
        p
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let p = unsafe { System.alloc_zeroed(layout) };
        advise(p, layout.size());
        if !p.is_null() {
            taken(layout.size());
        }
        p
    }

    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        let p = unsafe { System.realloc(p, layout, size) };
        advise(p, size);
        if !p.is_null() {
            given_back(layout.size());
            taken(size);
        }
        p
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(p, layout) };
        given_back(layout.size());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Buffers below and above the size from which advice is given, also when they grow and shrink across it.
    #[test]
    fn what_was_written_is_kept() {
        for size in [1, 4096, 2 * LARGE, 5 * LARGE + 123] {
            let layout = Layout::from_size_align(size, 64).unwrap();
            // SAFETY: every pointer is used inside its layout and given back once.
            unsafe {
                let p = LargePages.alloc_zeroed(layout);
                assert!(!p.is_null() && p.align_offset(64) == 0);
                assert!(std::slice::from_raw_parts(p, size).iter().all(|&v| v == 0));
                let pattern = |i: usize| (i % 251) as u8;
                for i in 0..size {
                    *p.add(i) = pattern(i);
                }
                let large = LargePages.realloc(p, layout, size + 3 * LARGE);
                let grown = Layout::from_size_align(size + 3 * LARGE, 64).unwrap();
                let small = LargePages.realloc(large, grown, size);
                assert!((0..size).all(|i| *small.add(i) == pattern(i)));
                LargePages.dealloc(small, layout);
            }
        }
    }
}
