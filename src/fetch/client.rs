//! One HTTP request: TLS, proxies, redirects, and credentials that stay with the host they belong to.

use super::error::{ErrorKind, FetchError};
use super::roots;
use crate::error::BadInput;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;
use ureq::http::{self, HeaderMap, Method, Uri, header};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body, Proxy};
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

    #[cfg(test)]
    pub(super) fn reveal_for_tests(self) -> String {
        self.value
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential(hidden, for {})", self.origin.ascii_serialization())
    }
}

/// What is asked for.
pub struct Request<'a> {
    pub method: Method,
    pub url: &'a str,
    /// Sent to its own origin only, however often the answer is "elsewhere".
    pub credential: Option<&'a Credential>,
    /// First byte wanted, and the validator (ETag or date) under which a continuation is right.
    pub from: Option<(u64, Option<&'a str>)>,
    pub follow: Follow,
}

/// How far redirects are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// To the file.
    ToTheEnd,
    /// Until an answer has a hub's facts about a file: they stand on the one that redirects to the store. A mirror that
    /// sends on to the hub has none.
    UntilHubFacts,
}

/// The answer after redirects.
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Body,
    /// Who answered, without query or user.
    pub from: String,
}

impl Response {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// Whether a Hugging Face hub says here which file it is.
    pub fn has_hub_facts(&self) -> bool {
        ["x-repo-commit", "x-linked-etag"]
            .iter()
            .any(|h| self.headers.contains_key(*h))
    }
}

/// Something that may pass: why, how long the other side asks to wait, and what to do where it does not pass.
pub struct Transient {
    pub why: String,
    pub wait: Option<Duration>,
    /// `None`: to try again later.
    pub remedy: Option<String>,
}

/// Why there is no response.
pub enum NoResponse {
    /// Worth another attempt.
    Transient(Transient),
    Fatal(FetchError),
}

/// Makes requests. Honours `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`; whom it trusts is in [`roots`].
#[derive(Debug, Clone)]
pub struct Client {
    /// Made for the first request: certificates are read, and complained about, only where the network is needed.
    agent: OnceLock<Agent>,
    proxy: Option<Proxy>,
    /// Hears what a user should know.
    warn: fn(&str),
}

impl Client {
    /// A client with the proxy and the certificates that the environment asks for.
    pub fn from_env(warn: fn(&str)) -> Self {
        Self {
            agent: OnceLock::new(),
            proxy: Proxy::try_from_env(),
            warn,
        }
    }

    fn agent(&self) -> Result<&Agent, BadInput> {
        if let Some(agent) = self.agent.get() {
            return Ok(agent);
        }
        let roots = roots::of_env(&|k| std::env::var_os(k), self.warn)?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(stall()))
            .timeout_per_read(Some(stall()))
            .user_agent(concat!("medft/", env!("CARGO_PKG_VERSION")))
            .proxy(self.proxy.clone())
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        Ok(self.agent.get_or_init(|| config.into()))
    }

    /// The proxy that a request to `url` goes through, without its user and password.
    fn proxy_of(&self, url: &Url) -> Option<String> {
        let proxy = self.proxy.as_ref()?;
        let uri: Uri = url.as_str().parse().ok()?;
        (!proxy.is_no_proxy(&uri)).then(|| format!("{}:{}", proxy.host(), proxy.port()))
    }

    /// Sends a request and follows redirects.
    ///
    /// # Errors
    /// [`NoResponse`]; a response with a status of failure is no error here.
    pub fn send(&self, request: &Request) -> Result<Response, NoResponse> {
        let mut url = parse(request.url).map_err(|e| NoResponse::Fatal(e.into()))?;
        for _ in 0..=MAX_REDIRECTS {
            let response = self.once(request, &url)?;
            let next = match (response.status, response.header("location")) {
                (301 | 302 | 303 | 307 | 308, Some(to)) => url.join(to).ok(),
                _ => None,
            };
            let Some(next) = next else { return Ok(response) };
            if request.follow == Follow::UntilHubFacts && next.origin() != url.origin() && response.has_hub_facts() {
                return Ok(response);
            }
            if !may_follow(&url, &next) {
                return Err(NoResponse::Fatal(FetchError::new(
                    ErrorKind::Input,
                    shown(&url),
                    "a redirect that stays encrypted",
                    format!("one to {}", shown(&next)),
                    "Do not fetch this file from here; get it by hand or name another source.",
                )));
            }
            url = next;
        }
        Err(NoResponse::Fatal(FetchError::new(
            ErrorKind::Unreachable,
            shown(&url),
            format!("at most {MAX_REDIRECTS} redirects"),
            "more",
            "Check the address and any proxy.",
        )))
    }

    fn once(&self, request: &Request, url: &Url) -> Result<Response, NoResponse> {
        // Bytes are counted and hashed as published, so no compression on the way.
        let mut message = http::Request::builder()
            .method(request.method.clone())
            .uri(url.as_str())
            .header(header::ACCEPT_ENCODING, "identity");
        if let Some(c) = request.credential.filter(|c| c.origin == url.origin()) {
            message = message.header(header::AUTHORIZATION, c.value.as_str());
        }
        if let Some((from, validator)) = request.from {
            message = message.header(header::RANGE, format!("bytes={from}-"));
            if let Some(v) = validator {
                message = message.header(header::IF_RANGE, v);
            }
        }
        let at = shown(url);
        let message = message.body(()).map_err(|e| {
            NoResponse::Fatal(FetchError::new(
                ErrorKind::Input,
                &at,
                "a valid request",
                e.to_string(),
                "Check the address.",
            ))
        })?;
        let agent = self.agent().map_err(|e| NoResponse::Fatal(e.into()))?;
        let response = agent.run(message);
        let (parts, body) = response
            .map_err(|e| no_response(&at, self.proxy_of(url).as_deref(), &e))?
            .into_parts();
        if parts.status == 407 {
            return Err(NoResponse::Fatal(wants_password(
                &at,
                self.proxy_of(url).as_deref().unwrap_or("the proxy"),
            )));
        }
        Ok(Response {
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

/// Sorts errors into those worth another attempt and the rest; `proxy` is the one that the request went through.
fn no_response(at: &str, proxy: Option<&str>, e: &ureq::Error) -> NoResponse {
    use ureq::Error as E;
    let by = proxy.map_or_else(String::new, |p| format!(" by the proxy {p}"));
    let unreachable = |expected: &str, found: String, remedy: &str| {
        NoResponse::Fatal(FetchError::new(ErrorKind::Unreachable, at, expected, found, remedy))
    };
    match e {
        // What rustls says of a certificate comes as an I/O error; asking again does not change it.
        E::Io(io) if io.to_string().contains("certificate") => unreachable(
            "a certificate that is trusted",
            format!("{io}{by}"),
            "If a proxy of your organisation answers for this host, add its certificate to the system's store, or name it \
             in SSL_CERT_FILE; else do not use this connection.",
        ),
        E::ConnectProxyFailed(why) if why.contains("407") => {
            NoResponse::Fatal(wants_password(at, proxy.unwrap_or("the proxy")))
        }
        E::ConnectProxyFailed(why) if why.contains(" 403") => unreachable(
            "a way through the proxy",
            format!("{why}{by}"),
            "The proxy does not let this host through: ask its administrator, or get the file by hand.",
        ),
        E::Io(_)
        | E::Timeout(_)
        | E::HostNotFound
        | E::ConnectionFailed
        | E::Protocol(_)
        | E::ConnectProxyFailed(_) => NoResponse::Transient(Transient {
            why: format!("{at}{by}: {e}"),
            wait: None,
            remedy: proxy.map(|p| {
                format!(
                    "Check the proxy {p} (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY; hosts in NO_PROXY are reached without it), \
                     then run the same command again; what was downloaded is kept and continued."
                )
            }),
        }),
        _ => unreachable(
            "an answer",
            format!("{e}{by}"),
            "Check the address, the proxy (HTTPS_PROXY) and the certificates (SSL_CERT_FILE).",
        ),
    }
}

/// The complaint about a proxy that asks who one is.
fn wants_password(at: &str, proxy: &str) -> FetchError {
    FetchError::new(
        ErrorKind::Refused,
        at,
        format!("a way through the proxy {proxy}"),
        "a demand for user and password (407)",
        "Set HTTPS_PROXY to http://USER:PASSWORD@HOST:PORT, special characters in percent form.",
    )
}

/// Reads an address.
///
/// # Errors
/// [`BadInput`] for anything but http and https.
pub(crate) fn parse(url: &str) -> Result<Url, BadInput> {
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
pub(crate) fn shown(url: &Url) -> String {
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
