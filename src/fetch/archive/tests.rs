//! A corpus of hostile archives, each made by hand, and each refused by a message that names archive and entry.

use super::*;
use ::tar::{Builder, EntryType, Header};
use ::zip::write::{SimpleFileOptions, ZipWriter};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Cursor;
use std::sync::Mutex;

fn quiet(_: Event) {}

/// The caps of the corpus: small, so that small bombs are bombs.
const CAPS: Caps = Caps {
    entries: 100,
    bytes: 64 << 20,
    ratio: 50,
};

fn try_unpack(bytes: &[u8], name: &str) -> (Result<Unpacked, FetchError>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join(name);
    fs::write(&archive, bytes).unwrap();
    let got = unpack(&archive, &dir.path().join("out"), CAPS, &quiet);
    (got, dir)
}

/// The archive is refused, by these texts, and leaves nothing.
fn refused(bytes: &[u8], name: &str, texts: &[&str]) {
    let (got, dir) = try_unpack(bytes, name);
    let e = got.unwrap_err();
    assert_eq!(e.kind, ErrorKind::Archive, "{e}");
    let said = e.to_string();
    for w in texts.iter().chain(&[name]) {
        assert!(said.contains(w), "`{w}` is not in: {said}");
    }
    let left: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, [name], "nothing half-done is left");
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut g = GzEncoder::new(Vec::new(), Compression::default());
    g.write_all(bytes).unwrap();
    g.finish().unwrap()
}

/// A tar entry whose name is written as it is, unchecked.
fn raw_entry(name: &[u8], kind: EntryType, data: &[u8]) -> Vec<u8> {
    let mut h = Header::new_ustar();
    h.as_old_mut().name[..name.len()].copy_from_slice(name);
    h.set_entry_type(kind);
    h.set_mode(0o644);
    h.set_size(data.len() as u64);
    if matches!(kind, EntryType::Symlink | EntryType::Link) {
        h.set_link_name("/etc/passwd").unwrap();
    }
    h.set_cksum();
    let mut out = h.as_bytes().to_vec();
    out.extend(data);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn tar_of(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut all = entries.concat();
    all.resize(all.len() + 1024, 0);
    gz(&all)
}

fn file(name: &[u8]) -> Vec<u8> {
    raw_entry(name, EntryType::Regular, b"data")
}

/// A zip with one stored entry for every name, unchecked; `mode` is the Unix mode, 0 for none.
fn zip_of(entries: &[(&[u8], u32)]) -> Vec<u8> {
    let (mut out, mut central) = (Vec::new(), Vec::new());
    let crc = 0xadf3_f363_u32; // CRC-32 of "data" (zlib.crc32 of Python)
    for (name, mode) in entries {
        let at = out.len() as u32;
        let common = |v: &mut Vec<u8>| {
            v.extend([20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0x58]);
            v.extend(crc.to_le_bytes());
            v.extend([4u32.to_le_bytes(), 4u32.to_le_bytes()].concat());
            v.extend((name.len() as u16).to_le_bytes());
            v.extend([0, 0]);
        };
        out.extend(b"PK\x03\x04");
        common(&mut out);
        out.extend(*name);
        out.extend(b"data");
        central.extend(b"PK\x01\x02");
        central.extend([20, 3]); // made on Unix
        common(&mut central);
        central.extend([0; 6]);
        central.extend((mode << 16).to_le_bytes());
        central.extend(at.to_le_bytes());
        central.extend(*name);
    }
    let (start, n) = (out.len() as u32, entries.len() as u16);
    out.extend(&central);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([n.to_le_bytes(), n.to_le_bytes()].concat());
    out.extend((central.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

#[test]
fn ordinary_archives_come_out_as_they_went_in() {
    let mut z = ZipWriter::new(Cursor::new(Vec::new()));
    let o = SimpleFileOptions::default();
    z.add_directory("set", o).unwrap();
    z.start_file("set/a.txt", o).unwrap();
    z.write_all(b"alpha").unwrap();
    z.start_file("b.txt", o).unwrap();
    z.write_all(&[7; 100_000]).unwrap();
    let zip = z.finish().unwrap().into_inner();
    let mut t = Builder::new(Vec::new());
    let long = format!("set/{}.txt", "n".repeat(150));
    for (name, data) in [
        ("./set/a.txt", &b"alpha"[..]),
        ("b.txt", &[7; 100_000]),
        (&long, b"long"),
    ] {
        let mut h = Header::new_gnu();
        h.set_mode(0o644);
        h.set_size(data.len() as u64);
        t.append_data(&mut h, name, data).unwrap();
    }
    let tar = gz(&t.into_inner().unwrap());
    for (bytes, name, files) in [(zip, "a.zip", 2), (tar, "a.tar.gz", 3)] {
        let dir = tempfile::tempdir().unwrap();
        let (archive, out) = (dir.path().join(name), dir.path().join("out"));
        fs::write(&archive, &bytes).unwrap();
        let last = Mutex::new(0);
        let on = |e| {
            if let Event::At { bytes, .. } = e {
                *last.lock().unwrap() = bytes;
            }
        };
        let got = unpack(&archive, &out, CAPS, &on).unwrap();
        assert_eq!(got.files, files);
        assert_eq!(fs::read(out.join("set/a.txt")).unwrap(), b"alpha");
        assert_eq!(fs::read(out.join("b.txt")).unwrap(), [7; 100_000]);
        assert!(*last.lock().unwrap() > 0);
        assert!(
            unpack(&archive, &out, CAPS, &quiet).is_err(),
            "never into a folder that is there"
        );
        assert!(out.join("b.txt").exists());
    }
    // A pax name, as Python's tarfile and bsdtar write them.
    let record = b"30 path=set/from-pax-record.x\n";
    let pax = raw_entry(b"PaxHeader", EntryType::XHeader, record);
    let global = raw_entry(b"pax_global_header", EntryType::XGlobalHeader, b"19 comment=abcdefg\n");
    let (got, dir) = try_unpack(&tar_of(&[global, pax, file(b"short")]), "p.tar.gz");
    got.unwrap();
    assert_eq!(fs::read(dir.path().join("out/set/from-pax-record.x")).unwrap(), b"data");
}

#[test]
fn names_that_lead_out_or_collide_are_refused() {
    for (name, said) in [
        (&b"/abs.txt"[..], "an absolute path"),
        (b"../up.txt", "a .. in its path"),
        (b"a/../../up.txt", "a .. in its path"),
        (b"a\\..\\up.txt", "a backslash"),
        (b"C:up.txt", "a drive letter"),
        (b"a\x1bb.txt", "a control character"),
        (b"\xff.txt", "not UTF-8"),
    ] {
        let shown = names::shown(name);
        refused(&tar_of(&[file(b"ok"), file(name)]), "h.tar.gz", &[&shown, said]);
        refused(&zip_of(&[(b"ok", 0), (name, 0)]), "h.zip", &[&shown, said]);
    }
    // tar ends a name at its NUL; in a zip it is part of the name.
    refused(&zip_of(&[(b"a\0.txt", 0)]), "h.zip", &["a NUL byte"]);
    for (second, said) in [
        (&b"dir/x"[..], "a name that occurred before"),
        (b"dir/X", "in case only"),
        (b"Dir/y", "in case only"),
        (b"dir/x/y", "a file and a folder"),
    ] {
        let shown = names::shown(second);
        refused(&tar_of(&[file(b"dir/x"), file(second)]), "c.tar.gz", &[&shown, said]);
        refused(&zip_of(&[(b"dir/x", 0), (second, 0)]), "c.zip", &[&shown, said]);
    }
    // By a long name, the header's own being harmless.
    let long = raw_entry(b"././@LongLink", EntryType::GNULongName, b"../../long.txt\0");
    refused(
        &tar_of(&[long, file(b"harmless")]),
        "l.tar.gz",
        &["`../../long.txt`", "a .. in"],
    );
    let pax = raw_entry(b"PaxHeader", EntryType::XHeader, b"19 path=../pax.txt\n");
    refused(
        &tar_of(&[pax, file(b"harmless")]),
        "x.tar.gz",
        &["`../pax.txt`", "a .. in"],
    );
}

#[test]
fn what_is_no_plain_file_is_refused() {
    for (kind, said) in [
        (EntryType::Symlink, "a link"),
        (EntryType::Link, "a link"),
        (EntryType::Char, "a device"),
        (EntryType::Block, "a device"),
        (EntryType::Fifo, "a pipe"),
        (EntryType::GNUSparse, "a sparse file"),
        (EntryType::new(b'?'), "unknown kind"),
    ] {
        let odd = raw_entry(b"odd", kind, b"");
        refused(&tar_of(&[file(b"ok"), odd]), "k.tar.gz", &["`odd`", said]);
    }
    refused(
        &zip_of(&[(b"ok", 0), (b"odd", 0o120_777)]),
        "k.zip",
        &["`odd`", "a link"],
    );
    refused(
        &zip_of(&[(b"odd", 0o020_666)]),
        "k.zip",
        &["`odd`", "neither, by its mode"],
    );
    refused(
        &zip_of(&[(b"odd", 0o010_666)]),
        "k.zip",
        &["`odd`", "neither, by its mode"],
    );
    // A link through which a later entry would be written.
    let link = raw_entry(b"d", EntryType::Symlink, b"");
    refused(&tar_of(&[link, file(b"d/x")]), "k.tar.gz", &["`d`", "a link"]);
    let size = raw_entry(b"PaxHeader", EntryType::XHeader, b"12 size=999\n");
    refused(&tar_of(&[size, file(b"s")]), "k.tar.gz", &["a record `size`"]);
    // Encrypted: bit 0 of the flags, in both headers.
    let mut z = zip_of(&[(b"secret", 0)]);
    z[6] |= 1;
    let central = z.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    z[central + 8] |= 1;
    refused(&z, "k.zip", &["`secret`", "an encrypted entry"]);
}

#[test]
fn bombs_are_refused() {
    let zeros = vec![0; 20 << 20];
    let big = raw_entry(b"zeros", EntryType::Regular, &zeros);
    refused(
        &tar_of(&[file(b"ok"), big]),
        "b.tar.gz",
        &["`zeros`", "made to fill the disk"],
    );
    let mut z = ZipWriter::new(Cursor::new(Vec::new()));
    z.start_file("zeros", SimpleFileOptions::default()).unwrap();
    z.write_all(&zeros).unwrap();
    refused(&z.finish().unwrap().into_inner(), "b.zip", &["made to fill the disk"]);
    // Behind the end of the archive, where no entry shows it.
    let mut all = file(b"ok");
    all.resize(all.len() + 1024 + (20 << 20), 0);
    refused(&gz(&all), "b.tar.gz", &["made to fill the disk"]);
    // In a list of records.
    let records = raw_entry(b"PaxHeader", EntryType::XHeader, &[b'1'; 70 << 10]);
    refused(&tar_of(&[records, file(b"x")]), "b.tar.gz", &["bytes of records"]);
    let many: Vec<_> = (0..101).map(|i| format!("f{i}")).collect();
    let entries: Vec<_> = many.iter().map(|n| file(n.as_bytes())).collect();
    refused(&tar_of(&entries), "b.tar.gz", &["at most 100 entries"]);
    let entries: Vec<_> = many.iter().map(|n| (n.as_bytes(), 0)).collect();
    refused(&zip_of(&entries), "b.zip", &["at most 100 entries"]);
    // More bytes than the disk may get, honestly packed.
    let mut x = 1u32;
    let noise: Vec<u8> = (0..(65 << 20))
        .map(|_| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as u8
        })
        .collect();
    let mut z = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(::zip::CompressionMethod::Stored);
    z.start_file("noise", stored).unwrap();
    z.write_all(&noise).unwrap();
    refused(
        &z.finish().unwrap().into_inner(),
        "b.zip",
        &["at most 67108864 bytes unpacked"],
    );
    // Two entries of the directory that share the bytes of one file.
    let mut z = zip_of(&[(b"one", 0), (b"two", 0)]);
    let central = z.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
    z[central + 42..central + 46].fill(0);
    refused(&z, "b.zip", &["entries that share bytes"]);
}

#[test]
fn damaged_archives_are_refused() {
    refused(
        b"<!DOCTYPE html><html>Sign in</html>",
        "d.zip",
        &["a zip or gzip archive"],
    );
    refused(b"", "d.zip", &["a zip or gzip archive"]);
    refused(&tar_of(&[]), "d.tar.gz", &["none in it"]);
    let tar = tar_of(&[file(b"a"), raw_entry(b"b", EntryType::Regular, &[9; 5000])]);
    for cut in [3, 20, tar.len() / 2, tar.len() - 1] {
        refused(&tar[..cut], "d.tar.gz", &["an undamaged archive"]);
    }
    let mut flipped = tar.clone();
    let at = flipped.len() - 6; // in the checksum of gzip
    flipped[at] ^= 1;
    refused(&flipped, "d.tar.gz", &["an undamaged archive"]);
    let zip = zip_of(&[(b"a", 0), (b"b", 0)]);
    for cut in [10, zip.len() / 2, zip.len() - 1] {
        refused(&zip[..cut], "d.zip", &["an undamaged archive"]);
    }
    let mut flipped = zip.clone();
    let at = flipped.windows(4).position(|w| w == b"data").unwrap();
    flipped[at] ^= 1; // the checksum of the entry does not fit any more
    refused(&flipped, "d.zip", &["`a`"]);
    // A header that promises less than there is.
    let mut z = ZipWriter::new(Cursor::new(Vec::new()));
    z.start_file("a", SimpleFileOptions::default()).unwrap();
    z.write_all(&[5; 5000]).unwrap();
    let mut z = z.finish().unwrap().into_inner();
    let central = z.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    z[central + 24..central + 28].copy_from_slice(&10u32.to_le_bytes());
    refused(&z, "d.zip", &["`a`"]);
}
