//! The name of a run is the hash of everything that decides its numbers.
//!
//! Covered: the whole [`RunSpec`] (data set, backbone, scale, freeze mode, head, seed, every protocol switch), the root hash
//! of the data set's files, the hash of every weight file that is loaded, and [`PROTOCOL_REVISION`]. Deliberately left out:
//! paths and folder names, the study's name and file, device, thread count, host, date, version of medft. Moving a folder
//! never changes an id; changing a label file does, and so does an edited switch.
//!
//! What is hashed (SHA-256) is the concatenation of netstrings (`length:bytes,`, length in decimal bytes):
//!
//! ```text
//! "medft run"  "revision" REVISION  "spec" JSON  "data" HEX  "weights" COUNT  (ROLE HEX)*
//! ```
//!
//! JSON is the spec in the canonical form of RFC 8785: no white space, keys sorted, numbers as ECMAScript prints them
//! (shortest digits that read back to the same double: `0.0001`, `1`, `1e-7`); roles are sorted. Since a netstring says its
//! own length, two different inputs never give the same bytes.

use crate::canonical::canonical_json;
use crate::error::BadInput;
use crate::fsio;
use crate::spec::Switch;
use crate::spec::protocol::Protocol;
use crate::spec::{RunSpec, SplitRule};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// Raised when the same switches begin to mean other numbers (a repaired bug in training, say): results made before then
/// have other ids and are recomputed, never mixed.
pub const PROTOCOL_REVISION: u32 = 1;

/// The spec as it is hashed.
///
/// A switch that came after the first results is hashed only where it says something: for a data set that it concerns, at another
/// value than what medft did before. The ids of all other runs stay what they were.
fn hashed(spec: &RunSpec) -> Value {
    let mut json = serde_json::to_value(spec).expect("a spec holds texts and numbers only");
    if let Some(protocol) = json["protocol"].as_object_mut() {
        protocol.retain(|field, value| {
            let later = Protocol::find(field).and_then(|s| Some((s, s.since?)));
            later.is_none_or(|(s, since)| concerns(s, &spec.dataset) && *value != (since.before)(spec.protocol.preset))
        });
    }
    json
}

/// Whether a switch that came later says anything about a data set: one that split rules decide does where the set's rules do.
fn concerns(switch: &Switch, dataset: &str) -> bool {
    !switch.by_split_rule || SplitRule::decides(dataset, switch.field)
}

/// What a run reads besides its spec, by content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    data_root: String,
    weights: BTreeMap<String, String>,
}

impl Inputs {
    /// `data_root` is the root hash of the data set's manifest; `weights` are (role, SHA-256) of every file that is loaded,
    /// for instance `("backbone", …)` and `("deit-base", …)`, in any order; none for models that start from seeded random
    /// weights.
    ///
    /// # Errors
    /// [`BadInput`] when a hash is not 64 lower-case hex digits (so no path can slip in) or a role occurs twice.
    pub fn new(data_root: &str, weights: &[(&str, &str)]) -> Result<Self, BadInput> {
        check_hex("the root hash of the data set", data_root)?;
        let mut by_role = BTreeMap::new();
        for &(role, hash) in weights {
            check_hex(&format!("the hash of the weights `{role}`"), hash)?;
            if by_role.insert(role.to_string(), hash.to_string()).is_some() {
                let found = format!("`{role}` twice");
                return Err(BadInput::new(
                    "run id",
                    "one weight file a role",
                    found,
                    "Give each file a role of its own.",
                ));
            }
        }
        Ok(Self {
            data_root: data_root.into(),
            weights: by_role,
        })
    }
}

fn check_hex(what: &str, hash: &str) -> Result<(), BadInput> {
    if is_sha256(hash) {
        return Ok(());
    }
    Err(BadInput::new(
        what,
        "64 lower-case hex digits",
        format!("`{hash}`"),
        "Verify the files again.",
    ))
}

fn is_sha256(s: &str) -> bool {
    s.len() == 64 && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// SHA-256 over spec and inputs. Displayed by its first 16 hex digits, which also name the run's folder; records hold all 64.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(String);

impl RunId {
    /// The id of `spec` on these inputs.
    pub fn new(spec: &RunSpec, inputs: &Inputs) -> Self {
        Self::of(&canonical_json(&hashed(spec)), inputs, PROTOCOL_REVISION)
    }

    /// The id under another revision of the protocol, where the spec means the same: to see whether a record's own revision is
    /// the one its id was made with.
    pub fn under(spec: &RunSpec, inputs: &Inputs, revision: u32) -> Self {
        Self::of(&canonical_json(&hashed(spec)), inputs, revision)
    }

    fn of(spec: &str, inputs: &Inputs, revision: u32) -> Self {
        let mut bytes = Vec::new();
        let mut put = |s: &str| {
            bytes.extend_from_slice(s.len().to_string().as_bytes());
            bytes.push(b':');
            bytes.extend_from_slice(s.as_bytes());
            bytes.push(b',');
        };
        put("medft run");
        put("revision");
        put(&revision.to_string());
        put("spec");
        put(spec);
        put("data");
        put(&inputs.data_root);
        put("weights");
        put(&inputs.weights.len().to_string());
        for (role, hash) in &inputs.weights {
            put(role);
            put(hash);
        }
        Self(fsio::sha256_hex(&bytes))
    }

    /// All 64 hex digits.
    pub fn full(&self) -> &str {
        &self.0
    }

    /// The first 16 hex digits: the folder below `results/<study>/` and what people see.
    /// Among a million runs two share them with a chance of about 3 in 10⁸; a folder's `spec.json` holds the full id, so
    /// even then nothing is taken for something else.
    pub fn short(&self) -> &str {
        &self.0[..16]
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.short())
    }
}

impl std::str::FromStr for RunId {
    type Err = BadInput;

    /// Reads a full id.
    fn from_str(s: &str) -> Result<Self, BadInput> {
        check_hex("run id", s)?;
        Ok(Self(s.to_string()))
    }
}

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.full())
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Values;
    use crate::spec::{Freeze, HeadKind, Scale};
    use serde_json::json;
    use std::collections::BTreeSet;

    fn spec() -> RunSpec {
        RunSpec {
            dataset: "ddsm".into(),
            backbone: "dinov2-b".into(),
            scale: Scale::Full,
            freeze: Freeze::Frozen,
            head: HeadKind::Linear,
            seed: 0,
            protocol: Protocol::faithful(),
        }
    }

    fn inputs() -> Inputs {
        Inputs::new(&"a".repeat(64), &[("backbone", &"b".repeat(64))]).unwrap()
    }

    #[test]
    fn order_of_keys_changes_nothing() {
        fn reversed(v: &Value) -> Value {
            match v {
                Value::Object(o) => Value::Object(o.iter().rev().map(|(k, v)| (k.clone(), reversed(v))).collect()),
                v => v.clone(),
            }
        }
        let turned = reversed(&serde_json::to_value(spec()).unwrap());
        assert_ne!(turned.to_string(), serde_json::to_string(&spec()).unwrap());
        let read: RunSpec = serde_json::from_value(turned).unwrap();
        assert_eq!(RunId::new(&read, &inputs()), RunId::new(&spec(), &inputs()));
    }

    /// Another value of the same type for every leaf of a spec, found generically, so that a new field is covered too.
    #[test]
    fn every_field_changes_the_id() {
        let base = serde_json::to_value(spec()).unwrap();
        let mut seen = BTreeSet::from([RunId::new(&spec(), &inputs())]);
        let mut count = 1;
        let mut try_one = |pointer: &str, value: Value| {
            let mut edited = base.clone();
            *edited.pointer_mut(pointer).unwrap() = value;
            let edited: RunSpec = serde_json::from_value(edited).unwrap_or_else(|e| panic!("{pointer}: {e}"));
            count += 1;
            assert!(
                seen.insert(RunId::new(&edited, &inputs())),
                "{pointer} leaves the id as it is"
            );
            assert_eq!(seen.len(), count);
        };
        for (pointer, other) in [
            ("/dataset", json!("isic2019")),
            ("/backbone", json!("dinov2-l")),
            ("/scale", json!("tiny")),
            ("/freeze", json!("unfrozen")),
            ("/head", json!("mha")),
            ("/seed", json!(1)),
            ("/protocol/preset", json!("corrected")),
        ] {
            try_one(pointer, other);
        }
        assert_eq!(base.as_object().unwrap().len(), 7, "six fields and the protocol");
        // A later switch of other data sets leaves this one's id alone; the next test has those.
        let says = |s: &&Switch| s.since.is_none() || concerns(s, "ddsm");
        for s in Protocol::switches().into_iter().filter(says) {
            let pointer = format!("/protocol/{}", s.field);
            let old = &base["protocol"][s.field];
            match s.values {
                Values::Names(names) => names()
                    .iter()
                    .filter(|w| *w != old)
                    .for_each(|w| try_one(&pointer, json!(w))),
                Values::Flag => try_one(&pointer, json!(!old.as_bool().unwrap())),
                Values::Count(..) => try_one(&pointer, json!(old.as_u64().unwrap() + 1)),
                Values::Real(..) => try_one(&pointer, json!(f64::from_bits(old.as_f64().unwrap().to_bits() + 1))),
                Values::Pair(..) => {
                    try_one(&format!("{pointer}/0"), json!(0.5));
                    try_one(&format!("{pointer}/1"), json!(1.0));
                }
                Values::Warmup => {
                    for w in [json!("none"), json!({"epochs": 5}), json!({"iterations": 5})] {
                        try_one(&pointer, w);
                    }
                }
                Values::Metric | Values::Selection => try_one(&pointer, json!("roc_auc")),
            }
        }
    }

    /// A switch that came later changes no id where it decides nothing, and a record from before it reads as it was meant.
    #[test]
    fn a_later_switch_leaves_other_ids_alone() {
        let id = |s: &RunSpec| RunId::new(s, &inputs());
        let mut isic = RunSpec {
            dataset: "isic2019".into(),
            ..spec()
        };
        let before = id(&isic);
        isic.protocol.ddsm_split = crate::spec::protocol::DdsmSplit::ByCase;
        assert_eq!(id(&isic), before);
        isic.protocol.duplicates = crate::spec::protocol::Duplicates::Together;
        assert_eq!(id(&isic), before);
        for set in ["aptos2019", "breastmnist"] {
            isic.dataset = set.into();
            let together = id(&isic);
            isic.protocol.duplicates = crate::spec::protocol::Duplicates::Ignored;
            assert_ne!(id(&isic), together, "{set}");
            isic.protocol.duplicates = crate::spec::protocol::Duplicates::Together;
        }
        let mut old = serde_json::to_value(spec()).unwrap();
        let later: Vec<_> = Protocol::switches().into_iter().filter(|s| s.since.is_some()).collect();
        assert!(later.len() >= 2);
        for later in later {
            old["protocol"].as_object_mut().unwrap().shift_remove(later.field);
        }
        assert_eq!(serde_json::from_value::<RunSpec>(old).unwrap(), spec());
    }

    /// A run that stops where it diverges is another one under `faithful`, and the same as ever under `corrected`.
    #[test]
    fn divergence_is_hashed_where_it_departs_from_its_preset() {
        use crate::spec::protocol::Divergence;
        let id = |s: &RunSpec| RunId::new(s, &inputs());
        for protocol in [Protocol::faithful(), Protocol::corrected()] {
            let own = RunSpec { protocol, ..spec() };
            let mut other = own.clone();
            other.protocol.divergence = match own.protocol.divergence {
                Divergence::Authors => Divergence::Stop,
                Divergence::Stop => Divergence::Authors,
            };
            assert_ne!(id(&own), id(&other));
            let mut old = serde_json::to_value(&own).unwrap();
            old["protocol"].as_object_mut().unwrap().shift_remove("divergence");
            assert_eq!(serde_json::from_value::<RunSpec>(old).unwrap(), own);
        }
        let mut part = spec();
        part.protocol.train_fraction = 0.5;
        assert_ne!(id(&part), id(&spec()));
    }

    #[test]
    fn data_weights_and_revision_change_the_id() {
        let (a, b, c) = ("a".repeat(64), "b".repeat(64), "c".repeat(64));
        let id = |data: &str, w: &[(&str, &str)], rev| RunId::of("{}", &Inputs::new(data, w).unwrap(), rev);
        let ids = [
            id(&a, &[("backbone", &b)], 1),
            id(&a, &[("backbone", &b)], 2),
            id(&b, &[("backbone", &b)], 1),
            id(&a, &[("backbone", &c)], 1),
            id(&a, &[("deit-base", &b)], 1),
            id(&a, &[], 1),
            id(&a, &[("backbone", &b), ("deit-base", &c)], 1),
            id(&a, &[("backbone", &c), ("deit-base", &b)], 1),
        ];
        assert_eq!(BTreeSet::from(ids.clone()).len(), ids.len());
        assert_eq!(
            ids[6],
            id(&a, &[("deit-base", &c), ("backbone", &b)], 1),
            "the order of the files is free"
        );
    }

    /// By hand, with coreutils:
    /// `printf '9:medft run,8:revision,1:1,4:spec,2:{},4:data,64:'"$(printf 'a%.0s' $(seq 64))"',7:weights,1:1,8:backbone,64:'"$(printf 'b%.0s' $(seq 64))"',' | sha256sum`
    #[test]
    fn an_id_by_hand() {
        let id = RunId::of("{}", &inputs(), 1);
        assert_eq!(
            id.full(),
            "c358e9890c14001fd8638e56bc7b468695d3f08975de6540c9199bc73c190ef8"
        );
        assert_eq!(id.to_string(), &id.full()[..16]);
        assert_eq!(id.full().parse::<RunId>().unwrap(), id);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<RunId>(&json).unwrap(), id);
    }

    /// Computed apart, in JavaScript, whose numbers RFC 8785 takes: keys sorted, JSON.stringify, netstrings, SHA-256. A failure
    /// means that the ids of all stored results change: a field, a value or a preset did.
    #[test]
    fn the_id_of_a_whole_run() {
        let spec = spec();
        assert_eq!(
            RunId::new(&spec, &inputs()).full(),
            "ed10dfd8daf093d31945f924c068a43ae43f7bebd2676f3af216336540a59c91",
            "{}",
            serde_json::to_string(&spec).unwrap()
        );
    }

    #[test]
    fn a_path_or_a_torn_hash_is_no_input() {
        for bad in ["", "results/x", &"A".repeat(64), &"a".repeat(63)] {
            assert!(Inputs::new(bad, &[]).is_err(), "{bad}");
            assert!(Inputs::new(&"a".repeat(64), &[("backbone", bad)]).is_err(), "{bad}");
        }
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        assert!(Inputs::new(&a, &[("backbone", &a), ("backbone", &b)]).is_err());
    }
}
