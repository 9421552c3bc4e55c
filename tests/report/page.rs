//! The page, the paper, `results.json`, model cards and figures of a report, from outside, on records in a real store.
//!
//! Names, reasons and provenance of the study below are hostile on purpose: they hold what would break HTML, LaTeX or YAML. Two
//! tests need tools: pdflatex with siunitx and threeparttable, and chromium; where they are absent they print "skipped".
//! With `MEDFT_PAGE_TEST_DIR` set, the report is written there too, to be looked at.

use medft::report::{
    self, Archive, Audit, BackboneFacts, Cells, DEMO_WARNING, DatasetFacts, PlannedRun, PlannedState, ProtocolNote,
    PublishedPoint, ReportInput, compare, figure, paper_level,
};
use medft::results::{
    Epoch, Evidences, ModelFacts, Predictions, Provenance, RunOutput, Selected, Spec, Store, Truth, WhichWeights, frame,
};
use medft::rng::{Purpose, Stream};
use medft::study::{Freeze, HeadKind, Protocol, RunSpec, Scale};
use medft::{fsio, spec::protocol::Preset};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const REGIMES: [(Freeze, HeadKind); 4] = [
    (Freeze::Frozen, HeadKind::Linear),
    (Freeze::Frozen, HeadKind::Mha),
    (Freeze::Unfrozen, HeadKind::Linear),
    (Freeze::Unfrozen, HeadKind::Mha),
];
/// Name, title, classes or labels, whether labels, metric.
const SETS: [(&str, &str, usize, bool, &str); 4] = [
    ("ddsm", "DD<S>M & \"co\"", 2, false, "roc_auc"),
    ("aptos2019", "APTOS_2019", 5, false, "quadratic_kappa"),
    ("isic2019", "ISIC 50% {x}", 8, false, "recall"),
    ("chexpert", "CheXpert", 14, true, "roc_auc"),
];
const BACKBONES: [(&str, &str, &str, f64); 5] = [
    ("dinov2-b", "DINOv2-B", "DINOv2", 86.6),
    ("dinov2-l", "DINOv2-L", "DINOv2", 304.4),
    ("mae_b", "MAE_B <b>", "MAE", 85.8),
    ("coca-l", "CoCa-L", "CoCa", 306.7),
    ("vmamba-s", "VMamba-S", "VMamba", 49.4),
];
const REASON: &str = "no <script>alert(1)</script> weights & \"more\" of a_b";
const PROCESSOR: &str = "cpu\"><img src=x onerror=alert(1)>";
const IMAGES: usize = 80;

fn output(spec: &Spec, set: (usize, bool, &str), value: f64, rng: &mut Stream) -> RunOutput {
    let (outputs, several, metric) = set;
    let truth: Vec<u32> = (0..IMAGES).map(|i| (i % outputs) as u32).collect();
    let mut logits = |sharp: f64| -> Vec<f32> {
        let hit = |i: usize, k: usize| {
            if several {
                (i + k).is_multiple_of(3)
            } else {
                truth[i] as usize == k
            }
        };
        (0..IMAGES * outputs)
            .map(|j| (sharp * f64::from(u8::from(hit(j / outputs, j % outputs))) + rng.normal()) as f32)
            .collect()
    };
    let (best, last) = (logits(1.8), logits(1.2));
    let truth = if several {
        let values = (0..IMAGES * outputs).map(|j| u32::from((j / outputs + j % outputs) % 3 == 0));
        Truth::Labels {
            labels: outputs,
            values: values.collect(),
        }
    } else {
        Truth::Classes(truth)
    };
    let epochs = (1..=20).map(|n| Epoch {
        epoch: n,
        lr: 1e-4,
        train_loss: 1.5 / f64::from(n) + 0.02 * rng.normal(),
        val_loss: 1.6 / f64::from(n) + 0.3 + 0.02 * rng.normal(),
        val: BTreeMap::from([(metric.to_owned(), value - 0.3 / f64::from(n))]),
    });
    let epochs = epochs.collect();
    let mut provenance = Provenance::start(spec, "cpu", 2);
    provenance.cpu = PROCESSOR.into();
    provenance.phases = BTreeMap::from([("train".into(), 3600.0)]);
    provenance.commit = Some("0123456789abcdef0123".into());
    provenance.started = "2026-01-01T00:00:00Z".into();
    provenance.ended = "2026-01-01T01:00:00Z".into();
    provenance.command = vec!["medft".into(), "run".into(), "<study>".into()];
    RunOutput {
        epochs,
        target: metric.into(),
        headline: WhichWeights::Best,
        best: BTreeMap::from([(metric.to_owned(), value), ("undefined".into(), f64::NAN)]),
        last: BTreeMap::from([(metric.to_owned(), value - 0.01), ("undefined".into(), f64::NAN)]),
        selected: Selected {
            faithful: Some(20),
            corrected: Some(20),
        },
        model: ModelFacts {
            family: "F".into(),
            backbone_params: 86_580_480,
            trainable_params: 1538,
            total_params: 86_582_018,
        },
        divergence: None,
        predictions: Predictions {
            groups: None,
            ids: (0..IMAGES).map(|i| format!("{i}.png")).collect(),
            truth,
            outputs,
            best,
            last,
            others: BTreeMap::new(),
        },
        rules: BTreeMap::new(),
        weights_sha256: BTreeMap::from([("best".to_owned(), fsio::sha256_hex(spec.id.as_bytes()))]),
        kept: BTreeMap::new(),
        provenance,
    }
}

type Set = (&'static str, &'static str, usize, bool, &'static str);
type Backbone = (&'static str, &'static str, &'static str, f64);

/// What a study is of.
struct Shape {
    sets: Vec<Set>,
    backbones: Vec<Backbone>,
    regimes: Vec<(Freeze, HeadKind)>,
    seeds: u64,
    /// Whether every run has a result.
    whole: bool,
    published: bool,
}

/// Every cell with two seeds; the last backbone has no result, the third only one seed of every cell.
fn input(results: &Path) -> ReportInput {
    let shape = Shape {
        sets: SETS.to_vec(),
        backbones: BACKBONES.to_vec(),
        regimes: REGIMES.to_vec(),
        seeds: 2,
        whole: false,
        published: true,
    };
    input_of(results, &shape)
}

fn input_of(results: &Path, shape: &Shape) -> ReportInput {
    let store = Store::new(results, "test");
    let mut rng = Stream::new(5, Purpose::Test, 0, 0);
    let (mut planned, mut published) = (Vec::new(), Vec::new());
    for (dataset, _, outputs, several, metric) in shape.sets.iter().copied() {
        for (i, (backbone, ..)) in shape.backbones.iter().enumerate() {
            for (k, (freeze, head)) in shape.regimes.iter().copied().enumerate() {
                let centre = 0.85 + 0.01 * k as f64 + rng.uniform_in(-0.03, 0.03);
                for seed in 0..shape.seeds {
                    let run = RunSpec {
                        dataset: dataset.into(),
                        backbone: (*backbone).into(),
                        scale: Scale::Full,
                        freeze,
                        head,
                        seed,
                        protocol: Protocol::faithful(),
                    };
                    let spec = Spec {
                        id: fsio::sha256_hex(run.to_string().as_bytes()),
                        run,
                        data_sha256: fsio::sha256_hex(dataset.as_bytes()),
                        weights: BTreeMap::from([("backbone".to_owned(), fsio::sha256_hex(b"weights"))]),
                        protocol_revision: 1,
                    };
                    let value = centre + 0.003 * rng.normal();
                    let missing = !shape.whole && (i == 4 || (i == 2 && seed == 1));
                    if !missing {
                        store.begin(&spec).unwrap();
                        let out = output(&spec, (outputs, several, metric), value, &mut rng);
                        store.finish(&spec.id, &out).unwrap();
                    }
                    planned.push(PlannedRun {
                        dataset: dataset.into(),
                        backbone: (*backbone).into(),
                        freeze,
                        head,
                        seed,
                        state: match missing {
                            true => PlannedState::Gap(REASON.into()),
                            false => PlannedState::Done(spec.id),
                        },
                    });
                }
            }
            if !shape.published {
                continue;
            }
            published.push(PublishedPoint {
                dataset: dataset.into(),
                backbone: (*backbone).into(),
                freeze: None,
                head: None,
                metric: metric.into(),
                params_millions: Some(shape.backbones[i].3),
                value: 0.86 + rng.uniform_in(-0.02, 0.02),
                uncertainty: 0.0001,
                shared_offset: 0.0,
                rounding: 0.0005,
                runs: None,
                sd: None,
                no_verdict: None,
                note: None,
            });
        }
    }
    let records = store.all().unwrap().done;
    let preset = serde_json::to_value(Protocol::faithful()).unwrap();
    assert_eq!(Protocol::faithful().preset, Preset::Faithful);
    ReportInput {
        study: "test".into(),
        title: "A study <of> pages & \"papers\"".into(),
        description: "Made for a test, 100% of it; a_b & c.".into(),
        expected: String::new(),
        demo: false,
        protocol: ProtocolNote::new("faithful", &preset, &preset),
        datasets: shape.sets
            .iter()
            .map(|(name, title, outputs, several, metric)| DatasetFacts {
                name: (*name).into(),
                title: (*title).into(),
                set: (*name).into(),
                    plain_title: (*title).into(),
                    split: "authors".into(),
                    train_fraction: 1.0,
                    metric: (*metric).into(),
                metric_title: metric.replace('_', " "),
                classes: (0..*outputs)
                    .map(|k| if *several { format!("Long label & name {k}") } else { format!("C{k}") })
                    .collect(),
                margin: Some(0.01),
                margin_reason: "Chosen for the test.".into(),
            })
            .collect(),
        backbones: shape.backbones
            .iter()
            .map(|(name, title, family, millions)| BackboneFacts {
                name: (*name).into(),
                title: (*title).into(),
                family: (*family).into(),
                params: Some((millions * 1e6) as u64),
            })
            .collect(),
        planned,
        runs: frame(&records).unwrap(),
        evidence: Evidences::default(),
        published,
        context: Vec::new(),
        sources: vec!["Somebody: <A figure>, 2025.".into()],
        caveats: vec!["Read with care & 100% attention.".into()],
        alpha: 0.05,
        archive: Archive {
            records: records.into_iter().map(|r| (r.id().to_owned(), r)).collect(),
            store: Some(store),
            study_argument: "experiments/test.toml".into(),
            audit: Some(Audit {
                text: "# Data\n\nAn audit <script>alert(2)</script>.\n\n| a | b |\n| - | - |\n| 1 | 2 |\n\n![balance](data.png)\n".into(),
                pictures: BTreeMap::from([("data.png".into(), "data:image/png;base64,AAAA".into())]),
                files: BTreeMap::new(),
            }),
            notes: BTreeMap::from([("ddsm".into(), vec!["Licence: none stated.".into()])]),
        },
        without_code: Vec::new(),
        claims: None,
        sweep: None,
        only: Vec::new(),
        templates: None,
    }
}

/// A report is made once for all tests.
struct Made {
    dir: PathBuf,
    _temp: Option<tempfile::TempDir>,
    input: ReportInput,
}

fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let temp = tempfile::tempdir().unwrap();
        let dir = std::env::var_os("MEDFT_PAGE_TEST_DIR").map_or_else(|| temp.path().join("report"), PathBuf::from);
        let input = input(&temp.path().join("results"));
        let out = report::render(&input, &dir).unwrap();
        assert_eq!((out.planned, out.done), (160, 112));
        Made {
            dir,
            _temp: Some(temp),
            input,
        }
    })
}

fn read(file: &str) -> String {
    fs::read_to_string(made().dir.join(file)).unwrap()
}

/// The values of an attribute, in order.
fn attributes<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let pattern = format!(" {name}=\"");
    html.split(pattern.as_str())
        .skip(1)
        .filter_map(|rest| Some(rest.split_once('"')?.0))
        .collect()
}

/// The text between the first `from` and the next `to`.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let rest = text.split_once(from).unwrap_or_else(|| panic!("no {from}")).1;
    rest.split_once(to).unwrap_or_else(|| panic!("no {to} after {from}")).0
}

fn results() -> Value {
    serde_json::from_str(&read("results.json")).unwrap()
}

// ------------------------------------------------------------------------------------------------------------------- page

const PAGES: [&str; 4] = ["index.html", "figures.html", "data.html", "runs.html"];

#[test]
fn no_page_loads_anything_and_the_first_runs_no_script() {
    assert!(!read("index.html").contains("<script") && !read("data.html").contains("<script"));
    for page in PAGES {
        loads_nothing(&read(page));
    }
}

fn loads_nothing(html: &str) {
    for load in [
        "<script ",
        "fetch(",
        "<link",
        "<iframe",
        "<object",
        "<embed",
        "@import",
        "srcset=",
        "http-equiv",
        "onerror=alert(1)>\"",
    ] {
        assert!(!html.contains(load), "{load}");
    }
    for src in attributes(html, "src") {
        assert!(src.starts_with("data:image/"), "{src}");
    }
    for place in html.split("url(").skip(1) {
        assert!(place.starts_with("data:") || place.starts_with('#'), "{}", &place[..40]);
    }
    let linked = ["xlink:href", "poster", "action", "background"];
    assert!(linked.iter().all(|a| attributes(html, a).is_empty()));
}

#[test]
fn whatever_comes_from_data_is_escaped() {
    let html = read("index.html");
    assert!(!html.contains("<script>") && !html.contains("<img src=x") && !html.contains("DD<S>M"));
    assert!(html.contains("DD&lt;S&gt;M &amp; &quot;co&quot;"));
    assert!(html.contains("no &lt;script&gt;alert(1)"));
    assert!(read("data.html").contains("An audit &lt;script&gt;alert(2)&lt;/script&gt;."));
    for page in PAGES {
        let html = read(page);
        assert!(
            !html.contains("<img src=x") && !html.contains("DD<S>M") && !html.contains("alert(1)</script>"),
            "{page}"
        );
    }
}

#[test]
fn ids_are_unique_and_every_reference_has_its_target() {
    for page in PAGES {
        references_hold(&read(page));
    }
}

fn references_hold(html: &str) {
    let ids = attributes(html, "id");
    let unique: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len());
    for name in ["popovertarget", "aria-labelledby"] {
        for target in attributes(html, name) {
            assert!(unique.contains(target), "{name} {target}");
        }
    }
    for target in attributes(html, "href") {
        match target.strip_prefix('#') {
            Some(place) => assert!(unique.contains(place), "{target}"),
            None => assert!(made().dir.join(target).is_file(), "{target}"),
        }
    }
    assert!(html.contains("<main id=\"main\">") && html.contains("class=\"skip\" href=\"#main\""));
    // The drawings of the key stand before their words.
    let figures = html.split("<svg ").skip(1).filter(|f| !f.starts_with("width=\"24\""));
    for figure in figures {
        assert!(figure.starts_with("role=\"img\" aria-label=\""), "{}", &figure[..60]);
    }
}

#[test]
fn every_score_is_that_of_the_records_and_every_gap_has_its_reason() {
    let (page, json) = (read("index.html"), results());
    let html = page.split_once("id=\"more\"").unwrap().1;
    let cells = json["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 4 * 5 * 4);
    let mut scores = 0;
    for c in cells {
        let key = c["key"].as_str().unwrap();
        let details = between(html, &format!("<div popover id=\"cell-{key}\""), "</pre>\n</div>");
        let button = format!("<button type=\"button\" class=\"cell\" popovertarget=\"cell-{key}\">");
        let shown = between(html, &button, "</button>");
        let values: Vec<f64> = c["runs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["value"].as_f64().unwrap())
            .collect();
        if values.len() < 2 {
            assert!(
                details.contains("Missing:") && details.contains("no &lt;script&gt;"),
                "{key}"
            );
        }
        if values.is_empty() {
            assert_eq!(shown, "–", "{key}");
            continue;
        }
        scores += 1;
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        assert!((c["mean"].as_f64().unwrap() - mean).abs() < 1e-15);
        assert_eq!(
            between(shown, "<span class=\"mean\">", "</span>"),
            format!("{mean:.3}"),
            "{key}"
        );
        for run in c["runs"].as_array().unwrap() {
            let record = made().input.archive.records.get(run["id"].as_str().unwrap()).unwrap();
            assert_eq!(run["value"].as_f64().unwrap().to_bits(), record.metrics.value.to_bits());
            assert!(details.contains(record.id()) && details.contains(&record.spec.data_sha256));
            assert!(details.contains(&record.metrics.predictions.sha256));
            assert!(details.contains("0123456789abcdef0123") && details.contains(&record.spec.weights["backbone"]));
        }
        assert!(
            details.contains("medft run experiments/test.toml --only dataset="),
            "{key}"
        );
    }
    assert_eq!(scores, 4 * 4 * 4);
}

/// Every published value stands in a table with ours; its Δ and verdict are those of `results.json`.
#[test]
fn published_values_stand_beside_ours() {
    let (html, json) = (read("index.html"), results());
    let section = between(&html, "<section aria-labelledby=\"beside\"", "</section>");
    let all: Vec<&Value> = json["cells"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|c| c["comparisons"].as_array().unwrap())
        .collect();
    let rows: Vec<&str> = section.split("<tr><th scope=\"row\">").skip(1).collect();
    assert_eq!(rows.len(), 4 * 5);
    let mut counts = BTreeMap::<String, u64>::new();
    for (row, point) in rows.iter().zip(&made().input.published) {
        assert!(
            row.contains(&format!("data-name=\"published\">{:.3}<", point.value)),
            "{row}"
        );
        let key = between(row, "popovertarget=\"cell-", "\"");
        let cell = json["cells"]
            .as_array()
            .unwrap()
            .iter()
            .find(|c| c["key"] == key)
            .unwrap();
        // The row that counts; where none of this cell does, its only one.
        let own = cell["comparisons"].as_array().unwrap();
        let c = own.iter().find(|c| c["counted"] == true).unwrap_or(&own[0]);
        assert!(all.contains(&c));
        let shown = between(row, "data-name=\"Δ\">", "<").trim_end();
        match c["difference"].as_f64() {
            Some(d) => assert_eq!(shown, format!("{d:+.4}").replace('-', "−"), "{key}"),
            None => assert_eq!(shown, "–", "{key}"),
        }
        let name = between(row, "class=\"verdict cell ", "\"");
        assert_eq!(c["verdict"]["verdict"].as_str().unwrap_or("Shown"), name, "{key}");
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    // The answer counts what the tables show.
    let sentences: Vec<&str> = html
        .split("<p class=\"answer\">")
        .skip(1)
        .map(|t| t.split_once("</p>").unwrap().0)
        .collect();
    let answer = sentences
        .iter()
        .find(|s| s.starts_with("Of 20 published values, each counted once, "))
        .unwrap();
    for (name, said) in [
        ("Reproduced", "reproduced"),
        ("Consistent", "consistent"),
        ("Differs", "different"),
        ("Inconclusive", "undecided"),
        ("NotRun", "not run"),
    ] {
        let expected = counts.get(name).copied().unwrap_or(0);
        assert_eq!(
            answer.contains(&format!(
                "{expected} {} {said}",
                if expected == 1 { "is" } else { "are" }
            )),
            expected > 0,
            "{name} in {answer}"
        );
    }
}

/// A value's row opens to our seeds, both deviations, the runs on either side, and its interval with and without each source of variance.
#[test]
fn a_row_opens_to_the_numbers_behind_it() {
    let (html, json) = (read("index.html"), results());
    let cells = json["cells"].as_array().unwrap().iter();
    let complete = |c: &&Value| {
        c["comparisons"]
            .as_array()
            .is_some_and(|a| a.iter().any(|c| c["prediction"].is_array()))
    };
    let mut opened = 0;
    for c in cells.filter(complete) {
        let key = c["key"].as_str().unwrap();
        let details = between(&html, &format!("<div popover id=\"cell-{key}\""), "</pre>\n</div>");
        for part in [
            "our seeds",
            "our standard deviation s",
            "published runs",
            "published value known to",
            "standard error of the difference",
            "interval of the difference",
            "without the uncertainty of the published value",
            "without the published run",
            "by our seeds alone",
            "prediction interval of one more run",
        ] {
            assert!(details.contains(part), "{key}: no `{part}` in {details}");
        }
        opened += 1;
    }
    assert!(opened > 20, "{opened}");
}

/// Runs chromium on a file; `None` where it is not installed.
fn chromium(arguments: &[&str], file: &Path) -> Option<String> {
    let installed = Command::new("chromium").arg("--version").output();
    if !installed.is_ok_and(|o| o.status.success()) {
        crate::skip::skipped("needs chromium");
        return None;
    }
    let profile = tempfile::tempdir().unwrap();
    let out = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--virtual-time-budget=5000",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .arg(format!("file://{}", file.display()))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Some(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// A script that is put into a copy of the page asks what a reader with a phone and a keyboard would meet.
#[test]
fn a_browser_finds_no_fault_on_a_phone() {
    const PROBE: &str = r#"<script>addEventListener("load", () => {
        const faults = [];
        const say = (what) => faults.push(what);
        if (document.documentElement.scrollWidth > innerWidth) say("the page is " + document.documentElement.scrollWidth + " wide");
        if (document.compatMode !== "CSS1Compat") say("quirks mode");
        for (const d of document.querySelectorAll("details")) d.open = true;
        const seen = new Set();
        const buttons = [...document.querySelectorAll("button.cell")].filter((b) => b.checkVisibility() && !seen.has(b.getAttribute("popovertarget")) && seen.add(b.getAttribute("popovertarget")));
        if (buttons.length < 80) say(buttons.length + " buttons");
        for (const b of buttons) {
            const box = document.getElementById(b.getAttribute("popovertarget"));
            b.click();
            if (!box.matches(":popover-open")) say("does not open: " + box.id);
            if (document.activeElement !== box.querySelector(".close")) say("no focus in " + box.id);
            if (box.scrollWidth > box.clientWidth + 1) say("too wide: " + box.id);
            box.querySelector(".close").click();
            if (box.matches(":popover-open")) say("does not close: " + box.id);
        }
        for (const s of document.querySelectorAll(".scroll"))
            if (s.scrollWidth > s.clientWidth + 1 && !s.hasAttribute("tabindex") && !s.closest("[popover]")) say("not reachable by keyboard: " + s.className);
        if (performance.getEntriesByType("resource").some((r) => !r.name.startsWith("data:"))) say("something was loaded");
        const out = document.createElement("p");
        out.id = "probe";
        out.textContent = innerWidth + ": " + (faults.length ? faults.slice(0, 5).join("; ") : "no fault");
        parent.document.body.append(out);
    });</script></body>"#;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("probe.html");
    let page = read("index.html").replace("</body>", PROBE);
    let page = page.replace('&', "&amp;").replace('"', "&quot;");
    for width in [360, 1280] {
        // In a frame, because a window has a least width that is larger than a phone's.
        let style = format!("width: {width}px; height: 800px; border: 0");
        let frame = format!("<!doctype html><body><iframe style=\"{style}\" srcdoc=\"{page}\"></iframe></body>");
        fs::write(&file, frame).unwrap();
        let Some(dom) = chromium(&["--window-size=1400,900", "--dump-dom"], &file) else {
            return;
        };
        assert_eq!(between(&dom, "<p id=\"probe\">", "</p>"), format!("{width}: no fault"));
    }
}

/// A browser that is spoken to through its debugging pipe: JSON messages that end in a zero byte.
struct Browser {
    child: std::process::Child,
    out: std::io::BufReader<std::process::ChildStdout>,
    session: Option<String>,
    sent: u64,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// `None` where chromium is not installed.
    fn open(file: &Path) -> Option<Self> {
        if !Command::new("chromium")
            .arg("--version")
            .output()
            .is_ok_and(|o| o.status.success())
        {
            crate::skip::skipped("needs chromium");
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        let flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update --disable-sync";
        let mut child = Command::new("sh")
            .args([
                "-c",
                &format!(
                    "exec chromium {flags} --remote-debugging-pipe \"--user-data-dir=$0\" 3<&0 4>&1 0</dev/null 1>&2"
                ),
            ])
            .arg(profile.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let out = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut b = Self {
            child,
            out,
            session: None,
            sent: 0,
            _profile: profile,
        };
        let url = format!("file://{}", file.display());
        let target = b.call("Target.createTarget", serde_json::json!({ "url": url }))["targetId"].clone();
        let attached = b.call(
            "Target.attachToTarget",
            serde_json::json!({ "targetId": target, "flatten": true }),
        );
        b.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        while b.ask("document.readyState + location.protocol") != "completefile:" {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Some(b)
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        use std::io::{BufRead, Write};
        self.sent += 1;
        let mut message = serde_json::json!({ "id": self.sent, "method": method, "params": params });
        if let Some(s) = &self.session {
            message["sessionId"] = s.as_str().into();
        }
        let pipe = self.child.stdin.as_mut().unwrap();
        pipe.write_all(format!("{message}\0").as_bytes()).unwrap();
        pipe.flush().unwrap();
        loop {
            let mut bytes = Vec::new();
            self.out.read_until(0, &mut bytes).unwrap();
            assert_eq!(bytes.pop(), Some(0), "chromium has ended");
            let answer: Value = serde_json::from_slice(&bytes).unwrap();
            if answer["id"] == self.sent {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// The value of an expression in the page, as text.
    fn ask(&mut self, expression: &str) -> String {
        let params = serde_json::json!({ "expression": format!("String({expression})") });
        let answer = self.call("Runtime.evaluate", params);
        answer["result"]["value"]
            .as_str()
            .unwrap_or_else(|| panic!("{expression}: {answer}"))
            .to_owned()
    }

    /// A screen of this width, light or dark.
    fn screen(&mut self, width: u32, dark: bool) {
        let size = serde_json::json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = if dark { "dark" } else { "light" };
        let media = serde_json::json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", media);
    }

    fn number(&mut self, expression: &str) -> f64 {
        self.ask(expression).parse().unwrap_or_else(|_| panic!("{expression}"))
    }

    /// The page as seen, for a reader of the test: `<name>.png` beside the report, where `MEDFT_PAGE_TEST_DIR` is set.
    fn picture(&mut self, name: &str) {
        let Some(dir) = std::env::var_os("MEDFT_PAGE_TEST_DIR") else {
            return;
        };
        let size = "JSON.stringify([innerWidth, document.documentElement.scrollHeight])";
        let size: Vec<f64> = serde_json::from_str(&self.ask(size)).unwrap();
        let clip = serde_json::json!({ "x": 0, "y": 0, "width": size[0], "height": size[1].min(14_000.0), "scale": 1 });
        let shot = self.call(
            "Page.captureScreenshot",
            serde_json::json!({ "clip": clip, "captureBeyondViewport": true }),
        );
        fs::write(Path::new(&dir).join(format!("{name}.png")), decoded(&shot["data"])).unwrap();
    }

    /// Pages on paper.
    fn printed(&mut self) -> usize {
        let pdf = self.call(
            "Page.printToPDF",
            serde_json::json!({ "preferCSSPageSize": true, "printBackground": true }),
        );
        let bytes = decoded(&pdf["data"]);
        let text = String::from_utf8_lossy(&bytes);
        text.matches("/Type /Page\n").count() + text.matches("/Type /Page/").count()
    }

    fn press(&mut self, key: &str, code: u32, text: &str) {
        for kind in ["keyDown", "keyUp"] {
            let mut event = serde_json::json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn decoded(base64: &Value) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(base64.as_str().unwrap())
        .unwrap()
}

/// Faults that a reader with eyes would find in what is shown, as one text; empty for none.
const EYES: &str = r#"(() => {
    const faults = [];
    const say = (what) => { if (faults.length < 8) faults.push(what); };
    const rgb = (c) => { const n = c.match(/[\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
    const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const paper = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] > 0.99) return c; } return [255, 255, 255, 1]; };
    const ratio = (a, b) => { const [x, y] = [light(a), light(b)]; return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05); };
    let drawing, shapes;
    for (const e of document.body.querySelectorAll("*:not(svg *), svg text")) {
        if (!e.checkVisibility()) continue;
        const box = e.getBoundingClientRect();
        const aside = e.closest(".skip") || box.right <= 0;
        if (!aside && box.width > 0 && (box.right > innerWidth + 1 || box.left < -1) && !e.closest(".scroll")) say("wider than the screen: " + e.tagName + "." + e.getAttribute("class") + " " + Math.round(box.left) + " to " + Math.round(box.right));
        const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!own || aside) continue;
        const style = getComputedStyle(e);
        const ink = e.tagName === "text" ? style.fill : style.color;
        let ground = paper(e);
        if (e.tagName === "text") {
            // In a drawing the ground is the last shape below the middle of the text; shapes are measured once a drawing.
            const x = box.left + box.width / 2, y = box.top + box.height / 2;
            if (e.parentNode !== drawing) {
                drawing = e.parentNode;
                shapes = [...drawing.querySelectorAll("polygon, rect")].map((s) => [s, s.getBoundingClientRect(), getComputedStyle(s).fill]);
            }
            const below = shapes.findLast(([s, b, fill]) => fill !== "none" && b.left <= x && x <= b.right && b.top <= y && y <= b.bottom && s.compareDocumentPosition(e) & 4);
            if (below) ground = rgb(below[2]);
        }
        const r = ratio(rgb(ink), ground);
        if (r < 4.5) say("contrast " + r.toFixed(2) + " of " + e.tagName + " " + e.getAttribute("class") + ": " + e.textContent.trim().slice(0, 30));
    }
    for (const svg of document.querySelectorAll("svg")) {
        if (!svg.checkVisibility()) continue;
        const texts = [...svg.querySelectorAll("text")].map((t) => [t.textContent.trim(), t.getBoundingClientRect()]);
        // Lines of text stand as close as their letters allow: boxes are of ascenders and descenders, letters are not.
        const inner = ([t, b]) => ({ t, l: b.left, r: b.right, u: b.top + 0.2 * b.height, d: b.bottom - 0.2 * b.height });
        const boxes = texts.map(inner);
        boxes.forEach((a, i) => boxes.slice(0, i).forEach((b) => {
            if (a.l < b.r && b.l < a.r && a.u < b.d && b.u < a.d) say("texts meet: " + a.t + " and " + b.t);
        }));
    }
    return faults.join("; ");
})()"#;

/// Whether every link of the menu can be clicked wherever the page is scrolled to.
const MENU: &str = r#"(() => {
    const faults = [];
    const end = document.documentElement.scrollHeight;
    for (let y = 0; y < end; y += 97) {
        scrollTo(0, y);
        for (const a of document.querySelectorAll("nav a")) {
            const b = a.getBoundingClientRect();
            if (b.bottom < 0 || b.top > innerHeight) continue;
            const hit = document.elementFromPoint(b.left + b.width / 2, b.top + b.height / 2);
            if (hit !== a) faults.push(a.textContent + " at " + y + " is under " + (hit && hit.tagName + "." + hit.className));
        }
    }
    scrollTo(0, 0);
    return faults.slice(0, 5).join("; ");
})()"#;

/// What the design promises of a report's first page, and what holds for those beside it.
fn measure(dir: &Path, name: &str) {
    let Some(mut b) = Browser::open(&dir.join("index.html")) else {
        return;
    };
    for (width, highest) in [(1400, 8000.0), (390, 12_000.0)] {
        for dark in [false, true] {
            b.screen(width, dark);
            let at = format!("{name} at {width}{}", if dark { ", dark" } else { "" });
            let height = b.number("document.documentElement.scrollHeight");
            println!("{at}: {height} px high");
            b.picture(&format!("{name}-{width}{}", if dark { "-dark" } else { "" }));
            assert!(height < highest, "{at}: {height} px high");
            let wide = b.number("document.documentElement.scrollWidth");
            assert!(wide <= f64::from(width), "{at}: {wide} px wide");
            assert_eq!(b.ask(EYES), "", "{at}");
            if width == 1400 {
                let bottom = b.number("document.querySelector('.panels').getBoundingClientRect().bottom + scrollY");
                println!("{at}: the first figure ends at {bottom} px");
                assert!(bottom <= 1400.0, "{at}: the first figure ends at {bottom} px");
                assert_eq!(b.ask(MENU), "", "{at}");
            }
        }
    }
    b.call("Emulation.clearDeviceMetricsOverride", serde_json::json!({}));
    b.call("Emulation.setEmulatedMedia", serde_json::json!({ "features": [] }));
    let pages = b.printed();
    println!("{name}: {pages} pages on paper");
    assert!((1..12).contains(&pages), "{name}: {pages} pages on paper");
    for page in ["figures.html", "data.html", "runs.html"] {
        let file = dir.join(page);
        if !file.is_file() {
            continue;
        }
        let mut b = Browser::open(&file).unwrap();
        for (width, dark) in [(1400, false), (1400, true), (390, false)] {
            b.screen(width, dark);
            assert_eq!(b.ask(EYES), "", "{name}, {page} at {width}, dark: {dark}");
            b.picture(&format!("{name}-{page}-{width}{}", if dark { "-dark" } else { "" }));
        }
    }
}

#[test]
fn a_hostile_study_is_shown_as_designed() {
    measure(&made().dir, "test");
}

/// The study that the page is designed for: 14 backbones × 4 data sets × 4 regimes × 3 seeds, through the binary.
#[test]
fn the_whole_paper_is_shown_as_designed() {
    let temp = tempfile::tempdir().unwrap();
    let dir = std::env::var_os("MEDFT_PAGE_TEST_DIR")
        .map_or_else(|| temp.path().to_owned(), |d| PathBuf::from(d).join("paper"));
    let (file, _) = crate::synthetic::write(&dir, crate::synthetic::Size::SMALL);
    let made = crate::synthetic::report(&dir, &file, "20").output().unwrap();
    assert_eq!(made.status.code(), Some(0), "{}", String::from_utf8_lossy(&made.stderr));
    let report = dir.join("reports/scale");
    let svg = fs::read_to_string(report.join("figures/scores.svg")).unwrap();
    assert_eq!(svg.matches("DINOv2-L").count(), 1, "a row is named once");
    for pass in 0..2 {
        let Some((ok, log)) = pdflatex(&report, "paper.tex") else {
            break;
        };
        assert!(ok, "{log}");
        if pass == 1 {
            let pages: usize = between(&log, "Output written on paper.pdf (", " page").parse().unwrap();
            println!("paper.tex: {pages} pages");
            assert!(pages < 12, "{pages} pages");
            let pdf = fs::read(report.join("paper.pdf")).unwrap();
            assert!(
                pdf.len() < 1_000_000
                    && !pdf
                        .windows(14)
                        .any(|w| w == b"/Subtype/Image" || w == b"/Subtype /Imag"),
                "no bitmaps"
            );
            let fault = log
                .lines()
                .find(|l| ["Overfull", "undefined", "Warning"].iter().any(|w| l.contains(w)));
            assert!(fault.is_none(), "{}", fault.unwrap());
        }
    }
    measure(&report, "paper");
}

/// The real study of the repository's shape: two sets, one backbone, one regime, nothing published to compare with.
#[test]
fn a_small_study_is_shown_as_designed() {
    let mut input = made().input.clone();
    let keep = |d: &str| d == "aptos2019" || d == "isic2019";
    input.datasets.retain(|d| keep(&d.name));
    input.backbones.retain(|b| b.name == "dinov2-b");
    input.planned.retain(|p| {
        keep(&p.dataset) && p.backbone == "dinov2-b" && p.freeze == Freeze::Frozen && p.head == HeadKind::Linear
    });
    input.published.clear();
    input.study = "small".into();
    for demo in [false, true] {
        input.demo = demo;
        let dir = tempfile::tempdir().unwrap();
        report::render(&input, dir.path()).unwrap();
        measure(dir.path(), if demo { "small-demo" } else { "small" });
    }
}

/// Sorting, filtering and choosing work; that they are whole without a script is what the file itself shows.
#[test]
fn runs_are_sorted_and_filtered_and_figures_chosen() {
    let Some(mut b) = Browser::open(&made().dir.join("runs.html")) else {
        return;
    };
    let rows = "[...document.querySelectorAll('#runs tbody tr')].filter((r) => r.checkVisibility())";
    assert_eq!(b.number(&format!("{rows}.length")), 160.0);
    assert_eq!(read("runs.html").matches("<tr><td>").count(), 160);
    b.ask("(filter.value = 'dinov2-l mha', filter.oninput())");
    assert_eq!(b.number(&format!("{rows}.length")), 16.0);
    b.ask("(filter.value = '', filter.oninput())");
    let scores =
        format!("JSON.stringify({rows}.filter((r) => r.cells.length > 6).map((r) => Number(r.cells[4].textContent)))");
    b.ask("document.querySelectorAll('#runs th button')[4].focus()");
    b.press("Enter", 13, "\r");
    let up: Vec<f64> = serde_json::from_str(&b.ask(&scores)).unwrap();
    assert!(up.len() == 112 && up.is_sorted(), "{up:?}");
    b.press("Enter", 13, "\r");
    let down: Vec<f64> = serde_json::from_str(&b.ask(&scores)).unwrap();
    assert!(down.iter().rev().eq(&up), "{down:?}");

    let Some(mut b) = Browser::open(&made().dir.join("figures.html")) else {
        return;
    };
    let shown = "[...document.querySelectorAll('.figures > figure')].filter((f) => f.checkVisibility()).length";
    let all = b.number(shown);
    b.ask("(document.getElementById('set').value = 'ddsm', choose())");
    let own = b.number(shown);
    assert!(all > 25.0 && own > 3.0 && own < all / 2.0, "{own} of {all}");
    b.ask("(document.getElementById('kind').value = 'training', choose())");
    assert_eq!(b.number(shown), 1.0);
}

/// What a reader without a mouse does: the first Tab offers to skip the head, Enter on a number opens where it comes from,
/// Escape closes it and puts the focus back on the number.
#[test]
fn the_keyboard_opens_and_closes_what_is_behind_a_number() {
    let Some(mut b) = Browser::open(&made().dir.join("index.html")) else {
        return;
    };
    b.press("Tab", 9, "");
    assert_eq!(b.ask("document.activeElement.className"), "skip");
    b.ask("document.querySelector('button.cell').focus()");
    let opens = b.ask("document.activeElement.getAttribute('popovertarget')");
    let open = "(document.querySelector(':popover-open') ?? {id: 'none'}).id";
    assert_eq!(b.ask(open), "none");
    b.press("Enter", 13, "\r");
    assert_eq!(b.ask(open), opens);
    assert_eq!(b.ask("document.activeElement.className"), "close");
    b.press("Escape", 27, "");
    assert_eq!(b.ask(open), "none");
    assert_eq!(b.ask("document.activeElement.getAttribute('popovertarget')"), opens);
}

// ---------------------------------------------------------------------------------------------------------------- figures

#[test]
fn every_figure_that_belongs_is_there() {
    let mut expected: BTreeSet<String> = ["scores".to_owned()].into();
    for (set, _, outputs, several, _) in SETS {
        for kind in [
            "difference",
            "slope-unfreezing",
            "slope-head",
            "training",
            "calibration",
        ] {
            expected.insert(format!("{kind}-{set}"));
        }
        let own: &[&str] = match (several, outputs) {
            (true, _) => &["label-auc"],
            (false, 2) => &["roc"],
            _ => &["recall", "confusion"],
        };
        expected.extend(own.iter().map(|k| format!("{k}-{set}")));
    }
    let stems: BTreeSet<String> = fs::read_dir(made().dir.join("figures"))
        .unwrap()
        .map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(stems, expected);
}

/// Paints the figures of a study and holds their texts against each other, against the markers and against the edges. A column is
/// 720 units for 3.5 inches: 7 points are 20 units. Boxes are those of capitals.
fn lie_apart(name: &str, input: &ReportInput) -> Vec<figure::Painted> {
    let cells = Cells::aggregate(input).unwrap();
    let painted = figure::paint(
        input,
        &cells,
        &compare::compare(input, &cells, &paper_level::judge(input, &cells)),
    )
    .unwrap();
    for f in &painted {
        let at = format!("{name}, {}", f.stem);
        let (width, height) = (f64::from(f.size.0), f64::from(f.size.1));
        for (i, (text, b)) in f.texts.iter().enumerate() {
            let inside = b[0] >= 0.0 && b[1] >= 0.0 && b[2] <= width && b[3] <= height;
            assert!(inside, "{at}: {text} at {b:?} leaves {width} × {height}");
            for (other, o) in &f.texts[..i] {
                let meet = b[0] < o[2] && o[0] < b[2] && b[1] < o[3] && o[1] < b[3];
                assert!(!meet, "{at}: {text} {b:?} meets {other} {o:?}");
            }
            for m in &f.markers {
                let meet = b[0] < m[2] && m[0] < b[2] && b[1] < m[3] && m[1] < b[3];
                assert!(!meet, "{at}: {text} {b:?} lies over a marker {m:?}");
            }
        }
        if f.span == figure::Span::Column {
            assert_eq!(f.size.0, 720, "{at}");
        }
        // Where points are of backbones, every backbone is named.
        if ["scores", "difference", "slope"].iter().any(|k| f.stem.starts_with(k)) {
            let done = |b: &&BackboneFacts| {
                let of = |p: &&PlannedRun| p.backbone == b.name && matches!(p.state, PlannedState::Done(_));
                input.planned.iter().any(|p| of(&p))
            };
            for b in input.backbones.iter().filter(done) {
                assert!(f.texts.iter().any(|t| t.0 == b.title), "{at}: {} is not named", b.title);
            }
        }
    }
    painted
}

/// Every backbone of the paper, with its parameters in millions.
const ALL: [Backbone; 14] = [
    ("aimv2-l", "AIMv2-L", "AIMv2", 309.2),
    ("aimv2-h", "AIMv2-H", "AIMv2", 681.0),
    ("dinov2-b", "DINOv2-B", "DINOv2", 86.6),
    ("dinov2-l", "DINOv2-L", "DINOv2", 304.4),
    ("sam2-b", "SAM2-B+", "SAM2", 69.1),
    ("sam2-l", "SAM2-L", "SAM2", 212.7),
    ("mae-b", "MAE-B", "MAE", 85.8),
    ("mae-l", "MAE-L", "MAE", 303.3),
    ("mae-h", "MAE-H", "MAE", 630.8),
    ("vmamba-s", "VMamba-S", "VMamba", 49.4),
    ("vmamba-b", "VMamba-B", "VMamba", 87.5),
    ("coca-b", "CoCa-B", "CoCa", 86.4),
    ("coca-l", "CoCa-L", "CoCa", 306.7),
    ("clip-b", "CLIP-B", "CLIP", 86.2),
];

/// The studies of the repository by their shape: the paper's 14 × 4 × 4 × 3, the demo's with two seeds, and the two small sets of
/// one backbone with nothing published beside them.
#[test]
fn figures_of_the_paper_the_demo_and_medmnist_lie_apart() {
    let sets: Vec<Set> = vec![
        ("ddsm", "DDSM", 2, false, "roc_auc"),
        ("aptos2019", "APTOS2019", 5, false, "quadratic_kappa"),
        ("isic2019", "ISIC2019", 8, false, "recall"),
        ("chexpert", "CheXpert", 14, true, "roc_auc"),
    ];
    let shape = |seeds| Shape {
        sets: sets.clone(),
        backbones: ALL.to_vec(),
        regimes: REGIMES.to_vec(),
        seeds,
        whole: true,
        published: true,
    };
    let medmnist = Shape {
        sets: vec![
            ("retinamnist", "RetinaMNIST", 5, false, "quadratic_kappa"),
            ("breastmnist", "BreastMNIST", 2, false, "roc_auc"),
        ],
        backbones: vec![("dinov2-s-imgfocus", "DINOv2-S (ImgFocus)", "DINOv2", 22.1)],
        regimes: vec![REGIMES[0]],
        seeds: 5,
        whole: true,
        published: false,
    };
    for (name, shape, demo, least) in [
        ("paper", shape(3), false, 25),
        ("demo", shape(2), true, 25),
        ("medmnist", medmnist, false, 6),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let mut input = input_of(temp.path(), &shape);
        input.demo = demo;
        let painted = lie_apart(name, &input);
        println!("{name}: {} figures", painted.len());
        assert!(painted.len() >= least, "{name}: {} figures", painted.len());
        if name == "paper" {
            let scores = painted.iter().find(|f| f.stem == "scores").unwrap();
            // Four regimes and a published value a backbone and set; the key has five more.
            assert_eq!(scores.markers.len(), 14 * 4 * 5 + 5);
        }
    }
}

#[test]
fn texts_in_figures_lie_apart_inside_and_are_large_enough() {
    let painted = lie_apart("test", &made().input);
    for f in &painted {
        if f.stem == "scores" {
            // Backbones with a result: four regimes on four sets; all five have a published value. The key has five more.
            assert_eq!(f.markers.len(), 4 * 4 * 4 + 5 * 4 + 5);
            for (_, title, ..) in BACKBONES {
                assert_eq!(f.texts.iter().filter(|t| t.0 == title).count(), 1, "{title}");
            }
        }
        let png = image_size(&f.png);
        assert_eq!(png, (2 * f.size.0, 2 * f.size.1), "{}", f.stem);
    }
    let rule = painted.iter().filter(|f| f.caption.contains(figure::RULE)).count();
    assert_eq!(
        rule,
        4 * 2 + 2 * 2 + 1 + 1,
        "per-run figures state the rule by which runs are chosen"
    );
}

/// Width and height in the header of a PNG.
fn image_size(png: &[u8]) -> (u32, u32) {
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[test]
fn a_demo_says_so_everywhere() {
    let mut input = made().input.clone();
    input.demo = true;
    let dir = tempfile::tempdir().unwrap();
    report::render(&input, dir.path()).unwrap();
    let mut files = 0;
    for entry in walk(dir.path()) {
        let name = entry.strip_prefix(dir.path()).unwrap().to_string_lossy().into_owned();
        let bare = [".csv", ".png"].iter().any(|e| name.ends_with(e)) || name == "tables.tex" || name == "report.json";
        if bare || name.ends_with(".tikz") {
            continue;
        }
        let text = fs::read_to_string(&entry).unwrap();
        // In a drawing the warning is broken into lines.
        if name.ends_with(".html") && !name.contains('/') && name != "figures.html" {
            assert_eq!(text.matches(DEMO_WARNING).count(), 1, "{name} says it once");
        }
        let part = if name.ends_with(".svg") {
            "Demo numbers mean nothing"
        } else {
            DEMO_WARNING
        };
        assert!(text.contains(part), "{name}");
        files += 1;
    }
    assert!(files > 150, "{files}");
    let page = fs::read_to_string(dir.path().join("index.html")).unwrap();
    assert!(page.contains("Every station works on this machine: 112 of 160 planned runs have a result."));
    // Every score of the study is near 0.85, above chance on all four sets; one backbone of five has none.
    assert!(page.contains("Models that train learn: 32 of 32 cells with an unfrozen backbone are above chance"));
    assert!(page.contains("Nothing else may be concluded"));
    // Verdicts are grey, whatever they say.
    let Some(mut b) = Browser::open(&dir.path().join("index.html")) else {
        return;
    };
    let colours = "JSON.stringify([...new Set([...document.querySelectorAll('.verdict')].map((v) => getComputedStyle(v).backgroundColor))])";
    let colours: Vec<String> = serde_json::from_str(&b.ask(colours)).unwrap();
    assert!(!colours.is_empty());
    for c in &colours {
        let parts: Vec<f64> = c
            .split(|x: char| !x.is_ascii_digit() && x != '.')
            .filter_map(|n| n.parse().ok())
            .collect();
        let grey = parts.len() > 2 && parts[..3].iter().all(|v| (v - parts[0]).abs() < 25.0);
        assert!(grey || parts.get(3) == Some(&0.0), "a verdict of a demo in {c}");
    }
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for e in fs::read_dir(dir).unwrap() {
        let path = e.unwrap().path();
        if path.is_dir() {
            all.extend(walk(&path));
        } else {
            all.push(path);
        }
    }
    all
}

// ------------------------------------------------------------------------------------------------ results.json, paper, cards

#[test]
fn results_json_names_its_schema_and_holds_whole_runs() {
    let json = results();
    assert_eq!(json["schema"], "medft.report/2");
    assert_eq!(
        (json["planned"].as_u64(), json["done"].as_u64()),
        (Some(160), Some(112))
    );
    let run = &json["cells"][0]["runs"][0];
    assert_eq!(run["provenance"]["cpu"], PROCESSOR);
    assert!(run["metrics"]["best"]["undefined"].is_null(), "not a number is null");
    let gap = json["cells"].as_array().unwrap().iter().find(|c| c["n"] == 0).unwrap();
    assert_eq!(gap["missing"][0]["reason"], REASON);
    assert_eq!(gap["missing"][0]["seeds"], serde_json::json!([0, 1]));
}

#[test]
fn every_trained_model_has_a_card_with_its_metrics() {
    let json = results();
    let mut cards = 0;
    for c in json["cells"].as_array().unwrap() {
        for run in c["runs"].as_array().unwrap() {
            let name = format!("{}-seed{}", c["key"].as_str().unwrap(), run["seed"]);
            let card = read(&format!("cards/{name}.md"));
            let head = format!("{}\n", between(&card, "---\n", "\n---\n"));
            assert!(head.contains(&format!("- name: \"{name}\"\n")), "{head}");
            let value = between(&head, "      value: ", "\n");
            assert_eq!(
                value.parse::<f64>().unwrap().to_bits(),
                run["value"].as_f64().unwrap().to_bits()
            );
            assert!(!head.contains("NaN") && !head.contains("undefined"), "{head}");
            for must in [
                "Not for clinical use",
                "none has been chosen",
                run["id"].as_str().unwrap(),
            ] {
                assert!(card.contains(must), "{must}");
            }
            cards += 1;
        }
    }
    assert_eq!(cards, 112);
    assert_eq!(fs::read_dir(made().dir.join("cards")).unwrap().count(), 112);
}

fn pdflatex(dir: &Path, file: &str) -> Option<(bool, String)> {
    let have = |tool: &str, arg: &str| {
        let out = Command::new(tool).arg(arg).output();
        out.is_ok_and(|o| o.status.success() && !o.stdout.is_empty())
    };
    if !have("pdflatex", "--version") || !have("kpsewhich", "threeparttable.sty") || !have("kpsewhich", "siunitx.sty") {
        crate::skip::skipped("needs pdflatex with siunitx and threeparttable");
        return None;
    }
    let run = Command::new("pdflatex")
        .args(["-interaction=nonstopmode", "-halt-on-error", file])
        .current_dir(dir)
        .output()
        .unwrap();
    Some((run.status.success(), String::from_utf8_lossy(&run.stdout).into_owned()))
}

#[test]
fn the_paper_compiles_without_an_overfull_box() {
    let dir = &made().dir;
    for pass in 0..2 {
        let Some((ok, log)) = pdflatex(dir, "paper.tex") else {
            return;
        };
        assert!(ok, "{log}");
        if pass == 1 {
            let log = String::from_utf8_lossy(&fs::read(dir.join("paper.log")).unwrap()).into_owned();
            for name in ["Overfull", "undefined", "Missing", "LaTeX Warning: Label"] {
                let line = log.lines().find(|l| l.contains(name));
                assert!(line.is_none(), "{}", line.unwrap());
            }
        }
    }
}

/// Names are unique, values are those of `results.json`, and LaTeX stops at a name that is not there.
#[test]
fn numbers_have_names() {
    let tex = read("numbers.tex");
    let numbers: Vec<(&str, &str)> = tex
        .lines()
        .filter_map(|l| l.strip_prefix(r"\medftnumber{")?.strip_suffix('}')?.split_once("}{"))
        .collect();
    let by_name: BTreeMap<&str, &str> = numbers.iter().copied().collect();
    assert_eq!(numbers.len(), by_name.len());
    assert_eq!((by_name["planned"], by_name["done"]), ("160", "112"));
    for c in results()["cells"].as_array().unwrap() {
        let printed = by_name[format!("{}/mean", c["key"].as_str().unwrap()).as_str()];
        let expected = c["mean"]
            .as_f64()
            .map_or_else(|| "--".to_owned(), |m| format!("{m:.3}"));
        assert_eq!(printed, expected);
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("numbers.tex"), &tex).unwrap();
    for (name, expected) in [("done", true), ("no-such-number", false)] {
        let text = format!(
            "\\documentclass{{article}}\\input{{numbers.tex}}\\begin{{document}}\\medft{{{name}}}\\end{{document}}"
        );
        fs::write(dir.path().join("a.tex"), text).unwrap();
        if let Some((ok, log)) = pdflatex(dir.path(), "a.tex") {
            assert_eq!(ok, expected, "{log}");
            assert!(ok || log.contains("There is no number named"), "{log}");
        }
    }
}
