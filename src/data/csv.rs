//! CSV label files, read whole, every complaint with file and line.
//!
//! LF and CRLF, with or without a byte-order mark. A row with too few or too many fields is an error: the authors' reader
//! (pandas) fills or shifts such rows, and either way the labels would be wrong.

use super::files;
use super::folder::Folder;
use crate::error::BadInput;
use ::csv::{Reader, ReaderBuilder, StringRecord};
use anyhow::Result;
use std::fmt;
use std::path::{Path, PathBuf};

const AS_DISTRIBUTED: &str = "Restore the file as its source distributes it.";

/// A CSV file with its header read.
pub struct CsvTable {
    path: PathBuf,
    text: String,
    header: Vec<String>,
}

/// One row, able to complain about itself.
pub struct CsvRow<'a> {
    path: &'a Path,
    line: u64,
    fields: &'a StringRecord,
}

impl CsvTable {
    /// Reads `file` of a data set's folder, and its header.
    ///
    /// # Errors
    /// [`BadInput`] when the file is missing, empty, not UTF-8, not the verified one, or names a column twice.
    pub fn open(root: &Folder, file: &Path) -> Result<Self> {
        let text = files::read_text(root, file)?;
        let path = root.join(file);
        let header: Vec<String> = match reader(&text).headers() {
            Ok(h) => h.iter().map(str::to_owned).collect(),
            Err(e) => return Err(malformed(&path, &e)),
        };
        for (i, name) in header.iter().enumerate() {
            if header[..i].contains(name) {
                return Err(BadInput::new(
                    format!("{}:1", path.display()),
                    "every column once",
                    format!("column {name:?} twice"),
                    AS_DISTRIBUTED,
                )
                .into());
            }
        }
        Ok(Self { path, text, header })
    }

    /// Column names in file order.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// Position of a column.
    ///
    /// # Errors
    /// [`BadInput`] naming the columns that are there.
    pub fn column(&self, name: &str) -> Result<usize> {
        self.header.iter().position(|h| h == name).ok_or_else(|| {
            BadInput::new(
                format!("{}:1", self.path.display()),
                format!("a column {name:?}"),
                format!("only {}", self.header.join(", ")),
                AS_DISTRIBUTED,
            )
            .into()
        })
    }

    /// Hands every row to `each`, in file order; blank lines are skipped.
    ///
    /// # Errors
    /// [`BadInput`] for a ragged row or a file without rows, and whatever `each` returns.
    pub fn rows(&self, mut each: impl FnMut(&CsvRow<'_>) -> Result<()>) -> Result<()> {
        let mut reader = reader(&self.text);
        let mut lines = Lines::new(&self.text);
        let mut fields = StringRecord::new();
        let mut any = false;
        while reader.read_record(&mut fields).map_err(|e| malformed(&self.path, &e))? {
            any = true;
            let row = CsvRow {
                path: &self.path,
                line: lines.of(fields.position().map_or(0, |p| p.byte() as usize)),
                fields: &fields,
            };
            if fields.len() != self.header.len() {
                let (want, got) = (self.header.len(), fields.len());
                return Err(row.bad(format!("{want} fields"), format!("{got} fields"), AS_DISTRIBUTED));
            }
            each(&row)?;
        }
        if any {
            return Ok(());
        }
        Err(BadInput::new(
            self.path.display(),
            "a row for every image",
            "a header and nothing below it",
            AS_DISTRIBUTED,
        )
        .into())
    }
}

fn reader(text: &str) -> Reader<&[u8]> {
    ReaderBuilder::new().flexible(true).from_reader(text.as_bytes())
}

/// Counts lines along a file. (The csv crate's own count is one short where lines end in CRLF or blank ones precede a row.)
struct Lines<'a> {
    text: &'a [u8],
    byte: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text: text.as_bytes(),
            byte: 0,
            line: 1,
        }
    }

    /// The line of the row that begins at or, past line ends, after `byte`; bytes must not fall.
    fn of(&mut self, byte: usize) -> u64 {
        while let Some(&b) = self.text.get(self.byte) {
            if self.byte >= byte && !matches!(b, b'\r' | b'\n') {
                break;
            }
            self.line += u64::from(b == b'\n');
            self.byte += 1;
        }
        self.line
    }
}

impl CsvRow<'_> {
    /// The field in column `i` of the header.
    pub fn get(&self, i: usize) -> &str {
        &self.fields[i]
    }

    /// Line in the file, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// A [`BadInput`] at this row.
    pub fn bad(&self, expected: impl Into<String>, found: impl Into<String>, remedy: &str) -> anyhow::Error {
        BadInput::new(self, expected, found, remedy).into()
    }
}

/// `file:line`.
impl fmt::Display for CsvRow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

fn malformed(path: &Path, e: &::csv::Error) -> anyhow::Error {
    let at = match e.position() {
        Some(p) => format!("{}:{}", path.display(), p.line()),
        None => path.display().to_string(),
    };
    BadInput::new(at, "comma-separated values", e.to_string(), AS_DISTRIBUTED).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<(u64, Vec<String>)>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("x.csv");
        std::fs::write(&path, bytes)?;
        let mut got = Vec::new();
        CsvTable::open(&dir.path().into(), "x.csv".as_ref())?.rows(|r| {
            got.push((r.line(), r.fields.iter().map(str::to_owned).collect()));
            Ok(())
        })?;
        Ok(got)
    }

    #[test]
    fn lf_crlf_a_missing_last_newline_and_a_byte_order_mark_read_alike() {
        let want = vec![
            (2, vec!["1".to_string(), "x,y".into()]),
            (3, vec!["2".into(), String::new()]),
        ];
        for text in [
            "a,b\n1,\"x,y\"\n2,\n",
            "a,b\r\n1,\"x,y\"\r\n2,\r\n",
            "a,b\n1,\"x,y\"\n2,",
            "\u{feff}a,b\n1,\"x,y\"\n2,\n",
        ] {
            assert_eq!(all(text.as_bytes()).unwrap(), want, "{text:?}");
        }
    }

    #[test]
    fn broken_files_are_named_with_their_line() {
        for (bytes, said) in [
            (&b""[..], "x.csv: expected at least one line, found an empty file."),
            (b" \r\n", "found an empty file."),
            (b"a,b\n", "x.csv: expected a row for every image"),
            (b"a,b\n1,2\n3\n", "x.csv:3: expected 2 fields, found 1 fields."),
            (
                b"a,b\r\n1,2\r\n\r\n1,2,3\r\n",
                "x.csv:4: expected 2 fields, found 3 fields.",
            ),
            (
                b"a,b\n1,2\n\xff,3\n",
                "x.csv:3: expected UTF-8 text, found the byte 0xff.",
            ),
            (
                b"a,a\n1,2\n",
                "x.csv:1: expected every column once, found column \"a\" twice.",
            ),
        ] {
            let e = all(bytes).unwrap_err();
            assert!(
                e.downcast_ref::<BadInput>().is_some() && e.to_string().contains(said),
                "{e}"
            );
        }
        let e = CsvTable::open(&"no/such/folder".into(), "x.csv".as_ref())
            .err()
            .unwrap()
            .to_string();
        assert!(
            e.contains("no/such/folder is missing as well") && e.contains("--data-dir"),
            "{e}"
        );
    }
}
