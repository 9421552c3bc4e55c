//! JPEG, PNG and TIFF files and their EXIF blocks: the first byte picks channels and loading.
#![no_main]

use libfuzzer_sys::fuzz_target;
use medft::data::audit::fingerprint::Looks;
use medft::data::decode;
use medft::spec::protocol::ImageLoading;

/// Larger images would only cost time.
const PIXELS: usize = 1 << 18;

fuzz_target!(|bytes: &[u8]| {
    let Some((&pick, rest)) = bytes.split_first() else { return };
    if rest.starts_with(&[0x89, b'P']) {
        // Width and height of a PNG's header.
        let side = |at: usize| rest.get(at..at + 4).map_or(0, |b| u32::from_be_bytes(b.try_into().unwrap()) as usize);
        if side(16).saturating_mul(side(20)) > PIXELS {
            return;
        }
    }
    let channels = if pick & 1 == 0 { 1 } else { 3 };
    let loading = if pick & 2 == 0 { ImageLoading::Authors } else { ImageLoading::Sane };
    if let Ok((image, _)) = decode::examine(rest, channels, loading) {
        assert_eq!(image.data.len(), image.width * image.height * channels);
        if image.width > 0 && image.height > 0 {
            let looks = Looks::of(&image);
            assert!(looks.same(&looks));
        }
    }
});
