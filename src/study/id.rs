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

use super::protocol::Preset;
use super::spec::RunSpec;
use crate::error::BadInput;
use crate::fsio;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Number, Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// Raised when the same switches begin to mean other numbers (a repaired bug in training, say): results made before then
/// have other ids and are recomputed, never mixed.
pub const PROTOCOL_REVISION: u32 = 1;

/// A switch that came after the first results.
struct Later {
    field: &'static str,
    /// The value that means what medft did before, under a preset.
    before: fn(Preset) -> Value,
    /// Whether it concerns a data set.
    of: fn(&str) -> bool,
}

/// The switches that came after the first results.
///
/// Such a switch is hashed only where it says something: for its data set, at another value. The ids of all other runs
/// stay what they were.
///
/// `divergence` is the one whose former value hangs on the preset. Before it, medft stopped every run that diverged, and such a
/// run left no result; a run that did not diverge has the same numbers under both values. So the finished runs of both presets
/// are what the presets say now, and a failed one is fitted again under the same id.
const LATER: [Later; 4] = [
    Later {
        field: "ddsm_split",
        before: |_| json!("lists"),
        of: |set| set == "ddsm",
    },
    Later {
        field: "duplicates",
        before: |_| json!("ignored"),
        of: super::split_rule::names_no_groups,
    },
    Later {
        field: "train_fraction",
        before: |_| json!(1.0),
        of: |_| true,
    },
    Later {
        field: "divergence",
        before: |preset| match preset {
            Preset::Faithful => json!("authors"),
            Preset::Corrected => json!("stop"),
        },
        of: |_| true,
    },
];

/// The spec as it is hashed.
fn hashed(spec: &RunSpec) -> Value {
    let mut json = serde_json::to_value(spec).expect("a spec holds words and numbers only");
    if let Some(protocol) = json["protocol"].as_object_mut() {
        protocol.retain(|field, value| {
            let later = LATER.iter().find(|l| l.field == field);
            later.is_none_or(|l| (l.of)(&spec.dataset) && *value != (l.before)(spec.protocol.preset))
        });
    }
    json
}

/// Gives a protocol that was written before a switch the value that it had without it. Nothing where the preset is missing or
/// unknown, which the reader of the whole then says.
pub(super) fn fill_in(protocol: &mut Map<String, Value>) {
    let Some(preset) = protocol
        .get("preset")
        .and_then(Value::as_str)
        .and_then(|p| p.parse().ok())
    else {
        return;
    };
    for later in &LATER {
        let value = || (later.before)(preset);
        protocol.entry(later.field).or_insert_with(value);
    }
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

/// `value` in the canonical form of RFC 8785, with one extension: whole numbers beyond 2⁵³ keep all their digits.
pub fn canonical_json(value: &Value) -> String {
    let mut out = String::new();
    write_json(value, &mut out);
    out
}

fn write_json(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Number(n) => out.push_str(&write_number(n)),
        Value::String(s) => write_string(s, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_json(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by(|a, b| a.0.encode_utf16().cmp(b.0.encode_utf16()));
            out.push('{');
            for (i, (key, item)) in fields.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write_json(item, out);
            }
            out.push('}');
        }
    }
}

/// serde_json escapes exactly what RFC 8785 asks for: `"`, `\` and control characters, the latter in lower-case hex.
fn write_string(s: &str, out: &mut String) {
    out.push_str(&Value::from(s).to_string());
}

fn write_number(n: &Number) -> String {
    match n.as_f64() {
        Some(x) if n.is_f64() => ecmascript(x),
        _ => n.to_string(),
    }
}

/// ECMAScript's `Number::toString` for finite numbers. serde_json's digits are the shortest that read back to `x`, ties to
/// even, as ECMAScript asks (Rust's own `{:e}` rounds such ties up); this only places the point anew.
fn ecmascript(x: f64) -> String {
    if x == 0.0 {
        return "0".into();
    }
    let text = Value::from(x.abs()).to_string();
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i32 = exponent.parse().expect("JSON writes a decimal exponent");
    let all = format!("{whole}{fraction}");
    let digits = all.trim_start_matches('0');
    // The value is 0.digits × 10^n, with k digits.
    let n = whole.len() as i32 + exponent - (all.len() - digits.len()) as i32;
    let digits = digits.trim_end_matches('0');
    let k = digits.len() as i32;
    let sign = if x < 0.0 { "-" } else { "" };
    let zeros = |n: i32| "0".repeat(n as usize);
    let body = if k <= n && n <= 21 {
        format!("{digits}{}", zeros(n - k))
    } else if 0 < n && n <= 21 {
        format!("{}.{}", &digits[..n as usize], &digits[n as usize..])
    } else if -6 < n && n <= 0 {
        format!("0.{}{digits}", zeros(-n))
    } else {
        let point = if k > 1 { "." } else { "" };
        format!(
            "{}{point}{}e{}{}",
            &digits[..1],
            &digits[1..],
            if n > 0 { "+" } else { "" },
            n - 1
        )
    };
    format!("{sign}{body}")
}

#[cfg(test)]
mod tests {
    use super::super::protocol::Protocol;
    use super::super::spec::{Freeze, HeadKind, Scale};
    use super::super::switches::Values;
    use super::*;
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

    /// RFC 8785, appendix B.
    #[test]
    fn numbers_are_those_of_rfc_8785() {
        for (bits, text) in [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            assert_eq!(ecmascript(f64::from_bits(bits)), text, "{bits:x}");
        }
    }

    /// RFC 8785, section 3.2.2 and 3.2.3: the sample of the text and the order of its keys.
    #[test]
    fn text_is_that_of_rfc_8785() {
        let sample: Value = serde_json::from_str(
            r#"{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
                "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"#,
        )
        .unwrap();
        assert_eq!(
            canonical_json(&sample),
            r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}"#
        );
        let keys = json!({"€": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "😀": 5, "\u{80}": 6, "ö": 7});
        let order: Vec<char> = canonical_json(&keys).chars().filter(char::is_ascii_digit).collect();
        assert_eq!(
            order,
            ['2', '1', '4', '6', '7', '1', '5', '3'],
            "the key \"1\" and the value 1 both show"
        );
        assert_eq!(canonical_json(&json!(u64::MAX)), "18446744073709551615");
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
        let concerns = |field: &str| LATER.iter().all(|l| l.field != field || (l.of)("ddsm"));
        for s in Protocol::switches().iter().filter(|s| concerns(s.field)) {
            let pointer = format!("/protocol/{}", s.field);
            let old = &base["protocol"][s.field];
            match s.values {
                Values::Words(words) => words()
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
                Values::Metric => try_one(&pointer, json!("roc_auc")),
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
        isic.protocol.ddsm_split = super::super::protocol::DdsmSplit::ByCase;
        assert_eq!(id(&isic), before);
        isic.protocol.duplicates = super::super::protocol::Duplicates::Together;
        assert_eq!(id(&isic), before);
        for set in ["aptos2019", "breastmnist"] {
            isic.dataset = set.into();
            let together = id(&isic);
            isic.protocol.duplicates = super::super::protocol::Duplicates::Ignored;
            assert_ne!(id(&isic), together, "{set}");
            isic.protocol.duplicates = super::super::protocol::Duplicates::Together;
        }
        let mut old = serde_json::to_value(spec()).unwrap();
        for later in &LATER {
            old["protocol"].as_object_mut().unwrap().shift_remove(later.field);
        }
        assert_eq!(serde_json::from_value::<RunSpec>(old).unwrap(), spec());
    }

    /// A run that stops where it diverges is another one under `faithful`, and the same as ever under `corrected`.
    #[test]
    fn divergence_is_hashed_where_it_departs_from_its_preset() {
        use super::super::protocol::Divergence;
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
    /// means that the ids of all stored results change: a field, a word or a preset did.
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
