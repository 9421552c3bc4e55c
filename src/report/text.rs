//! Numbers and names as text.

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
