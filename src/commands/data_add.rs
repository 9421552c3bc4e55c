//! `medft data add`: a user's own images become a data set like any other.

use crate::cli::AddArgs;
use crate::cli::exit::OK;
use crate::data::own::{Request, Understood};
use crate::error::BadInput;
use crate::runner::Context;
use crate::runner::add_data::{self, Added};
use crate::{outln, print, tell};
use anyhow::Result;
use indicatif::HumanBytes;

/// Problems and notes that are printed; `--json` has all.
const SHOWN: usize = 200;

/// Shows what was understood; writes only where nothing is wrong.
pub(super) fn run(c: &Context, a: AddArgs) -> Result<u8> {
    let dry = a.dry_run;
    let r = request(a);
    let u = add_data::read(c, &r)?;
    let wrong = u.problems().len();
    let added = match wrong == 0 && !dry {
        true => Some(add_data::write(c, &r, &u)?),
        false => None,
    };
    match c.global.json {
        true => print::json(&add_data::json(&r, &u, added.as_ref()))?,
        false => show(&r, &u, added.as_ref())?,
    }
    if wrong == 0 {
        return Ok(OK);
    }
    let at = r.labels.as_ref().unwrap_or(&r.images).display();
    let found = format!("{wrong} problem{}, named above", if wrong == 1 { "" } else { "s" });
    let remedy = "Mend them and run the same command again; nothing was written.";
    Err(BadInput::new(at, "data that can be used as it is", found, remedy).into())
}

fn request(a: AddArgs) -> Request {
    Request {
        name: a.name,
        images: a.images,
        labels: a.labels,
        id: a.id,
        label: a.label,
        split: a.split,
        group: a.group,
        shares: a.split_rule,
        task: a.task,
        classes: a.classes,
        target: a.target,
        grey: a.grey,
        title: a.title,
        licence: a.licence,
    }
}

fn show(r: &Request, u: &Understood, added: Option<&Added>) -> Result<()> {
    outln!("{}", u.text())?;
    for note in u.notes().iter().take(SHOWN) {
        outln!("note       {note}")?;
    }
    u.problems().iter().take(SHOWN).for_each(|p| tell!("{p}"));
    for (n, what) in [(u.notes().len(), "notes"), (u.problems().len(), "problems")] {
        if n > SHOWN {
            tell!("… and {} more {what}; --json has all", n - SHOWN);
        }
    }
    let Some(d) = added else { return Ok(()) };
    if d.copied > 0 {
        outln!(
            "copied     {}, since the images are on another disk",
            HumanBytes(d.copied)
        )?;
    }
    outln!(
        "\n{}: {} and {}, root {}",
        r.name,
        d.folder.display(),
        d.manifest.display(),
        d.lock.root
    )?;
    outln!(
        "Next: `medft data audit {0}`, `medft new STUDY --dataset {0} --backbone dinov2-b`.",
        r.name
    )
}
