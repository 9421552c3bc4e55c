//! `medft bundle`: one archive, the same bytes from the same records, and every change of it found.

use crate::place::Place;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};

type Entries = BTreeMap<String, Vec<u8>>;

fn entries(bytes: &[u8]) -> Entries {
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    (0..zip.len())
        .map(|i| {
            let mut entry = zip.by_index(i).unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.name().unwrap().into_owned(), content)
        })
        .collect()
}

/// Packs entries again, as somebody would who changes an archive.
fn pack(entries: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in entries {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn a_study_is_packed_and_verified() {
    let place = Place::new();
    let study = place.study("short", |s| s);
    let none = place.medft(&["bundle", &study]);
    assert_eq!(none.code, 2, "{}", none.all());
    assert!(none.err.contains("at least one finished run"), "{}", none.all());

    assert_eq!(place.medft(&["reproduce", &study]).code, 0);
    let said = place.medft(&["bundle", &study, "--json"]);
    assert_eq!(said.code, 0, "{}", said.all());
    assert_eq!(said.json()["runs"], 4);
    let first = fs::read(place.path("short.crate.zip")).unwrap();
    assert_eq!(place.medft(&["bundle", &study, "--out", "again.zip"]).code, 0);
    assert!(
        first == fs::read(place.path("again.zip")).unwrap(),
        "not the same bytes"
    );

    let whole = entries(&first);
    for name in [
        "Cargo.lock",
        "LICENSE-MIT",
        "experiments/short.toml",
        "data-manifests/aptos2019.toml",
        "reports/short/index.html",
        "reports/short/results.json",
    ] {
        assert!(whole.contains_key(name), "{name}");
    }
    let home = place.path("").display().to_string();
    let home = home.trim_end_matches('/').as_bytes();
    for (name, content) in &whole {
        assert!(
            !content.windows(home.len()).any(|w| w == home),
            "{name} names the folder it was made in"
        );
    }

    // Its description names every file once, with size and hash.
    let metadata: serde_json::Value = serde_json::from_slice(&whole["ro-crate-metadata.json"]).unwrap();
    let graph = metadata["@graph"].as_array().unwrap();
    let ids: Vec<&str> = graph.iter().map(|e| e["@id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len());
    for (name, content) in &whole {
        if ["ro-crate-metadata.json", "manifest-sha256.txt"].contains(&name.as_str()) {
            continue;
        }
        let e = &graph[ids.iter().position(|id| id == name).unwrap_or_else(|| panic!("{name}"))];
        assert_eq!(e["contentSize"], content.len().to_string(), "{name}");
        assert_eq!(e["sha256"], medft::fsio::sha256_hex(content), "{name}");
    }
    let actions: Vec<_> = graph.iter().filter(|e| e["@type"] == "CreateAction").collect();
    assert_eq!(actions.len(), 4);
    for a in actions {
        for key in ["object", "result"] {
            let all = a[key].as_array().unwrap();
            assert!(
                !all.is_empty() && all.iter().all(|o| ids.contains(&o["@id"].as_str().unwrap())),
                "{key}"
            );
        }
        assert!(ids.contains(&a["instrument"]["@id"].as_str().unwrap()));
    }

    // As the validator of the field asks: what is referred to is described, with name, type and description; the profile is
    // one; a program has one version; times have an offset.
    fn references<'a>(v: &'a serde_json::Value, out: &mut Vec<&'a str>) {
        match v {
            serde_json::Value::Array(all) => all.iter().for_each(|v| references(v, out)),
            serde_json::Value::Object(o) if o.len() == 1 => out.extend(o.get("@id").and_then(|id| id.as_str())),
            _ => {}
        }
    }
    for e in graph {
        let mut all = Vec::new();
        e.as_object()
            .unwrap()
            .iter()
            .filter(|(key, _)| *key != "conformsTo")
            .for_each(|(_, v)| references(v, &mut all));
        for id in all {
            assert!(ids.contains(&id), "{id} of {} is not described", e["@id"]);
        }
        if e["@id"] == "ro-crate-metadata.json" {
            continue;
        }
        assert!(e["name"].is_string() && e["description"].is_string(), "{e}");
        if e["@type"] == "SoftwareApplication" {
            assert!(e["version"].is_string() && e["softwareVersion"].is_null(), "{e}");
        }
        for time in ["startTime", "endTime", "datePublished"].map(|key| &e[key]) {
            assert!(time.as_str().is_none_or(|t| t.ends_with("+00:00")), "{time}");
        }
    }
    let by_id = |id: &str| &graph[ids.iter().position(|other| *other == id).unwrap()];
    let profile = by_id(by_id("./")["conformsTo"]["@id"].as_str().unwrap());
    assert!(
        profile["@type"].as_array().unwrap().iter().any(|t| t == "Profile"),
        "{profile}"
    );
    assert_eq!(by_id("https://spdx.org/licenses/MIT")["@type"], "CreativeWork");

    valid_for_the_fields_validator(&place, &whole);

    // Verified where nothing else of the study is.
    let elsewhere = Place::new();
    fs::write(elsewhere.path("b.zip"), &first).unwrap();
    let good = elsewhere.medft(&["bundle", "--verify", "b.zip"]);
    assert_eq!(good.code, 0, "{}", good.all());
    assert!(
        good.out.contains("0 do not") && good.out.contains("4 runs"),
        "{}",
        good.all()
    );

    // A changed file, a missing one, one too many; and a record that was edited together with the manifest.
    let metrics = whole.keys().find(|k| k.ends_with("/metrics.json")).unwrap().clone();
    let edited = |change: &dyn Fn(&mut Entries), named: &str| {
        let mut other = whole.clone();
        change(&mut other);
        fs::write(elsewhere.path("b.zip"), pack(&other)).unwrap();
        let bad = elsewhere.medft(&["bundle", "--verify", "b.zip"]);
        assert_eq!(bad.code, 2, "{named}: {}", bad.all());
        assert!(bad.out.contains(named), "{named}: {}", bad.all());
    };
    edited(
        &|e| {
            e.insert("reports/short/results.json".into(), b"{}".to_vec());
        },
        "reports/short/results.json",
    );
    edited(&|e| drop(e.remove("experiments/short.toml")), "experiments/short.toml");
    edited(
        &|e| {
            e.insert("results/short/extra.json".into(), b"{}".to_vec());
        },
        "results/short/extra.json",
    );
    edited(
        &|e| {
            let text = String::from_utf8(e[&metrics].clone()).unwrap().replacen("0.", "1.", 1);
            let list = String::from_utf8(e["manifest-sha256.txt"].clone()).unwrap();
            let list = list.replace(
                &medft::fsio::sha256_hex(&e[&metrics]),
                &medft::fsio::sha256_hex(text.as_bytes()),
            );
            e.insert(metrics.clone(), text.into_bytes());
            e.insert("manifest-sha256.txt".into(), list.into_bytes());
        },
        "metrics.json",
    );
    fs::write(elsewhere.path("b.zip"), &first[..first.len() / 2]).unwrap();
    assert_eq!(elsewhere.medft(&["bundle", "--verify", "b.zip"]).code, 2);

    // Without predictions it is smaller, and says what cannot be checked.
    assert_eq!(
        place
            .medft(&["bundle", &study, "--out", "small.zip", "--without-predictions"])
            .code,
        0
    );
    let small = place.medft(&["bundle", "--verify", "small.zip"]);
    assert_eq!(small.code, 0, "{}", small.all());
    assert!(small.err.contains("without their predictions"), "{}", small.all());
}

/// By `rocrate-validator` (roc-validator of PyPI), where it is and knows the JSON-LD context: it brings that from the network or has
/// it in its cache. Its Process Run Crate 0.5 is built on RO-Crate 1.1 and would have the crate say so; that base is left out, as
/// 1.2 is asked by itself.
fn valid_for_the_fields_validator(place: &Place, whole: &Entries) {
    let dir = place.path("crate");
    for (name, content) in whole {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    for profile in [
        &["-p", "ro-crate-1.2"][..],
        &["-p", "process-run-crate-0.5", "--disable-profile-inheritance"],
    ] {
        let mut c = std::process::Command::new("rocrate-validator");
        c.args(["-y", "--disable-color", "validate", "--no-paging", "-l", "required"]);
        let Ok(out) = c.args(profile).arg(&dir).output() else {
            return crate::skip::skipped("there is no rocrate-validator");
        };
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        if said.contains("Unable to retrieve the JSON-LD context") {
            return crate::skip::skipped("rocrate-validator cannot reach the JSON-LD context of RO-Crate");
        }
        assert!(out.status.success(), "{profile:?}: {said}");
    }
}
