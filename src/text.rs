//! Tables, hours and durations as people read them.

/// A plain text table: columns padded to their widest cell, readable without colour.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|h| h.chars().count()).collect();
    for r in rows {
        for (w, c) in widths.iter_mut().zip(r) {
            *w = (*w).max(c.chars().count());
        }
    }
    let line = |cells: &[String]| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let head: Vec<String> = head.iter().map(|h| (*h).to_owned()).collect();
    let rule: Vec<String> = widths.iter().map(|w| "-".repeat(*w)).collect();
    let mut out = vec![line(&head), line(&rule)];
    out.extend(rows.iter().map(|r| line(r)));
    out.join("\n")
}

/// Hours with three significant digits, for tables.
pub fn hours(h: f64) -> String {
    match h {
        h if h >= 100.0 => format!("{h:.0}"),
        h if h >= 10.0 => format!("{h:.1}"),
        h if h >= 1.0 => format!("{h:.2}"),
        h => format!("{h:.3}"),
    }
}

/// Seconds as people say them.
pub fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..=119 => format!("{seconds:.1} s"),
        120..=7199 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

/// Seconds as a clock shows them: 0:07, 12:05, 3:00:00.
pub fn clock(time: std::time::Duration) -> String {
    let s = time.as_secs_f64().round() as u64;
    match s / 3600 {
        0 => format!("{}:{:02}", s / 60, s % 60),
        hours => format!("{hours}:{:02}:{:02}", s / 60 % 60, s % 60),
    }
}

/// A text in lines of at most `width` columns that begin with `indent` blanks, broken between words; one line where there is no
/// width.
pub fn wrapped(text: &str, width: Option<usize>, indent: usize) -> String {
    let blanks = " ".repeat(indent);
    let mut lines = vec![blanks.clone()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is a first line");
        let begun = last.len() > indent;
        let long = last.chars().count() + usize::from(begun) + word.chars().count();
        if begun && width.is_some_and(|w| long > w) {
            lines.push(format!("{blanks}{word}"));
        } else {
            if begun {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines.join("\n")
}
