//! The operations against Pillow's own results: a small image through every operation (`pil_ops.json`), and every one of the
//! 2²⁴ colours through the colour operations (`pillow/all_colours.json`, hashes).

use super::*;
use crate::data::ImageArray;
use crate::fsio::sha256_hex;
use crate::spec::protocol::ResizeOrder::{Pillow13, WidthFirst};
use serde_json::Value;

fn vectors(name: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(name);
    serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap()
}

/// Nested lists (H, W) or (H, W, 3) as an image.
fn image(v: &Value) -> ImageArray {
    let rows = v.as_array().unwrap();
    let width = rows[0].as_array().unwrap().len();
    let channels = rows[0][0].as_array().map_or(1, Vec::len);
    let mut data = Vec::new();
    for px in rows.iter().flat_map(|r| r.as_array().unwrap()) {
        match px.as_array() {
            Some(px) => data.extend(px.iter().map(|v| v.as_u64().unwrap() as u8)),
            None => data.push(px.as_u64().unwrap() as u8),
        }
    }
    ImageArray {
        width,
        height: rows.len(),
        channels,
        data,
    }
}

/// Every entry of the file is named after what made it: `resize_HxW`, `<op>_<factor>`, `resized_crop_…`.
#[test]
fn every_operation_of_the_study_vectors() {
    let all = vectors("pil_ops.json");
    let base = image(&all["rgb_in"]);
    let mut checked = 0;
    for (name, expected) in all.as_object().unwrap() {
        let mut got = base.clone();
        let (op, arg) = name.split_once('_').unwrap_or((name, ""));
        match op {
            "rgb" => continue,
            "L" => got = to_channels(got, 1),
            "resize" => {
                let (h, w) = arg.split_once('x').unwrap();
                got = resize(&got, w.parse().unwrap(), h.parse().unwrap(), WidthFirst);
            }
            "resized" => {
                // crop_i<top>_j<left>_h<height>_w<width>_to_<H>x<W>
                let n: Vec<usize> = arg
                    .split(|c: char| !c.is_ascii_digit())
                    .filter_map(|s| s.parse().ok())
                    .collect();
                let from = Window {
                    top: n[0],
                    left: n[1],
                    height: n[2],
                    width: n[3],
                };
                got = resized_crop(&got, from, n[5], n[4], WidthFirst);
            }
            "brightness" => brightness(&mut got, arg.parse().unwrap()),
            "contrast" => contrast(&mut got, arg.parse().unwrap()),
            "saturation" => saturation(&mut got, arg.parse().unwrap()),
            "hue" => hue(&mut got, arg.parse().unwrap()),
            _ => panic!("{name}: no such operation"),
        }
        assert_eq!(got, image(expected), "{name}");
        checked += 1;
    }
    assert!(checked >= 12, "{checked}");
}

#[test]
fn all_colours_through_all_colour_operations() {
    let all = vectors("pillow/all_colours.json");
    let base = ImageArray {
        width: 4096,
        height: 4096,
        channels: 3,
        data: (0..1u32 << 24)
            .flat_map(|i| [(i >> 16) as u8, (i >> 8) as u8, i as u8])
            .collect(),
    };
    assert_eq!(sha256_hex(&to_channels(base.clone(), 1).data), all["luma"]);
    for (name, op) in [
        ("brightness", brightness as fn(&mut ImageArray, f64)),
        ("contrast", contrast),
        ("saturation", saturation),
        ("hue", hue),
    ] {
        for (factor, expected) in all[name].as_object().unwrap() {
            let mut got = base.clone();
            op(&mut got, factor.parse().unwrap());
            assert_eq!(sha256_hex(&got.data), expected.as_str().unwrap(), "{name} {factor}");
        }
    }
}

/// The two orders of the passes, against the versions of Pillow that have them.
#[test]
fn resize_order_of_old_and_new_pillow() {
    let all = vectors("pillow/resize_order.json");
    let mut differ = 0;
    for case in all["cases"].as_array().unwrap() {
        let n = |key: &str| case[key].as_u64().unwrap() as usize;
        let (width, height, channels) = (n("width"), n("height"), n("channels"));
        let img = ImageArray {
            width,
            height,
            channels,
            data: (0..(width * height * channels) as u64)
                .map(|i| ((i * 2_654_435_761) >> 13) as u8)
                .collect(),
        };
        for (order, key) in [(WidthFirst, "pillow_12"), (Pillow13, "pillow_13")] {
            let got = resize(&img, n("to_width"), n("to_height"), order);
            assert_eq!(sha256_hex(&got.data), case[key].as_str().unwrap(), "{case} {key}");
        }
        differ += u32::from(case["pillow_12"] != case["pillow_13"]);
    }
    assert!(differ > 5, "{differ}");
}
