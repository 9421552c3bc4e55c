//! `medft weights fetch` against a server on 127.0.0.1 that plays the Hugging Face hub and a plain publisher, with every
//! fault they can have. The files are a few kB; that they are no weights does not matter: they are judged by hash.

use crate::place::{Place, Said};
use crate::server::{Ask, Reply, Server, sha};
use assert_cmd::Command;
use std::fs;
use std::path::{Path, PathBuf};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_thisisasecret";

/// Bytes that do not repeat, so that a wrong offset shows.
fn bytes(n: usize) -> Vec<u8> {
    let mut x = 12345u32;
    let next = |_| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 24) as u8
    };
    (0..n).map(next).collect()
}

impl Place {
    /// A user's machine: a home, a cache, a weights folder and manifests of its own.
    fn toy() -> Self {
        let p = Self::new().set("MEDFT_HTTP_BACKOFF_MS", "20");
        fs::create_dir_all(p.path("manifests/weights")).unwrap();
        let (hub, manifests) = (p.path("hub"), p.path("manifests"));
        p.set("HF_HUB_CACHE", hub).set("MEDFT_MIRROR", manifests)
    }

    fn run(&self, mut c: Command) -> Said {
        Said::by(&mut c)
    }

    fn fetch(&self, server: &Server, args: &[&str]) -> Said {
        let mut all = vec!["weights", "fetch", "dinov2-b"];
        all.extend(args);
        let mut c = self.command(&all);
        c.env("HF_ENDPOINT", server.url());
        self.run(c)
    }

    fn verify(&self) -> Said {
        self.run(self.command(&["weights", "verify", "dinov2-b"]))
    }

    /// A pin `toy` of backbone dinov2-b.
    fn pin(&self, facts: &str) {
        let sources = "[source]\nlayout = \"t\"\nsize = \"t\"\nsha256 = \"t\"\nmd5 = \"t\"\nrevision = \"t\"\n";
        let text = format!(
            "schema = 1\nname = \"toy\"\nbackbone = \"dinov2-b\"\nrank = 1\nfile = \"toy.bin\"\nformat = \"safetensors\"\n\
             layout = \"hub\"\nlicence = \"toy licence\"\nconfidence = \"high\"\n{facts}\n{sources}"
        );
        fs::write(self.path("manifests/weights/toy.toml"), text).unwrap();
    }

    fn hub_pin(&self, content: &[u8]) {
        self.pin(&format!(
            "repo = \"org/toy\"\nrevision = \"{COMMIT}\"\nurl = \"unused\"\nsize = {}\nsha256 = \"{}\"",
            content.len(),
            sha(content)
        ));
    }

    fn plain_pin(&self, server: &Server, content: &[u8]) {
        self.pin(&format!(
            "url = \"{}/toy.bin\"\nsize = {}\nsha256 = \"{}\"",
            server.url(),
            content.len(),
            sha(content)
        ));
    }

    fn dest(&self) -> PathBuf {
        self.path("weights/toy/toy.bin")
    }

    fn part(&self) -> PathBuf {
        self.path("weights/toy/.toy.bin.part")
    }

    fn blob(&self, content: &[u8]) -> PathBuf {
        self.path("hub/models--org--toy/blobs").join(sha(content))
    }
}

/// The hub's answer about a file, which sends the reader to a store on another host.
fn hub_redirect(store: &str, content: &[u8]) -> Reply {
    Reply::new(302)
        .with("X-Repo-Commit", COMMIT)
        .with("X-Linked-Etag", format!("\"{}\"", sha(content)))
        .with("X-Linked-Size", content.len())
        .with("Location", format!("{store}/store/toy.bin?X-Amz-Signature=sosecret"))
}

/// A hub whose store is the same server under another name; `store` answers for the store.
fn hub(content: Vec<u8>, store: impl Fn(&Ask, &[u8]) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |ask| {
        if ask.path.starts_with("/store/") {
            return store(ask, &content);
        }
        let port = ask
            .header("host")
            .and_then(|h| h.rsplit_once(':'))
            .map_or("80", |h| h.1);
        match ask.path.split("/resolve/").next() {
            Some("/org/toy") => hub_redirect(&format!("http://localhost:{port}"), &content),
            _ => Reply::new(404),
        }
    })
}

/// A publisher of one file.
fn publisher(answer: impl Fn(&Ask) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |ask| match ask.path.as_str() {
        "/toy.bin" => answer(ask),
        _ => Reply::new(404),
    })
}

fn nothing_left(p: &Place) {
    let left: Vec<_> = walk(&p.path("weights"))
        .into_iter()
        .chain(walk(&p.path("hub")))
        .collect();
    let left: Vec<_> = left.iter().filter(|f| !f.ends_with(".lock")).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn walk(dir: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for e in fs::read_dir(dir).into_iter().flatten().flatten() {
        let p = e.path();
        if p.is_dir() {
            out.extend(walk(&p));
        } else {
            out.push(p.display().to_string());
        }
    }
    out
}

/// The corrected MHA head starts from random weights: 343 MB of DeiT-B were fetched that no run of the study read.
#[test]
fn a_study_fetches_what_its_runs_read() {
    let content = bytes(1000);
    let server = hub(content.clone(), |ask, b| Reply::file(ask, b, "e"));
    let p = Place::toy();
    p.hub_pin(&content);
    let study = "title = \"t\"\npreset = \"corrected\"\ndatasets = [\"ddsm\"]\nbackbones = [\"dinov2-b\"]\nfreeze = [\"frozen\"]\n\
                 heads = [\"mha\"]\nseeds = [0]\n";
    fs::write(p.path("mha.toml"), study).unwrap();
    let path = p.path("mha.toml");
    let mut c = p.command(&["weights", "fetch", "--study", path.to_str().unwrap(), "--json"]);
    c.env("HF_ENDPOINT", server.url());
    let a = p.run(c);
    assert_eq!(a.code, 0, "{}", a.all());
    let all = a.json();
    let fetched: Vec<&str> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["backbone"].as_str().unwrap())
        .collect();
    assert_eq!(fetched, ["dinov2-b"]);
}

#[test]
fn a_file_of_the_hub_lands_in_its_cache_and_the_token_stays_with_the_hub() {
    let content = bytes(100_000);
    let server = hub(content.clone(), |ask, b| Reply::file(ask, b, "e"));
    let p = Place::toy();
    p.hub_pin(&content);
    let mut c = p.command(&["weights", "fetch", "dinov2-b", "--json"]);
    c.env("HF_ENDPOINT", server.url()).env("HF_TOKEN", TOKEN);
    let a = p.run(c);
    assert_eq!(a.code, 0, "{}", a.all());
    let line = &a.json()[0];
    assert_eq!(line["state"], "fetched");
    assert_eq!(line["sha256"], sha(&content));
    assert_eq!((&line["received"], &line["resumed_from"]), (&100_000.into(), &0.into()));
    assert_eq!(fs::read(p.blob(&content)).unwrap(), content);
    let pointer = p.path("hub/models--org--toy/snapshots").join(COMMIT).join("toy.bin");
    let to = fs::read_link(&pointer).unwrap();
    assert_eq!(
        to,
        Path::new("../../blobs").join(sha(&content)),
        "relative, as Python links"
    );
    assert_eq!(fs::read(&pointer).unwrap(), content);
    assert!(!p.path("hub/models--org--toy/refs").exists(), "a commit needs no name");
    // The token went to the hub with every request, and never to the store.
    let at_hub: Vec<_> = server
        .asked()
        .into_iter()
        .filter(|a| a.path.starts_with("/org/"))
        .collect();
    assert!(
        at_hub.len() >= 2
            && at_hub
                .iter()
                .all(|a| a.header("authorization") == Some(&format!("Bearer {TOKEN}")))
    );
    let at_store = server.asked_for("GET", "/store/toy.bin");
    assert!(!at_store.is_empty() && at_store.iter().all(|a| a.header("authorization").is_none()));
    assert!(at_store[0].header("host").unwrap().starts_with("localhost:"));
    assert!(!a.all().contains(TOKEN) && !a.all().contains("sosecret"), "{}", a.all());
    assert_eq!(p.verify().code, 0);
    // What is here is not asked for again.
    let asked = server.asked().len();
    let again = p.fetch(&server, &["--json"]);
    assert_eq!((again.code, &again.json()[0]["state"]), (0, &"already-here".into()));
    assert_eq!(server.asked().len(), asked);
}

#[test]
fn a_named_revision_is_kept_as_a_reference_and_found_by_it() {
    let content = bytes(5000);
    let server = hub(content.clone(), |ask, b| Reply::file(ask, b, "e"));
    for (reference, line) in [("refs/pr/10", "ref = \"refs/pr/10\"\n"), ("main", "")] {
        let p = Place::toy();
        p.pin(&format!(
            "repo = \"org/toy\"\nrevision_unknown = \"t\"\n{line}url = \"unused\"\nsize_unknown = \"t\"\nsha256_unknown = \"t\""
        ));
        let a = p.fetch(&server, &[]);
        assert_eq!(a.code, 0, "{}", a.all());
        let kept = fs::read_to_string(p.path("hub/models--org--toy/refs").join(reference)).unwrap();
        assert_eq!(kept, COMMIT);
        let last = server.asked_for(
            "HEAD",
            &format!("/org/toy/resolve/{}/toy.bin", reference.replace('/', "%2F")),
        );
        assert_eq!(last.len(), 1);
        assert_eq!(p.verify().code, 0, "{}", p.verify().all());
    }
}

#[test]
fn what_the_hub_says_is_held_against_the_pin_before_the_first_byte() {
    let content = bytes(5000);
    let server = hub(content.clone(), |ask, b| Reply::file(ask, b, "e"));
    let p = Place::toy();
    let cases = [
        (content.len(), sha(b"other"), COMMIT, "sha256"),
        (content.len() + 1, sha(&content), COMMIT, "5001 bytes"),
        (
            content.len(),
            sha(&content),
            "ffff456789abcdef0123456789abcdef01234567",
            "commit",
        ),
    ];
    for (size, sha, commit, said) in cases {
        p.pin(&format!(
            "repo = \"org/toy\"\nrevision = \"{commit}\"\nurl = \"u\"\nsize = {size}\nsha256 = \"{sha}\""
        ));
        let a = p.fetch(&server, &[]);
        assert_eq!(a.code, 2, "{}", a.all());
        assert!(
            a.err.contains(said) && a.err.contains("Nothing was downloaded"),
            "{}",
            a.err
        );
    }
    assert!(server.asked_for("GET", "/store/toy.bin").is_empty());
    nothing_left(&p);
}

#[test]
fn cut_connections_are_continued_where_they_broke() {
    let content = bytes(300_000);
    let cuts = [100_000, 50_000, 0, 1];
    let server = hub(content.clone(), move |ask, b| {
        let reply = Reply::file(ask, b, "e");
        match cuts.get(ask.nth) {
            Some(n) => reply.cut(*n),
            None => reply,
        }
    });
    let p = Place::toy();
    p.hub_pin(&content);
    let a = p.fetch(&server, &["--json"]);
    assert_eq!(a.code, 0, "{}", a.all());
    assert_eq!(a.json()[0]["received"], 300_000, "no byte twice");
    let from: Vec<_> = server
        .asked_for("GET", "/store/toy.bin")
        .iter()
        .map(Ask::from)
        .collect();
    assert_eq!(from, [None, Some(100_000), Some(150_000), Some(150_000), Some(150_001)]);
    assert_eq!(fs::read(p.blob(&content)).unwrap(), content);
    assert!(a.err.contains("trying again"), "{}", a.err);
}

#[test]
fn a_later_process_goes_on_and_a_file_that_changed_meanwhile_is_not_mixed() {
    let content = bytes(200_000);
    let first = publisher({
        let content = content.clone();
        move |ask| match ask.nth {
            0 => Reply::file(ask, &content, "v1").cut(120_000),
            1..=6 => Reply::new(503),
            _ => Reply::file(ask, &content, "v1"),
        }
    });
    let p = Place::toy();
    p.plain_pin(&first, &content);
    let a = p.fetch(&first, &[]);
    assert_eq!(a.code, 1, "{}", a.all());
    assert!(
        a.err.contains("503") && a.err.contains("kept and continued"),
        "{}",
        a.err
    );
    assert_eq!(fs::metadata(p.part()).unwrap().len(), 120_000);
    assert!(!p.dest().exists());
    let a = p.fetch(&first, &["--json"]);
    assert_eq!(a.code, 0, "{}", a.all());
    let l = &a.json()[0];
    assert_eq!((&l["resumed_from"], &l["received"]), (&120_000.into(), &80_000.into()));
    assert_eq!(fs::read(p.dest()).unwrap(), content);
    assert!(!p.part().exists());

    // No hash is known; the publisher replaced the file between the two processes. If-Range makes it whole.
    let other = bytes(200_001)[1..].to_vec();
    let second = publisher({
        let (content, other) = (content.clone(), other.clone());
        move |ask| match ask.nth {
            0 => Reply::file(ask, &content, "v1").cut(120_000),
            1..=5 => Reply::new(500),
            _ => Reply::file(ask, &other, "v2"),
        }
    });
    let p = Place::toy();
    p.pin(&format!(
        "url = \"{}/toy.bin\"\nsize_unknown = \"t\"\nsha256_unknown = \"t\"",
        second.url()
    ));
    assert_eq!(p.fetch(&second, &[]).code, 1);
    let a = p.fetch(&second, &[]);
    assert_eq!(a.code, 0, "{}", a.all());
    assert_eq!(fs::read(p.dest()).unwrap(), other);
    let last = second.asked_for("GET", "/toy.bin").pop().unwrap();
    assert_eq!(last.header("if-range"), Some("\"v1\""));
}

#[test]
fn a_server_that_ignores_ranges_and_a_part_that_is_rubbish_do_no_harm() {
    let content = bytes(50_000);
    let server = publisher({
        let content = content.clone();
        move |ask| {
            let whole = Ask {
                headers: Vec::new(),
                ..ask.clone()
            };
            match ask.nth {
                0 => Reply::file(&whole, &content, "e").cut(20_000),
                _ => Reply::file(&whole, &content, "e"),
            }
        }
    });
    let p = Place::toy();
    p.plain_pin(&server, &content);
    let a = p.fetch(&server, &[]);
    assert_eq!(a.code, 0, "{}", a.all());
    assert_eq!(fs::read(p.dest()).unwrap(), content);
    assert!(a.err.contains("starting anew"), "{}", a.err);

    let server = publisher({
        let content = content.clone();
        move |ask| Reply::file(ask, &content, "e")
    });
    for rubbish in [vec![7u8; 10_000], vec![7u8; 50_000], vec![7u8; 60_000]] {
        let p = Place::toy();
        p.plain_pin(&server, &content);
        fs::create_dir_all(p.part().parent().unwrap()).unwrap();
        fs::write(p.part(), rubbish).unwrap();
        let a = p.fetch(&server, &[]);
        assert_eq!(a.code, 0, "{}", a.all());
        assert_eq!(fs::read(p.dest()).unwrap(), content);
    }
}

#[test]
fn wrong_bytes_are_refused_and_deleted() {
    let content = bytes(50_000);
    let mut wrong = content.clone();
    wrong[49_999] ^= 1;
    let server = hub(content.clone(), move |ask, _| Reply::file(ask, &wrong, "e"));
    let p = Place::toy();
    p.hub_pin(&content);
    let a = p.fetch(&server, &["--json"]);
    assert_eq!(a.code, 2, "{}", a.all());
    assert_eq!(a.json()[0]["why"], "wrong-bytes");
    assert!(
        a.all().contains(&format!("expected sha256 {}", sha(&content))),
        "{}",
        a.all()
    );
    nothing_left(&p);
    // A wrong length is refused by the header.
    let long = bytes(50_001);
    let server = publisher(move |ask| Reply::file(ask, &long, "e"));
    let p = Place::toy();
    p.plain_pin(&server, &content);
    let a = p.fetch(&server, &[]);
    assert_eq!(a.code, 2, "{}", a.all());
    assert!(
        a.err.contains("expected 50000 bytes, found 50001 bytes offered by"),
        "{}",
        a.err
    );
    assert!(!p.dest().exists());
    // And where no header tells, by counting.
    let short = bytes(49_000);
    let server = publisher(move |ask| {
        let mut r = Reply::file(ask, &short, "e").with("Content-Length", 50_000);
        r.status = if ask.from().is_some() { 206 } else { 200 };
        r
    });
    let p = Place::toy();
    p.plain_pin(&server, &content);
    let a = p.fetch(&server, &[]);
    assert_ne!(a.code, 0, "{}", a.all());
    assert!(!p.dest().exists());
}

#[test]
fn refusals_say_what_to_do() {
    let content = bytes(1000);
    for (status, token, said) in [
        (401, None, "accept its terms at"),
        (403, Some(TOKEN), "A token was sent"),
        (404, None, "not there (any more)"),
    ] {
        let server = Server::start(move |_| {
            Reply::new(status)
                .with("X-Error-Message", "Access to model org/toy is restricted")
                .with("ETag", "\"x\"")
        });
        let p = Place::toy();
        p.hub_pin(&content);
        let mut c = p.command(&["weights", "fetch", "dinov2-b"]);
        c.env("HF_ENDPOINT", server.url());
        if let Some(t) = token {
            c.env("HF_TOKEN", t);
        }
        let a = p.run(c);
        assert_eq!(a.code, 1, "{}", a.all());
        assert!(a.err.contains(said) && a.err.contains(&status.to_string()), "{}", a.err);
        assert!(a.err.contains("Access to model org/toy is restricted"), "{}", a.err);
        assert!(!a.all().contains(TOKEN));
        assert_eq!(server.asked().len(), 1, "no second try");
        nothing_left(&p);
    }
}

#[test]
fn servers_that_ask_to_wait_are_waited_for() {
    let content = bytes(1000);
    let server = publisher({
        let content = content.clone();
        move |ask| match ask.nth {
            0 => Reply::new(429).with("Retry-After", 2),
            1 => Reply::new(503),
            _ => Reply::file(ask, &content, "e"),
        }
    });
    let p = Place::toy();
    p.plain_pin(&server, &content);
    let a = p.fetch(&server, &[]);
    assert_eq!(a.code, 0, "{}", a.all());
    assert!(
        a.seconds >= 2.0 && a.err.contains("too many requests (429)"),
        "{} s: {}",
        a.seconds,
        a.err
    );
    // Not for ever, and not for hours.
    let server = publisher(|_| Reply::new(429).with("Retry-After", 7200));
    p.plain_pin(&server, &bytes(2000));
    fs::remove_file(p.dest()).unwrap();
    let a = p.fetch(&server, &[]);
    assert_eq!(a.code, 1, "{}", a.all());
    assert!(a.err.contains("again in 120 min"), "{}", a.err);
    let server = publisher(|_| Reply::new(502));
    p.plain_pin(&server, &bytes(2000));
    let a = p.fetch(&server, &[]);
    assert_eq!(a.code, 1, "{}", a.all());
    assert!(a.err.contains("502") && a.err.contains("6 times in a row"), "{}", a.err);
}

#[test]
fn a_silent_server_counts_as_cut_and_a_slow_one_does_not() {
    let content = bytes(60_000);
    let server = publisher({
        let content = content.clone();
        move |ask| match ask.nth {
            0 => Reply::file(ask, &content, "e").pause(20_000, 5000),
            _ => Reply::file(ask, &content, "e").pause(10_000, 100),
        }
    });
    let p = Place::toy();
    p.plain_pin(&server, &content);
    let mut c = p.command(&["weights", "fetch", "dinov2-b", "--json"]);
    c.env("MEDFT_HTTP_STALL_MS", "1000");
    let a = p.run(c);
    assert_eq!(a.code, 0, "{}", a.all());
    assert!(a.seconds < 5.0, "{} s", a.seconds);
    assert_eq!(a.json()[0]["received"], 60_000);
    let from: Vec<_> = server.asked_for("GET", "/toy.bin").iter().map(Ask::from).collect();
    assert_eq!(from, [None, Some(20_000)]);
}

#[test]
fn a_full_disk_names_the_file_and_what_is_needed() {
    let content = bytes(500_000);
    let server = publisher({
        let content = content.clone();
        move |ask| Reply::file(ask, &content, "e")
    });
    let p = Place::toy();
    p.plain_pin(&server, &content);
    // The kernel's own full disk.
    fs::create_dir_all(p.part().parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", p.part()).unwrap();
    let a = p.fetch(&server, &["--json"]);
    assert_eq!(a.code, 2, "{}", a.all());
    assert_eq!(a.json()[0]["why"], "no-space");
    assert!(
        a.all().contains(".toy.bin.part") && a.all().contains("room for 500000 more bytes"),
        "{}",
        a.all()
    );
    assert!(!p.dest().exists());
    // A file that cannot fit is not begun.
    let server = publisher(|_| {
        let mut r = Reply::new(200);
        r.length = Some(1 << 62);
        r
    });
    let p = Place::toy();
    p.pin(&format!(
        "url = \"{}/toy.bin\"\nsize_unknown = \"t\"\nsha256_unknown = \"t\"",
        server.url()
    ));
    let a = p.fetch(&server, &[]);
    assert_eq!(a.code, 2, "{}", a.all());
    assert!(
        a.err.contains("room for 4611686018427387904 more bytes") && a.err.contains("bytes free"),
        "{}",
        a.err
    );
}

#[test]
fn offline_means_no_request() {
    let content = bytes(1000);
    let server = hub(content.clone(), |ask, b| Reply::file(ask, b, "e"));
    let p = Place::toy();
    p.hub_pin(&content);
    let mut c = p.command(&["weights", "fetch", "dinov2-b"]);
    c.env("HF_ENDPOINT", server.url()).env("HF_HUB_OFFLINE", "1");
    let a = p.run(c);
    assert_eq!(a.code, 1, "{}", a.all());
    assert!(
        a.err.contains("HF_HUB_OFFLINE") && a.err.contains("hf download org/toy"),
        "{}",
        a.err
    );
    assert!(server.asked().is_empty());
    // What is here is found without asking.
    assert_eq!(p.fetch(&server, &[]).code, 0);
    let mut c = p.command(&["weights", "fetch", "dinov2-b"]);
    c.env("HF_HUB_OFFLINE", "1");
    assert_eq!(p.run(c).code, 0);
}

#[test]
fn without_a_published_hash_the_first_one_seen_holds() {
    let (old, new) = (bytes(3000), bytes(3001)[1..].to_vec());
    let server = publisher({
        let (old, new) = (old.clone(), new.clone());
        move |ask| Reply::file(ask, if ask.nth == 0 { &old } else { &new }, "e")
    });
    let p = Place::toy();
    p.pin(&format!(
        "url = \"{}/toy.bin\"\nsize_unknown = \"t\"\nsha256_unknown = \"nobody said\"",
        server.url()
    ));
    let a = p.fetch(&server, &[]);
    assert_eq!(a.code, 0, "{}", a.all());
    assert!(
        a.out.contains("no published sha256 (nobody said)") && a.out.contains("weights.lock"),
        "{}",
        a.out
    );
    assert!(
        fs::read_to_string(p.path("weights/weights.lock"))
            .unwrap()
            .contains(&sha(&old))
    );
    fs::remove_file(p.dest()).unwrap();
    let a = p.fetch(&server, &[]);
    assert_eq!(a.code, 2, "{}", a.all());
    assert!(a.err.contains("first seen") && a.err.contains(&sha(&new)), "{}", a.err);
    assert!(!p.dest().exists() && !p.part().exists());
}

#[test]
fn two_processes_share_one_download() {
    let content = bytes(100_000);
    let server = publisher({
        let content = content.clone();
        move |ask| Reply::file(ask, &content, "e").pause(50_000, 1500)
    });
    let p = Place::toy();
    p.plain_pin(&server, &content);
    let answers: Vec<Said> = std::thread::scope(|s| {
        let runs: Vec<_> = (0..2).map(|_| s.spawn(|| p.fetch(&server, &[]))).collect();
        runs.into_iter().map(|r| r.join().unwrap()).collect()
    });
    for a in &answers {
        assert_eq!(a.code, 0, "{}", a.all());
    }
    assert!(answers.iter().any(|a| a.err.contains("another process is fetching")));
    assert_eq!(server.asked_for("GET", "/toy.bin").len(), 1);
    assert_eq!(fs::read(p.dest()).unwrap(), content);
}

#[test]
fn endless_redirects_and_unknown_names_end() {
    let server = Server::start(|_| Reply::new(302).with("Location", "/toy.bin"));
    let p = Place::toy();
    p.plain_pin(&server, &bytes(10));
    let a = p.fetch(&server, &[]);
    assert_eq!(a.code, 1, "{}", a.all());
    assert!(a.err.contains("at most 10 redirects"), "{}", a.err);
    let a = p.fetch(&server, &["--pin", "nonesuch"]);
    assert_eq!(a.code, 2, "{}", a.all());
    assert!(a.err.contains("expected one of toy, found `nonesuch`"), "{}", a.err);
}

#[test]
fn a_page_in_place_of_a_checkpoint_is_not_locked_as_first_seen() {
    for page in [&b"<!DOCTYPE html><html>Sign in to the network</html>"[..], b""] {
        let server = publisher(move |ask| Reply::file(ask, page, "e"));
        let p = Place::toy();
        p.pin(&format!(
            "url = \"{}/toy.bin\"\nsize_unknown = \"t\"\nsha256_unknown = \"t\"",
            server.url()
        ));
        let pin = fs::read_to_string(p.path("manifests/weights/toy.toml")).unwrap();
        let pin = pin.replace("\"safetensors\"", "\"pickle\"");
        fs::write(p.path("manifests/weights/toy.toml"), pin).unwrap();
        let a = p.fetch(&server, &[]);
        assert_eq!(a.code, 2, "{}", a.all());
        assert!(
            a.err.contains("a page for people") || a.err.contains("an empty one"),
            "{}",
            a.err
        );
        assert!(!p.path("weights/weights.lock").exists() && !p.dest().exists());
    }
}
