//! The protocol: every choice that changes a number, as a named switch.
//!
//! The numbers in brackets are the quirks of the authors' code (Q1 … Q50, listed with their reasons in
//! `docs/PROTOCOL.md`, whose section numbers the comments cite as "PROTOCOL 6.3"). `Protocol::faithful()` is what the
//! published code does, `Protocol::corrected()` what a reader of the paper would expect. A study names a preset and may
//! override single switches; the whole struct is part of the run id. [`super::switches`] holds the words and the reasons.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

macro_rules! switch {
    ($(#[$m:meta])* $name:ident { $($(#[$vm:meta])* $v:ident),+ $(,)? }) => {
        $(#[$m])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$vm])* $v),+ }

        impl $name {
            /// Every value, in order of declaration.
            pub const ALL: &[Self] = &[$(Self::$v),+];

            /// The words a study may use, in the order of [`Self::ALL`].
            pub fn words() -> Vec<String> {
                Self::ALL.iter().map(word).collect()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&word(self))
            }
        }
    };
}

/// The word serde writes for a unit variant, so that studies, records and tables can never spell a value differently.
fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(s)) => s,
        other => unreachable!("a switch serialises to a word, not to {other:?}"),
    }
}

switch!(/// Which of the two published recipes a protocol started from; printed in every table.
    Preset { Faithful, Corrected });
switch!(/// [Q1] Which weights the headline test number comes from. Both are always evaluated and stored.
    TestWeights { Best, Last });
switch!(/// [Q2] What stands behind "multi-head attention": the ImageNet-supervised DeiT-B of the code, or one random block.
    MhaBody { DeitBase, OneBlock });
switch!(/// [Q6] Which APTOS label file is the data set.
    AptosCsv { Train1, TrainFull });
switch!(/// [Q9] The DDSM task.
    DdsmTask { NormalVsLesion, ThreeClass, CancerVsRest });
switch!(/// What the lists of DDSM keep together: five case numbers stand in two of them.
    DdsmSplit { Lists, ByCase });
switch!(/// Whether images that are there twice (the same file, the same pixels) stay in one part, in the sets that name no groups:
    /// APTOS2019 and MedMNIST.
    Duplicates { Ignored, Together });
switch!(/// [Q10] How train.csv of CheXpert is cut.
    ChexpertSplit { LabelSlices, PatientBorders });
switch!(/// [Q11] What CheXpert is tested on.
    ChexpertTest { TrainCsv, OfficialValid });
switch!(/// [Q12] "No Finding" when all 14 labels are 0 after U-Zeroes.
    ChexpertNoFinding { SetWhenAllZero, AsInFile });
switch!(/// [Q13] Which validation images choose the epoch.
    ValidationSet { ShuffledDropLast, All });
switch!(/// [Q14] The resolution of the selection metric.
    SelectionRounding { ThreeDecimals, Exact });
switch!(/// [Q16] The value an epoch must exceed to be selected at all.
    SelectionStart { Zero, MinusInfinity });
switch!(/// [Q17] How a three-channel stem reads a one-channel image.
    GreyStem { RedKernel, SummedKernels });
switch!(/// [Q19] Whose mean and standard deviation normalise the input.
    Normalisation { Dataset, Backbone });
switch!(/// [Q29] CoCa's tokens for the MHA head.
    CocaTokens { Pooled, Patches });
switch!(/// [Q31] DINOv2's and CLIP's tokens for the MHA head: before or after the final norm.
    Dinov2Tokens { Unnormed, Normed });
switch!(/// [Q32] What the linear head reads: each family's own pooled vector, or the mean of the tokens.
    Readout { Family, MeanTokens });
switch!(/// [Q35] DINOv2's position-table rule: torch.hub's scale factor (g+0.1)/37, or Hugging Face's plain size.
    PositionRule { Hub, Size });
switch!(/// [Q39] The training augmentation. `Paper`: crop, both flips, jitter. `NoVerticalFlipNoJitter`: anatomically
    /// plausible views only. `None`: validation transform, so frozen features can be cached.
    Augment { Paper, NoVerticalFlipNoJitter, None });
switch!(/// [Q40] How an image becomes a square.
    Aspect { Squash, ShortSide });
switch!(/// Which side a resize begins with; the 8-bit rounding between the passes makes it visible (±1 level). `WidthFirst`: all
    /// versions of Pillow up to 12, so the authors'. `Pillow13`: the height when it shrinks by more than twice what the width does.
    ResizeOrder { WidthFirst, Pillow13 });
switch!(/// [Q41] What the random 80/10/10 split of ISIC keeps together.
    IsicSplit { ByImage, ByLesion });
switch!(/// [Q43] Whether a `val_ids.json` beside the data is obeyed.
    ValIdsFile { ReadIfPresent, Ignore });
switch!(/// [Q44] Whether `x.png` beside a listed `x.jpg` replaces it.
    PngTwin { Prefer, Off });
switch!(/// [Q46] The classes a macro average runs over.
    MacroClasses { PresentInTruthOrPrediction, All });
switch!(/// EXIF orientation and 16-bit PNGs: ignored and clipped at 255 (authors), or applied and scaled by 1/257 (sane).
    ImageLoading { Authors, Sane });
switch!(/// [Q25] Arithmetic of the forward and backward pass. Weights, gradients and moments are float32 always. `Tf32`: float32
    /// whose products round their operands to 10 bits of fraction.
    Precision { F32, Tf32, Bf16, F16 });
switch!(/// What becomes of a run whose loss or gradients explode. `Authors`: updates with a gradient that is not finite are skipped, as
    /// their GradScaler does in every precision, and the run goes on to its last epoch. `Stop`: it ends without a result.
    Divergence { Authors, Stop });

/// How the learning rate rises; afterwards it is constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Warmup {
    /// 5 epochs for DDSM and APTOS, 1000 iterations for ISIC and CheXpert (PROTOCOL 6.3).
    PerDataset,
    Epochs(u32),
    Iterations(u32),
    None,
}

/// Every choice that changes a number. The order is for readers: the run id sorts the keys (see [`super::id`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Protocol {
    pub preset: Preset,
    // data
    pub aptos_csv: AptosCsv,
    pub ddsm_task: DdsmTask,
    pub ddsm_split: DdsmSplit,
    pub duplicates: Duplicates,
    pub chexpert_split: ChexpertSplit,
    pub chexpert_test: ChexpertTest,
    pub chexpert_no_finding: ChexpertNoFinding,
    pub isic_split: IsicSplit,
    pub val_ids_file: ValIdsFile,
    /// Share of the training images that is trained on; see [`crate::data::fraction`].
    pub train_fraction: f64,
    pub png_twin: PngTwin,
    pub image_loading: ImageLoading,
    // transform
    /// Both sides after the first resize, in pixels (256 in the paper).
    pub resize: u32,
    /// Side of the centre crop and of the network input, in pixels (224 in the paper).
    pub crop: u32,
    pub aspect: Aspect,
    pub resize_order: ResizeOrder,
    pub augment: Augment,
    /// [Q20] Area range of RandomResizedCrop.
    pub crop_scale: [f64; 2],
    pub normalisation: Normalisation,
    // model
    pub grey_stem: GreyStem,
    pub mha_body: MhaBody,
    pub coca_tokens: CocaTokens,
    pub dinov2_tokens: Dinov2Tokens,
    pub readout: Readout,
    pub position_rule: PositionRule,
    // optimisation
    pub epochs: u32,
    pub batch: u32,
    pub lr: f64,
    pub weight_decay: f64,
    /// [Q23] Factor on the learning rate per block from the top; 1.0 is none.
    pub layer_decay: f64,
    /// Global gradient-norm clip; 0 is none.
    pub clip: f64,
    pub warmup: Warmup,
    /// [Q22] One increment too many at the end of the warm-up.
    pub warmup_overshoot: bool,
    pub precision: Precision,
    pub divergence: Divergence,
    // evaluation
    /// [Q26] Round validation logits to float16 before metrics.
    pub val_logits_f16: bool,
    pub validation_set: ValidationSet,
    pub selection_rounding: SelectionRounding,
    pub selection_start: SelectionStart,
    /// [Q15] Validate once more after the last epoch.
    pub extra_validation: bool,
    pub test_weights: TestWeights,
    pub macro_classes: MacroClasses,
    /// Metric that selects the epoch; `None` is the data set's target metric.
    pub selection_metric: Option<String>,
    /// Gradient checkpointing: recompute block activations in the backward pass (same gradients, less memory).
    pub checkpointing: bool,
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, s)
    }
}

/// A switch that is not there came later than the record; it is what medft did before (see [`super::id`]).
impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(d)?;
        super::id::fill_in(&mut fields);
        Self::deserialize(Value::Object(fields)).map_err(serde::de::Error::custom)
    }
}

impl std::str::FromStr for Preset {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|p| p.to_string() == s);
        found.copied().ok_or_else(|| Self::words().join(" or "))
    }
}

impl Preset {
    /// The protocol of this name, with nothing overridden.
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Faithful => Protocol::faithful(),
            Self::Corrected => Protocol::corrected(),
        }
    }
}

impl Protocol {
    /// What the published code does (torch ≤ 2.5 semantics, float32 throughout).
    pub fn faithful() -> Self {
        Self {
            preset: Preset::Faithful,
            aptos_csv: AptosCsv::Train1,
            ddsm_task: DdsmTask::NormalVsLesion,
            ddsm_split: DdsmSplit::Lists,
            duplicates: Duplicates::Ignored,
            chexpert_split: ChexpertSplit::LabelSlices,
            chexpert_test: ChexpertTest::TrainCsv,
            chexpert_no_finding: ChexpertNoFinding::SetWhenAllZero,
            isic_split: IsicSplit::ByImage,
            val_ids_file: ValIdsFile::ReadIfPresent,
            train_fraction: 1.0,
            png_twin: PngTwin::Prefer,
            image_loading: ImageLoading::Authors,
            resize: 256,
            crop: 224,
            aspect: Aspect::Squash,
            resize_order: ResizeOrder::WidthFirst,
            augment: Augment::Paper,
            crop_scale: [0.8, 1.2],
            normalisation: Normalisation::Dataset,
            grey_stem: GreyStem::RedKernel,
            mha_body: MhaBody::DeitBase,
            coca_tokens: CocaTokens::Pooled,
            dinov2_tokens: Dinov2Tokens::Unnormed,
            readout: Readout::Family,
            position_rule: PositionRule::Hub,
            epochs: 100,
            batch: 64,
            lr: 1e-4,
            weight_decay: 1e-5,
            layer_decay: 1.0,
            clip: 1.0,
            warmup: Warmup::PerDataset,
            warmup_overshoot: true,
            precision: Precision::F32,
            divergence: Divergence::Authors,
            val_logits_f16: false,
            validation_set: ValidationSet::ShuffledDropLast,
            selection_rounding: SelectionRounding::ThreeDecimals,
            selection_start: SelectionStart::Zero,
            extra_validation: true,
            test_weights: TestWeights::Best,
            macro_classes: MacroClasses::PresentInTruthOrPrediction,
            selection_metric: None,
            checkpointing: false,
        }
    }

    /// What a reader of the paper would expect. Differs from [`Protocol::faithful`] only where named here.
    pub fn corrected() -> Self {
        Self {
            preset: Preset::Corrected,
            aptos_csv: AptosCsv::TrainFull,
            ddsm_split: DdsmSplit::ByCase,
            duplicates: Duplicates::Together,
            chexpert_split: ChexpertSplit::PatientBorders,
            chexpert_no_finding: ChexpertNoFinding::AsInFile,
            isic_split: IsicSplit::ByLesion,
            val_ids_file: ValIdsFile::Ignore,
            png_twin: PngTwin::Off,
            image_loading: ImageLoading::Sane,
            crop_scale: [0.8, 1.0],
            grey_stem: GreyStem::SummedKernels,
            mha_body: MhaBody::OneBlock,
            coca_tokens: CocaTokens::Patches,
            dinov2_tokens: Dinov2Tokens::Normed,
            warmup_overshoot: false,
            divergence: Divergence::Stop,
            validation_set: ValidationSet::All,
            selection_rounding: SelectionRounding::Exact,
            selection_start: SelectionStart::MinusInfinity,
            extra_validation: false,
            macro_classes: MacroClasses::All,
            ..Self::faithful()
        }
    }
}
