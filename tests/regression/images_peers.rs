//! Findings of peers' image suites (Pillow, libjpeg-turbo, wuffs, zune-image, jpeg-decoder, TwelveMonkeys), with the property
//! that mattered made anew out of files of `tests/vectors/pillow`.

use medft::data::ImageArray;
use medft::data::decode::{Fault, decode, examine};
use medft::data::format::Cure;
use medft::data::pil::resize;
use medft::spec::protocol::{ImageLoading, ResizeOrder};
use std::path::Path;

fn vector(name: &str) -> Vec<u8> {
    std::fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/vectors/pillow")
            .join(name),
    )
    .unwrap()
}

fn read(bytes: &[u8]) -> ImageArray {
    decode(bytes, 3, ImageLoading::Authors).unwrap()
}

/// Marker and whole length of every segment before the scan, with their places.
fn segments(jpeg: &[u8]) -> Vec<(u8, usize, usize)> {
    let (mut out, mut at) = (Vec::new(), 2);
    while jpeg[at + 1] != 0xDA {
        let length = 2 + usize::from(jpeg[at + 2]) * 256 + usize::from(jpeg[at + 3]);
        out.push((jpeg[at + 1], at, length));
        at += length;
    }
    out.push((0xDA, at, 0));
    out
}

/// mjpeg.jpg, mjpeg_huffman.jpg: frames of Motion JPEG leave the standard Huffman tables out.
#[test]
fn the_standard_huffman_tables_are_meant_where_a_file_has_none() {
    for name in ["420.jpg", "grey.jpg", "restart.jpg"] {
        let bytes = vector(name);
        let mut bare = bytes[..2].to_vec();
        for (marker, at, length) in segments(&bytes) {
            match marker {
                0xC4 => {}
                0xDA => bare.extend(&bytes[at..]),
                _ => bare.extend(&bytes[at..at + length]),
            }
        }
        assert!(bare.len() < bytes.len());
        assert_eq!(read(&bare), read(&bytes), "{name}");
    }
    // A progressive file without tables has none to be meant.
    let bytes = vector("progressive.jpg");
    let first = segments(&bytes).into_iter().find(|s| s.0 == 0xC4).unwrap();
    let cut = [&bytes[..first.1], &bytes[first.1 + first.2..]].concat();
    assert!(decode(&cut, 3, ImageLoading::Authors).is_err());
}

/// duplicate-component-ids.jpg
#[test]
fn components_of_one_id_are_taken_in_order() {
    let mut bytes = vector("420.jpg");
    let whole = read(&bytes);
    for (marker, at, _) in segments(&bytes) {
        let (first, step) = match marker {
            0xC0 => (at + 10, 3),
            0xDA => (at + 5, 2),
            _ => continue,
        };
        (0..3).for_each(|i| bytes[first + step * i] = 1);
    }
    assert_eq!(read(&bytes), whole);
}

/// hippopotamus-bad-comment-length.jpeg
#[test]
fn a_comment_without_length_is_an_empty_one() {
    let bytes = vector("420.jpg");
    for (marker, length) in [(0xFE, 0), (0xFE, 1), (0xE5, 0), (0xED, 1), (0xE1, 0)] {
        let odd = [&bytes[..2], &[0xFF, marker, 0, length], &bytes[2..]].concat();
        assert_eq!(read(&odd), read(&bytes), "{marker:x} {length}");
    }
    let broken = [&bytes[..2], &[0xFF, 0xDB, 0, 1], &bytes[2..]].concat();
    assert!(
        decode(&broken, 3, ImageLoading::Authors).is_err(),
        "a table needs its length"
    );
}

/// extraneous-data.jpg: libjpeg warns, Pillow reads; a remark of `data audit`, an error with --strict.
#[test]
fn bytes_left_over_are_a_remark() {
    for name in ["420.jpg", "grey.jpg", "restart.jpg", "progressive.jpg"] {
        let bytes = vector(name);
        let (whole, stored) = examine(&bytes, 3, ImageLoading::Authors).unwrap();
        assert!(stored.damage.descriptions().is_empty(), "{name}: {:?}", stored.damage);
        let end = bytes.len() - 2;
        for extra in [&[0x12, 0x34, 0x56][..], &[0x00; 9], &[0xFF, 0x00]] {
            let odd = [&bytes[..end], extra, &bytes[end..]].concat();
            let (pixels, stored) = examine(&odd, 3, ImageLoading::Authors).unwrap();
            assert_eq!(pixels, whole, "{name}");
            assert!(stored.damage.extra_bytes, "{name} {extra:?}");
        }
        // What follows the end of the image is no part of it.
        let behind = [&bytes[..], b"trailer"].concat();
        assert!(
            examine(&behind, 3, ImageLoading::Authors)
                .unwrap()
                .1
                .damage
                .descriptions()
                .is_empty()
        );
    }
}

/// splitbar.png, 6 × 1024: Pillow 12.2 and 12.3 resize the height first. SHA-256 of `Image.resize(size, BILINEAR)` of the
/// pixels `(37 x + 11 y²) & 255`, by the Pillow of that version.
#[test]
fn very_high_images_are_resized_as_each_pillow_does() {
    let pixel = |i: usize| ((i % 6) * 37 + (i / 6) * (i / 6) * 11) as u8;
    let image = ImageArray {
        width: 6,
        height: 1024,
        channels: 1,
        data: (0..6 * 1024).map(pixel).collect(),
    };
    for (width, height, order, expected) in [
        (
            256,
            256,
            ResizeOrder::WidthFirst,
            "b86411dc1e21f7ca82faeedf61a1f48bd522ebe92e269c3ebeb58234817e65e1",
        ),
        (
            224,
            224,
            ResizeOrder::WidthFirst,
            "394bad2fcc922c4b82ff6f4f8babbf6fd65f5dfd7b1719c6403373a1741d38e0",
        ),
        (
            72,
            64,
            ResizeOrder::WidthFirst,
            "7d77a842a8c5bdde0635f5dd8c1d43afd5d934a05f6accb4be5761e00eafbfa6",
        ),
        (
            256,
            256,
            ResizeOrder::Pillow12,
            "9ff66fad010e806d9abe5546e34642763a557b0d5c2f878f0278b1995389f8fe",
        ),
        (
            224,
            224,
            ResizeOrder::Pillow12,
            "0975d007341be4e84843b5e74508cb580600f413c05b092a57e8c0ebfe50bbb2",
        ),
        (
            72,
            64,
            ResizeOrder::Pillow12,
            "347192aa5f1febaefd44c90e937517135a1e1ade1daaa6525c0cd574f6a4b7d0",
        ),
        (
            256,
            256,
            ResizeOrder::Pillow13,
            "9ff66fad010e806d9abe5546e34642763a557b0d5c2f878f0278b1995389f8fe",
        ),
        (
            224,
            224,
            ResizeOrder::Pillow13,
            "0975d007341be4e84843b5e74508cb580600f413c05b092a57e8c0ebfe50bbb2",
        ),
        (
            72,
            64,
            ResizeOrder::Pillow13,
            "347192aa5f1febaefd44c90e937517135a1e1ade1daaa6525c0cd574f6a4b7d0",
        ),
    ] {
        let got = resize(&image, width, height, order);
        assert_eq!(
            medft::fsio::sha256_hex(&got.data),
            expected,
            "{width} × {height} {order}"
        );
    }
}

/// xcsn0g01.png: a PNG fault was shown as Rust's Debug text.
#[test]
fn faults_of_a_png_are_plain_words() {
    let bytes = vector("rgb8.png");
    let idat = bytes.windows(4).position(|w| w == b"IDAT").unwrap();
    let length = u32::from_be_bytes(bytes[idat - 4..idat].try_into().unwrap()) as usize;
    let mut checksum = bytes.clone();
    checksum[idat + 4 + length] ^= 1;
    let e = decode(&checksum, 3, ImageLoading::Authors).unwrap_err();
    assert_eq!(
        e.to_string(),
        "damaged PNG data (the checksum of its IDAT chunk is wrong)"
    );
    let plain = |text: &str| !text.contains(['{', '}']) && !text.contains("ChunkType") && !text.contains("..");
    let mut header = bytes.clone();
    header[25] = 9;
    for at in (8..bytes.len()).step_by(3) {
        let mut odd = bytes.clone();
        odd[at] ^= 0x55;
        if let Err(e) = decode(&odd, 3, ImageLoading::Authors) {
            assert!(plain(&e.to_string()), "{at}: {e}");
        }
    }
    assert!(decode(&header, 3, ImageLoading::Authors).is_err());
}

/// exif_imagemagick_orientation.png: the orientation stands in a text chunk, or in XMP.
#[test]
fn orientation_is_found_outside_of_exif_as_well() {
    let png = vector("rgb8.png");
    let chunk = |kind: &[u8], data: &[u8]| {
        let body = [kind, data].concat();
        let crc = !body.iter().fold(!0u32, |crc, &b| {
            (0..8).fold(crc ^ u32::from(b), |c, _| {
                if c & 1 == 1 { c >> 1 ^ 0xEDB8_8320 } else { c >> 1 }
            })
        });
        [&(data.len() as u32).to_be_bytes()[..], &body, &crc.to_be_bytes()].concat()
    };
    let profile = b"Raw profile type exif\0\nexif\n      32\n\
        4578696600004d4d002a00000008000101120003000000010006000000000000\n";
    let xmp = b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation=\"6\"/>";
    let size = |bytes: &[u8], loading| {
        let image = decode(bytes, 3, loading).unwrap();
        (image.width, image.height)
    };
    let (width, height) = size(&png, ImageLoading::Sane);
    assert_ne!(width, height);
    for extra in [chunk(b"tEXt", profile), chunk(b"iTXt", xmp)] {
        let odd = [&png[..33], &extra, &png[33..]].concat();
        assert_eq!(size(&odd, ImageLoading::Sane), (height, width));
        assert_eq!(size(&odd, ImageLoading::Authors), (width, height));
    }
    let jpeg = vector("restart.jpg");
    let body = [
        &b"http://ns.adobe.com/xap/1.0/\0"[..],
        b"<tiff:Orientation>8</tiff:Orientation>",
    ]
    .concat();
    let app1 = [&[0xFF, 0xE1][..], &(body.len() as u16 + 2).to_be_bytes(), &body].concat();
    let odd = [&jpeg[..2], &app1, &jpeg[2..]].concat();
    let (_, stored) = examine(&odd, 3, ImageLoading::Authors).unwrap();
    assert_eq!(stored.orientation, Some(8));
}

/// The remedy for what is whole and unsupported is to convert it, not to get it again.
#[test]
fn what_is_whole_and_not_read_is_to_be_converted() {
    let fault = |bytes: &[u8]| decode(bytes, 3, ImageLoading::Authors).unwrap_err();
    let arithmetic = fault(&vector("arith.jpg"));
    assert_eq!(
        (arithmetic.cure(), arithmetic),
        (Cure::Convert, Fault::Unsupported("arithmetic coding"))
    );
    let whole = vector("420.jpg");
    assert_eq!(fault(&whole[..1000]).cure(), Cure::GetAgain);
    for (bytes, said, cure) in [
        (
            &b"RIFF\x24\0\0\0WEBPVP8 "[..],
            "a WebP image, which medft does not read",
            Cure::Convert,
        ),
        (
            b"II*\0\x08\0\0\0",
            "damaged TIFF data (the file ends early)",
            Cure::GetAgain,
        ),
        (
            b"version https://git-lfs.github.com/spec/v1",
            "a Git LFS pointer",
            Cure::PullLfs,
        ),
        (b"<html>", "a web page (HTML)", Cure::SignIn),
        (b"", "an empty file", Cure::GetAgain),
    ] {
        let e = fault(bytes);
        assert_eq!((e.to_string(), e.cure()), (said.to_owned(), cure));
    }
}
