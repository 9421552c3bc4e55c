//! Studies, presets, published values and margins as a user meets them: the files of `experiments/` and the texts of errors.

use medft::error::BadInput;
use medft::spec::protocol::{self, Precision};
use medft::study::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const DATASETS: [&str; 16] = [
    "ddsm",
    "isic2019",
    "aptos2019",
    "chexpert",
    "retinamnist",
    "breastmnist",
    "dermamnist",
    "pneumoniamnist",
    "chestmnist",
    "bloodmnist",
    "octmnist",
    "organamnist",
    "organcmnist",
    "organsmnist",
    "pathmnist",
    "tissuemnist",
];
const BACKBONES: [&str; 19] = [
    "aimv2-l",
    "aimv2-h",
    "dinov2-s",
    "dinov2-b",
    "dinov2-l",
    "dinov2-s-imgfocus",
    "sam2-b",
    "sam2-l",
    "mae-b",
    "mae-l",
    "mae-h",
    "vmamba-s",
    "vmamba-b",
    "coca-b",
    "coca-l",
    "clip-b",
    "vit-b",
    "dino-b",
    "vit-clip-b",
];
const KNOWN: Known = Known {
    datasets: &DATASETS,
    backbones: &BACKBONES,
    published: &["paper2025", "medmnist2023", "medmnistplus2025"],
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn experiments() -> PathBuf {
    root().join("experiments")
}

fn study(name: &str) -> Study {
    Study::resolve(name, &experiments(), &KNOWN).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn the_paper_is_224_cells_with_three_seeds() {
    for (name, preset) in [
        ("paper", Protocol::faithful()),
        ("paper-corrected", Protocol::corrected()),
    ] {
        let paper = study(name);
        assert_eq!((paper.cells(), paper.runs().len()), (224, 672));
        assert_eq!(paper.protocol, preset);
        assert_eq!(paper.scale, Scale::Full);
        assert!(!paper.report.demo);
        let distinct: BTreeSet<String> = paper.runs().iter().map(|r| serde_json::to_string(r).unwrap()).collect();
        assert_eq!(distinct.len(), 672);
        for extra in ["dinov2-s", "dinov2-s-imgfocus"] {
            assert!(!paper.backbones.iter().any(|b| b == extra));
        }
        assert_eq!(paper.backbones.len(), 14);
    }
}

#[test]
fn seeds_vary_slowest_and_heads_fastest() {
    let runs = study("paper").runs();
    let line = |i: usize| runs[i].to_string();
    assert_eq!(line(0), "ddsm aimv2-l frozen linear seed 0 (faithful)");
    assert_eq!(line(1), "ddsm aimv2-l frozen mha seed 0 (faithful)");
    assert_eq!(line(2), "ddsm aimv2-l unfrozen linear seed 0 (faithful)");
    assert_eq!(line(4), "ddsm aimv2-h frozen linear seed 0 (faithful)");
    assert_eq!(line(56), "aptos2019 aimv2-l frozen linear seed 0 (faithful)");
    assert_eq!(line(224), "ddsm aimv2-l frozen linear seed 1 (faithful)");
    assert_eq!(line(671), "chexpert clip-b unfrozen mha seed 2 (faithful)");
}

#[test]
fn the_demo_says_that_it_is_one() {
    let demo = study("demo");
    assert!(demo.report.demo);
    assert_eq!((demo.scale, demo.seeds.len(), demo.protocol.crop), (Scale::Tiny, 2, 64));
    let free: Vec<&str> = demo.protocol.overrides().into_iter().map(|o| o.0).collect();
    assert_eq!(
        free,
        ["resize", "crop", "epochs", "batch", "lr", "warmup", "validation_set"]
    );
}

/// The same cells in another arithmetic: their ids differ from the paper's in that alone.
#[test]
fn the_paper_in_other_arithmetic_differs_in_that_alone() {
    let paper = study("paper").runs();
    for (name, linear, mha) in [
        ("paper-authors", Precision::F16, Precision::F32),
        ("paper-bf16", Precision::Bf16, Precision::Bf16),
    ] {
        let runs = study(name).runs();
        assert_eq!(runs.len(), paper.len());
        for (mut run, paper) in runs.into_iter().zip(&paper) {
            let expected = if run.head == HeadKind::Linear { linear } else { mha };
            assert_eq!(run.precision(), expected, "{name} {run}");
            assert_eq!(paper.precision(), Precision::F32);
            run.protocol.precision = Precision::F32;
            assert_eq!(run, *paper);
        }
    }
}

/// The recipe of the independent PyTorch run.
#[test]
fn medmnist_is_the_recipe_it_is_compared_with() {
    let s = study("medmnist");
    assert_eq!(s.runs().len(), 10);
    let p = serde_json::to_value(&s.protocol).unwrap();
    for (field, want) in [
        ("lr", serde_json::json!(1e-3)),
        ("weight_decay", serde_json::json!(1e-5)),
        ("clip", serde_json::json!(0.0)),
        ("warmup", serde_json::json!("none")),
        ("augment", serde_json::json!("none")),
        ("batch", serde_json::json!(64)),
        ("epochs", serde_json::json!(100)),
        ("resize", serde_json::json!(256)),
        ("crop", serde_json::json!(224)),
        ("aspect", serde_json::json!("squash")),
        ("grey_stem", serde_json::json!("red-kernel")),
        ("normalisation", serde_json::json!("dataset")),
        ("position_rule", serde_json::json!("hub")),
        ("selection_metric", serde_json::json!("roc_auc")),
        ("selection_rounding", serde_json::json!("exact")),
        ("selection_start", serde_json::json!("minus-infinity")),
        ("validation_set", serde_json::json!("all")),
        ("extra_validation", serde_json::json!(false)),
        ("test_weights", serde_json::json!("best")),
        ("layer_decay", serde_json::json!(1.0)),
    ] {
        assert_eq!(p[field], want, "{field}");
    }
}

#[test]
fn built_in_studies_equal_the_files_and_a_file_beside_wins() {
    let empty = tempfile::tempdir().unwrap();
    for name in [
        "demo",
        "paper",
        "paper-corrected",
        "splits",
        "fractions",
        "medmnist",
        "paper-authors",
        "paper-bf16",
    ] {
        assert_eq!(Study::resolve(name, empty.path(), &KNOWN).unwrap(), study(name));
        let path = match name {
            "demo" | "medmnist" => experiments().join(format!("{name}.toml")),
            _ => experiments().join(format!("papers/paper2025/study-{name}.toml")),
        };
        assert_eq!(
            Study::resolve(path.to_str().unwrap(), empty.path(), &KNOWN).unwrap(),
            study(name)
        );
    }
    let text = GOOD.replace("A title", "Mine");
    std::fs::write(empty.path().join("demo.toml"), text).unwrap();
    assert_eq!(Study::resolve("demo", empty.path(), &KNOWN).unwrap().title, "Mine");
    let e = Study::resolve("papr", empty.path(), &KNOWN).unwrap_err();
    assert!(e.expected.starts_with("a study: demo, fractions, medmnist,"), "{e}");
    assert!(e.remedy.starts_with("Did you mean `paper`?"), "{e}");
    let e = Study::resolve("nowhere/x.toml", empty.path(), &KNOWN).unwrap_err();
    assert!(e.at.ends_with("x.toml") && e.remedy.contains("demo, fractions"), "{e}");
}

const GOOD: &str = r#"title = "A title"
expected = "unknown"
preset = "faithful"
datasets = ["ddsm", "isic2019"]
backbones = ["dinov2-b", "dinov2-l", "sam2-b"]
freeze = ["frozen", "unfrozen"]
heads = ["linear"]
seeds = [0, 7]
[protocol]
epochs = 10
[report]
published = "paper2025"
"#;

fn good() -> Study {
    Study::parse("good", "good.toml", GOOD, &KNOWN).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_small_study_reads_as_written() {
    let s = good();
    assert_eq!(
        s.protocol,
        Protocol {
            epochs: 10,
            ..Protocol::faithful()
        }
    );
    assert_eq!(s.seeds, [0, 7]);
    assert_eq!(
        s.report,
        ReportOptions {
            demo: false,
            published: vec!["paper2025".into()]
        }
    );
    assert_eq!(s.scale, Scale::Full);
    let warm = GOOD.replace(
        "epochs = 10",
        "warmup = { iterations = 500 }\nclip = 0\ncrop_scale = [0.5, 1]",
    );
    let p = Study::parse("good", "good.toml", &warm, &KNOWN).unwrap().protocol;
    assert_eq!(p.warmup, protocol::Warmup::Iterations(500));
    assert_eq!((p.clip, p.crop_scale), (0.0, [0.5, 1.0]));
}

/// Each mistake as (what is replaced, by what, where it is seen, a piece of the message).
#[test]
fn every_mistake_has_a_line_and_a_remedy() {
    let cases: &[(&str, &str, &str, &str)] = &[
        ("seeds =", "sedes =", "x.toml:8", "Did you mean `seeds`?"),
        ("title = \"A title\"\n", "", "x.toml", "Add `title = …`."),
        ("preset = \"faithful\"\n", "", "x.toml", "Add `preset = …`."),
        (
            "\"faithful\"",
            "\"faithfull\"",
            "x.toml:3",
            "expected faithful or corrected",
        ),
        ("\"faithful\"", "\"faithfull\"", "x.toml:3", "Did you mean `faithful`?"),
        ("\"faithful\"", "1", "x.toml:3", "found `1` for `preset`"),
        ("\"ddsm\",", "\"dsdm\",", "x.toml:4", "Did you mean `ddsm`?"),
        ("\"isic2019\"", "\"isic\"", "x.toml:4", "Did you mean `isic2019`?"),
        ("\"dinov2-b\"", "\"resnet50\"", "x.toml:5", "aimv2-l, aimv2-h, dinov2-s"),
        ("[0, 7]", "[0, 0]", "x.toml:8", "expected every member once"),
        ("[0, 7]", "[]", "x.toml:8", "expected at least one member"),
        (
            "[0, 7]",
            "[-1]",
            "x.toml:8",
            "a whole number from 0 to 9007199254740991",
        ),
        ("[0, 7]", "[1.5]", "x.toml:8", "found `1.5` for `seeds`"),
        ("[0, 7]", "3", "x.toml:8", "Write `seeds = [ … ]`."),
        (
            "[\"linear\"]",
            "[\"linear\", \"linear\"]",
            "x.toml:7",
            "every member once",
        ),
        ("[\"linear\"]", "[\"attention\"]", "x.toml:7", "expected linear or mha"),
        (
            "\"unfrozen\"]",
            "\"freezed\"]",
            "x.toml:6",
            "expected frozen or unfrozen",
        ),
        ("epochs = 10", "epoch = 10", "x.toml:10", "Did you mean `epochs`?"),
        (
            "epochs = 10",
            "epochs = 0",
            "x.toml:10",
            "a whole number from 1 to 100000",
        ),
        ("epochs = 10", "epochs = 10.0", "x.toml:10", "a whole number"),
        ("epochs = 10", "batch = 0", "x.toml:10", "a whole number from 1"),
        ("epochs = 10", "lr = 0", "x.toml:10", "a finite number above 0"),
        ("epochs = 10", "lr = -1e-4", "x.toml:10", "a finite number above 0"),
        ("epochs = 10", "lr = inf", "x.toml:10", "a finite number above 0"),
        ("epochs = 10", "lr = nan", "x.toml:10", "a finite number above 0"),
        ("epochs = 10", "lr = \"1e-4\"", "x.toml:10", "without quotes"),
        ("epochs = 10", "clip = -1", "x.toml:10", "0 or more"),
        ("epochs = 10", "layer_decay = 0", "x.toml:10", "above 0 and at most 1"),
        ("epochs = 10", "layer_decay = 1.1", "x.toml:10", "above 0 and at most 1"),
        ("epochs = 10", "crop = 300", "x.toml:10", "at most 256 pixels"),
        ("epochs = 10", "resize = 128", "x.toml:10", "at most 128 pixels"),
        (
            "epochs = 10",
            "crop = 210",
            "x.toml:10",
            "a multiple of 32, the patch or the coarsest stride of sam2-b",
        ),
        (
            "epochs = 10",
            "crop = 225",
            "x.toml:10",
            "a multiple of 14, the patch or the coarsest stride of dinov2-b",
        ),
        (
            "epochs = 10",
            "crop_scale = [0.9, 0.8]",
            "x.toml:10",
            "at most the upper one",
        ),
        (
            "epochs = 10",
            "crop_scale = [1.1, 1.2]",
            "x.toml:10",
            "A crop cannot be larger",
        ),
        (
            "epochs = 10",
            "crop_scale = [0.9]",
            "x.toml:10",
            "Write `crop_scale = [low, high]`.",
        ),
        (
            "epochs = 10",
            "warmup = \"never\"",
            "x.toml:10",
            "per-dataset, none, { epochs = n }",
        ),
        (
            "epochs = 10",
            "warmup = { epochs = 0 }",
            "x.toml:10",
            "a whole number from 1",
        ),
        (
            "epochs = 10",
            "warmup = { epochs = 1, iterations = 1 }",
            "x.toml:10",
            "either epochs or iterations",
        ),
        (
            "epochs = 10",
            "warmup = { steps = 1 }",
            "x.toml:10",
            "epochs or iterations",
        ),
        (
            "epochs = 10",
            "epochs = 3\nwarmup = { epochs = 5 }",
            "x.toml:11",
            "at most 3 epochs",
        ),
        (
            "epochs = 10",
            "selection_metric = \"auc\"",
            "x.toml:10",
            "roc_auc, recall, quadratic_kappa",
        ),
        (
            "epochs = 10",
            "augment = \"papr\"",
            "x.toml:10",
            "Did you mean `paper`?",
        ),
        (
            "epochs = 10",
            "warmup_overshoot = \"yes\"",
            "x.toml:10",
            "true or false",
        ),
        (
            "epochs = 10",
            "preset = \"corrected\"",
            "x.toml:10",
            "Move the line above [protocol].",
        ),
        ("epochs = 10", "epochs = 10\nepochs = 11", "x.toml:11", "duplicate key"),
        ("epochs = 10", "epochs = ", "x.toml:10", "expected valid TOML"),
        (
            "\"paper2025\"",
            "\"paper2024\"",
            "x.toml:12",
            "Did you mean `paper2025`?",
        ),
        ("published =", "publish =", "x.toml:12", "Did you mean `published`?"),
        (
            "expected = \"unknown\"",
            "expected = \" \"",
            "x.toml:2",
            "text in quotes",
        ),
        (
            "heads = [",
            "scale = \"tiny\"\nheads = [",
            "x.toml:13",
            "random weights",
        ),
    ];
    for (from, to, at, message) in cases {
        assert!(GOOD.contains(from), "{from}");
        let mut text = GOOD.replacen(from, to, 1);
        if text.contains("tiny") {
            text = text.replace("published = \"paper2025\"", "demo = false");
        }
        let e: BadInput = Study::parse("x", "x.toml", &text, &KNOWN).expect_err(to);
        assert_eq!(&e.at, at, "{to}: {e}");
        assert!(e.to_string().contains(message), "{to}: {e}");
    }
}

#[test]
fn a_name_that_cannot_be_a_folder_is_refused() {
    for name in ["", "a b", "../x", ".hidden", "ä"] {
        assert!(Study::parse(name, "x.toml", GOOD, &KNOWN).is_err(), "{name}");
    }
}

#[test]
fn tiny_models_choose_their_own_patches_but_halve_as_often() {
    let text = GOOD
        .replace("heads =", "scale = \"tiny\"\nheads =")
        .replace("epochs = 10", "resize = 72\ncrop = 64");
    assert!(Study::parse("x", "x.toml", &text, &KNOWN).unwrap().report.demo);
    let e = Study::parse("x", "x.toml", &text.replace("crop = 64", "crop = 48"), &KNOWN).unwrap_err();
    assert!(e.expected.contains("sam2-b"), "{e}");
}

/// A rule in `splits` gives every data set the switches of that rule, and nothing else.
#[test]
fn splits_are_an_axis_of_the_study() {
    let s = study("splits");
    assert_eq!((s.cells(), s.runs().len()), (12, 36));
    let tables: Vec<String> = s.tables().iter().map(|(d, p)| s.table(d, p)).collect();
    assert_eq!(
        tables.join(" "),
        "ddsm-authors ddsm-grouped isic2019-authors isic2019-grouped chexpert-authors chexpert-grouped"
    );
    let grouped = Filter::parse(&["split=grouped", "dataset=isic2019"], &s).unwrap();
    let runs: Vec<_> = s.runs().into_iter().filter(|r| grouped.matches(r)).collect();
    assert_eq!(runs.len(), 6);
    assert_eq!(
        runs[0].to_string(),
        "isic2019 dinov2-b frozen linear seed 0 (faithful), grouped split"
    );
    let changed: Vec<&str> = runs[0]
        .protocol
        .diff(&Protocol::faithful())
        .iter()
        .map(|d| d.0)
        .collect();
    assert_eq!(changed, ["isic_split"]);
    // The authors' half are the runs of the paper's study.
    let paper = study("paper").runs();
    let authors = Filter::parse(&["split=authors"], &s).unwrap();
    assert!(
        s.runs()
            .iter()
            .filter(|r| authors.matches(r))
            .all(|r| paper.contains(r))
    );
}

#[test]
fn splits_that_make_no_difference_are_one_and_impossible_ones_are_told() {
    let with = |splits: &str, datasets: &str| {
        let text = GOOD
            .replace("heads =", &format!("splits = {splits}\nheads ="))
            .replace("datasets = [\"ddsm\", \"isic2019\"]", &format!("datasets = {datasets}"));
        assert_ne!(text, GOOD);
        Study::parse("good", "good.toml", &text, &KNOWN)
    };
    let s = with("[\"authors\", \"official\"]", "[\"retinamnist\", \"breastmnist\"]").unwrap();
    assert_eq!(s.tables().len(), 2);
    assert_eq!(s.table("retinamnist", &s.tables()[0].1), "retinamnist");
    let e = with("[\"official\"]", "[\"ddsm\", \"isic2019\"]").unwrap_err();
    assert!(e.to_string().contains("ddsm has authors and grouped"), "{e}");
    let e = with("[\"by-lesion\"]", "[\"isic2019\"]").unwrap_err();
    assert!(e.to_string().contains("authors, grouped or official"), "{e}");
    let text = GOOD
        .replace("heads =", "splits = [\"grouped\"]\nheads =")
        .replace("epochs = 10", "epochs = 10\nisic_split = \"by-lesion\"");
    let e = Study::parse("good", "good.toml", &text, &KNOWN).unwrap_err();
    assert!(
        e.to_string().contains("no `isic_split` where `splits` decides it"),
        "{e}"
    );
}

#[test]
fn filters_select_what_they_say() {
    let s = good();
    let count = |only: &[&str]| {
        let f = Filter::parse(only, &s).unwrap_or_else(|e| panic!("{e}"));
        s.runs().iter().filter(|r| f.matches(r)).count()
    };
    assert_eq!(s.runs().len(), 24);
    assert_eq!(count(&[]), 24);
    assert_eq!(count(&["dataset=ddsm"]), 12);
    assert_eq!(count(&["backbone=dinov2-*"]), 16);
    assert_eq!(
        count(&["backbone=dinov2-b,backbone=sam2-b,dataset=ddsm,freeze=frozen,head=linear,seed=7"]),
        2
    );
    assert_eq!(count(&["backbone=*-b", "seed=0"]), 8);
    assert_eq!(count(&["dataset = isic* , seed = 7"]), 6);
    assert!(Filter::parse::<&str>(&[], &s).unwrap().is_all());
}

#[test]
fn filters_that_select_nothing_are_errors() {
    let s = good();
    for (only, message) in [
        ("backbnoe=x", "Did you mean `backbone`?"),
        ("backbone=dinov2-h", "dinov2-b, dinov2-l or sam2-b"),
        ("backbone=mae-*", "a backbone of the study good"),
        ("dataset=chexpert", "ddsm or isic2019"),
        ("head=mha", "expected a head of the study good: linear, found `mha`"),
        ("freeze=froze", "Did you mean `frozen`?"),
        ("seed=1", "0 or 7"),
        ("seed=*", "0 or 7"),
        ("ddsm", "key=value"),
    ] {
        let e = Filter::parse(&[only], &s).unwrap_err();
        assert!(e.at == "--only" && e.to_string().contains(message), "{only}: {e}");
    }
}

/// The values themselves were compared with the source when they were brought in; here a few by name and what ties them.
#[test]
fn the_figure_has_52_values_of_13_backbones() {
    let p = Published::load("paper2025", &experiments(), &KNOWN).unwrap();
    assert_eq!(p.values.len(), 52);
    let backbones: BTreeSet<&str> = p.values.iter().filter_map(|v| v.backbone.as_deref()).collect();
    let paper = study("paper");
    let ours: BTreeSet<&str> = paper.backbones.iter().map(String::as_str).collect();
    assert_eq!(ours.difference(&backbones).copied().collect::<Vec<_>>(), ["clip-b"]);
    assert_eq!(backbones.len(), 13);
    for dataset in &paper.datasets {
        let metric = match dataset.as_str() {
            "ddsm" | "chexpert" => "roc_auc",
            "isic2019" => "recall",
            _ => "quadratic_kappa",
        };
        for b in &backbones {
            let found: Vec<_> = p.of(dataset, b).collect();
            assert!(found.len() == 1 && found[0].metric == metric, "{dataset} {b}");
        }
    }
    for v in &p.values {
        assert!((v.raw - v.value).abs() <= v.uncertainty + 0.0005, "{v:?}");
        assert!((v.value * 1000.0 - (v.value * 1000.0).round()).abs() < 1e-9, "{v:?}");
        assert!(v.freeze.is_none() && v.head.is_none() && v.seeds.is_none() && v.sd.is_none());
        assert_eq!(v.shared_offset, if v.dataset == "isic2019" { 0.001 } else { 0.0 });
    }
    for (d, b, value, params) in [
        ("ddsm", "aimv2-l", 0.968, 333.0),
        ("chexpert", "aimv2-h", 0.819, 666.0),
        ("isic2019", "vmamba-s", 0.755, 50.0),
        ("aptos2019", "dinov2-l", 0.913, 300.0),
        ("ddsm", "sam2-l", 0.954, 225.0),
    ] {
        let v = p.of(d, b).next().unwrap();
        assert_eq!((v.value, v.params_millions), (value, Some(params)), "{d} {b}");
    }
    assert_eq!(p.backbones["vmamba-s"].code, AuthorsCode::Absent);
    assert_eq!(p.backbones["clip-b"].code, AuthorsCode::Broken);
    assert_eq!(p.backbones["sam2-b"].encoder_params_millions, Some(69.106816));
    assert!(p.comparable && p.caveats.iter().any(|c| c.text.contains("frozen or unfrozen")));
}

/// The counts beside the figure's are those of the upstream models.
#[test]
fn encoder_sizes_are_the_upstream_ones() {
    let fixtures = std::env::var_os("MEDFT_FIXTURES").map_or_else(|| root().join("tests/fixtures"), PathBuf::from);
    let summary = std::fs::read_to_string(fixtures.join("params/summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    let p = Published::load("paper2025", &experiments(), &KNOWN).unwrap();
    for (ours, theirs) in [
        ("sam2-b", "sam2.1_hiera_base_plus"),
        ("sam2-l", "sam2.1_hiera_large"),
        ("aimv2-l", "aimv2-large-patch14-224"),
        ("aimv2-h", "aimv2-huge-patch14-224"),
    ] {
        let millions = summary[theirs]["total_params"].as_f64().unwrap() / 1e6;
        assert_eq!(p.backbones[ours].encoder_params_millions, Some(millions), "{ours}");
    }
}

/// The second paper's recipe, switch by switch (its train.py and main.py), at both sizes; nothing else departs from the preset.
#[test]
fn linear_probing_of_medmnistplus_is_its_authors_recipe() {
    for (name, side) in [("medmnistplus", 28), ("medmnistplus-224", 224)] {
        let s = study(name);
        assert_eq!((s.cells(), s.runs().len()), (36, 108));
        assert_eq!(s.seeds, [9930641, 115149041, 252139603]);
        let p = serde_json::to_value(&s.protocol).unwrap();
        let wants = [
            ("augment", serde_json::json!("none")),
            ("aspect", serde_json::json!("pad")),
            ("resize", serde_json::json!(side)),
            ("crop", serde_json::json!(224)),
            ("grey_stem", serde_json::json!("three-channels")),
            ("normalisation", serde_json::json!("backbone")),
            ("head_init", serde_json::json!("normal")),
            ("epochs", serde_json::json!(100)),
            ("batch", serde_json::json!(64)),
            ("last_batch", serde_json::json!("kept")),
            ("patience", serde_json::json!(5)),
            ("lr", serde_json::json!(1e-4)),
            ("weight_decay", serde_json::json!(0.01)),
            ("decayed", serde_json::json!("all")),
            ("clip", serde_json::json!(0.0)),
            ("warmup", serde_json::json!("none")),
            ("schedule", serde_json::json!("cosine")),
            ("schedule_lag", serde_json::json!(true)),
            ("validation_set", serde_json::json!("all")),
            ("validation_batch", serde_json::json!(256)),
            ("selection_metric", serde_json::json!("loss")),
            ("selection_rounding", serde_json::json!("exact")),
            ("selection_start", serde_json::json!("minus-infinity")),
            ("extra_validation", serde_json::json!(false)),
            ("target_metric", serde_json::json!("roc_auc_ovr")),
        ];
        for (field, want) in &wants {
            assert_eq!(&p[*field], want, "{field}");
        }
        let departs: BTreeSet<&str> = s.protocol.overrides().into_iter().map(|o| o.0).collect();
        let named: BTreeSet<&str> = wants.iter().map(|w| w.0).collect();
        assert!(departs.is_subset(&named), "{departs:?}");
    }
}

/// The figures themselves were transcribed twice and compared; here how many there are and a few that were looked up a third time.
#[test]
fn linear_probing_has_its_published_values() {
    let p = Published::load("medmnistplus2025", &experiments(), &KNOWN).unwrap();
    assert!(p.comparable);
    let s = study("medmnistplus");
    for dataset in &s.datasets {
        let auc = if dataset == "chestmnist" {
            "roc_auc"
        } else {
            "roc_auc_ovr"
        };
        for backbone in &s.backbones {
            for side in [28, 224] {
                let here = |m: &str| {
                    p.of(dataset, backbone)
                        .filter(|v| v.input_px == Some(side) && v.metric == m)
                        .count()
                };
                assert_eq!(here(auc), 1, "{dataset} {backbone} {side}");
                assert_eq!(
                    here("accuracy"),
                    usize::from(dataset != "chestmnist"),
                    "{dataset} {backbone} {side}"
                );
            }
        }
    }
    for v in p.values.iter().filter(|v| v.backbone.is_some()) {
        assert!(v.freeze == Some(Freeze::Frozen) && v.head == Some(HeadKind::Linear));
        assert!(
            v.seeds == Some(3) && v.sd.is_some() && (v.raw - 100.0 * v.value).abs() < 1e-9,
            "{v:?}"
        );
    }
    for (dataset, backbone, side, metric, value, sd) in [
        ("breastmnist", "dino-b", 28, "roc_auc_ovr", 0.8677, 0.0044),
        ("breastmnist", "vit-b", 224, "accuracy", 0.844, 0.0132),
        ("retinamnist", "vit-clip-b", 28, "roc_auc_ovr", 0.731, 0.0029),
        ("tissuemnist", "dino-b", 224, "roc_auc_ovr", 0.9098, 0.0003),
        ("chestmnist", "vit-b", 28, "roc_auc", 0.6804, 0.0003),
    ] {
        let found: Vec<_> = p
            .of(dataset, backbone)
            .filter(|v| v.input_px == Some(side) && v.metric == metric)
            .collect();
        assert_eq!(
            (found.len(), found[0].value, found[0].sd),
            (1, value, Some(sd)),
            "{dataset} {backbone}"
        );
    }
}

#[test]
fn medmnist_values_are_context_and_keep_their_own_metrics() {
    for (name, n) in [("medmnist2023", 40), ("medmnistplus2025", 254)] {
        let p = Published::load(name, &experiments(), &KNOWN).unwrap();
        assert_eq!(p.values.len(), n);
        assert_eq!(p.comparable, name == "medmnistplus2025");
        for v in p.values.iter().filter(|v| v.backbone.is_none()) {
            let multi = ["retinamnist", "dermamnist"].contains(&v.dataset.as_str());
            assert!(
                v.metric.starts_with("accuracy") || (v.metric == "roc_auc_ovr") == multi,
                "{v:?}"
            );
            assert!(
                (v.raw - v.value).abs() < 1e-9 || (v.raw - 100.0 * v.value).abs() < 1e-9,
                "{v:?}"
            );
            assert!(v.backbone.is_none());
        }
    }
}

#[test]
fn an_edited_published_number_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let paper = |root: &Path| root.join("papers/paper2025");
    let (from, to) = (paper(&experiments()), paper(dir.path()));
    std::fs::create_dir_all(&to).unwrap();
    let csv = std::fs::read_to_string(from.join("published.csv")).unwrap();
    std::fs::write(to.join("published.csv"), csv.replacen("0.938", "0.948", 1)).unwrap();
    let e = Published::load("paper2025", dir.path(), &KNOWN).unwrap_err();
    assert!(
        e.at.ends_with("published.csv") && e.to_string().contains("sha256"),
        "{e}"
    );
    std::fs::write(to.join("published.csv"), &csv).unwrap();
    assert_eq!(
        Published::load("paper2025", dir.path(), &KNOWN).unwrap().values.len(),
        52
    );

    let toml = std::fs::read_to_string(from.join("published.toml")).unwrap();
    let row = "ddsm,VMamba-S,vmamba-s,,,,,roc_auc,50,0.938,0.00011,,,0.93796";
    assert!(csv.contains(row));
    for (bad, message) in [
        (row.replace("0.938,", "1.938,"), "a number from 0 to 1 in column value"),
        (
            row.replace("vmamba-s,,", "vmamba-s,cold,"),
            "frozen or unfrozen in column freeze",
        ),
        (row.replace("vmamba-s,,", "vmamba-t,,"), "Did you mean `vmamba-s`?"),
        (row.replace("ddsm,", "dsdm,"), "Did you mean `ddsm`?"),
        (row.replace("roc_auc", "roc_acu"), "Did you mean `roc_auc`?"),
        (row.replace("roc_auc", ""), "a value in column metric"),
        (format!("{row}\n{row}"), "every value once"),
        (format!("{row},1"), "a CSV row"),
    ] {
        let edited = csv.replace(row, &bad);
        let hash = medft::fsio::sha256_hex(edited.as_bytes());
        let toml = toml.replace(&medft::fsio::sha256_hex(csv.as_bytes()), &hash);
        let e = Published::parse("p", ("p.csv", &edited), Some(("p.toml", &toml)), &KNOWN).unwrap_err();
        let line = if bad.contains('\n') { "p.csv:8" } else { "p.csv:7" };
        assert!(e.at == line && e.to_string().contains(message), "{bad}: {e}");
    }
}

/// What `medft published template paper` prints: the cells of the paper's table, each once, and a head that explains them.
fn template() -> String {
    let target = |r: &RunSpec| {
        match r.dataset.as_str() {
            "ddsm" | "chexpert" => "roc_auc",
            "isic2019" => "recall",
            _ => "quadratic_kappa",
        }
        .to_owned()
    };
    Published::template("paper", &study("paper").runs(), target)
}

/// The template with every n-th value filled in, counted by `fill`.
fn filled(fill: impl Fn(usize) -> Option<&'static str>) -> String {
    let mut n = 0;
    let line = |l: &str| match l.strip_suffix(",,,,") {
        Some(cell) => {
            n += 1;
            format!("{cell},{},,,\n", fill(n - 1).unwrap_or(""))
        }
        None => format!("{l}\n"),
    };
    template().lines().map(line).collect()
}

#[test]
fn a_template_has_the_224_cells_and_reads_once_it_is_filled() {
    let empty = template();
    assert_eq!(empty.lines().filter(|l| !l.starts_with('#')).count(), 225);
    for column in [
        "dataset",
        "backbone",
        "freeze",
        "head",
        "metric",
        "value",
        "sd",
        "seeds",
        "uncertainty",
    ] {
        assert!(
            empty.lines().any(|l| l.starts_with("# ") && l.contains(column)),
            "{column}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("published");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("mine.csv");
    std::fs::write(&file, &empty).unwrap();
    let checked = Published::check(&file, &KNOWN).unwrap();
    assert_eq!(
        (checked.set.values.len(), checked.empty, checked.wrong.len()),
        (0, 224, 0)
    );
    // As a spreadsheet saves it: byte-order mark, ends of lines of another system.
    let some = filled(|n| n.is_multiple_of(2).then_some("0.953")).replace('\n', "\r\n");
    std::fs::write(&file, format!("\u{feff}{some}")).unwrap();
    let set = Published::load("mine", dir.path(), &KNOWN).unwrap();
    assert_eq!(set.values.len(), 112);
    assert!(set.comparable && set.values.iter().all(|v| v.freeze.is_some() && v.head.is_some()));
    let v = &set.values[0];
    assert_eq!(
        (v.value, v.uncertainty, v.raw, v.label.as_str()),
        (0.953, 0.0005, 0.953, "aimv2-l")
    );
    assert_eq!(
        Published::names(dir.path()),
        ["medmnist2023", "medmnistplus2025", "paper2025", "mine"]
    );
    let e = Published::load("mien", dir.path(), &KNOWN).unwrap_err();
    assert!(e.to_string().contains("Did you mean `mine`?"), "{e}");
    // A hash is one's own choice; a stated one holds.
    std::fs::write(folder.join("mine.toml"), "title = \"Mine\"\ncaveats = [\"One run\"]\n").unwrap();
    assert_eq!(Published::load("mine", dir.path(), &KNOWN).unwrap().title, "Mine");
    std::fs::write(folder.join("mine.toml"), format!("sha256 = \"{}\"", "0".repeat(64))).unwrap();
    let e = Published::load("mine", dir.path(), &KNOWN).unwrap_err();
    assert!(e.at.ends_with("mine.csv") && e.to_string().contains("sha256"), "{e}");
}

#[test]
fn everything_that_is_wrong_with_a_table_is_named_with_its_line() {
    let text = "\
# mine
dataset,backbone,freeze,head,metric,value,sd,seeds
ddsm,dinov2-b,frozen,linear,roc_auc,0.9,,
isic,dinov2_b,frozne,mlp,recal,85.3,2,0

aptos2019,mae-b,,,quadratic_kappa,-0.2,,
ddsm,mae-b,,,roc_auc,-0.2,,
ddsm,mae-b,,,roc_auc,n/a,,
ddsm,dinov2-b,frozen,linear,roc_auc,0.91,,
ddsm,coca-b,frozen,linear
";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mine.csv");
    std::fs::write(&file, text).unwrap();
    let checked = Published::check(&file, &KNOWN).unwrap();
    assert_eq!(checked.set.values.len(), 2);
    let found: Vec<(String, String)> = checked
        .wrong
        .iter()
        .map(|e| (e.at.rsplit(':').next().unwrap().to_owned(), e.to_string()))
        .collect();
    for (line, message) in [
        ("4", "found `isic`. Did you mean `isic2019`?"),
        ("4", "found `dinov2_b`. Did you mean `dinov2-b`?"),
        ("4", "found `recal`. Did you mean `recall`?"),
        ("4", "found `frozne`. Did you mean `frozen`?"),
        ("4", "linear or mha in column head, found `mlp`"),
        ("4", "found `85.3`. Write percents as fractions of 1: 0.853."),
        (
            "4",
            "a number from 0 to 1 in column sd, found `2`. Write percents as fractions of 1: 0.02.",
        ),
        ("4", "a whole number above 0 in column seeds, found `0`"),
        ("7", "a number from 0 to 1 in column value, found `-0.2`"),
        ("8", "found `n/a`"),
        ("8", "every value once"),
        ("9", "every value once"),
        ("10", "a CSV row"),
    ] {
        assert!(
            found.iter().any(|f| f.0 == line && f.1.contains(message)),
            "{line} {message}\n{found:#?}"
        );
    }
    assert_eq!(found.len(), 13, "{found:#?}");
    for (header, message) in [
        ("dataset,backbone,freze,metric,value", "Did you mean `freeze`?"),
        ("dataset;backbone;metric;value", "separated by commas"),
        ("dataset,backbone,metric", "no column `value`"),
        ("dataset,metric,metric,value", "`metric` twice"),
    ] {
        std::fs::write(&file, format!("# a\n{header}\n")).unwrap();
        let wrong = Published::check(&file, &KNOWN).unwrap().wrong;
        assert!(
            wrong.len() == 1 && wrong[0].at.ends_with(":2") && wrong[0].to_string().contains(message),
            "{wrong:?}"
        );
    }
}

/// What the figure leaves open is no caveat any more where a table beside it says it.
#[test]
fn caveats_do_not_outlive_the_tables_that_answer_them() {
    let figure = Published::load("paper2025", &experiments(), &KNOWN).unwrap();
    let all = study("paper").datasets;
    let set = |text: &str| Published::parse("mine", ("mine.csv", text), None, &KNOWN).unwrap();
    let of = |sets: &[Published]| {
        let told = caveats(sets, &all);
        let has = |w: &str| told.iter().any(|c| c.contains(w));
        (has("frozen or unfrozen"), has("only the figure was read"), told.len())
    };
    let n = figure.caveats.len();
    assert_eq!(of(std::slice::from_ref(&figure)), (true, true, n));
    assert_eq!(
        of(&[figure.clone(), set(&template())]),
        (true, true, n),
        "an empty table says nothing"
    );
    assert_eq!(
        of(&[figure.clone(), set(&filled(|n| (n < 56).then_some("0.9")))]),
        (true, false, n - 1)
    );
    assert_eq!(of(&[set(&filled(|_| Some("0.9"))), figure]), (false, false, n - 2));
}

#[test]
fn every_target_metric_has_a_margin_and_a_reason() {
    let paper = ["paper2025".to_owned()];
    let t = Tolerances::of(&paper, &experiments()).unwrap();
    assert_eq!(t.alpha, 0.05);
    for (metric, margin) in [("roc_auc", 0.005), ("recall", 0.01), ("quadratic_kappa", 0.01)] {
        let m = t.get(metric).unwrap();
        assert!(m.margin == margin && m.reason.len() > 100, "{metric}");
    }
    assert!(t.get("f1").is_none());
    let e = Tolerances::parse("t.toml", "alpha = 0.05\n[metric.roc_auc]\nmargin = 0\nreason = \"x\"").unwrap_err();
    assert_eq!(e.at, "t.toml:3");
    assert_eq!(Tolerances::of(&paper, Path::new("nowhere")).unwrap(), t);
    // What is compared with no paper has the margins of all, the narrowest of each metric.
    let all = Tolerances::of(&[], &experiments()).unwrap();
    for metric in ["roc_auc", "recall", "quadratic_kappa"] {
        assert_eq!(
            all.get(metric).unwrap().margin,
            t.get(metric).unwrap().margin,
            "{metric}"
        );
    }
}

/// Run with MEDFT_UPDATE_DOCS=1 to write the table anew.
#[test]
fn the_page_on_the_protocol_is_in_step() {
    const MARKS: (&str, &str) = ("<!-- switches: begin -->\n", "<!-- switches: end -->");
    let path = root().join("docs/PROTOCOL.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(MARKS.0).expect("the page marks where the table begins");
    let (_, after) = rest.split_once(MARKS.1).expect("the page marks where the table ends");
    let fresh = format!("{before}{}{}{}{after}", MARKS.0, protocol::markdown(), MARKS.1);
    if std::env::var_os("MEDFT_UPDATE_DOCS").is_some() {
        medft::fsio::write_atomic(&path, fresh.as_bytes()).unwrap();
    } else {
        assert!(
            page == fresh,
            "docs/PROTOCOL.md is stale: MEDFT_UPDATE_DOCS=1 cargo test --release --test study"
        );
    }
}

/// What the authors' repository does not say is called our reading.
#[test]
fn the_page_says_what_is_extrapolated() {
    let page = std::fs::read_to_string(root().join("docs/PROTOCOL.md")).unwrap();
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "`joanaapa/Foundation-Medical`",
        "torch 2.0",
        "one parameter file: DDSM, MAE-H, frozen, MHA",
        "use the same 100 epochs, batches of 64 and learning rate is our reading",
        "\"unfrozen\" means all layers",
        "last layers only",
        "it is the softmax that ties scores",
        "does nothing for heads other than linear",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn all_50_quirks_are_explained_and_their_switches_agree_with_the_code() {
    let page = std::fs::read_to_string(root().join("docs/PROTOCOL.md")).unwrap();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|l| l.starts_with("| Q"))
        .map(|l| l.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), 50);
    for (i, row) in rows.iter().enumerate() {
        let quirk = i as u8 + 1;
        assert_eq!((row.len(), row[0]), (4, format!("Q{quirk}").as_str()));
        let switches: BTreeSet<&str> = Protocol::switches()
            .iter()
            .filter(|s| s.quirks.contains(&quirk))
            .map(|s| s.field)
            .collect();
        if row[3].starts_with("no switch") {
            assert!(switches.is_empty(), "Q{quirk}: {switches:?}");
        } else {
            let (named, _) = row[3].split_once(';').unwrap_or((row[3], ""));
            let named: BTreeSet<&str> = named.split(", ").map(|n| n.trim_matches('`')).collect();
            assert_eq!(named, switches, "Q{quirk}");
        }
    }
}
