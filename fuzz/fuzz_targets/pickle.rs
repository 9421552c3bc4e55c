//! PyTorch checkpoints: the zip archive with its tensors, or its `data.pkl` in a sound archive.
#![no_main]

use candle_core::Device;
use libfuzzer_sys::fuzz_target;
use medft_fuzz::folder;
use medft::model::pickle::PickleFile;
use std::io::{Cursor, Write};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

fuzz_target!(|bytes: &[u8]| {
    match bytes.starts_with(b"PK") {
        true => open(bytes),
        false => open(&around(bytes)),
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
        let shape = f.shape(name).unwrap().to_vec();
        read += shape.iter().product::<usize>();
        if read > MOST {
            return;
        }
        if let Ok(t) = f.load(name, &Device::Cpu) {
            assert_eq!(t.dims(), shape, "{name}");
        }
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
