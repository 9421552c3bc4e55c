//! The arguments for data sets and studies of a user's own.
// The texts are those of --help, where <experiments-dir> is a part to be replaced.
#![allow(rustdoc::invalid_html_tags)]

use super::folder;
use crate::data::own::Shares;
use crate::data::table::TableTask;
use crate::study::{Freeze, HeadKind, Preset, Scale};
use clap::Args;
use std::path::PathBuf;

/// What a user's own data set is made of.
#[derive(Debug, Clone, Args)]
pub struct AddArgs {
    /// Its name in studies
    pub name: String,
    /// Folder of the images (without --labels one folder a class, or that below train, val and test), or an npz file
    #[arg(long, value_name = "DIR", value_parser = folder())]
    pub images: PathBuf,
    /// Table with a row an image: CSV, or with another usual separator
    #[arg(long, value_name = "FILE", value_parser = folder())]
    pub labels: Option<PathBuf>,
    /// Column with the image's path below --images, with or without its ending
    #[arg(long, value_name = "COLUMN", default_value = "image")]
    pub id: String,
    /// Column with the class; given several times, a column of 0 and 1 for each label
    #[arg(long, value_name = "COLUMN", default_value = "label")]
    pub label: Vec<String>,
    /// Column that says train, val or test
    #[arg(long, value_name = "COLUMN", requires = "labels", conflicts_with = "split_rule")]
    pub split: Option<String>,
    /// How it is cut where nothing says so: stratified:TRAIN/VAL/TEST
    #[arg(long, value_name = "RULE", default_value = "stratified:0.8/0.1/0.1")]
    pub split_rule: Shares,
    /// Column with the patient, lesion or case: a group is never in two parts
    #[arg(long, value_name = "COLUMN", requires = "labels")]
    pub group: Option<String>,
    /// Kind of task (default: multilabel for several --label, else multiclass)
    #[arg(long, value_enum)]
    pub task: Option<TableTask>,
    /// Names of the classes in their order (default: all that occur, sorted)
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub classes: Vec<String>,
    /// Metric that counts (default: recall for three classes and more, else roc_auc)
    #[arg(long, value_name = "METRIC")]
    pub target: Option<String>,
    /// Read the images as grey
    #[arg(long)]
    pub grey: bool,
    /// As printed in tables (default: the name)
    #[arg(long)]
    pub title: Option<String>,
    /// Licence of the images, for its card
    #[arg(long)]
    pub licence: Option<String>,
    /// Say what is understood and what is wrong, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What a new study is about.
#[derive(Debug, Clone, Args)]
pub struct NewArgs {
    /// Name of the study, written to <experiments-dir>/<name>.toml, or the path of a file
    pub study: String,
    /// Data sets, built-in or your own
    #[arg(
        long,
        visible_alias = "datasets",
        value_name = "SET,…",
        value_delimiter = ',',
        required = true,
        add = crate::complete::sets()
    )]
    pub dataset: Vec<String>,
    /// Backbones
    #[arg(
        long,
        visible_alias = "backbones",
        value_name = "BACKBONE,…",
        value_delimiter = ',',
        required = true,
        add = crate::complete::backbones()
    )]
    pub backbone: Vec<String>,
    /// linear, mha or both
    #[arg(
        long,
        visible_alias = "head",
        value_name = "HEAD,…",
        value_delimiter = ',',
        default_value = "linear"
    )]
    pub heads: Vec<HeadKind>,
    /// Seeds of every cell
    #[arg(
        long,
        visible_alias = "seed",
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "0,1,2"
    )]
    pub seeds: Vec<u64>,
    /// frozen, unfrozen or both
    #[arg(long, value_name = "MODE,…", value_delimiter = ',', default_value = "frozen")]
    pub freeze: Vec<Freeze>,
    /// faithful or corrected
    #[arg(long, default_value = "corrected")]
    pub preset: Preset,
    /// full or tiny (small random models, to see that everything works)
    #[arg(long, default_value = "full")]
    pub scale: Scale,
    /// A switch of the protocol, as in --set epochs=20; a list is a sweep: --set 'lr=[1e-5, 1e-4]'
    #[arg(long, value_name = "KEY=VALUE", value_parser = switch)]
    pub set: Vec<(String, String)>,
    /// One line on what it is (default: backbones on data sets)
    #[arg(long)]
    pub title: Option<String>,
}

/// `key=value`; a value that is no TOML is a text.
fn switch(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("key=value is wanted")?;
    let (key, value) = (key.trim(), value.trim());
    let is_key = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_key || value.is_empty() || value.contains('\n') {
        return Err("key=value is wanted".to_owned());
    }
    let is_toml = format!("x = {value}").parse::<toml::Table>().is_ok();
    let value = if is_toml {
        value.to_owned()
    } else {
        serde_json::Value::from(value).to_string()
    };
    Ok((key.to_owned(), value))
}
