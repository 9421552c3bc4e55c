//! Checkpoints that PyTorch wrote (tests/fixtures-own/pickle, see its README) and ones that nobody should write.

use super::*;
use crate::model::checkpoint::{Checkpoint, unused};
use crate::rng::{Purpose, Stream};
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

fn fixture(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures-own/pickle")
        .join(file)
}

/// Opens bytes as a file.
fn open(bytes: &[u8]) -> Result<PickleFile> {
    let mut f = tempfile::NamedTempFile::new().unwrap();
    f.write_all(bytes).unwrap();
    PickleFile::open(f.path(), None)
}

/// The complaint about bytes that must be refused; anything but a `BadInput` is a failure.
fn refused(bytes: &[u8]) -> String {
    let e = open(bytes).err().expect("the file must be refused");
    assert!(e.downcast_ref::<BadInput>().is_some(), "not a BadInput: {e:?}");
    e.to_string()
}

fn assert_refused(bytes: &[u8], says: &[&str]) {
    let e = refused(bytes);
    for s in says {
        assert!(e.contains(s), "{s:?} is not in: {e}");
    }
}

/// A pickle, written instruction by instruction.
#[derive(Clone, Default)]
struct Code(Vec<u8>);

impl Code {
    fn new() -> Self {
        Self(vec![0x80, 2])
    }

    fn op(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn global(self, module: &str, name: &str) -> Self {
        self.op(format!("c{module}\n{name}\n").as_bytes())
    }

    fn text(self, s: &str) -> Self {
        self.op(b"X").op(&(s.len() as u32).to_le_bytes()).op(s.as_bytes())
    }

    fn int(self, v: i64) -> Self {
        self.op(&[0x8a, 8]).op(&v.to_le_bytes())
    }

    fn tuple(self, values: &[i64]) -> Self {
        values.iter().fold(self.op(b"("), |c, &v| c.int(v)).op(b"t")
    }

    fn storage(self, class: &str, key: &str, len: i64) -> Self {
        let c = self.op(b"(").text("storage").global("torch", class);
        c.text(key).text("cpu").int(len).op(b"tQ")
    }

    /// A float32 tensor in storage 0 of `len` elements.
    fn tensor(self, len: i64, offset: i64, size: &[i64], stride: &[i64]) -> Self {
        self.tensor_of("FloatStorage", "0", len, offset, size, stride)
    }

    fn tensor_of(self, class: &str, key: &str, len: i64, offset: i64, size: &[i64], stride: &[i64]) -> Self {
        let c = self.global("torch._utils", "_rebuild_tensor_v2").op(b"(");
        let c = c.storage(class, key, len).int(offset).tuple(size).tuple(stride);
        c.op(b"\x89}tR")
    }

    /// `{"w": <what `value` pushes>}`.
    fn of(value: impl FnOnce(Self) -> Self) -> Vec<u8> {
        value(Self::new().op(b"}").text("w")).op(b"s.").0
    }
}

fn zipped(entries: &[(&str, &[u8])]) -> Vec<u8> {
    zipped_as(entries, CompressionMethod::Stored)
}

fn zipped_as(entries: &[(&str, &[u8])], how: CompressionMethod) -> Vec<u8> {
    let mut w = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let o = SimpleFileOptions::default().compression_method(how);
        w.start_file(*name, o).unwrap();
        w.write_all(bytes).unwrap();
    }
    w.finish().unwrap().into_inner()
}

/// A checkpoint with one storage of six floats 0 … 5.
fn checkpoint(pickle: &[u8]) -> Vec<u8> {
    let six: Vec<u8> = (0..6).flat_map(|v| (v as f32).to_le_bytes()).collect();
    zipped(&[("a/data.pkl", pickle), ("a/data/0", &six)])
}

fn good() -> Vec<u8> {
    checkpoint(&Code::of(|c| c.tensor(6, 0, &[2, 3], &[3, 1])))
}

fn floats(f: &PickleFile, name: &str) -> Vec<f32> {
    let t = f.load(name, &Device::Cpu).unwrap();
    t.to_dtype(DType::F32)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

#[test]
fn tensors_are_those_that_pytorch_sees() {
    let expected: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fixture("expected.json")).unwrap()).unwrap();
    let files = expected["files"].as_object().unwrap();
    assert!(files.len() >= 7);
    for (file, tensors) in files {
        let f = PickleFile::open(&fixture(file), None).unwrap();
        for (name, t) in tensors.as_object().unwrap() {
            let shape: Vec<usize> = serde_json::from_value(t["shape"].clone()).unwrap();
            let values: Vec<f32> = serde_json::from_value(t["values"].clone()).unwrap();
            assert_eq!(f.shape(name), Some(shape.as_slice()), "{file} {name}");
            assert_eq!(f.load(name, &Device::Cpu).unwrap().dims(), shape, "{file} {name}");
            assert_eq!(floats(&f, name), values, "{file} {name}");
        }
        if file != "types.pth" {
            assert_eq!(f.names().count(), tensors.as_object().unwrap().len(), "{file}");
        }
    }
}

#[test]
fn integers_are_listed_and_not_read_as_weights() {
    let f = PickleFile::open(&fixture("types.pth"), None).unwrap();
    assert_eq!(f.shape("int64"), Some(&[4][..]));
    for name in ["int64", "int32", "int16", "int8", "uint8", "bool"] {
        let e = f.load(name, &Device::Cpu).unwrap_err();
        assert!(
            e.downcast_ref::<BadInput>().is_some() && e.to_string().contains("floating-point"),
            "{e}"
        );
    }
    assert_eq!(f.load("f16", &Device::Cpu).unwrap().dtype(), DType::F16);
    assert_eq!(f.load("bf16", &Device::Cpu).unwrap().dtype(), DType::BF16);
}

#[test]
fn checkpoints_read_pickles_strictly_and_as_float32() {
    let rules = [
        unused("1.>", "a norm"),
        unused("2.>", "a convolution"),
        super::super::checkpoint::same("0.>", "fc.>"),
    ];
    for file in ["plain.pth", "plain.bin", "protocol5.pt", "nested.pth"] {
        let mut c = Checkpoint::open(&fixture(file), None, &rules).unwrap();
        assert_eq!(c.names().collect::<Vec<_>>(), ["fc.bias", "fc.weight"]);
        let e = c.take("fc.bias", &[5], &Device::Cpu).unwrap_err().to_string();
        assert!(e.contains("[5]") && e.contains("[4]"), "{e}");
        let w = c.take("fc.weight", &[4, 3], &Device::Cpu).unwrap();
        assert_eq!((w.dtype(), w.dims()), (DType::F32, &[4, 3][..]));
    }
}

#[test]
fn what_pytorch_also_writes_and_medft_does_not_read_is_named() {
    let e = |file: &str| {
        let e = PickleFile::open(&fixture(file), None).err().unwrap();
        assert!(e.downcast_ref::<BadInput>().is_some(), "{file}: {e:?}");
        e.to_string()
    };
    assert!(e("legacy.pth").contains("before it") && e("legacy.pth").contains("never have the published hash"));
    assert!(e("script.pt").contains("TorchScript"));
    assert!(e("evil.pth").contains("posix.system") && e("evil.pth").contains("will not call"));
    assert!(e("expected.json").contains("zip"));
    assert!(e("no such file.pth").contains("no such file.pth"));
    assert!(refused(b"").contains("expected"));
}

#[test]
fn the_handmade_checkpoint_is_sound() {
    let f = open(&good()).unwrap();
    assert_eq!(floats(&f, "w"), [0., 1., 2., 3., 4., 5.]);
    let f = open(&checkpoint(&Code::of(|c| c.tensor(6, 1, &[2, 2], &[1, 3])))).unwrap();
    assert_eq!(floats(&f, "w"), [1., 4., 2., 5.]);
}

#[test]
fn unknown_names_are_refused_before_anything_is_made_of_them() {
    for (module, name) in [
        ("posix", "system"),
        ("os", "system"),
        ("builtins", "eval"),
        ("__builtin__", "exec"),
        ("builtins", "getattr"),
        ("torch", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("torch._utils", "_rebuild_qtensor"),
        ("numpy.core.multiarray", "fromfile"),
        ("collections", "OrderedDict "),
    ] {
        let wanted = format!("{module}.{name}");
        let call = Code::of(|c| c.global(module, name).op(b"(").text("x").op(b"tR"));
        assert_refused(&checkpoint(&call), &["data.pkl", &wanted]);
        let (m, n) = (module.len() as u8, name.len() as u8);
        let stacked = Code::of(|c| {
            c.op(&[0x8c, m])
                .op(module.as_bytes())
                .op(&[0x8c, n])
                .op(name.as_bytes())
                .op(b"\x93)R")
        });
        assert_refused(&checkpoint(&stacked), &[&wanted]);
    }
    let long = Code::of(|c| c.global(&"a".repeat(300), "b"));
    assert_refused(&checkpoint(&long), &["256 bytes"]);
    // Permitted names in places where they mean nothing.
    let call = |f: fn(Code) -> Code| checkpoint(&Code::of(f));
    assert_refused(
        &call(|c| c.global("torch", "FloatStorage").op(b")R")),
        &["can be called"],
    );
    assert_refused(
        &call(|c| c.global("torch._utils", "_rebuild_tensor_v2").op(b")R")),
        &["0 values"],
    );
    assert_refused(
        &call(|c| c.global("torch._utils", "_rebuild_parameter").op(b")R")),
        &["parameter"],
    );
    assert_refused(
        &call(|c| c.global("torch._utils", "_rebuild_tensor_v2").op(b")\x81")),
        &["can be called"],
    );
    assert_refused(
        &call(|c| c.global("collections", "OrderedDict").op(b"K\x01\x85R")),
        &["list of pairs"],
    );
    assert_refused(&call(|c| c.int(3).op(b")R")), &["an integer"]);
    assert_refused(&call(|c| c.int(3).op(b"}b")), &["attributes"]);
}

#[test]
fn storages_must_be_in_the_archive_with_their_size() {
    let of = |len: i64| checkpoint(&Code::of(|c| c.tensor(len, 0, &[2], &[1])));
    for len in [5, 7, 1 << 40, i64::MAX] {
        assert_refused(&of(len), &["a/data/0", "24 bytes"]);
    }
    assert_refused(&of(-1), &["at least 0"]);
    let class = checkpoint(&Code::of(|c| c.tensor_of("DoubleStorage", "0", 6, 0, &[2], &[1])));
    assert_refused(&class, &["a/data/0", "F64"]);
    for key in ["1", "../data.pkl", "/etc/passwd", "0\0", ""] {
        let missing = checkpoint(&Code::of(|c| c.tensor_of("FloatStorage", key, 6, 0, &[2], &[1])));
        assert_refused(&missing, &["no such entry"]);
    }
    // Described twice, differently; and one that no tensor uses.
    let twice = Code::new().op(b"}").text("a").tensor(6, 0, &[2], &[1]);
    let twice = twice.op(b"s").text("b").tensor_of("IntStorage", "0", 6, 0, &[2], &[1]);
    assert_refused(&checkpoint(&twice.op(b"s.").0), &["described once"]);
    let beside = Code::new().storage("FloatStorage", "9", 1).op(b"0}").text("w");
    let beside = beside.tensor(6, 0, &[2], &[1]).op(b"s.").0;
    assert_refused(&checkpoint(&beside), &["a/data/9"]);
}

#[test]
fn views_must_lie_inside_their_storage() {
    let view = |offset: i64, size: &[i64], stride: &[i64]| checkpoint(&Code::of(|c| c.tensor(6, offset, size, stride)));
    for (offset, size, stride) in [
        (6, &[][..], &[][..]),
        (0, &[7], &[1]),
        (1, &[6], &[1]),
        (0, &[2, 3], &[4, 1]),
        (0, &[2], &[i64::MAX]),
        (i64::MAX, &[2], &[1]),
        (0, &[i64::MAX, i64::MAX], &[0, 0]),
        // A few bytes repeated to gigabytes.
        (0, &[1 << 40], &[0]),
        (0, &[1 << 20, 1 << 20], &[0, 0]),
    ] {
        assert_refused(&view(offset, size, stride), &["storage of 6 elements"]);
    }
    assert_refused(&view(0, &[2, 3], &[1]), &["2 sizes and 1 strides"]);
    assert_refused(&view(0, &[1; 20], &[1; 20]), &["16 axes"]);
    assert_refused(&view(-1, &[2], &[1]), &["at least 0"]);
    assert_refused(&view(0, &[-2], &[1]), &["at least 0"]);
    assert_refused(&view(0, &[2], &[-1]), &["at least 0"]);
    // No elements: offset and strides mean nothing, and sizes may be large.
    let f = open(&view(99, &[0, i64::MAX], &[i64::MAX, 5])).unwrap();
    assert!(floats(&f, "w").is_empty());
}

#[test]
fn archives_that_torch_does_not_write_are_refused() {
    let pickle = Code::of(|c| c.tensor(6, 0, &[2], &[1]));
    let six = [0u8; 24];
    let (pkl, data) = (("a/data.pkl", pickle.as_slice()), ("a/data/0", six.as_slice()));
    let with = |more: &[(&str, &[u8])]| zipped(&[&[pkl, data], more].concat());
    assert!(open(&with(&[("a/version", b"3\n"), ("a/byteorder", b"little")])).is_ok());
    assert_refused(&with(&[("a/byteorder", b"big")]), &["little-endian", "big"]);
    assert_refused(&with(&[("a/constants.pkl", b"")]), &["TorchScript"]);
    assert_refused(&with(&[("b/data.pkl", b"")]), &["2 files"]);
    assert_refused(&zipped(&[data]), &["one data.pkl"]);
    assert_refused(&zipped(&[("data.pkl", b".")]), &["one data.pkl"]);
    assert_refused(&zipped(&[("a/b/data.pkl", b".")]), &["one data.pkl"]);
    // Bombs: compressed entries are refused before they are unpacked, large pickles before they are read.
    let zeros = vec![0u8; 8 << 20];
    let bomb = zipped_as(&[("a/data.pkl", &zeros)], CompressionMethod::Deflated);
    assert!(bomb.len() < 20_000);
    assert_refused(&bomb, &["stored", "Deflated"]);
    let big = vec![b'.'; (16 << 20) + 1];
    assert_refused(&zipped(&[("a/data.pkl", &big)]), &["16777216 bytes"]);
    let mut w = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    w.start_file("a/data.pkl", stored).unwrap();
    w.write_all(&pickle).unwrap();
    let deflated = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    w.start_file("a/data/0", deflated).unwrap();
    w.write_all(&six).unwrap();
    assert_refused(&w.finish().unwrap().into_inner(), &["a/data/0", "Deflated"]);
    // Two directory lines for the same bytes.
    let mut w = ZipWriter::new_append(Cursor::new(good())).unwrap();
    w.shallow_copy_file("a/data/0", "a/data/1").unwrap();
    assert_refused(&w.finish().unwrap().into_inner(), &["overlap"]);
    let renamed = replace(&zipped(&[pkl, data, ("a/data/1", &six)]), b"a/data/1", b"a/data/0");
    assert_refused(&renamed, &["occur once"]);
}

/// Every occurrence of `from` replaced by `to`, of the same length.
fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for i in 0..=out.len() - from.len() {
        if &out[i..i + from.len()] == from {
            out[i..i + from.len()].copy_from_slice(to);
        }
    }
    out
}

#[test]
fn archives_that_lie_about_sizes_are_refused() {
    let good = good();
    let eocd = good.len() - 22;
    let edit = |at: usize, bytes: &[u8]| {
        let mut b = good.clone();
        b[at..at + bytes.len()].copy_from_slice(bytes);
        b
    };
    // End of directory: number of entries, size and place of the directory.
    refused(&edit(eocd + 8, &[0xff; 4]));
    refused(&edit(eocd + 8, &[0xff; 12]));
    refused(&edit(eocd + 16, &[0xff, 0xff, 0xff, 0x7f]));
    // The directory's line of the storage: sizes, then the place of its header.
    let line = good.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
    assert_eq!(&good[line + 46..line + 54], b"a/data/0");
    refused(&edit(line + 20, &[23, 0, 0, 0, 23, 0, 0, 0]));
    refused(&edit(line + 20, &[0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f]));
    refused(&edit(line + 42, &[0xff, 0xff, 0xff, 0x7f]));
    // Encrypted.
    refused(&edit(line + 8, &[1]));
}

#[test]
fn a_changed_byte_of_a_tensor_is_found_when_it_is_read() {
    let mut bytes = good();
    let at = bytes.windows(4).position(|w| w == 5f32.to_le_bytes()).unwrap();
    bytes[at] ^= 1;
    let f = open(&bytes).unwrap();
    let e = f.load("w", &Device::Cpu).unwrap_err();
    assert!(
        e.downcast_ref::<BadInput>().is_some() && e.to_string().contains("checksum"),
        "{e}"
    );
}

#[test]
fn every_truncation_is_an_error() {
    for file in [good(), std::fs::read(fixture("plain.pth")).unwrap()] {
        for n in 0..file.len() {
            refused(&file[..n]);
        }
    }
    let pickle = Code::of(|c| c.tensor(6, 0, &[2], &[1]));
    for n in 0..pickle.len() {
        refused(&checkpoint(&pickle[..n]));
    }
}

#[test]
fn state_dicts_hold_tensors_under_names_once() {
    assert_refused(&checkpoint(b"\x80\x02]."), &["dictionary"]);
    assert_refused(&checkpoint(b"\x80\x02}."), &["tensors", "none"]);
    assert_refused(&checkpoint(&Code::of(|c| c.int(1))), &["\"w\"", "an integer"]);
    assert_refused(&checkpoint(&Code::of(|c| c.op(b"]"))), &["\"w\"", "a list"]);
    let key = Code::new().op(b"}").int(1).tensor(6, 0, &[2], &[1]).op(b"s.").0;
    assert_refused(&checkpoint(&key), &["names of tensors", "an integer"]);
    let c = Code::new().op(b"}").text("w").tensor(6, 0, &[2], &[1]);
    let twice = c.op(b"s").text("w").tensor(6, 2, &[2], &[1]).op(b"s.").0;
    assert_refused(&checkpoint(&twice), &["\"w\" once"]);
}

#[test]
fn instructions_that_torch_does_not_write_are_refused() {
    for op in *b"IFSVpgLioTUP\x82\x83\x84\x97\x98\x00\xff" {
        assert_refused(&checkpoint(&[0x80, 2, op, b'0', b'\n', b'.']), &["0x", "byte 2"]);
    }
    for protocol in [0, 1, 6, 255] {
        assert_refused(&checkpoint(&[0x80, protocol, b'}', b'.']), &["protocol"]);
    }
    let bad: &[(&[u8], &str)] = &[
        (b".", "empty stack"),
        (b"0.", "empty stack"),
        (b"t.", "a mark"),
        (b"(.", "a mark"),
        (b"h\x05.", "memo 5"),
        (b"}K\x01s.", "an empty stack"),
        (b"}(K\x01u.", "odd number"),
        (b"]}(K\x01e.", "to fill"),
        (b"K\x01Q.", "a tuple"),
        (b"X\x02\x00\x00\x00\xff\xfe.", "UTF-8"),
        (b"(a.", "a mark"),
    ];
    for (code, says) in bad {
        assert_refused(&checkpoint(&[b"\x80\x02", *code].concat()), &[says]);
    }
}

#[test]
fn counts_that_promise_too_much_cost_nothing() {
    let huge = (1u64 << 60).to_le_bytes();
    let code = |op: u8, n: &[u8]| [&[0x80, 4, op][..], n, b"."].concat();
    for op in [0x8d, 0x8e, 0x96, 0x95] {
        assert_refused(&checkpoint(&code(op, &huge)), &["bytes asked for"]);
    }
    for op in [b'X', b'B', 0x8b] {
        assert_refused(&checkpoint(&code(op, &[0xff; 4])), &["bytes asked for"]);
    }
    // A place far away in the memo is only a number.
    let far = Code::of(|c| c.tensor(6, 0, &[2], &[1]).op(b"r\xff\xff\xff\xff0j\xff\xff\xff\xff"));
    assert!(open(&checkpoint(&far)).is_ok());
}

#[test]
fn loops_and_depth_do_no_harm() {
    // A list that holds itself, a dictionary that holds itself under "model".
    let list = b"\x80\x02]q\x00h\x00a.";
    assert_refused(&checkpoint(list), &["dictionary"]);
    let own = Code::new().op(b"}q\x00").text("model").op(b"h\x00s.").0;
    assert_refused(&checkpoint(&own), &["\"model\"", "a dictionary"]);
    // Tuples in tuples, as deep as the file is long.
    let deep = [
        b"\x80\x02}X\x01\x00\x00\x00w)".to_vec(),
        vec![0x85; 1_000_000],
        b"s.".to_vec(),
    ]
    .concat();
    assert_refused(&checkpoint(&deep), &["\"w\"", "a tuple"]);
    // Many values, and one long list handed to a call again and again.
    let many = [b"\x80\x02".to_vec(), vec![b'N'; 5_000_000], b".".to_vec()].concat();
    assert_refused(&checkpoint(&many), &["at most 4000000 values"]);
    let pair = b"NN\x86a";
    let again = b"ccollections\nOrderedDict\nh\x00\x85R0";
    let code = [
        b"\x80\x02]q\x00".to_vec(),
        pair.repeat(100_000),
        again.repeat(10_000),
        b".".to_vec(),
    ]
    .concat();
    assert_refused(&checkpoint(&code), &["items in calls"]);
}

/// Damaged files give an error or other values, never a panic, an endless loop or a huge allocation.
#[test]
fn damaged_files_never_panic() {
    let mut s = Stream::new(7, Purpose::Init, 0, 0);
    let mut accepted = 0;
    for file in [good(), std::fs::read(fixture("nested.pth")).unwrap()] {
        for round in 0..1500 {
            let mut b = file.clone();
            for _ in 0..=round % 4 {
                let at = s.below(b.len() as u32) as usize;
                b[at] = s.below(256) as u8;
            }
            if let Ok(f) = open(&b) {
                accepted += 1;
                for n in f.names() {
                    let _ = f.load(n, &Device::Cpu);
                }
            }
        }
    }
    println!("{accepted} of 3000 damaged files still describe tensors");
}
