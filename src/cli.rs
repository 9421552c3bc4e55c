//! The command line a user types. What they do is in `commands`.
// The texts are those of --help, where <study> is a part to be replaced.
#![allow(rustdoc::invalid_html_tags)]

mod own;

use crate::complete;
use crate::device::DeviceRequest;
use crate::fetch::environment::expand;
use crate::spec::protocol::Precision;
use clap::builder::{OsStringValueParser, PathBufValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use medft_nn::precision::Compute;
use std::path::PathBuf;

pub use own::{AddArgs, NewArgs};

/// Reproduces papers on medical image classification end to end: data, weights, every run, and every number beside the published one
/// (`medft papers` lists them).
#[derive(Debug, Parser)]
#[command(name = "medft", version, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

/// A folder: `~` and `$VAR`, which a shell leaves alone in quotes and in a file of variables, are expanded.
fn folder() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(|p| PathBuf::from(expand(&|k| std::env::var_os(k), p.as_os_str())))
}

/// As [`folder`]; a variable that is set to nothing names none.
fn folder_if_any() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(|p| PathBuf::from(expand(&|k| std::env::var_os(k), &p)))
}

/// A whole number with its bounds: beyond them a typing error starts threads or asks for memory until the machine stops.
fn bounded(least: u64, most: u64) -> impl TypedValueParser<Value = usize> {
    move |text: &str| -> Result<usize, String> {
        let number = text
            .parse::<usize>()
            .ok()
            .filter(|n| (least..=most).contains(&(*n as u64)));
        number.ok_or_else(|| format!("{text} is not in {least}..={most}"))
    }
}

/// Options of every verb.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Folder of the data sets, one below it each
    #[arg(
        long,
        global = true,
        env = "MEDFT_DATA_DIR",
        default_value = "data",
        value_name = "DIR",
        value_parser = folder()
    )]
    pub data_dir: PathBuf,
    /// Folder of the lists that `data lock` writes (default: beside the data; where they are read-only, <results-dir>/lists)
    #[arg(long, global = true, env = "MEDFT_LISTS_DIR", value_name = "DIR", value_parser = folder())]
    pub lists_dir: Option<PathBuf>,
    /// Folder of the pretrained weights (the Hugging Face cache is searched too)
    #[arg(
        long,
        global = true,
        env = "MEDFT_WEIGHTS_DIR",
        default_value = "weights",
        value_name = "DIR",
        value_parser = folder()
    )]
    pub weights_dir: PathBuf,
    /// Folder of run records
    #[arg(
        long,
        global = true,
        env = "MEDFT_RESULTS_DIR",
        default_value = "results",
        value_name = "DIR",
        value_parser = folder()
    )]
    pub results_dir: PathBuf,
    /// Folder of rendered reports
    #[arg(
        long,
        global = true,
        env = "MEDFT_REPORTS_DIR",
        default_value = "reports",
        value_name = "DIR",
        value_parser = folder()
    )]
    pub reports_dir: PathBuf,
    /// Folder of studies; those in the binary serve where a file is missing
    #[arg(
        long,
        global = true,
        env = "MEDFT_EXPERIMENTS_DIR",
        default_value = "experiments",
        value_name = "DIR",
        value_parser = folder()
    )]
    pub experiments_dir: PathBuf,
    /// Folder of the manifests of your own data sets and checkpoints, added to the built-in ones (default: data-manifests)
    #[arg(long, global = true, env = "MEDFT_MANIFESTS", value_name = "DIR", value_parser = folder_if_any())]
    pub manifests_dir: Option<PathBuf>,
    /// auto, cpu, cuda:N, or cuda:N,M,… to train on several GPUs side by side
    #[arg(
        long,
        global = true,
        env = "MEDFT_DEVICE",
        default_value = "auto",
        value_name = "DEVICE"
    )]
    pub device: DeviceRequest,
    /// Most bytes that caches may keep on disk, such as 200G; those used least recently go first (default: what the disk holds).
    /// Never changes a result
    #[arg(long, global = true, env = "MEDFT_CACHE_BYTES", value_name = "SIZE", value_parser = crate::cache::parse_bytes)]
    pub cache_bytes: Option<u64>,
    /// Folder of templates that replace the built-in ones of the same name; the report names them
    #[arg(long, global = true, value_name = "DIR", value_parser = folder())]
    pub templates: Option<PathBuf>,
    /// Threads that decode and augment (default: all cores); never changes a result
    #[arg(allow_negative_numbers = true, long, global = true, value_name = "N", value_parser = bounded(1, crate::machine::MAX_THREADS))]
    pub workers: Option<usize>,
    /// Seconds between the checkpoints of a run; 0 is after every step. Never changes a result
    #[arg(long, global = true, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=31_536_000))]
    pub checkpoint_every: u64,
    /// Machine-readable output on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more on stderr; twice: every epoch
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl Verb {
    /// Whether the verb writes manifests, whose folder need not be there yet.
    pub fn writes_manifests(&self) -> bool {
        matches!(self, Self::Data(DataVerb::Add(_)) | Self::Weights(WeightsVerb::Add(_)))
    }
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Data sets: list, fetch, import, verify, lock, synth
    #[command(subcommand)]
    Data(DataVerb),
    /// Pretrained weights: list, add, fetch, verify
    #[command(subcommand)]
    Weights(WeightsVerb),
    /// The papers there are: their studies, published values and claims
    Papers,
    /// Published values to compare with: list, template, check
    #[command(subcommand)]
    Published(PublishedVerb),
    /// Write a commented study file of your own
    New(NewArgs),
    /// Say for every run of a study whether it is done, can start, or what blocks it
    Plan(PlanArgs),
    /// Say how many seeds each verdict and claim takes, from measured scatter or a stated assumption
    Power(PowerArgs),
    /// Run what is missing of a study
    Run(RunArgs),
    /// Hand what is missing of a study to a Slurm cluster: a job that prepares, an array of tasks, a job that reports
    Submit(SubmitArgs),
    /// Verify the inputs of a study and prepare its images, so that its runs start at once; trains nothing
    Prepare(StudyArgs),
    /// Render tables, figure and comparison from the records of a study
    Report(ReportArgs),
    /// Hold a study against the published values, or two result folders against each other; exit code 1 where one differs
    Compare(CompareArgs),
    /// Hold every stored and rendered number against what it follows from; exit code 2 where one was edited
    VerifyResults {
        /// Studies (default: every folder of results)
        #[arg(add = complete::studies())]
        studies: Vec<String>,
    },
    /// verify → run → report → compare
    Reproduce(ReproduceArgs),
    /// Say what a trained model sees in images: probabilities, with the run's own preprocessing
    Predict(PredictArgs),
    /// Write a run's trained model for timm, transformers or the original code
    Export(ExportArgs),
    /// Pack a study into one archive (an RO-Crate): study, manifests, records, report, licences; or verify such an archive
    Bundle(BundleArgs),
    /// Measure this machine
    Bench(BenchArgs),
    /// Say what medft finds on this machine
    Doctor,
    /// Print a completion script: it asks medft for studies, data sets, backbones and the values of --only
    Completions { shell: clap_complete::Shell },
    /// Write the man pages, one a verb, into a folder
    Man {
        #[arg(default_value = "man", value_parser = folder())]
        dir: PathBuf,
    },
}

/// The whole command line, with examples in every help.
pub fn command() -> clap::Command {
    let mut command = <Cli as clap::CommandFactory>::command();
    for (path, examples) in EXAMPLES {
        let text = format!("Examples:\n  {}", examples.join("\n  "));
        command = with_help(command, &path.split_whitespace().collect::<Vec<_>>(), &text);
    }
    command
}

fn with_help(command: clap::Command, path: &[&str], text: &str) -> clap::Command {
    match path {
        [] => command.after_help(text.to_owned()),
        [verb, rest @ ..] => command.mut_subcommand(verb, |c| with_help(c, rest, text)),
    }
}

/// Examples of every verb, each a command line that is understood (a test reads them).
pub const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "medft reproduce demo",
            "medft plan paper",
            "medft run paper --only dataset=ddsm,backbone=dinov2-*",
        ],
    ),
    ("data", &["medft data list", "medft data fetch ddsm --accept-terms"]),
    ("data list", &["medft data list -v", "medft data list --json"]),
    (
        "data verify",
        &["medft data verify", "medft data verify isic2019 --decode"],
    ),
    (
        "data audit",
        &["medft data audit ddsm", "medft data audit --study paper --labels-only"],
    ),
    ("data card", &["medft data card isic2019 > isic2019.json"]),
    (
        "data fetch",
        &[
            "medft data fetch ddsm isic2019 --accept-terms",
            "medft data fetch breastmnist --copy 224",
        ],
    ),
    ("data import", &["medft data import chexpert CheXpert-v1.0-small.zip"]),
    (
        "data add",
        &[
            "medft data add skin --images photos --labels labels.csv --id image --label dx --group patient_id",
            "medft data add skin --images one-folder-a-class --dry-run",
        ],
    ),
    (
        "data lock",
        &["medft data lock chexpert", "medft data lock ddsm --decode --strict"],
    ),
    (
        "data synth",
        &[
            "medft data synth",
            "medft data synth ddsm --images 400 --data-dir /tmp/data",
        ],
    ),
    ("weights", &["medft weights list", "medft weights fetch dinov2-b mae-b"]),
    ("weights list", &["medft weights list --json"]),
    (
        "weights fetch",
        &[
            "medft weights fetch",
            "medft weights fetch --study medmnistplus",
            "medft weights fetch dinov2-b --pin dinov2-b-hf",
        ],
    ),
    ("weights verify", &["medft weights verify dinov2-b --full"]),
    ("papers", &["medft papers", "medft papers --json"]),
    (
        "published",
        &[
            "medft published list",
            "medft published template paper > experiments/published/mine.csv",
        ],
    ),
    ("published list", &["medft published list --json"]),
    (
        "published template",
        &["medft published template paper > experiments/published/mine.csv"],
    ),
    (
        "published check",
        &["medft published check experiments/published/mine.csv"],
    ),
    (
        "new",
        &["medft new rates --dataset isic2019 --backbone dinov2-b --seeds 0,1,2 --set lr=[1e-5,1e-4]"],
    ),
    (
        "plan",
        &[
            "medft plan paper",
            "medft plan paper -v --only dataset=ddsm",
            "medft plan paper --budget 48h --as-device \"NVIDIA H100 80GB HBM3\"",
        ],
    ),
    ("power", &["medft power paper", "medft power paper --sd 0.01"]),
    (
        "run",
        &[
            "medft run paper",
            "medft run paper --only dataset=ddsm,backbone=dinov2-*,seed=0",
            "medft run demo -vv",
        ],
    ),
    (
        "report",
        &[
            "medft report paper",
            "medft report paper --only dataset=ddsm --replicates 0",
        ],
    ),
    (
        "compare",
        &[
            "medft compare paper",
            "medft compare results/paper ../other/results/paper",
        ],
    ),
    (
        "verify-results",
        &["medft verify-results", "medft verify-results paper --json"],
    ),
    (
        "reproduce",
        &["medft reproduce demo", "medft reproduce paper --device cuda:0,1"],
    ),
    (
        "weights add",
        &[
            "medft weights add mine --like dinov2-b checkpoint.safetensors",
            "medft weights add mine --like mae-b model.pth --licence cc-by-nc-4.0",
        ],
    ),
    (
        "submit",
        &[
            "medft submit paper --cluster cluster.toml --dry-run",
            "medft submit paper --cluster cluster.toml --only dataset=ddsm",
        ],
    ),
    (
        "prepare",
        &["medft prepare paper", "medft prepare paper --only dataset=ddsm"],
    ),
    (
        "predict",
        &[
            "medft predict 1a2b3c4d image.png",
            "medft predict results/own/1a2b3c4d5e6f7081 one.png two.png --csv",
        ],
    ),
    (
        "export",
        &[
            "medft export 1a2b3c4d --layout timm --out exported",
            "medft export 1a2b3c4d --layout hf --out exported --weights last",
        ],
    ),
    (
        "bundle",
        &[
            "medft bundle paper --out paper.crate.zip",
            "medft bundle --verify paper.crate.zip",
        ],
    ),
    (
        "bench",
        &[
            "medft bench train --backbone mae-b --batch 16",
            "medft bench hash --images data/ISIC2019",
        ],
    ),
    ("doctor", &["medft doctor", "medft doctor --json"]),
    (
        "completions",
        &["medft completions bash > ~/.local/share/bash-completion/completions/medft"],
    ),
    ("man", &["medft man ~/.local/share/man/man1"]),
];

/// A study and the part of it that is meant.
#[derive(Debug, Clone, Args)]
pub struct StudyArgs {
    /// demo, paper, paper-authors, paper-bf16, paper-corrected, splits, medmnist, or the path of a study file
    #[arg(add = complete::studies())]
    pub study: String,
    /// Keep only these runs: backbone=…,dataset=…,head=…,freeze=…,split=…,seed=… (a repeated key is an or, `*` any rest)
    #[arg(long, value_name = "KEY=VALUE,…", value_delimiter = ',', add = complete::only())]
    pub only: Vec<String>,
}

/// What runs leave behind besides their records. Never changes a result or a run's id.
#[derive(Debug, Clone, Default, Args)]
pub struct FitArgs {
    /// Which trained weights every run leaves in its folder: none, best, last or both (default: what the study says)
    #[arg(long, value_name = "WHICH")]
    pub keep_weights: Option<crate::study::KeepWeights>,
    /// Write losses, rate and validation metrics by epoch for TensorBoard below this folder, one folder a run
    #[arg(long, value_name = "DIR", value_parser = folder())]
    pub tensorboard: Option<PathBuf>,
}

/// A study that is run.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub study: StudyArgs,
    #[command(flatten)]
    pub fit: FitArgs,
}

/// A study that is run and reported on.
#[derive(Debug, Clone, Args)]
pub struct ReproduceArgs {
    #[command(flatten)]
    pub report: ReportArgs,
    #[command(flatten)]
    pub fit: FitArgs,
}

/// A study, and the cluster that makes it.
#[derive(Debug, Clone, Args)]
pub struct SubmitArgs {
    #[command(flatten)]
    pub study: StudyArgs,
    /// What only you know of the cluster: options of sbatch, time of a task, how medft is started there; docs/CLUSTER.md shows one
    #[arg(long, value_name = "FILE", value_parser = folder())]
    pub cluster: PathBuf,
    /// Print scripts, tasks and sbatch lines, and submit nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// A study, whose hours are told, and the hours that part of it may take.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub study: StudyArgs,
    /// Tell the hours of this device by its name, such as "NVIDIA H100 80GB HBM3", wherever the plan is made
    #[arg(long, value_name = "NAME")]
    pub as_device: Option<String>,
    /// Write a study of the cells and seeds that decide the most claims, then values, in this time: 48h, 90m, 2d
    #[arg(long, value_name = "TIME")]
    pub budget: Option<String>,
    /// Where that study goes (default: <experiments-dir>/<study>-<budget>.toml)
    #[arg(long, value_name = "FILE", requires = "budget")]
    pub out: Option<PathBuf>,
}

impl PlanArgs {
    /// The budget as typed, where there is one.
    pub fn budget_text(&self) -> &str {
        self.budget.as_deref().unwrap_or_default()
    }
}

/// A study, and what is assumed of it.
#[derive(Debug, Clone, Args)]
pub struct PowerArgs {
    #[command(flatten)]
    pub study: StudyArgs,
    /// Standard deviation of a score over seeds, in place of what was measured or assumed
    #[arg(long, value_name = "SD", value_parser = above_zero)]
    pub sd: Option<f64>,
}

fn above_zero(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|x| x.is_finite() && *x > 0.0);
    number.ok_or_else(|| "a number above 0".to_owned())
}

/// A study and how its report is made.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    #[command(flatten)]
    pub study: StudyArgs,
    /// Resamples of the test images behind intervals and tests; 0 for none
    #[arg(long, value_name = "N", default_value_t = crate::results::REPLICATES, value_parser = bounded(0, 1_000_000))]
    pub replicates: usize,
}

/// A trained model and images.
#[derive(Debug, Clone, Args)]
pub struct PredictArgs {
    /// A run that kept its weights: its id, the first digits of it, or its folder
    pub run: String,
    /// Image files
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    /// best or last (default: what the run kept)
    #[arg(long, value_name = "WHICH", value_parser = PossibleValuesParser::new(["best", "last"]))]
    pub weights: Option<String>,
    /// A CSV table on stdout, with every digit
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

/// A trained model and where it goes.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// A run that kept its weights: its id, the first digits of it, or its folder
    pub run: String,
    /// Who is to load it: hf (transformers), timm, or hub (the original names, for code of one's own)
    #[arg(long, value_parser = PossibleValuesParser::new(crate::model::export::LAYOUTS))]
    pub layout: String,
    /// A folder that is empty or not there yet
    #[arg(long, value_name = "DIR", value_parser = folder())]
    pub out: PathBuf,
    /// best or last (default: what the run kept)
    #[arg(long, value_name = "WHICH", value_parser = PossibleValuesParser::new(["best", "last"]))]
    pub weights: Option<String>,
}

/// What is packed, or which archive is verified.
#[derive(Debug, Clone, Args)]
pub struct BundleArgs {
    /// The study whose records are packed
    #[arg(required_unless_present = "verify", add = complete::studies())]
    pub study: Option<String>,
    /// The archive (default: <study>.crate.zip)
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Leave out the predictions: a smaller archive, whose metrics nobody can compute again
    #[arg(long)]
    pub without_predictions: bool,
    /// Pack the trained weights too, where runs kept them
    #[arg(long)]
    pub weights: bool,
    /// Say what holds of an archive: its hashes, records, metrics and report
    #[arg(long, value_name = "FILE", conflicts_with_all = ["study", "out", "without_predictions", "weights"])]
    pub verify: Option<PathBuf>,
}

/// What is compared.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    #[command(flatten)]
    pub report: ReportArgs,
    /// With this, both are folders of results, such as results/paper: runs of the same id are paired
    #[arg(conflicts_with = "only")]
    pub other: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum PublishedVerb {
    /// The sets that a study may list as `published` of their report
    List,
    /// Print an empty table for the cells of a study, to be filled in from the source and saved as
    /// <experiments-dir>/published/<name>.csv
    Template {
        /// paper, or any other study
        #[arg(add = complete::studies())]
        study: String,
    },
    /// Name everything that is wrong with a table, with line and nearest name; exit code 2 where something is
    Check { file: PathBuf },
}

#[derive(Debug, Subcommand)]
pub enum DataVerb {
    /// What each data set is, where it comes from, and whether it is here
    List,
    /// Hold the files of a data set against its list
    Verify {
        /// Data sets (default: all that are here)
        #[arg(add = complete::sets())]
        sets: Vec<String>,
        /// Trust files whose size, times and inode have not changed since they were hashed
        #[arg(long, conflicts_with = "full")]
        since_lock: bool,
        /// Hash every file (the default)
        #[arg(long)]
        full: bool,
        /// The generated stand-ins instead of the real sets
        #[arg(long)]
        phantom: bool,
        #[command(flatten)]
        images: ImageArgs,
    },
    /// Say what a data set is made of, what its parts share and what is in it twice; writes a page with a figure
    Audit(AuditArgs),
    /// Print a data set's card: Croissant JSON-LD with the SHA-256 of every file
    Card {
        #[arg(add = complete::sets())]
        set: String,
        /// The generated stand-in instead of the real set
        #[arg(long)]
        phantom: bool,
    },
    /// Download data sets; goes on where an earlier download was cut
    Fetch {
        #[arg(required = true, add = complete::sets())]
        sets: Vec<String>,
        /// Which of several copies of a set: 28, 64, 128 or 224 of MedMNIST; see data-manifests
        #[arg(long, value_name = "COPY")]
        copy: Option<String>,
        /// Accept licence and terms, which are shown in any case
        #[arg(long)]
        accept_terms: bool,
    },
    /// Take in the archives of a data set that you downloaded yourself
    Import {
        #[arg(add = complete::sets())]
        set: String,
        /// All archives of the set, under their published names
        #[arg(required = true)]
        archives: Vec<PathBuf>,
        /// Which of several copies of the set they are
        #[arg(long, value_name = "COPY")]
        copy: Option<String>,
    },
    /// Hash a data set you brought and write its list
    Lock {
        #[arg(required = true, add = complete::sets())]
        sets: Vec<String>,
        /// Take label files that are not the published ones; notes say so from then on
        #[arg(long)]
        accept_labels: bool,
        #[command(flatten)]
        images: ImageArgs,
    },
    /// Make a data set of your own images: a folder and a table, or one folder a class
    Add(Box<AddArgs>),
    /// Write phantom data sets in the real layouts below <data-dir>/phantom
    Synth {
        /// Data sets (default: the four of the paper)
        #[arg(add = complete::sets())]
        sets: Vec<String>,
        /// Images a set (default: the number whose files are pinned)
        #[arg(long, value_parser = bounded(1, 1_000_000))]
        images: Option<usize>,
        /// Write the lists of the phantoms below this folder (for maintainers)
        #[arg(long, value_name = "DIR")]
        write_lists: Option<PathBuf>,
    },
}

/// How images are looked at. That every listed one is there and begins as one is looked at in any case.
#[derive(Debug, Clone, Copy, Args)]
pub struct ImageArgs {
    /// Decode every listed image
    #[arg(long)]
    pub decode: bool,
    /// Count damage that Pillow reads over as an error (with --decode)
    #[arg(long, requires = "decode")]
    pub strict: bool,
}

/// What to audit, and how deep.
#[derive(Debug, Clone, Args)]
pub struct AuditArgs {
    /// Data sets; each gets <reports-dir>/data/<set>.md
    #[arg(add = complete::sets())]
    pub sets: Vec<String>,
    /// The sets, protocol and splits of a study instead; writes <reports-dir>/<study>/data.md
    #[arg(long, conflicts_with_all = ["sets", "phantom", "preset"], add = complete::studies())]
    pub study: Option<String>,
    /// Read label files only, no image
    #[arg(long)]
    pub labels_only: bool,
    /// Count damage that Pillow reads over as an error
    #[arg(long, conflicts_with = "labels_only")]
    pub strict: bool,
    /// The generated stand-ins instead of the real sets
    #[arg(long)]
    pub phantom: bool,
    /// faithful or corrected: the protocol that cuts and reads the sets
    #[arg(long, default_value = "faithful")]
    pub preset: crate::study::Preset,
}

/// A checkpoint of one's own.
#[derive(Debug, Clone, Args)]
pub struct WeightsAddArgs {
    /// What studies call it: a name of its own
    pub name: String,
    /// A .safetensors, .pth, .pt or .bin file; it is copied below <weights-dir>
    pub file: PathBuf,
    /// The published backbone that it has the architecture of
    #[arg(long, value_name = "BACKBONE")]
    pub like: String,
    /// How its tensors are named (default: what it fits)
    #[arg(long, value_name = "LAYOUT")]
    pub layout: Option<String>,
    /// Its licence, as an SPDX identifier or in words (default: unknown)
    #[arg(long, value_name = "LICENCE")]
    pub licence: Option<String>,
    /// What tables call it (default: made from both names)
    #[arg(long, value_name = "TITLE")]
    pub title: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum WeightsVerb {
    /// Each backbone's weights: source, licence, pin, and whether they are here
    List,
    /// Take in a checkpoint of your own as a backbone of its own name: check every tensor, pin its hash
    Add(WeightsAddArgs),
    /// Download weights; goes on where an earlier download was cut
    Fetch {
        /// Backbones (default: those of the study)
        #[arg(add = complete::weights())]
        backbones: Vec<String>,
        /// Whose backbones are fetched where none is named
        #[arg(long, value_name = "STUDY", default_value = "paper", add = complete::studies())]
        study: String,
        /// This published file instead of the preferred one (see `weights list`)
        #[arg(long = "pin", value_name = "NAME")]
        pins: Vec<String>,
    },
    /// Hash the weights that are here and hold them against their pins
    Verify {
        /// Backbones (default: all)
        #[arg(add = complete::weights())]
        backbones: Vec<String>,
        /// Hash again what has not changed since it was hashed
        #[arg(long)]
        full: bool,
    },
}

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchWhat {
    /// Decode and resize images
    Decode,
    /// Augment prepared images
    Augment,
    /// Forward pass without a graph
    Forward,
    /// Full fine-tuning step: forward, backward, clipping, AdamW
    Train,
    /// The same of a head alone, on features that are read from a table, against the same ones in memory
    Head,
    /// Time the matrix library's algorithms for the products of such a step, once, and record the fastest: from then on this program
    /// takes them on this GPU, and records of runs say so
    Products,
    /// SHA-256 of files
    Hash,
    /// The limits of this machine: multiply-adds and copies
    Peak,
}

#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    pub what: BenchWhat,
    #[arg(long, default_value = "dinov2-s", add = complete::backbones())]
    pub backbone: String,
    #[arg(long, default_value_t = 16, value_parser = bounded(1, 65_536))]
    pub batch: usize,
    #[arg(long, default_value_t = 5, value_parser = bounded(1, 1_000_000))]
    pub steps: usize,
    /// Side of the input in pixels
    #[arg(long, default_value_t = 224, value_parser = bounded(1, 4096))]
    pub size: usize,
    /// linear or mha
    #[arg(long, default_value = "linear")]
    pub head: crate::study::HeadKind,
    /// How the table keeps features: f32 or bf16 (head)
    #[arg(long, default_value = "f32")]
    pub feature_dtype: crate::study::FeatureDtype,
    /// Recompute activations in the backward pass: less memory, more time (train)
    #[arg(long)]
    pub checkpointing: bool,
    /// Arithmetic of forward, train, head and products; all but f32 need a GPU
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: BenchPrecision,
    /// Channels of decoded images: 1 or 3 (decode, augment)
    #[arg(long, default_value_t = 3, value_parser = PossibleValuesParser::new(["1", "3"]).map(|n| -> usize { if n == "1" { 1 } else { 3 } }))]
    pub channels: usize,
    /// Images to decode or augment, or files to hash (default: some made for the purpose); with train, images that the loader
    /// augments for every step (default: one batch of noise that stays on the device)
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
}

/// How `bench forward` and `bench train` compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchPrecision {
    F32,
    Tf32,
    Bf16,
    F16,
}

impl BenchPrecision {
    /// As the layers call it.
    pub fn compute(self) -> Compute {
        match self {
            Self::F32 => Compute::Float32,
            Self::Tf32 => Compute::Tf32,
            Self::Bf16 => Compute::Bfloat16,
            Self::F16 => Compute::Float16,
        }
    }

    /// As studies call it.
    pub fn of_protocol(self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::Tf32 => Precision::Tf32,
            Self::Bf16 => Precision::Bf16,
            Self::F16 => Precision::F16,
        }
    }
}

/// Exit codes.
pub mod exit {
    /// Done, and everything as expected.
    pub const OK: u8 = 0;
    /// Done, but something differs or is missing.
    pub const INCOMPLETE: u8 = 1;
    /// Wrong use, or an input that is broken (a file that is not the one it should be).
    pub const BROKEN: u8 = 2;
    /// Stopped by SIGINT after a checkpoint.
    pub const INTERRUPTED: u8 = 130;
}
