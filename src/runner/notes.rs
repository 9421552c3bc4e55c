//! What the manifests say of the data and the weights of a study, for model cards.

use super::Context;
use crate::results::{Listing, RunRecord};
use crate::study::{Scale, Study};
use anyhow::Result;
use std::collections::BTreeMap;

/// Sentences on origin, licence and terms, by the name of a data set and by the SHA-256 of a weights file.
pub(crate) fn all(c: &Context, study: &Study, listing: &Listing) -> Result<BTreeMap<String, Vec<String>>> {
    let mut notes = BTreeMap::new();
    let hashes = |r: &RunRecord| r.spec.weights.clone().into_iter();
    if study.scale == Scale::Tiny {
        let images = "Phantom images drawn by medft: no patient, and no licence of a third party.";
        notes.extend(study.datasets.iter().map(|d| (d.clone(), vec![images.to_owned()])));
        let weights = "Drawn from a seed by medft; nothing is pretrained.";
        notes.extend(
            listing
                .done
                .iter()
                .flat_map(hashes)
                .map(|(_, h)| (h, vec![weights.to_owned()])),
        );
        return Ok(notes);
    }
    for set in &study.datasets {
        let m = c.catalogue.set(set)?;
        let images = m.licence.images.clone().or_else(|| {
            let why = m.licence.images_unknown.as_ref()?;
            Some(format!("not known ({why})"))
        });
        let mut all = vec![
            m.what.clone(),
            format!(
                "Licence of the images: {}.",
                images.unwrap_or_else(|| "not stated".into())
            ),
            format!("Licence of the labels: {} ({}).", m.licence.labels, m.licence.from),
            format!("Terms: {}", m.access.terms),
            format!("To cite: {}.", m.citation.text.trim_end_matches('.')),
        ];
        all.extend(m.cautions.iter().map(|x| format!("Caution: {}", x.what)));
        notes.insert(set.clone(), all);
    }
    for (role, hash) in listing.done.iter().flat_map(hashes) {
        if notes.contains_key(&hash) {
            continue;
        }
        let backbones = c.catalogue.backbones();
        let pins = backbones.iter().flat_map(|b| c.catalogue.pins(b).unwrap_or_default());
        let pin = pins.into_iter().find(|p| p.sha256.as_deref() == Some(hash.as_str()));
        let known = pin.map_or_else(
            || {
                vec![format!(
                    "No pin has this hash: the file ({role}) is not proven to be a published one."
                )]
            },
            |p| {
                let licence = p.licence.clone().or_else(|| {
                    let why = p.licence_unknown.as_ref()?;
                    Some(format!("not known ({why})"))
                });
                let repo = p.repo.as_ref().map_or_else(String::new, |r| format!(" of {r}"));
                let mut all = vec![
                    format!("{}{repo}.", p.file),
                    format!("Licence: {}.", licence.unwrap_or_else(|| "not stated".into())),
                ];
                all.extend(p.licence_conflict.clone());
                all
            },
        );
        notes.insert(hash, known);
    }
    Ok(notes)
}
