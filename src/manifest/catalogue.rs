//! All manifests together: the ones compiled in, or those of a mirror's folder, and a user's own beside them.

use super::dataset::DataManifest;
use super::embedded::FILES;
use super::list::HashList;
use super::pin::WeightsManifest;
use crate::error::BadInput;
use crate::names::did_you_mean;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

/// The folder of a user's own manifests: what `--manifests-dir` or `MEDFT_MANIFESTS` names, else `data-manifests`. They are added to
/// the built-in ones and never take the place of one.
pub fn own_folder(given: Option<&Path>) -> &Path {
    given
        .filter(|d| !d.as_os_str().is_empty())
        .unwrap_or(Path::new("data-manifests"))
}

/// Every manifest, weight pin and committed list.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    sets: BTreeMap<String, DataManifest>,
    /// By name; [`Catalogue::pins`] orders them by rank.
    pins: BTreeMap<String, WeightsManifest>,
    lists: BTreeMap<String, HashList>,
    phantoms: BTreeMap<String, HashList>,
    texts: BTreeMap<String, String>,
}

impl Catalogue {
    /// The manifests compiled into medft.
    pub fn embedded() -> &'static Self {
        static ALL: LazyLock<Catalogue> =
            LazyLock::new(|| Catalogue::new(FILES.iter().copied()).expect("a test parses every committed manifest"));
        &ALL
    }

    /// The manifests of a folder laid out as `data-manifests/`.
    ///
    /// # Errors
    /// [`BadInput`] naming file and line of the first manifest that cannot be used.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for sub in ["", "weights", "phantom"] {
            let folder = dir.join(sub);
            if !sub.is_empty() && !folder.is_dir() {
                continue;
            }
            let entries = std::fs::read_dir(&folder).map_err(|e| {
                let remedy = "Pass the folder that holds the <set>.toml files.";
                BadInput::new(folder.display(), "a folder of manifests", e.to_string(), remedy)
            })?;
            for entry in entries {
                let path = entry?.path();
                if path.extension().is_some_and(|e| e == "toml" || e == "sha256") {
                    let name = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
                    files.push((name, crate::fsio::read_to_string(&path)?));
                }
            }
        }
        files.sort();
        Ok(Self::new(files.iter().map(|(n, t)| (n.as_str(), t.as_str())))?)
    }

    /// This one with further data sets, whose manifests come with them.
    ///
    /// # Errors
    /// [`BadInput`] naming what cannot be used, or a name that is taken.
    pub fn with<'t>(&self, manifests: impl Iterator<Item = (&'t str, &'t str)>) -> Result<Self, BadInput> {
        let mut all = self.clone();
        for (set, text) in manifests {
            let at = format!("the manifest of {set}");
            let m = DataManifest::parse(text, &at)?;
            if m.set != set || all.sets.contains_key(set) {
                let found = format!("that of `{}`", m.set);
                return Err(BadInput::new(
                    at,
                    format!("a manifest of `{set}`, the only one"),
                    found,
                    "Give the data set a name of its own.",
                ));
            }
            all.texts.insert(format!("{set}.toml"), text.to_owned());
            all.sets.insert(m.set.clone(), m);
        }
        Ok(all)
    }

    /// A user's own checkpoint, as `<folder>/weights/<name>.toml` has it.
    ///
    /// # Errors
    /// [`BadInput`] where it cannot be used, or is not one's own.
    pub fn own_weights(path: &Path) -> Result<WeightsManifest> {
        let at = path.display().to_string();
        let pin = WeightsManifest::parse(&crate::fsio::read_to_string(path)?, &at)?;
        if pin.like.is_none() {
            let remedy =
                "Write it with `medft weights add`; MEDFT_MIRROR names a folder of other sources of published files.";
            return Err(BadInput::new(at, "`like`, as a checkpoint of one's own has", "none", remedy).into());
        }
        if path.file_stem().and_then(|s| s.to_str()) != Some(&pin.name) {
            let found = format!("that of `{}`", pin.name);
            return Err(BadInput::new(
                at,
                "a file named after its checkpoint",
                found,
                "Rename the file or correct the name in it.",
            )
            .into());
        }
        Ok(pin)
    }

    /// Whether a path below a folder of manifests is that of a built-in one: a checkout has them all.
    pub fn is_built_in(path: &str) -> bool {
        FILES.iter().any(|f| f.0 == path)
    }

    /// This one with a user's own checkpoints.
    ///
    /// # Errors
    /// [`BadInput`] for a name that is taken.
    pub fn with_weights(&self, own: &[WeightsManifest]) -> Result<Self, BadInput> {
        let mut all = self.clone();
        for pin in own {
            if all
                .pins
                .values()
                .any(|p| p.name == pin.name || p.backbone == pin.backbone)
            {
                return Err(BadInput::new(
                    format!("the manifest of {}", pin.name),
                    "a name of its own",
                    "that of other weights",
                    "Add the checkpoint under another name.",
                ));
            }
            all.texts.insert(format!("weights/{}.toml", pin.name), pin.to_toml());
            all.pins.insert(pin.name.clone(), pin.clone());
        }
        Ok(all)
    }

    /// Names of pins and of what they are for.
    pub fn weight_names(&self) -> impl Iterator<Item = &str> {
        self.pins.values().flat_map(|p| [p.name.as_str(), p.backbone.as_str()])
    }

    /// From paths relative to the folder, with their content.
    fn new<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, BadInput> {
        let mut all = Self::default();
        for (path, text) in files {
            all.texts.insert(path.to_owned(), text.to_owned());
            let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
            let at = format!("data-manifests/{path}");
            let (stem, kind) = file.rsplit_once('.').unwrap_or((file, ""));
            let named = |name: &str| match name == stem {
                true => Ok(()),
                false => {
                    let remedy = "Rename the file or correct the name in it.";
                    Err(BadInput::new(
                        &at,
                        format!("the manifest of `{stem}`"),
                        format!("that of `{name}`"),
                        remedy,
                    ))
                }
            };
            match (folder, kind) {
                ("", "toml") => {
                    let m = DataManifest::parse(text, &at)?;
                    named(&m.set)?;
                    all.sets.insert(stem.into(), m);
                }
                ("weights", "toml") => {
                    let m = WeightsManifest::parse(text, &at)?;
                    named(&m.name)?;
                    all.pins.insert(stem.into(), m);
                }
                ("", "sha256") => drop(all.lists.insert(stem.into(), HashList::parse(text.as_bytes(), &at)?)),
                ("phantom", "sha256") => drop(all.phantoms.insert(stem.into(), HashList::parse(text.as_bytes(), &at)?)),
                _ => {}
            }
        }
        Ok(all)
    }

    /// Path below the folder of manifests and text of each, sorted.
    pub fn texts(&self) -> &BTreeMap<String, String> {
        &self.texts
    }

    /// Every data set, by name.
    pub fn sets(&self) -> impl Iterator<Item = &DataManifest> {
        self.sets.values()
    }

    /// The manifest of a data set.
    ///
    /// # Errors
    /// [`BadInput`] with the known names.
    pub fn set(&self, set: &str) -> Result<&DataManifest, BadInput> {
        self.sets.get(set).ok_or_else(|| {
            let known: Vec<&str> = self.sets.keys().map(String::as_str).collect();
            BadInput::new(
                "data set",
                format!("one of {}", known.join(", ")),
                format!("`{set}`"),
                did_you_mean(set, &known),
            )
        })
    }

    /// Every backbone that has weights, by name.
    pub fn backbones(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.pins.values().map(|p| p.backbone.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The published files of a backbone, preferred first.
    ///
    /// # Errors
    /// [`BadInput`] with the known names.
    pub fn pins(&self, backbone: &str) -> Result<Vec<&WeightsManifest>, BadInput> {
        let mut pins: Vec<_> = self.pins.values().filter(|p| p.backbone == backbone).collect();
        if pins.is_empty() {
            let known = self.backbones();
            return Err(BadInput::new(
                "backbone",
                format!("one of {}", known.join(", ")),
                format!("`{backbone}`"),
                did_you_mean(backbone, &known),
            ));
        }
        pins.sort_by_key(|p| p.rank);
        Ok(pins)
    }

    /// Whether no other pin has a file of this name.
    pub(super) fn is_unique(&self, file: &str) -> bool {
        self.pins.values().filter(|p| p.file == file).count() == 1
    }

    /// The committed list of a set's files, where they may be published.
    pub fn list(&self, set: &str) -> Option<&HashList> {
        self.lists.get(set)
    }

    /// The committed list of a set's generated stand-in.
    pub fn phantom(&self, set: &str) -> Option<&HashList> {
        self.phantoms.get(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiled_list_is_the_folder() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("data-manifests");
        let mut on_disk = Vec::new();
        for sub in ["", "weights", "phantom"] {
            for e in std::fs::read_dir(dir.join(sub)).into_iter().flatten() {
                let p = e.unwrap().path();
                if p.extension().is_some_and(|x| x == "toml" || x == "sha256") {
                    on_disk.push(p.strip_prefix(&dir).unwrap().display().to_string());
                }
            }
        }
        on_disk.sort();
        let compiled: Vec<_> = FILES.iter().map(|f| f.0).collect();
        assert_eq!(
            compiled, on_disk,
            "every manifest has its line in src/manifest/embedded.rs, sorted"
        );
    }

    #[test]
    fn every_committed_manifest_parses_and_says_what_it_must() {
        let all = Catalogue::new(FILES.iter().copied()).unwrap();
        assert_eq!(all.sets.len(), 16);
        for set in all.sets() {
            assert!(!set.how_to_get().is_empty() && !set.archives.is_empty() && !set.label_files.is_empty());
        }
        for (backbone, pins) in all.backbones().iter().map(|b| (b, all.pins(b).unwrap())) {
            let ranks: Vec<u32> = pins.iter().map(|p| p.rank).collect();
            assert_eq!(ranks, (1..=pins.len() as u32).collect::<Vec<_>>(), "{backbone}");
        }
        let paper =
            "aimv2-l aimv2-h dinov2-b dinov2-l sam2-b sam2-l mae-b mae-l mae-h vmamba-s vmamba-b coca-b coca-l clip-b";
        for backbone in paper.split(' ').chain(["dinov2-s", "deit-b", "dinov2-s-imgfocus"]) {
            assert!(all.pins(backbone).is_ok(), "{backbone}");
        }
        for pin in all
            .pins
            .values()
            .filter(|p| p.backbone.starts_with("mae") && p.layout == "hf")
        {
            assert!(
                pin.licence_conflict.as_deref().unwrap().contains("CC-BY-NC"),
                "{}",
                pin.name
            );
        }
        for pin in all.pins.values().filter(|p| p.backbone.starts_with("aimv2")) {
            assert!(
                pin.licence_conflict.as_deref().unwrap().contains("apple-ascl"),
                "{}",
                pin.name
            );
        }
        assert!(
            all.pins("dinov2-s-imgfocus").unwrap()[0]
                .note
                .as_deref()
                .unwrap()
                .contains("never to be reported as DINOv2")
        );
    }

    #[test]
    fn a_typo_a_gap_and_a_bad_hash_are_named() {
        let good = FILES.iter().find(|f| f.0 == "retinamnist.toml").unwrap().1;
        let said = |text: &str| DataManifest::parse(text, "m.toml").unwrap_err().to_string();
        let e = said(&good.replacen("folder =", "foldr =", 1));
        assert!(e.starts_with("m.toml:4:") && e.contains("foldr"), "{e}");
        let e = said(&good.replacen("sha256_unknown = \"the publisher states an md5 only\"\n", "", 1));
        assert!(
            e.contains("archive retinamnist_64.npz: sha256 or the reason why it is unknown, found neither"),
            "{e}"
        );
        let e = said(&good.replacen("sha256 = \"25", "sha256 = \"XX", 1));
        assert!(e.contains("64 lower-case hex digits"), "{e}");
        let e = said(&good.replacen("schema = 1", "schema = 2", 1));
        assert!(e.contains("schema = 1, found schema = 2"), "{e}");
    }

    #[test]
    fn a_folder_overrides_and_names_its_mistakes() {
        let dir = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| crate::fsio::write_atomic(&dir.path().join(name), text.as_bytes()).unwrap();
        for (name, text) in FILES {
            write(name, text);
        }
        let all = Catalogue::from_dir(dir.path()).unwrap();
        assert_eq!(all.backbones(), Catalogue::embedded().backbones());
        write("ddsm.sha256", "not a list\n");
        let e = Catalogue::from_dir(dir.path()).unwrap_err().to_string();
        assert!(
            e.starts_with("data-manifests/ddsm.sha256:1: expected 64 hex digits"),
            "{e}"
        );
        let e = Catalogue::embedded().set("isic").unwrap_err().to_string();
        assert!(e.contains("isic2019") && e.contains("`isic`"), "{e}");
    }
}
