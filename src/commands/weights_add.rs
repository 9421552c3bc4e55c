//! `medft weights add`: a checkpoint of the user's own becomes a backbone of its own name.

use crate::cli::WeightsAddArgs;
use crate::cli::exit::OK;
use crate::runner::{Context, own_weights};
use crate::{outln, print};
use anyhow::Result;

pub(super) fn run(c: &Context, a: &WeightsAddArgs) -> Result<u8> {
    let added = own_weights::add(c, a)?;
    if c.global.json {
        print::json(&added)?;
        return Ok(OK);
    }
    let pin = &added.pin;
    let licence = match (&pin.licence, &pin.licence_unknown) {
        (Some(licence), _) => licence.clone(),
        (None, why) => format!("unknown: {}", why.as_deref().unwrap_or_default()),
    };
    outln!(
        "{}: {} of {}, layout {}, {} tensors of {} values each used once",
        pin.name,
        own_weights::size_name(pin),
        pin.like.as_deref().unwrap_or_default(),
        pin.layout,
        added.tensors,
        added.values
    )?;
    outln!("  title      {}", pin.title.as_deref().unwrap_or_default())?;
    outln!("  licence    {licence}")?;
    outln!("  sha256     {}", pin.sha256.as_deref().unwrap_or_default())?;
    outln!("  file       {}", added.path.display())?;
    outln!("  manifest   {}", added.manifest.display())?;
    outln!("  in studies backbones = [\"{}\"]", pin.name)?;
    Ok(OK)
}
