//! What is published says nothing about whose machine it was made on.
//!
//! Records and reports go into repositories and supplements. Commands and reasons that are kept there name places relative to
//! the working folder; the home folder is `~`, and of any other absolute path the last part stays.

use std::path::{Component, Path};

/// `text` without the places of this machine.
pub(crate) fn without_places(text: &str) -> String {
    Places::here().without(text)
}

/// An argument of the command line without the places of this machine: one that is a path is wholly that, spaces and all.
pub(crate) fn argument_without_places(argument: &str) -> String {
    Places::here().argument(argument)
}

/// Places of this machine, and what stands for each.
struct Places(Vec<(String, &'static str)>);

/// Stands for folders that tell nothing but whose machine it is.
const ELSEWHERE: &str = "…";

impl Places {
    fn here() -> Self {
        let here = std::env::current_dir().unwrap_or_default();
        let home = std::env::var_os("HOME").unwrap_or_default();
        let args: Vec<String> = std::env::args_os()
            .skip(1)
            .map(|a| a.to_string_lossy().into_owned())
            .collect();
        Self::new(&here, Path::new(&home), &args)
    }

    /// The working folder, the home folder, and the folders above the former and above every path on the command line: these are
    /// known to be whole where a name in them has a space.
    fn new(here: &Path, home: &Path, args: &[String]) -> Self {
        let mut all = vec![(here.to_owned(), "."), (home.to_owned(), "~")];
        let paths = args.iter().map(|a| Path::new(split(a).2)).filter(|p| p.is_absolute());
        for path in std::iter::once(here).chain(paths) {
            // `/tmp` and `/data` are nobody's.
            let above = path.ancestors().skip(1).filter(|p| p.components().count() > 2);
            all.extend(above.map(|p| (p.to_owned(), ELSEWHERE)));
        }
        let text = |p: &Path| p.to_string_lossy().trim_end_matches('/').to_owned();
        // A root is nobody's, and an empty place is none.
        let all = all.iter().map(|(p, sign)| (text(p), *sign));
        Self(all.filter(|p| !p.0.is_empty()).collect())
    }

    fn argument(&self, argument: &str) -> String {
        let (flag, scheme, path) = split(argument);
        match path.starts_with('/') || path.starts_with("../") || path.contains("/../") {
            true => format!("{flag}{scheme}{}", self.path(path)),
            false => self.without(argument),
        }
    }

    /// A text that is one path and nothing else.
    fn path(&self, path: &str) -> String {
        for (place, sign) in self.0.iter().filter(|p| p.1 != ELSEWHERE) {
            match (path.strip_prefix(place.as_str()), *sign) {
                (Some(""), sign) => return sign.to_owned(),
                (Some(below), ".") if below.starts_with('/') => return below[1..].to_owned(),
                (Some(below), sign) if below.starts_with('/') => return format!("{sign}{below}"),
                _ => {}
            }
        }
        last_part(path)
    }

    fn without(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (place, sign) in &self.0 {
            text = replaced(&text, place, sign);
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
            out.push_str(&last_part(path));
            rest = after;
        }
        out.push_str(rest);
        out
    }
}

/// An argument as option (with its `=`), what goes before a path (`file://`, `name:`), and the rest.
fn split(argument: &str) -> (&str, &str, &str) {
    let value = match argument.split_once('=') {
        Some((flag, value)) if flag.starts_with('-') || value.starts_with('/') => value,
        _ => argument,
    };
    let path = match value.split_once(':') {
        Some(("file", path)) => path.strip_prefix("//").unwrap_or(path),
        Some((_, path)) if path.starts_with('/') && !path.starts_with("//") => path,
        _ => value,
    };
    let (flag, scheme) = (argument.len() - value.len(), argument.len() - path.len());
    (&argument[..flag], &argument[flag..scheme], path)
}

/// The last part of an absolute path or of one that leads up; `/`, `/data` and `..` tell nothing and stay.
fn last_part(path: &str) -> String {
    let mut names = Path::new(path)
        .components()
        .filter(|c| matches!(c, Component::Normal(_)));
    match (names.next_back(), names.next()) {
        (Some(name), more) if more.is_some() || path.starts_with("..") => {
            format!("{ELSEWHERE}/{}", name.as_os_str().to_string_lossy())
        }
        _ => path.to_owned(),
    }
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

/// Where a path begins that is absolute or leads up: a `/` or `../` that no name, address or fraction goes before.
fn start_of_path(text: &str) -> Option<usize> {
    let mut before = ' ';
    for (i, c) in text.char_indices() {
        let (first, rest) = (before.is_whitespace() || "=\"'`(,;".contains(before), &text[i..]);
        let absolute = c == '/' && (first || text[..i].ends_with("file://"));
        // After a name and a colon, but not in `https://`.
        let named = c == '/' && before == ':' && !rest.starts_with("//");
        let leads_up = rest.starts_with("../") && (first || before == ':');
        if absolute || named || leads_up {
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
        let args = ["--data-dir=/mnt/lab of jo/sets/x", "file:///net/jo lab/w"].map(str::to_owned);
        let places = Places::new(Path::new("/home/jo smith/study"), Path::new("/home/jo smith"), &args);
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
            ("cannot read /mnt/lab of jo/sets/y z: gone", "cannot read …/y z: gone"),
            ("/net/jo lab/w/a.pth", "…/w/a.pth"),
            ("from file:///home/jo/w", "from file://…/w"),
            ("pin name:/home/jo/w", "pin name:…/w"),
            ("in ../../jo/x, .. and ../x", "in …/x, .. and …/x"),
            ("a...b ../", "a...b ../"),
        ] {
            assert_eq!(places.without(text), expected, "{text}");
        }
        assert_eq!(Places::new(Path::new("/"), Path::new(""), &[]).without("/a/b"), "…/b");
    }

    #[test]
    fn an_argument_that_is_a_path_is_one_to_its_end() {
        let places = Places::new(Path::new("/srv/jo smith/study"), Path::new("/home/jo smith"), &[]);
        for (argument, expected) in [
            ("/tmp/aud/jo smith/x", "…/x"),
            ("--data-dir=/tmp/aud/jo, smith: me/x y", "--data-dir=…/x y"),
            ("--data-dir=/srv/jo smith/study/data of mine", "--data-dir=data of mine"),
            ("/srv/jo smith/study", "."),
            ("/home/jo smith/w v", "~/w v"),
            ("/srv/jo smith/study-2", "…/study-2"),
            ("file:///home/jo lee/w", "file://…/w"),
            ("name:/home/jo lee/w", "name:…/w"),
            ("--pin=name:/home/jo lee/w", "--pin=name:…/w"),
            ("../../jo lee/x", "…/x"),
            ("sets/../../jo lee/x", "…/x"),
            ("..", ".."),
            ("/data", "/data"),
            ("--only", "--only"),
            ("dataset=ddsm,seed=0", "dataset=ddsm,seed=0"),
            ("https://example.org/a/b", "https://example.org/a/b"),
        ] {
            assert_eq!(places.argument(argument), expected, "{argument}");
        }
    }
}
