//! A user's own images: what `medft data add` understands, what it refuses, and that a set made so runs like any other.

use crate::place::{Place, Said};
use image::{GrayImage, Luma, Rgb, RgbImage};
use std::fs;

/// Twelve patients with four images each, light ones of class "mel", dark ones of class "nevus".
pub(super) fn skin(p: &Place) -> String {
    let mut csv = String::from("image,dx,patient\n");
    fs::create_dir_all(p.path("my images/a")).unwrap();
    for i in 0..48u8 {
        let light = i / 4 % 2 == 0;
        let grey = if light { 170 } else { 50 } + i;
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
    let mut add = ADD.to_vec();
    add.extend(["--split-rule", "stratified:0.5/0.25/0.25", "--target", "accuracy"]);
    let said = p.medft(&add);
    assert_eq!(said.code, 0, "{}", said.all());
    assert!(said.out.contains("groups     12"), "{}", said.out);
    let table = fs::read_to_string(p.path("data/skin/table.csv")).unwrap();
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
    for args in [
        &["data", "verify", "skin", "--decode"][..],
        &["data", "lock", "skin"],
        &["data", "audit", "skin"],
        &["data", "card", "skin"],
    ] {
        let said = p.medft(args);
        assert_eq!(said.code, 0, "{args:?}: {}", said.all());
    }
    let said = p.medft(&["data", "fetch", "skin", "--accept-terms", "--data-dir", "elsewhere"]);
    assert!(
        said.code == 2 && said.all().contains("medft data add skin"),
        "nobody publishes it: {}",
        said.all()
    );
    // A second set of that name, or a built-in one's, is refused.
    for name in ["skin", "isic2019", "Skin", "../x"] {
        let mut again = add.clone();
        again[2] = name;
        assert_eq!(p.medft(&again).code, 2, "{name}");
    }
    // An edited label is no longer the data set that was locked.
    fs::write(p.path("data/skin/table.csv"), table.replacen("mel", "nevus", 1)).unwrap();
    assert_eq!(p.medft(&["data", "verify", "skin"]).code, 2);
}

/// From a folder and a table to the report of a sweep, as docs/OWN-DATA.md tells it.
#[test]
fn a_sweep_over_own_data_goes_through_to_its_report() {
    let p = Place::new();
    fs::write(p.path("labels.csv"), skin(&p)).unwrap();
    let mut add = ADD.to_vec();
    add.extend(["--split-rule", "stratified:0.5/0.25/0.25"]);
    assert_eq!(p.medft(&add).code, 0);
    let new = [
        "new",
        "rates",
        "--dataset",
        "skin",
        "--backbone",
        "dinov2-b",
        "--heads",
        "linear",
        "--seeds",
        "0,1",
        "--scale",
        "tiny",
    ];
    let mut all = new.to_vec();
    for set in [
        "lr=[1e-5, 5e-2]",
        "epochs=3",
        "batch=8",
        "resize=72",
        "crop=64",
        "warmup=none",
        "augment=none",
    ] {
        all.extend(["--set", set]);
    }
    let said = p.medft(&all);
    assert_eq!(said.code, 0, "{}", said.all());
    assert!(said.out.contains("2 cells, 4 runs"), "{}", said.out);
    let text = fs::read_to_string(p.path("experiments/rates.toml")).unwrap();
    assert!(
        text.contains("lr = [1e-5, 5e-2]") && text.contains("# expected = "),
        "{text}"
    );
    assert!(
        text.contains("datasets = [\"skin\"]") && text.contains("isic2019"),
        "{text}"
    );
    // Nothing is overwritten, and no built-in name is taken.
    assert_eq!(p.medft(&all).code, 2);
    let mut other = new.to_vec();
    other[1] = "paper";
    assert_eq!(p.medft(&other).code, 2);
    other[1] = "typo";
    other[3] = "skn";
    let said = p.medft(&other);
    assert!(
        said.code == 2 && said.err.contains("Did you mean `skin`?"),
        "{}",
        said.err
    );

    for args in [&["plan", "rates"][..], &["run", "rates"], &["report", "rates"]] {
        let said = p.medft(args);
        assert_eq!(said.code, 0, "{args:?}: {}", said.all());
    }
    // One point alone is a study's own part, and its runs are these.
    let plan = p.medft(&["plan", "rates", "--json", "--only", "lr=5e-2"]).json();
    assert_eq!(plan.as_array().unwrap().len(), 2);
    assert!(
        plan.as_array()
            .unwrap()
            .iter()
            .all(|r| r["state"] == "done" && r["point"] == "lr 0.05"),
        "{plan}"
    );

    let csv = fs::read_to_string(p.path("reports/rates/tables/skin-sweep.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let header = reader.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let get = |r: &csv::StringRecord, name: &str| r[header.iter().position(|h| h == name).unwrap()].to_owned();
    let mean = |lr: &str, part: &str| -> f64 {
        let row = rows
            .iter()
            .find(|r| get(r, "lr") == lr && get(r, "part") == part)
            .unwrap();
        get(row, "mean").parse().unwrap()
    };
    // The choice is that of the validation column, recomputed from the runs' own epochs: the tool that chose is not asked.
    let mut best: Vec<(String, f64)> = Vec::new();
    for lr in ["1e-5", "0.05"] {
        let mut selected = Vec::new();
        for run in fs::read_dir(p.path("results/rates")).unwrap() {
            let dir = run.unwrap().path();
            let Ok(spec) = fs::read_to_string(dir.join("spec.json")) else {
                continue;
            };
            let spec: serde_json::Value = serde_json::from_str(&spec).unwrap();
            if spec["content"]["run"]["protocol"]["lr"] != lr.parse::<f64>().unwrap() {
                continue;
            }
            let epochs = fs::read_to_string(dir.join("epochs.json")).unwrap();
            let epochs: serde_json::Value = serde_json::from_str(&epochs).unwrap();
            let values = epochs["content"].as_array().unwrap().iter();
            selected.push(
                values
                    .map(|e| e["val"]["roc_auc"].as_f64().unwrap())
                    .fold(f64::MIN, f64::max),
            );
        }
        assert_eq!(selected.len(), 2);
        let own = selected.iter().sum::<f64>() / 2.0;
        assert!((own - mean(lr, "validation")).abs() < 1e-12, "{lr}: {own} {csv}");
        best.push((lr.to_owned(), own));
    }
    let want = if best[1].1 > best[0].1 { "0.05" } else { "1e-5" };
    let chosen: Vec<String> = rows
        .iter()
        .filter(|r| get(r, "chosen") == "yes")
        .map(|r| get(r, "lr"))
        .collect();
    assert_eq!(chosen, [want, want], "{csv}");
    let page = fs::read_to_string(p.path("reports/rates/README.md")).unwrap();
    assert!(
        page.contains("sweep of lr") && page.contains("Test scores decide nothing"),
        "{page}"
    );
    let page = fs::read_to_string(p.path("reports/rates/index.html")).unwrap();
    assert!(
        page.contains("without a look at test scores") && page.contains(",lr=0.05"),
        "the page says how it was chosen"
    );
    assert_eq!(p.medft(&["verify-results", "rates"]).code, 0);
}

/// What a study file lacks is told at once, and what it may leave out is left out.
#[test]
fn all_missing_keys_of_a_study_are_told_at_once() {
    let p = Place::new();
    fs::write(
        p.path("own.toml"),
        "preset = \"corrected\"\ndatasets = [\"ddsm\"]\nfreeze = [\"frozen\"]\n",
    )
    .unwrap();
    let said = p.medft(&["plan", "own.toml"]);
    assert_eq!(said.code, 2);
    assert!(
        said.err.contains("`title`, `backbones`, `heads` and `seeds`"),
        "{}",
        said.err
    );
    let study = p.study("short", |s| {
        s.replace("expected = \"Nothing: it tests the program.\"\n", "")
    });
    assert_ne!(p.medft(&["plan", &study]).code, 2, "it only lacks its data");
    // A sweep of what selects, of how the data is cut, or beside published values would compare what cannot be compared.
    for (line, what) in [
        (
            "selection_metric = [\"accuracy\", \"roc_auc\"]",
            "must be the same at every point",
        ),
        ("isic_split = [\"by-image\", \"by-lesion\"]", "Write `splits"),
        ("lr = [1e-4, 0.0001]", "every member once"),
        ("lr = []", "at least one member"),
        ("lr = [1e-4, -1]", "expected"),
    ] {
        let study = p.study("wrong", |s| s.replace("lr = 2e-3", line));
        let said = p.medft(&["plan", &study]);
        assert!(said.code == 2 && said.err.contains(what), "{line}: {}", said.err);
    }
    let study = p.study("beside", |s| {
        s.replace("lr = 2e-3", "lr = [1e-4, 1e-3]") + "[report]\npublished = [\"paper2025\"]\n"
    });
    let said = p.medft(&["plan", &study]);
    assert!(
        said.code == 2 && said.err.contains("no published values beside a sweep"),
        "{}",
        said.err
    );
}

#[test]
fn everything_a_wrong_table_holds_is_named_with_its_line() {
    let p = Place::new();
    let mut csv = skin(&p);
    csv = csv
        .lines()
        .enumerate()
        .map(|(i, l)| match i {
            0 => format!("{l},part\n"),
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
        (55, "torn.png is unreadable: it is a text file"),
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

/// Tables as spreadsheets and other systems save them, with what only a look at the columns shows.
#[test]
fn any_dialect_is_read_and_wrong_columns_are_told_at_once() {
    let p = Place::new();
    let csv = skin(&p).replace("a/im", "./a/im");
    let add = |text: &[u8], more: &[&str]| {
        fs::write(p.path("labels.csv"), text).unwrap();
        let mut all = ADD.to_vec();
        all.extend(["--dry-run", "--json"]);
        all.extend(more);
        p.medft(&all)
    };
    let want = add(csv.as_bytes(), &[]).json();
    assert_eq!(want["problems"].as_array().unwrap().len(), 0, "{want}");
    assert_eq!(want["images"], 48);
    let utf16: Vec<u8> = format!("\u{feff}{}", csv.replace(',', "\t"))
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for text in [
        csv.replace('\n', "\r\n").into_bytes(),
        format!("\u{feff}{}", csv.replace(',', ";")).into_bytes(),
        csv.replace(',', "\t").into_bytes(),
        csv.replace(',', ", ").into_bytes(),
        utf16,
    ] {
        let said = add(&text, &[]).json();
        for key in ["table", "counts", "groups", "problems"] {
            assert_eq!(
                said[key],
                want[key],
                "{key} of {:?}",
                String::from_utf8_lossy(&text[..40])
            );
        }
    }
    assert!(
        !p.path("data-manifests").exists() && !p.path("data").exists(),
        "a dry run writes nothing"
    );
    let said = add(csv.as_bytes(), &["--id", "img", "--split", "set"]);
    assert_eq!(said.code, 2);
    for what in ["no column \\\"img\\\"", "no column \\\"set\\\""] {
        assert!(said.out.contains(what), "{what}: {}", said.all());
    }
    // Backslashes, another case, classes that differ in capitals, a class that is not among the named ones.
    let odd = csv
        .replacen("./a/im0,", "a\\im0,", 1)
        .replacen("./a/im1,", "a/IM1,", 1)
        .replacen("im2,mel", "im2,Mel", 1)
        .replacen("im3,mel", "im3, MEL ", 1);
    let said = add(odd.as_bytes(), &[]);
    assert_eq!(said.code, 2);
    for what in [
        "write / in place of",
        "a/im1.png\\\" is there",
        "differ in capitals or blanks only",
    ] {
        assert!(said.out.contains(what), "{what}: {}", said.all());
    }
    let said = add(csv.as_bytes(), &["--classes", "mel,bcc"]);
    assert!(
        said.code == 2 && said.out.contains("none of --classes mel, bcc"),
        "{}",
        said.all()
    );
    // Grades want an order.
    let said = add(csv.as_bytes(), &["--target", "quadratic_kappa"]);
    assert!(
        said.code == 2 && said.out.contains("--classes mel,nevus"),
        "{}",
        said.all()
    );
    let said = add(
        csv.as_bytes(),
        &["--target", "quadratic_kappa", "--classes", "nevus,mel"],
    )
    .json();
    assert_eq!(said["table"]["classes"], serde_json::json!(["nevus", "mel"]));
    let said = add(csv.as_bytes(), &["--target", "specificty"]);
    assert!(
        said.code == 2 && said.all().contains("quadratic_kappa"),
        "{}",
        said.all()
    );
}

/// Several labels an image, as columns of 0 and 1 and as words in one column.
#[test]
fn labels_may_be_many() {
    let p = Place::new();
    skin(&p);
    let label = |i: usize| (i.is_multiple_of(3), i % 4 < 2);
    let columns: String = (0..48)
        .map(|i| format!("a/im{i},{},{}\n", u8::from(label(i).0), u8::from(label(i).1)))
        .collect();
    let words = |i: usize| {
        let (a, b) = label(i);
        let all: Vec<&str> = [(a, "effusion"), (b, "mass")]
            .iter()
            .filter(|w| w.0)
            .map(|w| w.1)
            .collect();
        if all.is_empty() {
            "clear".to_owned()
        } else {
            all.join("|")
        }
    };
    let one: String = (0..48).map(|i| format!("a/im{i},{}\n", words(i))).collect();
    fs::write(p.path("columns.csv"), format!("image,effusion,mass\n{columns}")).unwrap();
    fs::write(p.path("words.csv"), format!("image,found\n{one}")).unwrap();
    let add = ["data", "add", "chest", "--images", "my images", "--labels"];
    let said = p.medft(&[&add[..], &["columns.csv", "--label", "effusion", "--label", "mass"]].concat());
    assert_eq!(said.code, 0, "{}", said.all());
    let table = fs::read_to_string(p.path("data/chest/table.csv")).unwrap();
    assert!(
        table.starts_with("file,label:effusion,label:mass,split\na/im0.png,1,1,"),
        "{table}"
    );
    assert_eq!(p.medft(&["data", "verify", "chest"]).code, 0);
    let mut two = add.to_vec();
    two[2] = "chest2";
    let said = p.medft(
        &[
            &two[..],
            &["words.csv", "--label", "found", "--task", "multilabel", "--json"],
        ]
        .concat(),
    );
    let said = said.json();
    assert_eq!(
        said["table"]["classes"],
        serde_json::json!(["clear", "effusion", "mass"]),
        "{said}"
    );
    assert_eq!(said["table"]["task"], "multilabel");
}

/// Folders train, val and test; 16 bits and TIFF; arrays.
#[test]
fn folders_of_parts_deep_images_and_arrays_are_read() {
    let p = Place::new();
    for (part, n) in [("train", 12u32), ("val", 4), ("test", 4)] {
        for (class, level) in [("a", 9_000u32), ("b", 50_000)] {
            fs::create_dir_all(p.path(&format!("set/{part}/{class}"))).unwrap();
            for i in 0..n {
                let grey = image::ImageBuffer::from_fn(9, 7, |x, _| Luma([(level + i * 100 + x * 7 + n) as u16]));
                let end = if i % 2 == 0 { "png" } else { "tif" };
                grey.save(p.path(&format!("set/{part}/{class}/{i}.{end}"))).unwrap();
            }
        }
    }
    let said = p.medft(&["data", "add", "parts", "--images", "set", "--grey", "--task", "binary"]);
    assert_eq!(said.code, 0, "{}", said.all());
    assert!(
        said.out.contains("folders train, val and test") && said.out.contains("16 bits a sample"),
        "{}",
        said.out
    );
    let manifest = fs::read_to_string(p.path("data-manifests/parts.toml")).unwrap();
    assert!(
        manifest.contains("kind = \"16-bit\"") && manifest.contains("task = \"binary\""),
        "{manifest}"
    );
    assert_eq!(p.medft(&["data", "verify", "parts", "--decode"]).code, 0);

    let array = |name: &str, kind: &str, shape: &str, data: &[u8]| {
        let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}");
        let pad = 63 - (10 + header.len()) % 64;
        let header = format!("{header}{}\n", " ".repeat(pad));
        let mut npy = b"\x93NUMPY\x01\x00".to_vec();
        npy.extend((header.len() as u16).to_le_bytes());
        npy.extend(header.as_bytes());
        npy.extend(data);
        (format!("{name}.npy"), npy)
    };
    let pixels: Vec<u8> = (0..40u32)
        .flat_map(|i| (0..12u32).map(move |k| (i * 6 + k * (i % 5)) as u8))
        .collect();
    let labels: Vec<u8> = (0..40).map(|i| i % 2).collect();
    let mut zip = zip::ZipWriter::new(fs::File::create(p.path("own.npz")).unwrap());
    for (name, npy) in [
        array("images", "|u1", "(40, 2, 2, 3)", &pixels),
        array("labels", "|u1", "(40,)", &labels),
    ] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, &npy).unwrap();
    }
    zip.finish().unwrap();
    let said = p.medft(&[
        "data",
        "add",
        "arrays",
        "--images",
        "own.npz",
        "--classes",
        "benign,malignant",
    ]);
    assert_eq!(said.code, 0, "{}", said.all());
    let first = image::open(p.path("data/arrays/images/images/000007.png"))
        .unwrap()
        .to_rgb8();
    assert_eq!(first.into_raw(), pixels[7 * 12..8 * 12]);
    let table = fs::read_to_string(p.path("data/arrays/table.csv")).unwrap();
    assert!(table.contains("images/000007.png,malignant,"), "{table}");
}

/// A folder of manifests adds to those that are compiled in, and one that cannot be used stops nothing else.
#[test]
fn own_manifests_stand_beside_the_built_in_ones() {
    let p = Place::new();
    fs::write(p.path("labels.csv"), skin(&p)).unwrap();
    let mut add = ADD.to_vec();
    add.extend(["--manifests-dir", "mine"]);
    let said = p.medft(&add);
    assert_eq!(said.code, 0, "{}", said.all());
    for dir in [None, Some("mine")] {
        let mut c = p.command(&["data", "list"]);
        if let Some(dir) = dir {
            c.env("MEDFT_MANIFESTS", dir);
        }
        let said = Said::by(&mut c);
        assert_eq!(said.code, 0);
        assert_eq!(said.out.contains("skin"), dir.is_some(), "{dir:?}");
        assert!(
            said.out.contains("isic2019") && said.out.contains("ddsm"),
            "{}",
            said.out
        );
    }
    let own = fs::read_to_string(p.path("mine/skin.toml")).unwrap();
    fs::write(
        p.path("mine/torn.toml"),
        own.replace("classes = [", "classes = [\"mel\", "),
    )
    .unwrap();
    fs::write(p.path("mine/ddsm.toml"), own.replace("\"skin\"", "\"ddsm\"")).unwrap();
    let said = p.medft(&["data", "verify", "skin", "--manifests-dir", "mine"]);
    assert_eq!(said.code, 0, "{}", said.all());
    assert!(
        said.err.contains("torn.toml") && said.err.contains("`ddsm`, a built-in data set"),
        "{}",
        said.err
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
        let start = format!("{key} = [");
        let line = manifest.lines().find(|l| l.starts_with(&start)).unwrap();
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
