//! Gets the file of a weights pin to where [`find`](super::weights::find) looks for it.
//!
//! A pin with a repository goes into the Hugging Face cache, any other to `<weights-dir>/<folder>/<file>`. What a file
//! must be is decided by the same judge as in [`verify_weights`](super::verify_weights), on the hashes taken while it
//! streams and before it is published: a wrong one never gets its name, and where nobody publishes a hash the first one
//! seen goes to `weights.lock`.

use super::hash::Sha;
use super::pin::WeightsManifest;
use super::places::{Check, Places};
use super::verifier::{Verdict, Verifier};
use crate::error::BadInput;
use crate::fetch::{self, Client, Digests, Done, DownloadSource, ErrorKind, FetchError, Hub, HubFile, OnEvent, Wanted};
use std::path::PathBuf;

/// A weight file that is now where it is looked for.
#[derive(Debug, Clone)]
pub struct Obtained {
    pub path: PathBuf,
    pub sha256: Sha,
    /// What to tell the user where the file is not proven to be the published one.
    pub note: Option<String>,
    /// `None` where its bytes were in the cache already.
    pub download: Option<Done>,
    /// What could not be written down.
    pub warnings: Vec<String>,
}

/// Gets the file of a pin.
///
/// # Errors
/// [`FetchError`]; nothing is published unless every check passed.
pub fn obtain_weights(
    pin: &WeightsManifest,
    places: &Places,
    client: &Client,
    hub: &Hub,
    on: OnEvent,
) -> Result<Obtained, FetchError> {
    if let Some(variable) = hub.offline() {
        return Err(FetchError::new(
            ErrorKind::Offline,
            &pin.name,
            "permission to use the network",
            format!("{variable} set"),
            format!(
                "Unset {variable}, or bring the file by hand: {}",
                pin.by_hand(&places.weights_dir)
            ),
        ));
    }
    let mut verifier = Verifier::new(places, Check::Full).map_err(|e| unusable_lock(places, &e))?;
    let mut verdict = None;
    let mut hold = |d: &Digests| -> Result<(), BadInput> {
        match verifier.hold(pin, d.bytes, Sha(d.sha256), Some(&d.md5)) {
            Verdict::Published(sha) => verdict = Some((sha, None)),
            Verdict::TrustOnFirstUse(sha, why) => verdict = Some((sha, Some(why))),
            Verdict::Wrong { expected, found } => {
                let remedy = "Nothing was published. The publisher may have replaced the file, or something on the way \
                              changes it: do not use it.";
                return Err(BadInput::new(
                    format!("{} of pin {}", pin.file, pin.name),
                    expected,
                    found,
                    remedy,
                ));
            }
            Verdict::NotRead => {}
        }
        Ok(())
    };
    let (path, download) = match (&pin.repo, &pin.url) {
        (Some(repo), _) => {
            let file = HubFile {
                repo,
                revision: pin.hub_revision(),
                file: &pin.file,
                size: pin.size,
                sha256: pin.sha256.as_deref(),
                md5: pin.md5.as_deref(),
                magic: pin.format.magic(),
            };
            hub.fetch(client, &file, &mut hold, on)?
        }
        (None, Some(url)) => plain(pin, url, places, client, &mut hold, on)?,
        (None, None) => {
            let remedy = pin.how_to_get(&places.weights_dir);
            let found = pin.url_unknown.clone().unwrap_or_else(|| "none".into());
            return Err(FetchError::new(
                ErrorKind::Input,
                &pin.name,
                "an address",
                found,
                remedy,
            ));
        }
    };
    let mut warnings = Vec::new();
    let (sha256, note) = match verdict {
        Some(v) => v,
        // It was here already, or another process finished it while this one waited.
        None => match verifier
            .verify(pin, &path, &super::hash::quiet)
            .map_err(|e| unusable_lock(places, &e))?
        {
            Verdict::Published(sha) => (sha, None),
            Verdict::TrustOnFirstUse(sha, why) => (sha, Some(why)),
            Verdict::Wrong { expected, found } => {
                let remedy = "Delete the file and fetch it again.";
                return Err(FetchError::new(
                    ErrorKind::WrongBytes,
                    path.display(),
                    expected,
                    found,
                    remedy,
                ));
            }
            Verdict::NotRead => unreachable!("a full check reads"),
        },
    };
    verifier.keep(&mut warnings);
    Ok(Obtained {
        path,
        sha256,
        note,
        download,
        warnings,
    })
}

/// A file that no hub has.
fn plain(
    pin: &WeightsManifest,
    url: &str,
    places: &Places,
    client: &Client,
    hold: &mut dyn FnMut(&Digests) -> Result<(), BadInput>,
    on: OnEvent,
) -> Result<(PathBuf, Option<Done>), FetchError> {
    let dir = places.weights_dir.join(pin.folder());
    let dest = dir.join(&pin.file);
    if dest.is_file() {
        return Ok((dest, None));
    }
    let elsewhere = format!(
        "See `medft weights list` for other published files of {} and take one with --pin.",
        pin.backbone
    );
    let mut wanted = Wanted {
        name: &pin.file,
        places: &[DownloadSource {
            url: url.to_owned(),
            credential: None,
        }],
        size: pin.size,
        sha256: pin.sha256.as_deref(),
        md5: pin.md5.as_deref(),
        part: &dir.join(format!(".{}.part", pin.file)),
        dest: &dest,
        magic: pin.format.magic(),
        if_refused: &elsewhere,
        if_gone: &elsewhere,
        accept: hold,
    };
    let done = fetch::download(client, &mut wanted, on)?;
    Ok((dest, Some(done)))
}

fn unusable_lock(places: &Places, e: &anyhow::Error) -> FetchError {
    match e.downcast_ref::<BadInput>() {
        Some(bad) => bad.clone().into(),
        None => FetchError::new(
            ErrorKind::Disk,
            places.weights_dir.display(),
            "to read what is here",
            format!("{e:#}"),
            "Make the folder readable.",
        ),
    }
}
