//! What is published says nothing about whose machine it was made on.
//!
//! Records and reports go into repositories and supplements. Commands and reasons that are kept there name places relative to
//! the working folder; the home folder is `~`, and of any other absolute path the last part stays.

use std::path::Path;

/// `text` without the places of this machine.
pub fn without_places(text: &str) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let home = std::env::var_os("HOME").unwrap_or_default();
    without(text, &here, Path::new(&home))
}

fn without(text: &str, here: &Path, home: &Path) -> String {
    let mut text = text.to_owned();
    for (place, sign) in [(here, "."), (home, "~")] {
        let place = place.to_string_lossy();
        // A root is nobody's, and an empty place is none.
        if place.trim_end_matches('/').is_empty() {
            continue;
        }
        text = replaced(&text, place.trim_end_matches('/'), sign);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = start_of_path(rest) {
        let (before, path) = rest.split_at(at);
        let end = path
            .find(|c: char| c.is_whitespace() || "\"'`,;:)|".contains(c))
            .unwrap_or(path.len());
        let (path, after) = path.split_at(end);
        out.push_str(before);
        match path.trim_end_matches('/').rsplit_once('/') {
            Some((folders, name)) if !folders.is_empty() => {
                out.push_str("…/");
                out.push_str(name);
            }
            // `/` and `/data` tell nothing.
            _ => out.push_str(path),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Replaces `place` where it ends there or goes on below; `place/` becomes nothing where the sign is the folder itself.
fn replaced(text: &str, place: &str, sign: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(place) {
        let (before, found) = rest.split_at(at);
        let after = &found[place.len()..];
        let whole = !after.starts_with(|c: char| c.is_alphanumeric() || "-_.".contains(c));
        out.push_str(before);
        match (whole, after.strip_prefix('/'), sign) {
            (false, ..) => {
                out.push_str(place);
                rest = after;
            }
            (true, Some(below), ".") if !below.is_empty() => rest = below,
            _ => {
                out.push_str(sign);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Where an absolute path begins: a `/` that no name, address or fraction goes before.
fn start_of_path(text: &str) -> Option<usize> {
    let mut before = ' ';
    for (i, c) in text.char_indices() {
        if c == '/' && (before.is_whitespace() || "=\"'`(,;".contains(before)) {
            return Some(i);
        }
        before = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_become_relative_and_nobody_is_named() {
        let (here, home) = (Path::new("/home/jo smith/study"), Path::new("/home/jo smith"));
        for (text, expected) in [
            ("/home/jo smith/study/data/x.csv:3: expected", "data/x.csv:3: expected"),
            ("--data-dir=/home/jo smith/study", "--data-dir=."),
            ("/home/jo smith/weights", "~/weights"),
            (
                "/home/jo smithson/x and /home/jo smith-2",
                "…/jo smithson/x and …/jo smith-2",
            ),
            ("--data-dir=/mnt/jsmith/data", "--data-dir=…/data"),
            ("cannot read /scratch/u123/a.png: gone", "cannot read …/a.png: gone"),
            ("`/srv/jo/x`", "`…/x`"),
            (
                "https://example.org/a/b and 0.002 / 0.001 in /data",
                "https://example.org/a/b and 0.002 / 0.001 in /data",
            ),
            ("data/phantom/x.png", "data/phantom/x.png"),
        ] {
            assert_eq!(without(text, here, home), expected, "{text}");
        }
        assert_eq!(without("/a/b", Path::new("/"), Path::new("")), "…/b");
    }
}
