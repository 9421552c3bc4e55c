//! `make try` (scripts/try.sh) with a server that plays Zenodo and the hub, stand-in files, and a study of seconds in place of the
//! half an hour.

use crate::place::{Place, Said};
use crate::server::{Ask, Reply, Server, sha};
use md5::{Digest, Md5};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const SETS: [&str; 2] = ["breastmnist", "retinamnist"];
const BACKBONES: [&str; 3] = ["vit-b", "vit-clip-b", "dino-b"];
const COMMIT: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// The built-in manifest of a set, for stand-in bytes at another address.
fn manifest(set: &str, bytes: &[u8], address: &str) -> String {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("data-manifests/{set}.toml"))).unwrap();
    // The 28-pixel file is the first; the counts are those of the real one.
    let text = &text[..text.find("[[counts]]").unwrap()];
    let fact = |key: &str| -> String {
        let line = text.lines().find(|l| l.starts_with(&format!("{key} = "))).unwrap();
        line.to_owned()
    };
    let md5 = medft::fsio::hex(&Md5::digest(bytes));
    text.replace(&fact("size"), &format!("size = {}", bytes.len()))
        .replace(&fact("sha256"), &format!("sha256 = \"{}\"", sha(bytes)))
        .replace(&fact("md5"), &format!("md5 = \"{md5}\""))
        .replace("https://zenodo.org/records/10519652", &format!("{address}/zenodo"))
}

fn pin(backbone: &str, bytes: &[u8]) -> String {
    format!(
        "schema = 1\nname = \"{backbone}-stand-in\"\nbackbone = \"{backbone}\"\nrank = 1\nfile = \"model.safetensors\"\nformat = \
         \"safetensors\"\nlayout = \"timm\"\nlicence = \"t\"\nconfidence = \"high\"\nrepo = \"timm/{backbone}\"\nrevision = \
         \"{COMMIT}\"\nurl = \"unused\"\nsize = {}\nsha256 = \"{}\"\n[source]\nlayout = \"t\"\nsize = \"t\"\nsha256 = \"t\"\nrevision \
         = \"t\"\n",
        bytes.len(),
        sha(bytes)
    )
}

fn try_it(p: &Place, vars: &[(&str, &str)]) -> Said {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/try.sh");
    let mut c = assert_cmd::Command::new("sh");
    c.arg(script)
        .arg(assert_cmd::cargo::cargo_bin("medft"))
        .current_dir(p.path(""))
        .env_clear()
        .env("HOME", p.path(""))
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(vars.iter().copied());
    Said::by(&mut c)
}

#[test]
fn make_try_tells_sizes_fetches_verifies_runs_and_names_the_page() {
    if !cfg!(unix) {
        return crate::skipped("the script is for sh");
    }
    let p = Place::new();
    assert_eq!(p.medft(&["data", "synth", "breastmnist", "retinamnist"]).code, 0);
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for set in SETS {
        let bytes = fs::read(p.path(&format!("data/phantom/medmnist/{set}.npz"))).unwrap();
        files.insert(format!("/zenodo/files/{set}.npz"), bytes);
    }
    for (i, b) in (0u8..).zip(BACKBONES) {
        files.insert(format!("/timm/{b}/resolve/{COMMIT}/model.safetensors"), vec![i; 5000]);
    }
    let served = files.clone();
    let server = Server::start(move |ask: &Ask| {
        let Some(bytes) = served.get(ask.path.split('?').next().unwrap()) else {
            return Reply::new(404);
        };
        let reply = Reply::file(ask, bytes, &sha(bytes));
        match ask.path.starts_with("/timm/") {
            true => reply
                .with("X-Repo-Commit", COMMIT)
                .with("X-Linked-Etag", format!("\"{}\"", sha(bytes)))
                .with("X-Linked-Size", bytes.len()),
            false => reply,
        }
    });
    fs::create_dir_all(p.path("mirror/weights")).unwrap();
    fs::create_dir_all(p.path("mirror/phantom")).unwrap();
    for set in SETS {
        let bytes = &files[&format!("/zenodo/files/{set}.npz")];
        fs::write(
            p.path(&format!("mirror/{set}.toml")),
            manifest(set, bytes, &server.url()),
        )
        .unwrap();
        // The stand-in that is served is also what the small study reads.
        for list in ["", "phantom/"] {
            let list = p.path(&format!("mirror/{list}{set}.sha256"));
            fs::write(list, format!("{}  {set}.npz\n", sha(bytes))).unwrap();
        }
    }
    for b in BACKBONES {
        let bytes = &files[&format!("/timm/{b}/resolve/{COMMIT}/model.safetensors")];
        fs::write(p.path(&format!("mirror/weights/{b}-stand-in.toml")), pin(b, bytes)).unwrap();
    }
    // Its own protocol in small: the tiny models of the same backbones, on phantoms of the same sets.
    let recipe = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/papers/medmnistplus2025/study-medmnistplus.toml"),
    )
    .unwrap();
    let small = recipe
        .replace("preset = \"faithful\"", "preset = \"faithful\"\nscale = \"tiny\"")
        .replace("crop = 224", "crop = 64")
        .replace("seeds = [9930641, 115149041, 252139603]", "seeds = [9930641]")
        .replace("epochs = 100", "epochs = 4");
    fs::write(p.path("small.toml"), small).unwrap();
    let (mirror, url) = (p.path("mirror"), server.url());
    let vars = [
        ("MEDFT_MIRROR", mirror.to_str().unwrap()),
        ("HF_ENDPOINT", url.as_str()),
        ("MEDFT_TRY_STUDY", "./small.toml"),
    ];
    let said = try_it(&p, &vars);
    assert!(said.code == 0, "{}", said.all());
    let told = said.out.lines().take(4).collect::<Vec<_>>().join(" ");
    assert!(
        told.contains("1.04 GB") && told.contains("hour") && told.contains("18 runs"),
        "{told}"
    );
    for path in files.keys() {
        assert!(!server.asked_for("GET", path).is_empty(), "{path} was not fetched");
    }
    assert!(said.all().contains("6 runs"), "{}", said.all());
    let page = "reports/small/only-dataset=breastmnist,dataset=retinamnist/index.html";
    assert!(said.out.contains(page) && p.path(page).exists(), "{}", said.all());
    // A second time everything is there: nothing is fetched or trained again.
    let before = server.asked().iter().filter(|a| a.method == "GET").count();
    let said = try_it(&p, &vars);
    assert!(said.code == 0, "{}", said.all());
    assert_eq!(server.asked().iter().filter(|a| a.method == "GET").count(), before);
}

#[test]
fn make_try_without_a_network_says_so_in_one_line() {
    if !cfg!(unix) {
        return crate::skipped("the script is for sh");
    }
    let p = Place::new();
    fs::create_dir_all(p.path("mirror/weights")).unwrap();
    for set in SETS {
        // Nobody listens on the port of "discard".
        fs::write(
            p.path(&format!("mirror/{set}.toml")),
            manifest(set, b"x", "http://127.0.0.1:9"),
        )
        .unwrap();
    }
    let mirror = p.path("mirror");
    let vars = [
        ("MEDFT_MIRROR", mirror.to_str().unwrap()),
        ("MEDFT_HTTP_BACKOFF_MS", "5"),
    ];
    let said = try_it(&p, &vars);
    assert_eq!(said.code, 1, "{}", said.all());
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    assert!(
        said.err.contains("no network") && said.err.contains("127.0.0.1:9"),
        "{}",
        said.err
    );
    assert!(!p.path("results").exists());
}
