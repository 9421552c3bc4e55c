//! The decoder against libjpeg-turbo's own (`cjpeg` and `djpeg` of Debian's libjpeg-turbo-progs): every sampling, scan script
//! and restart interval, and single damaged bits. Never other pixels than djpeg's without an error or a remark, and whatever
//! libjpeg warns about is an error or a remark.

use crate::place::Place;
use crate::{has, skipped};
use medft::data::decode::{decode, examine};
use medft::spec::protocol::ImageLoading;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A picture with edges, ramps and noise, as PPM or PGM.
fn picture(width: usize, height: usize, channels: usize) -> Vec<u8> {
    let mut noise = 1u32;
    let mut out = format!("P{}\n{width} {height}\n255\n", if channels == 1 { 5 } else { 6 }).into_bytes();
    for y in 0..height {
        for x in 0..width {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let grain = (noise >> 28) as usize;
            let ramp = 255 * x / width;
            let edge = if (x / 7 + y / 5) % 3 == 0 { 90 } else { 0 };
            for c in 0..channels {
                out.push(((ramp * (c + 1) / 2 + edge + grain + y * c) % 256) as u8);
            }
        }
    }
    out
}

/// What djpeg makes of a file: whether it warned, and the pixels; `None` where it gave up.
fn djpeg(file: &Path) -> Option<(bool, Vec<u8>)> {
    let out = Command::new("djpeg").args(["-pnm"]).arg(file).output().unwrap();
    // 2 is EXIT_WARNING.
    if !matches!(out.status.code(), Some(0 | 2)) {
        return None;
    }
    let mut at = 0;
    for _ in 0..3 {
        at += out.stdout[at..].iter().position(|&b| b == b'\n')? + 1;
    }
    Some((
        out.status.code() == Some(2) || !out.stderr.is_empty(),
        out.stdout[at..].to_vec(),
    ))
}

fn cjpeg(p: &Place, args: &[&str], picture: &str) -> Vec<u8> {
    let out = Command::new("cjpeg")
        .args(args)
        .arg(p.path(picture))
        .current_dir(p.path(""))
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    out.stdout
}

/// A scan script that refines every band twice, and one that splits the spectrum.
const SCRIPTS: [&str; 3] = [
    "0,1,2: 0-0, 0, 2;\n0: 1-63, 0, 2;\n1: 1-63, 0, 2;\n2: 1-63, 0, 2;\n0,1,2: 0-0, 2, 1;\n0: 1-63, 2, 1;\n1: 1-63, 2, 1;\n\
     2: 1-63, 2, 1;\n0,1,2: 0-0, 1, 0;\n0: 1-63, 1, 0;\n1: 1-63, 1, 0;\n2: 1-63, 1, 0;\n",
    "0: 0-0, 0, 0;\n1,2: 0-0, 0, 0;\n0: 1-2, 0, 0;\n0: 3-5, 0, 1;\n0: 6-63, 0, 1;\n1: 1-63, 0, 1;\n2: 1-63, 0, 0;\n\
     0: 3-63, 1, 0;\n1: 1-63, 1, 0;\n",
    "0;\n1;\n2;\n",
];

/// Arguments of cjpeg and the picture.
fn cases(p: &Place) -> Vec<(Vec<String>, &'static str)> {
    fs::write(p.path("colour.ppm"), picture(83, 61, 3)).unwrap();
    fs::write(p.path("grey.pgm"), picture(83, 61, 1)).unwrap();
    fs::write(p.path("narrow.ppm"), picture(3, 40, 3)).unwrap();
    for (i, script) in SCRIPTS.iter().enumerate() {
        fs::write(p.path(&format!("script{i}")), script).unwrap();
    }
    let mut out = Vec::new();
    let mut add = |args: String, picture| out.push((args.split(' ').map(str::to_owned).collect(), picture));
    for sample in [
        "1x1",
        "2x1",
        "1x2",
        "2x2",
        "4x1",
        "1x4",
        "4x2",
        "2x4",
        "3x1",
        "1x1,2x2,1x1",
        "2x2,2x1,1x2",
        "2x1,1x1,2x1",
    ] {
        for kind in [
            "-baseline",
            "-optimize",
            "-progressive",
            "-scans script0",
            "-scans script1",
            "-scans script2",
        ] {
            add(format!("-quality 80 -sample {sample} {kind}"), "colour.ppm");
        }
        add(format!("-quality 97 -sample {sample} -baseline"), "narrow.ppm");
    }
    for restart in ["1", "2", "3B", "1B", "7B"] {
        for kind in ["-baseline", "-progressive", "-scans script0"] {
            add(
                format!("-quality 85 -sample 2x2 -restart {restart} {kind}"),
                "colour.ppm",
            );
            add(
                format!("-quality 85 -sample 2x1 -restart {restart} {kind}"),
                "colour.ppm",
            );
        }
        add(format!("-quality 85 -restart {restart}"), "grey.pgm");
    }
    for quality in ["1", "10", "50", "100"] {
        add(format!("-quality {quality} -baseline"), "colour.ppm");
        add(format!("-quality {quality} -progressive"), "grey.pgm");
    }
    add("-rgb -quality 90".into(), "colour.ppm");
    out
}

#[test]
fn every_sampling_script_and_restart_interval_gives_djpegs_pixels() {
    if !has("cjpeg") || !has("djpeg") {
        return skipped("there are no cjpeg and djpeg");
    }
    let p = Place::new();
    let (mut same, mut refused) = (0, Vec::new());
    for (args, picture) in cases(&p) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let bytes = cjpeg(&p, &args, picture);
        fs::write(p.path("x.jpg"), &bytes).unwrap();
        let (warned, pixels) = djpeg(&p.path("x.jpg")).unwrap();
        assert!(!warned, "{args:?}");
        let channels = if picture.ends_with("pgm") { 1 } else { 3 };
        match examine(&bytes, channels, ImageLoading::Authors) {
            Ok((image, stored)) => {
                assert!(image.data == pixels, "{args:?} {picture}: other pixels than djpeg's");
                assert!(stored.damage.descriptions().is_empty(), "{args:?}: {:?}", stored.damage);
                same += 1;
            }
            Err(e) => refused.push(format!("{args:?}: {e}")),
        }
    }
    // libjpeg itself refuses fractional sampling.
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(same > 100, "{same}");
}

#[test]
fn one_damaged_bit_never_gives_other_pixels_unnoticed() {
    if !has("cjpeg") || !has("djpeg") {
        return skipped("there are no cjpeg and djpeg");
    }
    let p = Place::new();
    cases(&p);
    let mut random = 7u32;
    let (mut read, mut remarked, mut warned, mut tried) = (0, 0, 0, 0);
    for args in [
        &["-quality", "80", "-sample", "2x2", "-baseline"][..],
        &["-quality", "80", "-sample", "2x1", "-restart", "2B"],
        &["-quality", "80", "-sample", "2x2", "-progressive"],
        &["-quality", "90", "-sample", "1x1", "-scans", "script0"],
        &["-quality", "90", "-sample", "1x1", "-scans", "script1"],
        &["-quality", "80", "-optimize", "-restart", "1"],
    ] {
        let whole = cjpeg(&p, args, "colour.ppm");
        for _ in 0..220 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let bit = (random >> 3) as usize % (whole.len() * 8);
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            tried += 1;
            let Ok((image, stored)) = examine(&bytes, 3, ImageLoading::Authors) else {
                continue;
            };
            fs::write(p.path("x.jpg"), &bytes).unwrap();
            let noticed = !stored.damage.descriptions().is_empty();
            let at = format!(
                "{args:?}, bit {bit}: byte {} of {}, {:02x?} before, {:02x?} now",
                bit / 8,
                whole.len(),
                &whole[bit / 8 - 2..(bit / 8 + 3).min(whole.len())],
                bytes[bit / 8]
            );
            let Some((warns, pixels)) = djpeg(&p.path("x.jpg")) else {
                // A fault in what no block uses, such as a table: there are no pixels to differ from.
                continue;
            };
            assert!(noticed || !warns, "{at}: libjpeg warns and medft does not");
            // djpeg writes one channel or three; medft was asked for three.
            let same = match pixels.len() == image.data.len() {
                true => pixels == image.data,
                false => decode(&bytes, 1, ImageLoading::Authors).is_ok_and(|grey| grey.data == pixels),
            };
            assert!(same || noticed, "{at}: other pixels than djpeg's");
            read += 1;
            remarked += usize::from(noticed);
            warned += usize::from(warns);
        }
    }
    eprintln!(
        "{tried} damaged files: {read} read, of them {remarked} with a remark and {warned} with a warning of libjpeg"
    );
    assert!(read > 100 && remarked > 10 && warned > 10, "{read} {remarked} {warned}");
}
