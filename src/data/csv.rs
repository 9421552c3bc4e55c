//! CSV label files, read whole, every complaint with file and line.
//!
//! LF and CRLF, with or without a byte-order mark. A row with too few or too many fields is an error: the authors' reader
//! (pandas) fills or shifts such rows, and either way the labels would be wrong.

use super::files;
use super::folder::Folder;
use crate::error::BadInput;
use ::csv::{Reader, ReaderBuilder, StringRecord};
use anyhow::Result;
use rayon::prelude::*;
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
        let header: Vec<String> = match reader(&text, true).headers() {
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
        self.first(|_| Ok(()))?;
        let mut rows = Rows::new(self, self.whole());
        while let Some(row) = rows.next()? {
            each(&row)?;
        }
        Ok(())
    }

    /// What `each` makes of the first row.
    ///
    /// # Errors
    /// As [`CsvTable::rows`].
    pub fn first<T>(&self, each: impl FnOnce(&CsvRow<'_>) -> Result<T>) -> Result<T> {
        if let Some(row) = Rows::new(self, self.whole()).next()? {
            return each(&row);
        }
        Err(BadInput::new(
            self.path.display(),
            "a row for every image",
            "a header and nothing below it",
            AS_DISTRIBUTED,
        )
        .into())
    }

    /// What `each` makes of every row, in file order, on all threads.
    ///
    /// # Errors
    /// As [`CsvTable::rows`]: of several bad rows the first of the file.
    pub fn map<T: Send>(&self, each: impl Fn(&CsvRow<'_>) -> Result<T> + Sync) -> Result<Vec<T>> {
        self.first(|_| Ok(()))?;
        let of_part = |part| {
            let (mut rows, mut out) = (Rows::new(self, part), Vec::new());
            while let Some(row) = rows.next()? {
                out.push(each(&row)?);
            }
            Ok(out)
        };
        let parts: Vec<Result<Vec<T>>> = self.parts(PART).into_par_iter().map(of_part).collect();
        let mut all = Vec::new();
        for part in parts {
            all.extend(part?);
        }
        Ok(all)
    }

    fn whole(&self) -> Part<'_> {
        Part {
            text: &self.text,
            line: 1,
        }
    }

    /// The text in parts of at least `bytes`, each of whole rows. Where there are quotes a field may go over several lines, and
    /// the text stays in one.
    fn parts(&self, bytes: usize) -> Vec<Part<'_>> {
        let mut rest = self.whole();
        let mut parts = Vec::new();
        if !self.text.contains('"') {
            while let Some(end) = rest
                .text
                .as_bytes()
                .get(bytes..)
                .and_then(|b| b.iter().position(|&b| b == b'\n'))
            {
                let (text, below) = rest.text.split_at(bytes + end + 1);
                parts.push(Part { text, ..rest });
                rest = Part {
                    text: below,
                    line: rest.line + text.bytes().filter(|&b| b == b'\n').count() as u64,
                };
            }
        }
        parts.push(rest);
        parts
    }
}

/// Bytes that one thread parses at a time.
const PART: usize = 1 << 18;

/// Some of a file's rows.
#[derive(Clone, Copy)]
struct Part<'a> {
    text: &'a str,
    /// Of its first byte, from 1. The first line is the header.
    line: u64,
}

/// Reads the rows of a part.
struct Rows<'a> {
    table: &'a CsvTable,
    reader: Reader<&'a [u8]>,
    lines: Lines<'a>,
    fields: StringRecord,
}

impl<'a> Rows<'a> {
    fn new(table: &'a CsvTable, part: Part<'a>) -> Self {
        Self {
            table,
            reader: reader(part.text, part.line == 1),
            lines: Lines::new(part),
            fields: StringRecord::new(),
        }
    }

    fn next(&mut self) -> Result<Option<CsvRow<'_>>> {
        let (path, header) = (&self.table.path, &self.table.header);
        if !self
            .reader
            .read_record(&mut self.fields)
            .map_err(|e| malformed(path, &e))?
        {
            return Ok(None);
        }
        let begins = self.fields.position().map_or(0, |p| p.byte() as usize);
        let row = CsvRow {
            path,
            line: self.lines.of(begins),
            fields: &self.fields,
        };
        if row.fields.len() != header.len() {
            let (want, got) = (header.len(), row.fields.len());
            return Err(row.bad(format!("{want} fields"), format!("{got} fields"), AS_DISTRIBUTED));
        }
        Ok(Some(row))
    }
}

fn reader(text: &str, header: bool) -> Reader<&[u8]> {
    ReaderBuilder::new()
        .flexible(true)
        .has_headers(header)
        .from_reader(text.as_bytes())
}

/// Counts lines along a file. (The csv crate's own count is one short where lines end in CRLF or blank ones precede a row.)
struct Lines<'a> {
    text: &'a [u8],
    byte: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    fn new(part: Part<'a>) -> Self {
        Self {
            text: part.text.as_bytes(),
            byte: 0,
            line: part.line,
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

    /// On any number of threads: the rows, their lines, and which of two bad rows is named.
    #[test]
    fn rows_read_in_parts_are_those_read_in_one() {
        let long: String = (0..40)
            .map(|i| format!("{i},x{i}\r\n{}", ["", "\r\n", "\n"][i % 3]))
            .collect();
        for text in [
            format!("a,b\n{long}"),
            format!("a,\"b\nc\"\n{long}"),
            format!("a,b\r\n\n{long}7,8"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("x.csv"), &text).unwrap();
            let table = CsvTable::open(&dir.path().into(), "x.csv".as_ref()).unwrap();
            let want = all(text.as_bytes()).unwrap();
            assert_eq!(want.len(), text.matches(",").count() - 1);
            for bytes in [0, 1, 7, 50, 10_000] {
                let (mut got, parts) = (Vec::new(), table.parts(bytes));
                assert_eq!(parts.len() > 2, bytes < 100 && !text.contains('"'));
                for part in parts {
                    let mut rows = Rows::new(&table, part);
                    while let Some(r) = rows.next().unwrap() {
                        got.push((r.line(), r.fields.iter().map(str::to_owned).collect::<Vec<_>>()));
                    }
                }
                assert_eq!(got, want, "parts of {bytes} bytes");
            }
        }
        let rows = 3 * PART / 4;
        let text = format!("a,b\n{}", "1,2\n".repeat(rows));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x.csv"), &text).unwrap();
        let table = CsvTable::open(&dir.path().into(), "x.csv".as_ref()).unwrap();
        assert!(table.parts(PART).len() > 2);
        let lines = table.map(|r| Ok(r.line())).unwrap();
        assert!(lines.into_iter().eq(2..rows as u64 + 2));
        let last_third = |r: &CsvRow<'_>| match r.line() as usize > rows / 3 {
            true => Err(r.bad("", "", "")),
            false => Ok(()),
        };
        let e = table.map(last_third).unwrap_err().to_string();
        assert!(e.contains(&format!("x.csv:{}:", rows / 3 + 1)), "{e}");
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
