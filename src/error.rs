//! One shape for every complaint about an input: where, what was expected, what was found, what to do.

/// An input that medft cannot use. Displayed as `{at}: expected {expected}, found {found}. {remedy}`.
///
/// `at` names a file (with `:line` where a line is known), a verb's argument or a record; `remedy` is an imperative
/// sentence. The process exits with code 2 when one of these reaches `main`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: expected {expected}, found {found}. {remedy}")]
pub struct BadInput {
    pub at: String,
    pub expected: String,
    pub found: String,
    pub remedy: String,
}

impl BadInput {
    pub fn new(
        at: impl ToString,
        expected: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            at: at.to_string(),
            expected: expected.into(),
            found: found.into(),
            remedy: remedy.into(),
        }
    }
}
