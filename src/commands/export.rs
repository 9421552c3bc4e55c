//! `medft export`: a trained model for timm, transformers or the original code.

use crate::cli::ExportArgs;
use crate::cli::exit::OK;
use crate::runner::trained::TrainedRun;
use crate::runner::{Context, export};
use crate::{outln, print};
use anyhow::Result;

pub(super) fn run(c: &Context, a: &ExportArgs) -> Result<u8> {
    let run = TrainedRun::find(c, &a.run, a.weights.as_deref())?;
    let files = export::write_folder(&run, &a.layout, &a.out, c.catalogue)?;
    if c.global.json {
        let files: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
        print::json(&files)?;
        return Ok(OK);
    }
    for file in files {
        outln!("{}", file.display())?;
    }
    Ok(OK)
}
