//! The `[protocol]` of a study file: a preset with single switches set, some of them to several values.

use super::located::{Item, Section};
use super::sweep::{self, Swept};
use crate::error::BadInput;
use crate::eval;
use crate::spec::protocol::{Preset, Protocol};
use crate::spec::{Switch, Values, selections};
use serde_json::{Value, json};

/// The preset with the switches of `[protocol]` set, and those that have several values.
pub(super) fn read_protocol(top: &Section, preset: Preset) -> Result<(Protocol, Vec<Swept>), BadInput> {
    let Some(section) = top.get("protocol").map(|i| i.section()).transpose()? else {
        return Ok((preset.protocol(), Vec::new()));
    };
    if let Some(item) = section.get("preset") {
        return Err(item.bad("the preset at the top level", "Move the line above [protocol]."));
    }
    let fields: Vec<&str> = Protocol::switches().iter().map(|s| s.field).collect();
    section.only(&fields)?;
    let mut json = preset.protocol().to_json();
    let mut swept = Vec::new();
    for item in section.items() {
        let Some(switch) = Protocol::find(&item.key) else {
            continue;
        };
        let mut values = match sweep::is_sweep(switch, &item) {
            true => item.list(|i| read_switch(switch, i))?,
            false => vec![read_switch(switch, &item)?],
        };
        if values.len() > 1 {
            sweep::allowed(switch, &item)?;
            swept.push(Swept {
                field: switch.field,
                values: values.clone(),
            });
            if let Some(points) = sweep::too_many(&swept) {
                return Err(item.bad(
                    format!("at most 256 points of a sweep, not {points}"),
                    "Write several studies.",
                ));
            }
        }
        json.insert(switch.field.into(), values.swap_remove(0));
    }
    let protocol = Protocol::from_json(json).map_err(|e| {
        let file = top.text.file;
        BadInput::new(
            file,
            "a protocol",
            e.to_string(),
            "Report this: the switches' table is wrong.",
        )
    })?;
    Ok((protocol, swept))
}

fn read_switch(switch: &Switch, item: &Item) -> Result<Value, BadInput> {
    Ok(match switch.values {
        Values::Names(names) => {
            let names = names();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            json!(item.choice(&names)?)
        }
        Values::Flag => json!(item.flag()?),
        Values::Count(lo, hi) => json!(item.count(lo.into(), hi.into())?),
        Values::Real(ok, what) => json!(item.real(ok, what)?),
        Values::Pair(ok, what) => json!(item.pair(ok, what)?),
        Values::Metric => json!(item.choice(&eval::selectable())?),
        Values::Selection => json!(item.choice(&selections())?),
        Values::Warmup if item.is_table() => {
            let section = item.section()?;
            section.only(&["epochs", "iterations"])?;
            let items = section.items();
            let [one] = items.as_slice() else {
                return Err(item.bad(
                    "either epochs or iterations",
                    "Write `{ epochs = n }` or `{ iterations = n }`.",
                ));
            };
            json!({ one.key.as_str(): one.count(1, 1_000_000_000)? })
        }
        Values::Warmup => match item.choice(&["per-dataset", "none"]) {
            Ok(name) => json!(name),
            Err(e) => {
                return Err(BadInput {
                    expected: switch.values.allowed(),
                    ..e
                });
            }
        },
    })
}
