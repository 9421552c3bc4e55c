//! `medft data verify`: holds the files of data sets against their lists.

use crate::cli::ImageArgs;
use crate::cli::exit::{BROKEN, INCOMPLETE, OK};
use crate::data::presence::Depth;
use crate::data::registry;
use crate::manifest::{DataKind, SetReport, SetState, VerifyMode};
use crate::runner::Context;
use crate::runner::acquire::{protocol_of, read_labels_in};
use crate::runner::inventory::{hold_images, verify};
use crate::{outln, print};
use anyhow::Result;

/// Exit code 2 where a file is not the one it should be, 1 where one is missing.
pub(super) fn run(c: &Context, sets: &[String], mode: VerifyMode, phantom: bool, images: ImageArgs) -> Result<u8> {
    let (kind, dir) = if phantom {
        (DataKind::Phantom, c.global.data_dir.join("phantom"))
    } else {
        (DataKind::Real, c.global.data_dir.clone())
    };
    let all = sets.is_empty();
    let names: Vec<String> = match (all, phantom) {
        (false, _) => sets.to_vec(),
        (true, true) => registry::of_paper().map(str::to_owned).collect(),
        (true, false) => registry::names().iter().map(|s| (*s).to_owned()).collect(),
    };
    let mut reports = Vec::new();
    for set in &names {
        // An unknown name ends the command; what is wrong with a set does not end the look at the others.
        let m = c.catalogue.set(set)?;
        let look = || -> Result<SetReport> {
            let mut r = verify(c, set, kind, &dir, mode)?;
            if r.state == SetState::Verified && kind == DataKind::Real {
                read_labels_in(c, set, &r.folder)?;
                let p = protocol_of(set, &r.folder)?;
                hold_images(c, &mut r, &p, depth(images))?;
            }
            Ok(r)
        };
        let r = look().unwrap_or_else(|e| SetReport::unusable(set, &m.title, kind, dir.join(&m.folder), &e));
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
    let damaged = |r: &SetReport| r.images.as_ref().is_some_and(|i| !i.remarks.is_empty());
    Ok(
        if reports
            .iter()
            .any(|r| r.state == SetState::Differs || images.strict && damaged(r))
        {
            BROKEN
        } else if !reports.is_empty() && reports.iter().all(|r| r.state == SetState::Verified) {
            OK
        } else {
            INCOMPLETE
        },
    )
}

/// How far the images are looked at.
pub(super) fn depth(images: ImageArgs) -> Depth {
    match images.decode {
        true => Depth::Decode,
        false => Depth::Heads,
    }
}
