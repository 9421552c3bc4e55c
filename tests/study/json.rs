//! `--json` of every verb against its schema in docs/schemas: one document on stdout, every field described, none besides.
//!
//! The validator below knows the keywords of JSON Schema that the schemas use, and refuses any other.

use crate::place::Place;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn schema(verb: &str) -> Value {
    let name = format!("docs/schemas/{}.json", verb.replace(' ', "-"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&name);
    serde_json::from_slice(&fs::read(&path).unwrap_or_else(|e| panic!("{name}: {e}"))).unwrap()
}

/// Holds what a verb said against its schema.
pub(crate) fn holds(verb: &str, value: &Value) {
    let schema = schema(verb);
    if let Err(e) = check(&schema, &schema, value, "$") {
        panic!("{verb}: {e}");
    }
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type: {other}"),
    }
}

/// Holds a value against a schema; what is wrong with it, with its place.
fn check(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    const KEYWORDS: [&str; 16] = [
        "$schema",
        "$defs",
        "$ref",
        "title",
        "description",
        "type",
        "enum",
        "const",
        "oneOf",
        "anyOf",
        "items",
        "prefixItems",
        "properties",
        "required",
        "additionalProperties",
        "minItems",
    ];
    let fields = schema.as_object().ok_or("no schema")?;
    if let Some(other) = fields
        .keys()
        .find(|w| !KEYWORDS.contains(&w.as_str()) && *w != "maxItems")
    {
        panic!("{at}: the schema has a keyword that is not checked: {other}");
    }
    if let Some(to) = schema["$ref"].as_str() {
        let target = root.pointer(&to[1..]).ok_or_else(|| format!("{at}: {to} is nowhere"))?;
        check(root, target, value, at)?;
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !kinds.is_empty() && !kinds.iter().any(|k| is(value, k)) {
        return Err(format!("{at}: {value} is not {kinds:?}"));
    }
    if let Some(all) = schema["enum"].as_array()
        && !all.contains(value)
    {
        return Err(format!("{at}: {value} is none of {all:?}"));
    }
    if fields.contains_key("const") && schema["const"] != *value {
        return Err(format!("{at}: {value} is not {}", schema["const"]));
    }
    for (keyword, least, most) in [("oneOf", 1, 1), ("anyOf", 1, usize::MAX)] {
        if let Some(all) = schema[keyword].as_array() {
            let tried: Vec<_> = all.iter().map(|s| check(root, s, value, at)).collect();
            let fits = tried.iter().filter(|r| r.is_ok()).count();
            if fits < least || fits > most {
                return Err(format!("{at}: fits {fits} of {keyword}: {tried:?}"));
            }
        }
    }
    if let Some(items) = value.as_array() {
        for (i, item) in items.iter().enumerate() {
            let of = schema["prefixItems"].get(i).unwrap_or(&schema["items"]);
            if of.is_object() {
                check(root, of, item, &format!("{at}[{i}]"))?;
            }
        }
        let bound = |keyword: &str| schema[keyword].as_u64().map(|n| n as usize);
        if bound("minItems").is_some_and(|n| items.len() < n) || bound("maxItems").is_some_and(|n| items.len() > n) {
            return Err(format!("{at}: {} items", items.len()));
        }
    }
    if let Some(fields) = value.as_object() {
        for name in schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            if !fields.contains_key(name) {
                return Err(format!("{at}: no {name}"));
            }
        }
        for (name, field) in fields {
            let of = match schema["properties"].get(name) {
                Some(of) => of,
                None => &schema["additionalProperties"],
            };
            match of {
                Value::Bool(false) => return Err(format!("{at}: {name} is not described")),
                Value::Object(_) => check(root, of, field, &format!("{at}.{name}"))?,
                _ => {}
            }
        }
    }
    Ok(())
}

/// The verbs that have none of their own.
fn verbs(command: &clap::Command, path: &str, out: &mut BTreeSet<String>) {
    let own: Vec<&clap::Command> = command.get_subcommands().filter(|v| v.get_name() != "help").collect();
    if own.is_empty() {
        out.insert(path.to_owned());
    }
    for v in own {
        verbs(v, format!("{path} {}", v.get_name()).trim(), out);
    }
}

/// Every command line below, in this order in one folder, says one document that its verb's schema describes; every verb is among
/// them, and every schema is of a verb.
#[test]
fn every_verb_says_what_its_schema_describes() {
    let p = Place::new().set("HF_HUB_OFFLINE", "1");
    p.study("short", |t| t + "[report]\ndemo = true\npublished = [\"paper2025\"]\n");
    let rates = p.path("results/.cache/rates-2");
    fs::create_dir_all(&rates).unwrap();
    for what in ["forward", "train"] {
        let bench = serde_json::json!({
            "what": what, "backbone": "mae-b", "size": 224, "images_per_s": 100.0,
            "machine": { "device": "GPU", "cpu": "another", "threads": 96 },
        });
        // Of a GPU that is not here; the file's name is of what is in it.
        let m: medft::runner::estimate::Measurement = serde_json::from_value(bench.clone()).unwrap();
        let name = medft::runner::estimate::file_name(&m).unwrap();
        fs::write(rates.join(name), bench.to_string()).unwrap();
    }
    let paper = "experiments/papers/paper2025";
    fs::create_dir_all(p.path(paper)).unwrap();
    for name in ["published.csv", "published.toml"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(paper).join(name);
        fs::copy(from, p.path(paper).join(name)).unwrap();
    }
    for (class, level) in [("a", 40u8), ("b", 160)] {
        fs::create_dir_all(p.path(&format!("toys/{class}"))).unwrap();
        for i in 0..12 {
            let picture = image::GrayImage::from_fn(8, 8, |x, y| image::Luma([level + i + (x * y) as u8]));
            picture.save(p.path(&format!("toys/{class}/{i}.png"))).unwrap();
        }
    }
    let lines: [(&str, &str, &[i32]); 50] = [
        ("data list", "", &[0]),
        ("data add", "toy --images toys", &[0]),
        ("data add", "toy2 --images toys --grey --target none --dry-run", &[2]),
        ("new", "own --dataset toy --backbone dinov2-b", &[0]),
        ("data synth", "aptos2019", &[0]),
        ("data synth", "aptos2019", &[0]),
        ("data verify", "aptos2019 --phantom", &[0]),
        ("data verify", "ddsm", &[1]),
        ("data audit", "aptos2019 --phantom", &[0, 1]),
        ("data audit", "aptos2019 --phantom --labels-only", &[0, 1]),
        ("data card", "aptos2019 --phantom", &[0]),
        // No credential is here: the verb says so without asking anybody.
        ("data fetch", "aptos2019 --accept-terms", &[2]),
        ("data import", "chexpert nowhere.zip", &[2]),
        ("data lock", "breastmnist", &[0, 2]),
        ("weights list", "", &[0]),
        ("weights verify", "dinov2-b", &[1]),
        ("weights fetch", "dinov2-b", &[1]),
        ("published list", "", &[0]),
        ("papers", "", &[0]),
        ("published template", "./short.toml", &[0]),
        ("published check", "experiments/papers/paper2025/published.csv", &[0]),
        ("plan", "./short.toml", &[0]),
        ("plan", "paper --only dataset=ddsm", &[1]),
        ("plan", "paper --budget 900h --out budget.toml --as-device GPU", &[0]),
        ("power", "paper", &[0]),
        ("prepare", "./short.toml", &[0]),
        ("run", "./short.toml --only freeze=frozen,head=linear", &[0]),
        ("run", "./short.toml", &[0]),
        ("run", "./short.toml", &[0]),
        ("run", "paper --only dataset=ddsm,seed=0,head=linear", &[1]),
        ("report", "./short.toml", &[0]),
        ("report", "./short.toml --only freeze=frozen --replicates 0", &[0]),
        ("compare", "./short.toml", &[0]),
        ("reproduce", "./short.toml", &[0]),
        ("reproduce", "paper --only dataset=ddsm,seed=0,head=linear", &[1]),
        ("run", "./short.toml --results-dir other", &[0]),
        ("compare", "results/short other/short", &[0]),
        ("verify-results", "short", &[0]),
        ("bundle", "./short.toml", &[0]),
        ("bundle", "--verify short.crate.zip", &[0, 2]),
        ("bundle", "./short.toml --without-predictions --out less.zip", &[0]),
        ("bundle", "--verify less.zip", &[0]),
        ("bench", "hash --images data --steps 1", &[0]),
        ("bench", "decode --steps 1 --batch 2", &[0]),
        ("bench", "peak", &[0]),
        ("bench", "forward --steps 1 --batch 1 --size 56", &[0]),
        ("bench", "head --steps 1 --batch 2 --size 56", &[0]),
        ("doctor", "", &[0]),
        ("completions", "bash", &[0]),
        ("man", "pages", &[0]),
    ];
    let mut seen = BTreeSet::new();
    for (verb, rest, codes) in lines {
        let args: Vec<&str> = verb
            .split(' ')
            .chain(rest.split_whitespace())
            .chain(["--json"])
            .collect();
        let said = p.medft(&args);
        let line = args.join(" ");
        assert!(codes.contains(&said.code), "{line}: {} {}", said.code, said.all());
        let value: Value = serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{line}: {e}: {}", said.all()));
        let schema = schema(verb);
        if let Err(e) = check(&schema, &schema, &value, "$") {
            panic!("{line}: {e}");
        }
        seen.insert(verb.to_owned());
        if verb == "plan" && !line.contains("--budget") {
            let mut broken = value.clone();
            broken[0]["more"] = Value::from(1);
            assert!(
                check(&schema, &schema, &broken, "$").is_err(),
                "the check lets a field pass that is not described"
            );
            broken[0].as_object_mut().unwrap().remove("more");
            broken[0].as_object_mut().unwrap().remove("seed");
            assert!(
                check(&schema, &schema, &broken, "$").is_err(),
                "the check lets a field be absent"
            );
        }
    }
    // tests/acquire.rs and tests/fetch.rs have the servers that this verb needs; `data import` says the same lines.
    seen.insert("data fetch".to_owned());
    let trained = medft::fsio::below(&p.path("results/short"));
    let trained = trained.iter().find(|f| f.ends_with("weights.safetensors")).unwrap();
    let run = trained.parent().unwrap().to_str().unwrap();
    let image = p.path("toys/a/0.png");
    for (verb, args) in [
        ("predict", vec!["predict", run, image.to_str().unwrap()]),
        ("export", vec!["export", run, "--layout", "hub", "--out", "exported"]),
    ] {
        let said = p.medft(&[&args[..], &["--json"]].concat());
        assert_eq!(said.code, 0, "{verb}: {}", said.all());
        holds(verb, &serde_json::from_str(&said.out).unwrap());
        seen.insert(verb.to_owned());
    }
    // tests/slurm has the cluster that this verb needs, own_model.rs a checkpoint.
    seen.extend(["submit".to_owned(), "weights add".to_owned()]);
    let mut all = BTreeSet::new();
    verbs(&medft::cli::command(), "", &mut all);
    assert_eq!(seen, all, "every verb is tried");
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schemas")).unwrap();
    let stems: BTreeSet<String> = files
        .map(|f| {
            PathBuf::from(f.unwrap().file_name())
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(
        stems,
        all.iter().map(|v| v.replace(' ', "-")).collect(),
        "a schema a verb"
    );
}

/// Who reads a part gets the beginning of the whole, and no row of it is torn or lost; who reads slowly gets all.
#[test]
fn no_row_is_lost_in_a_pipe() {
    use std::io::Read;
    use std::process::{Command, Stdio};
    let p = Place::new();
    for args in [
        "published template paper",
        "plan paper --json",
        "plan paper -v",
        "data list --json",
    ] {
        let whole = p.medft(&args.split(' ').collect::<Vec<_>>()).out;
        let start = || {
            Command::new(assert_cmd::cargo::cargo_bin!("medft"))
                .args(args.split(' '))
                .current_dir(p.path(""))
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let without_times = |s: &str| {
            s.lines()
                .filter(|l| !l.contains("   after ") && !l.contains(" free"))
                .collect::<Vec<_>>()
                .join("\n")
        };
        let mut slow = start();
        std::thread::sleep(std::time::Duration::from_millis(300));
        let (mut all, mut out) = (String::new(), slow.stdout.take().unwrap());
        out.read_to_string(&mut all).unwrap();
        slow.wait().unwrap();
        assert_eq!(without_times(&all), without_times(&whole), "{args}");
        let mut leaves = start();
        let mut part = [0; 1000];
        let mut out = leaves.stdout.take().unwrap();
        out.read_exact(&mut part).unwrap();
        drop(out);
        let mut said = String::new();
        leaves.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        leaves.wait().unwrap();
        assert_eq!(part, whole.as_bytes()[..1000], "{args}");
        assert_eq!(said, "", "{args}");
    }
}
