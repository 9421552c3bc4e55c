//! The manifest of a data set as it stands in TOML.
//!
//! TOML has no null. Of a fact and its `<key>_unknown` reason exactly one is given, so that a gap is always a statement;
//! [`DataManifest::parse`] insists. Keys are described in `data-manifests/README.md`.

use crate::error::BadInput;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// What is known of a data set, without looking at a copy of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataManifest {
    pub schema: u32,
    /// Name used in studies.
    pub set: String,
    pub title: String,
    /// Folder below the data directory.
    pub folder: String,
    /// The set's files, where several sets share the folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<String>>,
    pub what: String,
    /// Where files lie below the folder, in words.
    pub layout: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts_unknown: Option<String>,
    pub source: Publisher,
    pub licence: Licence,
    pub citation: Citation,
    pub access: Access,
    #[serde(rename = "archive", default)]
    pub archives: Vec<Archive>,
    #[serde(rename = "label_file")]
    pub label_files: Vec<LabelFile>,
    #[serde(default)]
    pub counts: Vec<Counts>,
    #[serde(rename = "caution", default)]
    pub cautions: Vec<Caution>,
    /// How a table is read, where the layout is `table`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<toml::Table>,
}

/// Who publishes the set, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publisher {
    pub page: String,
    pub from: String,
}

/// Licence as found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images_unknown: Option<String>,
    pub labels: String,
    pub from: String,
}

impl Licence {
    /// The licence of the images, or that none is known and why.
    pub fn text(&self) -> String {
        match (&self.images, &self.images_unknown) {
            (Some(licence), _) => licence.clone(),
            (None, Some(why)) => format!("unknown ({why})"),
            (None, None) => "unknown".into(),
        }
    }
}

/// How to cite the set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Citation {
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doi: Option<String>,
    pub from: String,
}

/// What stands between a user and the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessKind {
    /// Anyone may download.
    Open,
    /// An account is needed.
    Login,
    /// An agreement must be accepted by a person on the page.
    Agreement,
}

/// How a user gets the set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    pub kind: AccessKind,
    pub page: String,
    /// To be run in the data directory; empty where only the page helps.
    pub commands: Vec<String>,
    pub terms: String,
    pub from: String,
}

/// A file as published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    pub file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_unknown: Option<String>,
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// What the Kaggle API serves it as: `datasets/<owner>/<name>` or `competitions/<name>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kaggle: Option<String>,
    /// Name of one of several copies of the set, of which a user has one; the first in the file is the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy: Option<String>,
    /// Where its files belong; a file that is no archive lies in the set's folder as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpack: Option<Unpack>,
    /// Whether the study needs it.
    pub needed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_unknown: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256_unknown: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub md5_unknown: Option<String>,
    /// Whether a difference is an error; a warning otherwise.
    #[serde(default = "yes")]
    pub strict: bool,
    pub from: String,
}

/// Where the files of an archive belong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unpack {
    /// Folder below the set's; the set's own where empty.
    pub into: String,
    /// A file or folder by which its content is known: what lies beside it belongs into `into`, and folders above it are
    /// dropped, because copies differ in them.
    pub beside: String,
    pub from: String,
}

impl Archive {
    /// Whether it holds files, by its name.
    pub fn is_packed(&self) -> bool {
        self.file.ends_with(".zip") || self.file.ends_with(".tar.gz")
    }
}

/// Line ends of a text file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lines {
    Crlf,
    Lf,
    /// No text.
    Binary,
}

/// One of the byte sequences in which a label file is in circulation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Form {
    pub lines: Lines,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_unknown: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256_unknown: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
    pub from: String,
}

/// A file that decides labels or splits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelFile {
    /// Relative to the set's folder.
    pub path: String,
    /// Whether other bytes than the forms' are an error; a warning otherwise.
    #[serde(default = "yes")]
    pub strict: bool,
    /// The protocol switch under which it is read; always without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    #[serde(rename = "form", default)]
    pub forms: Vec<Form>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forms_unknown: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crlf_unknown: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lf_unknown: Option<String>,
}

/// Expected numbers of images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// `train`, `val`, `test` or `all`.
    pub split: String,
    /// The protocol's value for the choice under which they hold; always without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    pub images: u64,
    /// Names and numbers in class order; positives where labels are many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<(String, u64)>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes_unknown: Option<String>,
    /// Whether a difference is an error; a warning otherwise.
    #[serde(default = "yes")]
    pub certain: bool,
    pub from: String,
}

/// A known leak, duplicate or trap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caution {
    pub kind: String,
    pub what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub between: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<String>>,
    pub from: String,
}

fn yes() -> bool {
    true
}

impl DataManifest {
    /// Reads and checks a manifest; `at` names it in errors.
    ///
    /// # Errors
    /// [`BadInput`] with the line of a syntax error, unknown or missing key; with the table of a fact that is neither
    /// given nor explained, or of a hash that is none.
    pub fn parse(text: &str, at: &str) -> Result<Self, BadInput> {
        let m: Self = toml::from_str(text).map_err(|e| toml_error(at, text, &e))?;
        let mut c = Checker::new(at);
        c.schema(m.schema);
        c.pair("licence.images", m.licence.images.is_some(), &m.licence.images_unknown);
        for a in &m.archives {
            let t = format!("archive {}", a.file);
            c.pair(&format!("{t}: url"), a.url.is_some(), &a.url_unknown);
            c.pair(&format!("{t}: size"), a.size.is_some(), &a.size_unknown);
            c.hash(&format!("{t}: sha256"), &a.sha256, &a.sha256_unknown, 64);
            c.hash(&format!("{t}: md5"), &a.md5, &a.md5_unknown, 32);
            c.acquisition(&t, a);
        }
        for l in &m.label_files {
            let t = format!("label_file {}", l.path);
            c.pair(&format!("{t}: form"), !l.forms.is_empty(), &l.forms_unknown);
            for f in &l.forms {
                c.pair(&format!("{t}: size"), f.size.is_some(), &f.size_unknown);
                c.hash(&format!("{t}: sha256"), &f.sha256, &f.sha256_unknown, 64);
                c.digits(&format!("{t}: md5"), &f.md5, 32);
            }
            let has = |lines| l.forms.iter().any(|f| f.lines == lines);
            if has(Lines::Crlf) || has(Lines::Lf) {
                c.pair(&format!("{t}: crlf"), has(Lines::Crlf), &l.crlf_unknown);
                c.pair(&format!("{t}: lf"), has(Lines::Lf), &l.lf_unknown);
            }
        }
        for n in &m.counts {
            let t = format!("counts {}: classes", n.split);
            c.pair(&t, n.classes.is_some(), &n.classes_unknown);
        }
        c.done()?;
        Ok(m)
    }

    /// How a user gets the set: the commands, the terms, the page. What else there is stands in [`DataManifest::by_hand`].
    pub fn how_to_get(&self) -> String {
        if self.table.is_some() {
            return format!(
                "Make it again from your images and table with `medft data add {}`.",
                self.set
            );
        }
        format!(
            "medft data fetch {set}, or medft data import {set} ARCHIVE… for archives you have. {terms} {page}",
            set = self.set,
            terms = self.access.terms,
            page = self.access.page
        )
    }

    /// How to get the set without medft: commands for the data directory; empty where only the page helps.
    pub fn by_hand(&self) -> String {
        let mut out = String::new();
        for command in &self.access.commands {
            let _ = write!(out, "\n  {command}");
        }
        out
    }

    /// Names of the copies of the set, the usual one first.
    pub fn copies(&self) -> Vec<&str> {
        let mut out = Vec::new();
        for c in self.archives.iter().filter_map(|a| a.copy.as_deref()) {
            if !out.contains(&c) {
                out.push(c);
            }
        }
        out
    }

    /// The archives of one copy: those that are needed, or the one that is named.
    ///
    /// # Errors
    /// [`BadInput`] with the names there are.
    pub fn copy(&self, name: Option<&str>) -> Result<Vec<&Archive>, BadInput> {
        if self.archives.is_empty() {
            let found = format!("`{}`, which has no published files", self.set);
            return Err(BadInput::new(
                "data set",
                "one that can be fetched or imported",
                found,
                self.how_to_get(),
            ));
        }
        let names = self.copies();
        let Some(name) = name.or(names.first().copied()) else {
            return Ok(self.archives.iter().filter(|a| a.needed).collect());
        };
        if !names.contains(&name) {
            let known = match names.is_empty() {
                true => "no name: the set has one copy".to_owned(),
                false => format!("one of {}", names.join(", ")),
            };
            return Err(BadInput::new(
                format!("--copy of {}", self.set),
                known,
                format!("`{name}`"),
                "Correct the name.",
            ));
        }
        let of = |a: &&Archive| a.copy.as_deref().map_or(a.needed, |c| c == name);
        Ok(self.archives.iter().filter(of).collect())
    }
}

/// Collects what is wrong with a parsed manifest; the first thing found is reported.
pub(super) struct Checker<'a> {
    at: &'a str,
    first: Option<BadInput>,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(at: &'a str) -> Self {
        Self { at, first: None }
    }

    pub(crate) fn fail(&mut self, expected: impl Into<String>, found: impl Into<String>) {
        let remedy = "Correct the manifest; data-manifests/README.md describes its keys.";
        self.first
            .get_or_insert_with(|| BadInput::new(self.at, expected, found, remedy));
    }

    pub(crate) fn schema(&mut self, found: u32) {
        if found != 1 {
            self.fail("schema = 1", format!("schema = {found}"));
        }
    }

    /// Exactly one of a fact and the reason for its absence.
    pub(crate) fn pair(&mut self, key: &str, given: bool, unknown: &Option<String>) {
        if given == unknown.is_some() {
            let found = if given { "both" } else { "neither" };
            self.fail(format!("{key} or the reason why it is unknown"), found);
        }
    }

    pub(crate) fn hash(&mut self, key: &str, hash: &Option<String>, unknown: &Option<String>, digits: usize) {
        self.pair(key, hash.is_some(), unknown);
        self.digits(key, hash, digits);
    }

    pub(crate) fn digits(&mut self, key: &str, hash: &Option<String>, digits: usize) {
        if let Some(h) = hash
            && (h.len() != digits || !h.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
        {
            self.fail(format!("{key} of {digits} lower-case hex digits"), format!("`{h}`"));
        }
    }

    /// Names and places that a download turns into paths and addresses.
    pub(crate) fn acquisition(&mut self, at: &str, a: &Archive) {
        let plain = |s: &str| !s.is_empty() && !s.starts_with('.') && !s.contains(['/', '\\', '\0']);
        if !plain(&a.file) {
            self.fail(format!("{at}: a plain file name"), format!("`{}`", a.file));
        }
        if let Some(k) = &a.kaggle {
            let parts: Vec<&str> = k.split('/').collect();
            let plain = |s: &&str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
            let good = matches!(parts[..], ["datasets", _, _] | ["competitions", _]) && parts.iter().all(plain);
            if !good {
                self.fail(
                    format!("{at}: kaggle = datasets/<owner>/<name> or competitions/<name>"),
                    format!("`{k}`"),
                );
            }
        }
        if a.needed && a.is_packed() && a.unpack.is_none() {
            self.fail(format!("{at}: unpack, where its files belong"), "none");
        }
        if let Some(u) = &a.unpack
            && !(plain(&u.beside) && (u.into.is_empty() || u.into.split('/').all(plain)))
        {
            self.fail(
                format!("{at}: unpack: plain names"),
                format!("`{}` and `{}`", u.into, u.beside),
            );
        }
    }

    pub(crate) fn done(self) -> Result<(), BadInput> {
        self.first.map_or(Ok(()), Err)
    }
}

/// A TOML error as bad input, with its line.
pub(super) fn toml_error(at: &str, text: &str, e: &toml::de::Error) -> BadInput {
    let line = e
        .span()
        .map_or(1, |s| text[..s.start.min(text.len())].matches('\n').count() + 1);
    BadInput::new(
        format!("{at}:{line}"),
        "a manifest with known keys",
        e.message().trim(),
        "Correct the line; data-manifests/README.md describes the keys.",
    )
}
