//! A user's own images: what `medft data add` understands, what it refuses, and that a set made so runs like any other.

mod place;

use image::{GrayImage, Luma, Rgb, RgbImage};
use place::Place;
use std::fs;

/// Twelve patients with four images each, light ones of class "mel", dark ones of class "nevus".
fn skin(p: &Place) -> String {
    let mut csv = String::from("image,dx,patient\n");
    fs::create_dir_all(p.path("my images/a")).unwrap();
    for i in 0..48u8 {
        let light = i / 4 % 2 == 0;
        let grey = if light { 170 } else { 50 } + i % 23;
        let img = RgbImage::from_fn(40, 30, |x, y| Rgb([grey, grey / 2, (x * 3 + y) as u8]));
        img.save(p.path(&format!("my images/a/im{i}.png"))).unwrap();
        let class = if light { "mel" } else { "nevus" };
        csv.push_str(&format!("a/im{i},{class},p{}\n", i / 4));
    }
    csv
}

const ADD: [&str; 11] = [
    "data",
    "add",
    "skin",
    "--images",
    "my images",
    "--labels",
    "labels.csv",
    "--label",
    "dx",
    "--group",
    "patient",
];

#[test]
fn a_table_of_images_becomes_a_data_set_that_runs() {
    let p = Place::new();
    fs::write(p.path("labels.csv"), skin(&p)).unwrap();
    // Tiny models read their data below data/phantom.
    let mut add = ADD.to_vec();
    add.extend([
        "--data-dir",
        "data/phantom",
        "--split-rule",
        "stratified:0.5/0.25/0.25",
        "--target",
        "accuracy",
    ]);
    let said = p.medft(&add);
    assert_eq!(said.code, 0, "{}", said.all());
    assert!(said.out.contains("12 groups, each in one part"), "{}", said.out);
    let table = fs::read_to_string(p.path("data/phantom/skin/table.csv")).unwrap();
    assert_eq!(table.lines().next(), Some("file,label,split,group"));
    // Six patients of either class: three in train, and one or two in each of the others.
    let count = |class: &str, part: &str| table.matches(&format!("{class},{part},")).count();
    for class in ["mel", "nevus"] {
        assert_eq!(count(class, "train"), 12, "{table}");
        assert_eq!(count(class, "val") + count(class, "test"), 12);
        assert!(count(class, "val") >= 4 && count(class, "test") >= 4);
    }
    let manifest = fs::read_to_string(p.path("data-manifests/skin.toml")).unwrap();
    assert!(manifest.contains("layout = \"table\"") && manifest.contains("classes = [\"mel\", \"nevus\"]"));
    // A data set like any other.
    let said = p.medft(&["data", "list"]);
    assert!(
        said.code == 0 && said.out.contains("skin") && said.out.contains("isic2019"),
        "{}",
        said.all()
    );
    let verified = p.medft(&["data", "verify", "skin", "--data-dir", "data/phantom"]);
    assert_eq!(verified.code, 0, "{}", verified.all());
    let study = p.study("own", |s| {
        s.replace("aptos2019", "skin")
            .replace("batch = 16", "batch = 8")
            .replace(", \"unfrozen\"", "")
    });
    let said = p.medft(&["run", &study]);
    assert_eq!(said.code, 0, "{}", said.all());
    let said = p.medft(&["report", &study]);
    assert_eq!(said.code, 0, "{}", said.all());
    // A second set of that name, or a built-in one's, is refused.
    for name in ["skin", "isic2019", "Skin", "../x"] {
        let mut again = add.clone();
        again[2] = name;
        assert_eq!(p.medft(&again).code, 2, "{name}");
    }
    // An edited label is no longer the data set that was locked.
    fs::write(p.path("data/phantom/skin/table.csv"), table.replacen("mel", "nevus", 1)).unwrap();
    assert_eq!(
        p.medft(&["data", "verify", "skin", "--data-dir", "data/phantom"]).code,
        2
    );
}

#[test]
fn everything_a_wrong_table_holds_is_named_with_its_line() {
    let p = Place::new();
    let mut csv = skin(&p).replace("patient\n", "patient,part\n");
    csv = csv
        .lines()
        .enumerate()
        .map(|(i, l)| match i {
            0 => format!("{l}\n"),
            _ => format!("{l},{}\n", ["train", "val", "test"][(i - 1) / 4 % 3]),
        })
        .collect();
    fs::write(p.path("my images/a/torn.png"), b"not an image").unwrap();
    GrayImage::from_pixel(9, 9, Luma([9]))
        .save(p.path("my images/rare.png"))
        .unwrap();
    for row in [
        "a/im0,mel,p0,train",
        "a/im1x,mel,p1,train",
        "../secret,mel,p2,test",
        "/etc/passwd,mel,p2,test",
        ",mel,p2,test",
        "a/torn,mel,p20,test",
        "rare,unheard of,p21,train",
        "a/im5,,p22,train",
        "a/im6,mel,p1,later",
        "a/im7,mel,p0,val",
    ] {
        csv.push_str(&format!("{row}\n"));
    }
    fs::write(p.path("labels.csv"), &csv).unwrap();
    let mut add = ADD.to_vec();
    add.extend(["--split", "part"]);
    let said = p.medft(&add);
    assert_eq!(said.code, 2, "{}", said.all());
    for (line, what) in [
        (50, "\"a/im0\" again, first at labels.csv:2"),
        (51, "no image \"a/im1x\""),
        (52, "leads out"),
        (53, "leads out"),
        (54, "the column \"image\" is blank"),
        (55, "torn.png"),
        (56, "\"unheard of\" has this image only"),
        (57, "the column \"dx\" is blank"),
        (58, "the part \"later\""),
        (59, "the group \"p0\" is in val here and in train"),
    ] {
        let at = format!("labels.csv:{line}: ");
        let named = said.err.lines().any(|l| l.starts_with(&at) && l.contains(what));
        assert!(named, "{at}{what}\n{}", said.err);
    }
    assert!(
        !p.path("data-manifests").exists() && !p.path("data").exists(),
        "nothing was written"
    );
}

#[test]
fn one_folder_a_class_needs_no_table() {
    let p = Place::new();
    for (class, grey) in [("benign", 30u8), ("malignant", 200)] {
        fs::create_dir_all(p.path(&format!("photos/{class}"))).unwrap();
        for i in 0..20u8 {
            let img = GrayImage::from_pixel(16, 16, Luma([grey + i]));
            img.save(p.path(&format!("photos/{class}/{i}.png"))).unwrap();
        }
    }
    let said = p.medft(&["data", "add", "photos", "--images", "photos", "--grey"]);
    assert_eq!(said.code, 0, "{}", said.all());
    let manifest = fs::read_to_string(p.path("data-manifests/photos.toml")).unwrap();
    let value = |key: &str| -> f64 {
        let line = manifest.lines().find(|l| l.starts_with(key)).unwrap();
        line.split(['[', ']']).nth(1).unwrap().parse().unwrap()
    };
    // By hand: images of one grey each, so the moments are those of the train part's greys.
    let table = fs::read_to_string(p.path("data/photos/table.csv")).unwrap();
    let greys: Vec<f64> = table
        .lines()
        .filter(|l| l.ends_with(",train"))
        .map(|l| {
            let i: f64 = l.split(['/', '.']).nth(1).unwrap().parse().unwrap();
            (i + if l.starts_with("benign") { 30.0 } else { 200.0 }) / 255.0
        })
        .collect();
    assert_eq!(greys.len(), 32);
    let mean = greys.iter().sum::<f64>() / 32.0;
    let std = (greys.iter().map(|g| (g - mean) * (g - mean)).sum::<f64>() / 32.0).sqrt();
    assert!((value("mean") - mean).abs() < 1e-6 && (value("std") - std).abs() < 1e-6);
    assert!(manifest.contains("target = \"roc_auc\"") && manifest.contains("groups = false"));
}
