//! MedMNIST's archives: the first byte picks the set (one channel, three channels, many labels).
#![no_main]

use libfuzzer_sys::fuzz_target;
use medft::data::{DatasetReader, medmnist};
use medft::study::Protocol;
use medft_fuzz::{check, folder};

fuzz_target!(|bytes: &[u8]| {
    let Some((&pick, rest)) = bytes.split_first() else { return };
    let set: &dyn DatasetReader = [&medmnist::BREAST, &medmnist::DERMA, &medmnist::CHEST][usize::from(pick) % 3];
    let p = Protocol::faithful();
    let file = folder().join(format!("{}.npz", set.info(&p).name));
    std::fs::write(&file, rest).unwrap();
    if let Ok(d) = set.load(folder(), &p) {
        check(&d);
    }
    std::fs::remove_file(&file).unwrap();
});
