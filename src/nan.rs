//! Numbers that may be none: NaN in memory, `null` in JSON (which cannot say it), for serde's `with`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

fn finite(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}

fn number(x: Option<f64>) -> f64 {
    x.unwrap_or(f64::NAN)
}

/// A number.
pub mod value {
    use super::*;

    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(x: &f64, s: S) -> Result<S::Ok, S::Error> {
        finite(*x).serialize(s)
    }

    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
        Option::deserialize(d).map(number)
    }
}

/// Named numbers.
pub mod map {
    use super::*;
    use std::collections::BTreeMap;

    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(m: &BTreeMap<String, f64>, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(m.iter().map(|(k, v)| (k, finite(*v))))
    }

    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let m = BTreeMap::<String, Option<f64>>::deserialize(d)?;
        Ok(m.into_iter().map(|(k, v)| (k, number(v))).collect())
    }
}

/// A list of numbers.
pub mod list {
    use super::*;
    use std::collections::VecDeque;

    /// What is written: named types, since a bound on every `&L` is one that other crates' own types can make endless.
    pub(crate) trait Numbers {
        fn numbers(&self) -> impl Iterator<Item = &f64>;
    }

    impl Numbers for Vec<f64> {
        fn numbers(&self) -> impl Iterator<Item = &f64> {
            self.iter()
        }
    }

    impl Numbers for VecDeque<f64> {
        fn numbers(&self) -> impl Iterator<Item = &f64> {
            self.iter()
        }
    }

    /// # Errors
    /// Those of the serializer.
    pub(crate) fn serialize<S: Serializer>(l: &impl Numbers, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(l.numbers().map(|x| finite(*x)))
    }

    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>, L: FromIterator<f64>>(d: D) -> Result<L, D::Error> {
        Ok(Vec::<Option<f64>>::deserialize(d)?.into_iter().map(number).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use std::collections::{BTreeMap, VecDeque};

    #[derive(Debug, Serialize, Deserialize)]
    struct All {
        #[serde(with = "super::value")]
        x: f64,
        #[serde(with = "super::map")]
        m: BTreeMap<String, f64>,
        #[serde(with = "super::list")]
        l: Vec<f64>,
        #[serde(with = "super::list")]
        q: VecDeque<f64>,
    }

    #[test]
    fn what_is_no_number_is_null_and_comes_back() {
        let text = r#"{"x":null,"m":{"a":0.5,"b":null},"l":[1.0,null],"q":[null,2.0]}"#;
        let all: All = serde_json::from_str(text).unwrap();
        assert!(all.x.is_nan() && all.m["b"].is_nan() && all.l[1].is_nan() && all.q[0].is_nan());
        assert_eq!((all.m["a"], all.l[0], all.q[1]), (0.5, 1.0, 2.0));
        assert_eq!(serde_json::to_string(&all).unwrap(), text);
        let infinite = All {
            x: f64::INFINITY,
            ..all
        };
        assert_eq!(serde_json::to_string(&infinite).unwrap(), text);
    }
}
