//! Every data set medft knows, in the order of the tables. A new one is one file beside this one and one line here.

use super::types::Source;
use super::{aptos2019::Aptos2019, chexpert::CheXpert, ddsm::Ddsm, isic2019::Isic2019, medmnist};
use crate::error::BadInput;
use crate::study::Protocol;
use anyhow::Result;

static ALL: &[&dyn Source] = &[
    &Ddsm,
    &CheXpert,
    &Isic2019,
    &Aptos2019,
    &medmnist::BREAST,
    &medmnist::RETINA,
    &medmnist::DERMA,
    &medmnist::PNEUMONIA,
    &medmnist::CHEST,
];

/// The four sets of the paper.
pub const PAPER: [&str; 4] = ["ddsm", "chexpert", "isic2019", "aptos2019"];

/// All data sets, in fixed order.
pub fn all() -> &'static [&'static dyn Source] {
    ALL
}

/// The words that name data sets in studies, in the order of [`all`].
pub fn names() -> Vec<&'static str> {
    let p = Protocol::faithful();
    ALL.iter().map(|s| s.info(&p).name).collect()
}

/// The data set of that name.
///
/// # Errors
/// [`BadInput`] listing the names there are.
pub fn find(name: &str) -> Result<&'static dyn Source> {
    match names().iter().position(|&n| n == name) {
        Some(i) => Ok(ALL[i]),
        None => Err(BadInput::new(
            format!("data set {name:?}"),
            format!("one of {}", names().join(", ")),
            "an unknown name",
            "Write one of these names.",
        )
        .into()),
    }
}

/// Images in a set's phantom where nothing else is asked for: the number whose files are pinned.
pub fn phantom_images(name: &str) -> usize {
    use super::phantom;
    match name {
        "ddsm" => phantom::ddsm::DEFAULT_IMAGES,
        "chexpert" => phantom::chexpert::DEFAULT_IMAGES,
        "isic2019" => phantom::isic2019::DEFAULT_IMAGES,
        "aptos2019" => phantom::aptos2019::DEFAULT_IMAGES,
        _ => phantom::medmnist::DEFAULT_IMAGES,
    }
}
