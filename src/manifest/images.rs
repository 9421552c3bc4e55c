//! The images that a set's label files list, held against its folder: filled by `data`, which reads label files, and shown
//! with the rest of a [`SetReport`](super::SetReport).

use serde::Serialize;

/// A listed image that is not there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct AbsentImage {
    pub path: String,
    /// What is there in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
}

/// A listed image that cannot be read, or one that can with something to be said of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ImageFault {
    pub path: String,
    pub why: String,
}

/// What was found of the images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ImageReport {
    /// Image files that the label files name, each once.
    pub listed: usize,
    pub absent: Vec<AbsentImage>,
    pub unreadable: Vec<ImageFault>,
    /// Damage that Pillow reads over, too.
    pub remarks: Vec<ImageFault>,
    /// How many were decoded whole; the others are there and no more is known.
    pub decoded: usize,
    /// What to do, each once.
    pub remedies: Vec<String>,
}

impl ImageReport {
    /// Whether every listed image is there and none is known to be unreadable.
    pub fn ok(&self) -> bool {
        self.absent.is_empty() && self.unreadable.is_empty()
    }

    /// One line on all of them, without the set's name.
    pub fn summary(&self) -> String {
        let rest = self.listed - self.absent.len() - self.unreadable.len();
        let mut parts = vec![format!("{} images listed", self.listed)];
        for (n, what) in [
            (self.absent.len(), "not here"),
            (self.unreadable.len(), "unreadable"),
            (self.remarks.len(), "with damage that Pillow reads over, too"),
        ] {
            if n > 0 {
                parts.push(format!("{n} {what}"));
            }
        }
        parts.push(match (rest, rest.saturating_sub(self.decoded)) {
            (0, _) => "none decoded".to_owned(),
            (_, 0) => "all others decoded".to_owned(),
            (_, n) => format!("{n} not decoded (--decode does it)"),
        });
        if self.ok() && self.decoded == self.listed {
            parts.truncate(parts.len() - 1);
            parts.push("all decoded".to_owned());
        }
        parts.join(", ")
    }

    /// Lines that name at most `limit` images of each kind.
    pub fn lines(&self, limit: usize) -> String {
        let mut out = String::new();
        let mut add = |kind: &str, lines: Vec<String>| {
            for line in lines.iter().take(limit) {
                out.push_str(&format!("\n  {kind:<10} {line}"));
            }
            if lines.len() > limit {
                out.push_str(&format!("\n  {kind:<10} … and {} more", lines.len() - limit));
            }
        };
        let absent = self.absent.iter().map(|a| match &a.instead {
            Some(instead) => format!("{}  ({instead})", a.path),
            None => a.path.clone(),
        });
        add("no image", absent.collect());
        let named = |faults: &[ImageFault]| faults.iter().map(|f| format!("{}  ({})", f.path, f.why)).collect();
        add("unreadable", named(&self.unreadable));
        add("damaged", named(&self.remarks));
        out
    }
}
