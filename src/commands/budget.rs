//! `medft plan --budget`: the part of a study that decides the most for so many hours.

use crate::cli::PlanArgs;
use crate::cli::exit::OK;
use crate::error::BadInput;
use crate::runner::Context;
use crate::runner::budget::{Budget, Proposal, choose};
use crate::runner::foresight::ENOUGH;
use crate::text::{hours, percent, table};
use crate::{outln, print};
use anyhow::Result;
use serde_json::json;

pub(super) fn run(c: &Context, a: &PlanArgs, text: &str) -> Result<u8> {
    let budget: Budget = text
        .parse()
        .map_err(|e: String| BadInput::new("--budget", e, format!("`{text}`"), "Write it so."))?;
    let p = choose(c, a, budget)?;
    if c.global.json {
        print::json(&machine_readable(&p, budget))?;
    } else {
        tables(&p)?;
        let guessed = if p.guessed {
            " (in part by the speed of other backbones)"
        } else {
            ""
        };
        outln!(
            "\n{}: {} cells with {} seeds, {} runs, {} of {} {}{guessed}",
            p.file.display(),
            p.cells,
            p.seeds,
            p.runs,
            hours(p.hours),
            hours(budget.0),
            p.machine.hours()
        )?;
        outln!(
            "medft power {} says what the probabilities rest on; medft run {0} runs it.",
            p.file.display()
        )?;
    }
    Ok(OK)
}

fn machine_readable(p: &Proposal, budget: Budget) -> serde_json::Value {
    let values = p.values.iter().map(|v| {
        let o = v.outlook.unwrap_or_default();
        json!({"dataset": v.noise.dataset, "sd": v.noise.sd, "sd_from": v.noise.sd_from,
            "reproduced": o.reproduced, "consistent": o.consistent, "inconclusive": o.inconclusive, "differs": o.differs})
    });
    json!({
        "file": p.file.display().to_string(), "budget_hours": budget.0, "hours": p.hours, "guessed": p.guessed,
        "device": p.machine.device, "runs": p.runs, "cells": p.cells, "seeds": p.seeds,
        "enough": ENOUGH, "claims": p.claims, "values": values.collect::<Vec<_>>(),
    })
}

fn tables(p: &Proposal) -> Result<()> {
    let claims = p.claims.iter().map(|o| {
        let can = o.probability.is_some_and(|p| p >= ENOUGH);
        let probability = o.probability.map_or_else(|| "?".to_owned(), percent);
        let can = if can { "yes" } else { "no" };
        vec![o.claim.clone(), can.to_owned(), probability, o.why.clone()]
    });
    outln!(
        "{}",
        table(
            &["claim", "can be decided", "probability", "remark"],
            &claims.collect::<Vec<_>>()
        )
    )?;
    let values = p.values.iter().filter_map(|v| {
        let o = v.outlook?;
        let [reproduced, consistent, inconclusive] = [o.reproduced, o.consistent, o.inconclusive].map(percent);
        let judged = v.judged.to_string();
        Some(vec![
            v.noise.dataset.clone(),
            judged,
            reproduced,
            consistent,
            inconclusive,
            v.noise.sd_from.clone(),
        ])
    });
    let head = [
        "data set",
        "values",
        "Reproduced",
        "Consistent",
        "Inconclusive",
        "sd over seeds",
    ];
    outln!(
        "\nof a value that is the same in truth:\n{}",
        table(&head, &values.collect::<Vec<_>>())
    )
}
