//! Records and report, from the outside: values chosen by hand, means and deviations calculated by hand.
//!
//! The LaTeX test needs pdflatex with booktabs and threeparttable and says so when they are not there.

use medft::error::BadInput;
use medft::report::folders::{self, Folder};
use medft::report::{
    self, BackboneFacts, ClaimVerdict, ContextValue, DatasetFacts, PlannedRun, PlannedState, ProtocolNote,
    PublishedPoint, ReportInput, Verdict,
};
use medft::results::{
    Epoch, Evidence, Evidences, Expected, Failure, ModelFacts, Predictions, Provenance, RunOutput, RunRecord, RunState,
    SeenRuns, Selected, Spec, Store, Taken, Truth, WhichWeights, frame,
};
use medft::study::{Claims, Freeze, HeadKind, Protocol, RunSpec, Scale, Tolerances};
use medft::{fsio, report::DEMO_WARNING};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

// ---------------------------------------------------------------------------------------------------------------- records

fn spec(dataset: &str, backbone: &str, freeze: Freeze, head: HeadKind, seed: u64) -> Spec {
    let run = RunSpec {
        dataset: dataset.into(),
        backbone: backbone.into(),
        scale: Scale::Full,
        freeze,
        head,
        seed,
        protocol: Protocol::faithful(),
    };
    let id = fsio::sha256_hex(format!("{dataset} {backbone} {freeze} {head} {seed}").as_bytes());
    Spec {
        id,
        run,
        data_sha256: fsio::sha256_hex(b"data"),
        weights: BTreeMap::from([(backbone.to_owned(), fsio::sha256_hex(b"weights"))]),
        protocol_revision: 1,
    }
}

fn output(spec: &Spec, metric: &str, value: f64) -> RunOutput {
    let epoch = |n: u32, train_loss: f64| Epoch {
        epoch: n,
        lr: 1e-4,
        train_loss,
        val_loss: 0.5 / f64::from(n),
        val: BTreeMap::from([(metric.to_owned(), 0.1 + 0.2), ("undefined".to_owned(), f64::NAN)]),
    };
    let mut provenance = Provenance::start(spec, "cpu", 2);
    provenance.phases = BTreeMap::from([("train".into(), 3000.0), ("test".into(), 600.0)]);
    provenance.commit = Some("0123abc".into());
    provenance.dirty = Some(false);
    RunOutput {
        epochs: vec![epoch(1, 0.7), epoch(2, 0.6), epoch(3, f64::NAN)],
        target: metric.into(),
        headline: WhichWeights::Best,
        best: BTreeMap::from([(metric.to_owned(), value), ("loss".to_owned(), 0.25)]),
        last: BTreeMap::from([(metric.to_owned(), value - 0.01), ("loss".to_owned(), 0.3)]),
        selected: Selected {
            faithful: Some(2),
            corrected: None,
        },
        rules: BTreeMap::from([("corrected".to_owned(), BTreeMap::from([(metric.to_owned(), 0.5)]))]),
        weights_sha256: BTreeMap::from([("best".to_owned(), fsio::sha256_hex(b"best weights"))]),
        model: ModelFacts {
            family: "DINOv2".into(),
            backbone_params: 86_580_480,
            trainable_params: 1538,
            total_params: 86_582_018,
        },
        divergence: None,
        predictions: Predictions {
            groups: None,
            ids: vec!["a.png".into(), "ü b.png".into(), "c.png".into()],
            truth: Truth::Classes(vec![1, 0, 1]),
            outputs: 2,
            best: vec![0.25, -1.5, 3.0, f32::MIN_POSITIVE, 0.1, 0.2],
            last: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            others: BTreeMap::from([("corrected".to_owned(), vec![0.5, 0.0, -0.5, 1.5, 2.5, f32::MAX])]),
        },
        kept: BTreeMap::new(),
        provenance,
    }
}

/// What the registries would say of [`output`]'s run.
fn expected(_: &RunSpec) -> anyhow::Result<Expected> {
    Ok(Expected {
        target: "roc_auc".into(),
        outputs: 2,
        one_class: true,
        model: output(&one_spec(), "roc_auc", 0.5).model,
        rate: Box::new(|_, _| 1e-4),
        trained: Box::new(|_| anyhow::bail!("no run here keeps weights")),
    })
}

fn finished(store: &Store, spec: &Spec, metric: &str, value: f64) -> RunRecord {
    store.begin(spec).unwrap();
    store.finish(&spec.id, &output(spec, metric, value)).unwrap()
}

fn one_spec() -> Spec {
    spec("ddsm", "dinov2-b", Freeze::Frozen, HeadKind::Linear, 0)
}

fn broken(state: RunState) -> String {
    match state {
        RunState::Broken(why) => why,
        other => panic!("expected a broken run, found {other:?}"),
    }
}

#[test]
fn a_run_goes_from_absent_to_done_and_is_read_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), "paper");
    let s = one_spec();
    assert_eq!(store.state(&s.id), RunState::Absent);
    let run_dir = store.begin(&s).unwrap().to_path_buf();
    assert_eq!(run_dir, dir.path().join("paper").join(&s.id[..16]));
    assert_eq!(store.state(&s.id), RunState::Partial { checkpoint: false });
    fsio::write_atomic(&store.checkpoint_dir(&s.id).join("state.safetensors"), b"weights").unwrap();
    assert_eq!(store.state(&s.id), RunState::Partial { checkpoint: true });
    store.begin(&s).unwrap();
    assert_eq!(
        store.state(&s.id),
        RunState::Partial { checkpoint: true },
        "begin keeps the checkpoint of its own run"
    );
    assert!(store.all().unwrap().done.is_empty());

    let out = output(&s, "roc_auc", 0.9375);
    let record = store.finish(&s.id, &out).unwrap();
    assert_eq!(store.state(&s.id), RunState::Done);
    assert!(!store.checkpoint_dir(&s.id).exists());
    assert_eq!(store.load(&s.id).unwrap(), record);
    assert_eq!(
        (record.metrics.value, record.metrics.target.as_str()),
        (0.9375, "roc_auc")
    );
    assert_eq!(record.provenance.data_sha256, s.data_sha256);
    assert_eq!(store.predictions(&s.id).unwrap(), out.predictions);
    let epochs = store.epochs(&s.id).unwrap();
    assert_eq!(epochs[..2].iter().map(|e| e.train_loss).collect::<Vec<_>>(), [0.7, 0.6]);
    assert!(epochs[2].train_loss.is_nan() && epochs[0].val["undefined"].is_nan());
    assert_eq!(epochs[0].val["roc_auc"].to_bits(), (0.1f64 + 0.2).to_bits());
    assert_eq!(store.audit(&expected, &mut SeenRuns::default()).unwrap().runs, 1);
    let listing = store.all().unwrap();
    assert_eq!(listing.done, [record]);
    assert!(listing.broken.is_empty() && listing.partial.is_empty() && listing.failed.is_empty());

    let e = store.begin(&s).unwrap_err();
    assert!(matches!(e.downcast_ref::<Taken>(), Some(Taken::Finished(_))), "{e}");
    let check = Command::new("sha256sum")
        .args(["-c", "--quiet", "DONE"])
        .current_dir(&run_dir)
        .status();
    assert!(check.map_or(true, |s| s.success()), "sha256sum -c DONE");
}

#[test]
fn multi_label_predictions_come_back() {
    let p = Predictions {
        groups: Some(vec![Some("patient 1".into()), None]),
        ids: vec!["a".into(), "b".into()],
        truth: Truth::Labels {
            labels: 3,
            values: vec![1, 0, 0, 0, 1, 1],
        },
        outputs: 3,
        best: vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        last: vec![-0.0, -1.0, -2.0, -3.0, -4.0, f32::MAX],
        others: BTreeMap::new(),
    };
    let bytes = p.to_bytes().unwrap();
    assert_eq!(bytes, p.to_bytes().unwrap());
    assert_eq!(
        Predictions::from_bytes(Path::new("x"), &bytes, Some(p.ids.len() as u64)).unwrap(),
        p
    );
    let e = Predictions::from_bytes(Path::new("x.parquet"), &bytes[..bytes.len() / 2], None).unwrap_err();
    assert!(e.to_string().contains("x.parquet"), "{e}");
}

#[test]
fn the_same_run_leaves_the_same_bytes_everywhere_but_in_its_provenance() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let s = one_spec();
    for dir in [&a, &b] {
        finished(&Store::new(dir.path(), "x"), &s, "roc_auc", 0.9);
    }
    for file in ["spec.json", "epochs.json", "metrics.json", "predictions.parquet"] {
        let read = |d: &tempfile::TempDir| fs::read(Store::new(d.path(), "x").run_dir(&s.id).join(file)).unwrap();
        assert_eq!(read(&a), read(&b), "{file}");
    }
}

#[test]
fn an_edited_record_is_named_and_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), "x");
    let s = one_spec();
    finished(&store, &s, "roc_auc", 0.9375);
    let path = store.run_dir(&s.id).join("metrics.json");
    let text = fs::read_to_string(&path).unwrap();

    fs::write(&path, text.replacen("0.9375", "0.9975", 2)).unwrap();
    let why = broken(store.state(&s.id));
    assert!(why.contains("metrics.json") && why.contains("edited"), "{why}");
    let e = store.load(&s.id).unwrap_err();
    assert!(e.downcast_ref::<BadInput>().is_some(), "{e}");
    let listing = store.all().unwrap();
    assert_eq!((listing.done.len(), listing.broken.len()), (0, 1));

    // Re-indented, the record proves itself, but DONE knows the bytes.
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    fs::write(&path, value.to_string()).unwrap();
    assert!(medft::results::read_record::<medft::results::Metrics>(&path).is_ok());
    assert!(broken(store.state(&s.id)).contains("DONE"));
    fs::write(&path, text).unwrap();
    assert_eq!(store.state(&s.id), RunState::Done);
}

#[test]
fn torn_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), "x");
    let s = one_spec();
    finished(&store, &s, "roc_auc", 0.9375);
    for file in [
        "spec.json",
        "epochs.json",
        "metrics.json",
        "provenance.json",
        "predictions.parquet",
        "DONE",
    ] {
        let path = store.run_dir(&s.id).join(file);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let why = broken(store.state(&s.id));
        assert!(why.contains(file), "{file}: {why}");
        fs::remove_file(&path).unwrap();
        if file == "DONE" {
            assert_eq!(store.state(&s.id), RunState::Partial { checkpoint: false });
        } else {
            assert!(broken(store.state(&s.id)).contains(file));
        }
        fs::write(&path, whole).unwrap();
        assert_eq!(store.state(&s.id), RunState::Done);
    }
}

#[test]
fn predictions_of_the_same_size_but_other_bytes_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), "x");
    let s = one_spec();
    finished(&store, &s, "roc_auc", 0.9375);
    let path = store.run_dir(&s.id).join("predictions.parquet");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let e = store.predictions(&s.id).unwrap_err().to_string();
    let found = &store.audit(&expected, &mut SeenRuns::default()).unwrap().findings[0];
    for text in [e, found.to_string()] {
        assert!(text.contains("predictions.parquet"), "{text}");
    }
}

#[test]
fn without_its_marker_a_run_does_not_count_and_a_broken_one_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), "x");
    let s = one_spec();
    finished(&store, &s, "roc_auc", 0.9375);
    fs::remove_file(store.run_dir(&s.id).join("DONE")).unwrap();
    let listing = store.all().unwrap();
    assert_eq!((listing.done.len(), listing.partial.len()), (0, 1));
    assert!(store.load(&s.id).unwrap_err().to_string().contains("DONE"));
    finished(&store, &s, "roc_auc", 0.9375);
    assert_eq!(store.state(&s.id), RunState::Done);

    let spec_file = store.run_dir(&s.id).join("spec.json");
    fs::write(
        &spec_file,
        fs::read_to_string(&spec_file).unwrap().replace("ddsm", "ddsn"),
    )
    .unwrap();
    assert!(broken(store.state(&s.id)).contains("spec.json"));
    finished(&store, &s, "roc_auc", 0.9375);
    assert_eq!(store.state(&s.id), RunState::Done);
    let aside = dir.path().join("x/.broken").join(format!("{}-1", &s.id[..16]));
    assert!(
        fs::read_to_string(aside.join("spec.json")).unwrap().contains("ddsn"),
        "the broken folder is kept"
    );
    assert_eq!(store.all().unwrap().done.len(), 1);
}

#[test]
fn a_failed_run_is_a_gap_with_its_reason_until_it_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), "x");
    let s = one_spec();
    store.begin(&s).unwrap();
    store
        .fail(
            &s.id,
            &Failure {
                epoch: 3,
                step: 120,
                reason: "the loss is not a number".into(),
                lr: 1e-4,
                losses: vec![0.7, f64::NAN],
                images: vec!["a.png".into()],
                epochs: Vec::new(),
                error: false,
            },
        )
        .unwrap();
    assert_eq!(store.state(&s.id), RunState::Failed("the loss is not a number".into()));
    let listing = store.all().unwrap();
    let found = &listing.failed[0].1;
    assert_eq!((listing.done.len(), found.step, found.lr), (0, 120, 1e-4));
    assert!(found.losses[0] == 0.7 && found.losses[1].is_nan(), "{found:?}");
    store.begin(&s).unwrap();
    assert_eq!(store.state(&s.id), RunState::Partial { checkpoint: false });
}

#[test]
fn contradictions_of_the_trainer_are_refused_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), "x");
    let s = one_spec();
    store.begin(&s).unwrap();
    fsio::write_atomic(&store.checkpoint_dir(&s.id).join("state"), b"weights").unwrap();
    let good = output(&s, "roc_auc", 0.9);
    let mut short = good.clone();
    short.predictions.last.pop();
    let mut unknown = good.clone();
    unknown.target = "recall".into();
    let mut unselected = good;
    unselected.selected.faithful = Some(9);
    for (out, text) in [(short, "logits"), (unknown, "recall"), (unselected, "epoch 9")] {
        let e = store.finish(&s.id, &out).unwrap_err();
        assert!(e.to_string().contains(text), "{e}");
        assert_eq!(store.state(&s.id), RunState::Partial { checkpoint: true });
    }
}

#[test]
fn a_write_that_fails_leaves_a_partial_run_with_its_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), "x");
    let s = one_spec();
    let run_dir = store.begin(&s).unwrap();
    fsio::write_atomic(&store.checkpoint_dir(&s.id).join("state"), b"weights").unwrap();
    fs::create_dir_all(run_dir.join("metrics.json/in the way")).unwrap();
    let e = store.finish(&s.id, &output(&s, "roc_auc", 0.9)).unwrap_err();
    assert!(
        e.downcast_ref::<BadInput>()
            .is_some_and(|e| e.at.contains("metrics.json")),
        "{e}"
    );
    assert_eq!(store.state(&s.id), RunState::Partial { checkpoint: true });
    fs::remove_dir_all(run_dir.join("metrics.json")).unwrap();
    store.finish(&s.id, &output(&s, "roc_auc", 0.9)).unwrap();
    assert_eq!(store.state(&s.id), RunState::Done);
}

#[test]
fn what_a_killed_writer_left_is_removed_when_the_run_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), "x");
    let s = one_spec();
    let run_dir = store.begin(&s).unwrap().to_path_buf();
    fs::create_dir_all(store.checkpoint_dir(&s.id)).unwrap();
    // A process of this computer that has ended.
    let mut writer = Command::new("true").spawn().unwrap();
    writer.wait().unwrap();
    let name = format!(".medft-{}-{}-x.tmp", fsio::host::Process::this().space(), writer.id());
    let torn = [run_dir.join(&name), store.checkpoint_dir(&s.id).join(&name)];
    for f in &torn {
        fs::write(f, b"half a rec").unwrap();
    }
    store.begin(&s).unwrap();
    assert!(torn.iter().all(|f| !f.exists()));
}

#[test]
fn a_run_is_made_by_one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), "x");
    let s = one_spec();
    let held = store.begin(&s).unwrap();
    let e = store.begin(&s).unwrap_err();
    assert!(matches!(e.downcast_ref::<Taken>(), Some(Taken::Busy(..))), "{e}");
    drop(held);
    store.begin(&s).unwrap();
}

#[test]
fn a_results_folder_that_cannot_be_written_is_bad_input_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("results");
    fs::write(&file, b"a file where the folder should be").unwrap();
    let e = Store::new(&file, "x").begin(&one_spec()).unwrap_err();
    let e = e.downcast_ref::<BadInput>().expect("bad input");
    assert!(
        e.at.starts_with(&file.display().to_string()) && !e.remedy.is_empty(),
        "{e}"
    );
}

// ----------------------------------------------------------------------------------------------------------------- report

const REGIMES: [(Freeze, HeadKind); 4] = [
    (Freeze::Frozen, HeadKind::Linear),
    (Freeze::Frozen, HeadKind::Mha),
    (Freeze::Unfrozen, HeadKind::Linear),
    (Freeze::Unfrozen, HeadKind::Mha),
];

/// Builds an input from (data set, backbone, regime, values by seed or a reason).
struct Study {
    input: ReportInput,
    records: Vec<RunRecord>,
    dir: tempfile::TempDir,
}

impl Study {
    fn new(datasets: &[(&str, &str)], backbones: &[(&str, &str, &str, f64)]) -> Self {
        let preset = serde_json::to_value(Protocol::faithful()).unwrap();
        let used = serde_json::to_value(Protocol {
            epochs: 3,
            ..Protocol::faithful()
        })
        .unwrap();
        let input = ReportInput {
            study: "test".into(),
            title: "A study".into(),
            description: "Made for a test.".into(),
            expected: String::new(),
            demo: false,
            protocol: ProtocolNote::new("faithful", &preset, &used),
            datasets: datasets
                .iter()
                .map(|(name, title)| DatasetFacts {
                    name: (*name).into(),
                    title: (*title).into(),
                    set: (*name).into(),
                    plain_title: (*title).into(),
                    split: "authors".into(),
                    train_fraction: 1.0,
                    metric: "roc_auc".into(),
                    metric_title: "ROC-AUC".into(),
                    classes: vec!["normal".into(), "lesion".into()],
                    margin: Some(0.01),
                    margin_reason: "Chosen for the test.".into(),
                })
                .collect(),
            backbones: backbones
                .iter()
                .map(|(name, title, family, millions)| BackboneFacts {
                    name: (*name).into(),
                    title: (*title).into(),
                    family: (*family).into(),
                    params: Some((millions * 1e6) as u64),
                })
                .collect(),
            planned: Vec::new(),
            runs: frame(&[]).unwrap(),
            evidence: Evidences::default(),
            published: Vec::new(),
            context: Vec::new(),
            sources: Vec::new(),
            caveats: Vec::new(),
            without_code: Vec::new(),
            alpha: 0.05,
            archive: report::Archive::default(),
            claims: None,
            sweep: None,
            only: Vec::new(),
            templates: None,
        };
        Self {
            input,
            records: Vec::new(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// Plans one cell. `Ok(v)` is a finished run with this value, `Err(why)` a gap.
    fn cell(&mut self, dataset: &str, backbone: &str, regime: usize, runs: &[Result<f64, &str>]) {
        let (freeze, head) = REGIMES[regime];
        for (seed, run) in (0u64..).zip(runs) {
            let s = spec(dataset, backbone, freeze, head, seed);
            let state = match run {
                Ok(value) => {
                    self.records.push(record(&s, *value));
                    PlannedState::Done(s.id.clone())
                }
                Err(why) => PlannedState::Gap((*why).to_owned()),
            };
            self.input.planned.push(PlannedRun {
                dataset: dataset.into(),
                backbone: backbone.into(),
                freeze,
                head,
                seed,
                state,
            });
        }
    }

    fn render(&mut self, folder: &str) -> report::ReportOutput {
        self.input.runs = frame(&self.records).unwrap();
        report::render(&self.input, &self.dir.path().join(folder)).unwrap()
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.dir.path().join(file)).unwrap()
    }
}

/// A record without files: the report sees records only.
fn record(s: &Spec, value: f64) -> RunRecord {
    let out = output(s, "roc_auc", value);
    RunRecord {
        spec: s.clone(),
        metrics: medft::results::Metrics {
            target: out.target,
            value,
            headline: out.headline,
            best: out.best,
            last: out.last,
            selected: out.selected,
            rules: BTreeMap::new(),
            weights_sha256: BTreeMap::new(),
            model: out.model,
            divergence: None,
            predictions: medft::results::PredictionFile {
                sha256: String::new(),
                bytes: 0,
                images: 3,
            },
        },
        provenance: out.provenance,
    }
}

const PAIR: [(&str, &str, &str, f64); 3] = [
    ("dinov2-s", "DINOv2-S", "DINOv2", 22.06),
    ("dinov2-b", "DINOv2-B", "DINOv2", 86.58),
    ("mae_b", "MAE_B", "MAE", 85.8),
];

/// 0.90, 0.92, 0.94: mean 0.92, sd √((0.0004 + 0 + 0.0004) / 2) = 0.02. 0.9194, 0.9198: mean 0.9196, prints as 0.920: a tie.
/// 0.91, 0.89: mean 0.90, sd √(0.0002 / 1) = 0.0141.
fn small_study() -> Study {
    let mut s = Study::new(&[("ddsm", "DDSM")], &PAIR);
    s.cell("ddsm", "dinov2-s", 0, &[Ok(0.90), Ok(0.92), Ok(0.94)]);
    s.cell("ddsm", "dinov2-b", 0, &[Ok(0.9194), Ok(0.9198), Err("not run yet")]);
    s.cell("ddsm", "mae_b", 0, &[Ok(0.91), Ok(f64::NAN), Ok(0.89)]);
    s.cell(
        "ddsm",
        "dinov2-s",
        3,
        &[Ok(-0.0002), Err("not run yet"), Err("not run yet")],
    );
    s.cell("ddsm", "dinov2-b", 3, &[Err("the weights of MAE_B are not here"); 3]);
    s
}

#[test]
fn the_markdown_table_is_the_one_written_by_hand() {
    let mut s = small_study();
    let out = s.render("r");
    assert_eq!((out.planned, out.done), (15, 8));
    let expected = "\
### DDSM, ROC-AUC on the test set

| Backbone | Params (M) | frozen, linear | unfrozen, MHA | CPU-hours |
| :-- | --: | :-: | :-: | --: |
| DINOv2-S | 22.1 | **0.920** ± 0.020 (3) | 0.000 (1)<sup>a</sup> | 4.00 |
| DINOv2-B | 86.6 | **0.920** ± 0.000 (2)<sup>b</sup> | –<sup>c</sup> | 2.00 |
| MAE\\_B | 85.8 | <ins>0.900</ins> ± 0.014 (2)<sup>d</sup> | –<sup>e</sup> | 3.00 |

Mean ± sample standard deviation over seeds (number of seeds); per column best in bold, second underlined, ties decided as printed. Protocol: preset faithful (epochs 3, batch 64, lr 0.0001, weight decay 0.00001, augment paper, validation set shuffled-drop-last, test weights best), changed from the preset: epochs 3.

- <sup>a</sup> seeds 1, 2: not run yet.
- <sup>b</sup> seed 2: not run yet.
- <sup>c</sup> the weights of MAE\\_B are not here.
- <sup>d</sup> seed 1: the test metric is not a number.
- <sup>e</sup> not planned in this study.
";
    assert_eq!(s.read("r/tables/ddsm.md"), expected);
}

#[test]
fn the_latex_table_has_the_same_numbers() {
    let mut s = small_study();
    s.render("r");
    let tex = s.read("r/tables/ddsm.tex");
    for line in [
        r"\begin{tabular}{lS[table-format=2.1]S[table-format=1.3]@{\,}lS[table-format=1.3]@{\,}lS[table-format=1.2]}",
        r" &  & \multicolumn{2}{c}{Frozen} & \multicolumn{2}{c}{Unfrozen} &  \\",
        r"\cmidrule(lr){3-4}\cmidrule(lr){5-6}",
        r"DINOv2-S & 22.1 & \bfseries 0.920 & $\pm$ 0.020 (3) & 0.000 & (1)\tnote{a} & 4.00 \\",
        r"MAE\_B & 85.8 & {\underline{0.900}} & $\pm$ 0.014 (2)\tnote{d} & {--} & \tnote{e} & 3.00 \\",
        r"\item[c] the weights of MAE\_B are not here.",
    ] {
        assert!(tex.contains(line), "no line {line} in\n{tex}");
    }
}

#[test]
fn the_csv_has_full_precision_and_the_runs_behind_every_number() {
    let mut s = small_study();
    s.render("r");
    let text = s.read("r/tables/ddsm.csv");
    let mut csv = csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<BTreeMap<String, String>> = csv.deserialize().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 6);
    let id = |seed| spec("ddsm", "dinov2-s", Freeze::Frozen, HeadKind::Linear, seed).id;
    assert_eq!(rows[0]["runs"], format!("{} {} {}", id(0), id(1), id(2)));
    assert_eq!(
        (rows[0]["values"].as_str(), rows[0]["rank"].as_str()),
        ("0.9 0.92 0.94", "best")
    );
    assert_eq!(
        (rows[0]["freeze"].as_str(), rows[0]["head"].as_str()),
        ("frozen", "linear")
    );
    assert_eq!(
        (rows[0]["family"].as_str(), rows[0]["params_m"].as_str()),
        ("DINOv2", "22.06")
    );
    assert!((rows[0]["sd"].parse::<f64>().unwrap() - 0.02).abs() < 1e-12);
    assert_eq!(
        (
            rows[3]["n"].as_str(),
            rows[3]["planned"].as_str(),
            rows[3]["mean"].as_str()
        ),
        ("0", "3", "")
    );
    assert_eq!(rows[3]["gap"], "the weights of MAE_B are not here");
}

#[test]
fn the_same_records_give_the_same_bytes_in_any_order() {
    let mut s = small_study();
    s.input.published = vec![point("dinov2-b", 0.921)];
    let files = s.render("a").files;
    s.records.reverse();
    s.input.planned.reverse();
    s.render("b");
    assert_eq!(files.len(), 24);
    for f in files {
        let name = f.strip_prefix(s.dir.path().join("a")).unwrap();
        let read = |d: &str| fs::read(s.dir.path().join(d).join(name)).unwrap();
        assert!(read("a") == read("b"), "{}", name.display());
    }
}

#[test]
fn the_page_says_what_is_missing_and_why() {
    let mut s = small_study();
    s.render("r");
    let page = s.read("r/README.md");
    for line in [
        "8 of 15 planned runs have a result.",
        "| DDSM | ROC-AUC | 8 | 15 |",
        "| 3 | not run yet |\n| 3 | the weights of MAE\\_B are not here |\n| 1 | the test metric is not a number |",
        "| cpu | 9 | 9.00 |",
        "| 0123abc | 9 |",
        "This study has no published value to compare with",
    ] {
        assert!(page.contains(line), "no line {line} in\n{page}");
    }
}

/// 41 resamples of one set of images. The best cell's are 0.90 + k/1000 for k = −20 … 20: its 95 % interval is linear between
/// order statistics, 0.881 to 0.919. The second lies 0.004 below, by 0.004 in 40 of 41 resamples and by −0.006 in one: standard
/// error 0.01/√41, z = 2.561250, p = 0.0104299, by Holm over two tests 0.0208598. The third is 0.08 below in all resamples, but its
/// two seeds lie 0.04 apart: standard error 0.02 with one degree of freedom, t = 4, p = 2·atan(¼)/π = 0.1559583.
#[test]
fn intervals_and_ties_over_test_images_by_hand() {
    let mut s = Study::new(&[("ddsm", "DDSM")], &PAIR);
    s.cell("ddsm", "dinov2-s", 0, &[Ok(0.9)]);
    s.cell("ddsm", "dinov2-b", 0, &[Ok(0.896)]);
    s.cell("ddsm", "mae_b", 0, &[Ok(0.8), Ok(0.84)]);
    let id = |b: &str, seed| spec("ddsm", b, Freeze::Frozen, HeadKind::Linear, seed).id;
    let best: Vec<f64> = (-20..=20).map(|k| 0.9 + f64::from(k) / 1000.0).collect();
    let shifted = |by: f64| best.iter().map(|v| v - by).collect::<Vec<f64>>();
    let mut second = shifted(0.004);
    second[7] += 0.01;
    for (id, replicates) in [
        (id("dinov2-s", 0), best.clone()),
        (id("dinov2-b", 0), second),
        (id("mae_b", 0), shifted(0.1)),
        (id("mae_b", 1), shifted(0.06)),
    ] {
        s.input.evidence.insert(id, resampled("x", replicates));
    }
    let rows = |s: &Study| -> Vec<BTreeMap<String, String>> {
        let text = s.read("r/tables/ddsm.csv");
        let mut csv = csv::Reader::from_reader(text.as_bytes());
        csv.deserialize().map(Result::unwrap).collect()
    };
    s.render("r");
    let csv = rows(&s);
    let near = |text: &str, want: f64| (text.parse::<f64>().unwrap() - want).abs() < 1e-12;
    assert!(
        near(&csv[0]["low"], 0.881) && near(&csv[0]["high"], 0.919),
        "{:?}",
        csv[0]
    );
    // The images alone leave 0.801; two seeds know the mean to ± 12.706205 · 0.02.
    let low = 0.82 - (0.019f64 * 0.019 + (12.706_204_736_174_698f64 * 0.02).powi(2)).sqrt();
    assert!(
        (csv[2]["low"].parse::<f64>().unwrap() - low).abs() < 1e-9,
        "the mean of two seeds: {:?}",
        csv[2]
    );
    assert_eq!(csv[0]["p_best"], "");
    let p = |row: &BTreeMap<String, String>| row["p_best"].parse::<f64>().unwrap();
    assert!(
        (p(&csv[1]) - 0.020_859_8).abs() < 1e-6 && (p(&csv[2]) - 0.155_958_3).abs() < 1e-6,
        "{csv:?}"
    );
    assert_eq!([&csv[1]["tied"], &csv[2]["tied"]], ["false", "true"]);
    let md = s.read("r/tables/ddsm.md");
    assert!(md.contains("**0.900** (1)<br>[0.881, 0.919]"), "{md}");
    assert!(
        md.contains("the 1,044 test images (41 resamples)") && md.contains("the paired bootstrap, Holm"),
        "{md}"
    );
    let html = s.read("r/tables/ddsm.html");
    assert!(
        html.contains("<span class=\"interval\">[0.881, 0.919]</span>"),
        "{html}"
    );
    assert!(html.contains(&format!("data-runs=\"{} {}\"", id("mae_b", 0), id("mae_b", 1))));
    let tex = s.read("r/tables/ddsm.tex");
    assert!(
        tex.contains(r"\multicolumn{2}{c}{\scriptsize{}[0.881, 0.919]}"),
        "{tex}"
    );

    s.input.alpha = 0.2;
    s.render("r");
    assert_eq!(rows(&s)[2]["tied"], "false");
    // Other images: nothing to pair, so nothing is said.
    s.input.evidence.insert(id("dinov2-b", 0), resampled("y", best));
    s.render("r");
    assert_eq!(rows(&s)[1]["p_best"], "");
}

fn point(backbone: &str, value: f64) -> PublishedPoint {
    PublishedPoint {
        dataset: "ddsm".into(),
        backbone: backbone.into(),
        metric: "roc_auc".into(),
        freeze: None,
        head: None,
        params_millions: Some(86.0),
        value,
        uncertainty: 0.0001,
        shared_offset: 0.0,
        rounding: 0.0,
        runs: None,
        sd: None,
        no_verdict: None,
        note: None,
    }
}

/// Three seeds 0.9398, 0.9402, 0.9401: s = 0.000208167, SE = s·√(1/3 + 1) = 0.000240370, t = 2.919986: half-width 0.000702, inside 0.01.
/// 0.938, 0.942, 0.941 against 0.940: s = 0.00208167, half-width 0.00702 + 0.0001, |difference| 0.000333: inside 0.01, outside 0.005;
/// there the prediction interval is ± 4.302653·0.00240370 = ± 0.010342 and holds 0: Consistent.
#[test]
fn every_verdict_is_given_where_it_belongs() {
    let mut s = Study::new(&[("ddsm", "DDSM")], &PAIR);
    s.cell("ddsm", "dinov2-b", 0, &[Ok(0.938), Ok(0.942), Ok(0.941)]);
    s.cell(
        "ddsm",
        "dinov2-b",
        1,
        &[
            Ok(0.9398),
            Ok(0.9402),
            Ok(0.9401),
            Err("the run failed: the loss is not a number"),
        ],
    );
    s.cell("ddsm", "dinov2-b", 2, &[Ok(0.94)]);
    s.cell("ddsm", "dinov2-b", 3, &[Err("no GPU with enough memory"); 3]);
    s.input.published = vec![
        PublishedPoint {
            note: Some("Absent from the authors' code.".into()),
            no_verdict: Some("no code".into()),
            ..point("vmamba-s", 0.7)
        },
        point("dinov2-b", 0.94),
    ];
    let out = s.render("r");
    let verdicts: Vec<Option<&Verdict>> = out.comparisons.iter().map(|c| c.verdict.as_ref()).collect();
    assert_eq!(verdicts[0], Some(&Verdict::Reproduced));
    assert!(
        matches!(verdicts[1], Some(Verdict::Inconclusive(why)) if why.contains("seed 3") || why.contains("the run failed")),
        "three good seeds do not hide the fourth: {verdicts:?}"
    );
    assert!(matches!(verdicts[2], Some(Verdict::Inconclusive(why)) if why.contains("one seed")));
    assert_eq!(verdicts[3], Some(&Verdict::NotRun("no GPU with enough memory".into())));
    assert_eq!(verdicts[4], None, "there is no code to reproduce it with");
    assert_eq!(out.comparisons[4].why(), "no code");
    let n = out.verdicts;
    assert_eq!((n.reproduced, n.shown), (1, 1), "each published value counts once");
    assert_eq!((n.consistent, n.differs, n.inconclusive, n.not_run), (0, 0, 0, 0));
    let c = &out.comparisons[0];
    let (low, high) = c.interval.unwrap();
    let half = 2.919_985_580_353_726 * 0.002_403_700_850_309_326 + 0.0001;
    assert!((low - (1.0 / 3000.0 - half)).abs() < 1e-9 && (high - (1.0 / 3000.0 + half)).abs() < 1e-9);

    s.input.datasets[0].margin = Some(0.005);
    assert_eq!(s.render("r").comparisons[0].verdict, Some(Verdict::Consistent));
    s.input.published = vec![point("dinov2-b", 0.97)];
    assert_eq!(s.render("r").comparisons[0].verdict, Some(Verdict::Differs));
    let page = s.read("r/compare.md");
    assert!(page.contains("The figure does not say which regime it shows"), "{page}");
    assert!(
        page.contains("| DINOv2-B | 0.970 ± 0.00010 | **frozen, linear** | 0.940 ± 0.002 (3) | -0.0297 |"),
        "{page}"
    );
}

/// The published run is one unseeded run: a constant it is not. Two seeds 0.90 and 0.91 against 0.95 "differed" while it was one.
#[test]
fn the_published_runs_own_noise_counts() {
    let mut s = Study::new(&[("ddsm", "DDSM")], &PAIR);
    s.cell("ddsm", "dinov2-b", 0, &[Ok(0.90), Ok(0.91)]);
    s.input.published = vec![point("dinov2-b", 0.95)];
    let c = s.render("r").comparisons[0].clone();
    // s = 0.00707107; √(s²/2 + s²) = 0.00866025; t = 6.313752 and 12.706205.
    let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(near(c.standard_error.unwrap(), 0.008_660_254_037_844_387) && c.df == Some(1.0));
    assert!(near(
        c.interval.unwrap().1,
        -0.045 + 6.313_751_514_675_037 * 0.008_660_254_037_844_387 + 0.0001
    ));
    assert!(near(c.interval_ours.unwrap().1, -0.045 + 6.313_751_514_675_037 * 0.005));
    assert_eq!(c.verdict, Some(Verdict::Consistent));

    // A source that gives sd and number of runs is taken at its word: Welch.
    let known = PublishedPoint {
        runs: Some(5),
        sd: Some(0.001),
        ..point("dinov2-b", 0.95)
    };
    s.input.published = vec![known];
    let c = s.render("r").comparisons[0].clone();
    assert_eq!((c.published_runs, c.published_sd), (5, Some(0.001)));
    assert!(near(c.standard_error.unwrap(), (0.000_025f64 + 0.000_000_2).sqrt()));
}

#[test]
fn a_verdict_needs_the_same_metric_a_margin_and_a_value_read_finely_enough() {
    let mut s = Study::new(&[("ddsm", "DDSM")], &PAIR);
    s.cell("ddsm", "dinov2-b", 0, &[Ok(0.9399), Ok(0.9401)]);
    s.cell("ddsm", "dinov2-b", 3, &[Ok(0.9399), Ok(0.9401)]);
    let known = PublishedPoint {
        freeze: Some(Freeze::Frozen),
        head: Some(HeadKind::Linear),
        ..point("dinov2-b", 0.94)
    };
    let mut verdict = |p: &PublishedPoint, margin: Option<f64>| {
        s.input.published = vec![p.clone()];
        s.input.datasets[0].margin = margin;
        let all = s.render("r").comparisons;
        assert_eq!(all.len(), 1, "a value of one regime is compared with that regime only");
        assert!(all[0].counted);
        all[0].verdict.clone().unwrap()
    };
    assert_eq!(verdict(&known, Some(0.01)), Verdict::Reproduced);
    let why = |v: Verdict| match v {
        Verdict::Inconclusive(why) => why,
        other => panic!("{other:?}"),
    };
    assert!(why(verdict(&known, None)).contains("no margin"));
    let other = PublishedPoint {
        metric: "accuracy".into(),
        ..known.clone()
    };
    assert!(why(verdict(&other, Some(0.01))).contains("another metric (accuracy)"));
    // Reading, offset and rounding each widen the interval; here none of them leaves the margin crossed.
    for wide in [
        PublishedPoint {
            uncertainty: 0.02,
            ..known.clone()
        },
        PublishedPoint {
            shared_offset: 0.02,
            ..known.clone()
        },
        PublishedPoint {
            rounding: 0.02,
            ..known.clone()
        },
    ] {
        assert_eq!(verdict(&wide, Some(0.01)), Verdict::Consistent, "{wide:?}");
    }
    let absent = PublishedPoint {
        head: Some(HeadKind::Mha),
        ..known
    };
    assert_eq!(
        verdict(&absent, Some(0.01)),
        Verdict::NotRun("not planned in this study".into())
    );
}

/// 41 replicates around `v`: their sample standard deviation is 0.0119791.
fn spread(v: f64) -> Vec<f64> {
    (-20..=20).map(|k| v + f64::from(k) / 1000.0).collect()
}

/// Both numbers are of the same test images: drawing them anew for ours alone made `Reproduced` unreachable, and made a flag of
/// the budget (`--replicates`) change the question.
#[test]
fn resampled_test_images_change_no_verdict() {
    let mut s = Study::new(&[("ddsm", "DDSM")], &PAIR);
    s.cell("ddsm", "dinov2-b", 0, &[Ok(0.9400), Ok(0.9410), Ok(0.9405)]);
    s.cell("ddsm", "dinov2-s", 0, &[Ok(0.9300), Ok(0.9310), Ok(0.9305)]);
    s.input.published = vec![point("dinov2-b", 0.9405), point("dinov2-s", 0.9304)];
    let without = s.render("r");
    assert_eq!(without.comparisons[0].verdict, Some(Verdict::Reproduced));
    for (backbone, v) in [("dinov2-b", 0.94), ("dinov2-s", 0.93)] {
        for seed in [0, 1, 2] {
            let id = spec("ddsm", backbone, Freeze::Frozen, HeadKind::Linear, seed).id;
            s.input.evidence.insert(id, resampled("x", spread(v)));
        }
    }
    let with = s.render("r");
    assert_eq!((without.comparisons, without.paper), (with.comparisons, with.paper));
}

/// Eight backbones on one data set, four regimes: our seeds lie at `ours` plus 0.02 a regime.
fn eight(ours: impl Fn(usize) -> f64, published: impl Fn(usize) -> f64) -> Study {
    let names: Vec<String> = (0..8).map(|i| format!("b{i}")).collect();
    let rows: Vec<(&str, &str, &str, f64)> = names
        .iter()
        .map(|n| (n.as_str(), n.as_str(), "F", 1.0 + n.len() as f64))
        .collect();
    let mut s = Study::new(&[("ddsm", "DDSM")], &rows);
    for (i, n) in names.iter().enumerate() {
        for regime in 0..4 {
            let v = ours(i) + 0.02 * regime as f64;
            // sd 0.001 a cell, told apart from backbone to backbone.
            s.cell("ddsm", n, regime, &[Ok(v - 0.001), Ok(v), Ok(v + 0.001)]);
        }
        s.input.published.push(point(n, published(i)));
    }
    s
}

/// A perfect reproduction of frozen MHA used to "differ" in the three other regimes. Now it is one verdict under the hypothesis
/// that fits, and the others are shown.
#[test]
fn the_paper_is_judged_under_the_hypothesis_that_fits_best() {
    let base = |i: usize| 0.80 + 0.01 * i as f64;
    let wobble = |i: usize| if i.is_multiple_of(2) { 0.001 } else { -0.001 };
    let mut s = eight(base, |i| base(i) + 0.02 + wobble(i));
    let out = s.render("r");
    let best: Vec<_> = out.paper.best().collect();
    assert_eq!(best.len(), 1);
    let b = best[0];
    assert_eq!(b.hypothesis.title(), "frozen, MHA, best weights");
    assert_eq!((&b.verdict, b.inside, b.rows.len()), (&Verdict::Reproduced, 8, 8));
    // Differences ±0.001 in turn: mean 0, sd √(8/7)·0.001 between backbones, t(0.95, 7) = 1.894579; reading 0.0001.
    let half = 1.894_578_605_061_305 * 0.001 * (8.0f64 / 7.0).sqrt() / 8f64.sqrt() + 0.0001;
    let (low, high) = b.interval.unwrap();
    assert!((low + half).abs() < 1e-9 && (high - half).abs() < 1e-9, "{low} {high}");
    // Run noise: 0.001·√(1/3 + 1); rmse 0.001: ratio 0.866025.
    assert!((b.ratio.unwrap() - 0.75f64.sqrt()).abs() < 1e-9 && (b.rmse.unwrap() - 0.001).abs() < 1e-9);
    assert!((b.tau.unwrap() - 1.0).abs() < 1e-12);
    assert!((b.tau_p.unwrap() - 1.0 / 40320.0).abs() < 1e-12, "8! orders");
    assert!(
        out.paper.sentences[0].contains("every other hypothesis fits worse beyond chance"),
        "{:?}",
        out.paper.sentences
    );
    let others: Vec<_> = out.paper.sets.iter().filter(|s| !s.best).collect();
    assert_eq!(
        others.len(),
        9,
        "four regimes and the best of them, with best and with last weights"
    );
    assert!(others.iter().any(|s| s.verdict == Verdict::Differs));
    assert!(
        !out.paper.differs(),
        "what differs under a hypothesis that is not the figure's is no difference"
    );
    let n = out.verdicts;
    assert_eq!(
        (
            n.reproduced,
            n.differs,
            n.consistent,
            n.inconclusive,
            n.not_run,
            n.shown
        ),
        (8, 0, 0, 0, 0, 0)
    );
    assert!(
        s.read("r/README.md")
            .contains("| DDSM | frozen, MHA, best weights | 8 | **Reproduced** |")
    );

    // Above all of ours: the nearest hypothesis differs too.
    let mut s = eight(base, |i| base(i) + 0.09 + wobble(i));
    let out = s.render("r");
    assert!(out.paper.differs());

    // Between two regimes: none can be told.
    let mut s = eight(base, |i| base(i) + if i % 2 == 0 { 0.0 } else { 0.02 });
    let out = s.render("r");
    assert!(
        out.paper.sentences[0].starts_with("None can be told"),
        "{:?}",
        out.paper.sentences
    );

    // A source that states its regime gets that alone.
    let mut s = eight(base, |i| base(i) + 0.06);
    for p in &mut s.input.published {
        (p.freeze, p.head) = (Some(Freeze::Frozen), Some(HeadKind::Linear));
    }
    let out = s.render("r");
    assert_eq!(out.paper.sets.len(), 1);
    assert!(
        out.paper.differs(),
        "unfrozen MHA would fit, but the source says frozen linear"
    );
}

/// A value used to be judged on its highest regime, and on the weights that count, while its data set was judged on the best of all
/// regimes seed by seed, or on the last weights: the two could contradict each other.
#[test]
fn a_value_is_judged_on_the_numbers_that_its_data_set_is_judged_on() {
    let base = |i: usize| 0.80 + 0.01 * i as f64;
    let wobble = |i: usize| if i.is_multiple_of(2) { 0.001 } else { -0.001 };
    let agree = |out: &report::ReportOutput, hypothesis: &str| {
        let set = out.paper.best().next().unwrap();
        assert_eq!(set.hypothesis.title(), hypothesis);
        let counted: Vec<_> = out.comparisons.iter().filter(|c| c.counted).collect();
        assert_eq!(counted.len(), 8);
        for c in counted {
            match set.rows.iter().find(|r| r.backbone == c.backbone) {
                Some(row) => assert_eq!((&row.values, row.difference), (&c.values, c.difference.unwrap())),
                None => {
                    let why = set.incomplete.iter().find(|i| i.0 == c.backbone);
                    assert_eq!(c.why(), why.unwrap().1, "{c:?}");
                    assert!(matches!(c.verdict, Some(Verdict::Inconclusive(_))), "{c:?}");
                }
            }
        }
    };
    // Seed by seed now the one regime is higher and now the other; the highest of them is what was published.
    let alternating = || {
        let mut s = eight(base, |i| base(i) + 0.07 + wobble(i));
        s.input.planned.clear();
        s.records.clear();
        for i in 0..8 {
            let b = format!("b{i}");
            let v = |gains: [f64; 3]| gains.map(|g| Ok(base(i) + g));
            s.cell("ddsm", &b, 0, &v([0.0, 0.001, 0.002]));
            s.cell("ddsm", &b, 1, &v([0.01, 0.011, 0.012]));
            s.cell("ddsm", &b, 2, &v([0.03, 0.070, 0.03]));
            s.cell("ddsm", &b, 3, &v([0.07, 0.03, 0.071]));
        }
        s
    };
    let mut s = alternating();
    let out = s.render("r");
    agree(&out, "the best regime of each backbone, best weights");
    assert_eq!(
        (out.verdicts.reproduced, out.paper.best().next().unwrap().verdict.name()),
        (8, "Reproduced")
    );
    let page = s.read("r/compare.md");
    assert!(
        page.contains(
            "| **the best regime of each backbone, best weights (here unfrozen, MHA)** | 0.870 ± 0.001 (3) |"
        ),
        "{page}"
    );
    // The highest regime alone would have been no more than consistent.
    let plain = out
        .comparisons
        .iter()
        .find(|c| !c.counted && c.regime == Some(REGIMES[3]))
        .unwrap();
    assert_eq!(plain.verdict, Some(Verdict::Consistent));
    let html = s.read("r/index.html");
    assert!(
        html.contains("the best regime of each backbone"),
        "the page says what ours are"
    );

    // Where one of the regimes lacks a seed, which is the highest cannot be told: of the value no more than of the set.
    let mut s = alternating();
    let run = s.input.planned.iter().position(|p| p.backbone == "b3").unwrap();
    s.input.planned[run].state = PlannedState::Gap("the run failed: the loss is not a number".into());
    let id = spec(
        "ddsm",
        "b3",
        Freeze::Frozen,
        HeadKind::Linear,
        s.input.planned[run].seed,
    )
    .id;
    s.records.retain(|r| r.spec.id != id);
    agree(&s.render("r"), "the best regime of each backbone, best weights");

    // The last weights, which lie 0.01 below those that count.
    let mut s = eight(base, |i| base(i) + 0.02 - 0.01 + wobble(i));
    let out = s.render("r");
    agree(&out, "frozen, MHA, last weights");
    assert_eq!(out.verdicts.reproduced, 8);
    assert!(s.read("r/compare.csv").contains(",\"frozen, MHA, last weights\","));
}

/// Three of four seeds agree with the paper and the fourth exploded: that is not a reproduction.
#[test]
fn a_missing_seed_leaves_a_data_set_inconclusive() {
    let base = |i: usize| 0.80 + 0.01 * i as f64;
    let mut s = eight(base, |i| base(i) + 0.02);
    let run = s
        .input
        .planned
        .iter()
        .position(|p| p.backbone == "b3" && p.head == HeadKind::Mha)
        .unwrap();
    s.input.planned[run].state = PlannedState::Gap("the run failed: the loss is not a number".into());
    let out = s.render("r");
    let b = out.paper.best().next().unwrap();
    assert!(
        matches!(&b.verdict, Verdict::Inconclusive(why) if why.contains("1 of 8 backbones") && why.contains("b3: seed 0: the run failed")),
        "{:?}",
        b.verdict
    );
    assert!(!out.paper.differs());
}

/// The larger backbone gains 0.00, 0.01 and 0.05 on a tenth, three tenths and all of the images, in the regimes that the study has. By
/// the normal equations over log10 of the share, computed apart: slope 0.05042238, standard error 0.01598844.
#[test]
fn the_advantage_of_size_is_asked_over_training_shares() {
    let tables = [("d-1", 0.1, 0.0), ("d-3", 0.3, 0.01), ("d", 1.0, 0.05)];
    let names: Vec<(&str, &str)> = tables.iter().map(|t| (t.0, t.0)).collect();
    let mut s = Study::new(&names, &PAIR[..2]);
    for (facts, (_, share, _)) in s.input.datasets.iter_mut().zip(tables) {
        facts.set = "d".into();
        facts.train_fraction = share;
    }
    for (table, _, gain) in tables {
        for (b, v) in [("dinov2-s", 0.8), ("dinov2-b", 0.8 + gain)] {
            for (regime, head) in [(0, HeadKind::Linear), (1, HeadKind::Mha)] {
                s.cell(table, b, regime, &[Ok(v - 0.0001), Ok(v + 0.0001)]);
                for seed in [0, 1] {
                    let id = spec(table, b, Freeze::Frozen, head, seed).id;
                    s.input.evidence.insert(id, resampled("x", vec![v; 41]));
                }
            }
        }
    }
    let text = r#"
alpha = 0.05
[[claim]]
id = "size-by-fraction"
text = "Larger ones need more images."
source = "third-party summary"
sentence = "In these words."
test = "size-fraction"
pairs = [["dinov2-s", "dinov2-b"]]
reading = "A slope."
smallest = 0.005
smallest_reason = "Chosen for the test."
"#;
    s.input.claims = Some(Claims::parse("claims.toml", text).unwrap());
    let judged = s.render("r").claims;
    let effect = judged[0]
        .effect
        .clone()
        .unwrap_or_else(|| panic!("{:?}", judged[0].verdict));
    assert!((effect.value - 0.050422384318).abs() < 1e-8, "{effect:?}");
    assert_eq!(effect.sources[0].name, "residuals");
    assert!(
        (effect.sources[0].standard_error - 0.01598844451).abs() < 1e-8,
        "{effect:?}"
    );
    assert_eq!((effect.sources[0].df, judged[0].cells.len()), (Some(1.0), 12));
    assert!(
        matches!(&judged[0].verdict, ClaimVerdict::Undetermined(_)),
        "three points say little"
    );
    // Two shares are no slope with an error.
    s.input.datasets[0].train_fraction = 0.3;
    let judged = s.render("r2").claims;
    assert!(
        matches!(&judged[0].verdict, ClaimVerdict::Undetermined(why) if why.contains("three training shares")),
        "{:?}",
        judged[0].verdict
    );
}

/// MHA minus linear on frozen backbones is 0.05 and 0.02. Two seeds a cell, ± 0.001: s²/n = 1e-6, so that the mean of the two has a
/// standard error of 0.001 by its seeds, with (4 · ⅛)²/(4 · ⅛²) = 4 degrees of freedom, and of 0.0119791 by its images (the cells of
/// MHA move together): half-width √((2.776445 · 0.001)² + (1.959964 · 0.0119791)²).
#[test]
fn claims_are_decided_with_their_correction_and_only_when_every_cell_is_there() {
    let text = |smallest: f64| {
        let claim = |id: &str, test: &str| {
            format!(
                r#"
[[claim]]
id = "{id}"
text = "MHA is better."
source = "third-party summary"
sentence = "In these words."
test = "{test}"
plus = {{ freeze = "frozen", head = "mha" }}
minus = {{ freeze = "frozen", head = "linear" }}
reading = "Each."
smallest = {smallest}
smallest_reason = "Chosen for the test."
"#
            )
        };
        let all = [claim("mha", "contrast"), claim("mha-every", "contrast-every-backbone")].concat();
        Some(Claims::parse("claims.toml", &format!("alpha = 0.05\n{all}")).unwrap())
    };
    let mut s = Study::new(&[("ddsm", "DDSM")], &PAIR[..2]);
    for (b, linear, mha) in [("dinov2-s", 0.80, 0.85), ("dinov2-b", 0.85, 0.87)] {
        for (regime, head, v, replicates) in [
            (0, HeadKind::Linear, linear, vec![linear; 41]),
            (1, HeadKind::Mha, mha, spread(mha)),
        ] {
            s.cell("ddsm", b, regime, &[Ok(v - 0.001), Ok(v + 0.001)]);
            for seed in [0, 1] {
                let id = spec("ddsm", b, Freeze::Frozen, head, seed).id;
                s.input.evidence.insert(id, resampled("x", replicates.clone()));
            }
        }
    }
    s.input.claims = text(0.005);
    let judged = s.render("r").claims;
    let effect = judged[0].effect.clone().unwrap();
    let images = 0.011_979_148_550_710_94;
    let half = ((2.776_445_105_197_794f64 * 0.001).powi(2) + (1.959_963_984_540_054f64 * images).powi(2)).sqrt();
    assert!((effect.value - 0.035).abs() < 1e-12);
    assert!(
        (effect.low - (0.035 - half)).abs() < 1e-9 && (effect.high - (0.035 + half)).abs() < 1e-9,
        "{effect:?}"
    );
    assert_eq!(effect.sources[0].name, "seeds");
    assert!((effect.sources[0].df.unwrap() - 4.0).abs() < 1e-9);
    assert!((effect.sources[0].standard_error - 0.001).abs() < 1e-12);
    assert!((effect.sources[1].standard_error - images).abs() < 1e-9);
    assert_eq!(judged[0].verdict, ClaimVerdict::Supported);
    assert!(
        matches!(&judged[1].verdict, ClaimVerdict::Undetermined(why) if why.contains("cannot be told")),
        "{:?}",
        judged[1].verdict
    );
    assert_eq!((judged[1].parts.len(), judged[0].cells.len()), (2, 4));
    let page = s.read("r/claims.md");
    for line in [
        "third-party summary",
        "| test images | 0.01198 |",
        "| DDSM, DINOv2-B, frozen, MHA | 2 | 2 | 0: 0.86900, 1: 0.87100 |",
    ] {
        assert!(page.contains(line), "no {line} in\n{page}");
    }
    assert!(
        s.read("r/README.md")
            .contains("| MHA is better. | mha | **Supported** |")
    );

    // What is printed decides nothing: 0, 10 or all resamples.
    for shown in [0, 10, 41] {
        s.input.evidence.replicates = shown;
        assert_eq!(s.render("r").claims, judged, "{shown}");
    }
    // A larger effect than matters is asked for: 0.035 is not shown to be above 0.03.
    s.input.claims = text(0.03);
    assert!(matches!(s.render("r").claims[0].verdict, ClaimVerdict::Undetermined(_)));
    s.input.claims = text(0.005);

    // The other way round it is refuted; without one cell, one seed, or resamples, nothing is decided.
    for r in &mut s.records {
        let linear = r.spec.run.head == HeadKind::Linear;
        r.metrics.value += if linear { 0.07 } else { 0.0 };
    }
    let out = s.render("r").claims;
    assert!(
        matches!(&out[0].verdict, ClaimVerdict::Refuted(why) if why.contains("other way round")),
        "{:?}",
        out[0].verdict
    );
    let all = std::mem::take(&mut s.input.evidence);
    let why = |out: report::ReportOutput| out.claims[0].verdict.why().to_owned();
    assert_eq!(why(s.render("r")), "the test images of 4 of 4 cells were not resampled");
    s.input.evidence = all;
    let last = s.input.planned.pop().unwrap();
    assert!(
        why(s.render("r")).contains("lack a second seed"),
        "one seed has no noise to go by: {}",
        why(s.render("r"))
    );
    s.input.planned.push(PlannedRun {
        state: PlannedState::Gap("the run failed: the loss is not a number".into()),
        ..last
    });
    assert!(why(s.render("r")).contains("the run failed"));
    let at = s.input.planned.len() - 2;
    s.input.planned[at].state = PlannedState::Gap("not run yet".into());
    assert_eq!(why(s.render("r")), "1 of the 4 cells that it speaks of have no result");
}

/// Seven families, one backbone each, newest last. (5, 4, 3, 2, 1, 6, 7) has 11 of 21 pairs in order: tau 0.0476 was "Supported" with
/// an interval of no width. In perfect order one permutation of 5,040 does as well.
#[test]
fn a_trend_is_tested_by_permuting_its_families() {
    let families = ["CLIP", "MAE", "CoCa", "DINOv2", "VMamba", "SAM2", "AIMv2"];
    let rows: Vec<(&str, &str, &str, f64)> = families.iter().map(|f| (*f, *f, *f, 1.0)).collect();
    let all = Claims::parse(
        "claims.toml",
        include_str!("../../experiments/papers/paper2025/claims.toml"),
    )
    .unwrap();
    let judge = |order: [u32; 7]| {
        let mut s = Study::new(&[("ddsm", "DDSM")], &rows);
        for (f, place) in families.iter().zip(order) {
            for (regime, (freeze, head)) in REGIMES.into_iter().enumerate() {
                let v = 0.8 + 0.01 * f64::from(place);
                s.cell("ddsm", f, regime, &[Ok(v - 0.0001), Ok(v + 0.0001)]);
                for seed in [0, 1] {
                    let id = spec("ddsm", f, freeze, head, seed).id;
                    s.input.evidence.insert(id, resampled("x", vec![v; 41]));
                }
            }
            s.input.published.push(point(f, 0.8 + 0.01 * f64::from(8 - place)));
        }
        s.input.without_code = vec!["VMamba".into(), "CLIP".into()];
        s.input.claims = Some(Claims {
            claims: all.claims.iter().filter(|c| c.id == "progress").cloned().collect(),
            ..all.clone()
        });
        s.render("r").claims.remove(0)
    };
    let j = judge([5, 4, 3, 2, 1, 6, 7]);
    let e = j.effect.clone().unwrap();
    assert!(
        (e.value - 1.0 / 21.0).abs() < 1e-12 && e.low < -0.4 && e.high > 0.4,
        "{e:?}"
    );
    assert!(matches!(j.verdict, ClaimVerdict::Undetermined(_)), "{:?}", j.verdict);
    let j = judge([1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(j.verdict, ClaimVerdict::Supported);
    assert!((j.p.unwrap() - 2.0 / 5040.0).abs() < 1e-12, "{:?}", j.p);
    // The published values stand the other way round, and it is said.
    let titles: Vec<&str> = j.variants.iter().map(|v| v.title.as_str()).collect();
    assert_eq!(
        titles,
        [
            "the published values alone",
            "without CLIP and VMamba",
            "on ranks within each data set"
        ]
    );
    assert_eq!(
        (j.variants[0].effect, j.variants[0].says.as_str()),
        (Some(-1.0), "against")
    );
    assert!((j.variants[1].effect.unwrap() - 1.0).abs() < 1e-12 && j.variants[2].says == "for");
    assert!(j.disagreement.unwrap().contains("the published values alone: against"));
    assert!(matches!(judge([7, 6, 5, 4, 3, 2, 1]).verdict, ClaimVerdict::Refuted(_)));
}

/// Sixty images of six patients, ten each; the model is right on all images of a patient or on none. Drawing images takes them for 60
/// observations, drawing patients for six: standard errors 0.0645 and about 0.204.
#[test]
fn test_images_are_drawn_patient_by_patient() {
    let dir = tempfile::tempdir().unwrap();
    let error = |groups: bool, replicates: usize| {
        let store = Store::new(dir.path(), if groups { "grouped" } else { "plain" });
        let s = one_spec();
        let mut out = output(&s, "accuracy", 0.5);
        out.rules.clear();
        let n = 60;
        let right = |i: usize| (i / 10).is_multiple_of(2);
        let logits: Vec<f32> = (0..n)
            .flat_map(|i| {
                if right(i) == (i % 2 == 0) {
                    [1.0, 0.0]
                } else {
                    [0.0, 1.0]
                }
            })
            .collect();
        out.predictions = Predictions {
            ids: (0..n).map(|i| format!("{i}.png")).collect(),
            groups: groups.then(|| (0..n).map(|i| Some(format!("patient {}", i / 10))).collect()),
            truth: Truth::Classes((0..n as u32).map(|i| i % 2).collect()),
            outputs: 2,
            best: logits.clone(),
            last: logits,
            others: BTreeMap::new(),
        };
        store.begin(&s).unwrap();
        let record = store.finish(&s.id, &out).unwrap();
        let record = RunRecord {
            metrics: record.metrics,
            ..store.load(&s.id).unwrap()
        };
        assert_eq!(
            store.predictions(&s.id).unwrap(),
            out.predictions,
            "groups come back, and their absence too"
        );
        let (all, unusable) = Evidences::of(&store, &[record], replicates, None).unwrap();
        assert!(unusable.is_empty(), "{unusable:?}");
        let e = all.get(&s.id).unwrap().clone();
        let mean = e.replicates.iter().sum::<f64>() / e.replicates.len() as f64;
        let squares: f64 = e.replicates.iter().map(|v| (v - mean).powi(2)).sum();
        (e.groups, (squares / (e.replicates.len() as f64 - 1.0)).sqrt())
    };
    let (groups, images) = error(false, 2000);
    assert!(groups.is_none() && (images - 0.0645).abs() < 0.004, "{images}");
    let (groups, patients) = error(true, 2000);
    assert!(groups == Some(6) && (patients - 0.204).abs() < 0.012, "{patients}");
}

/// Differences 0.001, 0.002, 0.003: mean 0.002, standard error 0.001/√3, 90 % interval 0.002 ± 2.919986 · 0.00057735 (scipy).
#[test]
fn pairs_of_two_folders_by_hand() {
    let runs = |values: &[f64]| -> Vec<RunRecord> {
        (0u64..)
            .zip(values)
            .map(|(seed, v)| record(&spec("ddsm", "dinov2-b", Freeze::Frozen, HeadKind::Linear, seed), *v))
            .collect()
    };
    let tolerances = |margin: f64| {
        let text = format!("alpha = 0.05\n[metric.roc_auc]\nmargin = {margin}\nreason = \"test\"\n");
        Tolerances::parse("tolerance.toml", &text).unwrap()
    };
    let judge = |a: &[RunRecord], b: &[RunRecord], margin: f64| {
        let side = |runs| Folder { runs };
        let mut cells = folders::compare(&side(a), &side(b), &tolerances(margin), |_| None);
        assert_eq!(cells.len(), 1);
        cells.remove(0)
    };
    let a = runs(&[0.901, 0.902, 0.903]);
    let c = judge(&a, &runs(&[0.9, 0.9, 0.9]), 0.01);
    let (low, high) = c.interval.unwrap();
    let half = 2.919_985_580_353_726 * 0.001 / 3f64.sqrt();
    assert!(
        (low - (0.002 - half)).abs() < 1e-12 && (high - (0.002 + half)).abs() < 1e-12,
        "{c:?}"
    );
    assert_eq!((c.paired, c.identical, &c.verdict), (3, 0, &Verdict::Reproduced));
    let crossing = judge(&a, &runs(&[0.9, 0.9, 0.9]), 0.003).verdict;
    assert!(matches!(crossing, Verdict::Inconclusive(_)), "{crossing:?}");
    assert_eq!(judge(&a, &runs(&[0.8, 0.8, 0.8]), 0.01).verdict, Verdict::Differs);
    let same = judge(&a, &a, 0.01);
    assert_eq!((same.identical, same.verdict), (3, Verdict::Reproduced));
    let one = judge(&a[..1], &runs(&[0.9]), 0.01).verdict;
    assert!(
        matches!(&one, Verdict::Inconclusive(why) if why.contains("one pair")),
        "{one:?}"
    );
    assert_eq!(
        judge(&a, &[], 0.01).verdict,
        Verdict::NotRun("not in the second folder".into())
    );
}

#[test]
fn values_of_other_experiments_are_context_without_a_verdict() {
    let mut s = small_study();
    s.input.expected = "A table.".into();
    s.input.sources = vec!["Somebody: *A benchmark*, table 3.".into()];
    s.input.caveats = vec!["None of the models is one of ours.".into()];
    s.input.context = vec![ContextValue {
        dataset: "ddsm".into(),
        label: "ResNet-18 (28)".into(),
        metric: "roc_auc_ovr".into(),
        value: 0.717,
        sd: None,
        source: "Somebody 2023".into(),
    }];
    let out = s.render("r");
    assert_eq!(out.verdicts, report::VerdictCounts::default());
    let page = s.read("r/compare.md");
    for line in [
        "This study has no published value to compare with.",
        "- Somebody: \\*A benchmark\\*, table 3.",
        "- None of the models is one of ours.",
        "| DDSM | ResNet-18 (28) | roc\\_auc\\_ovr | 0.717 | Somebody 2023 |",
    ] {
        assert!(page.contains(line), "no line {line} in\n{page}");
    }
    assert!(s.read("r/README.md").contains("Expected: A table."));
}

#[test]
fn a_demo_says_first_that_its_numbers_mean_nothing_and_shows_no_published_value() {
    let mut s = small_study();
    s.input.published = vec![point("dinov2-b", 0.921)];
    s.input.demo = true;
    s.render("r");
    for file in ["README.md", "compare.md", "tables/ddsm.md"] {
        let text = s.read(&format!("r/{file}"));
        // Of an incomplete study the very first line says that.
        let text = text
            .strip_prefix("**Incomplete: 8 of 15 planned runs have a result.**\n\n")
            .unwrap_or(&text);
        assert!(text.starts_with(&format!("**{DEMO_WARNING}**\n")), "{file}");
    }
    assert!(
        s.read("r/tables/ddsm.tex")
            .contains(&format!(r"\textbf{{{DEMO_WARNING}}}"))
    );
    let svg = s.read("r/figures/scores.svg");
    // In the drawing the warning is broken into lines.
    assert!(svg.contains("Demo numbers mean nothing: ") && !svg.contains("published"));
}

#[test]
fn nothing_is_done_yet() {
    let mut s = Study::new(&[("ddsm", "DDSM"), ("aptos2019", "APTOS2019")], &PAIR);
    for d in ["ddsm", "aptos2019"] {
        for b in ["dinov2-s", "dinov2-b", "mae_b"] {
            s.cell(d, b, 0, &[Err("the images are not here"); 3]);
        }
    }
    s.input.published = vec![point("dinov2-b", 0.921), point("mae_b", 0.9)];
    let out = s.render("r");
    assert_eq!((out.done, out.verdicts.not_run), (0, 2));
    let svg = s.read("r/figures/scores.svg");
    assert!(svg.contains("no result yet") && svg.contains("published") && svg.contains("DINOv2-B"));
    assert_eq!(s.read("r/tables/ddsm.md").matches("–<sup>a</sup>").count(), 3);
    assert!(s.read("r/README.md").contains("| 18 | the images are not here |"));

    let mut nothing = Study::new(&[], &[]);
    assert_eq!(nothing.render("r").planned, 0);
}

#[test]
fn a_frame_that_contradicts_the_plan_is_refused() {
    let mut s = small_study();
    s.records[0].spec.run.seed = 7;
    s.input.runs = frame(&s.records).unwrap();
    let e = report::render(&s.input, s.dir.path()).unwrap_err();
    assert!(e.to_string().contains("another run"), "{e}");
    let mut s = small_study();
    s.records[0].metrics.target = "recall".into();
    s.input.runs = frame(&s.records).unwrap();
    let e = report::render(&s.input, s.dir.path()).unwrap_err();
    assert!(e.to_string().contains("reports recall instead of roc_auc"), "{e}");
    let mut s = small_study();
    s.records.push(s.records[0].clone());
    s.input.runs = frame(&s.records).unwrap();
    assert!(
        report::render(&s.input, s.dir.path())
            .unwrap_err()
            .to_string()
            .contains("twice")
    );
}

#[test]
fn a_template_of_ones_own_wins_and_a_wrong_one_is_named() {
    let mut s = small_study();
    let folder = s.dir.path().join("templates");
    fs::create_dir(&folder).unwrap();
    fs::write(
        folder.join("table.md.tera"),
        "{% for r in rows %}{{ r.cells[0].text }};{% endfor %}",
    )
    .unwrap();
    s.input.templates = Some(folder.clone());
    s.render("r");
    assert_eq!(s.read("r/tables/ddsm.md"), "DINOv2-S;DINOv2-B;MAE\\_B;");
    for (text, what) in [("{{ nothing }}", "table.md.tera"), ("{% for %}", "table.md.tera")] {
        fs::write(folder.join("table.md.tera"), text).unwrap();
        let e = report::render(&s.input, &s.dir.path().join("r")).unwrap_err();
        assert!(
            e.downcast_ref::<BadInput>().is_some() && e.to_string().contains(what),
            "{e}"
        );
    }
}

#[test]
fn the_report_folder_that_cannot_be_written_is_bad_input() {
    let s = small_study();
    let file = s.dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let mut input = s.input.clone();
    input.runs = frame(&s.records).unwrap();
    let e = report::render(&input, &file).unwrap_err();
    assert!(e.downcast_ref::<BadInput>().is_some(), "{e}");
}

fn resampled(images: &str, replicates: Vec<f64>) -> Evidence {
    Evidence {
        images: images.into(),
        count: 1044,
        groups: None,
        replicates,
        components: None,
    }
}

/// The whole paper: 14 backbones × 4 data sets × 4 regimes × 5 seeds, with gaps.
fn large_study() -> Study {
    let backbones: Vec<(String, String, &str, f64)> = [
        ("AIMv2", 309.2, "L"),
        ("AIMv2", 681.0, "H"),
        ("DINOv2", 86.6, "B"),
        ("DINOv2", 304.4, "L"),
        ("SAM2", 69.1, "B"),
        ("SAM2", 212.7, "L"),
        ("MAE", 85.8, "B"),
        ("MAE", 303.3, "L"),
        ("MAE", 630.8, "H"),
        ("CoCa", 87.8, "B"),
        ("CoCa", 303.9, "L"),
        ("VMamba", 50.0, "S"),
        ("VMamba", 88.6, "B"),
        ("CLIP", 86.2, "B"),
    ]
    .iter()
    .map(|(f, p, size)| {
        (
            format!("{}-{}", f.to_lowercase(), size.to_lowercase()),
            format!("{f}-{size}"),
            *f,
            *p,
        )
    })
    .collect();
    let rows: Vec<(&str, &str, &str, f64)> = backbones
        .iter()
        .map(|(n, t, f, p)| (n.as_str(), t.as_str(), *f, *p))
        .collect();
    let sets = [
        ("ddsm", "DDSM"),
        ("chexpert", "CheXpert & 50% {more}"),
        ("isic2019", "ISIC_2019"),
        ("aptos2019", "APTOS ~ #1 ^ \\"),
    ];
    let mut s = Study::new(&sets, &rows);
    let mut rng = medft::rng::Stream::new(1, medft::rng::Purpose::Test, 0, 0);
    for (d, _) in sets {
        for (i, (b, ..)) in backbones.iter().enumerate() {
            for (regime, (freeze, head)) in REGIMES.into_iter().enumerate() {
                let centre = 0.9 + 0.01 * regime as f64 + rng.uniform_in(-0.02, 0.02);
                let values: Vec<Result<f64, &str>> = (0..5)
                    .map(|_| {
                        if i == 11 {
                            Err("the authors' code does not contain VMamba: model_x & 100%")
                        } else {
                            Ok(centre + 0.004 * rng.normal())
                        }
                    })
                    .collect();
                s.cell(d, b, regime, &values);
                for (seed, v) in (0u64..).zip(values.iter().flatten()) {
                    let replicates = (0..40).map(|_| v + 0.006 * rng.normal()).collect();
                    let id = spec(d, b, freeze, head, seed).id;
                    s.input.evidence.insert(id, resampled(d, replicates));
                }
            }
            let value = 0.91 + rng.uniform_in(-0.015, 0.03);
            s.input.published.push(PublishedPoint {
                dataset: d.into(),
                ..point(b, value)
            });
            s.input.published.last_mut().unwrap().params_millions = Some(rows[i].3);
        }
    }
    s
}

/// Two splits of one data set: 0.90, 0.92 against 0.85, 0.89 (and one seed that the first has not): differences −0.05, −0.03,
/// mean −0.04, sd √(0.0002 / 1) = 0.014. Over the images, replicates 0.90 + k/1000 against 0.86 − k/500, k = −20 … 20: the
/// difference is −0.04 − 3k/1000, whose 95 % interval is −0.097 to 0.017. Two seeds add 12.706205 times their standard errors 0.02 and
/// 0.01: 0.87 − √(0.048² + 0.254124²) = 0.611, −0.04 ± √(0.057² + 0.127062²) = −0.179 to 0.099.
#[test]
fn the_worth_of_a_split_by_hand() {
    let mut s = Study::new(&[("isic2019-authors", "A"), ("isic2019-grouped", "G")], &PAIR);
    for (d, rule) in s.input.datasets.iter_mut().zip(["authors", "grouped"]) {
        (d.set, d.plain_title, d.split) = ("isic2019".into(), "ISIC2019".into(), rule.into());
    }
    s.cell("isic2019-authors", "dinov2-s", 0, &[Ok(0.90), Ok(0.92)]);
    s.cell("isic2019-grouped", "dinov2-s", 0, &[Ok(0.85), Ok(0.89)]);
    s.cell("isic2019-authors", "dinov2-b", 0, &[Ok(0.9), Err("not run yet")]);
    s.cell("isic2019-grouped", "dinov2-b", 0, &[Err("not run yet"), Ok(0.9)]);
    let replicates = |middle: f64, by: f64| (-20..=20).map(|k| middle + by * f64::from(k)).collect::<Vec<f64>>();
    for (set, middle, by) in [("isic2019-authors", 0.9, 0.001), ("isic2019-grouped", 0.86, -0.002)] {
        for seed in [0, 1] {
            let id = spec(set, "dinov2-s", Freeze::Frozen, HeadKind::Linear, seed).id;
            s.input.evidence.insert(id, resampled(set, replicates(middle, by)));
        }
    }
    let out = s.render("r");
    assert_eq!(out.planned, 8, "the difference plans no run of its own");
    let md = s.read("r/tables/isic2019-frozen-splits.md");
    for line in [
        "### ISIC2019, frozen backbone, authors against grouped split, ROC-AUC on the test set",
        "| Backbone | linear, authors | linear, grouped | linear, difference |",
        "(2)<br>[0.611, 1.126] | -0.040 ± 0.014 (2)<br>[-0.179, 0.099] |",
        "| DINOv2-B | 0.900 (1)<sup>a</sup> | 0.900 (1)<sup>b</sup> | –<sup>c</sup> |",
        "<sup>c</sup> no seed has a result under both splits.",
    ] {
        assert!(md.contains(line), "no line {line} in\n{md}");
    }
    let tex = s.read("r/tables/isic2019-frozen-splits.tex");
    assert!(tex.contains("S[table-format=-1.3]"), "{tex}");
    assert!(s.read("r/README.md").contains("authors against grouped split"));
}

#[test]
fn the_whole_paper_has_all_its_cells() {
    let mut s = large_study();
    let out = s.render("r");
    assert_eq!((out.planned, out.done, out.comparisons.len()), (1120, 1040, 224));
}

/// What a table's notes call bold is bold for whoever inputs the table and nothing else.
#[test]
fn a_table_that_is_input_alone_prints_its_best_in_bold() {
    let have = |tool: &str, arg: &str| {
        Command::new(tool)
            .arg(arg)
            .output()
            .is_ok_and(|o| o.status.success() && !o.stdout.is_empty())
    };
    if !have("pdflatex", "--version") || !have("kpsewhich", "threeparttable.sty") {
        crate::skip::skipped("needs pdflatex with booktabs and threeparttable");
        return;
    }
    let mut s = small_study();
    s.render("r");
    let text = r"\documentclass{article}\pdfcompresslevel=0 \pdfobjcompresslevel=0
\usepackage{booktabs,siunitx,threeparttable}\begin{document}\input{tables/ddsm.tex}\end{document}";
    let folder = s.dir.path().join("r");
    let bold = |text: &str| {
        fs::write(folder.join("alone.tex"), text).unwrap();
        let run = Command::new("pdflatex")
            .args(["-interaction=nonstopmode", "-halt-on-error", "alone.tex"])
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
        let pdf = fs::read(folder.join("alone.pdf")).unwrap();
        pdf.windows(5).any(|w| w == b"+CMBX")
    };
    assert!(s.read("r/tables/ddsm.tex").contains(r"\bfseries"));
    assert!(bold(text));
    // The font is there for no other reason.
    let table = s.read("r/tables/ddsm.tex").replace(r"\bfseries", "");
    fs::write(folder.join("tables/ddsm.tex"), table).unwrap();
    assert!(!bold(text));
}

/// Every table of the whole paper, and the small one, go through pdflatex without one warning.
#[test]
fn pdflatex_has_nothing_to_complain_about() {
    let have = |tool: &str, arg: &str| {
        Command::new(tool)
            .arg(arg)
            .output()
            .is_ok_and(|o| o.status.success() && !o.stdout.is_empty())
    };
    if !have("pdflatex", "--version") || !have("kpsewhich", "threeparttable.sty") {
        crate::skip::skipped("needs pdflatex with booktabs and threeparttable");
        return;
    }
    for (mut s, demo) in [(large_study(), false), (small_study(), true)] {
        s.input.demo = demo;
        s.render("r");
        let folder = s.dir.path().join("r");
        for _ in 0..2 {
            let run = Command::new("pdflatex")
                .args(["-interaction=nonstopmode", "-halt-on-error", "tables.tex"])
                .current_dir(&folder)
                .output()
                .unwrap();
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
        }
        let log = String::from_utf8_lossy(&fs::read(folder.join("tables.log")).unwrap()).into_owned();
        for text in ["Warning", "Overfull", "Underfull", "undefined", "Missing"] {
            let line = log.lines().find(|l| l.contains(text));
            assert!(line.is_none(), "{}", line.unwrap());
        }
    }
}
