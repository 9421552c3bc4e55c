//! What this module refuses to measure, and the checks that refuse it.

/// An input that no metric is defined on. The modules above add which run or file it came from.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EvalError {
    #[error("{what}: expected at least one value, found none. Measure a set that holds images")]
    Empty { what: &'static str },
    #[error("{what}: expected {expected} values, found {found}. Pass one row per image and one column per class")]
    Length {
        what: &'static str,
        expected: usize,
        found: usize,
    },
    #[error("label of image {image}: expected less than {classes}, found {label}. Check the label file and the task")]
    Label { image: usize, label: u32, classes: usize },
    #[error(
        "{what}: expected finite numbers, found {value} at position {at}. Look for divergence in the epoch metrics"
    )]
    NotFinite { what: &'static str, at: usize, value: f64 },
    #[error("{what}: expected {expected}, found {found}. Change the argument")]
    Argument {
        what: &'static str,
        expected: &'static str,
        found: f64,
    },
    #[error("{what}: expected at least {needed} values, found {found}. Run more seeds or images")]
    TooFew {
        what: &'static str,
        needed: usize,
        found: usize,
    },
    #[error("metric: expected one of {allowed}, found {found}. Correct the name")]
    Metric { found: String, allowed: String },
    #[error(
        "random stream of replicate {replicate}: expected uniform numbers, found numbers that repeat. Mend the stream"
    )]
    Stream { replicate: usize },
}

pub(super) type Result<T> = std::result::Result<T, EvalError>;

/// Refuses nothing-at-all, NaN and infinities.
pub(super) fn finite(what: &'static str, values: &[f64]) -> Result<()> {
    if values.is_empty() {
        return Err(EvalError::Empty { what });
    }
    match values.iter().position(|v| !v.is_finite()) {
        Some(at) => Err(EvalError::NotFinite {
            what,
            at,
            value: values[at],
        }),
        None => Ok(()),
    }
}

/// Refuses two lengths that should be one.
pub(super) fn length(what: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found {
        Ok(())
    } else {
        Err(EvalError::Length { what, expected, found })
    }
}

/// Refuses an argument that fails its own condition.
pub(super) fn argument(what: &'static str, expected: &'static str, found: f64, holds: bool) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(EvalError::Argument { what, expected, found })
    }
}

/// Refuses more images than the packed ranks of `statistic` can number.
pub(super) fn few_enough(images: usize) -> Result<()> {
    argument("images", "less than 2^30", images as f64, images < 1 << 30)
}

/// Checks an (n, classes) table of probabilities against its labels.
pub(super) fn table(probs: &[f64], classes: usize, truth: &[u32]) -> Result<()> {
    argument("classes", "at least 2", classes as f64, classes >= 2)?;
    finite("probabilities", probs)?;
    length("probabilities", truth.len() * classes, probs.len())?;
    few_enough(truth.len())?;
    match truth.iter().position(|&t| t as usize >= classes) {
        Some(image) => Err(EvalError::Label {
            image,
            label: truth[image],
            classes,
        }),
        None => Ok(()),
    }
}

/// Checks an (n, labels) table of probabilities against its 0/1 labels.
pub(super) fn label_table(probs: &[f64], labels: usize, truth: &[u8]) -> Result<()> {
    argument("labels", "at least 1", labels as f64, labels >= 1)?;
    finite("probabilities", probs)?;
    length("labels", probs.len(), truth.len())?;
    argument(
        "probabilities",
        "a multiple of the number of labels",
        probs.len() as f64,
        probs.len().is_multiple_of(labels),
    )?;
    few_enough(probs.len() / labels)?;
    match truth.iter().position(|&t| t > 1) {
        Some(at) => Err(EvalError::Label {
            image: at / labels,
            label: u32::from(truth[at]),
            classes: 2,
        }),
        None => Ok(()),
    }
}
