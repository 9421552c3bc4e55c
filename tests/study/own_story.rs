//! A user's whole way in one: his images, his checkpoint, a sweep, the model out of it, a prediction.

use crate::own_data::skin;
use crate::own_model::{fine_tuned, predicted, save};
use crate::place::Place;
use medft::eval::softmax;
use medft::results::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The values of a column of the table that `data add` writes, by its first column.
fn column(table: &str, n: usize) -> BTreeMap<&str, &str> {
    let mut out = BTreeMap::new();
    for line in table.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        out.insert(cells[0], cells[n]);
    }
    out
}

#[test]
fn own_images_and_an_own_checkpoint_become_an_own_model() {
    let p = Place::new();
    let ok = |args: &[&str]| {
        let said = p.medft(args);
        assert_eq!(said.code, 0, "{args:?}: {}", said.all());
        said
    };
    fs::write(p.path("labels.csv"), skin(&p)).unwrap();
    save(&p.path("mine.safetensors"), &fine_tuned());
    ok(&[
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
        "--split-rule",
        "stratified:0.5/0.25/0.25",
    ]);
    ok(&[
        "weights",
        "add",
        "mine",
        "--like",
        "dinov2-b",
        "mine.safetensors",
        "--licence",
        "MIT",
    ]);
    let mut new = vec![
        "new",
        "mine-on-skin",
        "--dataset",
        "skin",
        "--backbone",
        "mine",
        "--heads",
        "linear",
        "--freeze",
        "unfrozen",
        "--seeds",
        "0",
        "--scale",
        "tiny",
    ];
    for set in [
        "lr=[1e-5, 1e-3]",
        "epochs=2",
        "batch=8",
        "resize=72",
        "crop=64",
        "warmup=none",
    ] {
        new.extend(["--set", set]);
    }
    ok(&new);
    // An own study keeps the selected weights without being asked to, and says so before.
    let said = ok(&["reproduce", "mine-on-skin"]);
    assert!(said.err.contains("weights to be kept (best)"), "{}", said.err);
    let report = fs::read_to_string(p.path("reports/mine-on-skin/README.md")).unwrap();
    assert!(
        report.contains("DINOv2-B (mine)") && report.contains("sweep of lr"),
        "{report}"
    );

    let store = Store::new(&p.path("results"), "mine-on-skin");
    let done = store.all().unwrap().done;
    let rates: BTreeSet<String> = done.iter().map(|r| r.spec.run.protocol.lr.to_string()).collect();
    assert_eq!((done.len(), rates.len()), (2, 2), "a run for each rate");
    let table = fs::read_to_string(p.path("data/skin/table.csv")).unwrap();
    let part = column(&table, 2);
    assert_eq!(part.len(), 48);
    for record in &done {
        let (id, spec) = (record.id(), &record.spec.run);
        // The test images are those that the table says, with the classes that it says.
        let there = store.predictions(id).unwrap();
        let tested: BTreeSet<&str> = part.iter().filter(|f| *f.1 == "test").map(|f| *f.0).collect();
        assert_eq!(there.ids.iter().map(String::as_str).collect::<BTreeSet<_>>(), tested);
        // What `predict` makes of the files is what the run stored of them, to the bit.
        let images: Vec<_> = there.ids.iter().map(|i| p.path("my images").join(i)).collect();
        let paths: Vec<&Path> = images.iter().map(|i| i.as_path()).collect();
        let logits = predicted(&p, id, "best", &paths);
        let bits = |x: &[f32]| x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&logits.concat()), bits(&there.best), "{spec}");
        let csv = ok(&["predict", id, images[0].to_str().unwrap(), "--csv"]).out;
        let (head, row) = csv.split_once('\n').unwrap();
        assert!(head.ends_with("mel,nevus"), "{csv}");
        let own: Vec<f64> = row.trim().split(',').skip(2).map(|x| x.parse().unwrap()).collect();
        for (a, b) in own.iter().zip(softmax(&logits[0], 2).unwrap()) {
            assert!((a - b).abs() < 1e-6, "{csv}");
        }
        // Out again, in the layout that the checkpoint came in.
        let out = format!("out-{}", &id[..8]);
        ok(&["export", id, "--layout", "hf", "--out", &out]);
        let config: serde_json::Value =
            serde_json::from_slice(&fs::read(p.path(&out).join("config.json")).unwrap()).unwrap();
        assert_eq!(config["id2label"]["0"], "mel", "{config}");
        let card = fs::read_to_string(p.path(&out).join("README.md")).unwrap();
        assert!(
            card.contains("model-index:") && card.contains(id) && card.contains("skin"),
            "{card}"
        );
    }
    ok(&["verify-results", "mine-on-skin"]);
}
