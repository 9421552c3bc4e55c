//! `medft papers`: which papers there are, with their studies and what they state.

use crate::cli::exit::{BROKEN, OK};
use crate::runner::Context;
use crate::study::{Claims, Paper, Published};
use crate::{outln, print, text};
use anyhow::Result;
use serde_json::json;

/// Lists them; a paper whose files cannot be read is listed with what is wrong with them, and the exit code says so.
pub(super) fn run(c: &Context) -> Result<u8> {
    let dir = &c.global.experiments_dir;
    let mut broken = false;
    let (mut rows, mut lines) = (Vec::new(), Vec::new());
    for paper in Paper::all(dir) {
        let set = paper
            .published
            .then(|| c.known(|k| Published::load(&paper.key, dir, k)));
        let claims = Claims::of(std::slice::from_ref(&paper.key), dir);
        let wrong = [set.as_ref().and_then(|s| s.as_ref().err()), claims.as_ref().err()];
        let wrong: Vec<String> = wrong.into_iter().flatten().map(ToString::to_string).collect();
        broken |= !wrong.is_empty();
        let set = set.and_then(Result::ok);
        let values = set.as_ref().map(|s| s.values.len());
        let claims = claims.ok().filter(|_| paper.claims).map(|c| c.claims.len());
        let title = set.as_ref().map_or_else(|| paper.key.clone(), |s| s.title.clone());
        let said = match wrong.is_empty() {
            true => title.clone(),
            false => wrong.join(" ").split_whitespace().collect::<Vec<_>>().join(" "),
        };
        let number = |n: Option<usize>| n.map_or_else(|| "–".to_owned(), |n| n.to_string());
        let studies = match paper.studies.is_empty() {
            true => "–".to_owned(),
            false => paper.studies.join(", "),
        };
        rows.push(vec![paper.key.clone(), studies, number(values), number(claims), said]);
        lines.push(json!({
            "key": paper.key, "title": title, "studies": paper.studies, "values": values, "claims": claims,
            "margins": paper.tolerance, "comparable": set.as_ref().map(|s| s.comparable), "wrong": wrong,
        }));
    }
    match c.global.json {
        true => print::json(&lines)?,
        false => outln!(
            "{}",
            text::table(&["paper", "studies", "values", "claims", "title"], &rows)
        )?,
    }
    Ok(if broken { BROKEN } else { OK })
}
