//! What this process has used.

/// Processor time of this process so far, user and system, all threads.
#[cfg(unix)]
pub(crate) fn cpu_seconds() -> Option<f64> {
    use rustix::time::{ClockId, clock_gettime};
    let t = clock_gettime(ClockId::ProcessCPUTime);
    Some(t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9)
}

#[cfg(not(unix))]
pub fn cpu_seconds() -> Option<f64> {
    None
}

/// The largest memory this process has had, in bytes.
pub(crate) fn peak_rss() -> Option<u64> {
    let text = crate::fsio::read_system("/proc/self/status")?;
    let line = text.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
