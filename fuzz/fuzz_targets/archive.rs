//! Archives of strangers, zip and tar.gz, unpacked under tight caps: all of it below its folder, or nothing.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use medft::fetch::archive::{Caps, unpack};
use medft_fuzz::folder;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// The first byte picks them: few entries, few bytes, or enough for the ratio to count (above 16 MiB).
const CAPS: [Caps; 3] = [
    Caps { entries: 4, bytes: 1 << 20, ratio: 50 },
    Caps { entries: 64, bytes: 1 << 10, ratio: 50 },
    Caps { entries: 64, bytes: 17 << 20, ratio: 10 },
];

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some((&pick, rest)) = bytes.split_first() else { return Corpus::Reject };
    let caps = CAPS[usize::from(pick) % CAPS.len()];
    let (archive, out) = (folder().join("archive"), folder().join("out"));
    write(&archive, rest);
    // tar is found behind its compression: a valid gzip is rarely made by chance, so a plain tar is packed here.
    if !rest.starts_with(b"PK") && !rest.starts_with(&[0x1f, 0x8b]) {
        let mut g = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        g.write_all(rest).unwrap();
        write(&archive, &g.finish().unwrap());
    }
    match unpack(&archive, &out, caps, &|_| {}) {
        Ok(u) => {
            let mut seen = (0, 0);
            walk(&out, &mut seen);
            assert_eq!(seen, (u.files, u.bytes), "what was told is what is there");
            assert!(u.files > 0 && u.files <= caps.entries && u.bytes <= caps.bytes);
            fs::remove_dir_all(&out).unwrap();
        }
        Err(e) => {
            assert!(!out.exists(), "something was left after {e}");
            assert!(!e.to_string().is_empty());
        }
    }
    let beside: Vec<_> = fs::read_dir(folder()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(beside, ["archive"], "something was written beside the folder");
    Corpus::Keep
});

/// Writes the archive in place, without the cost of a new file.
fn write(path: &Path, bytes: &[u8]) {
    File::create(path).unwrap().write_all(bytes).unwrap();
}

/// Counts files and bytes; nothing but plain files and folders may be there.
fn walk(dir: &Path, seen: &mut (u64, u64)) {
    for e in fs::read_dir(dir).unwrap() {
        let e = e.unwrap();
        let m = fs::symlink_metadata(e.path()).unwrap();
        if m.is_dir() {
            walk(&e.path(), seen);
        } else {
            assert!(m.is_file(), "{:?}", e.path());
            *seen = (seen.0 + 1, seen.1 + m.len());
        }
    }
}
