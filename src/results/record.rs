//! A JSON record that proves itself: schema, hash of its content, content.
//!
//! The hash runs over the schema name and the content in canonical form (keys sorted, no white space, shortest floats), so
//! re-indenting a file is harmless and changing one digit is not. A number that is not finite is stored as `null`.
//! The hash keeps torn writes and edits by hand from being read; it is no signature.

use crate::canonical::{Numbers, canonical};
use crate::error::BadInput;
use crate::fsio;
use crate::limits;
use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// What can be stored as a record; the schema reads `medft.<NAME>/<VERSION>`.
pub trait Content: Serialize + DeserializeOwned {
    const NAME: &'static str;
    const VERSION: u32;
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    schema: String,
    sha256: String,
    content: Value,
}

const REMEDY: &str = "Move the run's folder away (or restore the file from a copy) and run the study again.";

/// The bytes of `content` as a record: indented JSON with a final newline, the same for the same content.
///
/// # Errors
/// Where the content cannot be serialised.
pub fn record_bytes<T: Content>(content: &T) -> Result<Vec<u8>> {
    let content = serde_json::to_value(content).with_context(|| format!("cannot serialise a {} record", T::NAME))?;
    let schema = schema::<T>();
    let envelope = Envelope {
        sha256: content_hash(&schema, &content),
        schema,
        content,
    };
    let mut bytes = serde_json::to_vec_pretty(&envelope)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Writes `content` to `path` as a record, atomically; returns the SHA-256 of the file.
///
/// # Errors
/// As [`record_bytes`] and [`crate::fsio::write_atomic`].
pub fn write_record<T: Content>(path: &Path, content: &T) -> Result<String> {
    let bytes = record_bytes(content)?;
    fsio::write_atomic(path, &bytes)?;
    Ok(fsio::sha256_hex(&bytes))
}

/// Reads a record; also returns the SHA-256 of the whole file.
///
/// # Errors
/// [`BadInput`] when the file is torn, has another schema, was edited, or does not fit `T`.
pub fn read_record<T: Content>(path: &Path) -> Result<(T, String)> {
    let bytes = read(path)?;
    let bad = |expected: &str, found: String| BadInput::new(path.display(), expected, found, REMEDY);
    let envelope: Envelope =
        serde_json::from_slice(&bytes).map_err(|e| bad("a whole record", format!("a torn or foreign file ({e})")))?;
    let schema = schema::<T>();
    if envelope.schema != schema {
        let found = format!("`{}`", envelope.schema);
        return Err(BadInput::new(
            path.display(),
            format!("schema `{schema}`"),
            found,
            "Read it with the medft that wrote it, or move the run's folder away and run the study again.",
        )
        .into());
    }
    let found = content_hash(&schema, &envelope.content);
    if found != envelope.sha256 {
        let found = format!("an edited one that hashes to {found}");
        return Err(bad(&format!("a record that hashes to {}", envelope.sha256), found).into());
    }
    let content = T::deserialize(envelope.content)
        .map_err(|e| bad(&format!("a {} record", T::NAME), format!("other content ({e})")))?;
    Ok((content, fsio::sha256_hex(&bytes)))
}

/// The content of a record whose hash does not count: to name what was edited in it. `None` where it cannot be parsed.
pub(super) fn read_edited<T: Content>(path: &Path) -> Option<T> {
    let envelope: Envelope = serde_json::from_slice(&read(path).ok()?).ok()?;
    T::deserialize(envelope.content).ok()
}

/// The bytes of a record's file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    fsio::read_at_most(path, limits::RECORD).with_context(|| format!("cannot read {}", path.display()))
}

fn schema<T: Content>() -> String {
    format!("medft.{}/{}", T::NAME, T::VERSION)
}

fn content_hash(schema: &str, content: &Value) -> String {
    let text = format!("{schema}\n{}", canonical(content, Numbers::SerdeJson));
    fsio::sha256_hex(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected hash is `printf 'medft.x/1\n{"a":1}' | sha256sum`.
    #[test]
    fn the_hash_is_that_of_sha256sum_over_schema_and_content() {
        let v: Value = serde_json::from_str(r#"{ "a": 1 }"#).unwrap();
        assert_eq!(
            content_hash("medft.x/1", &v),
            "782a3c430e4d8e76d3f70f92bc1a57aaa56dedcf08d69ccadc89713b858c7bf1"
        );
    }
}
