//! The Hugging Face hub: its environment variables, its facts about a file, and its cache layout.
//!
//! The crate `hf-hub` names folders and addresses here. Its own download is not used: in 0.5 it knows neither
//! `HF_TOKEN`, `HF_HUB_CACHE` nor `HF_HUB_OFFLINE`, appends a whole response to a part when a server ignores `Range`,
//! and checks neither size nor hash.
//!
//! A file lies as `blobs/<etag>`, is linked from `snapshots/<commit>/<file>`, and a name that is no commit stands in
//! `refs/`: where Python's huggingface_hub looks. The unfinished file (`<etag>.incomplete`) and the lock
//! (`.locks/<repository>/<etag>.lock`) are its too, so that both can wait for and continue each other's downloads.

use super::client::{Client, Credential, Follow, NoResponse, Request, Response};
use super::download::{Done, DownloadSource, Wanted, download};
use super::environment::expanded;
use super::error::{ErrorKind, FetchError};
use super::part::Digests;
use super::progress::{Event, OnEvent};
use super::response::{passing, pause, refusal};
use crate::error::BadInput;
use crate::fsio;
use crate::limits;
use hf_hub::{Cache, Repo, RepoType};
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use ureq::http::Method;

/// Attempts to learn the facts of a file.
const ATTEMPTS: u32 = 4;

/// A hub as the environment describes it.
#[derive(Debug, Clone)]
pub struct Hub {
    endpoint: String,
    credential: Option<Credential>,
    cache: PathBuf,
    offline: Option<&'static str>,
}

/// A file on the hub.
pub struct HubFile<'a> {
    pub repo: &'a str,
    /// A commit, branch or `refs/pr/N`.
    pub revision: &'a str,
    pub file: &'a str,
    pub size: Option<u64>,
    pub sha256: Option<&'a str>,
    pub md5: Option<&'a str>,
    /// As in [`Wanted`].
    pub magic: &'static [&'static [u8]],
}

/// What the hub says of a file before it is downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub commit: String,
    /// The SHA-256 for big files, git's blob hash for small ones.
    pub etag: String,
    pub size: Option<u64>,
}

impl Hub {
    /// From `HF_ENDPOINT`, `HF_TOKEN` (or the token file), `HF_HUB_OFFLINE` and the places of the cache.
    ///
    /// # Errors
    /// [`BadInput`] for an endpoint or token that cannot be used, or where there is no place for the cache.
    pub fn from_env(env: impl Fn(&str) -> Option<OsString>, cache: Option<PathBuf>) -> Result<Self, BadInput> {
        let var = |k: &str| env(k).filter(|v| !v.is_empty());
        let text = |k: &str| var(k).and_then(|v| v.into_string().ok());
        let truthy =
            |k: &str| text(k).is_some_and(|v| matches!(v.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"));
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let cache = cache.ok_or_else(|| {
            BadInput::new(
                "the cache of the Hugging Face hub",
                "a folder for it",
                "neither HF_HUB_CACHE, HF_HOME nor HOME",
                "Set HF_HOME.",
            )
        })?;
        let implicit = !truthy("HF_HUB_DISABLE_IMPLICIT_TOKEN");
        let token = token(&env).filter(|_| implicit);
        let credential = token.map(|t| Credential::new(format!("Bearer {t}"), &endpoint));
        Ok(Self {
            credential: credential.transpose()?,
            endpoint,
            cache,
            offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
                .into_iter()
                .find(|k| truthy(k)),
        })
    }

    /// The variable that forbids the network, where one does.
    pub fn offline(&self) -> Option<&'static str> {
        self.offline
    }

    fn url(&self, f: &HubFile) -> String {
        let repo = repo(f);
        format!(
            "{}/{}/resolve/{}/{}",
            self.endpoint,
            repo.url(),
            repo.url_revision(),
            f.file
        )
    }

    /// Downloads a file into the cache, or links it there where its bytes are in the cache already.
    /// Returns its path in the snapshot; [`Done`] is `None` where nothing was downloaded.
    ///
    /// # Errors
    /// [`FetchError`]; the snapshot has the file only after every check passed.
    pub fn fetch(
        &self,
        client: &Client,
        f: &HubFile,
        accept: &mut dyn FnMut(&Digests) -> Result<(), BadInput>,
        on: OnEvent,
    ) -> Result<(PathBuf, Option<Done>), FetchError> {
        let facts = self.facts(client, f, on)?;
        self.agree(f, &facts)?;
        let cache = Cache::new(self.cache.clone()).repo(repo(f));
        let blob = cache.blob_path(&facts.etag);
        let pointer = cache.pointer_path(&facts.commit).join(f.file);
        let folder = self.cache.join(repo(f).folder_name());
        let _lock = lock(&self.cache, &repo(f).folder_name(), &facts.etag, f.file, on)?;
        // A disk without links has the file itself in the snapshot.
        if !blob.is_file() && pointer.is_file() && hold(&pointer, accept, on)? {
            return Ok((pointer, None));
        }
        let done = if blob.is_file() && hold(&blob, accept, on)? {
            None
        } else {
            let name = format!("{}/{}", f.repo, f.file);
            let mut wanted = Wanted {
                name: &name,
                places: &[DownloadSource {
                    url: self.url(f),
                    credential: self.credential.clone(),
                }],
                size: f.size.or(facts.size),
                sha256: f.sha256,
                md5: f.md5,
                part: &folder.join("blobs").join(format!("{}.incomplete", facts.etag)),
                dest: &blob,
                magic: f.magic,
                if_refused: &self.if_refused(f),
                if_gone: &if_gone(f),
                accept,
            };
            Some(download(client, &mut wanted, on)?)
        };
        let path = link(&blob, &pointer)?;
        if f.revision != facts.commit {
            let reference = folder.join("refs").join(f.revision);
            fsio::write_atomic(&reference, facts.commit.as_bytes()).map_err(|e| plain(&reference, &e))?;
        }
        Ok((path, done))
    }

    /// Asks the hub for commit, etag and size.
    fn facts(&self, client: &Client, f: &HubFile, on: OnEvent) -> Result<Facts, FetchError> {
        let url = self.url(f);
        let request = Request {
            method: Method::HEAD,
            url: &url,
            credential: self.credential.as_ref(),
            from: None,
            follow: Follow::UntilHubFacts,
        };
        let mut failed_attempts = 0;
        let response = loop {
            let again = match client.send(&request) {
                Err(NoResponse::Fatal(e)) => return Err(e),
                Err(NoResponse::Transient(again)) => again,
                Ok(r) => match passing(&r) {
                    Some(again) => again,
                    None => break r,
                },
            };
            failed_attempts += 1;
            pause(f.file, &again, failed_attempts, ATTEMPTS, on)?;
        };
        // A mirror may send on to a store that tells nothing, not even by HEAD: then the pin is all there is to know, and the
        // bytes are held against it.
        if let (Some(sha256), true, false) = (f.sha256, is_commit(f.revision), response.has_hub_facts())
            && ((200..400).contains(&response.status)
                || matches!(response.status, 403 | 405 | 501) && !response.from.starts_with(&self.endpoint))
        {
            return Ok(Facts {
                commit: f.revision.to_owned(),
                etag: sha256.to_owned(),
                size: size_of(&response),
            });
        }
        if !(200..400).contains(&response.status) {
            return Err(refusal(f.file, &response, &self.if_refused(f), &if_gone(f)));
        }
        let no_hub = |what: &str| {
            FetchError::new(
                ErrorKind::Input,
                &response.from,
                "the answer of a Hugging Face hub",
                format!("one without {what}"),
                "Check HF_ENDPOINT.",
            )
        };
        let plain = |v: &str| v.trim_start_matches("W/").trim_matches('"').to_owned();
        let named =
            |v: &String| !v.is_empty() && v.len() <= 128 && v.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let etag = response.header("x-linked-etag").or_else(|| response.header("etag"));
        let etag = etag.map(plain).filter(named).ok_or_else(|| no_hub("a usable ETag"))?;
        let commit = response.header("x-repo-commit").map(str::to_owned);
        // A mirror may leave the commit out; a pinned one is known anyway.
        let commit = commit.or_else(|| is_commit(f.revision).then(|| f.revision.to_owned()));
        let commit = commit.filter(named).ok_or_else(|| no_hub("X-Repo-Commit"))?;
        Ok(Facts {
            commit,
            etag,
            size: size_of(&response),
        })
    }

    /// Holds what the hub says against the pin, before the first byte.
    fn agree(&self, f: &HubFile, facts: &Facts) -> Result<(), FetchError> {
        let at = format!("{}/{} at {}", f.repo, f.file, f.revision);
        let differs = |expected: String, found: String| {
            let remedy = "Nothing was downloaded: it is not the pinned file. Check HF_ENDPOINT; the publisher may have \
                          replaced it.";
            Err(FetchError::new(ErrorKind::WrongBytes, &at, expected, found, remedy))
        };
        if is_commit(f.revision) && f.revision != facts.commit {
            return differs(format!("commit {}", f.revision), format!("commit {}", facts.commit));
        }
        // The etag of a big file is its SHA-256; that of a small one is shorter.
        if let Some(want) = f.sha256.filter(|s| facts.etag.len() == 64 && *s != facts.etag) {
            return differs(format!("sha256 {want}"), format!("sha256 {} on the hub", facts.etag));
        }
        match (f.size, facts.size) {
            (Some(want), Some(found)) if want != found => {
                differs(format!("{want} bytes"), format!("{found} bytes on the hub"))
            }
            _ => Ok(()),
        }
    }

    fn if_refused(&self, f: &HubFile) -> String {
        let page = format!("{}/{}", self.endpoint, f.repo);
        match &self.credential {
            None => format!(
                "If the repository is gated, accept its terms at {page}, then set HF_TOKEN (or `hf auth login`)."
            ),
            Some(_) => {
                format!("A token was sent: check that it is valid and that its account was granted access at {page}.")
            }
        }
    }
}

/// The size of the file that an answer is about; that of a redirect's own body means nothing.
fn size_of(response: &Response) -> Option<u64> {
    let size = response.header("x-linked-size").or_else(|| match response.status {
        200 => response.header("content-length"),
        _ => None,
    });
    size?.parse().ok()
}

/// `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, the file `HF_TOKEN_PATH`, or `token` in `HF_HOME`.
fn token(env: &impl Fn(&str) -> Option<OsString>) -> Option<String> {
    let clean = |v: String| {
        let v = v.replace(['\r', '\n'], "").trim().to_owned();
        (!v.is_empty()).then_some(v)
    };
    let var = |k: &str| env(k).and_then(|v| v.into_string().ok()).and_then(clean);
    let path = |k: &str| expanded(env, k);
    let home = || {
        path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|p| p.join("huggingface")))
            .or_else(|| path("HOME").map(|p| p.join(".cache/huggingface")))
    };
    var("HF_TOKEN").or_else(|| var("HUGGING_FACE_HUB_TOKEN")).or_else(|| {
        let file = path("HF_TOKEN_PATH").or_else(|| home().map(|h| h.join("token")))?;
        fsio::read_text_at_most(&file, limits::NOTE).ok().and_then(clean)
    })
}

fn repo(f: &HubFile) -> Repo {
    Repo::with_revision(f.repo.to_owned(), RepoType::Model, f.revision.to_owned())
}

fn if_gone(f: &HubFile) -> String {
    format!(
        "The repository, revision {} or file is not there (any more). See `medft weights list` for other published \
         files of this backbone and take one with --pin.",
        f.revision
    )
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Python's lock of a blob.
fn lock(cache: &Path, repo: &str, etag: &str, name: &str, on: OnEvent) -> Result<File, FetchError> {
    let dir = cache.join(".locks").join(repo);
    fs::create_dir_all(&dir).map_err(|e| FetchError::disk(&dir, "to create this folder", &e))?;
    let path = dir.join(format!("{etag}.lock"));
    let wait = || {
        on(Event::Note(format!(
            "another process is fetching {name}; waiting for it"
        )))
    };
    fsio::lock_exclusive(&path, wait).map_err(|e| FetchError::disk(&path, "to lock this file", &e))
}

/// Whether a file that is in the cache already is the right one. A damaged one is said and fetched anew.
fn hold(
    path: &Path,
    accept: &mut dyn FnMut(&Digests) -> Result<(), BadInput>,
    on: OnEvent,
) -> Result<bool, FetchError> {
    let digests = super::part::digest_file(path).map_err(|e| FetchError::disk(path, "to read this file", &e))?;
    let Err(bad) = accept(&digests) else { return Ok(true) };
    on(Event::Note(format!(
        "{} is here, but expected {}, found {}: it is fetched again and replaced",
        path.display(),
        bad.expected,
        bad.found
    )));
    Ok(false)
}

/// Links a snapshot's file to its blob by a relative path; a disk without links gets the file itself, as from Python.
/// What else lies under the name is replaced: the blob was checked, that was not.
fn link(blob: &Path, pointer: &Path) -> Result<PathBuf, FetchError> {
    let run = || -> std::io::Result<()> {
        if let Some(dir) = pointer.parent() {
            fs::create_dir_all(dir)?;
        }
        if let (Ok(here), Ok(there)) = (pointer.canonicalize(), blob.canonicalize())
            && here == there
        {
            return Ok(());
        }
        // snapshots/<commit>/<file>: two folders below the repository's, and one for every folder in the name.
        let base = blob.parent().and_then(Path::parent).unwrap_or(Path::new(""));
        let below = pointer.parent().and_then(|p| p.strip_prefix(base).ok());
        let up = "../".repeat(below.map_or(0, |p| p.components().count()));
        let target = PathBuf::from(up)
            .join("blobs")
            .join(blob.file_name().unwrap_or_default());
        match fs::remove_file(pointer) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        match std::os::unix::fs::symlink(&target, pointer) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::StorageFull => Err(e),
            Err(_) => fs::rename(blob, pointer),
        }
    };
    run().map_err(|e| FetchError::disk(pointer, "to link the file into the cache", &e))?;
    Ok(pointer.to_owned())
}

fn plain(path: &Path, e: &anyhow::Error) -> FetchError {
    FetchError::new(
        ErrorKind::Disk,
        path.display(),
        "to write this file",
        format!("{e:#}"),
        "Check the folder and the disk.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env<'a>(vars: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |k| vars.iter().find(|v| v.0 == k).map(|v| v.1.into())
    }

    #[test]
    fn the_token_is_where_huggingface_hub_looks() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        fs::create_dir_all(dir.path().join(".cache/huggingface")).unwrap();
        fs::write(dir.path().join(".cache/huggingface/token"), "from-home\n").unwrap();
        fs::write(dir.path().join("other"), "from-path").unwrap();
        let other = dir.path().join("other");
        let other = other.to_str().unwrap();
        assert_eq!(token(&env(&[])), None);
        assert_eq!(token(&env(&[("HOME", home)])).unwrap(), "from-home");
        assert_eq!(
            token(&env(&[("HOME", home), ("HF_TOKEN_PATH", other)])).unwrap(),
            "from-path"
        );
        assert_eq!(token(&env(&[("HOME", home), ("HF_TOKEN", " a\nb \n")])).unwrap(), "ab");
        assert_eq!(token(&env(&[("HF_TOKEN", ""), ("HOME", home)])).unwrap(), "from-home");
    }

    #[test]
    fn offline_and_endpoint_are_read_as_python_reads_them() {
        let hub = |vars: &[(&str, &str)]| Hub::from_env(env(vars), Some("/c".into())).unwrap();
        assert_eq!(hub(&[]).endpoint, "https://huggingface.co");
        assert_eq!(
            hub(&[("HF_ENDPOINT", "http://127.0.0.1:1/")]).endpoint,
            "http://127.0.0.1:1"
        );
        assert_eq!(hub(&[("HF_HUB_OFFLINE", "0")]).offline(), None);
        assert_eq!(hub(&[("HF_HUB_OFFLINE", "yes")]).offline(), Some("HF_HUB_OFFLINE"));
        assert_eq!(
            hub(&[("TRANSFORMERS_OFFLINE", "1")]).offline(),
            Some("TRANSFORMERS_OFFLINE")
        );
        let silent = [("HF_TOKEN", "t"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")];
        assert!(hub(&[("HF_TOKEN", "t")]).credential.is_some() && hub(&silent).credential.is_none());
    }
}
