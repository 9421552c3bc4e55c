//! The page on the data of a study: what each set is made of, what its parts share, what is in it twice.
//!
//! [`render`] writes a page (Markdown) and a figure (SVG, PNG) from finished [`SetAudit`]s; it reads no data set.

use super::figure::balance::{Panel, balance};
use super::templates::Templates;
use super::text::thousands;
use crate::data::audit::{Across, Balance, Cluster, LabelAudit, PictureAudit, Twins};
use crate::data::{Leaks, Overlap};
use crate::fsio;
use crate::manifest::{CountCheck, LabelCheck};
use anyhow::{Context, Result};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The first line of a page on generated stand-ins.
pub const PHANTOM_WARNING: &str = "Drawn phantom images: nothing here says anything about the real data sets.";
/// Names that a line of the page lists before it only counts.
const NAMED: usize = 10;
/// Clusters of duplicates that the page lists; the JSON has all.
const LISTED: usize = 20;

/// What the parts are under one split rule.
#[derive(Debug, Clone, Serialize)]
pub struct RuleAudit {
    /// `authors`, `grouped` or `official`.
    pub rule: &'static str,
    /// Whether the rest of the audit is under this rule.
    pub used: bool,
    /// Images of train, val, test; or why the rule cannot be applied.
    pub outcome: RuleOutcome,
}

/// See [`RuleAudit`].
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleOutcome {
    Cut { images: [usize; 3], leaks: Leaks },
    Impossible(String),
}

/// All that was found of one data set.
#[derive(Debug, Clone, Serialize)]
pub struct SetAudit {
    pub set: String,
    pub title: String,
    #[serde(serialize_with = "crate::fsio::lossy_path")]
    pub folder: PathBuf,
    /// A generated stand-in.
    pub phantom: bool,
    pub preset: String,
    /// The split rule in use; `mixed` where the protocol's switches are of none.
    pub split: String,
    pub label_files: Vec<LabelCheck>,
    pub labels: LabelAudit,
    /// Numbers held against the manifest; none for phantoms.
    pub counts: Vec<CountCheck>,
    pub rules: Vec<RuleAudit>,
    /// `None` where the images were left unread.
    pub pictures: Option<PictureAudit>,
}

impl SetAudit {
    /// Whether something is wrong with this copy: a certain number or a label file differs, or an image cannot be read.
    /// What the data set itself is like (leaks, duplicates) is no fault of the copy.
    pub fn faulty(&self) -> bool {
        self.counts.iter().any(|c| c.certain && !c.ok)
            || self.label_files.iter().any(|l| !l.ok())
            || self.pictures.as_ref().is_some_and(|p| !p.failed.is_empty())
    }
}

/// A page on some data sets.
#[derive(Debug)]
pub struct DataPage<'a> {
    pub title: &'a str,
    pub sets: &'a [SetAudit],
    /// Set and reason, for those that could not be audited.
    pub absent: &'a [(String, String)],
    /// Folder of templates that replace the built-in ones.
    pub templates: Option<&'a Path>,
}

/// Writes `<out>/<stem>.md`, `.svg` and `.png`; returns their paths, the page first.
///
/// # Errors
/// [`crate::error::BadInput`] when a file cannot be written or a template does not work.
pub fn render(page: &DataPage, out: &Path, stem: &str) -> Result<Vec<PathBuf>> {
    let warning = page.sets.iter().any(|s| s.phantom).then_some(PHANTOM_WARNING);
    let panels: Vec<Panel> = page.sets.iter().map(panel).collect();
    let content = Content {
        warning,
        title: page.title,
        figure: (!panels.is_empty()).then_some(stem),
        sets: page.sets.iter().map(section).collect(),
        absent: page
            .absent
            .iter()
            .map(|(set, why)| [set.as_str(), why.as_str()])
            .collect(),
    };
    let text = Templates::new(page.templates)?.render("data.md.tera", &content)?;
    let mut files = Vec::new();
    let mut write = |end: &str, bytes: &[u8]| -> Result<()> {
        let path = out.join(format!("{stem}.{end}"));
        fsio::write_atomic(&path, bytes)?;
        files.push(path);
        Ok(())
    };
    write("md", text.as_bytes())?;
    if !panels.is_empty() {
        let scene = balance(&panels, warning);
        write(
            "svg",
            scene
                .to_svg()
                .context("cannot draw the class balance as SVG")?
                .as_bytes(),
        )?;
        write("png", &scene.to_png().context("cannot draw the class balance as PNG")?)?;
    }
    Ok(files)
}

/// What `data.md.tera` prints; sentences without their marks, numbers as text.
#[derive(Serialize)]
struct Content<'a> {
    warning: Option<&'static str>,
    title: &'a str,
    /// The stem of the figure's files.
    figure: Option<&'a str>,
    sets: Vec<Section>,
    absent: Vec<[&'a str; 2]>,
}

#[derive(Serialize)]
struct Section {
    heading: String,
    intro: String,
    parts: Vec<String>,
    classes: Vec<(String, Vec<String>)>,
    many_labels: bool,
    manifest: Vec<String>,
    rules: Vec<Vec<String>>,
    groups: Vec<String>,
    images: Option<Images>,
}

#[derive(Serialize)]
struct Images {
    facts: Vec<String>,
    across: Vec<String>,
    twins: Vec<Vec<String>>,
    clusters: Vec<String>,
}

fn panel(s: &SetAudit) -> Panel {
    let part = |b: &Balance| (b.part.to_owned(), b.images, b.classes.clone());
    Panel {
        title: heading(s),
        classes: s.labels.classes.clone(),
        parts: s.labels.parts.iter().map(part).collect(),
    }
}

fn heading(s: &SetAudit) -> String {
    format!("{}, {} split", s.title, s.split)
}

fn section(s: &SetAudit) -> Section {
    let l = &s.labels;
    let cells = |f: &dyn Fn(&Balance) -> usize| l.parts.iter().map(|p| thousands(f(p))).collect::<Vec<_>>();
    let mut classes = vec![("images".to_owned(), cells(&|p| p.images))];
    for (k, name) in l.classes.iter().enumerate() {
        classes.push((name.clone(), cells(&|p| p.classes[k])));
    }
    if l.groups.known > 0 {
        classes.push(("groups (patient, lesion, case)".to_owned(), cells(&|p| p.groups)));
    }
    Section {
        heading: heading(s),
        intro: format!(
            "{} images in the label files. Protocol: preset {}, {} split.",
            thousands(l.images),
            s.preset,
            s.split
        ),
        parts: l.parts.iter().map(|p| p.part.to_owned()).collect(),
        classes,
        many_labels: l.many_labels,
        manifest: manifest(s),
        rules: s.rules.iter().map(rule).collect(),
        groups: groups(l),
        images: s.pictures.as_ref().map(images),
    }
}

/// Label files and numbers against the manifest.
fn manifest(s: &SetAudit) -> Vec<String> {
    let mut out: Vec<String> = s.label_files.iter().filter_map(LabelCheck::text).collect();
    if out.is_empty() && !s.label_files.is_empty() {
        out.push("The label files are the published ones.".into());
    }
    let wrong: Vec<&CountCheck> = s.counts.iter().filter(|c| !c.ok).collect();
    out.extend(wrong.iter().map(|c| {
        let found = c.found.map_or_else(|| "none".to_owned(), |n| thousands(n as usize));
        let doubt = if c.certain {
            ""
        } else {
            " (the expected number is not certain)"
        };
        format!(
            "{}, {}: expected {}, found {found}{doubt}; expected by {}",
            c.split,
            c.what,
            thousands(c.expected as usize),
            c.from
        )
    }));
    match (s.counts.len(), wrong.len()) {
        (0, _) => out.push("The manifest has no number to hold this split against.".into()),
        (n, w) => out.push(format!("{} of {n} numbers agree with the manifest's.", n - w)),
    }
    out
}

/// Rule, images of the parts, what the parts share.
fn rule(r: &RuleAudit) -> Vec<String> {
    let name = if r.used {
        format!("{} (used)", r.rule)
    } else {
        r.rule.to_owned()
    };
    match &r.outcome {
        RuleOutcome::Impossible(why) => [vec![name, format!("not possible: {why}")], vec![String::new(); 5]].concat(),
        RuleOutcome::Cut { images, leaks } => {
            let shared = |o: &Overlap, of: usize| match (o.images_of_shared_groups, o.images) {
                (0, 0) => "0".to_owned(),
                (n, 0) => format!("{} of {}", thousands(n), thousands(of)),
                (n, same) => format!("{} of {}, {} in both", thousands(n), thousands(of), thousands(same)),
            };
            let [train, val, test] = *images;
            vec![
                name,
                thousands(train),
                thousands(val),
                thousands(test),
                shared(&leaks.val_in_train, val),
                shared(&leaks.test_in_train, test),
                shared(&leaks.test_in_val, test),
            ]
        }
    }
}

fn groups(l: &LabelAudit) -> Vec<String> {
    let g = &l.groups;
    if g.known == 0 {
        return vec!["The label files name no group, so what the parts share cannot be told from them.".into()];
    }
    let mut out = vec![format!(
        "{} groups; {} of them have more than one image ({} images); {} images name none.",
        thousands(g.known),
        thousands(g.shared),
        thousands(g.images_of_shared),
        thousands(g.images_without)
    )];
    for (pair, o) in [
        ("val and train", &l.leaks.val_in_train),
        ("test and train", &l.leaks.test_in_train),
        ("test and val", &l.leaks.test_in_val),
    ] {
        if !o.groups.is_empty() {
            out.push(format!(
                "In {pair}: {} groups: {}.",
                thousands(o.groups.len()),
                named(&o.groups)
            ));
        }
    }
    if !g.divided.is_empty() {
        let names: Vec<String> = g
            .divided
            .iter()
            .map(|d| {
                let labels: Vec<String> = d.labels.iter().map(|(l, n)| format!("{n} {l}")).collect();
                format!("{} ({})", d.group, labels.join(", "))
            })
            .collect();
        out.push(format!(
            "{} groups carry more than one label: {}.",
            thousands(names.len()),
            named(&names)
        ));
    }
    out
}

fn images(p: &PictureAudit) -> Images {
    let size = |(w, h): (usize, usize)| format!("{w} × {h}");
    let mut facts = vec![match p.sizes.distinct {
        1 => format!(
            "{} images read, all of {} pixels.",
            thousands(p.read),
            size(p.sizes.largest)
        ),
        n => format!(
            "{} images read, of {} sizes from {} to {} pixels.",
            thousands(p.read),
            thousands(n),
            size(p.sizes.smallest),
            size(p.sizes.largest)
        ),
    }];
    if !p.failed.is_empty() {
        let names: Vec<String> = p.failed.iter().map(|f| format!("{} ({})", f.image, f.why)).collect();
        facts.push(format!(
            "{} images could not be read: {}.",
            thousands(names.len()),
            named(&names)
        ));
    }
    facts.extend(p.warnings.iter().map(|w| {
        let n = w.images.len();
        format!("{}: {} images: {}.", capital(&w.what), thousands(n), named(&w.images))
    }));
    if p.warnings.is_empty() {
        facts.push("The decoder left nothing out.".into());
    }
    let pair = |a: &Across| format!("{} also in {}", a.later, a.earlier);
    let row = |name: &str, t: &Twins| {
        let within = t.within.iter().map(|w| thousands(w.images));
        let across = t.across.iter().map(|a| thousands(a.images));
        let conflicts = format!(
            "{} ({} images)",
            thousands(t.conflicting),
            thousands(t.conflicting_images)
        );
        [name.to_owned(), thousands(t.images)]
            .into_iter()
            .chain(within)
            .chain(across)
            .chain([conflicts])
            .collect::<Vec<_>>()
    };
    // What conflicts first; same looks hold the other two kinds.
    let mut clusters: Vec<&Cluster> = p.same_looks.clusters.iter().collect();
    clusters.sort_by_key(|c| !c.conflicting);
    let mut listed: Vec<String> = clusters.iter().take(LISTED).map(|c| cluster(c)).collect();
    if clusters.len() > LISTED {
        listed.push(format!("and {} more", thousands(clusters.len() - LISTED)));
    }
    Images {
        facts,
        across: p.same_pixels.across.iter().map(pair).collect(),
        twins: vec![
            row("same file", &p.same_files),
            row("same pixels", &p.same_pixels),
            row("same looks", &p.same_looks),
        ],
        clusters: listed,
    }
}

fn cluster(c: &Cluster) -> String {
    let member = |m: &crate::data::audit::Member| format!("{} ({}; {})", m.image, m.parts.join(" and "), m.label);
    let images: Vec<String> = c.images.iter().map(member).collect();
    let mark = if c.conflicting { "labels differ: " } else { "" };
    format!("{mark}{}", named(&images))
}

fn named<T: AsRef<str>>(names: &[T]) -> String {
    let first: Vec<&str> = names.iter().take(NAMED).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(NAMED) {
        0 => first.join(", "),
        more => format!("{} and {} more", first.join(", "), thousands(more)),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_read_well() {
        assert_eq!(named(&["a"; 12]), "a, a, a, a, a, a, a, a, a, a and 2 more");
        assert_eq!(capital("turned as EXIF asks"), "Turned as EXIF asks");
    }
}
