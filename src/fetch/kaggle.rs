//! Kaggle's public API, as its own client uses it (github.com/Kaggle/kaggle-api, kagglehub): addresses and credentials.

use super::client::Credential;
use super::download::Place;
use crate::error::BadInput;
use base64::Engine;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

const GET_KEY: &str = "Create an API token on the settings page of your Kaggle account; set KAGGLE_USERNAME and KAGGLE_KEY, or put \
                       kaggle.json into ~/.kaggle. Or download the archive in a browser and run `medft data import`.";

/// The address of `datasets/<owner>/<name>` or `competitions/<name>`, with the user's credential.
///
/// `KAGGLE_API_ENDPOINT` moves the service; `KAGGLE_API_TOKEN`, else `KAGGLE_USERNAME` with `KAGGLE_KEY`, else `kaggle.json`
/// in `KAGGLE_CONFIG_DIR` or `~/.kaggle` identify the user.
///
/// # Errors
/// [`BadInput`] where there is no credential, or one that others on this machine can read.
pub fn place(what: &str, env: impl Fn(&str) -> Option<OsString>) -> Result<Place, BadInput> {
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
    let value = match (text("KAGGLE_API_TOKEN"), text("KAGGLE_USERNAME"), text("KAGGLE_KEY")) {
        (Some(token), ..) => format!("Bearer {}", token.trim()),
        (None, Some(user), Some(key)) => basic(user.trim(), key.trim()),
        _ => {
            let folder = env("KAGGLE_CONFIG_DIR").filter(|v| !v.is_empty()).map(PathBuf::from);
            let folder = folder.or_else(|| env("HOME").map(|h| PathBuf::from(h).join(".kaggle")));
            let Some(folder) = folder else {
                return Err(none("neither KAGGLE_USERNAME and KAGGLE_KEY nor a home"));
            };
            from_file(&folder.join("kaggle.json"))?
        }
    };
    Ok(Place {
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

fn from_file(path: &Path) -> Result<String, BadInput> {
    use std::os::unix::fs::PermissionsExt;
    let meta = fs::metadata(path).map_err(|_| {
        none(&format!(
            "neither KAGGLE_USERNAME and KAGGLE_KEY nor {}",
            path.display()
        ))
    })?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(BadInput::new(
            path.display(),
            "a file that only you can read (mode 600)",
            format!("mode {mode:o}"),
            format!(
                "Run `chmod 600 {}`; if others may have read it, make a new token.",
                path.display()
            ),
        ));
    }
    // Of the content nothing is shown, not even where it is wrong.
    let bad = |found: &str| BadInput::new(path.display(), "{\"username\": …, \"key\": …}", found, GET_KEY);
    let text = fs::read_to_string(path).map_err(|e| bad(&e.to_string()))?;
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|_| bad("no JSON"))?;
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
        let url = |what| place(what, with(&vars)).unwrap().url;
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
    fn a_key_file_that_others_can_read_is_refused_and_never_shown() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kaggle.json");
        let home = dir.path().to_str().unwrap();
        let vars = [("KAGGLE_CONFIG_DIR", home)];
        let said = || {
            place("datasets/a/b", with(&vars))
                .map(|p| format!("{p:?}"))
                .map_err(|e| e.to_string())
        };
        assert!(said().unwrap_err().contains("kaggle.json"));
        fs::write(&file, r#"{"username":"me","key":"0123secret"}"#).unwrap();
        for (mode, good) in [
            (0o600, true),
            (0o400, true),
            (0o644, false),
            (0o640, false),
            (0o602, false),
        ] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let s = said();
            assert_eq!(s.is_ok(), good, "{mode:o}");
            let s = s.unwrap_or_else(|e| e);
            assert!(!s.contains("secret") && !s.contains("MDEyM3NlY3JldA"), "{s}");
            assert!(good || s.contains("chmod 600"), "{s}");
        }
        fs::remove_file(&file).unwrap();
        fs::write(&file, r#"{"username":"me","key":0123secret}"#).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(!said().unwrap_err().contains("secret"));
    }
}
