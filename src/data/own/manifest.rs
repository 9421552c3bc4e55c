//! The texts of a new set: its table, and the manifest that describes it.

use super::{Request, Understood, check};
use crate::data::table::{PARTS, TABLE, TableTask, label_column};
use anyhow::Result;
use serde_json::json;
use std::fmt::Write as _;

/// The table as [`crate::data::table::TableSource`] reads it.
///
/// # Errors
/// Only where memory cannot be written to.
pub fn table(u: &Understood) -> Result<String> {
    let several = u.spec.task == TableTask::Multilabel;
    let mut out = ::csv::Writer::from_writer(Vec::new());
    let mut header = vec!["file".to_owned()];
    match several {
        false => header.push("label".to_owned()),
        true => header.extend(u.spec.classes.iter().map(|c| label_column(c))),
    }
    header.push("split".to_owned());
    if u.spec.groups {
        header.push("group".to_owned());
    }
    out.write_record(&header)?;
    for i in &u.listing.images {
        let mut row = vec![i.name.as_str()];
        match several {
            false => row.extend(i.labels.first().map(String::as_str)),
            true => row.extend(
                u.spec
                    .classes
                    .iter()
                    .map(|c| if i.labels.contains(c) { "1" } else { "0" }),
            ),
        }
        row.push(i.part.map_or("", |p| PARTS[p]));
        if u.spec.groups {
            row.push(i.group.as_deref().unwrap_or(""));
        }
        out.write_record(&row)?;
    }
    Ok(String::from_utf8(out.into_inner()?)?)
}

/// The manifest. JSON's strings are TOML's basic strings.
pub fn text(r: &Request, u: &Understood) -> String {
    let q = |s: &str| json!(s).to_string();
    let list = |v: &[f32]| v.iter().map(|x| format!("{x:?}")).collect::<Vec<_>>().join(", ");
    let title = r.title.as_deref().unwrap_or(&r.name);
    let licence = match &r.licence {
        Some(l) => format!("images = {}", q(l)),
        None => "images_unknown = \"not given to `medft data add`\"".into(),
    };
    let s = &u.spec;
    let classes = s.classes.iter().map(|c| q(c)).collect::<Vec<_>>().join(", ");
    let task = json!(s.task);
    let mut out = format!(
        "# Written by `medft data add`; docs/OWN-DATA.md says what the keys mean.\n\
         schema = 1\nset = {}\ntitle = {}\nfolder = {}\nwhat = {}\nlayout = \"table\"\n\n\
         [source]\npage = \"\"\nfrom = \"the user\"\n\n[licence]\n{licence}\nlabels = {}\nfrom = \"the user\"\n\n\
         [citation]\ntext = \"none given\"\nfrom = \"the user\"\n\n\
         [access]\nkind = \"open\"\npage = \"\"\ncommands = []\nterms = \"The user's own data.\"\nfrom = \"the user\"\n\n\
         # Mean and std are those of the training images' pixels, in 0..1.\n\
         [table]\ntask = {task}\nclasses = [{classes}]\nchannels = {}\nmean = [{}]\nstd = [{}]\ntarget = {}\ngroups = {}\nsplit = {}\n\n\
         [[label_file]]\npath = \"{TABLE}\"\nforms_unknown = \"the list that `medft data lock` writes holds its hash\"\n",
        q(&r.name),
        q(title),
        q(&r.name),
        q(&format!("{} images that a user described.", u.images())),
        q(r.licence.as_deref().unwrap_or("not given")),
        s.channels,
        list(&s.mean),
        list(&s.std),
        q(&s.target),
        s.groups,
        q(&s.split),
    );
    let counts = u.counts();
    let all = counts.last().map(|c| c.1).unwrap_or_default();
    for (k, part) in PARTS.iter().enumerate() {
        let pair = |(c, n): &(String, [usize; 3])| format!("[{}, {}]", q(c), n[k]);
        let of_classes = counts[..counts.len() - 1]
            .iter()
            .map(pair)
            .collect::<Vec<_>>()
            .join(", ");
        let _ = write!(
            out,
            "\n[[counts]]\nsplit = \"{part}\"\nimages = {}\nclasses = [{of_classes}]\nfrom = \"counted by `medft data add`\"\n",
            all[k]
        );
    }
    let deep = u
        .seen
        .iter()
        .flatten()
        .filter(|s| s.stored.as_ref().is_some_and(|s| s.deep))
        .count();
    if deep > 0 {
        let what = q(&check::deep_note(deep));
        let _ = write!(
            out,
            "\n[[caution]]\nkind = \"16-bit\"\nwhat = {what}\nfrom = \"counted by `medft data add`\"\n"
        );
    }
    out
}
