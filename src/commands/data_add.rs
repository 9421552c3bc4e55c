//! `medft data add`: a user's own images become a data set like any other.

use crate::cli::AddArgs;
use crate::cli::exit::OK;
use crate::data::own::{Request, Understood};
use crate::error::BadInput;
use crate::runner::Context;
use crate::runner::add_data::{self, Added};
use crate::{outln, print, tell, text};
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
        true => print::json(&json(&r, &u, added.as_ref()))?,
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
    let row = |(class, n): (String, [usize; 3])| {
        let all: usize = n.iter().sum();
        std::iter::once(class)
            .chain(n.map(|x| x.to_string()))
            .chain([all.to_string()])
            .collect()
    };
    let rows: Vec<Vec<String>> = u.counts().into_iter().map(row).collect();
    outln!("{}\n", text::table(&["class", "train", "val", "test", "all"], &rows))?;
    let s = &u.spec;
    let of = |v: &[f32]| v.iter().map(|x| format!("{x:.4}")).collect::<Vec<_>>().join(", ");
    outln!(
        "images     {}, {}",
        u.images(),
        if s.channels == 1 { "grey" } else { "colour" }
    )?;
    outln!(
        "task       {}, target {}",
        format!("{:?}", s.task).to_lowercase(),
        s.target
    )?;
    outln!("split      {}", s.split)?;
    outln!(
        "groups     {}",
        if u.groups == 0 {
            "none named".to_owned()
        } else {
            u.groups.to_string()
        }
    )?;
    outln!("train part mean {}; standard deviation {}", of(&s.mean), of(&s.std))?;
    for note in u.notes().iter().take(SHOWN) {
        outln!("note       {note}")?;
    }
    for p in u.problems().iter().take(SHOWN) {
        tell!("{p}");
    }
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

fn json(r: &Request, u: &Understood, added: Option<&Added>) -> serde_json::Value {
    serde_json::json!({
        "set": r.name, "table": u.spec, "images": u.images(), "groups": u.groups, "counts": u.counts(),
        "notes": u.notes(), "problems": u.problems(),
        "folder": added.map(|d| d.folder.display().to_string()),
        "manifest": added.map(|d| d.manifest.display().to_string()),
        "root": added.map(|d| d.lock.root.to_string()),
    })
}
