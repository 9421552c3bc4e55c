//! The protocol: every choice that changes a number, as a named switch.
//!
//! The numbers in brackets are the quirks of the authors' code (Q1 … Q50, listed with their reasons in
//! `docs/PROTOCOL.md`, whose section numbers the comments cite as "PROTOCOL 6.3"). `Protocol::faithful()` is what the
//! published code does, `Protocol::corrected()` what a reader of the paper would expect. A study names a preset and may
//! override single switches; the whole struct is part of the run id.
//!
//! A switch is one entry of the table below: field, type, value of each preset, scope, allowed values, quirks, reason. The struct,
//! the presets, the reader of study files (allowed values), the tables' footnotes ("differs from the preset in …"), what runs may
//! share and the table of `docs/PROTOCOL.md` all follow from it.

pub use super::switches::Preset;
use super::switches::{Later, Scope, Switch, Values, switch, value_name};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;

switch!(/// (Q1) Which weights the headline test number comes from. Both are always evaluated and stored.
    TestWeights { Best, Last });
switch!(/// (Q2) What stands behind "multi-head attention": the ImageNet-supervised DeiT-B of the code, or one random block.
    MhaBody { DeitBase, OneBlock });
switch!(/// (Q6) Which APTOS label file is the data set.
    AptosCsv { Train1, TrainFull });
switch!(/// (Q9) The DDSM task.
    DdsmTask { NormalVsLesion, ThreeClass, CancerVsRest });
switch!(/// What the lists of DDSM keep together: five case numbers stand in two of them.
    DdsmSplit { Lists, ByCase });
switch!(/// Whether images that are there twice (the same file, the same pixels) stay in one part, in the sets that name no groups:
    /// APTOS2019 and MedMNIST.
    Duplicates { Ignored, Together });
switch!(/// (Q10) How train.csv of CheXpert is cut.
    ChexpertSplit { LabelSlices, PatientBorders });
switch!(/// (Q11) What CheXpert is tested on.
    ChexpertTest { TrainCsv, OfficialValid });
switch!(/// (Q12) "No Finding" when all 14 labels are 0 after U-Zeroes.
    ChexpertNoFinding { SetWhenAllZero, AsInFile });
switch!(/// (Q13) Which validation images choose the epoch.
    ValidationSet { ShuffledDropLast, All });
switch!(/// (Q14) The resolution of the selection metric.
    SelectionRounding { ThreeDecimals, Exact });
switch!(/// (Q16) The value an epoch must exceed to be selected at all.
    SelectionStart { Zero, MinusInfinity });
switch!(/// (Q17) How a three-channel stem reads a one-channel image; `ThreeChannels`: it reads three copies, each normalised by its own
    /// channel's statistics.
    GreyStem { RedKernel, SummedKernels, ThreeChannels });
switch!(/// (Q19) Whose mean and standard deviation normalise the input.
    Normalisation { Dataset, Backbone });
switch!(/// (Q29) CoCa's tokens for the MHA head.
    CocaTokens { Pooled, Patches });
switch!(/// (Q31) DINOv2's and CLIP's tokens for the MHA head: before or after the final norm.
    Dinov2Tokens { Unnormed, Normed });
switch!(/// (Q32) What the linear head reads: each family's own pooled vector, or the mean of the tokens.
    Readout { Family, MeanTokens });
switch!(/// (Q35) DINOv2's position-table rule: torch.hub's scale factor (g+0.1)/37, or Hugging Face's plain size.
    PositionRule { Hub, Size });
switch!(/// (Q39) The training augmentation. `Paper`: crop, both flips, jitter. `NoVerticalFlipNoJitter`: anatomically
    /// plausible views only. `None`: validation transform, so frozen features can be cached.
    Augment { Paper, NoVerticalFlipNoJitter, None });
switch!(/// (Q40) How an image becomes a square. `Pad`: both sides are forced to `resize` (which MedMNIST's file of that size is already), and
    /// zeros are put around it after the normalisation, `crop` pixels a side.
    Aspect { Squash, ShortSide, Pad });
switch!(/// Which side a resize begins with; the 8-bit rounding between the passes makes it visible (±1 level). `WidthFirst`: all
    /// versions of Pillow up to 12.1, so the authors'. `Pillow12` (12.2, 12.3): the height of images more than a hundred times as
    /// high as wide. `Pillow13`: the height when it shrinks by more than twice what the width does.
    ResizeOrder { WidthFirst, Pillow12, Pillow13 });
switch!(/// (Q41) What the random 80/10/10 split of ISIC keeps together.
    IsicSplit { ByImage, ByLesion });
switch!(/// (Q43) Whether a `val_ids.json` beside the data is obeyed.
    ValIdsFile { ReadIfPresent, Ignore });
switch!(/// (Q44) Whether `x.png` beside a listed `x.jpg` replaces it.
    PngTwin { Prefer, Off });
switch!(/// (Q46) The classes a macro average runs over.
    MacroClasses { PresentInTruthOrPrediction, All });
switch!(/// EXIF orientation and 16-bit PNGs: ignored and clipped at 255 (authors), or applied and scaled by 1/257 (sane).
    ImageLoading { Authors, Sane });
switch!(/// (Q25) Arithmetic of the forward and backward pass. Weights, gradients and moments are float32 always. `Tf32`: float32
    /// whose products round their operands to 10 bits of fraction. `Authors`: float16 under a linear head, float32 under MHA, as their
    /// code mixes them; [`super::RunSpec::precision`] resolves it.
    Precision { F32, Tf32, Bf16, F16, Authors });
switch!(/// What becomes of a run whose loss or gradients explode. `Authors`: updates with a gradient that is not finite are skipped, as
    /// their GradScaler does in every precision, and the run goes on to its last epoch. `Stop`: it ends without a result.
    Divergence { Authors, Stop });

switch!(/// The features of a frozen backbone as its head reads them: as computed, or rounded to 8 bits of significand.
    FeatureDtype { F32, Bf16 });

switch!(/// How the learning rate falls. `Cosine`: half a cosine over all epochs, constant within each.
    LrSchedule { Constant, Cosine });
switch!(/// Whether the incomplete last batch of an epoch is trained on.
    LastBatch { Dropped, Kept });
switch!(/// Which trained tensors the weight decay acts on: those of two or more axes that are no biases, or all.
    Decayed { Matrices, All });
switch!(/// What the linear head starts from: PyTorch's uniform values, or timm's normal ones (σ 0.02, bias 0).
    HeadInit { Uniform, Normal });

/// How the learning rate rises; afterwards it falls as `schedule` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Warmup {
    /// 5 epochs for DDSM and APTOS, 1000 iterations for ISIC and CheXpert (PROTOCOL 6.3).
    PerDataset,
    Epochs(u32),
    Iterations(u32),
    None,
}

const NOT_NEGATIVE: fn(f64) -> bool = |x| x.is_finite() && x >= 0.0;
const POSITIVE: fn(f64) -> bool = |x| x.is_finite() && x > 0.0;

/// Makes the struct, the presets and the list of [`Switch`]es from one table:
/// `field: type = faithful => corrected; Scope split; values; [quirks]; "why", before value;`, where `=> corrected` stands only
/// where the presets part, `split` only where a split rule decides the switch, `before` only where it came after the first results
/// (`before a => b` where what it was depends on the preset).
macro_rules! switches {
    ($($(#[$m:meta])* $field:ident: $ty:ty = $faithful:expr $(=> $corrected:expr)?;
        $scope:ident $($split:ident)?; $values:expr; [$($quirk:literal),*]; $why:literal $(, before $before:expr $(=> $under_corrected:expr)?)?;)*) => {
        /// Every choice that changes a number. The order is for readers: the run id sorts the keys (see [`crate::study::id`]).
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, remote = "Self")]
        pub struct Protocol {
            pub preset: Preset,
            $($(#[$m])* #[doc = $why] pub $field: $ty,)*
            /// Registered switches that are not as they were before they came (see [`Protocol::register`]).
            #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
            pub extra: BTreeMap<String, Value>,
        }

        impl Protocol {
            /// What the published code does (torch ≤ 2.5 semantics, float32 throughout).
            pub fn faithful() -> Self {
                Self { preset: Preset::Faithful, $($field: $faithful,)* extra: BTreeMap::new() }
            }

            /// What a reader of the paper would expect. Differs from [`Protocol::faithful`] only where the table says so.
            pub fn corrected() -> Self {
                Self {
                    preset: Preset::Corrected,
                    $($field: switches!(@last $faithful $(, $corrected)?),)*
                    extra: BTreeMap::new(),
                }
            }
        }

        /// Every field of [`Protocol`] except `preset`, in the order of the struct.
        static BUILT_IN: &[Switch] = {
            use Values::*;
            &[$(Switch {
                field: stringify!($field),
                quirks: &[$($quirk),*],
                values: $values,
                why: $why,
                scope: Scope::$scope,
                by_split_rule: { let marks: &[&str] = &[$(stringify!($split))?]; !marks.is_empty() },
                since: switches!(@later $($before $(=> $under_corrected)?)?),
            }),*]
        };
    };
    (@last $faithful:expr) => { $faithful };
    (@last $faithful:expr, $corrected:expr) => { $corrected };
    (@later) => { None };
    (@later $before:expr) => { Some(Later { before: |_| serde_json::json!($before) }) };
    (@later $faithful:expr => $corrected:expr) => {
        Some(Later { before: |preset| match preset {
            Preset::Faithful => serde_json::json!($faithful),
            Preset::Corrected => serde_json::json!($corrected),
        } })
    };
}

#[rustfmt::skip]
switches! {
    // data
    aptos_csv: AptosCsv = AptosCsv::Train1 => AptosCsv::TrainFull; Images; Names(AptosCsv::names); [6];
        "Which images are the APTOS data set: `train_1.csv` of a re-split copy (2,930 rows), or all 3,662 of Kaggle's `train.csv`.";
    ddsm_task: DdsmTask = DdsmTask::NormalVsLesion; Images; Names(DdsmTask::names); [9];
        "Normal against benign-or-cancer, as in the code; three classes; or cancer against the rest. Not changed by `corrected`: another task has another number.";
    ddsm_split: DdsmSplit = DdsmSplit::Lists => DdsmSplit::ByCase; Images split; Names(DdsmSplit::names); [];
        "The published lists keep the views of an exam together, but five case numbers stand in two lists (as exams of two volumes); the correction leaves such a case whole in the first of train, val and test that has it.", before DdsmSplit::Lists;
    duplicates: Duplicates = Duplicates::Ignored => Duplicates::Together; Images split; Names(Duplicates::names); [];
        "APTOS2019 and MedMNIST name no patients; of images that are there twice (same file, same pixels) one may be trained on and the other tested. The correction leaves all copies in the first of train, val and test that has one.", before Duplicates::Ignored;
    chexpert_split: ChexpertSplit = ChexpertSplit::LabelSlices => ChexpertSplit::PatientBorders; Images split; Names(ChexpertSplit::names); [10];
        "The code cuts by labels of an unsorted index, so one image is in train and test and one in validation and test; the correction cuts at the next patient.";
    chexpert_test: ChexpertTest = ChexpertTest::TrainCsv; Images split; Names(ChexpertTest::names); [11];
        "Tested on a part of `train.csv` (labels mined from reports) or on the official `valid.csv` (read by radiologists). Not changed by `corrected`.";
    chexpert_no_finding: ChexpertNoFinding = ChexpertNoFinding::SetWhenAllZero => ChexpertNoFinding::AsInFile; Images; Names(ChexpertNoFinding::names); [12];
        "The code sets \"No Finding\" where all 14 labels are 0 after uncertain ones became 0, so uncertain studies turn healthy.";
    isic_split: IsicSplit = IsicSplit::ByImage => IsicSplit::ByLesion; Images split; Names(IsicSplit::names); [41];
        "A random split by image puts photographs of one lesion into train and test; the correction keeps a lesion together.";
    val_ids_file: ValIdsFile = ValIdsFile::ReadIfPresent => ValIdsFile::Ignore; Images; Names(ValIdsFile::names); [43];
        "The code obeys a `val_ids.json` beside the data if its lengths fit, stale or not.";
    /// See [`crate::data::fraction`].
    train_fraction: f64 = 1.0; Images; Real(|x| x > 0.0 && x <= 1.0, "a number above 0 and at most 1"); [];
        "Share of the training images that is trained on: groups whole, classes in proportion, a smaller share a part of every larger one, the same for all seeds; validation and test stay. 1 is all.", before 1.0;
    png_twin: PngTwin = PngTwin::Prefer => PngTwin::Off; Images; Names(PngTwin::names); [44];
        "The code reads `x.png` in place of a listed `x.jpg` when both exist.";
    image_loading: ImageLoading = ImageLoading::Authors => ImageLoading::Sane; Images; Names(ImageLoading::names); [];
        "The code ignores EXIF orientation and clips 16-bit PNGs at 255; sane loading turns the image and scales by 1/257.";
    // transform
    /// Both sides after the first resize, in pixels (256 in the paper).
    resize: u32 = 256; Images; Count(1, 8192); [40];
        "Sides in pixels after the first resize.";
    /// Side of the centre crop and of the network input, in pixels (224 in the paper).
    crop: u32 = 224; Images; Count(1, 8192); [40];
        "Side in pixels of the centre crop and of the network's input; 224² of 256² leaves 23 % of the area unseen.";
    aspect: Aspect = Aspect::Squash; Images; Names(Aspect::names); [40];
        "Both sides forced to `resize` (shape squashed), or the short side resized and the shape kept; or both sides forced and zeros put around after the normalisation, up to `crop`.";
    resize_order: ResizeOrder = ResizeOrder::WidthFirst; Images; Names(ResizeOrder::names); [];
        "Pillow up to version 12.1 resizes the width first; 12.2 and 12.3 (pillow12) the height of images over a hundred times as high as wide; version 13 the height where it shrinks by more than twice what the width does. One grey level here and there.";
    augment: Augment = Augment::Paper; Fit; Names(Augment::names); [39];
        "The paper's flips and colour jitter also on X-rays and mammograms; the same without them; or none, so that frozen features can be computed once.";
    /// (Q20) Area range of RandomResizedCrop.
    crop_scale: [f64; 2] = [0.8, 1.2] => [0.8, 1.0]; Fit; Pair(POSITIVE, "two finite numbers above 0, the first at most 1 and at most the second"); [20];
        "Area range of the random crop. Areas above 1 are drawn but never fit, which leaves 11.8 % full frames.";
    /// See [`crate::data::loader::ViewMode::training`].
    views: u32 = 0; Fit; Count(0, 10_000); [];
        "Augmented views of a training image: 0 draws another for every epoch; k draws k, the same for all seeds, of which the epochs see one after the other in turn, so that a frozen backbone computes k and no more.", before 0;
    normalisation: Normalisation = Normalisation::Dataset; Images; Names(Normalisation::names); [19];
        "Mean and standard deviation of the data set, or those the backbone was pre-trained with. Not changed by `corrected`.";
    /// `None` is the data set's own.
    target_metric: Option<String> = None; Select; Metric; [];
        "Metric of tables and verdicts, where the data set's task has it; left out, the data set's own target.", before Value::Null;
    // model
    grey_stem: GreyStem = GreyStem::RedKernel => GreyStem::SummedKernels; Images; Names(GreyStem::names); [17];
        "For grey images the code keeps the red kernel alone, about a third of the response; the sum equals a grey image copied to three channels.";
    mha_body: MhaBody = MhaBody::DeitBase => MhaBody::OneBlock; Fit; Names(MhaBody::names); [2];
        "\"Multi-head attention\" in the code is a whole DeiT-B with ImageNet labels behind it (85 M parameters); the correction is one block from random weights.";
    coca_tokens: CocaTokens = CocaTokens::Pooled => CocaTokens::Patches; Features; Names(CocaTokens::names); [29];
        "CoCa's tokens for the MHA head: pooler outputs, which have no place in the image, or the patches before the pooler.";
    dinov2_tokens: Dinov2Tokens = Dinov2Tokens::Unnormed => Dinov2Tokens::Normed; Features; Names(Dinov2Tokens::names); [31];
        "DINOv2's and CLIP's tokens for the MHA head: before the final norm, or after it as the linear head sees them.";
    head_init: HeadInit = HeadInit::Uniform; Fit; Names(HeadInit::names); [];
        "What the linear head starts from: uniform values of PyTorch's default, or normal ones (σ 0.02, bias 0) as timm's.", before HeadInit::Uniform;
    readout: Readout = Readout::Family; Features; Names(Readout::names); [32];
        "What the linear head reads: each family's own vector (CLS, mean, contrastive, pyramid level), or the mean of the tokens for all. Not changed by `corrected`.";
    feature_dtype: FeatureDtype = FeatureDtype::F32; Features; Names(FeatureDtype::names); [];
        "The features of a frozen backbone as computed, or rounded to bfloat16, which halves the tables that are kept of them.", before FeatureDtype::F32;
    position_rule: PositionRule = PositionRule::Hub; Features; Names(PositionRule::names); [35];
        "How DINOv2's 37×37 position table becomes 16×16: by the factor 16.1/37 as torch.hub does, or by plain size as Hugging Face does. Not changed by `corrected`.";
    // optimisation
    epochs: u32 = 100; Fit; Count(1, 100_000); [];
        "Passes over the training set, the most of them where `patience` stops early.";
    batch: u32 = 64; Features; Count(1, 65_536); [];
        "Images in a training batch; of an incomplete last one `last_batch` says what becomes.";
    last_batch: LastBatch = LastBatch::Dropped; Fit; Names(LastBatch::names); [];
        "Whether the incomplete last batch of an epoch is trained on; dropped, an epoch leaves some images out, each time others.", before LastBatch::Dropped;
    /// Epochs without a better one after which training ends; 0 is to the end.
    patience: u32 = 0; Fit; Count(0, 100_000); [];
        "Early stopping: training ends after so many epochs in a row that were no better by the rule of selection; 0 is none.", before 0;
    lr: f64 = 1e-4; Fit; Real(POSITIVE, "a finite number above 0"); [23];
        "AdamW's learning rate, the same for backbone and head; after the warm-up `schedule` says how it falls.";
    weight_decay: f64 = 1e-5; Fit; Real(NOT_NEGATIVE, "a finite number, 0 or more"); [24];
        "Decoupled, on the tensors that `decayed` names. At 1e-5 it does next to nothing.";
    decayed: Decayed = Decayed::Matrices; Fit; Names(Decayed::names); [];
        "Which trained tensors the weight decay acts on: those of two or more axes that are no biases, or all.", before Decayed::Matrices;
    /// (Q23) Factor on the learning rate per block from the top; 1.0 is none.
    layer_decay: f64 = 1.0; Fit; Real(|x| x > 0.0 && x <= 1.0, "a number above 0 and at most 1"); [23];
        "Factor on the learning rate per block from the top; 1 is none. Not changed by `corrected`.";
    /// Global gradient-norm clip; 0 is none.
    clip: f64 = 1.0; Fit; Real(NOT_NEGATIVE, "a finite number, 0 or more"); [];
        "Largest global norm of the gradient; 0 is no clipping.";
    warmup: Warmup = Warmup::PerDataset; Fit; Warmup; [21];
        "The code overwrites its own parameter file: 5 epochs for DDSM and APTOS, 1,000 iterations for ISIC and CheXpert (`per-dataset`).";
    schedule: LrSchedule = LrSchedule::Constant; Fit; Names(LrSchedule::names); [];
        "How the learning rate falls after the warm-up: not at all, or by half a cosine over all epochs, constant within each.", before LrSchedule::Constant;
    /// An epoch has the rate of the one before it.
    schedule_lag: bool = false; Fit; Flag; [];
        "Every epoch but the first has the rate that `schedule` gives the one before it, as where the rate is set after an epoch by that epoch's number.", before false;
    /// (Q22) One increment too many at the end of the warm-up.
    warmup_overshoot: bool = true => false; Fit; Flag; [22];
        "The warm-up takes one increment too many, so the learning rate stays up to 0.6 % above its value to the end.";
    precision: Precision = Precision::F32; Features; Names(Precision::names); [25];
        "Arithmetic of the passes. The code mixes float16 (linear) and float32 (MHA), which is `authors` and needs a GPU; float32 everywhere is nearest to both and comparable.";
    // What it was before depends on the preset. Then, medft stopped every run that diverged, and such a run left no result; a run that
    // did not diverge has the same numbers under both values. So the finished runs of both presets are what the presets say now, and a
    // failed one is fitted again under the same id.
    divergence: Divergence = Divergence::Authors => Divergence::Stop; Fit; Names(Divergence::names); [27];
        "The code stops at no loss: its gradient scaler skips every update with a gradient that is not finite, and the best epoch so far is tested. Skipped steps are recorded and such cells marked. The correction ends the run, without a result, at a loss that is not a number or above 10,000.", before Divergence::Authors => Divergence::Stop;
    // evaluation
    /// (Q26) Round validation logits to float16 before metrics.
    val_logits_f16: bool = false; Select; Flag; [26];
        "In linear runs the code's validation logits are float16, and so is the softmax over them, which ties scores; here the logits of either head are rounded and the softmax is not.";
    validation_set: ValidationSet = ValidationSet::ShuffledDropLast => ValidationSet::All; Select; Names(ValidationSet::names); [13];
        "The code shuffles the validation set and drops the incomplete last batch, each time other images (12.5 % of APTOS).";
    /// 0 is `batch`.
    validation_batch: u32 = 0; Select; Count(0, 65_536); [];
        "Images in a batch of validation: the validation loss is the mean of the batches' means, so an incomplete last one counts as much as the others; 0 is `batch`.", before 0;
    selection_rounding: SelectionRounding = SelectionRounding::ThreeDecimals => SelectionRounding::Exact; Select; Names(SelectionRounding::names); [14];
        "The code compares the selection metric after rounding to three decimals; the earliest epoch of a tie wins.";
    selection_start: SelectionStart = SelectionStart::Zero => SelectionStart::MinusInfinity; Select; Names(SelectionStart::names); [16];
        "The value an epoch must exceed: from 0, a run whose kappa never exceeds 0 tests untrained weights.";
    /// (Q15) Validate once more after the last epoch.
    extra_validation: bool = true => false; Select; Flag; [15];
        "The code validates once more after the last epoch, on another random subset, which gives the last weights a second chance.";
    test_weights: TestWeights = TestWeights::Best; Select; Names(TestWeights::names); [1];
        "Best-epoch or last-epoch weights for the headline number. With torch 2.6 the code silently tests the last ones. Both are always stored.";
    macro_classes: MacroClasses = MacroClasses::PresentInTruthOrPrediction => MacroClasses::All; Select; Names(MacroClasses::names); [46];
        "Macro averages over the classes that occur in truth or prediction, or over all classes.";
    /// Metric that selects the epoch; `None` is the data set's target metric.
    selection_metric: Option<String> = None; Select; Selection; [];
        "Metric that selects the epoch, or `loss`, the lowest validation loss; left out, it is the data set's own target.";
    /// Gradient checkpointing: recompute block activations in the backward pass (same gradients, less memory).
    checkpointing: bool = false; Fit; Flag; [];
        "Recompute activations in the backward pass: the same gradients, less memory, more time.";
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, s)
    }
}

/// A switch that is not there came later than what is read; it is what medft did before.
impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(d)?;
        // Where the preset is missing or unknown, the reader of the whole says so.
        if let Some(preset) = fields
            .get("preset")
            .and_then(Value::as_str)
            .and_then(|p| p.parse().ok())
        {
            for (s, later) in BUILT_IN.iter().filter_map(|s| Some((s, s.since?))) {
                fields.entry(s.field).or_insert_with(|| (later.before)(preset));
            }
        }
        Self::deserialize(Value::Object(fields)).map_err(serde::de::Error::custom)
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
    /// Every switch except the name of the preset: those of the struct in its order, then the registered ones.
    pub fn switches() -> Vec<&'static Switch> {
        BUILT_IN.iter().chain(Switch::registered()).collect()
    }

    /// Registers a switch behind those of the struct: a protocol holds its value in [`Protocol::extra`].
    ///
    /// # Errors
    /// A sentence where the name is taken, or where nothing says what runs did before there was such a switch.
    pub fn register(switch: &'static Switch) -> Result<(), String> {
        if switch.since.is_none() {
            return Err(format!("`{}` must say what runs did before it", switch.field));
        }
        if BUILT_IN.iter().any(|s| s.field == switch.field) || matches!(switch.field, "preset" | "extra") {
            return Err(format!("there is a switch `{}` already", switch.field));
        }
        Switch::add(switch)
    }

    /// The value of a switch, as a study would write it; `Null` for an unknown name.
    pub fn get(&self, field: &str) -> Value {
        self.to_json().get(field).cloned().unwrap_or_default()
    }

    /// The switches of some scopes, by name: what decides which images, or which features, runs may share.
    pub fn scoped(&self, scopes: &[Scope]) -> Map<String, Value> {
        let mut all = self.to_json();
        all.retain(|field, _| Self::find(field).is_some_and(|s| scopes.contains(&s.scope)));
        all
    }

    /// The switch of this name.
    pub fn find(field: &str) -> Option<&'static Switch> {
        Self::switches().into_iter().find(|s| s.field == field)
    }

    /// The fields in which two protocols differ, as (field, ours, theirs), in the order of the struct, `preset` first.
    pub fn diff(&self, other: &Self) -> Vec<(&'static str, String, String)> {
        let (a, b) = (self.to_json(), other.to_json());
        ["preset"]
            .into_iter()
            .chain(Self::switches().into_iter().map(|s| s.field))
            .filter(|f| a[*f] != b[*f])
            .map(|f| (f, show(&a[f]), show(&b[f])))
            .collect()
    }

    /// Where this protocol departs from the preset it names: the footnote of every table.
    pub fn overrides(&self) -> Vec<(&'static str, String, String)> {
        self.diff(&self.preset.protocol())
    }

    /// Every switch by name, the registered ones beside those of the struct.
    pub(crate) fn to_json(&self) -> Map<String, Value> {
        let Ok(Value::Object(mut all)) = serde_json::to_value(self) else {
            unreachable!("a protocol holds texts and numbers only")
        };
        all.remove("extra");
        for s in Switch::registered() {
            let before = || s.since.map_or(Value::Null, |l| (l.before)(self.preset));
            all.insert(s.field.into(), self.extra.get(s.field).cloned().unwrap_or_else(before));
        }
        all
    }

    /// The protocol of [`Protocol::to_json`]'s form.
    ///
    /// # Errors
    /// Where a value is of the wrong type.
    pub(crate) fn from_json(mut all: Map<String, Value>) -> serde_json::Result<Self> {
        let preset = all.get("preset").and_then(Value::as_str).and_then(|p| p.parse().ok());
        let mut extra = BTreeMap::new();
        for s in Switch::registered() {
            let before = s.since.zip(preset).map(|(l, preset)| (l.before)(preset));
            if let Some(value) = all.remove(s.field).filter(|v| Some(v) != before.as_ref()) {
                extra.insert(s.field.to_owned(), value);
            }
        }
        let protocol: Self = serde_json::from_value(Value::Object(all))?;
        Ok(Self { extra, ..protocol })
    }
}

/// A value as people read it.
pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::Null => "target of the data set".into(),
        Value::String(s) => s.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => fields
            .iter()
            .map(|(k, v)| format!("{} {k}", show(v)))
            .collect::<Vec<_>>()
            .join(", "),
        other => match other.as_f64() {
            Some(x) if x != 0.0 && x.abs() < 1e-3 => format!("{x:e}"),
            _ => crate::canonical::canonical_json(other),
        },
    }
}

/// The table of switches in `docs/PROTOCOL.md`.
pub fn markdown() -> String {
    let (faithful, corrected) = (Protocol::faithful().to_json(), Protocol::corrected().to_json());
    let mut out = String::from(
        "| switch | quirk | faithful | corrected | other values | what it decides |\n|---|---|---|---|---|---|\n",
    );
    for s in BUILT_IN {
        let quirks = s.quirks.iter().map(|q| format!("Q{q}")).collect::<Vec<_>>().join(", ");
        let (f, c) = (show(&faithful[s.field]), show(&corrected[s.field]));
        let others = match s.values {
            Values::Names(names) => names()
                .into_iter()
                .filter(|w| *w != f && *w != c)
                .collect::<Vec<_>>()
                .join(", "),
            Values::Flag => String::new(),
            Values::Warmup => "none, { epochs = n }, { iterations = n }".into(),
            values => values.allowed(),
        };
        let c = if c == f { "=".into() } else { format!("**{c}**") };
        let _ = writeln!(out, "| `{}` | {quirks} | {f} | {c} | {others} | {} |", s.field, s.why);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_field_once_and_in_order() {
        let json = Protocol::faithful().to_json();
        let fields: Vec<&str> = json.keys().map(String::as_str).collect();
        let table: Vec<&str> = ["preset"].into_iter().chain(BUILT_IN.iter().map(|s| s.field)).collect();
        assert_eq!(table, fields);
    }

    #[test]
    fn the_presets_use_allowed_values() {
        for preset in Preset::ALL {
            let json = preset.protocol().to_json();
            assert_eq!(json["preset"], preset.to_string());
            for s in BUILT_IN {
                match (s.values, &json[s.field]) {
                    (Values::Names(names), Value::String(w)) => assert!(names().contains(w), "{}: {w}", s.field),
                    (Values::Flag, Value::Bool(_)) | (Values::Metric | Values::Selection, Value::Null) => {}
                    (Values::Count(lo, hi), Value::Number(n)) => {
                        assert!(
                            (u64::from(lo)..=u64::from(hi)).contains(&n.as_u64().unwrap()),
                            "{}",
                            s.field
                        );
                    }
                    (Values::Real(ok, _), Value::Number(n)) => assert!(ok(n.as_f64().unwrap()), "{}", s.field),
                    (Values::Pair(ok, _), Value::Array(v)) => assert!(v.iter().all(|x| ok(x.as_f64().unwrap()))),
                    (Values::Warmup, Value::String(w)) => assert_eq!(w, "per-dataset"),
                    (values, found) => panic!("{}: {values:?} {found}", s.field),
                }
            }
        }
    }

    /// PROTOCOL section 10, column C, read by hand: these and no others part the presets.
    #[test]
    fn corrected_differs_where_the_list_of_quirks_proposes_a_correction() {
        let diff = Protocol::corrected().diff(&Protocol::faithful());
        let fields: Vec<&str> = diff.iter().map(|d| d.0).collect();
        assert_eq!(
            fields,
            [
                "preset",
                "aptos_csv",
                "ddsm_split",
                "duplicates",
                "chexpert_split",
                "chexpert_no_finding",
                "isic_split",
                "val_ids_file",
                "png_twin",
                "image_loading",
                "crop_scale",
                "grey_stem",
                "mha_body",
                "coca_tokens",
                "dinov2_tokens",
                "warmup_overshoot",
                "divergence",
                "validation_set",
                "selection_rounding",
                "selection_start",
                "extra_validation",
                "macro_classes"
            ]
        );
        assert!(diff.contains(&("crop_scale", "[0.8, 1]".into(), "[0.8, 1.2]".into())));
        assert!(Protocol::corrected().overrides().is_empty());
    }

    #[test]
    fn overrides_read_like_a_footnote() {
        let p = Protocol {
            warmup: Warmup::Epochs(3),
            lr: 1e-3,
            ..Protocol::faithful()
        };
        assert_eq!(
            p.overrides(),
            [
                ("lr", "0.001".into(), "1e-4".into()),
                ("warmup", "3 epochs".into(), "per-dataset".into())
            ]
        );
    }
}
