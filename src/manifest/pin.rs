//! The pin of one published weight file as it stands in TOML. Keys are described in `data-manifests/README.md`.

use super::dataset::{Checker, toml_error};
use crate::error::BadInput;
use crate::spec::Scale;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// How a weight file is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    Safetensors,
    /// PyTorch's zip of a pickle and raw tensors.
    Pickle,
}

impl Format {
    /// The first bytes of such a file, any of them; none where they vary.
    pub fn magic(self) -> &'static [&'static [u8]] {
        match self {
            // It begins with the length of its header.
            Self::Safetensors => &[],
            // PyTorch's zip, or a bare pickle of protocol 2 and later.
            Self::Pickle => &[b"PK\x03\x04", b"\x80"],
        }
    }
}

/// How well the facts of a pin are founded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// The publisher or several independent sources agree.
    High,
    /// One good source.
    Medium,
    /// Hash or revision were not found.
    Low,
}

/// One published file that a backbone can use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsManifest {
    pub schema: u32,
    /// Unique; also the file's folder below the weights directory, unless `folder` is given.
    pub name: String,
    /// Name used in studies, or `deit-b` for the body of the attention head.
    pub backbone: String,
    /// Of a user's own checkpoint: the published backbone that it has the architecture of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub like: Option<String>,
    /// Of a user's own checkpoint: whether it is one of the published size or of the small one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// Of a user's own checkpoint: what tables call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Preference among the files of a backbone; 1 is first.
    pub rank: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Repository on the Hugging Face hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision_unknown: Option<String>,
    /// Branch-like name on the hub, for files outside of main.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    pub file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_unknown: Option<String>,
    /// How to get the file where no address does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub get: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_unknown: Option<String>,
    /// Rounded, as a page shows it; for people only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_shown: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256_unknown: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256_prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub md5_prefix: Option<String>,
    pub format: Format,
    /// Name of the map from its tensor names to medft's.
    pub layout: String,
    /// CLIP only: the activation the weights were trained with, `gelu` or `quick-gelu`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence_unknown: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence_conflict: Option<String>,
    pub confidence: Confidence,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Where each fact is from.
    pub source: BTreeMap<String, String>,
}

/// The layouts that have a name map.
pub const LAYOUTS: [&str; 10] = [
    "hub",
    "hf",
    "hf-laion",
    "timm",
    "fb",
    "open_clip",
    "openai",
    "sam2-pt",
    "aimv2-apple",
    "vmamba",
];

impl WeightsManifest {
    /// Reads and checks a pin; `at` names it in errors.
    ///
    /// # Errors
    /// [`BadInput`] as [`super::DataManifest::parse`]; also for a fact without a source.
    pub fn parse(text: &str, at: &str) -> Result<Self, BadInput> {
        let m: Self = toml::from_str(text).map_err(|e| toml_error(at, text, &e))?;
        let mut c = Checker::new(at);
        c.schema(m.schema);
        c.pair("url", m.url.is_some(), &m.url_unknown);
        c.pair("size", m.size.is_some(), &m.size_unknown);
        c.pair("licence", m.licence.is_some(), &m.licence_unknown);
        c.hash("sha256", &m.sha256, &m.sha256_unknown, 64);
        c.digits("md5", &m.md5, 32);
        if m.repo.is_some() {
            c.pair("revision", m.revision.is_some(), &m.revision_unknown);
        }
        if !LAYOUTS.contains(&m.layout.as_str()) {
            c.fail(format!("a layout of {}", LAYOUTS.join(", ")), format!("`{}`", m.layout));
        }
        let plain = |s: &str| !s.is_empty() && !s.starts_with('.') && !s.contains(['/', '\\', '\0']);
        for s in [&m.name, &m.backbone, &m.file].into_iter().chain(&m.folder) {
            if !plain(s) {
                c.fail(
                    "a plain name without / for name, backbone, file and folder",
                    format!("`{s}`"),
                );
            }
        }
        let own = [m.like.is_some(), m.scale.is_some(), m.title.is_some()];
        if own.contains(&true) && (own.contains(&false) || m.sha256.is_none() || m.backbone != m.name) {
            c.fail(
                "like, scale, title, sha256 and a backbone called as the file, of one's own checkpoint",
                "some of them",
            );
        }
        let facts = [
            ("revision", m.revision.is_some()),
            ("size", m.size.is_some()),
            ("sha256", m.sha256.is_some()),
            ("sha256_prefix", m.sha256_prefix.is_some()),
            ("md5", m.md5.is_some()),
            ("md5_prefix", m.md5_prefix.is_some()),
            ("activation", m.activation.is_some()),
            ("layout", true),
        ];
        for (fact, given) in facts {
            if given && !m.source.contains_key(fact) {
                c.fail(format!("source.{fact}, where the fact is from"), "none");
            }
        }
        c.done()?;
        Ok(m)
    }

    /// The manifest's text.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a manifest holds texts and numbers only")
    }

    /// The file's folder below the weights directory.
    pub fn folder(&self) -> &str {
        self.folder.as_deref().unwrap_or(&self.name)
    }

    /// What names the file's state on the hub: the pinned commit, else the pinned name, else main.
    pub fn hub_revision(&self) -> &str {
        self.revision.as_deref().or(self.reference.as_deref()).unwrap_or("main")
    }

    /// The command or sentence that gets the file to where it is looked for.
    pub fn how_to_get(&self, weights_dir: &Path) -> String {
        let place = weights_dir.join(self.folder()).join(&self.file);
        match (&self.get, self.rank) {
            (Some(sentence), _) => format!("{sentence} Put it at {}.", place.display()),
            (None, 1) => format!("medft weights fetch {}", self.backbone),
            (None, _) => format!("medft weights fetch {} --pin {}", self.backbone, self.name),
        }
    }
    /// The command that gets the file without medft, for another machine or a place without network.
    pub fn by_hand(&self, weights_dir: &Path) -> String {
        let dir = weights_dir.join(self.folder());
        let dir = dir.display();
        match (&self.get, &self.repo, &self.url) {
            (Some(_), ..) => self.how_to_get(weights_dir),
            (None, Some(repo), _) => format!(
                "hf download {repo} {} --revision {} --local-dir '{dir}'",
                self.file,
                self.hub_revision()
            ),
            (None, None, Some(url)) => format!("curl -L --create-dirs -o '{dir}/{}' '{url}'", self.file),
            (None, None, None) => format!("Put {} into {dir}.", self.file),
        }
    }
}
