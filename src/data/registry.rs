//! Every data set medft knows, in the order of the tables. A new one is one file beside this one and one line here.

use super::types::DatasetReader;
use super::{aptos2019::Aptos2019, chexpert::CheXpert, ddsm::Ddsm, isic2019::Isic2019, medmnist};
use crate::error::BadInput;
use crate::names::did_you_mean;
use crate::registry::Registry;
use crate::spec::Protocol;
use anyhow::Result;

/// All data sets, in the order of tables.
pub static SETS: Registry<dyn DatasetReader> = Registry::new(&[
    &Ddsm,
    &CheXpert,
    &Isic2019,
    &Aptos2019,
    &medmnist::BREAST,
    &medmnist::RETINA,
    &medmnist::DERMA,
    &medmnist::PNEUMONIA,
    &medmnist::CHEST,
    &medmnist::BLOOD,
    &medmnist::OCT,
    &medmnist::ORGAN_A,
    &medmnist::ORGAN_C,
    &medmnist::ORGAN_S,
    &medmnist::PATH,
    &medmnist::TISSUE,
]);

/// The sets of the paper.
pub fn of_paper() -> impl Iterator<Item = &'static str> {
    all().into_iter().filter(|s| s.of_paper()).map(|s| s.name())
}

/// All data sets, in fixed order.
pub fn all() -> Vec<&'static dyn DatasetReader> {
    SETS.all()
}

/// The names of data sets in studies, in the order of [`all`].
pub fn names() -> Vec<&'static str> {
    SETS.names()
}

/// The data set of that name.
///
/// # Errors
/// [`BadInput`] listing the names there are.
pub fn find(name: &str) -> Result<&'static dyn DatasetReader> {
    SETS.get(name).ok_or_else(|| {
        BadInput::new(
            format!("data set {name:?}"),
            format!("one of {}", names().join(", ")),
            "an unknown name",
            did_you_mean(name, &names()),
        )
        .into()
    })
}

/// Whether other data sets lie in the same folder below the data directory.
pub fn shares_folder(source: &dyn DatasetReader) -> bool {
    let p = Protocol::faithful();
    let folder = source.info(&p).folder;
    let same = |s: &&&dyn DatasetReader| s.info(&p).folder == folder;
    all().iter().filter(same).count() > 1
}
