//! What of the machine is ours: a container's or batch job's limits (cgroups, both versions), below what the machine has.
//!
//! Threads need nothing of this: `std::thread::available_parallelism`, which the thread pools ask, knows the processor
//! affinity and the processor limit of cgroups. Memory it does not know: the kernel tells the machine's, and a process that
//! believes it is killed.

use crate::error::BadInput;
use crate::fsio;
use std::path::{Path, PathBuf};

/// The most threads that a user may ask for.
pub const MAX_THREADS: u64 = 1024;

/// Refuses a number of threads that no machine has, in a variable that the thread pools read: they would start them all. What
/// they do not take for a number they do not heed.
///
/// # Errors
/// [`BadInput`] with the range.
pub fn check_threads(env: &dyn Fn(&str) -> Option<String>) -> Result<(), BadInput> {
    for variable in ["RAYON_NUM_THREADS", "RAYON_RS_NUM_CPUS"] {
        let value = env(variable).unwrap_or_default();
        let digits = value.strip_prefix('+').unwrap_or(&value);
        let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if number && !digits.parse().is_ok_and(|n: u64| n <= MAX_THREADS) {
            return Err(BadInput::new(
                variable,
                format!("a number of threads in 1..={MAX_THREADS}"),
                value,
                "Correct the variable, or unset it to use every processor.",
            ));
        }
    }
    Ok(())
}

/// Limits of the cgroups that this process is in; `None` where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Processors, in shares of one.
    pub processors: Option<f64>,
    /// Bytes that may be in use.
    pub memory: Option<u64>,
    /// Bytes in use that cannot be given up at once (without cached files), under that limit.
    pub used: u64,
}

/// The limits of this process.
pub fn limits() -> Limits {
    limits_below(Path::new("/"))
}

/// Bytes of memory that are free for this process: of the machine's, and under the container's limit.
pub fn free_memory() -> Option<u64> {
    let (_, free) = memory_of_machine(Path::new("/"));
    let limits = limits();
    let under = limits.memory.map(|m| m.saturating_sub(limits.used));
    match (free, under) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Bytes of memory that the machine has, and that are free of it.
pub fn memory_of_machine(root: &Path) -> (Option<u64>, Option<u64>) {
    let info = fsio::read_system(root.join("proc/meminfo")).unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find_map(|l| l.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    (field("MemTotal:"), field("MemAvailable:"))
}

/// Processors that the machine has, whoever may use them.
pub fn processors_of_machine() -> Option<usize> {
    let online = fsio::read_system("/sys/devices/system/cpu/online")?;
    let ranges = online.trim().split(',').map(|r| {
        let (first, last) = r.split_once('-').unwrap_or((r, r));
        Some(last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1)
    });
    ranges.sum()
}

fn limits_below(root: &Path) -> Limits {
    let cgroups = fsio::read_system(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut out = Limits::default();
    for line in cgroups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let mounted = root.join("sys/fs/cgroup");
        if controllers.is_empty() {
            // Version 2; in a hybrid it lies one folder deeper.
            for top in [mounted.clone(), mounted.join("unified")] {
                for dir in chain(&top, path) {
                    out.processors = least(out.processors, two_numbers(&dir.join("cpu.max")));
                    out.narrow(
                        &dir.join("memory.max"),
                        &dir.join("memory.current"),
                        &dir.join("memory.stat"),
                    );
                }
            }
        }
        for controller in controllers.split(',') {
            match controller {
                "cpu" => {
                    for dir in chain(&mounted.join(controllers), path).chain(chain(&mounted.join("cpu"), path)) {
                        let quota = number(&dir.join("cpu.cfs_quota_us"));
                        let period = number(&dir.join("cpu.cfs_period_us"));
                        if let (Some(q), Some(p)) = (quota, period) {
                            out.processors = least(out.processors, Some(q as f64 / p as f64));
                        }
                    }
                }
                "memory" => {
                    for dir in chain(&mounted.join("memory"), path) {
                        out.narrow(
                            &dir.join("memory.limit_in_bytes"),
                            &dir.join("memory.usage_in_bytes"),
                            &dir.join("memory.stat"),
                        );
                    }
                }
                _ => {}
            }
        }
    }
    out
}

impl Limits {
    /// Takes in the limit of one group, where it leaves less than those before.
    fn narrow(&mut self, limit: &Path, usage: &Path, stat: &Path) {
        // Version 1 writes a number near 2⁶³ for none.
        let Some(limit) = number(limit).filter(|l| *l < 1 << 60) else {
            return;
        };
        let stat = fsio::read_system(stat).unwrap_or_default();
        let cached = stat.lines().find_map(|l| {
            let (name, value) = l.split_once(' ')?;
            matches!(name, "inactive_file" | "total_inactive_file")
                .then(|| value.trim().parse::<u64>().ok())
                .flatten()
        });
        let used = number(usage).unwrap_or(0).saturating_sub(cached.unwrap_or(0));
        let left = limit.saturating_sub(used);
        if self.memory.is_none_or(|m| left < m.saturating_sub(self.used)) {
            (self.memory, self.used) = (Some(limit), used);
        }
    }
}

/// The folders of a group and of those above it. In a container the group's own name may not be visible: then the top is it.
fn chain(top: &Path, path: &str) -> impl Iterator<Item = PathBuf> {
    let below: PathBuf = Path::new(path)
        .components()
        .filter(|c| matches!(c, std::path::Component::Normal(_)))
        .collect();
    let all: Vec<PathBuf> = below.ancestors().map(|a| top.join(a)).filter(|d| d.is_dir()).collect();
    all.into_iter()
}

fn least(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// A whole number of 1 or more; words (`max`) and -1 stand for no limit.
fn number(path: &Path) -> Option<u64> {
    fsio::read_system(path)?.trim().parse().ok().filter(|n| *n > 0)
}

/// `QUOTA PERIOD` as a share.
fn two_numbers(path: &Path) -> Option<f64> {
    let text = fsio::read_system(path)?;
    let (quota, period) = text.trim().split_once(' ')?;
    let share = quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?;
    (share > 0.0).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Limits) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let limits = limits_below(dir.path());
        (dir, limits)
    }

    /// Files as `docker run --cpus 1.5 --memory 2g` makes them under cgroups version 2: the container sees its group as `/`.
    #[test]
    fn a_container_of_version_2() {
        let (_dir, l) = machine(&[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/memory.max", "2147483648\n"),
            ("sys/fs/cgroup/memory.current", "600000000\n"),
            ("sys/fs/cgroup/memory.stat", "anon 5\ninactive_file 500000000\n"),
        ]);
        assert_eq!(
            (l.processors, l.memory, l.used),
            (Some(1.5), Some(2 << 30), 100_000_000)
        );
    }

    /// A batch job: the limit stands on a group above the process's own, which says `max`.
    #[test]
    fn a_limit_above_counts_and_no_limit_is_none() {
        let (_dir, l) = machine(&[
            ("proc/self/cgroup", "0::/system.slice/job_7/step_0\n"),
            ("sys/fs/cgroup/system.slice/job_7/memory.max", "1000000000\n"),
            ("sys/fs/cgroup/system.slice/job_7/memory.current", "1\n"),
            ("sys/fs/cgroup/system.slice/job_7/step_0/memory.max", "max\n"),
            ("sys/fs/cgroup/system.slice/job_7/step_0/cpu.max", "max 100000\n"),
        ]);
        assert_eq!((l.processors, l.memory, l.used), (None, Some(1_000_000_000), 1));
        assert_eq!(machine(&[("proc/self/cgroup", "0::/\n")]).1, Limits::default());
        assert_eq!(machine(&[]).1, Limits::default());
    }

    /// Version 1 with the host's path in /proc/self/cgroup, which is not visible inside.
    #[test]
    fn a_container_of_version_1() {
        let (_dir, l) = machine(&[
            (
                "proc/self/cgroup",
                "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n",
            ),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "200000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "12\n"),
        ]);
        assert_eq!((l.processors, l.memory, l.used), (Some(2.0), Some(512 << 20), 12));
        let (_dir, l) = machine(&[
            ("proc/self/cgroup", "4:memory:/\n3:cpu:/\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(l, Limits::default());
    }
}
