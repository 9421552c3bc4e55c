//! `medft doctor`: what medft finds on this machine.

use crate::cli::exit::{INCOMPLETE, OK};
use crate::runner::{Context, doctor};
use crate::{outln, print, text};
use anyhow::Result;

pub(super) fn run(c: &Context) -> Result<u8> {
    let (rows, sound) = doctor::look(c)?;
    if c.global.json {
        let map: serde_json::Map<String, serde_json::Value> =
            rows.into_iter().map(|(k, v)| (k.to_owned(), v.into())).collect();
        print::json(&map)?;
    } else {
        let rows: Vec<Vec<String>> = rows.into_iter().map(|(k, v)| vec![k.to_owned(), v]).collect();
        outln!("{}", text::table(&["what", "found"], &rows))?;
    }
    Ok(if sound { OK } else { INCOMPLETE })
}
