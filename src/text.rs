//! Tables, hours and durations as people read them.

/// A plain text table: columns padded to their widest cell, readable without colour.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
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

/// `1 run`, `3 runs`.
pub(crate) fn count(n: usize, what: &str) -> String {
    if n == 1 {
        format!("1 {what}")
    } else {
        format!("{n} {what}s")
    }
}

/// Hours with three significant digits, for tables.
pub(crate) fn hours(h: f64) -> String {
    match h {
        h if h >= 100.0 => format!("{h:.0}"),
        h if h >= 10.0 => format!("{h:.1}"),
        h if h >= 1.0 => format!("{h:.2}"),
        h => format!("{h:.3}"),
    }
}

/// Seconds as people say them.
pub(crate) fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..=119 => format!("{seconds:.1} s"),
        120..=7199 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

/// Seconds as a clock shows them: 0:07, 12:05, 3:00:00.
pub(crate) fn clock(time: std::time::Duration) -> String {
    let s = time.as_secs_f64().round() as u64;
    match s / 3600 {
        0 => format!("{}:{:02}", s / 60, s % 60),
        hours => format!("{hours}:{:02}:{:02}", s / 60 % 60, s % 60),
    }
}

/// A text in lines of at most `width` columns that begin with `indent` blanks, broken between words; one line where there is no
/// width.
pub(crate) fn wrapped(text: &str, width: Option<usize>, indent: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    folded(&format!("{}{}", " ".repeat(indent), words.join(" ")), width, indent)
}

/// A line as it is where it fits into `width` columns, else broken between words into lines of which all but the first begin with
/// `indent` blanks. A word that is longer than a line stays whole.
pub(crate) fn folded(line: &str, width: Option<usize>, indent: usize) -> String {
    let width = width.unwrap_or(usize::MAX);
    let mut out = String::new();
    let mut rest = line.to_owned();
    while rest.chars().count() > width {
        let blanks = rest.char_indices().enumerate().filter(|(_, (_, c))| *c == ' ');
        let words = blanks
            .map(|(column, (at, _))| (column, at))
            .filter(|(_, at)| !rest[..*at].trim().is_empty());
        let words: Vec<(usize, usize)> = words.collect();
        let fits = words.iter().rev().find(|(column, _)| *column <= width);
        let Some(&(_, at)) = fits.or(words.first()) else { break };
        out.push_str(rest[..at].trim_end());
        out.push('\n');
        rest = format!("{}{}", " ".repeat(indent), rest[at..].trim_start());
    }
    out + &rest
}

/// An argument as a shell reads it.
pub(crate) fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@%+".contains(c);
    match !arg.is_empty() && arg.chars().all(plain) {
        true => arg.to_owned(),
        false => format!("'{}'", arg.replace('\'', "'\\''")),
    }
}

/// A command as a shell reads it.
pub(crate) fn command<S: AsRef<str>>(args: &[S]) -> String {
    args.iter().map(|w| quoted(w.as_ref())).collect::<Vec<_>>().join(" ")
}

/// A probability or share in whole per cent.
pub(crate) fn percent(p: f64) -> String {
    format!("{:.0} %", 100.0 * p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_nowhere_else() {
        let line = "data     4 phantom sets verified   0:01";
        assert_eq!(folded(line, None, 9), line);
        assert_eq!(folded(line, Some(40), 9), line);
        assert_eq!(
            folded(line, Some(24), 9),
            "data     4 phantom sets\n         verified   0:01"
        );
        assert_eq!(
            folded("next a_word_that_is_long on", Some(12), 2),
            "next\n  a_word_that_is_long\n  on"
        );
        assert_eq!(wrapped("get   it\nhere", Some(8), 2), "  get it\n  here");
        assert_eq!(folded("", Some(3), 9), "");
    }

    #[test]
    fn a_clock_counts_hours_where_there_are_any() {
        let of = |s| clock(std::time::Duration::from_secs(s));
        assert_eq!(
            [of(0), of(7), of(725), of(10_800)],
            ["0:00", "0:07", "12:05", "3:00:00"]
        );
    }

    #[test]
    fn arguments_are_quoted_for_a_shell() {
        assert_eq!(quoted("backbone=mae-b,seed=0"), "backbone=mae-b,seed=0");
        assert_eq!(quoted("backbone=dinov2-*"), "'backbone=dinov2-*'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
