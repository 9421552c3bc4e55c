//! The image path against Pillow and torchvision: fixture folder `preprocess`.

use super::common::{fixtures, json, real};
use medft::data::transform::{Jitter, Transform, View};
use medft::data::{ImageArray, decode, pil};
use medft::spec::protocol::{Aspect, ImageLoading, ResizeOrder};
use medft::study::Protocol;
use safetensors::SafeTensors;
use serde_json::Value;
use sha2::{Digest, Sha256};

const AUTHORS: ImageLoading = ImageLoading::Authors;

fn bytes(rel: &str) -> Vec<u8> {
    let p = fixtures().join("preprocess").join(rel);
    std::fs::read(&p).unwrap_or_else(|e| panic!("{}: {e}", p.display()))
}

/// A (H, W, C) tensor of bytes.
fn image(t: &SafeTensors<'_>, name: &str) -> ImageArray {
    let v = t.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    let [height, width, channels] = *v.shape() else {
        panic!("{name}: shape {:?}", v.shape())
    };
    ImageArray {
        width,
        height,
        channels,
        data: v.data().to_vec(),
    }
}

/// Bit-exact equality, with a short message.
fn assert_same(found: &ImageArray, expected: &ImageArray, what: &str) {
    let shape = |i: &ImageArray| (i.height, i.width, i.channels);
    assert_eq!(shape(found), shape(expected), "{what}: shape");
    let differences = found.data.iter().zip(&expected.data).map(|(a, b)| a.abs_diff(*b));
    let (count, worst) = differences
        .filter(|&d| d > 0)
        .fold((0, 0), |(n, w), d| (n + 1, w.max(d)));
    assert_eq!(
        count,
        0,
        "{what}: {count} of {} values differ, by up to {worst}",
        found.data.len()
    );
}

fn floats(t: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let v = t.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    v.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn stats(config: &Value, name: &str) -> (Vec<f32>, Vec<f32>) {
    let list = |key: &str| {
        let values = config["stats"][name][key]
            .as_array()
            .unwrap_or_else(|| panic!("{name}.{key}"));
        values.iter().map(|v| v.as_f64().unwrap() as f32).collect()
    };
    (list("mean"), list("std"))
}

/// The number behind `mark` in a sentence of the configuration.
fn number_after(text: &str, mark: &str) -> usize {
    let at = text.find(mark).unwrap_or_else(|| panic!("no {mark:?} in {text:?}")) + mark.len();
    let digits: String = text[at..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// The protocol with the fixture's sizes.
fn protocol(config: &Value) -> Protocol {
    let pipeline = config["eval_pipeline"].as_str().unwrap();
    Protocol {
        resize: number_after(pipeline, "Resize((") as u32,
        crop: number_after(pipeline, "CenterCrop ") as u32,
        image_loading: AUTHORS,
        aspect: Aspect::Squash,
        resize_order: order(config),
        ..Protocol::faithful()
    }
}

/// The order of a resize's passes in the Pillow that made the fixture.
fn order(config: &Value) -> ResizeOrder {
    let version = config["versions"]["PIL"].as_str().unwrap();
    match version.split('.').next().unwrap().parse::<u32>().unwrap() {
        0..13 => ResizeOrder::WidthFirst,
        _ => ResizeOrder::Pillow13,
    }
}

/// Decoding: the stored pixels exactly (for JPEG as well: the decoder repeats libjpeg-turbo), in both loading modes.
#[test]
fn preprocess_decode() {
    let config = json("preprocess/preprocess.json");
    let data = bytes("preprocess.safetensors");
    let t = SafeTensors::deserialize(&data).unwrap();
    for (name, spec) in config["images"].as_object().unwrap() {
        let file = bytes(spec["file"].as_str().unwrap());
        let expected = image(&t, &format!("{name}.c3.decoded"));
        let rgb = decode::decode(&file, 3, AUTHORS).unwrap();
        assert_same(&rgb, &expected, name);
        let grey = decode::decode(&file, 1, AUTHORS).unwrap();
        assert_same(&grey, &pil::to_channels(expected, 1), &format!("{name} as L"));
    }
}

/// Resize, centre crop and normalisation of every image, from the stored pixels and from the file.
#[test]
fn preprocess_val() {
    let config = json("preprocess/preprocess.json");
    let data = bytes("preprocess.safetensors");
    let t = SafeTensors::deserialize(&data).unwrap();
    let p = protocol(&config);
    for (name, spec) in config["images"].as_object().unwrap() {
        let decoded = image(&t, &format!("{name}.c3.decoded"));
        let file = bytes(spec["file"].as_str().unwrap());
        for (channels, mode) in spec["modes"].as_object().unwrap() {
            let (mean, std) = stats(&config, mode["mean_std"].as_str().unwrap());
            assert_eq!(mean.len().to_string(), *channels);
            let transform = Transform::new(&p, &mean, &std).unwrap();
            let crop = transform.prepare(&decoded);
            let what = format!("{name}.c{channels}");
            assert_same(&crop, &image(&t, &format!("{what}.crop")), &what);
            let from_file = transform.preparation().decode(&file).unwrap();
            assert_same(&from_file, &crop, &format!("{what} from the file"));
            let key = format!("{name}.c{channels}.normalized_rows");
            check_rows(
                &transform,
                &crop,
                mode["normalized_rows"].as_str().unwrap(),
                &floats(&t, &key),
                &key,
            );

            let mut out = vec![0.0; transform.len()];
            transform.finish_val(&crop, &mut out);
            let mean = |f: &dyn Fn(f32) -> f32| out.iter().map(|&v| f64::from(f(v))).sum::<f64>() / out.len() as f64;
            let close = |a: f64, b: &Value| (a - b.as_f64().unwrap()).abs() < 1e-6;
            assert!(close(mean(&|v| v), &mode["checksum_mean"]), "{key}: mean");
            assert!(
                close(mean(&f32::abs), &mode["checksum_abs_mean"]),
                "{key}: mean of absolute values"
            );
        }
    }
    // The same crop with other statistics: `<image>.c3.normalized_rows.<statistics>`.
    for key in t.names() {
        let Some((head, set)) = key.split_once(".normalized_rows.") else {
            continue;
        };
        let (mean, std) = stats(&config, set);
        let transform = Transform::new(&p, &mean, &std).unwrap();
        let crop = image(&t, &format!("{head}.crop"));
        let name = head.split('.').next().unwrap();
        let rows = &config["images"][name]["modes"][mean.len().to_string()]["normalized_rows"];
        check_rows(&transform, &crop, rows.as_str().unwrap(), &floats(&t, key), key);
    }
}

/// Compares the rows that `sentence` lists, bit for bit.
fn check_rows(transform: &Transform, crop: &ImageArray, sentence: &str, expected: &[f32], what: &str) {
    let list = sentence.split("rows ").last().unwrap().split(' ').next().unwrap();
    let rows: Vec<usize> = list.split(',').map(|r| r.parse().unwrap()).collect();
    let mut out = vec![0.0; transform.len()];
    transform.finish_val(crop, &mut out);
    let side = crop.width;
    let found: Vec<u32> = (0..crop.channels)
        .flat_map(|c| rows.iter().map(move |r| (c * side + r) * side))
        .flat_map(|at| out[at..at + side].iter().map(|v| v.to_bits()))
        .collect();
    let expected: Vec<u32> = expected.iter().map(|v| v.to_bits()).collect();
    assert!(found == expected, "{what}: float32 values differ");
}

/// The sane alternatives: orientation applied, 16 bits scaled; and the other sizes of a resize.
#[test]
fn preprocess_alternatives() {
    let config = json("preprocess/preprocess.json");
    let data = bytes("preprocess.safetensors");
    let t = SafeTensors::deserialize(&data).unwrap();
    let p = Protocol {
        image_loading: ImageLoading::Sane,
        ..protocol(&config)
    };
    let transform = Transform::new(&p, &[0.5; 3], &[0.5; 3]).unwrap();
    let mut seen = 0;
    for key in t.names() {
        let (name, rest) = key.split_once('.').unwrap();
        let file = || bytes(config["images"][name]["file"].as_str().unwrap());
        if matches!(rest, "transposed.c3.crop" | "scaled.c3.crop") {
            assert_same(&transform.preparation().decode(&file()).unwrap(), &image(&t, key), key);
        } else if rest.starts_with("resize_") {
            let expected = image(&t, key);
            let decoded = image(&t, &format!("{name}.c3.decoded"));
            if let Some(side) = rest.strip_prefix("resize_short") {
                let size = pil::short_side_size(decoded.width, decoded.height, side.parse().unwrap());
                assert_eq!(size, (expected.width, expected.height), "{key}");
            }
            let found = pil::resize(&decoded, expected.width, expected.height, p.resize_order);
            assert_same(&found, &expected, key);
        } else {
            continue;
        }
        seen += 1;
    }
    assert!(seen >= 2, "{seen}");
}

fn window(crop: &Value) -> pil::Window {
    let n = |key: &str| crop[key].as_u64().unwrap() as usize;
    pil::Window {
        left: n("left"),
        top: n("top"),
        width: n("width"),
        height: n("height"),
    }
}

/// Every augmentation operation with its parameters, on RGB and on grey.
#[test]
fn preprocess_augment_ops() {
    let config = json("preprocess/preprocess.json");
    let data = bytes("augment.safetensors");
    let t = SafeTensors::deserialize(&data).unwrap();
    let names = t.names();
    for spec in config["augment_ops"].as_array().unwrap() {
        let (key, op, params) = (
            spec["key"].as_str().unwrap(),
            spec["op"].as_str().unwrap(),
            &spec["params"],
        );
        for (base, kind) in [("base", "rgb"), ("base_grey", "grey")] {
            let result = format!("{key}.{kind}");
            if !names.contains(&result.as_str()) {
                continue;
            }
            let mut img = image(&t, base);
            let factor = |name: &str| params[name].as_f64().unwrap();
            match op {
                "resized_crop" => {
                    let size = |i: usize| params["size"][i].as_u64().unwrap() as usize;
                    img = pil::resized_crop(&img, window(params), size(1), size(0), order(&config));
                }
                "hflip" => pil::flip_horizontal(&mut img),
                "vflip" => pil::flip_vertical(&mut img),
                "adjust_brightness" => pil::brightness(&mut img, factor("brightness_factor")),
                "adjust_contrast" => pil::contrast(&mut img, factor("contrast_factor")),
                "adjust_saturation" => pil::saturation(&mut img, factor("saturation_factor")),
                "adjust_hue" => pil::hue(&mut img, factor("hue_factor")),
                _ => panic!("{key}: {op} is not in the protocol"),
            }
            assert_same(&img, &image(&t, &result), &format!("{result}: {op} {params}"));
        }
    }
}

/// Whole training views: crop, flips, jitter in a drawn order, normalisation.
#[test]
fn preprocess_augment_chains() {
    let config = json("preprocess/preprocess.json");
    let data = bytes("augment.safetensors");
    let t = SafeTensors::deserialize(&data).unwrap();
    let base = image(&t, "base");
    for chain in config["augment_chains"].as_array().unwrap() {
        let key = chain["key"].as_str().unwrap();
        let order = chain["order"].as_array().unwrap();
        let factor = |name: &str| chain[name].as_f64().unwrap();
        let view = View {
            crop: window(&chain["crop"]),
            flip_vertical: chain["vflip"].as_bool().unwrap(),
            flip_horizontal: chain["hflip"].as_bool().unwrap(),
            jitter: Some(Jitter {
                order: std::array::from_fn(|i| order[i].as_u64().unwrap() as u8),
                brightness: factor("brightness"),
                contrast: factor("contrast"),
                saturation: factor("saturation"),
                hue: factor("hue"),
            }),
        };
        let side = chain["crop"]["size"][0].as_u64().unwrap() as usize;
        let found = view.apply_to(&base, side);
        assert_same(&found, &image(&t, key), key);

        // The file does not say which statistics the floats were made with; they are one of the listed three-channel ones.
        let expected: Vec<u32> = floats(&t, &format!("{key}.normalized"))
            .iter()
            .map(|v| v.to_bits())
            .collect();
        let p = Protocol {
            resize: side as u32,
            crop: side as u32,
            ..Protocol::faithful()
        };
        let same = |set: &String| {
            let (mean, std) = stats(&config, set);
            mean.len() == 3 && {
                let transform = Transform::new(&p, &mean, &std).unwrap();
                let mut out = vec![0.0; transform.len()];
                transform.finish_val(&found, &mut out);
                out.iter().map(|v| v.to_bits()).eq(expected.iter().copied())
            }
        };
        assert!(
            config["stats"].as_object().unwrap().keys().any(same),
            "{key}: normalised values"
        );
    }
}

/// Real photographs and mammograms, file by file the pixels that Pillow decodes.
#[test]
fn preprocess_real_files() {
    let vectors = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/pillow/real.json");
    let expected: Value = serde_json::from_slice(&std::fs::read(vectors).unwrap()).unwrap();
    for (folder, expected) in expected["folders"].as_object().unwrap() {
        let Some(dir) = real(folder) else { continue };
        let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        assert_eq!(files.len() as u64, expected["files"].as_u64().unwrap(), "{folder}");
        let (mut rgb, mut grey) = (Sha256::new(), Sha256::new());
        for file in files {
            let bytes = std::fs::read(&file).unwrap();
            rgb.update(decode::decode(&bytes, 3, AUTHORS).unwrap().data);
            grey.update(decode::decode(&bytes, 1, AUTHORS).unwrap().data);
        }
        assert_eq!(
            medft::fsio::hex(&rgb.finalize()),
            expected["rgb"].as_str().unwrap(),
            "{folder}"
        );
        assert_eq!(
            medft::fsio::hex(&grey.finalize()),
            expected["l"].as_str().unwrap(),
            "{folder}"
        );
    }
}
