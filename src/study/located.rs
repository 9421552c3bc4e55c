//! TOML values that know their line, so that every complaint names file and line.
//!
//! serde would read the same files in fewer lines, but it loses the position of a value once it has the right type, and most
//! mistakes in a study (an unknown backbone, a crop larger than the image) are of the right type.

use crate::error::BadInput;
use crate::names::{and_list, did_you_mean, or_list};
use std::fmt::Display;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A TOML text and the name under which messages cite it.
#[derive(Clone, Copy)]
pub(super) struct Text<'d> {
    pub file: &'d str,
    pub text: &'d str,
}

impl<'d> Text<'d> {
    pub(crate) fn parse(self) -> Result<Spanned<DeTable<'d>>, BadInput> {
        DeTable::parse(self.text).map_err(|e| {
            let at = e.span().map_or_else(|| self.file.to_string(), |span| self.at(&span));
            let found = format!("a mistake: {}", e.message().lines().next().unwrap_or("no message"));
            BadInput::new(
                at,
                "valid TOML",
                found,
                "Correct this line; https://toml.io shows the forms.",
            )
        })
    }

    /// `file:line` of the start of `span`.
    pub(crate) fn at(self, span: &Range<usize>) -> String {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        format!("{}:{}", self.file, 1 + before.iter().filter(|&&b| b == b'\n').count())
    }

    pub(crate) fn bad(
        self,
        span: &Range<usize>,
        expected: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> BadInput {
        BadInput::new(self.at(span), expected, found, remedy)
    }

    /// The text of `span` as it stands in the file, cut to one short line.
    fn quote(self, span: &Range<usize>) -> String {
        let line = self.text.get(span.clone()).unwrap_or("").lines().next().unwrap_or("");
        let short: String = line.chars().take(60).collect();
        format!("`{short}`{}", if short.len() < line.len() { " …" } else { "" })
    }
}

/// A table of the file; `name` is empty for the top level.
pub(super) struct Section<'d> {
    pub text: Text<'d>,
    name: String,
    span: Range<usize>,
    table: &'d DeTable<'d>,
}

impl<'d> Section<'d> {
    pub(crate) fn top(text: Text<'d>, doc: &'d Spanned<DeTable<'d>>) -> Self {
        Self {
            text,
            name: String::new(),
            span: doc.span(),
            table: doc.get_ref(),
        }
    }

    /// What this table is called in a message.
    fn title(&self) -> String {
        if self.name.is_empty() {
            "at the top level".into()
        } else {
            format!("in [{}]", self.name)
        }
    }

    /// Refuses every key that is not in `allowed`; the first one in the file is named.
    pub(crate) fn only(&self, allowed: &[&str]) -> Result<(), BadInput> {
        for item in self.items() {
            if !allowed.contains(&item.key.as_str()) {
                return Err(item.text.bad(
                    &item.key_span,
                    format!("a key {}: {}", self.title(), or_list(allowed)),
                    format!("`{}`", item.key),
                    did_you_mean(&item.key, allowed),
                ));
            }
        }
        Ok(())
    }

    /// All entries in the order of the file.
    pub(crate) fn items(&self) -> Vec<Item<'d>> {
        let mut items: Vec<_> = self
            .table
            .iter()
            .map(|(k, v)| Item {
                text: self.text,
                key: k.get_ref().to_string(),
                key_span: k.span(),
                span: v.span(),
                value: v.get_ref(),
            })
            .collect();
        items.sort_by_key(|i| i.key_span.start);
        items
    }

    pub(crate) fn get(&self, key: &str) -> Option<Item<'d>> {
        self.items().into_iter().find(|i| i.key == key)
    }

    pub(crate) fn need(&self, key: &str) -> Result<Item<'d>, BadInput> {
        self.get(key).ok_or_else(|| self.absent(&[key]))
    }

    fn absent(&self, keys: &[&str]) -> BadInput {
        let at = if self.name.is_empty() {
            self.text.file.to_string()
        } else {
            self.text.at(&self.span)
        };
        let list = |each: &dyn Fn(&str) -> String| and_list(&keys.iter().map(|k| each(k)).collect::<Vec<_>>());
        let noun = if keys.len() == 1 { "key" } else { "keys" };
        let expected = format!("the {noun} {} {}", list(&|k| format!("`{k}`")), self.title());
        BadInput::new(
            at,
            expected,
            "none",
            format!("Add {}.", list(&|k| format!("`{k} = …`"))),
        )
    }

    /// Refuses a table that lacks one of `keys`; all that are not there are named at once.
    pub(crate) fn need_all(&self, keys: &[&str]) -> Result<(), BadInput> {
        let absent: Vec<&str> = keys.iter().copied().filter(|k| self.get(k).is_none()).collect();
        if absent.is_empty() {
            Ok(())
        } else {
            Err(self.absent(&absent))
        }
    }

    /// The string of `key`, or an empty one where the key is absent.
    pub(crate) fn string_or_empty(&self, key: &str) -> Result<String, BadInput> {
        self.get(key).map_or_else(|| Ok(String::new()), |i| i.string())
    }
}

/// One value with its key.
pub(super) struct Item<'d> {
    pub text: Text<'d>,
    pub key: String,
    pub key_span: Range<usize>,
    pub span: Range<usize>,
    value: &'d DeValue<'d>,
}

impl<'d> Item<'d> {
    pub(crate) fn bad(&self, expected: impl Into<String>, remedy: impl Into<String>) -> BadInput {
        let found = format!("{} for `{}`", self.text.quote(&self.span), self.key);
        self.text.bad(&self.span, expected, found, remedy)
    }

    /// A non-empty string without white space at its ends.
    pub(crate) fn string(&self) -> Result<String, BadInput> {
        match self.value.as_str().map(str::trim) {
            Some(s) if !s.is_empty() => Ok(s.to_string()),
            _ => Err(self.bad("text in quotes", "Write some text.")),
        }
    }

    pub(crate) fn flag(&self) -> Result<bool, BadInput> {
        self.value
            .as_bool()
            .ok_or_else(|| self.bad("true or false", "Write one of them, without quotes."))
    }

    pub(crate) fn count(&self, min: u64, max: u64) -> Result<u64, BadInput> {
        let n = self
            .value
            .as_integer()
            .and_then(|i| u64::from_str_radix(i.as_str(), i.radix()).ok());
        n.filter(|n| (min..=max).contains(n)).ok_or_else(|| {
            self.bad(
                format!("a whole number from {min} to {max}"),
                "Write such a number, without quotes.",
            )
        })
    }

    /// A number for which `ok` holds; `what` says in words which ones those are.
    pub(crate) fn real(&self, ok: fn(f64) -> bool, what: &str) -> Result<f64, BadInput> {
        let x = match self.value {
            DeValue::Float(f) => f.as_str().parse().ok(),
            DeValue::Integer(i) => i64::from_str_radix(i.as_str(), i.radix()).ok().map(|i| i as f64),
            _ => None,
        };
        x.filter(|&x| ok(x))
            .ok_or_else(|| self.bad(what, "Write such a number, without quotes."))
    }

    /// One of `all`, compared by what they display as.
    pub(crate) fn choice<T: Copy + Display>(&self, all: &[T]) -> Result<T, BadInput> {
        let names: Vec<String> = all.iter().map(ToString::to_string).collect();
        let Some(name) = self.value.as_str() else {
            return Err(self.bad(or_list(&names), "Write one of those, in quotes."));
        };
        let index = names.iter().position(|w| w == name);
        index
            .map(|i| all[i])
            .ok_or_else(|| self.bad(or_list(&names), did_you_mean(name, &names)))
    }

    /// The members of a list that has at least one, none of them twice.
    pub(crate) fn list<T: PartialEq>(
        &self,
        one: impl Fn(&Item<'d>) -> Result<T, BadInput>,
    ) -> Result<Vec<T>, BadInput> {
        let Some(array) = self.value.as_array() else {
            return Err(self.bad("a list in square brackets", format!("Write `{} = [ … ]`.", self.key)));
        };
        let mut out = Vec::with_capacity(array.len());
        for v in array.iter() {
            let item = self.with(v);
            let value = one(&item)?;
            if out.contains(&value) {
                return Err(item.bad("every member once", "Remove the second one."));
            }
            out.push(value);
        }
        if out.is_empty() {
            return Err(self.bad("at least one member", "Name one, or remove the file."));
        }
        Ok(out)
    }

    /// Exactly two numbers.
    pub(crate) fn pair(&self, ok: fn(f64) -> bool, what: &str) -> Result<[f64; 2], BadInput> {
        match self.value.as_array() {
            Some(a) if a.len() == 2 => Ok([self.with(&a[0]).real(ok, what)?, self.with(&a[1]).real(ok, what)?]),
            _ => Err(self.bad(what, format!("Write `{} = [low, high]`.", self.key))),
        }
    }

    pub(crate) fn section(&self) -> Result<Section<'d>, BadInput> {
        match self.value.as_table() {
            Some(table) => Ok(Section {
                text: self.text,
                name: self.key.clone(),
                span: self.key_span.clone(),
                table,
            }),
            None => Err(self.bad("a table", format!("Write `[{}]` on a line of its own.", self.key))),
        }
    }

    /// The tables of `[[key]]`.
    pub(crate) fn sections(&self) -> Result<Vec<Section<'d>>, BadInput> {
        match self.value.as_array() {
            Some(array) => array.iter().map(|v| self.with(v).section()).collect(),
            None => Err(self.bad("tables", format!("Write `[[{}]]` on a line of its own.", self.key))),
        }
    }

    pub(crate) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// The members of a list, as they are.
    pub(crate) fn members(&self) -> Option<Vec<Item<'d>>> {
        Some(self.value.as_array()?.iter().map(|v| self.with(v)).collect())
    }

    pub(crate) fn is_list(&self) -> bool {
        self.value.is_array()
    }

    fn with(&self, v: &'d Spanned<DeValue<'d>>) -> Item<'d> {
        Item {
            text: self.text,
            key: self.key.clone(),
            key_span: v.span(),
            span: v.span(),
            value: v.get_ref(),
        }
    }
}
