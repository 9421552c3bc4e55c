//! Per-file lists in the form of `sha256sum -c`, and the root hash that stands for a whole set.
//!
//! The canonical list has one line a file, `<hex>  <path>`, sorted by the bytes of the path, `/` between folders, LF line
//! ends; a path with a line feed, carriage return or backslash is escaped and its line begins with a backslash, as
//! coreutils does. The root hash is the SHA-256 of exactly these bytes. It depends on the names and contents below the
//! set's folder and on nothing else: not on where the folder lies, what it is called, or in which order a list was written.
//! Paths are bytes, not text: a name need not be UTF-8.

use super::hash::Sha;
use crate::error::BadInput;
use anyhow::Result;
use rayon::prelude::*;
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A path relative to a set's folder, `/`-separated, without `.` or `..`; ordered by bytes.
/// Displays as UTF-8 where it is, with `\n`, `\r`, `\\` and `\xNN` for the rest; serialises as displayed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Vec<u8>);

impl RelPath {
    /// Checks and takes over a path; a leading `./` is dropped.
    ///
    /// # Errors
    /// Says what is wrong with it: empty, absolute, or with an empty, `.`, `..` or NUL part.
    pub fn new(bytes: &[u8]) -> Result<Self, &'static str> {
        let bytes = bytes.strip_prefix(b"./").unwrap_or(bytes);
        if bytes.is_empty() {
            return Err("an empty path");
        }
        if bytes[0] == b'/' {
            return Err("an absolute path");
        }
        for part in bytes.split(|&b| b == b'/') {
            match part {
                b"" => return Err("a path with an empty part"),
                b"." | b".." => return Err("a path with a . or .. part"),
                p if p.contains(&0) => return Err("a path with a NUL byte"),
                _ => {}
            }
        }
        Ok(Self(bytes.to_vec()))
    }

    pub(crate) fn child(parent: &[u8], name: &[u8]) -> Self {
        if parent.is_empty() {
            return Self(name.to_vec());
        }
        Self([parent, b"/", name].concat())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The file itself, below `root`.
    pub fn below(&self, root: &Path) -> PathBuf {
        root.join(OsStr::from_bytes(&self.0))
    }

    /// The part of a list's line after the two spaces, and whether it is escaped.
    fn escaped(&self) -> (Cow<'_, [u8]>, bool) {
        if !self.0.iter().any(|b| matches!(b, b'\n' | b'\r' | b'\\')) {
            return (Cow::Borrowed(&self.0), false);
        }
        let mut out = Vec::with_capacity(self.0.len() + 4);
        for &b in &self.0 {
            match b {
                b'\n' => out.extend(b"\\n"),
                b'\r' => out.extend(b"\\r"),
                b'\\' => out.extend(b"\\\\"),
                _ => out.push(b),
            }
        }
        (Cow::Owned(out), true)
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::with_capacity(self.0.len());
        for chunk in self.escaped().0.utf8_chunks() {
            out.push_str(chunk.valid());
            for b in chunk.invalid() {
                out.push_str(&format!("\\x{b:02x}"));
            }
        }
        f.pad(&out)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Begins the line of a label file whose bytes are accepted.
const ACCEPTED: &str = "# label file accepted as it is: ";

/// The files of a set and their hashes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HashList {
    pub entries: BTreeMap<RelPath, Sha>,
}

impl HashList {
    /// Reads a list in any order, with LF or CRLF line ends, text or binary marks (`*`), and `#` comments.
    /// `at` names the list in errors.
    ///
    /// # Errors
    /// [`BadInput`] naming list and line for a malformed line or a path that occurs twice.
    pub fn parse(bytes: &[u8], at: &str) -> Result<Self, BadInput> {
        let all = bytes.split(|&b| b == b'\n').zip(1..);
        // A raw carriage return before the line feed is a line end: in names they are escaped.
        let all = all.map(|(line, i): (_, usize)| (line.strip_suffix(b"\r").unwrap_or(line), i));
        let lines: Vec<_> = all.filter(|(line, _)| !line.is_empty() && line[0] != b'#').collect();
        let parsed: Vec<(RelPath, Sha)> = lines
            .par_iter()
            .map(|(line, i)| parse_line(line).map_err(|found| (*i, found)))
            .collect::<Vec<_>>()
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|(i, found)| {
                BadInput::new(
                    format!("{at}:{i}"),
                    "64 hex digits, two spaces and a path, as sha256sum writes them",
                    found,
                    "Correct the line, or write the list anew (medft data lock).",
                )
            })?;
        let names: Vec<(&RelPath, usize)> = parsed.iter().map(|e| &e.0).zip(lines.iter().map(|l| l.1)).collect();
        if let Some((path, first, again)) = twice(names) {
            return Err(BadInput::new(
                format!("{at}:{again}"),
                "every path once",
                format!("{path} again (first in line {first})"),
                "Delete one of the two lines, or write the list anew (medft data lock).",
            ));
        }
        Ok(Self {
            entries: parsed.into_iter().collect(),
        })
    }

    /// The canonical list.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.entries.len() * 100);
        for (path, sha) in &self.entries {
            let (name, escaped) = path.escaped();
            if escaped {
                out.push(b'\\');
            }
            out.extend(sha.to_string().as_bytes());
            out.extend(b"  ");
            out.extend(&*name);
            out.push(b'\n');
        }
        out
    }

    /// The root hash: one number for the names and contents of a whole set. Only a list of *all* its files has one;
    /// there is deliberately none over the label files alone, because images decide results as much as labels do.
    pub fn root(&self) -> Sha {
        Sha::of(&self.to_bytes())
    }

    /// Writes the canonical list atomically.
    ///
    /// # Errors
    /// As [`crate::fsio::write_atomic`].
    pub fn write(&self, path: &Path) -> Result<()> {
        crate::fsio::write_atomic(path, &self.to_bytes())
    }

    /// Writes the canonical list, below a line for each label file whose bytes are accepted though they are not the published
    /// ones. The lines are comments: the root hash is that of the files alone.
    ///
    /// # Errors
    /// As [`crate::fsio::write_atomic`].
    pub fn write_accepting(&self, path: &Path, labels: &[String]) -> Result<()> {
        let mut bytes: Vec<u8> = labels
            .iter()
            .flat_map(|l| format!("{ACCEPTED}{l}\n").into_bytes())
            .collect();
        bytes.extend(self.to_bytes());
        crate::fsio::write_atomic(path, &bytes)
    }

    /// The label files that a list on disk accepts.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn accepted_labels(path: &Path) -> Result<Vec<String>> {
        let bytes = crate::fsio::read(path)?;
        let lines = bytes.split(|&b| b == b'\n').filter_map(|l| std::str::from_utf8(l).ok());
        Ok(lines
            .filter_map(|l| l.strip_prefix(ACCEPTED))
            .map(|l| l.trim_end_matches('\r').to_owned())
            .collect())
    }

    /// Reads a list from a file.
    ///
    /// # Errors
    /// Where the file cannot be read, or is no list.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = crate::fsio::read(path)?;
        Ok(Self::parse(&bytes, &path.display().to_string())?)
    }
}

/// The first line that names a path again: the path, its first line and that one.
fn twice(mut names: Vec<(&RelPath, usize)>) -> Option<(&RelPath, usize, usize)> {
    // As medft writes a list it is sorted, and this only looks through it.
    names.sort();
    let groups = names.chunk_by(|a, b| a.0 == b.0).filter(|g| g.len() > 1);
    groups.map(|g| (g[0].0, g[0].1, g[1].1)).min_by_key(|g| g.2)
}

/// A line without its end; the error says what was found instead.
fn parse_line(line: &[u8]) -> Result<(RelPath, Sha), String> {
    let text = || String::from_utf8_lossy(&line[..line.len().min(100)]).into_owned();
    let (escaped, rest) = match line.strip_prefix(b"\\") {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (hex, rest) = rest.split_at_checked(64).ok_or_else(|| format!("`{}`", text()))?;
    let sha = std::str::from_utf8(hex).ok().and_then(Sha::parse);
    let name = rest.strip_prefix(b"  ").or_else(|| rest.strip_prefix(b" *"));
    let (Some(sha), Some(name)) = (sha, name) else {
        return Err(format!("`{}`", text()));
    };
    let name = if escaped {
        unescape(name).ok_or("an unknown escape in the path")?
    } else {
        name.to_vec()
    };
    Ok((RelPath::new(&name)?, sha))
}

fn unescape(name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(&b) = bytes.next() {
        out.push(match b {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b'\\' => b'\\',
                _ => return None,
            },
            _ => b,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&[u8]]) -> HashList {
        let entries = names.iter().map(|n| (RelPath::new(n).unwrap(), Sha::of(n))).collect();
        HashList { entries }
    }

    #[test]
    fn odd_names_survive_a_round_trip() {
        let l = list(&[
            b"plain.jpg",
            b"a b/two  spaces",
            b"*star",
            b" lead",
            b"nl\nx",
            b"cr\r",
            b"back\\slash",
            b"\xff\xfe",
        ]);
        assert_eq!(HashList::parse(&l.to_bytes(), "l").unwrap(), l);
        assert_eq!(RelPath::new(b"\xff\\\n").unwrap().to_string(), r"\xff\\\n");
    }

    #[test]
    fn order_line_ends_marks_and_case_do_not_change_the_root() {
        let l = list(&[b"b", b"a/x", b"a.txt"]);
        let mut lines: Vec<String> = String::from_utf8(l.to_bytes())
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        assert_eq!(lines[0][66..], *"a.txt", "sorted by bytes: . before /");
        lines.reverse();
        let other = lines.join("\r\n").replacen("  ", " *", 1).replace("  a/x", "  ./a/x");
        let (hex, rest) = other.split_at(64);
        let other = format!("# by hand\n{}{rest}", hex.to_uppercase());
        assert_eq!(HashList::parse(other.as_bytes(), "l").unwrap().root(), l.root());
    }

    #[test]
    fn a_bad_line_is_named() {
        let sha = Sha::of(b"");
        let bad = |line: &str| {
            let text = format!("{sha}  ok\n{line}\n");
            HashList::parse(text.as_bytes(), "some/list").unwrap_err().to_string()
        };
        for line in [
            "hello".to_owned(),
            format!("{sha} one-space"),
            format!("{sha}  /etc/passwd"),
            format!("{sha}  a/../../b"),
            format!("{sha}  "),
            format!("\\{sha}  a\\q"),
            format!("{}g  a", &sha.to_string()[1..]),
        ] {
            let said = bad(&line);
            assert!(said.starts_with("some/list:2: expected 64 hex digits"), "{said}");
        }
        let twice = bad(&format!("{sha}  ok"));
        assert!(
            twice.contains("some/list:2") && twice.contains("first in line 1"),
            "{twice}"
        );
    }
}
