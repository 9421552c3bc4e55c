//! Messages that said too little or sent the wrong way.

use crate::place::{Place, Said};
use crate::server::{Reply, Server};
use crate::{aptos, images};
use std::fs;

/// "could not be read: X (neither of them)" for an empty file, a Git LFS pointer, WebP, BMP, GIF, TIFF.
#[test]
fn the_audit_says_what_an_unreadable_file_is() {
    let p = Place::new();
    let set = aptos(&p);
    let all = images(&set);
    let kinds: [(&[u8], &str); 6] = [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "a WebP image, which medft does not read"),
        (b"BM\x36\0\0\0\0\0\0\0\x36\0", "a BMP image, which medft does not read"),
        (b"GIF89a", "a GIF image, which medft does not read"),
        (b"II*\0\x08\0\0\0", "damaged TIFF data (the file ends early)"),
    ];
    for (file, (bytes, _)) in all.iter().zip(kinds) {
        fs::write(file, bytes).unwrap();
    }
    let a = p.medft(&["data", "audit", "aptos2019"]);
    assert_eq!(a.code, 1, "{}", a.all());
    let page = fs::read_to_string(p.path("reports/data/aptos2019.md")).unwrap();
    for (_, said) in kinds {
        assert!(page.contains(said), "{said}: {page}");
    }
    assert!(!page.contains("neither of them"));
}

/// "Please log in.. If"
#[test]
fn a_servers_sentence_does_not_end_twice() {
    let server = Server::start(|_| Reply::new(401).with("X-Error-Message", "Please log in."));
    let p = Place::new();
    let mut c = p.command(&["weights", "fetch", "dinov2-s"]);
    c.env("HF_ENDPOINT", server.url());
    let a = Said::by(&mut c);
    assert_eq!(a.code, 1, "{}", a.all());
    assert!(
        a.err.contains("Please log in. If") && !a.err.contains(".."),
        "{}",
        a.err
    );
}

/// "Wait until nothing writes into the folder" was the remedy for a file that may not be read.
#[test]
fn an_unreadable_file_is_said_to_be_unreadable() {
    use std::os::unix::fs::PermissionsExt;
    let p = Place::new();
    let set = aptos(&p);
    fs::write(set.join("notes"), "x").unwrap();
    fs::set_permissions(set.join("notes"), fs::Permissions::from_mode(0o0)).unwrap();
    if fs::read(set.join("notes")).is_ok() {
        return crate::skipped("the superuser may read every file");
    }
    let a = p.medft(&["data", "lock", "aptos2019"]);
    assert!(a.code == 2 && a.err.contains("Make them readable"), "{}", a.all());
}
