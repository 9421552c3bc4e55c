//! Kaggle's public API, as its own client uses it (github.com/Kaggle/kaggle-api, kagglehub): addresses and credentials.

use super::client::Credential;
use super::download::DownloadSource;
use super::environment::expanded;
use crate::error::BadInput;
use crate::{fsio, limits};
use base64::Engine;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

const GET_KEY: &str = "Create an API token at https://www.kaggle.com/settings and save it as ~/.kaggle/access_token, or set \
                       KAGGLE_API_TOKEN (older: kaggle.json in ~/.kaggle, or KAGGLE_USERNAME and KAGGLE_KEY). Or download the \
                       archive in a browser and run `medft data import`.";

/// The address of `datasets/<owner>/<name>` or `competitions/<name>`, with the user's credential.
///
/// `KAGGLE_API_ENDPOINT` moves the service. The user is known by, in the order of Kaggle's own client: `KAGGLE_API_TOKEN` (a
/// token, or the path of its file), `access_token` or `access_token.txt` in `~/.kaggle` or `KAGGLE_CONFIG_DIR`,
/// `KAGGLE_USERNAME` with `KAGGLE_KEY`, and `kaggle.json` in `KAGGLE_CONFIG_DIR`, else in `~/.kaggle` or, where that is not
/// there, `$XDG_CONFIG_HOME/kaggle` (`~/.config/kaggle`). `warn` is told of a file that others on this machine can read.
///
/// # Errors
/// [`BadInput`] where there is no credential, or a file of one that cannot be used.
pub fn place(
    what: &str,
    env: impl Fn(&str) -> Option<OsString>,
    warn: &dyn Fn(&str),
) -> Result<DownloadSource, BadInput> {
    let text = |k: &str| {
        env(k)
            .and_then(|v| v.into_string().ok())
            .filter(|v| !v.trim().is_empty())
    };
    let endpoint = text("KAGGLE_API_ENDPOINT").unwrap_or_else(|| "https://www.kaggle.com".into());
    let endpoint = endpoint.trim_end_matches('/');
    let path = match what.split_once('/') {
        Some(("competitions", name)) => format!("competitions/data/download-all/{name}"),
        Some(("datasets", name)) => format!("datasets/download/{name}"),
        _ => {
            return Err(BadInput::new(
                "kaggle",
                "datasets/… or competitions/…",
                format!("`{what}`"),
                "Correct the manifest.",
            ));
        }
    };
    let value = match token(&env, warn)? {
        Some(token) => format!("Bearer {token}"),
        None => match (text("KAGGLE_USERNAME"), text("KAGGLE_KEY")) {
            (Some(user), Some(key)) => basic(user.trim(), key.trim()),
            _ => from_json(&env, warn)?,
        },
    };
    Ok(DownloadSource {
        url: format!("{endpoint}/api/v1/{path}"),
        credential: Some(Credential::new(value, endpoint)?),
    })
}

fn none(found: &str) -> BadInput {
    BadInput::new("the Kaggle account", "a credential", found, GET_KEY)
}

fn basic(user: &str, key: &str) -> String {
    let both = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{key}"));
    format!("Basic {both}")
}

/// The folders in which a token's file may lie.
fn folders(env: &impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let home = expanded(env, "HOME");
    let config = expanded(env, "XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|h| h.join(".config")));
    let named = expanded(env, "KAGGLE_CONFIG_DIR");
    let all = [named, home.map(|h| h.join(".kaggle")), config.map(|c| c.join("kaggle"))];
    all.into_iter().flatten().collect()
}

/// The token that Kaggle's settings page gives today.
fn token(env: &impl Fn(&str) -> Option<OsString>, warn: &dyn Fn(&str)) -> Result<Option<String>, BadInput> {
    if let Some(value) = env("KAGGLE_API_TOKEN").filter(|v| !v.to_string_lossy().trim().is_empty()) {
        let path = expanded(env, "KAGGLE_API_TOKEN").unwrap_or_default();
        return match path.is_file() {
            true => secret(&path, warn).map(Some),
            false => Ok(Some(value.to_string_lossy().trim().to_owned())),
        };
    }
    for folder in folders(env) {
        for name in ["access_token", "access_token.txt"] {
            let path = folder.join(name);
            if path.is_file() {
                return secret(&path, warn).map(Some);
            }
        }
    }
    Ok(None)
}

/// The content of a file with a secret; of it nothing is shown, not even where it is wrong.
fn secret(path: &Path, warn: &dyn Fn(&str)) -> Result<String, BadInput> {
    use std::os::unix::fs::PermissionsExt;
    let bad = |found: String| BadInput::new(path.display(), "a Kaggle API token", found, GET_KEY);
    let text = fsio::read_text_at_most(path, limits::NOTE).map_err(|e| bad(e.to_string()))?;
    if text.trim().is_empty() {
        return Err(bad("an empty file".into()));
    }
    // Kaggle's own client warns too: on many shared disks `chmod` does nothing, and then there would be no way on.
    let mode = fs::metadata(path).map_or(0, |m| m.permissions().mode() & 0o777);
    if mode & 0o077 != 0 {
        warn(&format!(
            "{} can be read by others on this machine (mode {mode:o}): run `chmod 600` on it; if somebody may have read it, \
             make a new token",
            path.display()
        ));
    }
    Ok(text.trim().to_owned())
}

/// User and key out of `kaggle.json`.
fn from_json(env: &impl Fn(&str) -> Option<OsString>, warn: &dyn Fn(&str)) -> Result<String, BadInput> {
    let folders = folders(env);
    let Some(path) = folders.iter().map(|f| f.join("kaggle.json")).find(|p| p.is_file()) else {
        let looked: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
        return Err(none(&format!(
            "neither KAGGLE_API_TOKEN nor KAGGLE_USERNAME and KAGGLE_KEY, nor access_token or kaggle.json in {}",
            if looked.is_empty() {
                "a home".to_owned()
            } else {
                looked.join(", ")
            }
        )));
    };
    let bad = |found: &str| BadInput::new(path.display(), "{\"username\": …, \"key\": …}", found, GET_KEY);
    let json: serde_json::Value = serde_json::from_str(&secret(&path, warn)?).map_err(|_| bad("no JSON"))?;
    let field = |k: &str| json[k].as_str().map(str::trim).filter(|v| !v.is_empty());
    match (field("username"), field("key")) {
        (Some(user), Some(key)) => Ok(basic(user, key)),
        _ => Err(bad("JSON without them")),
    }
}

/// What to do when Kaggle answers 401 or 403, and 404.
pub fn remedies(what: &str) -> (String, String) {
    let page = match what.split_once('/') {
        Some(("competitions", name)) => format!("https://www.kaggle.com/c/{name}/rules"),
        _ => format!("https://www.kaggle.com/{what}"),
    };
    (
        format!(
            "Accept the rules or terms at {page} with the account whose token you use, and check that the token is valid."
        ),
        format!(
            "The copy at {page} may have been withdrawn. Download the archive elsewhere and run `medft data import`."
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<'a>(vars: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |k| vars.iter().find(|v| v.0 == k).map(|v| v.1.into())
    }

    #[test]
    fn addresses_are_those_of_kaggles_client() {
        let vars = [("KAGGLE_USERNAME", "u"), ("KAGGLE_KEY", "k")];
        let url = |what| place(what, with(&vars), &|_| ()).unwrap().url;
        assert_eq!(
            url("datasets/a/b"),
            "https://www.kaggle.com/api/v1/datasets/download/a/b"
        );
        assert_eq!(
            url("competitions/c"),
            "https://www.kaggle.com/api/v1/competitions/data/download-all/c"
        );
        // RFC 7617's example.
        assert_eq!(basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }

    #[test]
    fn a_key_file_that_others_can_read_is_warned_of_and_never_shown() {
        use std::cell::RefCell;
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kaggle.json");
        let home = dir.path().to_str().unwrap();
        let vars = [("KAGGLE_CONFIG_DIR", home)];
        let warned = RefCell::new(String::new());
        let said = || {
            warned.borrow_mut().clear();
            place("datasets/a/b", with(&vars), &|w| warned.borrow_mut().push_str(w))
                .map(|p| format!("{p:?}"))
                .map_err(|e| e.to_string())
        };
        assert!(said().unwrap_err().contains("kaggle.json"));
        fs::write(&file, r#"{"username":"me","key":"0123secret"}"#).unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o644, false), (0o640, false)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let s = said().unwrap() + &warned.borrow();
            assert_eq!(warned.borrow().is_empty(), good, "{mode:o}");
            assert!(!s.contains("secret") && !s.contains("MDEyM3NlY3JldA"), "{s}");
            assert!(good || s.contains("chmod 600"), "{s}");
        }
        fs::write(&file, r#"{"username":"me","key":0123secret}"#).unwrap();
        assert!(!said().unwrap_err().contains("secret"));
    }

    /// The places and their order in kagglesdk 0.1.38 (`get_access_token_from_env`) and kaggle 2.2.5.
    #[test]
    fn the_token_is_where_kaggles_client_looks() {
        let dir = tempfile::tempdir().unwrap();
        let at = |p: &str| dir.path().join(p);
        let write = |p: &str, text: &str| {
            fs::create_dir_all(at(p).parent().unwrap()).unwrap();
            fs::write(at(p), text).unwrap();
        };
        let home = dir.path().to_str().unwrap();
        let value = |extra: &[(&str, &str)]| {
            let vars: Vec<_> = extra.iter().copied().chain([("HOME", home)]).collect();
            let p = place("datasets/a/b", with(&vars), &|_| ()).unwrap();
            p.credential.unwrap().reveal_for_tests()
        };
        write(".config/kaggle/kaggle.json", r#"{"username":"u","key":"k"}"#);
        assert_eq!(value(&[]), basic("u", "k"));
        assert_eq!(value(&[("KAGGLE_USERNAME", "x"), ("KAGGLE_KEY", "y")]), basic("x", "y"));
        write(".kaggle/access_token.txt", "from-txt\r\n");
        assert_eq!(value(&[]), "Bearer from-txt");
        write(".kaggle/access_token", " from-file\n");
        assert_eq!(
            value(&[("KAGGLE_USERNAME", "x"), ("KAGGLE_KEY", "y")]),
            "Bearer from-file"
        );
        write("elsewhere", "from-path\n");
        let path = at("elsewhere");
        assert_eq!(
            value(&[("KAGGLE_API_TOKEN", path.to_str().unwrap())]),
            "Bearer from-path"
        );
        assert_eq!(value(&[("KAGGLE_API_TOKEN", "~/elsewhere")]), "Bearer from-path");
        assert_eq!(value(&[("KAGGLE_API_TOKEN", "KGAT_x ")]), "Bearer KGAT_x");
    }
}
