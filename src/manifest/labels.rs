//! Label files against their published bytes, and a loaded set's numbers against the expected ones.

use super::dataset::{DataManifest, Form, LabelFile, Lines};
use super::hash::hash_file;
use serde::Serialize;
use std::io::ErrorKind;
use std::path::Path;

/// What was found of one label file.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum LabelOutcome {
    /// The published bytes, in this form.
    Matches {
        lines: Lines,
    },
    /// Other bytes; `strict` says whether that is an error or a warning.
    Differs {
        expected: String,
        found: String,
        strict: bool,
    },
    /// Other bytes than the published ones, which the user accepted when the set was locked.
    Accepted {
        expected: String,
        found: String,
    },
    /// Not there; `needed` says whether it is read under every protocol.
    Missing {
        needed: bool,
    },
    /// There, but no checksum is published.
    Unpublished {
        why: String,
    },
    Unreadable {
        why: String,
    },
}

/// One label file of a set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelCheck {
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    #[serde(flatten)]
    pub outcome: LabelOutcome,
}

impl LabelCheck {
    /// Whether a study on this file could be believed as far as its bytes are concerned.
    pub fn ok(&self) -> bool {
        !matches!(
            self.outcome,
            LabelOutcome::Differs { strict: true, .. }
                | LabelOutcome::Missing { needed: true }
                | LabelOutcome::Unreadable { .. }
        )
    }

    /// One line for people; `None` where there is nothing to say.
    pub fn text(&self) -> Option<String> {
        let path = &self.path;
        match &self.outcome {
            LabelOutcome::Matches { .. } | LabelOutcome::Missing { needed: false } => None,
            LabelOutcome::Differs {
                expected,
                found,
                strict: true,
            } => Some(format!("{path}: expected {expected}, found {found}")),
            LabelOutcome::Differs {
                expected,
                found,
                strict: false,
            } => Some(format!("{path}: note: known is {expected}, found {found}")),
            LabelOutcome::Accepted { expected, found } => Some(format!(
                "{path}: note: published is {expected}; {found} was accepted when the set was locked"
            )),
            LabelOutcome::Missing { needed: true } => Some(format!("{path}: missing")),
            LabelOutcome::Unpublished { why } => Some(format!("{path}: note: no published checksum ({why})")),
            LabelOutcome::Unreadable { why } => Some(format!("{path}: cannot be read ({why})")),
        }
    }
}

/// Holds the label files below `root` against every form in which they are in circulation: size first, then SHA-256,
/// or MD5 where only that is published.
pub fn check_labels(manifest: &DataManifest, root: &Path) -> Vec<LabelCheck> {
    let check = |l: &LabelFile| LabelCheck {
        path: l.path.clone(),
        when: l.when.clone(),
        outcome: outcome(l, root),
    };
    manifest.label_files.iter().map(check).collect()
}

fn outcome(label: &LabelFile, root: &Path) -> LabelOutcome {
    let path = root.join(&label.path);
    let size = match std::fs::metadata(&path) {
        Ok(m) if m.is_file() => m.len(),
        Ok(_) => {
            return LabelOutcome::Unreadable {
                why: "not a file".into(),
            };
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return LabelOutcome::Missing {
                needed: label.when.is_none(),
            };
        }
        Err(e) => return LabelOutcome::Unreadable { why: e.to_string() },
    };
    if let Some(why) = &label.forms_unknown {
        return LabelOutcome::Unpublished { why: why.clone() };
    }
    let differs = |found: String| LabelOutcome::Differs {
        expected: expected(&label.forms),
        found,
        strict: label.strict,
    };
    let fits = |f: &&Form| f.size.is_none_or(|s| s == size);
    if !label.forms.iter().any(|f| fits(&f)) {
        return differs(format!("{size} bytes"));
    }
    let hashes = match hash_file(&path, label.forms.iter().any(|f| f.sha256.is_none()), |_| ()) {
        Ok(h) => h,
        Err(e) => return LabelOutcome::Unreadable { why: e.to_string() },
    };
    let sha = hashes.sha256.to_string();
    let same = |f: &Form| match &f.sha256 {
        Some(s) => *s == sha,
        None => f.md5.is_some() && f.md5 == hashes.md5,
    };
    if let Some(f) = label.forms.iter().filter(fits).find(|f| same(f)) {
        return LabelOutcome::Matches { lines: f.lines };
    }
    let md5 = hashes.md5.map_or_else(String::new, |m| format!(", md5 {m}"));
    differs(format!("{size} bytes with sha256 {sha}{md5}"))
}

fn expected(forms: &[Form]) -> String {
    let one = |f: &Form| {
        let size = f.size.map_or_else(String::new, |s| format!("{s} bytes with "));
        match (&f.sha256, &f.md5) {
            (Some(s), _) => format!("{size}sha256 {s}"),
            (None, Some(m)) => format!("{size}md5 {m}"),
            (None, None) => format!("{size}no known hash"),
        }
    };
    forms.iter().map(one).collect::<Vec<_>>().join(" or ")
}

/// The numbers of a loaded set: one entry for `train`, `val`, `test` and `all`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundCounts {
    pub split: String,
    pub images: u64,
    /// In class order; positives where labels are many.
    pub classes: Vec<(String, u64)>,
}

/// One number held against the manifest's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CountCheck {
    pub split: String,
    /// A class, or `images` for their number.
    pub what: String,
    pub expected: u64,
    pub found: Option<u64>,
    /// Whether a difference is an error; a warning otherwise.
    pub certain: bool,
    pub ok: bool,
    /// Where the expected number is from.
    pub from: String,
}

/// Holds a loaded set's numbers against those the manifest expects under the given choices of the protocol
/// (`variants`: its names for them, as `by-image` or `three-class`). Where the manifest names all classes they are
/// compared in class order, since a set's class names differ from reader to reader; where it names a few, by name.
pub fn check_counts(manifest: &DataManifest, variants: &[&str], found: &[FoundCounts]) -> Vec<CountCheck> {
    let applies = |v: &Option<String>| v.as_deref().is_none_or(|v| variants.contains(&v));
    let mut checks = Vec::new();
    for c in manifest.counts.iter().filter(|c| applies(&c.variant)) {
        let Some(f) = found.iter().find(|f| f.split == c.split) else {
            continue;
        };
        let mut add = |what: &str, expected: u64, found: Option<u64>| {
            checks.push(CountCheck {
                split: c.split.clone(),
                what: what.into(),
                expected,
                found,
                certain: c.certain,
                ok: found == Some(expected),
                from: c.from.clone(),
            });
        };
        add("images", c.images, Some(f.images));
        let classes = c.classes.as_deref().unwrap_or_default();
        for (i, (name, expected)) in classes.iter().enumerate() {
            let found = if classes.len() == f.classes.len() {
                Some(f.classes[i].1)
            } else {
                f.classes.iter().find(|k| k.0.eq_ignore_ascii_case(name)).map(|k| k.1)
            };
            add(name, *expected, found);
        }
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Catalogue;

    fn counts(split: &str, images: u64, classes: &[(&str, u64)]) -> FoundCounts {
        let classes = classes.iter().map(|c| (c.0.to_owned(), c.1)).collect();
        FoundCounts {
            split: split.into(),
            images,
            classes,
        }
    }

    #[test]
    fn counts_are_compared_under_the_protocols_choices() {
        let ddsm = Catalogue::embedded().set("ddsm").unwrap();
        let two = [counts("train", 8336, &[("Normal", 2216), ("Cancer", 6120)])];
        let checks = check_counts(ddsm, &["normal-vs-lesion"], &two);
        assert_eq!(checks.len(), 3);
        assert!(checks.iter().all(|c| c.ok));
        let checks = check_counts(ddsm, &["three-class"], &two);
        assert!(checks.iter().any(|c| !c.ok && c.certain));
        assert!(check_counts(ddsm, &[], &two).is_empty());
    }

    #[test]
    fn a_few_labels_are_compared_by_name_and_doubtful_numbers_marked() {
        let chexpert = Catalogue::embedded().set("chexpert").unwrap();
        let found = [counts(
            "all",
            223_414,
            &[("No Finding", 1), ("Edema", 52_246), ("Cardiomegaly", 27_001)],
        )];
        let checks = check_counts(chexpert, &["train-csv", "label-slices"], &found);
        let of = |what: &str| checks.iter().find(|c| c.what == what).unwrap();
        assert!(of("images").ok && of("Edema").ok && !of("Cardiomegaly").ok);
        assert_eq!(of("Atelectasis").found, None);
        let aptos = Catalogue::embedded().set("aptos2019").unwrap();
        let checks = check_counts(aptos, &["train1"], &[counts("all", 2929, &[])]);
        assert!(!checks[0].ok && !checks[0].certain);
    }
}
