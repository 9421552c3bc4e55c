//! `medft data verify`: holds the files of data sets against their lists.

use crate::cli::exit::{BROKEN, INCOMPLETE, OK};
use crate::data::registry;
use crate::manifest::{Kind, Mode, SetState};
use crate::runner::inventory::verify;
use crate::runner::{Context, acquire};
use crate::{outln, print};
use anyhow::Result;

/// Exit code 2 where a file is not the one it should be, 1 where one is missing.
pub(super) fn run(c: &Context, sets: &[String], mode: Mode, phantom: bool) -> Result<u8> {
    let (kind, dir) = if phantom {
        (Kind::Phantom, c.global.data_dir.join("phantom"))
    } else {
        (Kind::Real, c.global.data_dir.clone())
    };
    let all = sets.is_empty();
    let names: Vec<String> = match (all, phantom) {
        (false, _) => sets.to_vec(),
        (true, true) => registry::of_paper().map(str::to_owned).collect(),
        (true, false) => registry::names().iter().map(|s| (*s).to_owned()).collect(),
    };
    let mut reports = Vec::new();
    for set in &names {
        let r = verify(c, set, kind, &dir, mode)?;
        if r.state == SetState::Verified && kind == Kind::Real {
            acquire::read_labels(c, set)?;
        }
        if all && !phantom && r.state == SetState::Missing {
            continue;
        }
        if !c.global.json {
            outln!("{}", r.text(20))?;
            if !r.remedy.is_empty() {
                outln!("  {}", r.remedy.replace('\n', "\n  "))?;
            }
        }
        reports.push(r);
    }
    if c.global.json {
        print::json(&reports)?;
    } else if reports.is_empty() {
        outln!("no data set in {}", dir.display())?;
    }
    Ok(if reports.iter().any(|r| r.state == SetState::Differs) {
        BROKEN
    } else if !reports.is_empty() && reports.iter().all(|r| r.state == SetState::Verified) {
        OK
    } else {
        INCOMPLETE
    })
}
