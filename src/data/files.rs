//! What the readers of real layouts share: reading text, naming images, noticing what is named twice.
//!
//! Label files come from the outside, and a run joins their names to a folder and opens the result; a name may therefore
//! never lead out of that folder.

use super::folder::Folder;
use crate::error::BadInput;
use crate::limits;
use anyhow::Result;
use std::collections::HashMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Reads a label file whole, without a byte-order mark.
///
/// # Errors
/// [`BadInput`] when it is missing, empty, unreadable, not the verified one or not UTF-8 (with the line of the first bad byte).
pub fn read_text(root: &Folder, file: &Path) -> Result<String> {
    let path = root.join(file);
    let bytes = root.read(file, "a label file", limits::WHOLE_FILE)?;
    let mut text = String::from_utf8(bytes).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|&&b| b == b'\n').count();
        BadInput::new(
            format!("{}:{line}", path.display()),
            "UTF-8 text",
            format!("the byte 0x{:02x}", e.as_bytes()[good.len()]),
            "Restore the file as its source distributes it.",
        )
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    if text.trim().is_empty() {
        return Err(BadInput::new(
            path.display(),
            "at least one line",
            "an empty file",
            "Restore the file as its source distributes it.",
        )
        .into());
    }
    Ok(text)
}

/// A path below the data set's folder, from a label file.
///
/// # Errors
/// [`BadInput`] at `at` for an absolute path, a `..`, a backslash, or anything else that is not plain names joined by `/`.
pub fn relative(at: impl Display, text: &str) -> Result<PathBuf> {
    let plain = !text.contains(['\\', '\0']) && text.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if plain {
        return Ok(PathBuf::from(text));
    }
    Err(BadInput::new(
        at,
        "a relative image path of plain names joined by /",
        format!("{text:?}"),
        "Use the label file as distributed; a name may not lead out of the data set's folder.",
    )
    .into())
}

/// The name of an image without its extension: [`relative`] and a single component.
///
/// # Errors
/// [`BadInput`] at the row where it is no plain name of a file.
pub fn image_name(at: impl Display, text: &str) -> Result<&str> {
    if text.contains('/') || relative(&at, text).is_err() {
        return Err(BadInput::new(
            at,
            "the plain name of an image",
            format!("{text:?}"),
            "Use the label file as distributed; a name may not lead out of the data set's folder.",
        )
        .into());
    }
    Ok(text)
}

/// `<folder>/<folder>` or `<folder>`, whichever holds the first of `images` (or of their `.png` twins) that is in either; where
/// none is, the one that is there.
///
/// The copies of ISIC2019 and APTOS2019 that the authors used unpack into two nested folders of one name (PROTOCOL 1.3,
/// 1.4), the organisers' own archives into one. A folder is never listed, and mostly the first image tells.
pub fn image_folder(root: &Folder, folder: &str, mut images: impl Iterator<Item = String>) -> PathBuf {
    let nested = Path::new(folder).join(folder);
    let holds = |dir: &Path, image: &str| {
        let image = dir.join(image);
        root.has(&image) || root.has(&image.with_extension("png"))
    };
    let plain = Path::new(folder);
    let found = images.find_map(|i| match (holds(&nested, &i), holds(plain, &i)) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    });
    let nested_is_meant = found.unwrap_or_else(|| root.join(&nested).is_dir() || !root.join(plain).is_dir());
    if nested_is_meant { nested } else { plain.to_path_buf() }
}

/// Remembers where each id was first seen.
#[derive(Default)]
pub struct Unique(HashMap<String, String>);

impl Unique {
    /// # Errors
    /// [`BadInput`] at `at` when `id` was there before, naming both places.
    pub fn insert(&mut self, at: impl Display, id: &str) -> Result<()> {
        match self.0.insert(id.to_owned(), at.to_string()) {
            None => Ok(()),
            Some(before) => Err(twice(at, id, before)),
        }
    }
}

/// The complaint about an id that stands in two places.
pub fn twice(at: impl Display, id: &str, before: impl Display) -> anyhow::Error {
    BadInput::new(
        at,
        "every image once",
        format!("{id:?} again, first at {before}"),
        "Remove one of the two, or restore the file as distributed.",
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_of_the_folder_are_refused() {
        for bad in [
            "",
            "/etc/passwd",
            "../x.png",
            "a/../../x",
            "a/./b",
            "a//b",
            "a/",
            "a\\b",
            "..",
            ".",
            "a\0b",
        ] {
            let e = relative("list.txt:3", bad).unwrap_err().to_string();
            assert!(
                e.starts_with("list.txt:3: expected a relative image path"),
                "{bad:?}: {e}"
            );
            assert!(image_name("list.txt:3", bad).is_err(), "{bad:?}");
        }
        assert_eq!(relative("", "a/b.c.png").unwrap(), Path::new("a/b.c.png"));
        assert!(image_name("", "a/b").is_err());
        assert_eq!(image_name("", "ISIC_1").unwrap(), "ISIC_1");
    }

    #[test]
    fn one_or_two_folders_are_told_by_the_first_image() {
        let dir = tempfile::tempdir().unwrap();
        let root = &Folder::unverified(dir.path());
        let two = Path::new("train_images").join("train_images");
        assert_eq!(
            image_folder(root, "train_images", ["a.png".to_owned()].into_iter()),
            two
        );
        std::fs::create_dir_all(root.join("train_images")).unwrap();
        std::fs::write(root.join("train_images/a.png"), b"").unwrap();
        assert_eq!(
            image_folder(root, "train_images", ["a.png".to_owned()].into_iter()),
            Path::new("train_images")
        );
        assert_eq!(
            image_folder(root, "train_images", ["a.jpg".to_owned()].into_iter()),
            Path::new("train_images")
        );
        std::fs::create_dir_all(root.join(&two)).unwrap();
        assert_eq!(
            image_folder(root, "train_images", ["a.png".to_owned()].into_iter()),
            Path::new("train_images")
        );
        std::fs::write(root.join(&two).join("a.png"), b"").unwrap();
        assert_eq!(
            image_folder(root, "train_images", ["a.png".to_owned()].into_iter()),
            two
        );
    }
}
