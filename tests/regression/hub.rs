//! The hub and its mirrors: hf-mirror-308 (huggingface_hub#4637), hub-stale-file (huggingface_hub#1222, #4487), hub-small.

use crate::place::{Place, Said};
use crate::server::{Ask, Reply, Server, sha};
use std::fs;
use std::path::PathBuf;

const COMMIT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A machine with one pin, its server, and the pinned bytes.
struct Toy {
    p: Place,
    content: Vec<u8>,
}

impl Toy {
    fn new() -> Self {
        let p = Place::new().set("MEDFT_HTTP_BACKOFF_MS", "5");
        let content: Vec<u8> = (0..40_000u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        fs::create_dir_all(p.path("manifests/weights")).unwrap();
        let pin = format!(
            "schema = 1\nname = \"toy\"\nbackbone = \"dinov2-b\"\nrank = 1\nfile = \"model.bin\"\nformat = \"safetensors\"\n\
             layout = \"hub\"\nlicence = \"t\"\nconfidence = \"high\"\nrepo = \"acme/toy\"\nrevision = \"{COMMIT}\"\nurl = \
             \"unused\"\nsize = {}\nsha256 = \"{}\"\n[source]\nlayout = \"t\"\nsize = \"t\"\nsha256 = \"t\"\nrevision = \"t\"\n",
            content.len(),
            sha(&content)
        );
        fs::write(p.path("manifests/weights/toy.toml"), pin).unwrap();
        Self { p, content }
    }

    fn medft(&self, args: &[&str], vars: &[(&str, &str)]) -> Said {
        let mut c = self.p.command(args);
        c.env("MEDFT_MIRROR", self.p.path("manifests"));
        Said::by(c.envs(vars.iter().copied()))
    }

    fn fetch(&self, vars: &[(&str, &str)]) -> Said {
        self.medft(&["weights", "fetch", "dinov2-b"], vars)
    }

    fn repo(&self) -> PathBuf {
        self.p.path(".cache/huggingface/hub/models--acme--toy")
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.repo().join("snapshots").join(commit).join("model.bin")
    }
}

fn facts(reply: Reply, content: &[u8]) -> Reply {
    reply
        .with("X-Repo-Commit", COMMIT)
        .with("X-Linked-Etag", format!("\"{}\"", sha(content)))
        .with("X-Linked-Size", content.len())
}

/// Mirrors that answer 301 to 308 to the hub, or straight to a store that says nothing of the file, or whose store knows no
/// HEAD.
#[test]
fn mirrors_that_redirect_are_followed_to_the_pinned_file() {
    for status in [301, 302, 303, 307, 308] {
        for way in ["hub", "store", "store-without-head"] {
            let toy = Toy::new();
            let content = toy.content.clone();
            let server = Server::start(move |ask: &Ask| {
                let host = ask.header("host").unwrap().to_owned();
                let other = format!("http://localhost:{}", host.rsplit(':').next().unwrap());
                let path = ask.path.split('?').next().unwrap();
                match (path, host.starts_with("localhost")) {
                    ("/store", _) if way == "store-without-head" && ask.method == "HEAD" => Reply::new(403),
                    ("/store", _) => Reply::file(ask, &content, "0123456789abcdef0123456789abcdef-5"),
                    (_, false) if way == "hub" => Reply::new(status).with("Location", format!("{other}{path}")),
                    (_, false) => Reply::new(status).with("Location", format!("{other}/store?X-Amz-Signature=s")),
                    (_, true) => facts(Reply::new(302), &content).with(
                        "Location",
                        format!("http://{}/store?sig=s", host.replace("localhost", "127.0.0.1")),
                    ),
                }
            });
            let a = toy.fetch(&[("HF_ENDPOINT", &server.url())]);
            assert_eq!(a.code, 0, "{status} {way}: {}", a.all());
            assert_eq!(fs::read(toy.snapshot(COMMIT)).unwrap(), toy.content, "{status} {way}");
            assert!(
                toy.repo().join("blobs").join(sha(&toy.content)).is_file(),
                "{status} {way}"
            );
        }
    }
}

/// A damaged snapshot file, without its blob, as a link to a damaged blob, or as a dangling link: it was kept for ever.
#[test]
fn stale_files_of_the_cache_are_replaced() {
    for kind in ["file", "blob", "dangling", "folder-of-another-size"] {
        let toy = Toy::new();
        let content = toy.content.clone();
        let server = Server::start(move |ask| facts(Reply::file(ask, &content, "e"), &content));
        let (file, blob) = (toy.snapshot(COMMIT), toy.repo().join("blobs").join(sha(&toy.content)));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::create_dir_all(blob.parent().unwrap()).unwrap();
        match kind {
            "file" => fs::write(&file, vec![0; toy.content.len()]).unwrap(),
            "folder-of-another-size" => fs::write(&file, b"short").unwrap(),
            _ => {
                std::os::unix::fs::symlink(format!("../../blobs/{}", sha(&toy.content)), &file).unwrap();
                if kind == "blob" {
                    fs::write(&blob, vec![0; toy.content.len()]).unwrap();
                }
            }
        }
        let a = toy.fetch(&[("HF_ENDPOINT", &server.url())]);
        assert_eq!(a.code, 0, "{kind}: {}", a.all());
        assert_eq!(fs::read(&file).unwrap(), toy.content, "{kind}");
        let a = toy.medft(&["weights", "verify", "dinov2-b"], &[]);
        assert!(a.code == 0 && a.out.contains("verified"), "{kind}: {}", a.all());
    }
}

/// `main` moved: the pinned bytes lie in the cache under another commit, as a blob or, without links, as a file.
#[test]
fn the_pinned_bytes_are_found_under_another_revision_and_offline() {
    for kind in ["blob", "file"] {
        let toy = Toy::new();
        let file = toy.snapshot(&"b".repeat(40));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        if kind == "blob" {
            let blob = toy.repo().join("blobs").join(sha(&toy.content));
            fs::create_dir_all(blob.parent().unwrap()).unwrap();
            fs::write(&blob, &toy.content).unwrap();
            std::os::unix::fs::symlink(format!("../../blobs/{}", sha(&toy.content)), &file).unwrap();
        } else {
            fs::write(&file, &toy.content).unwrap();
        }
        let a = toy.medft(&["weights", "verify", "dinov2-b"], &[("HF_HUB_OFFLINE", "1")]);
        assert_eq!(a.code, 0, "{kind}: {}", a.all());
        let a = toy.fetch(&[("HF_HUB_OFFLINE", "1")]);
        assert!(a.code == 0 && a.out.contains("already here"), "{kind}: {}", a.all());
    }
    // Another revision's other bytes of the same size are neither used nor complained of.
    let toy = Toy::new();
    let file = toy.snapshot(&"b".repeat(40));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, vec![0; toy.content.len()]).unwrap();
    let a = toy.medft(&["weights", "verify", "dinov2-b"], &[]);
    assert!(a.code == 1 && a.out.contains("missing"), "{}", a.all());
}

/// `HF_HOME='~/hf'`, quoted, from an .env or compose file.
#[test]
fn tilde_and_variables_in_paths_are_expanded() {
    for (variable, value) in [
        ("HF_HOME", "~/hf"),
        ("HF_HOME", "$HOME/hf"),
        ("HF_HOME", "${HOME}/hf"),
        ("HF_HUB_CACHE", "~/hf/hub"),
    ] {
        let toy = Toy::new();
        let content = toy.content.clone();
        let server = Server::start(move |ask| facts(Reply::file(ask, &content, "e"), &content));
        let a = toy.fetch(&[("HF_ENDPOINT", &server.url()), (variable, value)]);
        assert_eq!(a.code, 0, "{value}: {}", a.all());
        assert!(toy.p.path("hf/hub/models--acme--toy/blobs").is_dir(), "{value}");
        assert!(!toy.p.path("~").exists() && !toy.p.path("$HOME").exists(), "{value}");
    }
    let p = Place::new();
    let a = p.medft(&[
        "data",
        "synth",
        "aptos2019",
        "--images",
        "60",
        "--data-dir",
        "~/below home",
    ]);
    assert!(
        a.code == 0 && p.path("below home/phantom").is_dir() && !p.path("~").exists(),
        "{}",
        a.all()
    );
}

/// A dead proxy was not named, and one that asks for a password was asked again and again.
#[test]
fn the_proxy_is_named_and_a_demand_for_a_password_is_final() {
    let toy = Toy::new();
    for endpoint in ["http://hub.invalid", "https://hub.invalid"] {
        let a = toy.fetch(&[("HF_ENDPOINT", endpoint), ("ALL_PROXY", "http://me:pw@127.0.0.1:1")]);
        assert_eq!(a.code, 1, "{}", a.all());
        assert!(
            a.err.contains("proxy 127.0.0.1:1") && a.err.contains("NO_PROXY"),
            "{}",
            a.err
        );
        assert!(!a.all().contains("pw@"), "{}", a.all());
    }
    let proxy = Server::start(|_| Reply::new(407).with("Proxy-Authenticate", "Basic realm=\"x\""));
    for endpoint in ["http://hub.invalid", "https://hub.invalid"] {
        let before = proxy.asked().len();
        let a = toy.fetch(&[("HF_ENDPOINT", endpoint), ("ALL_PROXY", &proxy.url())]);
        assert_eq!(a.code, 1, "{}", a.all());
        assert!(a.err.contains("(407)") && a.err.contains("USER:PASSWORD"), "{}", a.err);
        assert_eq!(proxy.asked().len() - before, 1, "{endpoint}");
    }
}
