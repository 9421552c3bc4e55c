//! A sweep: switches of `[protocol]` that a study gives several values, every combination of them a set of cells of its own.
//!
//! A point of a sweep is an ordinary protocol, so its runs have the ids they would have in a study of that point alone. What must be
//! the same at every point is how an epoch is selected and what is measured: only then can one point be chosen, and it is chosen by
//! what the validation images say.

use super::located::Item;
use crate::error::BadInput;
use crate::spec::protocol::{Protocol, show};
use crate::spec::{Scope, Switch, Values};
use serde::Serialize;
use serde_json::Value;

/// The most points of a sweep: more is a typing error.
const MOST: usize = 256;

/// A switch with its values, in the order of the file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Swept {
    pub field: &'static str,
    pub values: Vec<Value>,
}

/// Whether an item of `[protocol]` is a list of values rather than a value.
pub(super) fn is_sweep(switch: &Switch, item: &Item) -> bool {
    match switch.values {
        Values::Pair(..) => item.members().is_some_and(|m| m.iter().all(Item::is_list)),
        _ => item.is_list(),
    }
}

/// A switch that may have several values.
///
/// # Errors
/// [`BadInput`] for one that decides what is compared.
pub(super) fn allowed(switch: &Switch, item: &Item) -> Result<(), BadInput> {
    if switch.by_split_rule {
        return Err(item.bad("one value", "Write `splits = […]` for several ways to cut the data."));
    }
    if switch.scope == Scope::Select {
        let expected = "one value: what selects and measures must be the same at every point of a sweep";
        return Err(item.bad(expected, "Write a study for each value."));
    }
    Ok(())
}

/// Whether there are too many points.
pub(super) fn too_many(swept: &[Swept]) -> Option<usize> {
    let points = swept.iter().fold(1usize, |n, s| n.saturating_mul(s.values.len()));
    (points > MOST).then_some(points)
}

/// Every combination on top of `base`, the first switch varying slowest; `base` alone where nothing is swept.
pub(super) fn points(base: &Protocol, swept: &[Swept]) -> Vec<Protocol> {
    let mut all = vec![base.to_json()];
    for s in swept {
        let with = |p: &serde_json::Map<String, Value>| {
            let p = p.clone();
            s.values.iter().map(move |v| {
                let mut p = p.clone();
                p.insert(s.field.into(), v.clone());
                p
            })
        };
        all = all.iter().flat_map(with).collect();
    }
    let read = |p| Protocol::from_json(p).expect("every value was read as the switch's own kind");
    all.into_iter().map(read).collect()
}

impl Swept {
    /// Its value at a point, as printed: `1e-5`.
    pub fn value(&self, at: &Protocol) -> String {
        show(&at.get(self.field))
    }

    /// Its value at a point as a name that file names and `--only` take: `0.8-1` for `[0.8, 1]`.
    pub fn name(&self, at: &Protocol) -> String {
        plain_name(&self.value(at))
    }

    /// As [`Swept::name`], of all its values.
    pub fn names(&self) -> Vec<String> {
        self.values.iter().map(|v| plain_name(&show(v))).collect()
    }

    /// All its values as printed.
    pub fn printed(&self) -> Vec<String> {
        self.values.iter().map(show).collect()
    }

    /// The switch as printed: `weight decay`.
    pub fn title(&self) -> String {
        self.field.replace('_', " ")
    }
}

fn plain_name(value: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = value.chars().map(plain).collect();
    let parts: Vec<&str> = name.split('-').filter(|p| !p.is_empty()).collect();
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_combination_is_a_protocol_and_the_first_switch_varies_slowest() {
        let swept = [
            Swept {
                field: "lr",
                values: vec![json!(1e-5), json!(1e-4)],
            },
            Swept {
                field: "epochs",
                values: vec![json!(3), json!(5)],
            },
        ];
        let all = points(&Protocol::corrected(), &swept);
        let found: Vec<(f64, u32)> = all.iter().map(|p| (p.lr, p.epochs)).collect();
        assert_eq!(found, [(1e-5, 3), (1e-5, 5), (1e-4, 3), (1e-4, 5)]);
        assert_eq!(swept[0].names(), ["1e-5", "1e-4"]);
        assert_eq!(points(&Protocol::faithful(), &[]), [Protocol::faithful()]);
    }

    #[test]
    fn names_are_file_names() {
        for (value, want) in [
            ("1e-5", "1e-5"),
            ("[0.8, 1]", "0.8-1"),
            ("3 epochs", "3-epochs"),
            ("0.05", "0.05"),
            ("-1", "1"),
        ] {
            assert_eq!(plain_name(value), want);
        }
    }
}
