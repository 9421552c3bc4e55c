//! Judging one weight file against its pin, and remembering hashes for which nobody vouches.

use super::hash::{OnProgress, Progress, Sha, hash_file};
use super::pin::WeightsManifest;
use super::places::{Check, Places};
use super::stat::{Stat, StatFile, is_marked_read_only};
use crate::error::BadInput;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

/// What came out for one file.
pub(super) enum Verdict {
    Published(Sha),
    /// Not provably the published file; why, for people.
    TrustOnFirstUse(Sha, String),
    NotRead,
    Wrong {
        expected: String,
        found: String,
    },
}

/// Judges files; holds what was known before and writes back what is known after.
pub(super) struct Verifier<'a> {
    places: &'a Places,
    check: Check,
    began: SystemTime,
    stats: StatFile,
    stats_changed: bool,
    lock: Lock,
    lock_changed: bool,
}

impl<'a> Verifier<'a> {
    pub(crate) fn new(places: &'a Places, check: Check) -> Result<Self> {
        Ok(Self {
            places,
            check,
            began: SystemTime::now(),
            stats: StatFile::load(&places.stat_file()),
            stats_changed: false,
            lock: Lock::read(&places.lock_file())?,
            lock_changed: false,
        })
    }

    /// Judges `path` by `pin`.
    ///
    /// # Errors
    /// [`BadInput`] when the file cannot be read.
    pub(crate) fn verify(&mut self, pin: &WeightsManifest, path: &Path, on: OnProgress) -> Result<Verdict> {
        let unreadable = |e: std::io::Error| {
            BadInput::new(
                path.display(),
                "a readable weight file",
                e.to_string(),
                "Make it readable or fetch it again.",
            )
        };
        let stat = Stat::of(&std::fs::metadata(path).map_err(unreadable)?);
        if let Some(size) = pin.size.filter(|s| *s != stat.size) {
            return Ok(Verdict::Wrong {
                expected: format!("{size} bytes"),
                found: format!("{} bytes", stat.size),
            });
        }
        let key = std::path::absolute(path).map_err(unreadable)?;
        let key = key.as_os_str().as_bytes();
        let first_seen = self.lock.get(&pin.name);
        let known = if self.check == Check::Full {
            None
        } else {
            self.stats.get(key, &stat)
        };
        // An MD5 is compared when the file is first seen; after that the SHA-256 in the lock stands for it.
        let known = known.filter(|_| pin.sha256.is_some() || first_seen.is_some());
        let (sha, md5) = match known {
            Some(sha) => (sha, None),
            None if self.check == Check::NoRead => return Ok(Verdict::NotRead),
            None => {
                let mut done = Progress {
                    files_total: 1,
                    bytes_total: stat.size,
                    ..Progress::default()
                };
                let want_md5 = pin.sha256.is_none() && (pin.md5.is_some() || pin.md5_prefix.is_some());
                let hashes = hash_file(path, want_md5, |n| {
                    done.bytes_done += n;
                    on(done);
                });
                let hashes = hashes.map_err(unreadable)?;
                on(Progress { files_done: 1, ..done });
                self.stats.put(key, stat, hashes.sha256, self.began);
                self.stats_changed = true;
                (hashes.sha256, hashes.md5)
            }
        };
        Ok(self.hold(pin, stat.size, sha, md5.as_deref()))
    }

    /// Holds the hashes of a file against everything that is known of it, but its size.
    pub(crate) fn hold(&mut self, pin: &WeightsManifest, size: u64, sha: Sha, md5: Option<&str>) -> Verdict {
        let hex = sha.to_string();
        let wrong = |expected: String, found: &str| Verdict::Wrong {
            expected,
            found: found.into(),
        };
        if let Some(want) = &pin.sha256 {
            return if *want == hex {
                Verdict::Published(sha)
            } else {
                wrong(format!("sha256 {want}"), &format!("sha256 {hex}"))
            };
        }
        let mut agrees = Vec::new();
        if let Some(p) = &pin.sha256_prefix {
            if !hex.starts_with(p.as_str()) {
                return wrong(format!("a sha256 that begins with {p}"), &hex);
            }
            agrees.push(format!("it begins with the published digits {p}"));
        }
        for (published, whole) in [(&pin.md5, true), (&pin.md5_prefix, false)] {
            if let (Some(p), Some(md5)) = (published, md5)
                && !md5.starts_with(p.as_str())
            {
                return wrong(
                    format!("an md5 {} {p}", if whole { "of" } else { "that begins with" }),
                    &format!("md5 {md5}"),
                );
            }
            if let Some(p) = published {
                agrees.push(format!(
                    "its md5 {} the published {p}",
                    if whole { "is" } else { "begins with" }
                ));
            }
        }
        match self.lock.get(&pin.name) {
            Some(first) if first != sha => {
                return wrong(
                    format!("sha256 {first}, the one first seen (weights.lock)"),
                    &format!("sha256 {hex}"),
                );
            }
            Some(_) => {}
            None => {
                let entry = LockEntry {
                    name: pin.name.clone(),
                    file: pin.file.clone(),
                    size,
                    sha256: hex.clone(),
                };
                self.lock.files.push(entry);
                self.lock_changed = true;
            }
        }
        let reason = pin.sha256_unknown.as_deref().unwrap_or("none found");
        let agrees: String = agrees.iter().map(|a| format!("; {a}")).collect();
        let why = format!(
            "no published sha256 ({reason}){agrees}; {}… is the one first seen and holds from now on (weights.lock)",
            sha.short()
        );
        Verdict::TrustOnFirstUse(sha, why)
    }

    /// Writes back what was learnt; what could not be written is noted.
    pub(crate) fn keep(mut self, notes: &mut Vec<String>) {
        if self.stats_changed {
            // A convenience: without it the next check hashes again.
            let _ = self.stats.save(&self.places.stat_file());
        }
        if !self.lock_changed {
            return;
        }
        let path = self.places.lock_file();
        let written = match is_marked_read_only(&path) {
            true => Err(anyhow::anyhow!("{} is in a read-only folder", path.display())),
            false => self.lock.write(&path),
        };
        if let Err(e) = written {
            notes.push(format!(
                "the hash could not be locked and will be trusted anew next time: {e:#}"
            ));
        }
    }
}

/// `weights.lock`: hashes first seen of files for which none is published.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lock {
    #[serde(rename = "file", default)]
    files: Vec<LockEntry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockEntry {
    name: String,
    file: String,
    size: u64,
    sha256: String,
}

impl Lock {
    fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = crate::fsio::read_to_string(path)?;
        let remedy = "Correct the file, or delete it to trust the files there are anew.";
        let lock: Self = toml::from_str(&text)
            .map_err(|e| BadInput::new(path.display(), "hashes written by medft", e.message(), remedy))?;
        if let Some(bad) = lock.files.iter().find(|f| Sha::parse(&f.sha256).is_none()) {
            return Err(BadInput::new(path.display(), "64 hex digits", format!("`{}`", bad.sha256), remedy).into());
        }
        Ok(lock)
    }

    fn get(&self, name: &str) -> Option<Sha> {
        self.files
            .iter()
            .find(|f| f.name == name)
            .and_then(|f| Sha::parse(&f.sha256))
    }

    fn write(&mut self, path: &Path) -> Result<()> {
        self.files.sort_by(|a, b| a.name.cmp(&b.name));
        let head = "# Written by medft: weight files for which no sha256 is published, as they were first seen.\n\
                    # A file that changes is refused; delete its entry only if you know why it changed.\n\n";
        let text = format!("{head}{}", toml::to_string(self)?);
        crate::fsio::write_atomic(path, text.as_bytes())
    }
}
