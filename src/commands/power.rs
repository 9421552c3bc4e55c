//! `medft power`: how many seeds each verdict takes.

use crate::cli::PowerArgs;
use crate::cli::exit::OK;
use crate::runner::Context;
use crate::runner::foresight::ENOUGH;
use crate::runner::power::power;
use crate::runner::power_text::notes;
use crate::{outln, print};
use anyhow::Result;
use serde_json::json;

pub(super) fn run(c: &Context, a: &PowerArgs) -> Result<u8> {
    let all = power(c, a)?;
    if c.global.json {
        let claims: Vec<_> = all
            .claims
            .iter()
            .map(|(need, o)| json!({"claim": o.claim, "need": need, "why": o.why}))
            .collect();
        print::json(&json!({
            "study": all.study, "seeds": all.seeds, "alpha": all.alpha, "enough": ENOUGH,
            "data_sets": all.noises, "verdicts": all.lines, "claims": claims,
        }))?;
        return Ok(OK);
    }
    outln!("{}", all.noise_table())?;
    if let Some(text) = all.without_verdict() {
        outln!("\n{text}")?;
    }
    outln!("\n{}", all.verdict_table())?;
    outln!("\n{}", all.claim_table())?;
    outln!("\n{}", notes().join("\n"))?;
    Ok(OK)
}
