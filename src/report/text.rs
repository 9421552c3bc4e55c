//! Numbers and names as text.

use crate::study::{Freeze, HeadKind};

/// Decimals of scores, as in the paper. Ties are decided at this resolution: what prints alike ranks alike.
pub const PLACES: usize = 3;

/// a, b, …, z, aa, ab, …
pub(super) fn letters(mut i: usize) -> String {
    let mut mark = String::new();
    loop {
        mark.insert(0, char::from(b'a' + (i % 26) as u8));
        if i < 26 {
            return mark;
        }
        i = i / 26 - 1;
    }
}

/// Lower-case letters, digits and dashes only.
pub(super) fn label(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect()
}

/// A number with `places` decimals; no minus sign before zero.
pub fn fixed(v: f64, places: usize) -> String {
    let text = format!("{v:.places$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.bytes().all(|b| matches!(b, b'0' | b'.')) => rest.to_owned(),
        _ => text,
    }
}

/// A difference with its sign, one decimal finer than a score.
pub fn signed(v: f64) -> String {
    format!("{}{}", if v >= 0.0 { "+" } else { "" }, fixed(v, PLACES + 1))
}

/// A difference with its sign, the minus as printed.
pub fn delta(v: f64) -> String {
    signed(v).replace('-', "−")
}

/// A p value as printed.
pub fn p_text(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { fixed(p, 3) }
}

/// The key of a cell.
pub fn key(dataset: &str, backbone: &str, freeze: Freeze, head: HeadKind) -> String {
    format!("{}-{}-{freeze}-{head}", safe(dataset), safe(backbone))
}

/// A name of a registry as part of a key. What is no small letter, digit or dash is written by its number, so that two names
/// never become one.
pub fn safe(name: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for c in name.chars() {
        match c {
            'a'..='z' | '0'..='9' | '-' => out.push(c),
            other => {
                let _ = write!(out, "x{:x}.", u32::from(other));
            }
        }
    }
    out
}

/// A count with commas between thousands.
pub fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(d);
    }
    out
}

/// A CSV file no field of which a spreadsheet takes for a formula: text that begins like one gets an apostrophe before it.
///
/// # Errors
/// Where `bytes` are no CSV.
pub fn for_spreadsheets(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(bytes);
    let mut out = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
    for record in reader.records() {
        let record = record?;
        let formula = |f: &str| f.starts_with(['=', '+', '-', '@', '\t', '\r']) && f.parse::<f64>().is_err();
        out.write_record(record.iter().map(|f| match formula(f) {
            true => format!("'{f}"),
            false => f.to_owned(),
        }))?;
    }
    Ok(out.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_safe_and_keep_names_apart() {
        let key = |b: &str| key("ddsm", b, Freeze::Frozen, HeadKind::Mha);
        assert_eq!(key("dinov2-b"), "ddsm-dinov2-b-frozen-mha");
        assert_eq!(key("a_b"), "ddsm-ax5f.b-frozen-mha");
        assert_ne!(key("a_b"), key("a b"));
    }

    #[test]
    fn marks_go_on_after_z() {
        assert_eq!(
            [0, 25, 26, 27, 51, 52, 701, 702].map(letters),
            ["a", "z", "aa", "ab", "az", "ba", "zz", "aaa"]
        );
    }

    #[test]
    fn commas_part_thousands() {
        assert_eq!(
            [0, 999, 1000, 22_349, 1_000_000].map(thousands),
            ["0", "999", "1,000", "22,349", "1,000,000"]
        );
    }

    #[test]
    fn zero_has_no_sign() {
        assert_eq!(fixed(-0.0004, 3), "0.000");
        assert_eq!(fixed(-0.0006, 3), "-0.001");
        assert_eq!(fixed(0.9376, 3), "0.938");
    }

    #[test]
    fn no_field_of_a_csv_is_a_formula() {
        let safe = for_spreadsheets(b"a,=cmd|' /C calc'!A0\n-0.5,\"+x, y\"\n@z,1e-3\n").unwrap();
        let text = "a,'=cmd|' /C calc'!A0\n-0.5,\"'+x, y\"\n'@z,1e-3\n";
        assert_eq!(String::from_utf8(safe).unwrap(), text);
    }
}
