//! A data set from a publisher, or from archives a user brings, to a folder that verifies.

use super::Context;
use super::inventory::{look_at_images, verify};
use crate::data::presence::Depth;
use crate::data::{Folder, registry};
use crate::error::BadInput;
use crate::fetch::{Client, Done, DownloadSource, ErrorKind, FetchError, Wanted, download, kaggle};
use crate::manifest::staging::{Staging, match_archives, refuse_occupied};
use crate::manifest::{
    Archive, DataKind, DataManifest, LabelCheck, SetState, VerifyMode, check_labels, hash_file, lock_set,
};
use crate::progress::Progress;
use crate::study::Protocol;
use crate::tell;
use crate::threads::in_threads;
use anyhow::Result;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Archives a set downloads side by side.
const JOBS: usize = 4;

/// What came of one set.
#[derive(Serialize, Default)]
pub struct SetOutcome {
    pub set: String,
    /// `fetched`, `imported`, `already-here` or `failed`.
    pub state: &'static str,
    #[serde(serialize_with = "crate::fsio::lossy_path")]
    pub folder: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    pub archives: Vec<Got>,
    pub notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<ErrorKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// An archive that is here and was held against its manifest.
#[derive(Serialize, Clone)]
pub struct Got {
    pub file: String,
    pub sha256: String,
    pub bytes: u64,
    /// Over the network, now.
    pub received: u64,
    pub resumed_from: u64,
    /// Who sent it, or the path it was brought from.
    pub from: String,
    #[serde(skip)]
    pub notes: Vec<String>,
    #[serde(skip)]
    path: PathBuf,
}

/// Downloads sets. `accept` is asked before the first byte of each; `on_line` is told what came of each.
///
/// # Errors
/// For an unknown set, a proxy or certificate that cannot be used, and what `on_line` returns. What is wrong with one set
/// stands in its line.
pub fn fetch(
    c: &Context,
    sets: &[String],
    copy: Option<&str>,
    accept: &dyn Fn(&DataManifest) -> Result<(), BadInput>,
    on_line: &mut dyn FnMut(&SetOutcome) -> Result<()>,
) -> Result<Vec<SetOutcome>> {
    let manifests: Vec<_> = sets.iter().map(|s| c.catalogue.set(s)).collect::<Result<_, _>>()?;
    let progress = &c.progress;
    let client = Client::from_env(|w| tell!("warning: {w}"));
    let mut lines = Vec::new();
    for m in manifests {
        let line = run(c, m, "fetched", |staging| {
            let archives = m.copy(copy)?;
            let places: Vec<Vec<DownloadSource>> = archives.iter().map(|a| places_of(a)).collect::<Result<_, _>>()?;
            accept(m)?;
            let got = download_all(&client, m, &archives, &places, staging, progress)?;
            let pairs: Vec<_> = archives
                .iter()
                .copied()
                .zip(got.iter().map(|g| g.path.clone()))
                .collect();
            assemble(c, m, staging, &pairs, true)?;
            Ok(got)
        });
        on_line(&line)?;
        lines.push(line);
    }
    Ok(lines)
}

/// Takes in archives that the user has.
///
/// # Errors
/// For an unknown set; what is wrong with the archives stands in the line.
pub fn import(c: &Context, set: &str, archives: &[PathBuf], copy: Option<&str>) -> Result<SetOutcome> {
    let m = c.catalogue.set(set)?;
    let progress = &c.progress;
    Ok(run(c, m, "imported", |staging| {
        let pairs = match_archives(m, copy, archives)?;
        progress.say(&terms(m));
        let mut got = Vec::new();
        for (a, path) in &pairs {
            got.push(brought(a, path, progress)?);
        }
        assemble(c, m, staging, &pairs, false)?;
        Ok(got)
    }))
}

/// The story of both verbs; `collect` gets the archives and puts them together in the staging.
fn run(
    c: &Context,
    m: &DataManifest,
    done: &'static str,
    collect: impl FnOnce(&Staging) -> Result<Vec<Got>>,
) -> SetOutcome {
    let (dir, progress) = (&c.global.data_dir, &c.progress);
    let mut line = SetOutcome {
        set: m.set.clone(),
        folder: dir.join(&m.folder),
        ..SetOutcome::default()
    };
    let go = || -> Result<()> {
        let on = |e| progress.on_event(e);
        let report = verify(c, &m.set, DataKind::Real, dir, VerifyMode::SinceLock)?;
        if report.state == SetState::Verified {
            (line.state, line.root) = ("already-here", report.root.map(|r| r.to_string()));
            return Ok(());
        }
        let staging = Staging::open(m, dir, &on)?;
        if !staging.is_complete() {
            refuse_occupied(m, dir)?;
            line.archives = collect(&staging)?;
            staging.mark_complete()?;
        } else {
            progress.say(&format!("{}: going on with what an earlier run put together", m.set));
        }
        staging.publish()?;
        line.root = Some(hold(c, m, &mut line.notes)?);
        line.state = done;
        staging.clear()?;
        Ok(())
    };
    if let Err(e) = go() {
        line.state = "failed";
        line.why = Some(e.downcast_ref::<FetchError>().map_or(ErrorKind::Input, |f| f.kind));
        line.error = Some(format!("{e:#}"));
    }
    let noted = line.archives.iter().flat_map(|a| a.notes.clone());
    line.notes = noted.chain(std::mem::take(&mut line.notes)).collect();
    line
}

/// Title, licence, terms and citation, for people.
pub fn terms(m: &DataManifest) -> String {
    let images = m.licence.images.as_deref().unwrap_or("unknown");
    let why = m
        .licence
        .images_unknown
        .as_ref()
        .map_or_else(String::new, |w| format!(" ({w})"));
    format!(
        "{}: {}\n  licence of the images: {images}{why}\n  licence of the labels: {}\n  terms: {}\n  page: {}\n  cite: {}",
        m.title, m.what, m.licence.labels, m.access.terms, m.access.page, m.citation.text
    )
}

/// Where an archive can be had, the publisher first.
fn places_of(a: &Archive) -> Result<Vec<DownloadSource>, BadInput> {
    if let Some(k) = &a.kaggle {
        return Ok(vec![kaggle::place(k, |v| std::env::var_os(v), &|w| {
            tell!("warning: {w}");
        })?]);
    }
    let urls = a.url.iter().chain(&a.mirrors);
    let places = urls.map(|url| DownloadSource {
        url: url.clone(),
        credential: None,
    });
    Ok(places.collect())
}

fn download_all(
    client: &Client,
    m: &DataManifest,
    archives: &[&Archive],
    places: &[Vec<DownloadSource>],
    staging: &Staging,
    progress: &Progress,
) -> Result<Vec<Got>, FetchError> {
    let each: Vec<_> = archives.iter().copied().zip(places).collect();
    let got = in_threads(JOBS, &each, |(a, places)| {
        download_one(client, m, a, places, staging, progress)
    });
    got.into_iter().collect()
}

fn download_one(
    client: &Client,
    m: &DataManifest,
    a: &Archive,
    places: &[DownloadSource],
    staging: &Staging,
    progress: &Progress,
) -> Result<Got, FetchError> {
    let dest = staging.archive(a);
    let bar = progress.bytes(&a.file);
    if dest.is_file() {
        return look(a, &dest, "an earlier download", progress);
    }
    let page = format!(
        "Get it by hand from {} and run `medft data import {} …`.",
        m.access.page, m.set
    );
    let (if_refused, if_gone) = match &a.kaggle {
        Some(k) => kaggle::remedies(k),
        None => (page.clone(), page),
    };
    let strict = |v: &'_ Option<String>| v.clone().filter(|_| a.strict);
    let (sha256, md5) = (strict(&a.sha256), strict(&a.md5));
    let mut seen = None;
    let mut accept = |d: &crate::fetch::Digests| {
        seen = Some(d.clone());
        Ok(())
    };
    let mut wanted = Wanted {
        name: &a.file,
        places,
        size: a.size.filter(|_| a.strict),
        sha256: sha256.as_deref(),
        md5: md5.as_deref(),
        part: &staging.part(a),
        dest: &dest,
        magic: magic_of(a),
        if_refused: &if_refused,
        if_gone: &if_gone,
        accept: &mut accept,
    };
    let done: Done = download(client, &mut wanted, &|e| bar.on_event(e))?;
    drop(bar);
    let Some(d) = seen else {
        return look(a, &dest, "another process", progress);
    };
    Ok(Got {
        received: done.received,
        resumed_from: done.resumed_from,
        ..got(a, &dest, crate::fsio::hex(&d.sha256), &d.md5, d.bytes, &done.from)
    })
}

/// How a file of this name begins.
fn magic_of(a: &Archive) -> &'static [&'static [u8]] {
    match a.file.rsplit_once('.').map(|e| e.1) {
        Some("zip" | "npz") => &[b"PK\x03\x04", b"PK\x05\x06"],
        Some("gz" | "tgz") => &[b"\x1f\x8b"],
        _ => &[],
    }
}

/// A file that the user brought, held against the manifest.
fn brought(a: &Archive, path: &Path, progress: &Progress) -> Result<Got, FetchError> {
    let g = look(a, path, &path.display().to_string(), progress)?;
    let wrong = |expected: String, found: String| {
        let remedy = "Nothing was taken in. Get the file again; `medft data list -v` says from where.";
        Err(FetchError::new(
            ErrorKind::WrongBytes,
            path.display(),
            expected,
            found,
            remedy,
        ))
    };
    if !a.strict {
        return Ok(g);
    }
    match (a.size, &a.sha256) {
        (Some(size), _) if size != g.bytes => wrong(format!("{size} bytes"), format!("{} bytes", g.bytes)),
        (_, Some(sha)) if *sha != g.sha256 => wrong(format!("sha256 {sha}"), format!("sha256 {}", g.sha256)),
        _ => match g.notes.iter().find(|n| n.contains(MD5_DIFFERS)) {
            Some(note) => wrong(format!("md5 {}", a.md5.as_deref().unwrap_or_default()), note.clone()),
            None => Ok(g),
        },
    }
}

const MD5_DIFFERS: &str = "its md5 is not";

/// Hashes an archive that is here.
fn look(a: &Archive, path: &Path, from: &str, progress: &Progress) -> Result<Got, FetchError> {
    let bar = progress.bytes(&a.file);
    let of = std::fs::metadata(path).map(|m| m.len()).ok();
    let mut bytes = 0;
    let hashes = hash_file(path, true, |n| {
        bytes += n;
        bar.on_event(crate::fetch::Event::At {
            bytes,
            of,
            before: false,
        });
    });
    let h = hashes.map_err(|e| FetchError::disk(path, "to read this archive", &e))?;
    let md5 = h.md5.unwrap_or_default();
    Ok(got(a, path, h.sha256.to_string(), &md5, h.bytes, from))
}

fn got(a: &Archive, path: &Path, sha256: String, md5: &str, bytes: u64, from: &str) -> Got {
    let mut notes = Vec::new();
    if let Some(known) = a.md5.as_ref().filter(|k| *k != md5) {
        notes.push(format!("{}: {MD5_DIFFERS} {known} but {md5}: {}", a.file, a.from));
    }
    if let (None, Some(why)) = (&a.sha256, &a.sha256_unknown)
        && a.md5.is_none()
    {
        let open = match from.starts_with("http://") {
            true => ", and it came without encryption: only a second source can tell whether it is the published one",
            false => "",
        };
        notes.push(format!("{}: {why}; its sha256 is {sha256}{open}", a.file));
    }
    Got {
        file: a.file.clone(),
        sha256,
        bytes,
        received: 0,
        resumed_from: 0,
        from: from.to_owned(),
        notes,
        path: path.to_owned(),
    }
}

/// Unpacks, and reads the labels before anything gets its place.
fn assemble(
    c: &Context,
    m: &DataManifest,
    staging: &Staging,
    pairs: &[(&Archive, PathBuf)],
    linked: bool,
) -> Result<()> {
    let progress = &c.progress;
    progress.say(&format!("{}: putting it together", m.set));
    let bar = progress.bytes(&m.set);
    staging.assemble(pairs, linked, &|e| bar.on_event(e))?;
    drop(bar);
    let root = staging.root();
    let check = || -> Result<()> {
        read_labels_in(c, &m.set, &root)?;
        let bad: Vec<String> = check_labels(m, &root)
            .iter()
            .filter(|l| !l.ok())
            .filter_map(LabelCheck::text)
            .collect();
        if bad.is_empty() {
            return whole(c, m, &root);
        }
        let remedy = "Nothing was published; the downloads are kept. `medft data list -v` says where the set is from.";
        let expected = "the published label files";
        Err(FetchError::new(ErrorKind::WrongBytes, &m.title, expected, bad.join("; "), remedy).into())
    };
    check().inspect_err(|_| {
        let _ = staging.reset();
    })
}

/// Refuses a set whose images are not all there: an archive that is only a part of it.
fn whole(c: &Context, m: &DataManifest, root: &Path) -> Result<()> {
    if m.files.is_some() {
        return Ok(());
    }
    let images = look_at_images(
        c,
        &m.set,
        &Folder::unverified(root),
        &protocol_of(&m.set, root)?,
        Depth::Heads,
    )?;
    if images.ok() {
        return Ok(());
    }
    let remedy = format!("Nothing was published. {}", images.remedies.join(" "));
    let found = format!("{}{}", images.summary(), images.lines(20));
    let expected = "every image that the label files list";
    Err(FetchError::new(ErrorKind::WrongBytes, &m.title, expected, found, remedy.trim()).into())
}

/// Holds the published set against its list, or writes the list where there is none. Returns the root hash.
fn hold(c: &Context, m: &DataManifest, notes: &mut Vec<String>) -> Result<String> {
    let dir = &c.global.data_dir;
    let folder = dir.join(&m.folder);
    let own = c.places(dir).list(&m.set).is_some();
    let committed = c.catalogue.list(&m.set);
    if own || committed.is_some_and(|l| l.entries.keys().all(|p| p.below(&folder).exists())) {
        let r = verify(c, &m.set, DataKind::Real, dir, VerifyMode::SinceLock)?;
        return Ok(r.require()?.to_string());
    }
    let bar = c.progress.bytes(&m.set);
    let r = lock_set(c.catalogue, &m.set, c.places(dir), false, &bar.verified())?;
    drop(bar);
    notes.push(format!(
        "no list of this set's files is published: its {} files as they came were hashed and hold from now on ({})",
        r.files,
        r.list.display()
    ));
    Ok(r.root.to_string())
}

/// The faithful protocol, or the corrected one where another copy of the set lies below `root` (APTOS 2019 has two).
///
/// # Errors
/// For an unknown set.
pub fn protocol_of(set: &str, root: &Path) -> Result<Protocol> {
    let source = registry::find(set)?;
    let all_there = |p: &Protocol| source.label_files(p).iter().all(|f| root.join(f).is_file());
    let (faithful, corrected) = (Protocol::faithful(), Protocol::corrected());
    let other_copy = !all_there(&faithful) && all_there(&corrected);
    Ok(if other_copy { corrected } else { faithful })
}

/// Reads the label files below `root`.
///
/// # Errors
/// For an unknown set, and as its reader.
pub fn read_labels_in(c: &Context, set: &str, root: &Path) -> Result<()> {
    let d = registry::find(set)?.load(root, &protocol_of(set, root)?)?;
    c.progress.say(&format!(
        "{set}: {} images; train {}, val {}, test {}",
        d.samples.len(),
        d.train.len(),
        d.val.len(),
        d.test.len()
    ));
    Ok(())
}
