//! A server on 127.0.0.1 that plays hubs, stores and publishers, with every fault they can have. Standard library only.
#![allow(dead_code)] // Each test binary uses its part of it.

use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub method: String,
    /// With query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    /// How many requests with this method and path came before.
    pub nth: usize,
}

impl Ask {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|h| h.0.eq_ignore_ascii_case(name));
        found.map(|h| h.1.as_str())
    }

    /// First byte of `Range: bytes=N-`.
    pub(crate) fn from(&self) -> Option<usize> {
        self.header("range")?
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    }
}

/// What to answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Close the connection after so many bytes of the body.
    pub cut: Option<usize>,
    /// Be silent for a while after so many bytes of the body.
    pub pause: Option<(usize, Duration)>,
    /// Instead of the body's length.
    pub length: Option<u64>,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.into(), value.to_string()));
        self
    }

    /// A file as a well-behaved server sends it: ETag, Range, If-Range.
    pub(crate) fn file(ask: &Ask, bytes: &[u8], etag: &str) -> Self {
        let tag = format!("\"{etag}\"");
        let fresh = ask.header("if-range").is_none_or(|v| v == tag);
        let reply = match ask.from().filter(|_| fresh) {
            Some(from) if from >= bytes.len() => {
                return Self::new(416).with("Content-Range", format!("bytes */{}", bytes.len()));
            }
            Some(from) => Self {
                status: 206,
                body: bytes[from..].to_vec(),
                ..Self::default()
            }
            .with(
                "Content-Range",
                format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()),
            ),
            None => Self {
                status: 200,
                body: bytes.to_vec(),
                ..Self::default()
            },
        };
        reply.with("ETag", tag)
    }

    pub(crate) fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }

    pub(crate) fn pause(mut self, after: usize, millis: u64) -> Self {
        self.pause = Some((after, Duration::from_millis(millis)));
        self
    }
}

pub(crate) struct Server {
    pub address: SocketAddr,
    log: Arc<Mutex<Vec<Ask>>>,
}

impl Server {
    /// Serves until the test's process ends; every connection has a thread and one request.
    pub(crate) fn start(answer: impl Fn(&Ask) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen) = (Arc::new(answer), log.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, seen) = (answer.clone(), seen.clone());
                std::thread::spawn(move || serve(stream, &*answer, &seen));
            }
        });
        Self { address, log }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The same server under another host name.
    pub(crate) fn other_host(&self) -> String {
        format!("http://localhost:{}", self.address.port())
    }

    pub(crate) fn asked(&self) -> Vec<Ask> {
        self.log.lock().unwrap().clone()
    }

    /// Requests for a path, query left out.
    pub(crate) fn asked_for(&self, method: &str, path: &str) -> Vec<Ask> {
        let of = |a: &Ask| a.method == method && a.path.split('?').next() == Some(path);
        self.asked().into_iter().filter(of).collect()
    }
}

fn serve(stream: TcpStream, answer: &dyn Fn(&Ask) -> Reply, seen: &Mutex<Vec<Ask>>) {
    let Some(mut ask) = read(&stream) else { return };
    {
        let mut seen = seen.lock().unwrap();
        ask.nth = seen
            .iter()
            .filter(|a| (&a.method, &a.path) == (&ask.method, &ask.path))
            .count();
        seen.push(ask.clone());
    }
    let reply = answer(&ask);
    // The client may have gone: not the server's affair.
    let _ = send(&stream, &ask, &reply);
}

fn read(stream: &TcpStream) -> Option<Ask> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers = lines.take_while(|l| !l.is_empty()).filter_map(|l| {
        let (name, value) = l.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    });
    Some(Ask {
        method,
        path,
        headers: headers.collect(),
        nth: 0,
    })
}

fn send(mut stream: &TcpStream, ask: &Ask, reply: &Reply) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Test\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !reply.headers.iter().any(|h| h.0.eq_ignore_ascii_case("content-length")) {
        let length = reply.length.unwrap_or(reply.body.len() as u64);
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if ask.method == "HEAD" {
        return Ok(());
    }
    let body = &reply.body[..reply.cut.unwrap_or(usize::MAX).min(reply.body.len())];
    let (before, after) = body.split_at(reply.pause.map_or(0, |p| p.0).min(body.len()));
    stream.write_all(before)?;
    stream.flush()?;
    if let Some((_, time)) = reply.pause {
        std::thread::sleep(time);
    }
    stream.write_all(after)
}

/// SHA-256 in lower-case hex.
pub(crate) fn sha(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
