//! One HTTP request: TLS, proxies, redirects, and credentials that stay with the host they belong to.

use super::error::{FetchError, Why};
use crate::error::BadInput;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{HeaderMap, Method, Request, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};
use url::Url;

/// Redirects followed for one request.
const MAX_REDIRECTS: usize = 10;

/// The value of an `Authorization` header and the one origin that may see it. Never displayed.
#[derive(Clone)]
pub struct Credential {
    value: String,
    origin: url::Origin,
}

impl Credential {
    /// For the origin (scheme, host and port) of `endpoint`.
    ///
    /// # Errors
    /// [`BadInput`] for an endpoint that is no address, or a value that fits in no header; the value is not shown.
    pub fn new(value: String, endpoint: &str) -> Result<Self, BadInput> {
        if !value.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            return Err(BadInput::new(
                "the credential",
                "printable ASCII characters",
                "others (not shown)",
                "Set it again without line breaks or quotes.",
            ));
        }
        Ok(Self {
            value,
            origin: parse(endpoint)?.origin(),
        })
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential(hidden, for {})", self.origin.ascii_serialization())
    }
}

/// What is asked for.
pub struct Ask<'a> {
    pub method: Method,
    pub url: &'a str,
    /// Sent to its own origin only, however often the answer is "elsewhere".
    pub credential: Option<&'a Credential>,
    /// First byte wanted, and the validator (ETag or date) under which a continuation is right.
    pub from: Option<(u64, Option<&'a str>)>,
    /// Whether to go to another origin when told so. A hub's facts about a file stand on the answer that redirects.
    pub elsewhere: bool,
}

/// The answer after redirects.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Body,
    /// Who answered, without query or user.
    pub from: String,
}

impl Answer {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }
}

/// Why there is no answer.
pub enum NoAnswer {
    /// Worth another attempt.
    Cut(String),
    Fatal(FetchError),
}

/// Makes requests. Honours `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`; trusts Mozilla's roots, or those of
/// `SSL_CERT_FILE` where it is set.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
}

impl Client {
    /// A client with the roots that the environment asks for.
    ///
    /// # Errors
    /// [`BadInput`] when `SSL_CERT_FILE` names no file of certificates.
    pub fn from_env() -> Result<Self, BadInput> {
        let roots = match std::env::var_os("SSL_CERT_FILE").filter(|v| !v.is_empty()) {
            None => RootCerts::WebPki,
            Some(path) => roots_of(std::path::Path::new(&path))?,
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(stall()))
            .timeout_per_read(Some(stall()))
            .user_agent(concat!("medft/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        Ok(Self { agent: config.into() })
    }

    /// Asks, and follows redirects.
    ///
    /// # Errors
    /// [`NoAnswer`]; an answer with a status of failure is no error here.
    pub fn ask(&self, ask: &Ask) -> Result<Answer, NoAnswer> {
        let mut url = parse(ask.url).map_err(|e| NoAnswer::Fatal(e.into()))?;
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.once(ask, &url)?;
            let next = match (answer.status, answer.header("location")) {
                (301 | 302 | 303 | 307 | 308, Some(to)) => url.join(to).ok(),
                _ => None,
            };
            let Some(next) = next else { return Ok(answer) };
            if !ask.elsewhere && next.origin() != url.origin() {
                return Ok(answer);
            }
            if !may_follow(&url, &next) {
                return Err(NoAnswer::Fatal(FetchError::new(
                    Why::Input,
                    shown(&url),
                    "a redirect that stays encrypted",
                    format!("one to {}", shown(&next)),
                    "Do not fetch this file from here; get it by hand or name another source.",
                )));
            }
            url = next;
        }
        Err(NoAnswer::Fatal(FetchError::new(
            Why::Unreachable,
            shown(&url),
            format!("at most {MAX_REDIRECTS} redirects"),
            "more",
            "Check the address and any proxy.",
        )))
    }

    fn once(&self, ask: &Ask, url: &Url) -> Result<Answer, NoAnswer> {
        // Bytes are counted and hashed as published, so no compression on the way.
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(url.as_str())
            .header(header::ACCEPT_ENCODING, "identity");
        if let Some(c) = ask.credential.filter(|c| c.origin == url.origin()) {
            request = request.header(header::AUTHORIZATION, c.value.as_str());
        }
        if let Some((from, validator)) = ask.from {
            request = request.header(header::RANGE, format!("bytes={from}-"));
            if let Some(v) = validator {
                request = request.header(header::IF_RANGE, v);
            }
        }
        let at = shown(url);
        let request = request.body(()).map_err(|e| {
            NoAnswer::Fatal(FetchError::new(
                Why::Input,
                &at,
                "a valid request",
                e.to_string(),
                "Check the address.",
            ))
        })?;
        let (parts, body) = self.agent.run(request).map_err(|e| no_answer(&at, &e))?.into_parts();
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
            from: at,
        })
    }
}

/// Whether a redirect may be followed: to http or https, and never from https to http.
fn may_follow(from: &Url, to: &Url) -> bool {
    match to.scheme() {
        "https" => true,
        "http" => from.scheme() == "http",
        _ => false,
    }
}

/// How long a server may be silent before the connection counts as cut.
fn stall() -> Duration {
    Duration::from_millis(tuned("MEDFT_HTTP_STALL_MS", 60_000))
}

/// A time in milliseconds that tests shorten; not meant for users.
pub(super) fn tuned(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn roots_of(path: &std::path::Path) -> Result<RootCerts, BadInput> {
    let bad = |found: String| {
        BadInput::new(
            format!("SSL_CERT_FILE={}", path.display()),
            "a file of PEM certificates",
            found,
            "Name the file of your system's or company's certificates, or unset SSL_CERT_FILE.",
        )
    };
    let pem = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(c) = item.map_err(|e| bad(e.to_string()))? {
            certificates.push(c);
        }
    }
    if certificates.is_empty() {
        return Err(bad("no certificate".into()));
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

/// Sorts errors into those worth another attempt and the rest.
fn no_answer(at: &str, e: &ureq::Error) -> NoAnswer {
    use ureq::Error as E;
    match e {
        // What rustls says of a certificate comes as an I/O error; asking again does not change it.
        E::Io(io) if io.to_string().contains("certificate") => {
            let remedy = "If a proxy of your organisation answers for this host, name its certificates in SSL_CERT_FILE; \
                          else do not use this connection.";
            NoAnswer::Fatal(FetchError::new(
                Why::Unreachable,
                at,
                "a certificate that is trusted",
                io.to_string(),
                remedy,
            ))
        }
        E::Io(_)
        | E::Timeout(_)
        | E::HostNotFound
        | E::ConnectionFailed
        | E::Protocol(_)
        | E::ConnectProxyFailed(_) => NoAnswer::Cut(format!("{at}: {e}")),
        _ => {
            let remedy = "Check the address, the proxy (HTTPS_PROXY) and the certificates (SSL_CERT_FILE).";
            NoAnswer::Fatal(FetchError::new(
                Why::Unreachable,
                at,
                "an answer",
                e.to_string(),
                remedy,
            ))
        }
    }
}

/// Reads an address.
///
/// # Errors
/// [`BadInput`] for anything but http and https.
pub fn parse(url: &str) -> Result<Url, BadInput> {
    let bad = |found: String| {
        BadInput::new(
            "the address of a file",
            "http://… or https://…",
            found,
            "Correct the manifest or the endpoint variable.",
        )
    };
    // A broken address may hold a credential: only its cause is shown.
    let parsed = Url::parse(url).map_err(|e| bad(e.to_string()))?;
    match parsed.scheme() {
        "http" | "https" if parsed.has_host() => Ok(parsed),
        s => Err(bad(format!("{s}:…"))),
    }
}

/// An address for people: without user, password, query and fragment, which may hold signatures and tokens.
pub fn shown(url: &Url) -> String {
    let mut u = url.clone();
    let _ = u.set_username("");
    let _ = u.set_password(None);
    u.set_query(None);
    u.set_fragment(None);
    u.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_never_gives_up_encryption() {
        let follow = |from: &str, to: &str| may_follow(&Url::parse(from).unwrap(), &Url::parse(to).unwrap());
        assert!(follow("https://a.org/x", "https://b.org/y"));
        assert!(follow("http://a.org/x", "https://a.org/x"));
        assert!(follow("http://a.org/x", "http://a.org/y"));
        assert!(!follow("https://a.org/x", "http://a.org/x"));
        assert!(!follow("https://a.org:8443/x", "http://b.org/x"));
        for to in ["ftp://a.org/x", "file:///etc/passwd", "data:,x"] {
            assert!(!follow("https://a.org/x", to) && !follow("http://a.org/x", to), "{to}");
        }
        // An address without a scheme keeps that of the page that names it.
        let from = Url::parse("https://a.org/x").unwrap();
        assert!(may_follow(&from, &from.join("//b.org/y").unwrap()));
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        let u = parse("https://me:pw@host.org:8443/a/b.zip?X-Amz-Signature=abc#f").unwrap();
        assert_eq!(shown(&u), "https://host.org:8443/a/b.zip");
        let c = Credential::new("Bearer hf_secret".into(), "https://host.org").unwrap();
        assert_eq!(format!("{c:?}"), "Credential(hidden, for https://host.org)");
        let e = Credential::new("Bearer hf_secret\n".into(), "https://host.org").unwrap_err();
        assert!(!e.to_string().contains("hf_secret"));
        let e = parse("ftp://user:hf_secret@x/").unwrap_err();
        assert!(!e.to_string().contains("hf_secret"));
    }
}
