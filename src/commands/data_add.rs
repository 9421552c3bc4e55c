//! `medft data add`: a user's own images become a data set like any other.
//!
//! Everything that is wrong with the table is named, with its line, before a file is written.

use crate::cli::AddArgs;
use crate::cli::exit::OK;
use crate::data::csv::Table;
use crate::data::decode;
use crate::data::files;
use crate::data::registry::SETS;
use crate::data::table::{IMAGES, TABLE, TableSource, TableSpec, TableTask};
use crate::error::BadInput;
use crate::fsio;
use crate::manifest::{lock_set, quiet};
use crate::rng::{Purpose, Stream};
use crate::runner::Context;
use crate::study::protocol::{ImageLoading, PngTwin};
use crate::text as ui;
use anyhow::{Context as _, Result};
use rayon::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Problems that are printed.
const SHOWN: usize = 20;
const PARTS: [&str; 3] = ["train", "val", "test"];

/// An image as the user's table has it.
struct Row {
    /// File and line, for complaints.
    at: String,
    /// Below the folder of images.
    file: String,
    /// The class, or the labels that are 1.
    labels: Vec<String>,
    group: Option<String>,
    part: Option<usize>,
}

/// What was read, and what is wrong with it.
#[derive(Default)]
struct Found {
    rows: Vec<Row>,
    problems: Vec<String>,
}

/// What the pixels of an image add up to.
struct Sums {
    sum: [u64; 3],
    squares: [u64; 3],
    pixels: u64,
    hash: String,
}

pub fn run(c: &Context, a: &AddArgs) -> Result<u8> {
    check_name(&a.name)?;
    let shares = a.split_rule.as_deref().map(parse_rule).transpose()?;
    let task = match (a.task, a.label.len()) {
        (Some(task), _) => task,
        (None, n) if n > 1 => TableTask::Multilabel,
        _ => TableTask::Multiclass,
    };
    let mut found = match &a.labels {
        Some(labels) => read_table(a, labels, task)?,
        None => read_folders(&a.images)?,
    };
    let classes: Vec<String> = match task {
        TableTask::Multilabel => a.label.clone(),
        TableTask::Multiclass => {
            let all: BTreeSet<&String> = found.rows.iter().flat_map(|r| &r.labels).collect();
            all.into_iter().cloned().collect()
        }
    };
    if a.split.is_none() {
        cut(&mut found.rows, &classes, shares.unwrap_or([0.8, 0.1, 0.1]));
    }
    let channels = if a.grey { 1 } else { 3 };
    let sums = look(&a.images, channels, &mut found);
    check(&mut found, &classes, task);
    if !found.problems.is_empty() {
        let n = found.problems.len();
        for p in found.problems.iter().take(SHOWN) {
            eprintln!("{p}");
        }
        let at = a.labels.as_ref().unwrap_or(&a.images).display();
        let more = if n > SHOWN {
            format!(", the first {SHOWN} above")
        } else {
            ", named above".into()
        };
        let found = format!("{n} problems{more}");
        return Err(BadInput::new(
            at,
            "a table that can be used as it is",
            found,
            "Mend them; nothing was written.",
        )
        .into());
    }
    let spec = spec(a, task, classes, channels, &found, &sums)?;
    show(&found, &spec, &sums);
    write(c, a, &spec, &found)?;
    Ok(OK)
}

/// A name that studies, folders and files can have.
fn check_name(name: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if name.is_empty() || !name.bytes().all(plain) || !name.as_bytes()[0].is_ascii_lowercase() {
        let expected = "a name of small letters, digits, - and _, a letter first";
        return Err(BadInput::new("data add", expected, format!("`{name}`"), "Choose another name.").into());
    }
    if SETS.get(name).is_some() {
        let remedy = "Choose another name, or delete its manifest first.";
        return Err(BadInput::new("data add", "a new name", format!("`{name}`, which is taken"), remedy).into());
    }
    Ok(())
}

/// `stratified:0.8/0.1/0.1` → the shares of train, val and test.
fn parse_rule(rule: &str) -> Result<[f64; 3]> {
    let shares: Option<Vec<f64>> = rule
        .strip_prefix("stratified:")
        .and_then(|s| s.split('/').map(|x| x.parse().ok()).collect());
    match shares.as_deref() {
        Some(&[a, b, c]) if [a, b, c].iter().all(|x| *x > 0.0) && (a + b + c - 1.0).abs() < 1e-9 => Ok([a, b, c]),
        _ => Err(BadInput::new(
            "--split-rule",
            "stratified:TRAIN/VAL/TEST with shares above 0 that add up to 1",
            format!("`{rule}`"),
            "Write for instance stratified:0.8/0.1/0.1.",
        )
        .into()),
    }
}

fn read_table(a: &AddArgs, labels: &Path, task: TableTask) -> Result<Found> {
    let table = Table::open(labels)?;
    let id = table.column(&a.id)?;
    let columns = a.label.iter().map(|l| table.column(l)).collect::<Result<Vec<_>>>()?;
    let (group, split) = (
        a.group.as_ref().map(|g| table.column(g)).transpose()?,
        a.split.as_ref().map(|s| table.column(s)).transpose()?,
    );
    let mut found = Found::default();
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    table.rows(|row| {
        let at = row.to_string();
        let name = row.get(id).trim();
        let mut bad = |what: String| found.problems.push(format!("{at}: {what}"));
        if name.is_empty() {
            bad(format!("the column {:?} is blank", a.id));
            return Ok(());
        }
        let Ok(below) = files::relative(&at, name) else {
            bad(format!(
                "{name:?} leads out of the folder of images, or is no plain path"
            ));
            return Ok(());
        };
        if let Some(first) = seen.insert(name.to_owned(), at.clone()) {
            bad(format!("{name:?} again, first at {first}"));
        }
        let mut own = Vec::new();
        match task {
            TableTask::Multiclass => match row.get(columns[0]).trim() {
                "" => bad(format!("the column {:?} is blank", a.label[0])),
                word => own.push(word.to_owned()),
            },
            TableTask::Multilabel => {
                for (label, &column) in a.label.iter().zip(&columns) {
                    match row.get(column).trim() {
                        "1" | "1.0" => own.push(label.clone()),
                        "0" | "0.0" => {}
                        other => bad(format!("the label {label:?} is {other:?}, not 0 or 1")),
                    }
                }
            }
        }
        let part = match split.map(|s| row.get(s).trim().to_lowercase()) {
            None => None,
            Some(word) => {
                let part = match word.as_str() {
                    "valid" | "validation" => Some(1),
                    w => PARTS.iter().position(|p| *p == w),
                };
                if part.is_none() {
                    bad(format!("the part {word:?} is not train, val or test"));
                }
                part
            }
        };
        let file = match file_of(&a.images, &below) {
            Some(file) => file,
            None => {
                bad(format!(
                    "no image {name:?} in {} (nor with .png, .jpg, .jpeg)",
                    a.images.display()
                ));
                return Ok(());
            }
        };
        found.rows.push(Row {
            at,
            file,
            labels: own,
            group: group
                .map(|g| row.get(g).trim())
                .filter(|g| !g.is_empty())
                .map(str::to_owned),
            part,
        });
        Ok(())
    })?;
    Ok(found)
}

/// The file of an id, which may lack its extension.
fn file_of(images: &Path, below: &Path) -> Option<String> {
    let text = below.to_str()?;
    let all = ["", ".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG"];
    all.iter()
        .map(|end| format!("{text}{end}"))
        .find(|f| images.join(f).is_file())
}

/// One folder a class.
fn read_folders(images: &Path) -> Result<Found> {
    let list = |dir: &Path| -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
        let mut all = entries.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
        all.sort();
        Ok(all)
    };
    let mut found = Found::default();
    for folder in list(images)?.into_iter().filter(|p| p.is_dir()) {
        for path in list(&folder)?.into_iter().filter(|p| p.is_file()) {
            let end = path
                .extension()
                .and_then(|e| e.to_str())
                .unwrap_or_default()
                .to_lowercase();
            let text = path.strip_prefix(images)?.to_str().map(str::to_owned);
            match (text, end.as_str()) {
                (Some(file), "png" | "jpg" | "jpeg") => found.rows.push(Row {
                    at: path.display().to_string(),
                    labels: vec![folder.file_name().unwrap_or_default().to_string_lossy().into_owned()],
                    file,
                    group: None,
                    part: None,
                }),
                _ => found
                    .problems
                    .push(format!("{}: no PNG or JPEG with a plain name", path.display())),
            }
        }
    }
    if found.rows.is_empty() && found.problems.is_empty() {
        let remedy = "Give one folder a class, or a table with --labels.";
        return Err(BadInput::new(images.display(), "a folder of images for each class", "none", remedy).into());
    }
    Ok(found)
}

/// Cuts the rows into parts: groups stay whole, and each goes to the part that lacks most of its rarest class. The order in which they
/// come is drawn from a seed of its own, so that the cut depends on the table alone.
fn cut(rows: &mut [Row], classes: &[String], shares: [f64; 3]) {
    let key = |r: &Row| r.labels.first().cloned().unwrap_or_default();
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, r) in rows.iter().enumerate() {
        // An image without a group is one of its own; the space keeps it from being some group's name.
        let name = r.group.clone().unwrap_or_else(|| format!(" {}", r.file));
        groups.entry(name).or_default().push(i);
    }
    let mut order: Vec<Vec<usize>> = groups.into_values().collect();
    Stream::new(0, Purpose::Shuffle, 0, 0).shuffle(&mut order);
    // Large groups first, while every part still has room for them.
    order.sort_by_key(|g| std::cmp::Reverse(g.len()));
    let mut names: Vec<String> = classes.to_vec();
    names.push(String::new());
    let count = |c: &str| rows.iter().filter(|r| key(r) == c).count() as f64;
    let total: BTreeMap<String, f64> = names.iter().map(|c| (c.clone(), count(c))).collect();
    let mut have: BTreeMap<(String, usize), f64> = BTreeMap::new();
    for group in order {
        let rarest = group.iter().map(|&i| key(&rows[i])).min_by(|a, b| {
            let n = |c: &String| total.get(c).copied().unwrap_or(0.0);
            n(a).total_cmp(&n(b)).then_with(|| a.cmp(b))
        });
        let class = rarest.unwrap_or_default();
        let n = total.get(&class).copied().unwrap_or(0.0);
        let lack = |k: usize| {
            let here = have.get(&(class.clone(), k)).copied().unwrap_or(0.0);
            // In shares of what the part is to have: a small part is filled as early as a large one.
            (shares[k] * n - here) / shares[k]
        };
        let part = (0..3)
            .max_by(|&a, &b| lack(a).total_cmp(&lack(b)).then(b.cmp(&a)))
            .unwrap_or(0);
        for i in group {
            *have.entry((key(&rows[i]), part)).or_default() += 1.0;
            rows[i].part = Some(part);
        }
    }
}

/// Opens every image; one that cannot be read is a problem.
fn look(images: &Path, channels: usize, found: &mut Found) -> Vec<Option<Sums>> {
    let one = |r: &Row| -> Result<Sums> {
        let img = decode::open(&images.join(&r.file), channels, ImageLoading::Sane, PngTwin::Off)?;
        let mut s = Sums {
            sum: [0; 3],
            squares: [0; 3],
            pixels: (img.width * img.height) as u64,
            hash: fsio::sha256_hex(&[&(img.width as u64).to_le_bytes()[..], &img.data].concat()),
        };
        for px in img.data.chunks_exact(channels) {
            for (k, &v) in px.iter().enumerate() {
                s.sum[k] += u64::from(v);
                s.squares[k] += u64::from(v) * u64::from(v);
            }
        }
        Ok(s)
    };
    let all: Vec<Result<Sums>> = found.rows.par_iter().map(one).collect();
    let mut out = Vec::with_capacity(all.len());
    for (sums, r) in all.into_iter().zip(&found.rows) {
        if let Err(e) = &sums {
            found.problems.push(format!("{}: {e:#}", r.at));
        }
        out.push(sums.ok());
    }
    out
}

/// What only the whole table shows.
fn check(found: &mut Found, classes: &[String], task: TableTask) {
    let Found { rows, problems } = found;
    let mut of_group: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for r in rows.iter() {
        if let (Some(g), Some(part)) = (r.group.as_deref(), r.part) {
            let (first, at) = *of_group.entry(g).or_insert((part, &r.at));
            if first != part {
                let (a, b) = (PARTS[first], PARTS[part]);
                problems.push(format!("{}: the group {g:?} is in {b} here and in {a} at {at}", r.at));
            }
        }
    }
    if classes.len() < 2 && task == TableTask::Multiclass {
        problems.push(format!(
            "{} classes in the table; a task has two at least",
            classes.len()
        ));
    }
    for class in classes {
        let with: Vec<&Row> = rows.iter().filter(|r| r.labels.contains(class)).collect();
        match with.as_slice() {
            [] => problems.push(format!("the label {class:?} is 1 for no image")),
            [one] => problems.push(format!(
                "{}: {class:?} has this image only, so no part can test it",
                one.at
            )),
            _ => {}
        }
    }
    for (k, part) in PARTS.iter().enumerate() {
        if !rows.is_empty() && !rows.iter().any(|r| r.part == Some(k)) {
            problems.push(format!("no image is in {part}"));
        }
    }
}

/// The `[table]` of the manifest; mean and standard deviation over the pixels of the training images, from exact sums.
fn spec(
    a: &AddArgs,
    task: TableTask,
    classes: Vec<String>,
    channels: usize,
    found: &Found,
    sums: &[Option<Sums>],
) -> Result<TableSpec> {
    let train = || {
        let both = found.rows.iter().zip(sums);
        both.filter(|(r, _)| r.part == Some(0)).filter_map(|(_, s)| s.as_ref())
    };
    let n = train().map(|s| s.pixels).sum::<u64>() as f64;
    let moments = |k: usize| {
        let mean = train().map(|s| s.sum[k]).sum::<u64>() as f64 / n;
        let square = train().map(|s| s.squares[k]).sum::<u64>() as f64 / n;
        (mean / 255.0, (square - mean * mean).max(0.0).sqrt() / 255.0)
    };
    let both: Vec<(f64, f64)> = (0..channels).map(moments).collect();
    let default = match task {
        TableTask::Multiclass if classes.len() > 2 => "recall",
        _ => "roc_auc",
    };
    let spec = TableSpec {
        task,
        classes,
        channels,
        mean: both.iter().map(|m| m.0 as f32).collect(),
        std: both.iter().map(|m| m.1 as f32).collect(),
        target: a.target.clone().unwrap_or_else(|| default.into()),
        groups: a.group.is_some(),
    };
    if let Some(fault) = spec.fault() {
        return Err(BadInput::new(
            "data add",
            "a data set that can be trained on",
            fault,
            "Correct the options.",
        )
        .into());
    }
    Ok(spec)
}

/// What was understood.
fn show(found: &Found, spec: &TableSpec, sums: &[Option<Sums>]) {
    let count = |class: Option<&String>, part: usize| {
        let of = found.rows.iter().filter(|r| r.part == Some(part));
        of.filter(|r| class.is_none_or(|c| r.labels.contains(c)))
            .count()
            .to_string()
    };
    let line = |name: &str, class: Option<&String>| {
        let mut row = vec![name.to_owned()];
        row.extend((0..3).map(|p| count(class, p)));
        row
    };
    let mut rows: Vec<Vec<String>> = spec.classes.iter().map(|c| line(c, Some(c))).collect();
    rows.push(line("all", None));
    println!("{}", ui::table(&["class", "train", "val", "test"], &rows));
    let groups: BTreeSet<&String> = found.rows.iter().filter_map(|r| r.group.as_ref()).collect();
    if !groups.is_empty() {
        println!("{} groups, each in one part", groups.len());
    }
    let mut first: BTreeMap<&str, &Row> = BTreeMap::new();
    for (r, s) in found.rows.iter().zip(sums) {
        let Some(s) = s else { continue };
        match first.get(s.hash.as_str()) {
            Some(other) => {
                let apart = if other.part == r.part {
                    ""
                } else {
                    ", in different parts"
                };
                eprintln!("note: {} has the pixels of {}{apart}", r.at, other.at);
            }
            None => drop(first.insert(&s.hash, r)),
        }
    }
}

/// Puts the images and the table below the data directory, writes the manifest and locks the set.
fn write(c: &Context, a: &AddArgs, spec: &TableSpec, found: &Found) -> Result<()> {
    let folder = c.global.data_dir.join(&a.name);
    let manifest = c.global.own_manifests().join(format!("{}.toml", a.name));
    for path in [&folder, &manifest] {
        if path.exists() {
            let remedy = "Move it away, or choose another name; nothing was written.";
            return Err(BadInput::new(path.display(), "nothing there yet", "something", remedy).into());
        }
    }
    for r in &found.rows {
        let (from, to) = (a.images.join(&r.file), folder.join(IMAGES).join(&r.file));
        fsio::create_dir(to.parent().unwrap_or(&folder))?;
        // The same file under two names costs no space; where that cannot be, it is copied.
        if fs::hard_link(&from, &to).is_err() {
            fsio::write_atomic(&to, &fsio::read(&from)?)?;
        }
    }
    fsio::write_atomic(&folder.join(TABLE), table(spec, found)?.as_bytes())?;
    let title = a.title.clone().unwrap_or_else(|| a.name.clone());
    let text = manifest_text(a, &title, spec, found)?;
    // Read back before it is written: what cannot be read is not left behind.
    let source = TableSource::new(&a.name, &title, &a.name, spec.clone(), &text)?;
    let all = c.catalogue.with([(a.name.as_str(), text.as_str())].into_iter())?;
    source_check(&source, &folder)?;
    fsio::write_atomic(&manifest, text.as_bytes())?;
    lock_set(&all, &a.name, &*c.global.data_dir, false, &quiet)?;
    println!(
        "{}: {} images in {}, described by {}",
        a.name,
        found.rows.len(),
        folder.display(),
        manifest.display()
    );
    Ok(())
}

fn source_check(source: &TableSource, folder: &Path) -> Result<()> {
    use crate::data::Source as _;
    source.load(folder, &crate::study::Protocol::faithful()).map(drop)
}

/// The table as [`TableSource`] reads it.
fn table(spec: &TableSpec, found: &Found) -> Result<String> {
    let mut out = csv::Writer::from_writer(Vec::new());
    let mut header = vec!["file"];
    match spec.task {
        TableTask::Multiclass => header.push("label"),
        TableTask::Multilabel => header.extend(spec.classes.iter().map(String::as_str)),
    }
    header.push("split");
    if spec.groups {
        header.push("group");
    }
    out.write_record(&header)?;
    for r in &found.rows {
        let mut row = vec![r.file.as_str()];
        match spec.task {
            TableTask::Multiclass => row.push(r.labels.first().map_or("", String::as_str)),
            TableTask::Multilabel => {
                row.extend(
                    spec.classes
                        .iter()
                        .map(|c| if r.labels.contains(c) { "1" } else { "0" }),
                );
            }
        }
        row.push(r.part.map_or("", |p| PARTS[p]));
        if spec.groups {
            row.push(r.group.as_deref().unwrap_or(""));
        }
        out.write_record(&row)?;
    }
    Ok(String::from_utf8(out.into_inner()?)?)
}

/// The manifest. JSON's strings are TOML's basic strings.
fn manifest_text(a: &AddArgs, title: &str, spec: &TableSpec, found: &Found) -> Result<String> {
    let q = |s: &str| json!(s).to_string();
    let list = |v: &[f32]| v.iter().map(|x| format!("{x:?}")).collect::<Vec<_>>().join(", ");
    let (name, n) = (&a.name, found.rows.len());
    let licence = match &a.licence {
        Some(l) => format!("images = {}", q(l)),
        None => "images_unknown = \"not given to `medft data add`\"".into(),
    };
    let mut out = format!(
        "# Written by `medft data add`.\nschema = 1\nset = {}\ntitle = {}\nfolder = {}\nwhat = {}\nlayout = \"table\"\n\n\
         [source]\npage = \"\"\nfrom = \"the user\"\n\n[licence]\n{licence}\nlabels = {}\nfrom = \"the user\"\n\n\
         [citation]\ntext = \"none given\"\nfrom = \"the user\"\n\n\
         [access]\nkind = \"open\"\npage = \"\"\ncommands = []\nterms = \"The user's own data.\"\nfrom = \"the user\"\n\n",
        q(name),
        q(title),
        q(name),
        q(&format!("{n} images that a user described.")),
        q(a.licence.as_deref().unwrap_or("not given")),
    );
    let classes = spec.classes.iter().map(|c| q(c)).collect::<Vec<_>>().join(", ");
    let task = match spec.task {
        TableTask::Multiclass => "multiclass",
        TableTask::Multilabel => "multilabel",
    };
    let _ = write!(
        out,
        "[table]\ntask = \"{task}\"\nclasses = [{classes}]\nchannels = {}\nmean = [{}]\nstd = [{}]\ntarget = {}\ngroups = {}\n\n",
        spec.channels,
        list(&spec.mean),
        list(&spec.std),
        q(&spec.target),
        spec.groups,
    );
    let _ = write!(
        out,
        "[[label_file]]\npath = \"{TABLE}\"\nforms_unknown = \"the list that `medft data lock` writes holds its hash\"\n"
    );
    for (k, part) in PARTS.iter().enumerate() {
        let of = || found.rows.iter().filter(|r| r.part == Some(k));
        let pair = |c: &String| format!("[{}, {}]", q(c), of().filter(|r| r.labels.contains(c)).count());
        let classes = spec.classes.iter().map(pair).collect::<Vec<_>>().join(", ");
        let _ = write!(
            out,
            "\n[[counts]]\nsplit = \"{part}\"\nimages = {}\nclasses = [{classes}]\nfrom = \"counted by `medft data add`\"\n",
            of().count()
        );
    }
    Ok(out)
}
