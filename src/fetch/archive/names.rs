//! Which names of entries may become files.

use std::collections::HashMap;
use std::path::PathBuf;

/// The longest path and part of a path, as common file systems have it.
const MAX_PATH: usize = 4096;
const MAX_PART: usize = 255;

#[derive(Clone, Copy, PartialEq, Eq)]
enum NameKind {
    /// Named by an entry of its own, or only as a parent.
    Folder,
    File,
}

/// All names so far. Folded to lower case, because two names that differ in case only are one file on some disks.
#[derive(Default)]
pub(super) struct Names {
    seen: HashMap<String, (String, NameKind)>,
}

impl Names {
    /// Checks a name and takes it; the path is relative and free of `.` and `..`. `None` for `./`, the folder itself.
    /// The error says what is wrong with the name.
    pub(crate) fn take(&mut self, name: &[u8], folder: bool) -> Result<Option<PathBuf>, String> {
        let Some(parts) = parts(name, folder)? else {
            return Ok(None);
        };
        let mut path = String::new();
        for (i, part) in parts.iter().enumerate() {
            if i > 0 {
                path.push('/');
            }
            path.push_str(part);
            let last = i + 1 == parts.len();
            let kind = if last && !folder {
                NameKind::File
            } else {
                NameKind::Folder
            };
            match self.seen.get(&path.to_lowercase()) {
                None => {
                    self.seen.insert(path.to_lowercase(), (path.clone(), kind));
                }
                Some((other, _)) if *other != path => {
                    return Err(format!("it differs from `{}` in case only", shown(other.as_bytes())));
                }
                Some((_, NameKind::File)) if kind == NameKind::File => return Err("a name that occurred before".into()),
                Some((_, k)) if *k != kind => return Err("a file and a folder of one name".into()),
                Some(_) => {}
            }
        }
        Ok(Some(path.into()))
    }
}

/// The parts of a harmless name.
fn parts(name: &[u8], folder: bool) -> Result<Option<Vec<&str>>, String> {
    let text = std::str::from_utf8(name).map_err(|_| "a name that is not UTF-8")?;
    if text.is_empty() {
        return Err("an empty name".into());
    }
    if text.len() > MAX_PATH {
        return Err("a name that is too long".into());
    }
    if text.starts_with('/') {
        return Err("an absolute path".into());
    }
    if text.contains('\0') {
        return Err("a NUL byte in its name".into());
    }
    if text.contains('\\') {
        return Err("a backslash in its name".into());
    }
    if text.chars().any(char::is_control) {
        return Err("a control character in its name".into());
    }
    if text.as_bytes().get(1) == Some(&b':') && text.as_bytes()[0].is_ascii_alphabetic() {
        return Err("a drive letter".into());
    }
    // tar writes folders with a slash at the end and may begin every name with `./`.
    let text = if folder {
        text.strip_suffix('/').unwrap_or(text)
    } else {
        text
    };
    let text = match text.strip_prefix("./") {
        Some("") => return Ok(None),
        Some(rest) => rest,
        None if text == "." && folder => return Ok(None),
        None => text,
    };
    let parts: Vec<&str> = text.split('/').collect();
    for p in &parts {
        match *p {
            "" => return Err("an empty part in its path".into()),
            ".." => return Err("a .. in its path".into()),
            "." => return Err("a . in its path".into()),
            p if p.len() > MAX_PART => return Err("a name that is too long".into()),
            _ => {}
        }
    }
    Ok(Some(parts))
}

/// A name for people: quoted, escaped, cut.
pub(super) fn shown(name: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(name).chars().take(120).collect();
    format!("`{}`", text.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn err(name: &[u8]) -> String {
        Names::default().take(name, false).unwrap_err()
    }

    #[test]
    fn dangerous_names_say_why() {
        for (name, why) in [
            (&b"/etc/passwd"[..], "absolute"),
            (b"../x", ".."),
            (b"a/../../x", ".."),
            (b"./../x", ".."),
            (b"a/./b", "a . in"),
            (b"a//b", "empty part"),
            (b"", "empty name"),
            (b"a/", "empty part"),
            (b"a\\b", "backslash"),
            (b"..\\..\\x", "backslash"),
            (b"C:x", "drive"),
            (b"c:/x", "drive"),
            (b"a\0.jpg", "NUL"),
            (b"a\nb", "control"),
            (b"a\x1b[2Jb", "control"),
            (b"\xff\xfe", "UTF-8"),
        ] {
            assert!(err(name).contains(why), "{name:?}: {}", err(name));
        }
        assert!(err(&[b'a'; 256]).contains("too long"));
        assert!(err("ab/".repeat(1500).as_bytes()).contains("too long"));
    }

    #[test]
    fn names_are_taken_once() {
        let mut n = Names::default();
        assert_eq!(n.take(b"./", true), Ok(None));
        assert_eq!(n.take(b"./a/b.jpg", false), Ok(Some("a/b.jpg".into())));
        assert_eq!(n.take(b"a/", true), Ok(Some("a".into())));
        assert_eq!(n.take(b"a/c.jpg", false), Ok(Some("a/c.jpg".into())));
        assert!(n.take(b"a/b.jpg", false).unwrap_err().contains("before"));
        assert!(n.take(b"a/B.jpg", false).unwrap_err().contains("case only"));
        assert!(n.take(b"A/d.jpg", false).unwrap_err().contains("case only"));
        assert!(n.take(b"a", false).unwrap_err().contains("a file and a folder"));
        assert!(n.take(b"a/b.jpg/x", false).unwrap_err().contains("a file and a folder"));
        assert!(n.take("ä.JPG".as_bytes(), false).is_ok());
        assert!(n.take("Ä.jpg".as_bytes(), false).is_err());
    }
}
