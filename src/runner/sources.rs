//! What a study is compared with: its sets of published values, and which of the values can have a verdict.

use super::Context;
use crate::data::registry;
use crate::study::{AuthorsCode, BackboneNote, Paper, Protocol, Published, PublishedValue, Scope, SplitRule, Study};
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};

/// The published values of a study's `[report] published`.
pub(crate) struct Sources {
    pub sets: Vec<Published>,
    /// What is known of the authors' code for each backbone, by any set; a set's own note comes first.
    notes: BTreeMap<String, BackboneNote>,
    /// The protocols of the sets' own recipes, by set and side of the images.
    recipes: BTreeMap<(String, u32), Protocol>,
}

impl Sources {
    /// # Errors
    /// Where a set cannot be read.
    pub(crate) fn load(c: &Context, study: &Study) -> Result<Self> {
        let load = |name: &str| c.known(|known| Published::load(name, &c.global.experiments_dir, known));
        let sets = study
            .report
            .published
            .iter()
            .map(|name| load(name))
            .collect::<Result<Vec<_>, _>>()?;
        let mut notes = BTreeMap::new();
        if sets.iter().any(|s| s.comparable) {
            // A reader's own copy of the tables is of the same paper, and says nothing of its code.
            for paper in Paper::all(&c.global.experiments_dir).iter().filter(|p| p.published) {
                notes.extend(load(&paper.key)?.backbones);
            }
            let own = sets.iter().filter(|s| s.comparable);
            notes.extend(own.flat_map(|s| s.backbones.clone()));
        }
        let mut recipes = BTreeMap::new();
        for set in &sets {
            for (side, name) in &set.recipes {
                recipes.insert((set.name.clone(), *side), c.read_study(name)?.protocol);
            }
        }
        Ok(Self { sets, notes, recipes })
    }

    /// What is known of a backbone of a set.
    pub(crate) fn note<'a>(&'a self, set: &'a Published, backbone: &str) -> Option<&'a BackboneNote> {
        set.backbones.get(backbone).or_else(|| self.notes.get(backbone))
    }

    /// Backbones that the authors have no running code for.
    pub(crate) fn without_code(&self) -> Vec<String> {
        let absent = self.notes.iter().filter(|(_, n)| n.code != AuthorsCode::Runs);
        absent.map(|(b, _)| b.clone()).collect()
    }

    /// Why a published value is context beside the table of `dataset` under `protocol`; `None` where it may be reproduced.
    pub(crate) fn no_verdict(
        &self,
        set: &Published,
        value: &PublishedValue,
        study: &Study,
        (dataset, protocol): (&str, &Protocol),
    ) -> Option<String> {
        let note = value.backbone.as_ref().and_then(|b| self.note(set, b));
        match note.map(|n| n.code) {
            Some(AuthorsCode::Absent) => {
                return Some("the authors' repository has no code for this backbone".to_owned());
            }
            Some(AuthorsCode::Broken) => return Some("the authors' code for this backbone does not run".to_owned()),
            Some(AuthorsCode::Runs) | None => {}
        }
        self.other_experiment(set, value, study, (dataset, protocol))
    }

    /// Why no value of a table can be held against a published one: another split, other images or labels.
    pub(crate) fn other_experiment(
        &self,
        set: &Published,
        value: &PublishedValue,
        study: &Study,
        (dataset, protocol): (&str, &Protocol),
    ) -> Option<String> {
        let split = SplitRule::name(dataset, protocol);
        if split != "authors" {
            return Some(format!(
                "the published value is of the authors' split, ours of the {split} one"
            ));
        }
        let of = |side: u32| self.recipes.get(&(set.name.clone(), side));
        let authors = value.input_px.and_then(of).or_else(|| of(0));
        if authors.is_none() && !set.recipes.is_empty() {
            let side = value.input_px.map_or_else(|| "unstated".to_owned(), |n| n.to_string());
            return Some(format!(
                "the published value is of images of {side} pixels, which no study here runs"
            ));
        }
        let authors = authors.cloned().unwrap_or_else(Protocol::faithful);
        // A demo shows what a comparison looks like, on images that are small on purpose.
        let other = || other_images(dataset, &authors, protocol);
        (!study.report.demo).then(other).flatten()
    }

    /// The backbones of `study` that have a published value on a data set which can have a verdict there.
    pub(crate) fn judged(&self, study: &Study, dataset: &str) -> BTreeSet<&str> {
        let here = |v: &&PublishedValue| v.dataset == dataset;
        let tables = || study.tables().into_iter().filter(|t| t.0 == dataset);
        let comparable = self.sets.iter().filter(|s| s.comparable);
        comparable
            .flat_map(|set| set.values.iter().filter(here).map(move |v| (set, v)))
            .filter(|(_, v)| registry::find(dataset).is_ok_and(|s| s.info(&study.protocol).target == v.metric))
            .filter_map(|(set, v)| Some((set, v, v.backbone.as_deref()?)))
            .filter(|(_, _, b)| study.backbones.iter().any(|x| x == b))
            .filter(|(set, v, _)| tables().any(|t| self.no_verdict(set, v, study, (t.0, &t.1)).is_none()))
            .map(|(_, _, b)| b)
            .collect()
    }
}

/// The first switch by which ours are other images, or other labels of them, than the authors'.
fn other_images(dataset: &str, authors: &Protocol, protocol: &Protocol) -> Option<String> {
    // The order in which Pillow resizes is that of its version, which the authors do not state.
    const UNSTATED: [&str; 1] = ["resize_order"];
    let switches = Protocol::switches().into_iter();
    let mut images = switches.filter(|s| s.scope == Scope::Images && !s.by_split_rule && !UNSTATED.contains(&s.field));
    let other = images.find(|s| concerns(s.field, dataset) && protocol.get(s.field) != authors.get(s.field))?;
    let value = |p: &Protocol| p.get(other.field).to_string().replace('"', "");
    Some(format!(
        "the published value is of `{}` {}, ours of {}",
        other.field,
        value(authors),
        value(protocol)
    ))
}

/// Whether a switch says anything of a data set: one that begins with the name of a set speaks of that alone.
fn concerns(field: &str, dataset: &str) -> bool {
    let prefix = field.split('_').next().unwrap_or(field);
    let named = registry::SETS.names().iter().any(|s| s.starts_with(prefix));
    !named || dataset.starts_with(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_tasks_shares_and_sizes_are_named_where_they_matter() {
        let changed = |f: fn(&mut Protocol)| {
            let mut p = Protocol::faithful();
            f(&mut p);
            p
        };
        let other = |set: &str, p: &Protocol| other_images(set, &Protocol::faithful(), p);
        let task = changed(|p| p.ddsm_task = crate::spec::protocol::DdsmTask::ThreeClass);
        assert!(other("ddsm", &task).unwrap().contains("ddsm_task"));
        assert_eq!(other("aptos2019", &task), None);
        let share = changed(|p| p.train_fraction = 0.25);
        let said = other("chexpert", &share).unwrap();
        assert_eq!(said, "the published value is of `train_fraction` 1.0, ours of 0.25");
        let csv = changed(|p| p.aptos_csv = crate::spec::protocol::AptosCsv::TrainFull);
        assert!(other("aptos2019", &csv).is_some() && other("isic2019", &csv).is_none());
        assert!(other("isic2019", &changed(|p| p.crop = 64)).is_some());
        assert_eq!(other("isic2019", &changed(|p| p.lr = 1e-3)), None);
        assert_eq!(other("isic2019", &Protocol::faithful()), None);
    }
}
