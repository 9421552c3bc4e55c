//! `medft power`: how many seeds each verdict takes.

use crate::cli::PowerArgs;
use crate::cli::exit::OK;
use crate::runner::Context;
use crate::runner::foresight::{ASSUMED_SD, ENOUGH, MOST_SEEDS};
use crate::runner::power::{Need, Power, power};
use crate::text::{percent, table};
use crate::{outln, print};
use anyhow::Result;

pub(super) fn run(c: &Context, a: &PowerArgs) -> Result<u8> {
    let all = power(c, a)?;
    let seeds = all.seeds;
    if c.global.json {
        let claims: Vec<_> = all
            .claims
            .iter()
            .map(|(need, o)| serde_json::json!({"claim": o.claim, "need": need, "why": o.why}))
            .collect();
        let all = serde_json::json!({
            "study": all.study, "seeds": seeds, "alpha": all.alpha, "enough": ENOUGH,
            "data_sets": all.noises, "verdicts": all.lines, "claims": claims,
        });
        print::json(&all)?;
        return Ok(OK);
    }
    noise(&all)?;
    verdicts(&all)?;
    claims(&all)?;
    notes()?;
    Ok(OK)
}

/// Seeds, probability with them and with the study's own, in words.
fn words(n: &Need) -> [String; 3] {
    let seeds = n.seeds.map_or_else(|| format!("> {MOST_SEEDS}"), |s| s.to_string());
    [seeds, percent(n.probability), percent(n.now)]
}

fn now(all: &Power) -> String {
    format!("with {}", all.seeds.max(2))
}

/// How far runs scatter, and from where that is known.
fn noise(all: &Power) -> Result<()> {
    let rows: Vec<Vec<String>> = all
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
    outln!(
        "{}",
        table(&["data set", "metric", "margin", "sd over seeds", "from"], &rows)
    )
}

fn verdicts(all: &Power) -> Result<()> {
    let unjudged = all.noises.iter().filter(|n| n.backbones.is_empty());
    let unjudged: Vec<&str> = unjudged.map(|n| n.dataset.as_str()).collect();
    if !unjudged.is_empty() {
        outln!(
            "\nNo verdict on a published value can be given on {}: none is listed, or those that are have no authors' code, are of another split, \
             task or part of the images, or of another metric.",
            unjudged.join(", ")
        )?;
    }
    let rows: Vec<Vec<String>> = all
        .lines
        .iter()
        .map(|l| {
            let truth = format!("{} differ by {}", l.level, l.difference);
            [
                &[l.dataset.clone(), l.verdict.to_owned(), truth][..],
                &words(&l.need)[..],
            ]
            .concat()
        })
        .collect();
    outln!(
        "\n{}",
        table(
            &[
                "data set",
                "verdict",
                "when in truth",
                "seeds",
                "probability",
                &now(all)
            ],
            &rows
        )
    )
}

fn claims(all: &Power) -> Result<()> {
    let rows: Vec<Vec<String>> = all
        .claims
        .iter()
        .map(|(need, o)| {
            let words = need
                .as_ref()
                .map_or_else(|| ["?".to_owned(), "?".to_owned(), "?".to_owned()], words);
            [&[o.claim.clone()][..], &words[..], &[o.why.clone()][..]].concat()
        })
        .collect();
    outln!(
        "\n{}",
        table(&["claim", "seeds", "probability", &now(all), "remark"], &rows)
    )
}

/// What the figures rest on.
fn notes() -> Result<()> {
    outln!(
        "\nSeeds are the least that give a verdict with a probability of {}; where none up to {MOST_SEEDS} does, the noise of the one \
         published run, or of the test images, is what more seeds do not help against.",
        percent(ENOUGH)
    )?;
    outln!(
        "A data set is judged over its backbones with a published value and running authors' code, at the hardest level of Holm's correction \
         over data sets and hypotheses; how its backbones scatter about their mean beyond run noise is not foreseen."
    )?;
    outln!(
        "Assumed: one published run a value; an sd over seeds of {ASSUMED_SD} where none is measured (--sd); of claims, an effect of twice \
         the smallest that matters (the paper's claims.toml), a noise of the test images as for an area of 0.95, half of it shared by two models, and the hardest level of Holm's correction."
    )
}
