//! Split rules as data: one word for all data sets, and what it means for each.
//!
//! * `authors`: the split of the published code, quirks included.
//! * `grouped`: no lesion, patient or case in two parts, classes in proportion as far as groups allow. ISIC2019 by lesion,
//!   CheXpert by patient, DDSM by case. APTOS2019 and MedMNIST publish no groups: there only images that are the same twice
//!   are kept together.
//! * `official`: the parts that the data set's publisher made. CheXpert is trained on `train.csv` (cut at patient borders
//!   into train and val) and tested on `valid.csv`; MedMNIST's parts are the publisher's under the other rules too, but for duplicates.
//!
//! A rule is a set of switches of [`Protocol`] and no switch itself, so run ids know nothing of it: the same images cut the
//! same way are the same run, by whichever word they were asked for.

use super::protocol::{ChexpertSplit, ChexpertTest, DdsmSplit, Duplicates, IsicSplit, Protocol};
use serde::{Deserialize, Serialize};

/// How a data set is cut into train, val and test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplitRule {
    Authors,
    Grouped,
    Official,
}

/// The switches that a rule decides; a study sets either them or the rule.
pub const RULE_SWITCHES: [&str; 5] = [
    "isic_split",
    "chexpert_split",
    "chexpert_test",
    "ddsm_split",
    "duplicates",
];

/// Whether a data set publishes no patients, lesions or cases, so that its copies of one image are all that can be grouped.
pub fn names_no_groups(dataset: &str) -> bool {
    dataset == "aptos2019" || dataset.ends_with("mnist")
}

impl SplitRule {
    /// Every value, in order of declaration.
    pub const ALL: &[Self] = &[Self::Authors, Self::Grouped, Self::Official];

    /// The word used in studies and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authors => "authors",
            Self::Grouped => "grouped",
            Self::Official => "official",
        }
    }

    /// Sets the switches that this rule decides for `dataset`; others stay. Says whether the data set has such a split.
    pub fn set(self, dataset: &str, p: &mut Protocol) -> bool {
        match (dataset, self) {
            ("ddsm", Self::Authors) => p.ddsm_split = DdsmSplit::Lists,
            ("ddsm", Self::Grouped) => p.ddsm_split = DdsmSplit::ByCase,
            ("isic2019", Self::Authors) => p.isic_split = IsicSplit::ByImage,
            ("isic2019", Self::Grouped) => p.isic_split = IsicSplit::ByLesion,
            ("chexpert", rule) => {
                (p.chexpert_split, p.chexpert_test) = match rule {
                    Self::Authors => (ChexpertSplit::LabelSlices, ChexpertTest::TrainCsv),
                    Self::Grouped => (ChexpertSplit::PatientBorders, ChexpertTest::TrainCsv),
                    Self::Official => (ChexpertSplit::PatientBorders, ChexpertTest::OfficialValid),
                }
            }
            ("ddsm" | "isic2019" | "aptos2019", Self::Official) => return false,
            (set, Self::Grouped) if names_no_groups(set) => p.duplicates = Duplicates::Together,
            (set, _) if names_no_groups(set) => p.duplicates = Duplicates::Ignored,
            _ => {}
        }
        true
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

    /// As [`SplitRule::of`], in a word: `mixed` where it is none.
    pub fn word(dataset: &str, p: &Protocol) -> &'static str {
        Self::of(dataset, p).map_or("mixed", Self::as_str)
    }
}

impl std::fmt::Display for SplitRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for SplitRule {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let words: Vec<&str> = Self::ALL.iter().map(|r| r.as_str()).collect();
        let found = Self::ALL.iter().find(|r| r.as_str() == s);
        found.copied().ok_or_else(|| words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_are_the_rules_they_are_said_to_be() {
        for set in ["ddsm", "isic2019", "chexpert", "aptos2019", "breastmnist"] {
            assert_eq!(SplitRule::word(set, &Protocol::faithful()), "authors", "{set}");
            assert_eq!(SplitRule::word(set, &Protocol::corrected()), "grouped", "{set}");
        }
        let mixed = Protocol {
            chexpert_test: ChexpertTest::OfficialValid,
            ..Protocol::faithful()
        };
        assert_eq!(SplitRule::word("chexpert", &mixed), "mixed");
        assert_eq!(
            SplitRule::word("ddsm", &mixed),
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

    #[test]
    fn a_rule_changes_its_own_switches_only() {
        for set in ["ddsm", "isic2019", "chexpert", "aptos2019", "breastmnist"] {
            for rule in SplitRule::ALL {
                let mut p = Protocol::faithful();
                rule.set(set, &mut p);
                let changed = p.diff(&Protocol::faithful());
                assert!(
                    changed.iter().all(|c| RULE_SWITCHES.contains(&c.0)),
                    "{set} {rule}: {changed:?}"
                );
            }
        }
    }
}
