//! Paths in environment variables, as Python's `expandvars(expanduser(…))` reads them.
//!
//! A shell expands `~` and `$VAR` where they are typed; a value from a compose file, an `.env` file or quotes still has them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// The variable `name` as a path: `~` is the home, `$VAR` and `${VAR}` are their values where they are set.
/// `None` where it is not set or empty.
pub fn expanded(env: &impl Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    env(name)
        .filter(|v| !v.is_empty())
        .map(|v| PathBuf::from(expand(env, &v)))
}

/// As [`expanded`], for a value.
pub fn expand(env: &impl Fn(&str) -> Option<OsString>, value: &OsStr) -> OsString {
    let mut bytes = value.as_bytes().to_vec();
    if (bytes == b"~" || bytes.starts_with(b"~/"))
        && let Some(home) = env("HOME").filter(|h| !h.is_empty())
    {
        bytes.splice(..1, home.into_vec());
    }
    let (mut out, mut rest) = (Vec::new(), &bytes[..]);
    while let Some(at) = rest.iter().position(|&b| b == b'$') {
        out.extend(&rest[..at]);
        rest = &rest[at..];
        let (name, len) = match rest.get(1) {
            Some(b'{') => match rest.iter().position(|&b| b == b'}') {
                Some(end) => (&rest[2..end], end + 1),
                None => (&rest[..0], 1),
            },
            _ => {
                let name = |b: &&u8| b.is_ascii_alphanumeric() || **b == b'_';
                let n = rest[1..].iter().take_while(name).count();
                (&rest[1..=n], n + 1)
            }
        };
        let value = std::str::from_utf8(name).ok().filter(|n| !n.is_empty()).and_then(env);
        match value {
            Some(v) => out.extend(v.into_vec()),
            // As Python does: what is not set stays as it stands.
            None => out.extend(&rest[..len]),
        }
        rest = &rest[len..];
    }
    out.extend(rest);
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values as CPython 3.13's os.path.expandvars(os.path.expanduser(…)) gives them.
    #[test]
    fn tilde_and_variables_are_expanded_as_python_does() {
        let env = |k: &str| match k {
            "HOME" => Some("/h".into()),
            "A_1" => Some("x".into()),
            _ => None,
        };
        for (from, to) in [
            ("~", "/h"),
            ("~/hf", "/h/hf"),
            ("a/~", "a/~"),
            ("$A_1/b", "x/b"),
            ("${A_1}b", "xb"),
            ("$HOME/.cache", "/h/.cache"),
            ("$NONE/b", "$NONE/b"),
            ("${NONE}", "${NONE}"),
            ("${A_1", "${A_1"),
            ("$", "$"),
            ("a$", "a$"),
            ("$$A_1", "$x"),
        ] {
            assert_eq!(expand(&env, OsStr::new(from)), to, "{from}");
        }
    }
}
