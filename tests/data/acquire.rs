//! `medft data fetch` and `data import` against a server on 127.0.0.1 that plays publishers, mirrors and Kaggle. The sets are
//! phantoms in the real layouts, packed as the publishers pack them.

use crate::place::{Place, Said};
use crate::server::{Ask, Reply, Server, sha};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

const KEY: &str = "0123456789kagglesecret";

impl Place {
    fn with_sets() -> Self {
        let p = Self::new().set("MEDFT_HTTP_BACKOFF_MS", "20");
        let manifests = p.path("manifests");
        fs::create_dir_all(&manifests).unwrap();
        p.set("MEDFT_MIRROR", manifests)
    }

    fn fetch_data(&self, args: &[&str]) -> Said {
        let mut all = vec!["data", "fetch", "--accept-terms"];
        all.extend(args);
        self.medft(&all)
    }

    /// A manifest with the given archives; labels are checked by reading them.
    fn manifest(&self, set: &str, head: &str, archives: &str) {
        let text = format!(
            r#"schema = 1
set = "{set}"
title = "Toy {set}"
what = "A toy."
layout = "as the real set"
{head}
[source]
page = "https://example.org/toy"
from = "t"
[licence]
images = "toy licence of images"
labels = "toy licence of labels"
from = "t"
[citation]
text = "A. Toy (2026)"
from = "t"
[access]
kind = "open"
page = "https://example.org/toy"
commands = []
terms = "Toy terms."
from = "t"
{archives}
[[label_file]]
path = "unknown"
when = "never"
forms_unknown = "t"
"#
        );
        fs::write(self.path(&format!("manifests/{set}.toml")), text).unwrap();
    }

    /// The files of a phantom, by path below its folder.
    fn phantom(&self, set: &str, folder: &str, images: usize) -> BTreeMap<String, Vec<u8>> {
        let away = tempfile::tempdir().unwrap();
        let a = Said::by(
            self.command(&["data", "synth", set, "--images", &images.to_string()])
                .env_remove("MEDFT_MIRROR")
                .env("MEDFT_DATA_DIR", away.path()),
        );
        assert_eq!(a.code, 0, "{}", a.all());
        files(&away.path().join("phantom").join(folder))
    }
}

fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, dir: &Path, out: &mut BTreeMap<String, Vec<u8>>) {
        for e in fs::read_dir(dir).into_iter().flatten().flatten() {
            let p = e.path();
            if p.is_dir() {
                walk(root, &p, out);
            } else {
                let name = p.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                out.insert(name, fs::read(&p).unwrap());
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(root, root, &mut out);
    out
}

fn tar_gz(files: &BTreeMap<String, Vec<u8>>, keep: impl Fn(&str) -> bool) -> Vec<u8> {
    let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut t = tar::Builder::new(gz);
    for (name, data) in files.iter().filter(|f| keep(f.0)) {
        let mut h = tar::Header::new_gnu();
        h.set_mode(0o644);
        h.set_size(data.len() as u64);
        t.append_data(&mut h, name, &data[..]).unwrap();
    }
    t.into_inner().unwrap().finish().unwrap()
}

fn zip_of(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<u8> {
    let mut z = zip::write::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, data) in files {
        z.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        z.write_all(&data).unwrap();
    }
    z.finish().unwrap().into_inner()
}

/// An archive of a manifest.
fn archive(file: &str, source: &str, more: &str) -> String {
    format!("[[archive]]\nfile = \"{file}\"\n{source}\nneeded = true\nfrom = \"t\"\n{more}\n")
}

const NO_HASH: &str = "size_unknown = \"t\"\nsha256_unknown = \"nobody publishes one\"\nmd5_unknown = \"t\"";

fn hashed(bytes: &[u8]) -> String {
    format!(
        "size = {}\nsha256 = \"{}\"\nmd5_unknown = \"t\"",
        bytes.len(),
        sha(bytes)
    )
}

fn no_staging(p: &Place) {
    assert!(!p.path("data/.medft-fetch").exists());
}

#[test]
fn tarballs_come_from_publisher_or_mirror_and_the_set_verifies() {
    let p = Place::with_sets();
    let all = p.phantom("ddsm", "DDSM", 120);
    let raw = tar_gz(&all, |f| f.starts_with("ddsm_raw/"));
    let lists = tar_gz(&all, |f| f.starts_with("ddsm_raw_image_lists/"));
    let server = Server::start({
        let (raw, lists) = (raw.clone(), lists.clone());
        move |ask| match (ask.path.as_str(), ask.nth) {
            ("/raw.tar.gz", 0) => Reply::file(ask, &raw, "r").cut(raw.len() / 2),
            ("/raw.tar.gz", 1) => Reply::new(503),
            ("/raw.tar.gz", _) => Reply::file(ask, &raw, "r"),
            ("/mirror/lists.tar.gz", _) => Reply::file(ask, &lists, "l"),
            _ => Reply::new(404),
        }
    });
    let url = server.url();
    let unpack = |beside: &str| format!("unpack = {{ into = \"\", beside = \"{beside}\", from = \"t\" }}\n{NO_HASH}");
    p.manifest(
        "ddsm",
        "folder = \"DDSM\"",
        &[
            archive(
                "ddsm_raw.tar.gz",
                &format!("url = \"{url}/raw.tar.gz\""),
                &unpack("ddsm_raw"),
            ),
            archive(
                "ddsm_raw_image_lists.tar.gz",
                &format!("url = \"{url}/lists.tar.gz\"\nmirrors = [\"{url}/mirror/lists.tar.gz\"]"),
                &unpack("ddsm_raw_image_lists"),
            ),
        ]
        .concat(),
    );
    // Nothing is asked for before licence and terms are accepted.
    let a = p.medft(&["data", "fetch", "ddsm"]);
    assert_eq!(a.code, 2, "{}", a.all());
    for said in ["toy licence of images", "Toy terms.", "A. Toy (2026)", "--accept-terms"] {
        assert!(a.err.contains(said), "{said}: {}", a.err);
    }
    assert!(server.asked().is_empty() && !p.path("data/DDSM").exists());

    let a = p.fetch_data(&["ddsm", "--json"]);
    assert_eq!(a.code, 0, "{}", a.all());
    let line = &a.json()[0];
    assert_eq!(line["state"], "fetched");
    assert_eq!(line["archives"][0]["sha256"], sha(&raw));
    assert_eq!(line["archives"][0]["received"], raw.len(), "no byte twice");
    let notes = line["notes"].to_string();
    assert!(
        notes.contains("nobody publishes one") && notes.contains("no list of this set's files is published"),
        "{notes}"
    );
    assert_eq!(files(&p.path("data/DDSM")), all);
    no_staging(&p);
    let a = p.medft(&["data", "verify", "ddsm"]);
    assert_eq!(a.code, 0, "{}", a.all());
    assert!(a.out.contains(&line["root"].as_str().unwrap()[..12]), "{}", a.out);
    let asked = server.asked().len();
    let a = p.fetch_data(&["ddsm"]);
    assert!(a.code == 0 && a.out.contains("already here"), "{}", a.all());
    assert_eq!(server.asked().len(), asked);

    // A set that is there and does not verify is never mixed with a new one.
    fs::write(p.path("data/DDSM/ddsm_raw_image_lists/train.txt"), "changed").unwrap();
    let a = p.fetch_data(&["ddsm"]);
    assert_eq!(a.code, 2, "{}", a.all());
    assert!(a.err.contains("data verify ddsm"), "{}", a.err);
    assert_eq!(server.asked().len(), asked);
}

#[test]
fn a_wrong_file_publishes_nothing_and_the_right_ones_are_kept() {
    let p = Place::with_sets();
    let all = p.phantom("isic2019", "ISIC2019", 120);
    let images = zip_of(
        all.iter()
            .filter_map(|(f, b)| Some((f.strip_prefix("ISIC_2019_Training_Input/")?.to_owned(), b.clone()))),
    );
    let csv = |name: &str| all[name].clone();
    let (truth, meta) = ("ISIC_2019_Training_GroundTruth.csv", "ISIC_2019_Training_Metadata.csv");
    let right = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let server = Server::start({
        let (images, t, m, right) = (images.clone(), csv(truth), csv(meta), right.clone());
        move |ask| match ask.path.as_str() {
            "/i.zip" => Reply::file(ask, &images, "i"),
            "/t.csv" => Reply::file(ask, &t, "t"),
            _ if right.load(std::sync::atomic::Ordering::SeqCst) => Reply::file(ask, &m, "m"),
            _ => Reply::file(ask, &m.iter().map(|b| b ^ 1).collect::<Vec<_>>(), "m"),
        }
    });
    let url = server.url();
    let unpack =
        "unpack = { into = \"ISIC_2019_Training_Input\", beside = \"ISIC_2019_Training_Input\", from = \"t\" }\n";
    p.manifest(
        "isic2019",
        "folder = \"ISIC2019\"",
        &[
            archive(
                "i.zip",
                &format!("url = \"{url}/i.zip\""),
                &format!("{unpack}{NO_HASH}"),
            ),
            archive(truth, &format!("url = \"{url}/t.csv\""), &hashed(&csv(truth))),
            archive(meta, &format!("url = \"{url}/m.csv\""), &hashed(&csv(meta))),
        ]
        .concat(),
    );
    let a = p.fetch_data(&["isic2019"]);
    assert_eq!(a.code, 2, "{}", a.all());
    assert!(a.err.contains(meta) && a.err.contains(&sha(&csv(meta))), "{}", a.err);
    assert!(!p.path("data/ISIC2019").exists() && !p.path("data/isic2019.sha256").exists());
    right.store(true, std::sync::atomic::Ordering::SeqCst);
    let a = p.fetch_data(&["isic2019"]);
    assert_eq!(a.code, 0, "{}", a.all());
    assert_eq!(files(&p.path("data/ISIC2019")), all);
    assert_eq!(
        server.asked_for("GET", "/i.zip").len(),
        1,
        "a finished download is not repeated"
    );
    assert_eq!(server.asked_for("GET", "/t.csv").len(), 1);
    no_staging(&p);
}

/// APTOS in the authors' copy: train_1.csv and train_images/train_images.
fn aptos(p: &Place) -> BTreeMap<String, Vec<u8>> {
    let mut all = p.phantom("aptos2019", "APTOS2019", 120);
    // The phantom has the files of both copies.
    all.remove("train.csv");
    all
}

fn aptos_manifest(p: &Place) {
    let unpack = |beside: &str| format!("unpack = {{ into = \"\", beside = \"{beside}\", from = \"t\" }}\n{NO_HASH}");
    p.manifest(
        "aptos2019",
        "folder = \"APTOS2019\"",
        &[
            archive(
                "aptos2019.zip",
                "url_unknown = \"t\"\nkaggle = \"datasets/mariaherrerot/aptos2019\"\ncopy = \"resplit\"",
                &unpack("train_1.csv"),
            ),
            archive(
                "comp.zip",
                "url_unknown = \"t\"\nkaggle = \"competitions/aptos2019-blindness-detection\"\ncopy = \"competition\"",
                &unpack("train.csv"),
            ),
        ]
        .concat(),
    );
}

#[test]
fn kaggle_is_asked_with_the_users_key_and_nobody_else_sees_it() {
    let p = Place::with_sets();
    let all = aptos(&p);
    let zip = zip_of(all.clone());
    let server = Server::start({
        let zip = zip.clone();
        move |ask: &Ask| {
            let port = ask.header("host").unwrap().rsplit_once(':').unwrap().1;
            match ask.path.split('?').next().unwrap() {
                "/api/v1/datasets/download/mariaherrerot/aptos2019" => Reply::new(302).with(
                    "Location",
                    format!("http://localhost:{port}/store?X-Goog-Signature=sosecret"),
                ),
                "/store" => Reply::file(ask, &zip, "z"),
                _ => Reply::new(403),
            }
        }
    });
    aptos_manifest(&p);
    let run = |args: &[&str], vars: &[(&str, &str)]| {
        let mut c = p.command(args);
        c.env("KAGGLE_API_ENDPOINT", server.url());
        for (k, v) in vars {
            c.env(k, v);
        }
        Said::by(&mut c)
    };
    let fetch = ["data", "fetch", "aptos2019", "--accept-terms"];
    // Without a key nothing is asked for.
    let a = run(&fetch, &[]);
    assert_eq!(a.code, 2, "{}", a.all());
    assert!(
        a.err.contains("KAGGLE_USERNAME") && a.err.contains("data import"),
        "{}",
        a.err
    );
    // A key that others can read is used with a warning, as Kaggle's own client does: on many disks `chmod` does nothing.
    fs::create_dir_all(p.path(".kaggle")).unwrap();
    fs::write(
        p.path(".kaggle/kaggle.json"),
        format!("{{\"username\":\"me\",\"key\":\"{KEY}\"}}"),
    )
    .unwrap();
    let mode = |m| {
        fs::set_permissions(
            p.path(".kaggle/kaggle.json"),
            std::os::unix::fs::PermissionsExt::from_mode(m),
        )
    };
    mode(0o644).unwrap();
    let a = run(&[&fetch[..], &["--copy", "competition"]].concat(), &[]);
    assert_eq!(a.code, 1, "{}", a.all());
    assert!(a.err.contains("chmod 600") && !a.all().contains(KEY), "{}", a.err);
    // The competition's rules were not accepted.
    mode(0o600).unwrap();
    let a = run(&[&fetch[..], &["--copy", "competition"]].concat(), &[]);
    assert_eq!(a.code, 1, "{}", a.all());
    assert!(
        a.err
            .contains("https://www.kaggle.com/c/aptos2019-blindness-detection/rules"),
        "{}",
        a.err
    );
    assert_eq!(
        server.asked()[0].path,
        "/api/v1/competitions/data/download-all/aptos2019-blindness-detection"
    );
    let a = run(&[&fetch[..], &["--copy", "nonesuch"]].concat(), &[]);
    assert!(
        a.code == 2 && a.err.contains("one of resplit, competition"),
        "{}",
        a.all()
    );

    let a = run(&fetch, &[("KAGGLE_USERNAME", "you"), ("KAGGLE_KEY", KEY)]);
    assert_eq!(a.code, 0, "{}", a.all());
    assert_eq!(files(&p.path("data/APTOS2019")), all);
    let at_kaggle = server.asked_for("GET", "/api/v1/datasets/download/mariaherrerot/aptos2019");
    // you:0123456789kagglesecret, by `base64` of coreutils
    let basic = "Basic eW91OjAxMjM0NTY3ODlrYWdnbGVzZWNyZXQ=";
    assert_eq!(at_kaggle[0].header("authorization"), Some(basic));
    let at_store = server.asked_for("GET", "/store");
    assert!(at_store.len() == 1 && at_store[0].header("authorization").is_none());
    assert!(
        !a.all().contains(KEY) && !a.all().contains("sosecret") && !a.all().contains("eW91Oj"),
        "{}",
        a.all()
    );
    for (name, content) in files(&p.path("")) {
        let found = |needle: &[u8]| content.windows(needle.len()).any(|w| w == needle);
        assert!(
            name == ".kaggle/kaggle.json" || !(found(KEY.as_bytes()) || found(b"eW91Oj")),
            "{name}"
        );
    }
}

#[test]
fn an_archive_that_a_user_brings_is_taken_in_whatever_its_name_and_top_folder() {
    let p = Place::with_sets();
    let all = aptos(&p);
    aptos_manifest(&p);
    let in_folder = all.iter().map(|(n, b)| (format!("some-folder/{n}"), b.clone()));
    let litter = [("__MACOSX/._x".to_owned(), b"x".to_vec())];
    fs::write(p.path("archive.zip"), zip_of(in_folder.chain(litter))).unwrap();
    let a = p.medft(&["data", "import", "aptos2019", "archive.zip"]);
    assert_eq!(a.code, 0, "{}", a.all());
    assert!(
        a.err.contains("toy licence of images") && a.err.contains("1 files outside"),
        "{}",
        a.err
    );
    assert_eq!(files(&p.path("data/APTOS2019")), all);
    assert!(p.path("archive.zip").exists());
    no_staging(&p);
    assert_eq!(p.medft(&["data", "verify", "aptos2019"]).code, 0);
    // The wrong copy says which there are; too few or too many archives are named.
    fs::remove_dir_all(p.path("data")).unwrap();
    let a = p.medft(&["data", "import", "aptos2019", "archive.zip", "--copy", "competition"]);
    assert_eq!(a.code, 2, "{}", a.all());
    assert!(
        a.err.contains("`train.csv`") && a.err.contains("--copy resplit or competition"),
        "{}",
        a.err
    );
    let a = p.medft(&["data", "import", "aptos2019", "archive.zip", "archive.zip"]);
    assert_eq!(a.code, 2, "{}", a.all());
    assert!(!p.path("data/APTOS2019").exists());
}

#[test]
fn hostile_archives_and_pages_in_their_place_leave_nothing() {
    let p = Place::with_sets();
    aptos_manifest(&p);
    let good = ("train_1.csv".to_owned(), b"id_code,diagnosis\n".to_vec());
    let bad = [
        ("../../escaped.txt", "a .. in its path"),
        ("/tmp/medft-escaped.txt", "an absolute path"),
        ("TRAIN_1.csv", "in case only"),
        ("C:\\x", "a backslash"),
    ];
    for (name, why) in bad {
        fs::write(
            p.path("aptos2019.zip"),
            zip_of([good.clone(), (name.to_owned(), b"x".to_vec())]),
        )
        .unwrap();
        let a = p.medft(&["data", "import", "aptos2019", "aptos2019.zip"]);
        assert_eq!(a.code, 2, "{}", a.all());
        let shown = name.escape_debug().to_string();
        assert!(
            a.err.contains("aptos2019.zip") && a.err.contains(&shown) && a.err.contains(why),
            "{}",
            a.err
        );
        assert_eq!(files(&p.path("data")).len(), 0);
        no_staging(&p);
        assert!(!p.path("escaped.txt").exists() && !Path::new("/tmp/medft-escaped.txt").exists());
    }
    // Labels that cannot be read: the set is not published either.
    fs::write(
        p.path("aptos2019.zip"),
        zip_of([("train_1.csv".to_owned(), b"no,labels\n1,2\n".to_vec())]),
    )
    .unwrap();
    let a = p.medft(&["data", "import", "aptos2019", "aptos2019.zip"]);
    assert_eq!(a.code, 2, "{}", a.all());
    assert!(
        a.err.contains("train_1.csv") && !p.path("data/APTOS2019").exists(),
        "{}",
        a.err
    );
    assert_eq!(files(&p.path("data")).len(), 0);
    // A sign-in page instead of the archive.
    let server = Server::start(|ask| Reply::file(ask, b"<!DOCTYPE html><html>Sign in</html>", "h"));
    let mut c = p.command(&["data", "fetch", "aptos2019", "--accept-terms"]);
    c.env("KAGGLE_API_ENDPOINT", server.url()).env("KAGGLE_API_TOKEN", KEY);
    let a = Said::by(&mut c);
    assert_eq!(a.code, 2, "{}", a.all());
    assert!(
        a.err.contains("a page for people") && !a.all().contains(KEY),
        "{}",
        a.err
    );
    assert_eq!(
        server.asked()[0].header("authorization"),
        Some(&*format!("Bearer {KEY}"))
    );
}

#[test]
fn medmnist_sets_share_a_folder_and_have_sizes() {
    let p = Place::with_sets();
    let npz = p
        .phantom("breastmnist", "medmnist", 120)
        .remove("breastmnist.npz")
        .unwrap();
    let server = Server::start({
        let npz = npz.clone();
        move |ask| Reply::file(ask, &npz, "n")
    });
    let one = |file: &str, copy: &str| {
        let url = format!("url = \"{}/{file}?download=1\"\ncopy = \"{copy}\"", server.url());
        archive(file, &url, &hashed(&npz))
    };
    let head = "folder = \"medmnist\"\nfiles = [\"breastmnist.npz\", \"breastmnist_64.npz\"]";
    p.manifest(
        "breastmnist",
        head,
        &[one("breastmnist.npz", "28"), one("breastmnist_64.npz", "64")].concat(),
    );
    fs::create_dir_all(p.path("data/medmnist")).unwrap();
    fs::write(p.path("data/medmnist/other.npz"), "another set's").unwrap();
    let a = p.fetch_data(&["breastmnist"]);
    assert_eq!(a.code, 0, "{}", a.all());
    assert_eq!(fs::read(p.path("data/medmnist/breastmnist.npz")).unwrap(), npz);
    assert_eq!(fs::read(p.path("data/medmnist/other.npz")).unwrap(), b"another set's");
    assert_eq!(server.asked().len(), 1, "one size only");
    no_staging(&p);
    let a = p.fetch_data(&["breastmnist", "--copy", "64"]);
    assert!(a.code == 0 && a.out.contains("already here"), "{}", a.all());
    // A brought file is held against its hash.
    fs::remove_dir_all(p.path("data")).unwrap();
    fs::write(p.path("breastmnist.npz"), [&npz[..], b"x"].concat()).unwrap();
    let a = p.medft(&["data", "import", "breastmnist", "breastmnist.npz"]);
    assert_eq!(a.code, 2, "{}", a.all());
    assert!(a.err.contains(&format!("expected {} bytes", npz.len())), "{}", a.err);
    assert!(!p.path("data/medmnist").exists());
}

#[test]
fn a_process_that_ended_between_publication_and_list_is_carried_on() {
    let p = Place::with_sets();
    let all = aptos(&p);
    aptos_manifest(&p);
    fs::write(p.path("aptos2019.zip"), zip_of(all.clone())).unwrap();
    // An old list of other files: what was published does not fit it.
    fs::create_dir_all(p.path("data")).unwrap();
    fs::write(
        p.path("data/aptos2019.sha256"),
        format!("{}  other.txt\n", sha(b"other")),
    )
    .unwrap();
    let a = p.medft(&["data", "import", "aptos2019", "aptos2019.zip"]);
    assert_eq!(a.code, 2, "{}", a.all());
    assert!(a.err.contains("other.txt"), "{}", a.err);
    fs::remove_file(p.path("data/aptos2019.sha256")).unwrap();
    fs::remove_file(p.path("aptos2019.zip")).unwrap();
    let a = p.fetch_data(&["aptos2019"]);
    assert_eq!(a.code, 0, "{}", a.all());
    assert_eq!(files(&p.path("data/APTOS2019")), all);
    no_staging(&p);
}

/// One archive of BreastMNIST's phantom at an address of `server`, with its hash.
fn one_file(p: &Place, url: &str, npz: &[u8]) {
    let source = format!("url = \"{url}\"\ncopy = \"28\"");
    let head = "folder = \"medmnist\"\nfiles = [\"breastmnist.npz\"]";
    p.manifest("breastmnist", head, &archive("breastmnist.npz", &source, &hashed(npz)));
}

fn breast(p: &Place) -> Vec<u8> {
    let mut all = p.phantom("breastmnist", "medmnist", 120);
    all.remove("breastmnist.npz").unwrap()
}

#[test]
fn a_publisher_that_falls_silent_is_asked_for_the_rest() {
    let p = Place::with_sets();
    let npz = breast(&p);
    let half = npz.len() / 2;
    let server = Server::start({
        let npz = npz.clone();
        move |ask| match ask.nth {
            0 => Reply::file(ask, &npz, "n").pause(half, 20_000),
            _ => Reply::file(ask, &npz, "n"),
        }
    });
    one_file(&p, &format!("{}/b.npz", server.url()), &npz);
    let mut c = p.command(&["data", "fetch", "breastmnist", "--accept-terms", "--json"]);
    let a = Said::by(c.env("MEDFT_HTTP_STALL_MS", "1000"));
    assert_eq!(a.code, 0, "{}", a.all());
    assert!(a.seconds < 20.0, "{} s", a.seconds);
    assert_eq!(a.json()[0]["archives"][0]["received"], npz.len(), "no byte twice");
    let from: Vec<_> = server.asked_for("GET", "/b.npz").iter().map(Ask::from).collect();
    assert_eq!(from, [None, Some(half)]);
    assert_eq!(fs::read(p.path("data/medmnist/breastmnist.npz")).unwrap(), npz);
}

#[test]
fn a_publisher_that_asks_to_wait_is_waited_for_and_not_for_hours() {
    let p = Place::with_sets();
    let npz = breast(&p);
    let server = Server::start({
        let npz = npz.clone();
        move |ask| match (ask.path.as_str(), ask.nth) {
            ("/b.npz", 0) => Reply::new(429).with("Retry-After", 2),
            ("/b.npz", _) => Reply::file(ask, &npz, "n"),
            _ => Reply::new(429).with("Retry-After", 7200),
        }
    });
    one_file(&p, &format!("{}/b.npz", server.url()), &npz);
    let a = p.fetch_data(&["breastmnist"]);
    assert_eq!(a.code, 0, "{}", a.all());
    assert!(a.seconds >= 2.0, "{} s", a.seconds);
    assert!(a.err.contains("too many requests (429)"), "{}", a.err);
    fs::remove_dir_all(p.path("data")).unwrap();
    one_file(&p, &format!("{}/later.npz", server.url()), &npz);
    let a = p.fetch_data(&["breastmnist"]);
    assert!(a.code != 0 && a.err.contains("again in 120 min"), "{}", a.all());
    assert_eq!(server.asked_for("GET", "/later.npz").len(), 1);
    assert!(!p.path("data/medmnist").exists());
}

#[test]
fn a_file_of_another_length_is_refused() {
    let p = Place::with_sets();
    let npz = breast(&p);
    let server = Server::start({
        let npz = npz.clone();
        move |ask| match ask.path.as_str() {
            // Whole by its own account, and not the file of the manifest.
            "/long.npz" => Reply::file(ask, &[&npz[..], b"more"].concat(), "l"),
            "/short.npz" => Reply::file(ask, &npz[..npz.len() - 1], "s"),
            // Promises more than it sends, every time, and knows no ranges.
            _ => Reply {
                status: 200,
                body: npz[..npz.len() / 2].to_vec(),
                length: Some(npz.len() as u64),
                ..Reply::default()
            },
        }
    });
    for path in ["long", "short", "never"] {
        one_file(&p, &format!("{}/{path}.npz", server.url()), &npz);
        let a = p.fetch_data(&["breastmnist"]);
        assert!(a.code != 0, "{path}: {}", a.all());
        assert!(a.err.contains("breastmnist.npz"), "{path}: {}", a.err);
        if path != "never" {
            assert!(a.err.contains(&format!("{} bytes", npz.len())), "{path}: {}", a.err);
        }
        assert!(!p.path("data/medmnist").exists(), "{path}");
        assert!(!p.path("data/breastmnist.sha256").exists(), "{path}");
    }
}
