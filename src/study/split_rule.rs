//! Split rules as data: one name for all data sets, and what it means for each.
//!
//! * `authors`: the split of the published code, quirks included.
//! * `grouped`: no lesion, patient or case in two parts, classes in proportion as far as groups allow. ISIC2019 by lesion,
//!   CheXpert by patient, DDSM by case. APTOS2019 and MedMNIST publish no groups: there only images that are the same twice
//!   are kept together.
//! * `official`: the parts that the data set's publisher made. CheXpert is trained on `train.csv` (cut at patient borders
//!   into train and val) and tested on `valid.csv`; MedMNIST's parts are the publisher's under the other rules too, but for duplicates.
//!
//! A rule is a set of switches of [`Protocol`] and no switch itself, so run ids know nothing of it: the same images cut the
//! same way are the same run, by whichever name they were asked for.

use crate::data::registry::SETS;
use crate::spec::protocol::Protocol;
use crate::spec::{RunSpec, SplitRule};

impl SplitRule {
    /// Sets the switches that this rule decides for `dataset`; others stay. Says whether the data set has such a split; a set that
    /// is not known has every split and no switch.
    pub fn set(self, dataset: &str, p: &mut Protocol) -> bool {
        SETS.get(dataset).is_none_or(|s| s.cut(self, p))
    }

    /// Whether the rules cut `dataset` by this switch.
    pub fn decides(dataset: &str, field: &str) -> bool {
        let value = |rule: &Self| {
            let mut p = Protocol::faithful();
            rule.set(dataset, &mut p).then(|| p.get(field))
        };
        let mut values = Self::ALL.iter().filter_map(value);
        values.next().is_some_and(|first| values.any(|v| v != first))
    }

    /// The rules under which `dataset` is cut in different ways, in order of declaration.
    pub fn of_set(dataset: &str) -> Vec<Self> {
        let mut seen: Vec<Protocol> = Vec::new();
        let differs = |rule: &&Self| {
            let mut p = Protocol::faithful();
            let new = rule.set(dataset, &mut p) && !seen.contains(&p);
            seen.push(p);
            new
        };
        Self::ALL.iter().filter(differs).copied().collect()
    }

    /// The rule by which `p` cuts `dataset`; `None` where its switches are of no rule (CheXpert's label slices with
    /// `valid.csv`).
    pub fn of(dataset: &str, p: &Protocol) -> Option<Self> {
        let same = |rule: &&Self| {
            let mut q = p.clone();
            rule.set(dataset, &mut q) && q == *p
        };
        Self::ALL.iter().find(same).copied()
    }

    /// As [`SplitRule::of`], as a name: `mixed` where it is none.
    pub fn name(dataset: &str, p: &Protocol) -> &'static str {
        Self::of(dataset, p).map_or("mixed", Self::as_str)
    }
}

impl RunSpec {
    /// How the data set is cut: a [`SplitRule`], or `mixed`.
    pub fn split(&self) -> &'static str {
        SplitRule::name(&self.dataset, &self.protocol)
    }
}

/// One line for people: `ddsm dinov2-b frozen linear seed 0 (faithful)`; a split that is not the preset's is named.
impl std::fmt::Display for RunSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            dataset,
            backbone,
            freeze,
            head,
            seed,
            protocol,
            ..
        } = self;
        write!(
            f,
            "{dataset} {backbone} {freeze} {head} seed {seed} ({})",
            protocol.preset
        )?;
        match self.split() {
            own if own == SplitRule::name(dataset, &protocol.preset.protocol()) => Ok(()),
            other => write!(f, ", {other} split"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::protocol::ChexpertTest;
    use std::collections::BTreeSet;

    #[test]
    fn the_presets_are_the_rules_they_are_said_to_be() {
        for set in ["ddsm", "isic2019", "chexpert", "aptos2019", "breastmnist"] {
            assert_eq!(SplitRule::name(set, &Protocol::faithful()), "authors", "{set}");
            assert_eq!(SplitRule::name(set, &Protocol::corrected()), "grouped", "{set}");
        }
        let mixed = Protocol {
            chexpert_test: ChexpertTest::OfficialValid,
            ..Protocol::faithful()
        };
        assert_eq!(SplitRule::name("chexpert", &mixed), "mixed");
        assert_eq!(
            SplitRule::name("ddsm", &mixed),
            "authors",
            "a switch of another set is no matter"
        );
    }

    #[test]
    fn a_set_has_the_rules_that_cut_it_differently() {
        use SplitRule::{Authors, Grouped, Official};
        assert_eq!(SplitRule::of_set("ddsm"), [Authors, Grouped]);
        assert_eq!(SplitRule::of_set("isic2019"), [Authors, Grouped]);
        assert_eq!(SplitRule::of_set("chexpert"), [Authors, Grouped, Official]);
        assert_eq!(SplitRule::of_set("aptos2019"), [Authors, Grouped]);
        assert_eq!(SplitRule::of_set("breastmnist"), [Authors, Grouped]);
    }

    /// The entries of the switches say which of them rules decide, the data sets what the rules are: neither without the other.
    #[test]
    fn rules_decide_the_switches_that_say_so() {
        let mut decided = BTreeSet::new();
        for set in SETS.built_in() {
            for rule in SplitRule::ALL {
                for preset in [Protocol::faithful(), Protocol::corrected()] {
                    let mut p = preset.clone();
                    if rule.set(set.name(), &mut p) {
                        decided.extend(p.diff(&preset).into_iter().map(|d| d.0));
                    }
                }
            }
        }
        let said = Protocol::switches().into_iter().filter(|s| s.by_split_rule);
        assert_eq!(decided, said.map(|s| s.field).collect());
    }
}
