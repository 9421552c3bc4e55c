//! A table as people have it: any usual separator, line end and encoding, with or without a byte-order mark. Rows come with their line.

use super::types::Problem;
use crate::data::format::{Format, HEAD};
use crate::error::BadInput;
use crate::{fsio, limits};
use ::csv::{ReaderBuilder, StringRecord};
use anyhow::Result;
use std::path::Path;

const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// A table, its blank rows left out.
pub(crate) struct Sheet {
    pub header: Vec<String>,
    /// Line and fields, as many as the header has.
    pub rows: Vec<(u64, Vec<String>)>,
    pub separator: char,
    pub problems: Vec<Problem>,
    path: String,
}

impl Sheet {
    /// Reads a table; `wanted` are columns by which its separator is known.
    ///
    /// # Errors
    /// [`BadInput`] where the file cannot be read or is no text table. Rows that cannot be used are among the problems.
    pub(crate) fn read(path: &Path, wanted: &[&str]) -> Result<Self> {
        let at = path.display().to_string();
        let bytes = fsio::read_at_most(path, limits::WHOLE_FILE).map_err(|e| {
            let remedy = "Name the table with a row an image; without --labels one folder a class is read.";
            BadInput::new(&at, "a table", e.to_string(), remedy)
        })?;
        let mut sheet = Self {
            header: Vec::new(),
            rows: Vec::new(),
            separator: ',',
            problems: Vec::new(),
            path: at,
        };
        let text = sheet.decode(&bytes)?;
        // Excel's own first line that names the separator.
        let skip = match text.strip_prefix("sep=") {
            Some(rest) => text.len() - rest.trim_start_matches(|c| c != '\n').len(),
            None => 0,
        };
        let separator = separator(&text[skip..], wanted);
        sheet.separator = char::from(separator);
        sheet.records(&text, skip, separator)?;
        Ok(sheet)
    }

    /// `file:line`.
    pub(crate) fn at(&self, line: u64) -> String {
        format!("{}:{line}", self.path)
    }

    fn bad(&mut self, line: u64, what: impl Into<String>) {
        self.problems.push(Problem {
            at: self.at(line),
            what: what.into(),
        });
    }

    fn decode(&mut self, bytes: &[u8]) -> Result<String> {
        let at = self.path.clone();
        let no_text = |found: String, remedy: &str| BadInput::new(&at, "a table as text", found, remedy);
        let wide = |bytes: &[u8], of: fn([u8; 2]) -> u16| {
            let units: Vec<u16> = bytes.as_chunks().0.iter().map(|&b| of(b)).collect();
            String::from_utf16(&units).map_err(|e| no_text(e.to_string(), "Save it as CSV in UTF-8."))
        };
        let text = match bytes {
            [0xFF, 0xFE, rest @ ..] => wide(rest, u16::from_le_bytes)?,
            [0xFE, 0xFF, rest @ ..] => wide(rest, u16::from_be_bytes)?,
            [0xEF, 0xBB, 0xBF, rest @ ..] => self.utf8(rest),
            _ => match Format::of(&bytes[..bytes.len().min(HEAD)]) {
                Format::Text => self.utf8(bytes),
                Format::Zip => {
                    let remedy = "Save the sheet as CSV in UTF-8 (File, Save as), then name that file.";
                    return Err(no_text(
                        "a workbook of a spreadsheet program, or another zip file".into(),
                        remedy,
                    )
                    .into());
                }
                Format::Empty => {
                    return Err(no_text("an empty file".into(), "Name a table with a row an image.").into());
                }
                Format::Unknown if bytes.contains(&0) => {
                    return Err(no_text(
                        "bytes of 0, as UTF-16 without a byte-order mark has".into(),
                        "Save it as CSV in UTF-8.",
                    )
                    .into());
                }
                Format::Unknown => self.utf8(bytes),
                other => return Err(no_text(other.to_string(), "Name the table itself.").into()),
            },
        };
        if text.trim().is_empty() {
            return Err(no_text("nothing but blanks".into(), "Name a table with a row an image.").into());
        }
        Ok(text)
    }

    /// The text, with a problem for each line that is not UTF-8.
    fn utf8(&mut self, bytes: &[u8]) -> String {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return text.to_owned();
        }
        for (i, line) in (1..).zip(bytes.split(|&b| b == b'\n')) {
            if let Err(e) = std::str::from_utf8(line) {
                let byte = line[e.valid_up_to()];
                self.bad(
                    i,
                    format!("the byte 0x{byte:02x} is no UTF-8; save the table as CSV in UTF-8"),
                );
            }
        }
        String::from_utf8_lossy(bytes).into_owned()
    }

    fn records(&mut self, text: &str, skip: usize, separator: u8) -> Result<()> {
        let starts = line_starts(text);
        let mut reader = ReaderBuilder::new()
            .flexible(true)
            .has_headers(false)
            .delimiter(separator)
            .from_reader(&text.as_bytes()[skip..]);
        let mut record = StringRecord::new();
        let mut begin = Vec::new();
        let mut all: Vec<Vec<String>> = Vec::new();
        while reader.read_record(&mut record)? {
            // The reader's place may be before line ends that precede the record.
            let from = skip + record.position().map_or(0, |p| p.byte() as usize);
            let blank = text[from..].len() - text[from..].trim_start_matches(['\r', '\n']).len();
            begin.push(from + blank);
            all.push(record.iter().map(|f| f.trim().to_owned()).collect());
        }
        let line = |byte: usize| starts.partition_point(|&s| s <= byte) as u64;
        let mut records = begin.iter().map(|&b| line(b)).zip(all);
        self.header = records.next().map(|r| r.1).unwrap_or_default();
        let width = self.header.len();
        let last = begin.last().copied().unwrap_or(0);
        let unclosed =
            begin.len() > 1 && text[last..].trim_end().contains('\n') && text[last..].matches('"').count() % 2 == 1;
        for (line, mut fields) in records {
            if fields.iter().all(String::is_empty) {
                continue;
            }
            if unclosed && line == line_of(&starts, last) {
                self.bad(
                    line,
                    "a quote is opened here and never closed, so that all lines below it are read as one field",
                );
                continue;
            }
            // A separator behind the last field is no field.
            while fields.len() > width && fields.last().is_some_and(String::is_empty) {
                fields.pop();
            }
            if fields.len() != width {
                let n = fields.len();
                self.bad(line, format!("{n} fields, where the header has {width}"));
                continue;
            }
            self.rows.push((line, fields));
        }
        Ok(())
    }
}

/// Bytes at which lines begin: after LF, CRLF, or a CR alone.
fn line_starts(text: &str) -> Vec<usize> {
    let b = text.as_bytes();
    let ends = (0..b.len()).filter(|&i| b[i] == b'\n' || (b[i] == b'\r' && b.get(i + 1) != Some(&b'\n')));
    std::iter::once(0).chain(ends.map(|i| i + 1)).collect()
}

fn line_of(starts: &[usize], byte: usize) -> u64 {
    starts.partition_point(|&s| s <= byte) as u64
}

/// The separator under which the header has most of the wanted columns, then most columns.
fn separator(text: &str, wanted: &[&str]) -> u8 {
    let score = |&separator: &u8| {
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(separator)
            .from_reader(text.as_bytes());
        let mut header = StringRecord::new();
        let read = reader.read_record(&mut header).unwrap_or(false);
        let has = wanted.iter().filter(|w| header.iter().any(|h| h.trim() == **w)).count();
        (has, if read { header.len() } else { 0 })
    };
    // Of equals the last is taken, so the usual one comes last.
    SEPARATORS
        .iter()
        .rev()
        .max_by_key(|s| score(s))
        .copied()
        .unwrap_or(b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet(bytes: &[u8]) -> Result<Sheet> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("t.csv");
        std::fs::write(&path, bytes)?;
        Sheet::read(&path, &["image", "dx"])
    }

    #[test]
    fn every_usual_dialect_reads_alike() {
        let plain = "image,dx\n1,a b\n2,c\n";
        let utf16 = |be: bool| -> Vec<u8> {
            let text = format!("\u{feff}{}", plain.replace(',', "\t"));
            text.encode_utf16()
                .flat_map(|u| if be { u.to_be_bytes() } else { u.to_le_bytes() })
                .collect()
        };
        for (bytes, lines) in [
            (plain.as_bytes().to_vec(), [2, 3]),
            (plain.replace('\n', "\r\n").into_bytes(), [2, 3]),
            (plain.replace('\n', "\r").into_bytes(), [2, 3]),
            (plain.replace(',', ";").into_bytes(), [2, 3]),
            (plain.replace(',', "\t").into_bytes(), [2, 3]),
            (plain.replace(',', " | ").into_bytes(), [2, 3]),
            (format!("\u{feff}{plain}").into_bytes(), [2, 3]),
            (format!("sep=;\r\n{}", plain.replace(',', ";")).into_bytes(), [3, 4]),
            (plain.trim_end().as_bytes().to_vec(), [2, 3]),
            (b"image,dx\n\n1,\"a b\",\n,\n \n2,c\n,,\n".to_vec(), [3, 6]),
            (utf16(false), [2, 3]),
            (utf16(true), [2, 3]),
        ] {
            let s = sheet(&bytes).unwrap();
            assert_eq!(s.header, ["image", "dx"], "{bytes:?}");
            let want = [
                (lines[0], vec!["1".to_owned(), "a b".into()]),
                (lines[1], vec!["2".into(), "c".into()]),
            ];
            assert_eq!(s.rows, want, "{:?}", String::from_utf8_lossy(&bytes));
            assert!(s.problems.is_empty());
        }
    }

    #[test]
    fn a_quoted_line_break_is_one_row_and_lines_count_on() {
        let s = sheet(b"note,image,dx\n\"two\nlines\",1,a\nx,2,b\n").unwrap();
        assert_eq!(s.rows[0], (2, vec!["two\nlines".into(), "1".into(), "a".into()]));
        assert_eq!(s.rows[1].0, 4);
    }

    #[test]
    fn what_is_wrong_with_a_row_is_told_with_its_line() {
        let s = sheet(b"image,dx\n1,a\n2\n3,a,b\n4,caf\xe9\n5,\"a\n6,b\n7,b\n").unwrap();
        let said: Vec<String> = s.problems.iter().map(ToString::to_string).collect();
        for (line, what) in [
            (5, "the byte 0xe9 is no UTF-8"),
            (3, "1 fields, where the header has 2"),
            (4, "3 fields"),
            (6, "never closed"),
        ] {
            assert!(
                said.iter()
                    .any(|p| p.contains(&format!("t.csv:{line}: ")) && p.contains(what)),
                "{what}: {said:?}"
            );
        }
        assert_eq!(said.len(), 4);
    }

    #[test]
    fn what_is_no_table_is_refused_by_what_it_is() {
        for (bytes, what) in [
            (&b""[..], "an empty file"),
            (b" \n", "nothing but blanks"),
            (b"PK\x03\x04 a workbook", "a workbook"),
            (b"\x89PNG\r\n", "a PNG image"),
            (b"i\0m\0a\0", "UTF-16 without"),
        ] {
            let e = sheet(bytes).err().unwrap();
            assert!(
                e.downcast_ref::<BadInput>().is_some() && e.to_string().contains(what),
                "{e}"
            );
        }
    }
}
