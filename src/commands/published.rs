//! `medft published`: an empty table to fill in, what is wrong with a filled one, which sets there are.

use crate::cli::exit::{BROKEN, OK};
use crate::cli::{PublishedVerb, StudyArgs};
use crate::data::registry;
use crate::runner::Context;
use crate::study::{Published, Study};
use crate::text;
use crate::{outln, print};
use anyhow::Result;
use serde_json::json;
use std::path::Path;

pub(super) fn run(c: &Context, verb: PublishedVerb) -> Result<u8> {
    match verb {
        PublishedVerb::List => list(c),
        PublishedVerb::Template { study } => template(c, &study),
        PublishedVerb::Check { file } => check(c, &file),
    }
}

fn list(c: &Context) -> Result<u8> {
    let names = Published::names(&c.global.experiments_dir);
    let mut broken = false;
    let (mut rows, mut lines) = (Vec::new(), Vec::new());
    for name in names {
        let (values, regimes, source) = match c.known(|k| Published::load(&name, &c.global.experiments_dir, k)) {
            Ok(set) => {
                let whole = set.values.iter().filter(|v| v.freeze.is_some() && v.head.is_some());
                let source = if set.comparable {
                    set.origin()
                } else {
                    format!("{} (context)", set.origin())
                };
                (Some(set.values.len()), Some(whole.count()), source)
            }
            Err(e) => {
                broken = true;
                (None, None, e.to_string())
            }
        };
        let number = |n: Option<usize>| n.map_or_else(|| "–".to_owned(), |n| n.to_string());
        lines.push(json!({"name": name, "values": values, "with_regime": regimes, "source": source}));
        let one_line = source.split_whitespace().collect::<Vec<_>>().join(" ");
        rows.push(vec![name, number(values), number(regimes), one_line]);
    }
    match c.global.json {
        true => print::json(&lines)?,
        false => outln!("{}", text::table(&["set", "values", "with regime", "source"], &rows))?,
    }
    Ok(if broken { BROKEN } else { OK })
}

fn template(c: &Context, name: &str) -> Result<u8> {
    let args = StudyArgs {
        study: name.to_owned(),
        only: Vec::new(),
    };
    let (Study { name, .. }, runs) = c.study(&args)?;
    for r in &runs {
        registry::find(&r.dataset)?;
    }
    let target = |r: &crate::study::RunSpec| {
        let info = registry::find(&r.dataset).map(|s| s.info(&r.protocol).target);
        info.unwrap_or_default().to_owned()
    };
    let csv = Published::template(&name, &runs, target);
    match c.global.json {
        true => print::json(&json!({ "study": name, "csv": csv }))?,
        false => print::write(format_args!("{csv}"))?,
    }
    Ok(OK)
}

fn check(c: &Context, file: &Path) -> Result<u8> {
    let checked = c.known(|known| Published::check(file, known))?;
    let values = &checked.set.values;
    let with_regime = values.iter().filter(|v| v.freeze.is_some() && v.head.is_some()).count();
    if c.global.json {
        let wrong: Vec<_> = checked
            .wrong
            .iter()
            .map(|e| json!({"at": e.at, "expected": e.expected, "found": e.found, "remedy": e.remedy}))
            .collect();
        let all = json!({"values": values.len(), "with_regime": with_regime, "empty": checked.empty, "wrong": wrong});
        print::json(&all)?;
    } else {
        for e in &checked.wrong {
            outln!("{e}")?;
        }
        outln!(
            "{}: {} values, {with_regime} of them with a regime; {} rows without a value; {} mistakes",
            file.display(),
            values.len(),
            checked.empty,
            checked.wrong.len()
        )?;
    }
    Ok(if checked.wrong.is_empty() { OK } else { BROKEN })
}
