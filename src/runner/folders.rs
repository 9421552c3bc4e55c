//! Two folders of results side by side.

use super::Context;
use crate::error::BadInput;
use crate::report::folders::{Agreement, Folder, PairedCell, compare};
use crate::results::{Evidences, Predictions, RunRecord, Store, Truth, WhichWeights};
use crate::study::Tolerances;
use crate::tell;
use anyhow::Result;
use std::path::Path;

/// Two folders of runs, cell by cell.
pub struct Compared {
    pub cells: Vec<PairedCell>,
    /// Whether a record of either was not usable.
    pub broken: bool,
}

/// Pairs the runs of two folders, such as `results/paper`.
///
/// # Errors
/// [`BadInput`] where one is no folder; a table of tolerances that cannot be read.
pub fn compare_folders(c: &Context, a: &Path, b: &Path, replicates: usize) -> Result<Compared> {
    let (a, b) = (Side::read(a, replicates)?, Side::read(b, replicates)?);
    let tolerances = Tolerances::of(&[], &c.global.experiments_dir)?;
    let agree = |id: &str| {
        let which = a.runs.iter().find(|r| r.id() == id)?.metrics.headline;
        agreement(&a.store.predictions(id).ok()?, &b.store.predictions(id).ok()?, which)
    };
    Ok(Compared {
        cells: compare(&a.folder(), &b.folder(), &tolerances, agree),
        broken: a.broken || b.broken,
    })
}

/// One folder as read.
struct Side {
    store: Store,
    runs: Vec<RunRecord>,
    broken: bool,
}

impl Side {
    /// A folder of runs, such as `results/paper`. What cannot be used is said and left out.
    fn read(path: &Path, replicates: usize) -> Result<Self> {
        if !path.is_dir() {
            return Err(BadInput::new(
                path.display(),
                "a folder of results, such as results/paper",
                if path.exists() { "a file" } else { "nothing there" },
                "Name two folders of runs, or one study to compare with the published values.",
            )
            .into());
        }
        let store = Store::at(path);
        let mut listing = store.all()?;
        let (_, unusable) = Evidences::of(&store, &listing.done, replicates, None)?;
        for (name, why) in &listing.broken {
            tell!("warning: {}: {why}; it is left out", path.join(name).display());
        }
        for u in &unusable {
            tell!("warning: {}; the run is left out", u.why);
        }
        listing.done.retain(|r| unusable.iter().all(|u| u.id != r.id()));
        Ok(Self {
            store,
            broken: !listing.broken.is_empty() || !unusable.is_empty(),
            runs: listing.done,
        })
    }

    fn folder(&self) -> Folder<'_> {
        Folder { runs: &self.runs }
    }
}

/// Agreement image by image; `None` where the images are not the same.
fn agreement(a: &Predictions, b: &Predictions, which: WhichWeights) -> Option<Agreement> {
    if a.ids != b.ids || a.truth != b.truth || a.outputs != b.outputs {
        return None;
    }
    let pick = |p: &Predictions| match which {
        WhichWeights::Best => p.best.clone(),
        WhichWeights::Last => p.last.clone(),
    };
    let (x, y) = (pick(a), pick(b));
    let decide = |logits: &[f32]| -> Vec<u32> {
        let wide: Vec<f64> = logits.iter().map(|&l| f64::from(l)).collect();
        match a.truth {
            Truth::Classes(_) => crate::eval::argmax(&wide, a.outputs),
            Truth::Labels { .. } => wide.iter().map(|&l| u32::from(l > 0.0)).collect(),
        }
    };
    let (p, q) = (decide(&x), decide(&y));
    let same = p.iter().zip(&q).filter(|(p, q)| p == q).count();
    let largest = x
        .iter()
        .zip(&y)
        .map(|(x, y)| f64::from((x - y).abs()))
        .fold(0.0, f64::max);
    Some(Agreement {
        same: same as f64 / p.len() as f64,
        largest,
    })
}
