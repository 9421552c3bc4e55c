//! PyTorch checkpoints: the zip archive with its tensors, and the machine that reads its `data.pkl` alone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use medft_readers::folder;
use medft_readers::model::pickle::archive::PickleFile;
use medft_readers::model::pickle::vm;
use std::io::{Cursor, Write};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

fuzz_target!(|bytes: &[u8]| {
    if bytes.starts_with(b"PK") {
        open(bytes);
        return;
    }
    if let Ok(p) = vm::run(bytes) {
        let _ = p.root();
        // The same pickle in a sound archive, so that views and storages are held against entries.
        open(&around(bytes));
    }
});

/// Opens an archive and reads every tensor of it.
fn open(archive: &[u8]) {
    // Views may repeat elements; many of them would only cost time.
    const MOST: usize = 1 << 24;
    let at = folder().join("checkpoint.pth");
    std::fs::write(&at, archive).unwrap();
    let Ok(f) = PickleFile::open(&at, None) else { return };
    let names: Vec<String> = f.names().map(str::to_owned).collect();
    let mut read = 0;
    for name in &names {
        let (shape, kind) = (f.shape(name).unwrap(), f.kind(name).unwrap());
        let len = shape.iter().product::<usize>() * kind.size();
        read += len;
        if read > MOST {
            return;
        }
        if let Ok(e) = f.elements(name) {
            assert_eq!(e.len(), len, "{name}");
        }
        f.forget(name);
    }
}

/// An archive as `torch.save` writes them, with storages 0 and 1.
fn around(pickle: &[u8]) -> Vec<u8> {
    let mut z = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in [("a/data.pkl", pickle), ("a/data/0", &[0; 48]), ("a/data/1", &[1; 16])] {
        z.start_file(name, stored).unwrap();
        z.write_all(bytes).unwrap();
    }
    z.finish().unwrap().into_inner()
}
