//! A data set's card: Croissant 1.0 JSON-LD (MLCommons), from the manifest and the list of the files that are meant.
//!
//! Every file object carries its SHA-256. So the card of a locked set describes exactly the bytes whose root hash enters run
//! ids; without a list it describes what is published, as far as checksums are. What is not known is left out, not filled in:
//! there is no version or date of publication in it.

use super::dataset::DataManifest;
use super::hash::Sha;
use super::list::{HashList, RelPath};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The columns of a label file that is a CSV table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// Relative to the set's folder, as in the list.
    pub path: String,
    pub names: Vec<String>,
}

/// A card and what could not be put into it.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    pub json: Value,
    /// Published files without a known SHA-256, and label files whose bytes are not known.
    pub left_out: Vec<String>,
}

/// One file object.
struct Object {
    path: String,
    url: String,
    size: Option<u64>,
    sha256: String,
}

/// The card of `m`. `list` are its files (`None`: only what is published), `size` their sizes where known; `phantom` says that
/// they are the generated stand-in's.
pub fn card(
    m: &DataManifest,
    list: Option<&HashList>,
    size: impl Fn(&RelPath) -> Option<u64>,
    tables: &[Columns],
    phantom: bool,
) -> Card {
    let mut left_out = Vec::new();
    let objects = match list {
        Some(list) => list
            .entries
            .iter()
            .map(|(p, sha)| listed(m, p, *sha, size(p)))
            .collect(),
        None => published(m, &mut left_out),
    };
    let known: BTreeSet<&str> = objects.iter().map(|o| o.path.as_str()).collect();
    let records: Vec<Value> = tables
        .iter()
        .filter(|t| known.contains(t.path.as_str()))
        .map(record_set)
        .collect();
    let mut description = m.what.clone();
    if phantom {
        description.insert_str(
            0,
            "A stand-in with drawn images in the layout of the real set; no image of it is real. The real set: ",
        );
    }
    if let Some(list) = list {
        let _ = write!(
            description,
            " Layout: {}. Root hash of the list of files: {}.",
            m.layout,
            list.root()
        );
    }
    let mut json = json!({
        "@context": context(),
        "@type": "sc:Dataset",
        "name": if phantom { format!("{} (phantom)", m.title) } else { m.title.clone() },
        "description": description,
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": if phantom { "The licence of medft, which drew the images".to_owned() } else { licence(m) },
        "url": m.source.page,
        "citeAs": cite(m),
        "distribution": objects.iter().map(file_object).collect::<Vec<_>>(),
    });
    if !records.is_empty() {
        json["recordSet"] = records.into();
    }
    if !phantom && !m.cautions.is_empty() {
        json["rai:dataLimitations"] = m.cautions.iter().map(|c| Value::from(c.what.as_str())).collect();
    }
    Card { json, left_out }
}

/// A file of the list; where it is a published file as it is, its address is the published one.
fn listed(m: &DataManifest, path: &RelPath, sha: Sha, size: Option<u64>) -> Object {
    let sha256 = sha.to_string();
    let same = m.archives.iter().find(|a| a.sha256.as_deref() == Some(&sha256));
    Object {
        url: same
            .and_then(|a| a.url.clone())
            .unwrap_or_else(|| encoded(path.as_bytes())),
        path: String::from_utf8_lossy(path.as_bytes()).into_owned(),
        size,
        sha256,
    }
}

/// Published files with a known SHA-256.
fn published(m: &DataManifest, left_out: &mut Vec<String>) -> Vec<Object> {
    let mut objects: Vec<Object> = Vec::new();
    for a in &m.archives {
        match (&a.sha256, &a.url) {
            (Some(sha256), Some(url)) => objects.push(Object {
                path: a.file.clone(),
                url: url.clone(),
                size: a.size,
                sha256: sha256.clone(),
            }),
            (None, _) => left_out.push(format!(
                "{}: {}",
                a.file,
                a.sha256_unknown.as_deref().unwrap_or("no sha256")
            )),
            (_, None) => left_out.push(format!(
                "{}: {}",
                a.file,
                a.url_unknown.as_deref().unwrap_or("no address")
            )),
        }
    }
    for l in &m.label_files {
        if objects.iter().any(|o| o.path == l.path) || m.archives.iter().any(|a| a.file == l.path) {
            continue;
        }
        match l.forms.iter().find_map(|f| f.sha256.as_ref().map(|s| (s, f.size))) {
            Some((sha256, size)) => objects.push(Object {
                path: l.path.clone(),
                url: encoded(l.path.as_bytes()),
                size,
                sha256: sha256.clone(),
            }),
            None => left_out.push(format!(
                "{}: {}",
                l.path,
                l.forms_unknown.as_deref().unwrap_or("no sha256")
            )),
        }
    }
    objects
}

fn file_object(o: &Object) -> Value {
    let mut json = json!({
        "@type": "cr:FileObject",
        "@id": encoded(o.path.as_bytes()),
        "name": o.path.rsplit('/').next().unwrap_or(&o.path),
        "contentUrl": o.url,
        "encodingFormat": media_type(&o.path),
        "sha256": o.sha256,
    });
    if let Some(size) = o.size {
        json["contentSize"] = format!("{size} B").into();
    }
    json
}

/// The rows of a CSV table, every column as text.
fn record_set(t: &Columns) -> Value {
    let file = encoded(t.path.as_bytes());
    let id = format!("{file}-rows");
    let field = |name: &String| {
        json!({
            "@type": "cr:Field",
            "@id": format!("{id}/{}", encoded(name.as_bytes()).replace('/', "%2F")),
            "name": name,
            "dataType": "sc:Text",
            "source": { "fileObject": { "@id": file }, "extract": { "column": name } },
        })
    };
    json!({
        "@type": "cr:RecordSet",
        "@id": id,
        "name": format!("rows of {}", t.path),
        "field": t.names.iter().map(field).collect::<Vec<_>>(),
    })
}

/// The address of a licence that has one, else its name or why none is known.
fn licence(m: &DataManifest) -> String {
    let text = m.licence.text();
    let known = [
        ("CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/"),
        ("CC BY-NC 4.0", "https://creativecommons.org/licenses/by-nc/4.0/"),
        ("CC BY 3.0", "https://creativecommons.org/licenses/by/3.0/"),
    ];
    known.iter().find(|k| k.0 == text).map_or(text, |k| k.1.to_owned())
}

fn cite(m: &DataManifest) -> String {
    match &m.citation.doi {
        Some(doi) => format!("{}. https://doi.org/{doi}", m.citation.text),
        None => m.citation.text.clone(),
    }
}

fn media_type(path: &str) -> &'static str {
    let ends = |e: &str| path.to_ascii_lowercase().ends_with(e);
    let known = [
        (".jpg", "image/jpeg"),
        (".jpeg", "image/jpeg"),
        (".png", "image/png"),
        (".csv", "text/csv"),
        (".txt", "text/plain"),
        (".json", "application/json"),
        (".tar.gz", "application/gzip"),
        (".zip", "application/zip"),
        // NumPy's archive has no media type of its own; it is a zip file.
        (".npz", "application/zip"),
    ];
    known
        .iter()
        .find(|k| ends(k.0))
        .map_or("application/octet-stream", |k| k.1)
}

/// A relative path as part of an address (RFC 3986, 2.3): whatever is not unreserved or `/` in percent form.
fn encoded(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for &b in path {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(b)),
            _ => {
                let _ = write!(out, "%{b:02X}");
            }
        }
    }
    out
}

/// The context that the specification gives (Croissant 1.0, section "Namespaces").
fn context() -> Value {
    let mut context = Map::new();
    context.insert("@language".into(), "en".into());
    context.insert("@vocab".into(), "https://schema.org/".into());
    const TERMS: [&str; 27] = [
        "citeAs",
        "column",
        "data",
        "dataType",
        "equivalentProperty",
        "examples",
        "extract",
        "field",
        "fileObject",
        "fileProperty",
        "fileSet",
        "format",
        "includes",
        "isLiveDataset",
        "jsonPath",
        "key",
        "md5",
        "parentField",
        "path",
        "recordSet",
        "references",
        "regex",
        "repeated",
        "replace",
        "samplingRate",
        "separator",
        "source",
    ];
    for term in TERMS.into_iter().chain(["subField", "transform"]) {
        let id = format!("cr:{term}");
        let value = match term {
            "data" | "examples" => json!({ "@id": id, "@type": "@json" }),
            "dataType" => json!({ "@id": id, "@type": "@vocab" }),
            _ => id.into(),
        };
        context.insert(term.into(), value);
    }
    for (prefix, url) in [
        ("conformsTo", "dct:conformsTo"),
        ("cr", "http://mlcommons.org/croissant/"),
        ("dct", "http://purl.org/dc/terms/"),
        ("rai", "http://mlcommons.org/croissant/RAI/"),
        ("sc", "https://schema.org/"),
    ] {
        context.insert(prefix.into(), url.into());
    }
    context.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3986: space, `#` and bytes beyond ASCII are written in percent form, letters and `/` as they are.
    #[test]
    fn paths_become_addresses() {
        assert_eq!(encoded("a b/ü#.jpg".as_bytes()), "a%20b/%C3%BC%23.jpg");
        assert_eq!(encoded(b"\xff~-_.Z9"), "%FF~-_.Z9");
    }

    #[test]
    fn media_types_go_by_the_end_of_the_name() {
        assert_eq!(media_type("a/x.JPG"), "image/jpeg");
        assert_eq!(media_type("ddsm_raw.tar.gz"), "application/gzip");
        assert_eq!(media_type("x"), "application/octet-stream");
    }
}
