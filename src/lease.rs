//! Who has a folder, on file systems that many computers share.
//!
//! A lease is a file that one process gives its name, whole and only where none is (a link, or a rename that does not replace;
//! `O_EXCL` where a file system has neither: atomic on NFS, Lustre, GPFS and BeeGFS, where locks hold within a node only or not
//! at all), and touches every [`touch_every`]. Another process may take it over when
//!
//! * (a) the holder was a process of this computer that has ended, or whose lock on the file is free: at once;
//! * (b) the holder was an earlier start of the same batch job: at once, the newer start wins;
//! * (c) it was not touched for [`time_out`], against a file touched now in the same folder, so that no clock but the file
//!   system's matters.
//!
//! A holder that was away for longer (a stopped process, a cut cable) may come back: it asks [`Lease::check`] before it writes
//! anything that counts, and ends without writing where the token in the file is another's.

use crate::error::BadInput;
use crate::fsio;
use crate::fsio::host::Process;
use crate::guarantee;
use crate::limits;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// The variable that sets [`time_out`].
const TIME_OUT: &str = "MEDFT_LEASE_SECONDS";

/// Seconds without a touch after which a lease counts as left: `MEDFT_LEASE_SECONDS`, else five minutes.
pub fn time_out() -> Duration {
    let asked = std::env::var(TIME_OUT).ok().and_then(|s| s.parse().ok());
    Duration::from_secs(asked.unwrap_or(300).max(1))
}

/// Refuses a time that is none: nodes that read it otherwise would take each other's runs.
///
/// # Errors
/// [`BadInput`] with the range.
pub fn check_time_out(env: &dyn Fn(&str) -> Option<String>) -> Result<(), BadInput> {
    match env(TIME_OUT).filter(|value| !value.is_empty()) {
        Some(value) if !value.parse().is_ok_and(|n: u64| (1..=86_400).contains(&n)) => Err(BadInput::new(
            TIME_OUT,
            "a number of seconds in 1..=86400",
            format!("`{value}`"),
            "Correct the variable, or unset it for five minutes.",
        )),
        _ => Ok(()),
    }
}

/// Between two touches: a tenth of [`time_out`].
fn touch_every() -> Duration {
    time_out() / 10
}

/// What a lease file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    #[serde(flatten)]
    pub process: Process,
    /// `JOB_TASK` of a batch system's array, or `JOB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// How often the batch system has started the job again.
    #[serde(default)]
    pub restart: u32,
    /// Seconds from 1970 to its beginning, by the holder's clock: for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// No other lease has it.
    pub token: String,
    /// Whether the holder has a lock on the file: elsewhere on its computer a free lock then says that it has ended.
    #[serde(default)]
    pub locked: bool,
}

impl Holder {
    fn this() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let process = Process::this().clone();
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let unique = format!(
            "{process:?} {} {count} {:?}",
            now.as_nanos(),
            std::thread::current().id()
        );
        let var = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let task = || {
            Some(format!(
                "{}_{}",
                var("SLURM_ARRAY_JOB_ID")?,
                var("SLURM_ARRAY_TASK_ID")?
            ))
        };
        Self {
            process,
            job: task().or_else(|| var("SLURM_JOB_ID")),
            restart: var("SLURM_RESTART_COUNT").and_then(|v| v.parse().ok()).unwrap_or(0),
            since: Some(now.as_secs()),
            token: fsio::sha256_hex(unique.as_bytes())[..32].to_owned(),
            locked: false,
        }
    }

    /// Where it is, in words.
    pub fn place(&self) -> String {
        match &self.job {
            Some(job) => format!("{}, job {job}", self.process.host),
            None => format!("{}, process {}", self.process.host, self.process.pid),
        }
    }
}

/// Another process has the lease: who, where its file says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held(pub Option<Holder>);

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(h) => write!(f, "another process has it ({})", h.place()),
            None => f.write_str("another process has it"),
        }
    }
}

/// The lease was taken over while this process was away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}: another process took this over; nothing more is written here")]
pub struct Lost(String);

/// A lease that this process has; given back when it is dropped.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    token: String,
    beating: Arc<(Mutex<bool>, Condvar)>,
}

impl Lease {
    /// Takes the lease `path` in a folder that is there.
    ///
    /// # Errors
    /// Where the file cannot be written. That another process has it is no error but [`Held`].
    pub fn take(path: &Path) -> Result<Result<Self, Held>> {
        let me = Holder::this();
        let failed = || format!("cannot write {}", path.display());
        // Each round ends with a lease, with somebody else's, or with one less that is in the way.
        for _ in 0..8 {
            if let Some(lease) = Self::create(path, me.clone()).with_context(failed)? {
                return Ok(Ok(lease));
            }
            let Some(there) = There::look(path).with_context(failed)? else {
                continue;
            };
            if !there.may_be_taken(&me, path).with_context(failed)? {
                return Ok(Err(Held(there.holder)));
            }
            there.clear(path).with_context(failed)?;
        }
        Ok(Err(Held(None)))
    }

    /// A lease where none is. The file gets its name when it is whole: of a process that is killed at any point, either nothing
    /// is left that says "taken", or what tells who it was.
    fn create(path: &Path, me: Holder) -> io::Result<Option<Self>> {
        if path.exists() {
            return Ok(None);
        }
        let temp = fsio::temp_beside(path)?;
        let (me, length) = fill(temp.as_file(), me, path)?;
        match fs::hard_link(temp.path(), path) {
            // Its first name goes.
            Ok(()) => Self::begin(path, temp.into_file(), me, length).map(Some),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(None),
            Err(e) if guarantee::is_unsupported(&e) => Self::create_in_place(path, me),
            Err(e) => Err(e),
        }
    }

    /// As [`Self::create`], on file systems that know no hard links.
    fn create_in_place(path: &Path, me: Holder) -> io::Result<Option<Self>> {
        let file = match File::options().read(true).write(true).create_new(true).open(path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(None),
            other => other?,
        };
        match fill(&file, me, path) {
            Ok((me, length)) => Self::begin(path, file, me, length).map(Some),
            Err(e) => {
                let _ = fs::remove_file(path);
                Err(e)
            }
        }
    }

    fn begin(path: &Path, file: File, me: Holder, length: u64) -> io::Result<Self> {
        let beating = Arc::new((Mutex::new(true), Condvar::new()));
        let shared = Arc::clone(&beating);
        std::thread::Builder::new()
            .name("lease".into())
            .spawn(move || beat(&file, length, &shared))?;
        Ok(Self {
            path: path.to_owned(),
            token: me.token,
            beating,
        })
    }

    /// Whether the lease is still this process's own; asked before anything that counts is written.
    ///
    /// # Errors
    /// [`Lost`] where it is another's; a file that cannot be read.
    pub fn check(&self) -> Result<()> {
        let ours = |there: &There| there.holder.as_ref().is_some_and(|h| h.token == self.token);
        match There::look(&self.path).with_context(|| format!("cannot read {}", self.path.display()))? {
            Some(there) if ours(&there) => Ok(()),
            _ => Err(Lost(self.path.display().to_string()).into()),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (beating, ended) = &*self.beating;
        *beating.lock().unwrap_or_else(PoisonError::into_inner) = false;
        ended.notify_all();
        if self.check().is_ok() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes what a lease says, with a lock where the file system has them; the length in bytes.
fn fill(mut file: &File, mut me: Holder, path: &Path) -> io::Result<(Holder, u64)> {
    me.locked = file.try_lock().is_ok();
    let mut text = serde_json::to_vec(&me)?;
    text.push(b'\n');
    file.write_all(&text)?;
    guarantee::sync_file(file, path)?;
    Ok((me, text.len() as u64))
}

/// Touches the file until the lease ends: by writing its last byte again, since a file system takes the time of a write from its
/// own clock, and other ways of touching are not everywhere allowed. The open file is the one that was created, so that the
/// lease of a process that took over is never touched.
fn beat(file: &File, length: u64, beating: &(Mutex<bool>, Condvar)) {
    use std::os::unix::fs::FileExt;
    let (beating, ended) = beating;
    let mut on = beating.lock().unwrap_or_else(PoisonError::into_inner);
    while *on {
        on = ended
            .wait_timeout(on, touch_every())
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        if *on {
            // What fails now is tried again; a holder that cannot write for long loses the lease, as it should.
            let _ = file.write_all_at(b"\n", length - 1).and_then(|()| file.sync_data());
        }
    }
}

/// A lease file as found.
struct There {
    /// `None` where the file is not (yet) whole.
    holder: Option<Holder>,
    touched: SystemTime,
    /// `None` where no file lies there.
    file: Option<File>,
}

impl There {
    fn look(path: &Path) -> io::Result<Option<Self>> {
        // Opened, not only looked at: that is when NFS asks the server how old the file is.
        let file = match fsio::open_file_to_write(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            // A pipe or a device is nobody's lease: its time runs out as that of a file which is not whole.
            Err(e) if e.kind() == ErrorKind::InvalidInput => {
                return Ok(Some(Self {
                    holder: None,
                    touched: fs::symlink_metadata(path)?.modified()?,
                    file: None,
                }));
            }
            other => other?,
        };
        let mut text = Vec::new();
        // No lease is longer; of what is, the beginning does not parse.
        let whole = io::Read::read_to_end(&mut io::Read::take(&file, limits::NOTE), &mut text);
        // A server forgets a file that was renamed or removed meanwhile.
        if let Err(e) = whole {
            return if e.raw_os_error() == Some(rustix::io::Errno::STALE.raw_os_error()) {
                Ok(None)
            } else {
                Err(e)
            };
        }
        Ok(Some(Self {
            holder: serde_json::from_slice(&text).ok(),
            touched: file.metadata()?.modified()?,
            file: Some(file),
        }))
    }

    fn may_be_taken(&self, me: &Holder, path: &Path) -> io::Result<bool> {
        if let Some(h) = &self.holder {
            let same_job = h.job.is_some() && h.job == me.job && h.process != me.process;
            if same_job && h.restart < me.restart {
                return Ok(true);
            }
            match h.process.has_ended() {
                Some(true) => return Ok(true),
                // It lives, and is perhaps stopped: then its time runs out.
                Some(false) => {}
                // In another container of this computer: the lock tells.
                None => {
                    let same = h.process.host == me.process.host && h.process.boot == me.process.boot;
                    if same
                        && h.process.boot.is_some()
                        && h.locked
                        && self.file.as_ref().is_some_and(|f| f.try_lock().is_ok())
                    {
                        return Ok(true);
                    }
                }
            }
        }
        let now = now_at(path)?;
        Ok(now.duration_since(self.touched).is_ok_and(|age| age >= time_out()))
    }

    /// Moves the file out of the way; of several that try, one does.
    fn clear(&self, path: &Path) -> io::Result<()> {
        let aside = fsio::temp_beside(path)?;
        match fs::rename(path, aside.path()) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            other => other?,
        }
        let moved = Self::look(aside.path())?;
        let other = moved.is_some_and(|m| m.holder.is_some() && m.holder != self.holder);
        // Another process took over between the look and the move: its lease gets its name again where the file system can
        // do that without replacing a third one; where not, its holder will see that it has lost it.
        if other {
            let _ = fs::hard_link(aside.path(), path);
        }
        match aside.close() {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

/// The file system's own time: that of a file written now beside `path`.
fn now_at(path: &Path) -> io::Result<SystemTime> {
    let mut probe = fsio::temp_beside(path)?;
    probe.write_all(b"\n")?;
    let _ = probe.as_file().sync_data();
    probe.as_file().metadata()?.modified()
}

/// Who has the lease at `path`; nobody where it is left, or not there. `now` is the file system's time, see [`clock`].
pub fn holder(path: &Path, now: SystemTime) -> Option<Holder> {
    let there = There::look(path).ok()??;
    let left = now.duration_since(there.touched).is_ok_and(|age| age >= time_out());
    there.holder.filter(|h| !left && h.process.has_ended() != Some(true))
}

/// The time by the clock of the file system that `folder` is on; this computer's where nothing can be written there.
pub fn clock(folder: &Path) -> SystemTime {
    now_at(&folder.join("clock")).unwrap_or_else(|_| SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease");
        (dir, path)
    }

    fn foreign(change: impl Fn(&mut Holder)) -> Holder {
        let mut h = Holder::this();
        h.process.host = "elsewhere".into();
        h.process.pid = 1;
        change(&mut h);
        h
    }

    fn write(path: &Path, h: &Holder) {
        fs::write(path, serde_json::to_vec(h).unwrap()).unwrap();
    }

    fn age(path: &Path, by: Duration) {
        let f = File::options().write(true).open(path).unwrap();
        f.set_modified(SystemTime::now() - by).unwrap();
    }

    #[test]
    fn one_has_it_until_it_is_given_back() {
        let (dir, path) = place();
        let lease = Lease::take(&path).unwrap().unwrap();
        lease.check().unwrap();
        let held = Lease::take(&path).unwrap().unwrap_err();
        assert_eq!(held.0.unwrap().token, lease.token);
        drop(lease);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
        drop(Lease::take(&path).unwrap().unwrap());
    }

    #[test]
    fn of_many_that_try_one_gets_it() {
        let (dir, path) = place();
        for left in [false, true] {
            if left {
                write(&path, &foreign(|_| {}));
                age(&path, time_out() * 2);
            }
            let got: Vec<Lease> = std::thread::scope(|s| {
                let all: Vec<_> = (0..16).map(|_| s.spawn(|| Lease::take(&path).unwrap().ok())).collect();
                all.into_iter().filter_map(|t| t.join().unwrap()).collect()
            });
            let held = got.iter().filter(|l| l.check().is_ok()).count();
            assert_eq!(held, 1, "{} thought that they had it", got.len());
            drop(got);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    /// Whoever is killed at any point leaves no lease without a holder's name: nobody could tell that it is left.
    #[test]
    fn a_lease_is_never_seen_half_written() {
        let (_dir, path) = place();
        let done = std::sync::atomic::AtomicBool::new(false);
        let (seen, torn) = std::thread::scope(|s| {
            let reader = s.spawn(|| {
                let (mut seen, mut torn) = (0, 0);
                while !done.load(Ordering::Relaxed) {
                    let Ok(text) = fs::read(&path) else { continue };
                    seen += 1;
                    torn += usize::from(serde_json::from_slice::<Holder>(&text).is_err());
                }
                (seen, torn)
            });
            for _ in 0..300 {
                drop(Lease::take(&path).unwrap().unwrap());
            }
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap()
        });
        assert!(seen > 0);
        assert_eq!(torn, 0, "of {seen}");
    }

    #[test]
    fn without_hard_links_a_lease_is_made_in_place() {
        let (_dir, path) = place();
        let lease = Lease::create_in_place(&path, Holder::this()).unwrap().unwrap();
        lease.check().unwrap();
        assert!(Lease::create_in_place(&path, Holder::this()).unwrap().is_none());
        assert!(Lease::take(&path).unwrap().is_err());
        drop(lease);
        drop(Lease::take(&path).unwrap().unwrap());
    }

    #[test]
    fn what_a_dead_process_of_this_computer_left_is_taken_at_once() {
        let (_dir, path) = place();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let mut dead = Holder::this();
        dead.process.pid = child.id();
        write(&path, &dead);
        Lease::take(&path).unwrap().unwrap();
    }

    #[test]
    fn another_computers_lease_is_left_until_its_time_is_up() {
        let (_dir, path) = place();
        write(&path, &foreign(|_| {}));
        assert!(Lease::take(&path).unwrap().is_err());
        age(&path, time_out() / 2);
        assert!(Lease::take(&path).unwrap().is_err());
        age(&path, time_out() + Duration::from_secs(1));
        Lease::take(&path).unwrap().unwrap();
    }

    #[test]
    fn the_newer_start_of_a_job_wins() {
        let (_dir, path) = place();
        let mut me = Holder::this();
        me.job = Some("12_3".into());
        me.restart = 1;
        for (job, restart, taken) in [
            ("12_3", 0, true),
            ("12_3", 1, false),
            ("12_3", 2, false),
            ("12_4", 0, false),
        ] {
            write(
                &path,
                &foreign(|h| {
                    h.job = Some(job.into());
                    h.restart = restart;
                }),
            );
            let there = There::look(&path).unwrap().unwrap();
            assert_eq!(there.may_be_taken(&me, &path).unwrap(), taken, "{job} {restart}");
        }
    }

    /// A process in another container of this computer cannot be seen; its lock can.
    #[test]
    fn a_lock_tells_of_processes_that_cannot_be_seen() {
        let (_dir, path) = place();
        let h = foreign(|h| {
            h.process.host.clone_from(&Process::this().host);
            h.process.pid_space = Some("pid:[1]".into());
            h.locked = true;
        });
        write(&path, &h);
        let lock = File::options().write(true).open(&path).unwrap();
        lock.lock().unwrap();
        assert!(Lease::take(&path).unwrap().is_err());
        drop(lock);
        Lease::take(&path).unwrap().unwrap();
        // Where the holder could have no lock, a free one says nothing.
        write(&path, &Holder { locked: false, ..h });
        assert!(Lease::take(&path).unwrap().is_err());
    }

    /// A clock that is wrong by hours on the holder's side and on this one: only the file system's counts.
    #[test]
    fn a_lease_from_the_future_is_no_old_one() {
        let (_dir, path) = place();
        write(&path, &foreign(|_| {}));
        let f = File::options().write(true).open(&path).unwrap();
        f.set_modified(SystemTime::now() + Duration::from_secs(9000)).unwrap();
        assert!(Lease::take(&path).unwrap().is_err());
    }

    #[test]
    fn a_torn_lease_is_left_until_its_time_is_up() {
        let (_dir, path) = place();
        fs::write(&path, b"{\"host\":").unwrap();
        assert!(Lease::take(&path).unwrap().is_err());
        age(&path, time_out() * 2);
        Lease::take(&path).unwrap().unwrap();
    }

    #[test]
    fn who_was_away_too_long_sees_it_and_leaves_the_new_lease_alone() {
        let (_dir, path) = place();
        let old = Lease::take(&path).unwrap().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(old.check().unwrap_err().is::<Lost>());
        let new = foreign(|_| {});
        write(&path, &new);
        assert!(old.check().unwrap_err().is::<Lost>());
        drop(old);
        assert_eq!(holder(&path, clock(path.parent().unwrap())).unwrap(), new);
    }
}
