//! One file over HTTP, whatever happens on the way: continued after a cut, hashed while it streams, published whole.
//!
//! An attempt that got bytes counts as progress; only attempts in a row without any are limited. 429 and 5xx are waited
//! for as the server asks. Bytes that do not fit what is known of the file are deleted, never published; where they were
//! (partly) inherited from an earlier process or another source, one download from the first byte is tried before that.

use super::client::{Client, Credential, Follow, NoResponse, Request, Response, Transient};
use super::error::{ErrorKind, FetchError};
use super::part::{Digests, Origin, Part};
use super::progress::{Event, OnEvent};
use super::response::{content_range, passing, pause, refusal};
use super::room::room_for;
use crate::error::BadInput;
use std::io::Read;
use std::path::Path;
use std::time::Instant;
use ureq::http::Method;

/// Attempts in a row that bring no byte.
const ATTEMPTS: u32 = 6;

/// An address and what to show there.
#[derive(Debug, Clone)]
pub struct DownloadSource {
    pub url: String,
    pub credential: Option<Credential>,
}

/// What to get, and everything known of it beforehand.
pub struct Wanted<'a> {
    /// For messages.
    pub name: &'a str,
    /// Tried in order: the publisher's, then mirrors.
    pub places: &'a [DownloadSource],
    pub size: Option<u64>,
    /// Lower-case hex.
    pub sha256: Option<&'a str>,
    pub md5: Option<&'a str>,
    /// The unfinished file, on the disk of `dest`.
    pub part: &'a Path,
    pub dest: &'a Path,
    /// The first bytes of such a file, any of them; a page for people in its place is refused at once.
    pub magic: &'static [&'static [u8]],
    /// What to do about 401 and 403, and about 404.
    pub if_refused: &'a str,
    pub if_gone: &'a str,
    /// The last check before publication, on the digests of the whole file.
    pub accept: &'a mut dyn FnMut(&Digests) -> Result<(), BadInput>,
}

/// A published file.
#[derive(Debug, Clone)]
pub struct Done {
    /// `None` where another process published it meanwhile.
    pub digests: Option<Digests>,
    /// Bytes that an earlier process had left.
    pub resumed_from: u64,
    /// Bytes that came over the network now.
    pub received: u64,
    pub seconds: f64,
    /// Who sent it, without query.
    pub from: String,
}

/// Gets one file.
///
/// # Errors
/// [`FetchError`]; the unfinished file is kept unless its bytes are wrong.
pub fn download(client: &Client, w: &mut Wanted, on: OnEvent) -> Result<Done, FetchError> {
    let start = Instant::now();
    let wait = || {
        on(Event::Note(format!(
            "another process is fetching {}; waiting for it",
            w.name
        )))
    };
    let read = |bytes| {
        on(Event::At {
            bytes,
            of: w.size,
            before: true,
        })
    };
    let Some(mut part) = Part::open(w.part, w.dest, &wait, &read)? else {
        return Ok(Done {
            digests: None,
            resumed_from: 0,
            received: 0,
            seconds: start.elapsed().as_secs_f64(),
            from: String::new(),
        });
    };
    let mut run = Run {
        client,
        on,
        inherited: part.len,
        resumed_from: part.len,
        received: 0,
        from: String::new(),
    };
    // Without a hash to decide in the end, bytes of an earlier process are only as good as the server's validator.
    let certain = w.sha256.is_some() || w.md5.is_some();
    if part.len > 0 && !certain && part.origin.as_ref().is_none_or(|o| o.validator.is_none()) {
        on(Event::Note(format!(
            "{}: the earlier download cannot be checked and starts anew",
            w.name
        )));
        run.forget(&mut part)?;
    }
    loop {
        run.all_places(w, &mut part)?;
        let digests = part.digests();
        match check(w, &digests) {
            Ok(()) => {
                part.publish(w.dest)?;
                return Ok(Done {
                    digests: Some(digests),
                    resumed_from: run.resumed_from,
                    received: run.received,
                    seconds: start.elapsed().as_secs_f64(),
                    from: run.from,
                });
            }
            Err(e) if run.inherited > 0 => {
                on(Event::Note(format!(
                    "{}: what an earlier download had left does not fit ({}); starting anew",
                    w.name, e.bad.found
                )));
                run.forget(&mut part)?;
            }
            Err(e) => {
                part.discard();
                return Err(e);
            }
        }
    }
}

/// Holds a whole file against everything known of it.
fn check(w: &mut Wanted, d: &Digests) -> Result<(), FetchError> {
    let wrong = |expected: String, found: String| {
        let remedy = "Nothing was kept. Try again later; if it repeats, the published file changed or something on the \
                      way changes it: do not use it.";
        Err(FetchError::new(ErrorKind::WrongBytes, w.name, expected, found, remedy))
    };
    if let Some(size) = w.size.filter(|s| *s != d.bytes) {
        return wrong(format!("{size} bytes"), format!("{} bytes", d.bytes));
    }
    if d.bytes == 0 && w.size.is_none() {
        return wrong("the file".into(), "an empty one".into());
    }
    let sha256 = crate::fsio::hex(&d.sha256);
    if let Some(want) = w.sha256.filter(|s| *s != sha256) {
        return wrong(format!("sha256 {want}"), format!("sha256 {sha256}"));
    }
    if let Some(want) = w.md5.filter(|m| *m != d.md5) {
        return wrong(format!("md5 {want}"), format!("md5 {}", d.md5));
    }
    (w.accept)(d).map_err(|bad| FetchError {
        kind: ErrorKind::WrongBytes,
        bad,
    })
}

/// Something to try again after the usual time.
fn again(why: String) -> Attempt {
    Attempt::Again(Transient {
        why,
        wait: None,
        remedy: None,
    })
}

/// How an attempt ended.
enum Attempt {
    Whole,
    Again(Transient),
    Failed(FetchError),
}

struct Run<'a> {
    client: &'a Client,
    on: OnEvent<'a>,
    /// Bytes in the part that this process did not get from the place it now asks.
    inherited: u64,
    resumed_from: u64,
    received: u64,
    from: String,
}

impl Run<'_> {
    fn forget(&mut self, part: &mut Part) -> Result<(), FetchError> {
        (self.inherited, self.resumed_from) = (0, 0);
        part.restart()
    }

    /// Brings the part to its full length from the first place that can.
    fn all_places(&mut self, w: &Wanted, part: &mut Part) -> Result<(), FetchError> {
        let mut first = None;
        for (i, place) in w.places.iter().enumerate() {
            if i > 0 {
                if part.len > 0 && w.sha256.is_none() && w.md5.is_none() {
                    self.forget(part)?;
                }
                self.inherited = part.len;
                (self.on)(Event::Note(format!("{}: trying the next mirror", w.name)));
            }
            match self.place(w, part, place) {
                Ok(()) => return Ok(()),
                // Another address does not help a full disk.
                Err(e) if matches!(e.kind, ErrorKind::NoSpace | ErrorKind::Disk) => return Err(e),
                Err(e) => {
                    if i + 1 < w.places.len() {
                        (self.on)(Event::Note(e.to_string()));
                    }
                    first.get_or_insert(e);
                }
            }
        }
        Err(first.unwrap_or_else(|| {
            FetchError::new(
                ErrorKind::Input,
                w.name,
                "an address",
                "none",
                "Get the file by hand from the page of its publisher.",
            )
        }))
    }

    fn place(&mut self, w: &Wanted, part: &mut Part, place: &DownloadSource) -> Result<(), FetchError> {
        // Measured against the furthest point so far: a server that always starts over and always breaks off is no progress.
        let (mut failed_attempts, mut furthest) = (0, part.len);
        loop {
            let attempt = self.attempt(w, part, place);
            part.settle();
            let mut again = match attempt {
                Attempt::Whole => return Ok(()),
                Attempt::Failed(e) => return Err(e),
                Attempt::Again(t) => t,
            };
            failed_attempts = if part.len > furthest { 1 } else { failed_attempts + 1 };
            furthest = furthest.max(part.len);
            if part.len > 0 {
                again.why = format!("{}; {} are here", again.why, indicatif::HumanBytes(part.len));
            }
            pause(w.name, &again, failed_attempts, ATTEMPTS, self.on)?;
        }
    }

    fn attempt(&mut self, w: &Wanted, part: &mut Part, place: &DownloadSource) -> Attempt {
        match w.size {
            Some(size) if part.len == size => return Attempt::Whole,
            Some(size) if part.len > size => {
                if let Err(e) = self.forget(part) {
                    return Attempt::Failed(e);
                }
            }
            _ => {}
        }
        let validator = part.origin.as_ref().and_then(|o| o.validator.clone());
        // A validator speaks for one address; elsewhere the hash decides.
        let here = super::client::parse(&place.url).map_or_else(|_| String::new(), |u| super::client::shown(&u));
        let validator = validator.filter(|_| part.origin.as_ref().is_some_and(|o| o.url == here));
        let request = Request {
            method: Method::GET,
            url: &place.url,
            credential: place.credential.as_ref(),
            from: (part.len > 0).then_some((part.len, validator.as_deref())),
            follow: Follow::ToTheEnd,
        };
        match self.client.send(&request) {
            Err(NoResponse::Fatal(e)) => Attempt::Failed(e),
            Err(NoResponse::Transient(t)) => Attempt::Again(t),
            Ok(response) => self.receive(w, part, response, here).unwrap_or_else(Attempt::Failed),
        }
    }

    fn receive(
        &mut self,
        w: &Wanted,
        part: &mut Part,
        response: Response,
        asked: String,
    ) -> Result<Attempt, FetchError> {
        let total = match response.status {
            200 => {
                if part.len > 0 {
                    (self.on)(Event::Note(format!(
                        "{}: the server sends the whole file again; starting anew",
                        w.name
                    )));
                    self.forget(part)?;
                }
                response.header("content-length").and_then(|v| v.trim().parse().ok())
            }
            206 => match response.header("content-range").and_then(content_range) {
                Some((from, total)) if from == part.len => total,
                _ => {
                    self.forget(part)?;
                    return Ok(again("an answer with another part of the file".into()));
                }
            },
            416 => {
                let total = response
                    .header("content-range")
                    .and_then(|v| v.strip_prefix("bytes */")?.parse().ok());
                if total == Some(part.len) {
                    return Ok(Attempt::Whole);
                }
                self.forget(part)?;
                return Ok(again("no such part of the file (416)".into()));
            }
            _ => {
                return match passing(&response) {
                    Some(t) => Ok(Attempt::Again(t)),
                    None => Err(refusal(w.name, &response, w.if_refused, w.if_gone)),
                };
            }
        };
        if let (Some(size), Some(total)) = (w.size, total)
            && size != total
        {
            return Err(FetchError::new(
                ErrorKind::WrongBytes,
                w.name,
                format!("{size} bytes"),
                format!("{total} bytes offered by {}", response.from),
                "Nothing was kept: it is not the pinned file. The publisher may have replaced it.",
            ));
        }
        self.from = response.from.clone();
        part.begin(Origin {
            url: asked,
            validator: validator(&response),
        })?;
        self.stream(w, part, response, total)
    }

    fn stream(
        &mut self,
        w: &Wanted,
        part: &mut Part,
        response: Response,
        total: Option<u64>,
    ) -> Result<Attempt, FetchError> {
        let total = total.or(w.size);
        room_for(w.part, total.map(|t| t.saturating_sub(part.len)))?;
        let from = response.from;
        let mut body = response.body.into_reader();
        let mut piece = vec![0; 256 << 10];
        let tell = |bytes| {
            (self.on)(Event::At {
                bytes,
                of: total,
                before: false,
            })
        };
        tell(part.len);
        loop {
            let n = match body.read(&mut piece) {
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Ok(again(format!("{from}: {e}"))),
            };
            if n == 0 {
                break;
            }
            if part.len == 0 && !looks_right(&piece[..n], w.magic) {
                return Err(FetchError::new(
                    ErrorKind::WrongBytes,
                    w.name,
                    "the file itself",
                    format!("something else, perhaps a page for people, from {from}"),
                    "Nothing was kept. Get the file by hand from the page of its publisher.",
                ));
            }
            let left = total.map(|t| t.saturating_sub(part.len));
            part.append(&piece[..n], left)?;
            self.received += n as u64;
            tell(part.len);
            if total.is_some_and(|t| part.len > t) {
                break;
            }
        }
        Ok(match total {
            Some(t) if part.len < t => again(format!("{from}: the connection ended {} bytes early", t - part.len)),
            _ => Attempt::Whole,
        })
    }
}

/// Whether a file may begin so; a first piece shorter than the mark may still become one.
fn looks_right(first: &[u8], magic: &[&[u8]]) -> bool {
    magic.is_empty() || magic.iter().any(|m| first.starts_with(m) || m.starts_with(first))
}

/// The validator for `If-Range`: a strong ETag, else the date.
fn validator(response: &Response) -> Option<String> {
    let strong = response.header("etag").filter(|e| e.starts_with('"'));
    strong.or_else(|| response.header("last-modified")).map(str::to_owned)
}
