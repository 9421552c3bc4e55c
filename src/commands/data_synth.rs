//! `medft data synth`: writes phantom data sets in the real layouts.

use crate::cli::exit::OK;
use crate::data::registry;
use crate::error::BadInput;
use crate::manifest::{DataKind, SetState, VerifyMode, lock_phantom};
use crate::runner::Context;
use crate::runner::inventory::verify;
use crate::study::Protocol;
use crate::{outln, print};
use anyhow::Result;
use serde_json::json;

/// Refuses a folder with other content, so that no file is mixed with older ones.
pub(super) fn run(c: &Context, sets: &[String], images: Option<usize>, lists: Option<&std::path::Path>) -> Result<u8> {
    let dir = c.global.data_dir.join("phantom");
    let names: Vec<&str> = if sets.is_empty() {
        registry::of_paper().collect()
    } else {
        sets.iter().map(String::as_str).collect()
    };
    let mut lines = Vec::new();
    for name in names {
        let source = registry::find(name)?;
        let folder = dir.join(source.info(&Protocol::faithful()).folder);
        if folder.exists() && !registry::shares_folder(source) {
            let here = verify(c, name, DataKind::Phantom, &dir, VerifyMode::SinceLock)?;
            if here.state == SetState::Verified && images.is_none() {
                if !c.global.json {
                    outln!("{name}: already there and verified, {}", folder.display())?;
                }
                lines.push(json!({ "set": name, "folder": folder, "state": "already-here", "list": null }));
                continue;
            }
            return Err(BadInput::new(
                folder.display(),
                "no folder, so that no file is mixed with older ones",
                "one with other content",
                "Remove it, then run the same command again.",
            )
            .into());
        }
        source.synth(&folder, images.unwrap_or_else(|| source.phantom_images()))?;
        let list = match lists {
            Some(lists) => Some(lock_phantom(c.catalogue, name, &dir, lists)?.list),
            None => None,
        };
        if !c.global.json {
            outln!("{name}: {}", folder.display())?;
            if let Some(list) = &list {
                outln!("{name}: list {}", list.display())?;
            }
        }
        let (folder, list) = (folder.display().to_string(), list.map(|l| l.display().to_string()));
        lines.push(json!({ "set": name, "folder": folder, "state": "written", "list": list }));
    }
    if c.global.json {
        print::json(&lines)?;
    }
    Ok(OK)
}
