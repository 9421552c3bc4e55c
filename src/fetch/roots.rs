//! Whose certificates are trusted.
//!
//! As OpenSSL, Python's requests and curl decide: the files and folders that `SSL_CERT_FILE`, `SSL_CERT_DIR`,
//! `REQUESTS_CA_BUNDLE` and `CURL_CA_BUNDLE` name, else the system's store, to which an organisation adds its own
//! authority. Mozilla's roots, compiled in, serve where the system has no store (small containers). A variable whose file
//! is gone (an environment that was deleted) is a warning; one that is there and holds no certificate was meant as a
//! restriction, and an error.

use crate::error::BadInput;
use rustls_native_certs::{CertificateResult, load_certs_from_paths, load_native_certs};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use ureq::tls::{Certificate, RootCerts};

/// The variables that name certificates, and whether they may name several places.
const VARIABLES: [(&str, bool); 4] = [
    ("SSL_CERT_FILE", false),
    ("SSL_CERT_DIR", true),
    ("REQUESTS_CA_BUNDLE", false),
    ("CURL_CA_BUNDLE", false),
];

/// The roots that the environment asks for.
///
/// # Errors
/// [`BadInput`] where a variable names something without a certificate.
pub(super) fn of_env(env: &dyn Fn(&str) -> Option<OsString>, warn: fn(&str)) -> Result<RootCerts, BadInput> {
    let mut named = Vec::new();
    for (variable, many) in VARIABLES {
        let Some(value) = env(variable).filter(|v| !v.is_empty()) else {
            continue;
        };
        let places: Vec<PathBuf> = match many {
            true => std::env::split_paths(&value)
                .filter(|p| !p.as_os_str().is_empty())
                .collect(),
            false => vec![value.into()],
        };
        let (there, gone): (Vec<_>, Vec<_>) = places.into_iter().partition(|p| p.exists());
        for path in gone {
            warn(&format!(
                "{variable} names {}, which is not there; it is left out",
                path.display()
            ));
        }
        for path in there {
            let found = match path.is_dir() {
                true => load_certs_from_paths(None, Some(&path)),
                false => load_certs_from_paths(Some(&path), None),
            };
            if found.certs.is_empty() && !many {
                let why = found
                    .errors
                    .first()
                    .map_or("no certificate".to_owned(), ToString::to_string);
                return Err(BadInput::new(
                    format!("{variable}={}", path.display()),
                    "PEM certificates",
                    why,
                    format!("Name the file of your system's or company's certificates, or unset {variable}."),
                ));
            }
            named.extend(found.certs);
        }
    }
    let certs = if named.is_empty() { system().certs } else { named };
    if certs.is_empty() {
        return Ok(RootCerts::WebPki);
    }
    let certs = certs.iter().map(|c| Certificate::from_der(c).to_owned()).collect();
    Ok(RootCerts::Specific(Arc::new(certs)))
}

/// The certificates of the system's store. What of it cannot be read is left out, as OpenSSL does.
fn system() -> CertificateResult {
    let mut all = load_native_certs();
    if all.certs.is_empty() {
        // The library asks SSL_CERT_FILE first, also where it names nothing that is there.
        let found = openssl_probe::probe();
        all = load_certs_from_paths(found.cert_file.as_deref(), None);
        for dir in &found.cert_dir {
            all.certs.extend(load_certs_from_paths(None, Some(dir)).certs);
        }
    }
    all
}
