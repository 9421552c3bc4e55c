//! How many seeds each verdict takes, as tables for people.

use super::foresight::{ASSUMED_SD, ENOUGH, MOST_SEEDS};
use super::power::{Need, Power};
use crate::text::{percent, table};

/// Seeds, probability with them and with the study's own, in words.
fn columns(n: &Need) -> [String; 3] {
    let seeds = n.seeds.map_or_else(|| format!("> {MOST_SEEDS}"), |s| s.to_string());
    [seeds, percent(n.probability), percent(n.now)]
}

impl Power {
    fn now(&self) -> String {
        format!("with {}", self.seeds.max(2))
    }

    /// How far runs scatter, and from where that is known.
    pub fn noise_table(&self) -> String {
        let rows: Vec<Vec<String>> = self
            .noises
            .iter()
            .map(|n| {
                vec![
                    n.dataset.clone(),
                    n.metric.clone(),
                    n.margin.map_or_else(|| "none stated".to_owned(), |m| m.to_string()),
                    format!("{:.4}", n.sd),
                    n.sd_from.clone(),
                ]
            })
            .collect();
        table(&["data set", "metric", "margin", "sd over seeds", "from"], &rows)
    }

    /// On which data sets no verdict on a published value can be given, and why; `None` where on all one can.
    pub fn without_verdict(&self) -> Option<String> {
        let unjudged = self.noises.iter().filter(|n| n.backbones.is_empty());
        let unjudged: Vec<&str> = unjudged.map(|n| n.dataset.as_str()).collect();
        (!unjudged.is_empty()).then(|| {
            format!(
                "No verdict on a published value can be given on {}: none is listed, or those that are have no authors' code, are of another split, \
                 task or part of the images, or of another metric.",
                unjudged.join(", ")
            )
        })
    }

    /// What each verdict takes.
    pub fn verdict_table(&self) -> String {
        let rows: Vec<Vec<String>> = self
            .lines
            .iter()
            .map(|l| {
                let truth = format!("{} differ by {}", l.level, l.difference);
                [
                    &[l.dataset.clone(), l.verdict.to_owned(), truth][..],
                    &columns(&l.need)[..],
                ]
                .concat()
            })
            .collect();
        let now = self.now();
        table(
            &["data set", "verdict", "when in truth", "seeds", "probability", &now],
            &rows,
        )
    }

    /// What each claim takes.
    pub fn claim_table(&self) -> String {
        let rows: Vec<Vec<String>> = self
            .claims
            .iter()
            .map(|(need, o)| {
                let columns = need
                    .as_ref()
                    .map_or_else(|| ["?".to_owned(), "?".to_owned(), "?".to_owned()], columns);
                [&[o.claim.clone()][..], &columns[..], &[o.why.clone()][..]].concat()
            })
            .collect();
        table(&["claim", "seeds", "probability", &self.now(), "remark"], &rows)
    }
}

/// What the figures rest on, a paragraph each.
pub fn notes() -> [String; 3] {
    [
        format!(
            "Seeds are the least that give a verdict with a probability of {}; where none up to {MOST_SEEDS} does, the noise of the one \
             published run, or of the test images, is what more seeds do not help against.",
            percent(ENOUGH)
        ),
        "A data set is judged over its backbones with a published value and running authors' code, at the hardest level of Holm's correction \
         over data sets and hypotheses; how its backbones scatter about their mean beyond run noise is not foreseen."
            .to_owned(),
        format!(
            "Assumed: one published run a value; an sd over seeds of {ASSUMED_SD} where none is measured (--sd); of claims, an effect of twice \
             the smallest that matters (the paper's claims.toml), a noise of the test images as for an area of 0.95, half of it shared by two models, and the hardest level of Holm's correction."
        ),
    ]
}
