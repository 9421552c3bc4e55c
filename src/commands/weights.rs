//! `medft weights`: what is known of each backbone's weights, and whether the files here are they.

use super::{weights_add, weights_fetch};
use crate::cli::WeightsVerb;
use crate::cli::exit::{BROKEN, INCOMPLETE, OK};
use crate::manifest::{Check, Places, WeightsReport, WeightsState, verify_weights};
use crate::model::facts;
use crate::runner::Context;
use crate::study::Scale;
use crate::{outln, print, text};
use anyhow::Result;

pub(super) fn run(c: &Context, v: WeightsVerb) -> Result<u8> {
    match v {
        WeightsVerb::List => list(c),
        WeightsVerb::Add(a) => weights_add::run(c, &a),
        WeightsVerb::Fetch { backbones, study, pins } => weights_fetch::run(c, &backbones, &study, &pins),
        WeightsVerb::Verify { backbones, full } => verify(c, &backbones, full),
    }
}

fn reports(c: &Context, names: &[String], check: Check) -> Result<Vec<WeightsReport>> {
    let places = Places::new(&c.global.weights_dir);
    names
        .iter()
        .map(|name| {
            let bar = c.progress.bytes(name);
            verify_weights(c.catalogue, name, &places, check, &bar.verified())
        })
        .collect()
}

fn all(c: &Context) -> Vec<String> {
    c.catalogue.backbones().iter().map(|s| (*s).to_owned()).collect()
}

fn list(c: &Context) -> Result<u8> {
    let reports = reports(c, &all(c), Check::NoRead)?;
    if c.global.json {
        print::json(&reports)?;
        return Ok(OK);
    }
    let mut rows = Vec::new();
    for r in &reports {
        for (i, pin) in c.catalogue.pins(&r.backbone)?.iter().enumerate() {
            let state = match (&r.pin, &r.state) {
                (Some(p), s) if p.name == pin.name => match s {
                    WeightsState::Present => "here, verified",
                    _ => "here, not verified",
                },
                (None, WeightsState::WrongHash) if i == 0 => "here, wrong",
                _ => "not here",
            };
            // The numbers are those of the published size.
            let facts = facts::find(&r.backbone).filter(|_| i == 0 && pin.scale != Some(Scale::Tiny));
            let show = |f: &dyn Fn(&facts::Facts) -> String| facts.map_or_else(String::new, f);
            rows.push(vec![
                if i == 0 { r.backbone.clone() } else { String::new() },
                show(&|f| format!("{:.1}", f.parameters as f64 / 1e6)),
                show(&|f| format!("{:.1}", f.gmacs_224)),
                show(&|f| f.feature.to_string()),
                show(&|f| format!("{}×{}", f.tokens.0, f.tokens.1)),
                pin.name.clone(),
                pin.layout.clone(),
                pin.size
                    .map_or_else(|| "?".into(), |s| format!("{:.0} MB", s as f64 / 1e6)),
                pin.sha256.as_ref().map_or("unknown".into(), |h| h[..12].to_owned()),
                pin.licence.clone().unwrap_or_else(|| "unknown".into()),
                state.to_owned(),
            ]);
        }
    }
    let head = [
        "backbone", "M params", "GMACs", "feature", "tokens", "pin", "layout", "size", "sha256", "licence", "state",
    ];
    outln!("{}", text::table(&head, &rows))?;
    Ok(OK)
}

fn verify(c: &Context, names: &[String], full: bool) -> Result<u8> {
    let names = if names.is_empty() { all(c) } else { names.to_vec() };
    let reports = reports(c, &names, if full { Check::Full } else { Check::Cached })?;
    if c.global.json {
        print::json(&reports)?;
    } else {
        for r in &reports {
            outln!("{}", r.text())?;
        }
    }
    Ok(if reports.iter().any(|r| r.state == WeightsState::WrongHash) {
        BROKEN
    } else if reports.iter().all(|r| r.require().is_ok()) {
        OK
    } else {
        INCOMPLETE
    })
}
