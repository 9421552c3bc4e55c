//! Reading published checkpoints strictly: each tensor of the file is used once, deliberately unused, or an error.
//!
//! A name map is data: a list of [`NameRule`]s from the names in a file to the canonical names (those of the original
//! implementation). Tensors are read when they are asked for, so a large file is never whole in memory.

use super::pickle::PickleFile;
use super::safetensors::SafetensorsFile;
use crate::error::BadInput;
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

/// What happens to a tensor on its way to its canonical name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Same,
    /// Piece `k` of `n`, concatenated along axis 0 (separate q, k, v).
    Part(usize, usize),
    /// The matrix transposed.
    Transpose,
    /// The same elements in the shape the model asks for (a missing batch axis, a 1×1 kernel).
    Reshape,
    /// In the file but not in the encoder; the reason.
    Unused(&'static str),
    /// Not in the file, and zero in the encoder, which does not use it; the reason.
    Absent(&'static str),
}

/// One line of a name map. In `from`, `*` stands for a run of digits, and a trailing `>` for any rest; the same marks in
/// `to` are filled in order.
#[derive(Debug, Clone, Copy)]
pub struct NameRule {
    pub from: &'static str,
    pub to: &'static str,
    pub how: How,
}

/// A tensor is renamed, its values unchanged.
pub const fn same(from: &'static str, to: &'static str) -> NameRule {
    NameRule {
        from,
        to,
        how: How::Same,
    }
}

/// Piece `k` of `n` of a canonical tensor.
pub const fn part(from: &'static str, to: &'static str, k: usize, n: usize) -> NameRule {
    NameRule {
        from,
        to,
        how: How::Part(k, n),
    }
}

/// A tensor of the file that the encoder does not have.
pub const fn unused(from: &'static str, why: &'static str) -> NameRule {
    NameRule {
        from,
        to: "",
        how: How::Unused(why),
    }
}

/// A tensor that the encoder has and the layout does not: zeros, which nothing reads.
pub const fn absent(to: &'static str, why: &'static str) -> NameRule {
    NameRule {
        from: "",
        to,
        how: How::Absent(why),
    }
}

/// A tensor of the encoder under its names in a layout, joined ones apart: what [`Checkpoint`] undoes. Nothing where the layout does
/// not have it.
///
/// # Errors
/// For a tensor that no rule makes.
pub fn in_layout(rules: &[NameRule], name: &str, tensor: &Tensor) -> Result<Vec<(String, Tensor)>> {
    if rules.is_empty() {
        return Ok(vec![(name.to_owned(), tensor.clone())]);
    }
    let mut out: BTreeMap<usize, (String, Tensor)> = BTreeMap::new();
    for rule in rules {
        let Some(caps) = matches(rule.to, name) else { continue };
        let from = fill(rule.from, &caps);
        let (at, value) = match rule.how {
            How::Unused(_) => continue,
            How::Absent(_) => return Ok(Vec::new()),
            How::Part(k, n) => {
                let rows = tensor.dim(0)? / n;
                (k, tensor.narrow(0, k * rows, rows)?.contiguous()?)
            }
            How::Transpose => (0, tensor.t()?.contiguous()?),
            // The one axis that published files leave out is that of the batch.
            How::Reshape if tensor.rank() == 3 && tensor.dim(0)? == 1 => (0, tensor.squeeze(0)?),
            How::Same | How::Reshape => (0, tensor.clone()),
        };
        // Where a layout has two names for a tensor, the first is its own.
        out.entry(at).or_insert((from, value));
    }
    if out.is_empty() {
        anyhow::bail!("no name of the layout is for {name}");
    }
    Ok(out.into_values().collect())
}

/// Where tensors are read from.
enum TensorStore {
    Memory(BTreeMap<String, Tensor>),
    Safetensors(SafetensorsFile),
    Pickle(PickleFile),
}

impl TensorStore {
    fn names(&self) -> Vec<String> {
        match self {
            Self::Memory(m) => m.keys().cloned().collect(),
            Self::Safetensors(s) => s.names().map(str::to_owned).collect(),
            Self::Pickle(p) => p.names().map(str::to_owned).collect(),
        }
    }

    fn shape(&self, name: &str) -> Result<Vec<usize>> {
        Ok(match self {
            Self::Memory(m) => m.get(name).context("no such tensor")?.dims().to_vec(),
            Self::Safetensors(s) => s.shape(name).context("no such tensor")?.to_vec(),
            Self::Pickle(p) => p.shape(name).context("no such tensor")?.to_vec(),
        })
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let t = match self {
            Self::Memory(m) => m.get(name).context("no such tensor")?.to_device(device)?,
            Self::Safetensors(s) => s.load(name, device)?,
            Self::Pickle(p) => p.load(name, device)?,
        };
        Ok(t.to_dtype(DType::F32)?)
    }
}

/// A checkpoint under its canonical names.
pub struct Checkpoint {
    /// The file, for messages.
    at: String,
    store: TensorStore,
    /// Canonical name → names in the file, in order of the pieces.
    wanted: BTreeMap<String, Vec<(String, How)>>,
    /// Canonical names that the layout does not have.
    absent: Vec<String>,
}

impl Checkpoint {
    /// Tensors in memory, already under file names.
    ///
    /// # Errors
    /// [`BadInput`] for a tensor that no rule names or a piece that is missing.
    pub fn from_tensors(at: &str, tensors: BTreeMap<String, Tensor>, rules: &[NameRule]) -> Result<Self> {
        Self::new(at.to_owned(), TensorStore::Memory(tensors), rules)
    }

    /// A file in any format medft reads, chosen by its extension, which must hash to `sha256` where that is given: whatever
    /// is taken from it are bytes that did.
    ///
    /// # Errors
    /// As [`SafetensorsFile::open`] and [`PickleFile::open`]; [`BadInput`] for another extension.
    pub fn open(path: &Path, sha256: Option<&str>, rules: &[NameRule]) -> Result<Self> {
        match path.extension().and_then(|e| e.to_str()) {
            Some("safetensors") => {
                let file = SafetensorsFile::open(path, sha256)?;
                Self::new(path.display().to_string(), TensorStore::Safetensors(file), rules)
            }
            Some("pth" | "pt" | "bin") => {
                let file = PickleFile::open(path, sha256)?;
                Self::new(path.display().to_string(), TensorStore::Pickle(file), rules)
            }
            e => Err(BadInput::new(
                path.display(),
                "a .safetensors, .pth, .pt or .bin file",
                e.unwrap_or("no extension"),
                "Use the published file under its published name.",
            )
            .into()),
        }
    }

    /// A trained model's file: `head.*` under the rest of their names, all else by the layout's rules below `scope`.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn trained(path: &Path, sha256: Option<&str>, rules: &[NameRule], scope: &str) -> Result<Self> {
        let rest: &[NameRule] = if rules.is_empty() { &[same(">", ">")] } else { rules };
        let rules = [&[same("head.>", "head.>")], rest].concat();
        let mut all = Self::open(path, sha256, &rules)?;
        let named = |to: String| match to.strip_prefix("head.") {
            Some(head) => head.to_owned(),
            None => format!("{scope}{to}"),
        };
        all.wanted = std::mem::take(&mut all.wanted)
            .into_iter()
            .map(|(to, parts)| (named(to), parts))
            .collect();
        all.absent = all.absent.into_iter().map(named).collect();
        Ok(all)
    }

    fn new(at: String, store: TensorStore, rules: &[NameRule]) -> Result<Self> {
        let mut wanted: BTreeMap<String, Vec<(usize, String, How)>> = BTreeMap::new();
        for name in store.names() {
            let hit = if rules.is_empty() {
                Some((name.clone(), How::Same))
            } else {
                rules
                    .iter()
                    .find_map(|r| matches(r.from, &name).map(|caps| (fill(r.to, &caps), r.how)))
            };
            let Some((to, how)) = hit else {
                return Err(bad_tensor(
                    &at,
                    "only tensors of this layout",
                    format!("extra tensor {name}"),
                ));
            };
            let k = match how {
                How::Unused(_) | How::Absent(_) => continue,
                How::Part(k, _) => k,
                How::Same | How::Transpose | How::Reshape => 0,
            };
            wanted.entry(to).or_default().push((k, name, how));
        }
        let mut ordered = BTreeMap::new();
        for (to, mut parts) in wanted {
            parts.sort_by_key(|p| p.0);
            let n = match parts[0].2 {
                How::Part(_, n) => n,
                _ => 1,
            };
            if parts.iter().map(|p| p.0).ne(0..n) {
                let names: Vec<&str> = parts.iter().map(|p| p.1.as_str()).collect();
                return Err(bad_tensor(
                    &at,
                    format!("{n} piece(s) of {to}"),
                    format!("{} ({})", parts.len(), names.join(", ")),
                ));
            }
            ordered.insert(to, parts.into_iter().map(|(_, n, h)| (n, h)).collect());
        }
        Ok(Self {
            at,
            store,
            wanted: ordered,
            absent: rules
                .iter()
                .filter(|r| matches!(r.how, How::Absent(_)))
                .map(|r| r.to.to_owned())
                .collect(),
        })
    }

    /// Canonical names not taken yet, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.wanted.keys().map(String::as_str)
    }

    /// Whether a canonical name is there and not taken yet.
    pub fn contains(&self, name: &str) -> bool {
        self.wanted.contains_key(name)
    }

    /// Takes a tensor out, as float32 on `device`; its shape must be `dims`.
    ///
    /// # Errors
    /// [`BadInput`] where it is missing (or taken before) or has another shape.
    pub fn take(&mut self, name: &str, dims: &[usize], device: &Device) -> Result<Tensor> {
        let Some(parts) = self.wanted.remove(name) else {
            if self.absent.iter().any(|a| a == name) {
                return Ok(Tensor::zeros(dims, DType::F32, device)?);
            }
            return Err(bad_tensor(
                &self.at,
                format!("tensor {name} {dims:?}"),
                "no such tensor (missing)",
            ));
        };
        // Shapes are compared before a value is read: a wrong file costs no memory.
        let found = self.joined(&parts)?;
        let fits = match parts[0].1 {
            // Only axes of length 1 come or go: a transposed matrix has as many elements too.
            How::Reshape => found.iter().filter(|d| **d != 1).eq(dims.iter().filter(|d| **d != 1)),
            _ => found == dims,
        };
        if !fits {
            let names: Vec<String> = parts.into_iter().map(|p| p.0).collect();
            return Err(bad_tensor(
                &self.at,
                format!("tensor {name} of shape {dims:?}"),
                format!("{} of shape {found:?}", names.join(" + ")),
            ));
        }
        let mut pieces = Vec::with_capacity(parts.len());
        for (n, how) in &parts {
            let t = self
                .store
                .load(n, device)
                .with_context(|| format!("{}: tensor {n}", self.at))?;
            pieces.push(match how {
                How::Transpose => t.t()?.contiguous()?,
                How::Reshape => t.reshape(dims)?,
                _ => t,
            });
        }
        Ok(if pieces.len() == 1 {
            pieces.remove(0)
        } else {
            Tensor::cat(&pieces, 0)?
        })
    }

    /// The shape of a tensor made of `parts`, after joining and transposing.
    fn joined(&self, parts: &[(String, How)]) -> Result<Vec<usize>> {
        let (first, how) = &parts[0];
        let mut s = self.store.shape(first)?;
        if matches!(how, How::Transpose) {
            s.reverse();
        }
        for (n, _) in &parts[1..] {
            let next = self.store.shape(n)?;
            if s.is_empty() || next.len() != s.len() || next[1..] != s[1..] {
                return Err(bad_tensor(
                    &self.at,
                    format!("{n} to continue {first} of shape {s:?}"),
                    format!("shape {next:?}"),
                ));
            }
            s[0] += next[0];
        }
        Ok(s)
    }

    /// Canonical names with their shapes (after joining and transposing), in order.
    ///
    /// # Errors
    /// Where parts that are joined do not fit together.
    pub fn shapes(&self) -> Result<Vec<(String, Vec<usize>)>> {
        self.wanted
            .iter()
            .map(|(to, parts)| Ok((to.clone(), self.joined(parts)?)))
            .collect()
    }

    /// Checks that every tensor was taken.
    ///
    /// # Errors
    /// [`BadInput`] naming up to five tensors that the model does not have.
    pub fn finish(&self) -> Result<()> {
        if self.wanted.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.names().take(5).collect();
        Err(bad_tensor(
            &self.at,
            "only tensors the model has",
            format!("{} extra tensor(s): {}", self.wanted.len(), names.join(", ")),
        ))
    }
}

/// Complains that a name occurs where it must not.
fn bad_tensor(at: &str, expected: impl Into<String>, found: impl Into<String>) -> anyhow::Error {
    BadInput::new(
        at,
        expected,
        found,
        "Use the published file named in data-manifests/weights; a renamed or converted file needs its own name map.",
    )
    .into()
}

/// What `*` and `>` stood for, or `None`.
fn matches<'n>(pattern: &str, name: &'n str) -> Option<Vec<&'n str>> {
    let mut caps = Vec::new();
    let (mut p, mut n) = (pattern, name);
    loop {
        let stop = p.find(['*', '>']).unwrap_or(p.len());
        n = n.strip_prefix(&p[..stop])?;
        p = &p[stop..];
        match p.as_bytes().first() {
            None => return n.is_empty().then_some(caps),
            Some(b'>') => {
                caps.push(n);
                return Some(caps);
            }
            Some(_) => {
                let end = n.find(|c: char| !c.is_ascii_digit()).unwrap_or(n.len());
                if end == 0 {
                    return None;
                }
                caps.push(&n[..end]);
                (p, n) = (&p[1..], &n[end..]);
            }
        }
    }
}

fn fill(to: &str, caps: &[&str]) -> String {
    let mut out = String::new();
    let mut caps = caps.iter();
    for c in to.chars() {
        match c {
            '*' | '>' => out.push_str(caps.next().copied().unwrap_or_default()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(dims: &[usize]) -> Tensor {
        Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap()
    }

    fn map(names: &[(&str, &[usize])]) -> BTreeMap<String, Tensor> {
        names.iter().map(|(n, d)| ((*n).to_owned(), t(d))).collect()
    }

    const RULES: &[NameRule] = &[
        part("layer.*.q.>", "blocks.*.qkv.>", 0, 2),
        part("layer.*.k.>", "blocks.*.qkv.>", 1, 2),
        same("norm.>", "ln.>"),
        unused("decoder.>", "not the encoder"),
    ];

    #[test]
    fn pieces_are_joined_and_unused_tensors_ignored() {
        let m = map(&[
            ("layer.11.q.weight", &[2, 3]),
            ("layer.11.k.weight", &[4, 3]),
            ("norm.bias", &[3]),
            ("decoder.x", &[9]),
        ]);
        let mut c = Checkpoint::from_tensors("f", m, RULES).unwrap();
        assert_eq!(c.names().collect::<Vec<_>>(), ["blocks.11.qkv.weight", "ln.bias"]);
        assert_eq!(
            c.take("blocks.11.qkv.weight", &[6, 3], &Device::Cpu).unwrap().dims(),
            [6, 3]
        );
        let e = c.finish().unwrap_err().to_string();
        assert!(e.contains("ln.bias") && e.contains("extra"), "{e}");
    }

    #[test]
    fn missing_extra_and_misshaped_tensors_are_named() {
        let e = Checkpoint::from_tensors("f.bin", map(&[("head.weight", &[1])]), RULES)
            .err()
            .unwrap()
            .to_string();
        assert!(e.contains("f.bin") && e.contains("head.weight"), "{e}");
        let e = Checkpoint::from_tensors("f", map(&[("layer.0.k.weight", &[1, 1])]), RULES)
            .err()
            .unwrap()
            .to_string();
        assert!(e.contains("2 piece(s) of blocks.0.qkv.weight"), "{e}");
        let mut c = Checkpoint::from_tensors("f", map(&[("norm.weight", &[3])]), RULES).unwrap();
        let e = c.take("ln.bias", &[3], &Device::Cpu).unwrap_err().to_string();
        assert!(e.contains("ln.bias") && e.contains("missing"), "{e}");
        let e = c.take("ln.weight", &[4], &Device::Cpu).unwrap_err().to_string();
        assert!(e.contains("[4]") && e.contains("[3]"), "{e}");
    }

    #[test]
    fn digits_only_match_digits() {
        assert_eq!(matches("a.*.b", "a.12.b"), Some(vec!["12"]));
        assert_eq!(matches("a.*.b", "a.x.b"), None);
        assert_eq!(matches("a.>", "a.x.b"), Some(vec!["x.b"]));
        assert_eq!(matches("a.b", "a.b.c"), None);
    }
}
