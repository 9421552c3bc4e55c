//! Names in messages: lists of what is allowed, and the nearest allowed name to a typo.

/// `a`, `a or b`, `a, b or c`.
pub(crate) fn or_list<S: AsRef<str>>(names: &[S]) -> String {
    list(names, "or")
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn and_list<S: AsRef<str>>(names: &[S]) -> String {
    list(names, "and")
}

fn list<S: AsRef<str>>(names: &[S], last_by: &str) -> String {
    match names {
        [] => "nothing".into(),
        [one] => one.as_ref().into(),
        [init @ .., last] => {
            let init: Vec<&str> = init.iter().map(AsRef::as_ref).collect();
            format!("{} {last_by} {}", init.join(", "), last.as_ref())
        }
    }
}

/// The remedy for a name that is not in `allowed`: names the nearest one where there is a near one.
pub(crate) fn did_you_mean<S: AsRef<str>>(name: &str, allowed: &[S]) -> String {
    match nearest(name, allowed) {
        Some(near) => format!("Did you mean `{near}`?"),
        None => "Use one of those.".into(),
    }
}

/// The allowed name nearest to `name`; `None` where none is near enough to be what was meant.
///
/// Near is at most one edit in three letters (insertion, deletion, substitution, swap of neighbours), capitals and `_` for
/// `-` being free, or the one being the beginning of the other (`isic` for `isic2019`). Ties go to the earlier name.
pub(crate) fn nearest<'a, S: AsRef<str>>(name: &str, allowed: &'a [S]) -> Option<&'a str> {
    let plain = |s: &str| s.to_lowercase().replace('_', "-");
    let name = plain(name);
    let (cost, best) = allowed
        .iter()
        .map(|a| {
            let other = plain(a.as_ref());
            let short = name.len().min(other.len());
            let begins = short >= 3 && (other.starts_with(&name) || name.starts_with(&other));
            let cost = edits(&name, &other);
            (if begins { cost.min(1) } else { cost }, a.as_ref())
        })
        .min_by_key(|&(cost, _)| cost)?;
    (cost <= name.chars().count().max(3) / 3).then_some(best)
}

/// Optimal string alignment distance.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let mut d = (rows[i - 1][j] + 1)
                .min(row[j - 1] + 1)
                .min(rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                d = d.min(rows[i - 2][j - 2] + 1);
            }
            row.push(d);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// Whether `text` matches `pattern`, in which `*` stands for any run of characters.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|tail| {
            tail.char_indices()
                .map(|(i, _)| i)
                .chain([tail.len()])
                .any(|i| glob(rest, &tail[i..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_by_hand() {
        for (a, b, d) in [
            ("kitten", "sitting", 3),
            ("ab", "ba", 1),
            ("", "abc", 3),
            ("frozen", "frozen", 0),
        ] {
            assert_eq!(edits(a, b), d, "{a} {b}");
        }
    }

    #[test]
    fn nearest_finds_typos_and_nothing_else() {
        let names = [
            "ddsm",
            "isic2019",
            "aptos2019",
            "dinov2-b",
            "dinov2-l",
            "frozen",
            "unfrozen",
        ];
        for (typo, want) in [
            ("isic", Some("isic2019")),
            ("APTOS2019", Some("aptos2019")),
            ("dinov2_b", Some("dinov2-b")),
            ("dinov2_l", Some("dinov2-l")),
            ("forzen", Some("frozen")),
            ("dsdm", Some("ddsm")),
            ("resnet50", None),
            ("", None),
        ] {
            assert_eq!(nearest(typo, &names), want, "{typo}");
        }
    }

    #[test]
    fn globs() {
        for (p, t, yes) in [
            ("dinov2-*", "dinov2-b", true),
            ("dinov2-*", "dinov2-", true),
            ("*-l", "mae-l", true),
            ("*-l", "mae-b", false),
            ("*", "", true),
            ("d*2*l", "dinov2-l", true),
            ("dinov2", "dinov2-b", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(glob(p, t), yes, "{p} {t}");
        }
    }
}
