//! What each switch of [`Protocol`] means: its quirk, the values it takes and why the presets part.
//!
//! One table serves the reader of study files (allowed words), the tables' footnotes ("differs from the preset in …") and
//! `docs/PROTOCOL.md`. The presets' values are not repeated here: they are read from [`Protocol::faithful`] and
//! [`Protocol::corrected`], so the page cannot say something else than the code does.

use super::protocol::*;
use serde_json::Value;
use std::fmt::Write as _;

/// The metrics an epoch may be selected by: keys of `eval`'s metrics. `roc_auc` is the binary area, the one-vs-one macro mean
/// or the mean over labels (PROTOCOL 7.2, 7.3); `mAP` is for multi-label sets, the kappas, `balanced_accuracy` and
/// `roc_auc_ovr` (mean of one-vs-rest areas) are for the others, which the caller checks when it knows the data set.
pub const METRICS: [&str; 10] = [
    "roc_auc",
    "recall",
    "quadratic_kappa",
    "accuracy",
    "precision",
    "f1",
    "cohen_kappa",
    "balanced_accuracy",
    "roc_auc_ovr",
    "mAP",
];

/// The values a switch takes.
#[derive(Debug, Clone, Copy)]
pub enum Values {
    /// One of these words.
    Words(fn() -> Vec<String>),
    Flag,
    /// A whole number in this range.
    Count(u32, u32),
    /// A number for which the function holds, and the same in words.
    Real(fn(f64) -> bool, &'static str),
    /// Two such numbers; that they are in order is checked with the other combinations.
    Pair(fn(f64) -> bool, &'static str),
    /// A word or `{ epochs = n }` or `{ iterations = n }`.
    Warmup,
    /// One of [`METRICS`].
    Metric,
}

/// One field of [`Protocol`].
#[derive(Debug, Clone, Copy)]
pub struct Switch {
    /// Name of the field, the key in `[protocol]`.
    pub field: &'static str,
    /// The quirks of `docs/PROTOCOL.md`, section 10, that it decides; empty where it is a plain setting of the recipe.
    pub quirks: &'static [u8],
    pub values: Values,
    /// One line for people.
    pub why: &'static str,
}

const fn switch(field: &'static str, quirks: &'static [u8], values: Values, why: &'static str) -> Switch {
    Switch {
        field,
        quirks,
        values,
        why,
    }
}

/// Every field of [`Protocol`] except `preset`, in the order of the struct.
#[rustfmt::skip]
static SWITCHES: [Switch; 44] = {
    use Values::*;
    const NOT_NEGATIVE: fn(f64) -> bool = |x| x.is_finite() && x >= 0.0;
    const POSITIVE: fn(f64) -> bool = |x| x.is_finite() && x > 0.0;
    [
    switch("aptos_csv", &[6], Words(AptosCsv::words), "Which images are the APTOS data set: `train_1.csv` of a re-split copy (2,930 rows), or all 3,662 of Kaggle's `train.csv`."),
    switch("ddsm_task", &[9], Words(DdsmTask::words), "Normal against benign-or-cancer, as in the code; three classes; or cancer against the rest. Not changed by `corrected`: another task has another number."),
    switch("ddsm_split", &[], Words(DdsmSplit::words), "The published lists keep the views of an exam together, but five case numbers stand in two lists (as exams of two volumes); the correction leaves such a case whole in the first of train, val and test that has it."),
    switch("duplicates", &[], Words(Duplicates::words), "APTOS2019 and MedMNIST name no patients; of images that are there twice (same file, same pixels) one may be trained on and the other tested. The correction leaves all copies in the first of train, val and test that has one."),
    switch("chexpert_split", &[10], Words(ChexpertSplit::words), "The code cuts by labels of an unsorted index, so one image is in train and test and one in validation and test; the correction cuts at the next patient."),
    switch("chexpert_test", &[11], Words(ChexpertTest::words), "Tested on a part of `train.csv` (labels mined from reports) or on the official `valid.csv` (read by radiologists). Not changed by `corrected`."),
    switch("chexpert_no_finding", &[12], Words(ChexpertNoFinding::words), "The code sets \"No Finding\" where all 14 labels are 0 after uncertain ones became 0, so uncertain studies turn healthy."),
    switch("isic_split", &[41], Words(IsicSplit::words), "A random split by image puts photographs of one lesion into train and test; the correction keeps a lesion together."),
    switch("val_ids_file", &[43], Words(ValIdsFile::words), "The code obeys a `val_ids.json` beside the data if its lengths fit, stale or not."),
    switch("train_fraction", &[], Real(|x| x > 0.0 && x <= 1.0, "a number above 0 and at most 1"), "Share of the training images that is trained on: groups whole, classes in proportion, a smaller share a part of every larger one, the same for all seeds; validation and test stay. 1 is all."),
    switch("png_twin", &[44], Words(PngTwin::words), "The code reads `x.png` in place of a listed `x.jpg` when both exist."),
    switch("image_loading", &[], Words(ImageLoading::words), "The code ignores EXIF orientation and clips 16-bit PNGs at 255; sane loading turns the image and scales by 1/257."),
    switch("resize", &[40], Count(1, 8192), "Sides in pixels after the first resize."),
    switch("crop", &[40], Count(1, 8192), "Side in pixels of the centre crop and of the network's input; 224² of 256² leaves 23 % of the area unseen."),
    switch("aspect", &[40], Words(Aspect::words), "Both sides forced to `resize` (shape squashed), or the short side resized and the shape kept."),
    switch("resize_order", &[], Words(ResizeOrder::words), "Pillow up to version 12 resizes the width first; version 13 the height where it shrinks by more than twice what the width does. One grey level here and there."),
    switch("augment", &[39], Words(Augment::words), "The paper's flips and colour jitter also on X-rays and mammograms; the same without them; or none, so that frozen features can be computed once."),
    switch("crop_scale", &[20], Pair(POSITIVE, "two finite numbers above 0, the first at most 1 and at most the second"), "Area range of the random crop. Areas above 1 are drawn but never fit, which leaves 11.8 % full frames."),
    switch("normalisation", &[19], Words(Normalisation::words), "Mean and standard deviation of the data set, or those the backbone was pre-trained with. Not changed by `corrected`."),
    switch("grey_stem", &[17], Words(GreyStem::words), "For grey images the code keeps the red kernel alone, about a third of the response; the sum equals a grey image copied to three channels."),
    switch("mha_body", &[2], Words(MhaBody::words), "\"Multi-head attention\" in the code is a whole DeiT-B with ImageNet labels behind it (85 M parameters); the correction is one block from random weights."),
    switch("coca_tokens", &[29], Words(CocaTokens::words), "CoCa's tokens for the MHA head: pooler outputs, which have no place in the image, or the patches before the pooler."),
    switch("dinov2_tokens", &[31], Words(Dinov2Tokens::words), "DINOv2's and CLIP's tokens for the MHA head: before the final norm, or after it as the linear head sees them."),
    switch("readout", &[32], Words(Readout::words), "What the linear head reads: each family's own vector (CLS, mean, contrastive, pyramid level), or the mean of the tokens for all. Not changed by `corrected`."),
    switch("position_rule", &[35], Words(PositionRule::words), "How DINOv2's 37×37 position table becomes 16×16: by the factor 16.1/37 as torch.hub does, or by plain size as Hugging Face does. Not changed by `corrected`."),
    switch("epochs", &[], Count(1, 100_000), "Passes over the training set; there is no early stopping."),
    switch("batch", &[], Count(1, 65_536), "Images in a training batch; an incomplete last batch is dropped."),
    switch("lr", &[23], Real(POSITIVE, "a finite number above 0"), "AdamW's learning rate, the same for backbone and head, constant after the warm-up."),
    switch("weight_decay", &[24], Real(NOT_NEGATIVE, "a finite number, 0 or more"), "Decoupled, on tensors of two or more axes that are no biases. At 1e-5 it does next to nothing."),
    switch("layer_decay", &[23], Real(|x| x > 0.0 && x <= 1.0, "a number above 0 and at most 1"), "Factor on the learning rate per block from the top; 1 is none. Not changed by `corrected`."),
    switch("clip", &[], Real(NOT_NEGATIVE, "a finite number, 0 or more"), "Largest global norm of the gradient; 0 is no clipping."),
    switch("warmup", &[21], Values::Warmup, "The code overwrites its own parameter file: 5 epochs for DDSM and APTOS, 1,000 iterations for ISIC and CheXpert (`per-dataset`)."),
    switch("warmup_overshoot", &[22], Flag, "The warm-up takes one increment too many, so the learning rate stays up to 0.6 % above its value to the end."),
    switch("precision", &[25], Words(Precision::words), "Arithmetic of the passes. The code mixes float16 (linear) and float32 (MHA); float32 everywhere is nearest to both and comparable."),
    switch("divergence", &[27], Words(Divergence::words), "The code stops at no loss: its gradient scaler skips every update with a gradient that is not finite, and the best epoch so far is tested. Skipped steps are recorded and such cells marked. The correction ends the run, without a result, at a loss that is not a number or above 10,000."),
    switch("val_logits_f16", &[26], Flag, "In linear runs the code's validation logits are float16, and so is the softmax over them, which ties scores; here the logits of either head are rounded and the softmax is not."),
    switch("validation_set", &[13], Words(ValidationSet::words), "The code shuffles the validation set and drops the incomplete last batch, each time other images (12.5 % of APTOS)."),
    switch("selection_rounding", &[14], Words(SelectionRounding::words), "The code compares the selection metric after rounding to three decimals; the earliest epoch of a tie wins."),
    switch("selection_start", &[16], Words(SelectionStart::words), "The value an epoch must exceed: from 0, a run whose kappa never exceeds 0 tests untrained weights."),
    switch("extra_validation", &[15], Flag, "The code validates once more after the last epoch, on another random subset, which gives the last weights a second chance."),
    switch("test_weights", &[1], Words(TestWeights::words), "Best-epoch or last-epoch weights for the headline number. With torch 2.6 the code silently tests the last ones. Both are always stored."),
    switch("macro_classes", &[46], Words(MacroClasses::words), "Macro averages over the classes that occur in truth or prediction, or over all classes."),
    switch("selection_metric", &[], Metric, "Metric that selects the epoch; left out, it is the data set's own target."),
    switch("checkpointing", &[], Flag, "Recompute activations in the backward pass: the same gradients, less memory, more time."),
    ]
};

impl Values {
    /// What may be written, in words.
    pub fn allowed(self) -> String {
        match self {
            Self::Words(words) => words().join(", "),
            Self::Flag => "true, false".into(),
            Self::Count(lo, hi) => format!("whole number, {lo} to {hi}"),
            Self::Real(_, what) | Self::Pair(_, what) => what.into(),
            Self::Warmup => "per-dataset, none, { epochs = n }, { iterations = n }".into(),
            Self::Metric => METRICS.join(", "),
        }
    }
}

impl Switch {
    /// The switch of this name.
    pub fn find(field: &str) -> Option<&'static Switch> {
        SWITCHES.iter().find(|s| s.field == field)
    }
}

impl Protocol {
    /// Every switch except the name of the preset, in the order of the struct.
    pub fn switches() -> &'static [Switch] {
        &SWITCHES
    }

    /// The fields in which two protocols differ, as (field, ours, theirs), in the order of the struct, `preset` first.
    pub fn diff(&self, other: &Self) -> Vec<(&'static str, String, String)> {
        let (a, b) = (self.to_json(), other.to_json());
        ["preset"]
            .into_iter()
            .chain(SWITCHES.iter().map(|s| s.field))
            .filter(|f| a[f] != b[f])
            .map(|f| (f, show(&a[f]), show(&b[f])))
            .collect()
    }

    /// Where this protocol departs from the preset it names: the footnote of every table.
    pub fn overrides(&self) -> Vec<(&'static str, String, String)> {
        self.diff(&self.preset.protocol())
    }

    pub(super) fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("a protocol holds words and numbers only")
    }
}

/// A value as people read it.
fn show(value: &Value) -> String {
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
            _ => super::id::canonical_json(other),
        },
    }
}

/// The table of switches in `docs/PROTOCOL.md`.
pub fn markdown() -> String {
    let (faithful, corrected) = (Protocol::faithful().to_json(), Protocol::corrected().to_json());
    let mut out = String::from(
        "| switch | quirk | faithful | corrected | other values | what it decides |\n|---|---|---|---|---|---|\n",
    );
    for s in &SWITCHES {
        let quirks = s.quirks.iter().map(|q| format!("Q{q}")).collect::<Vec<_>>().join(", ");
        let (f, c) = (show(&faithful[s.field]), show(&corrected[s.field]));
        let others = match s.values {
            Values::Words(words) => words()
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
        let fields: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let table: Vec<&str> = ["preset"].into_iter().chain(SWITCHES.iter().map(|s| s.field)).collect();
        assert_eq!(table, fields);
    }

    #[test]
    fn the_presets_use_allowed_words() {
        for preset in Preset::ALL {
            let json = preset.protocol().to_json();
            assert_eq!(json["preset"], preset.to_string());
            for s in &SWITCHES {
                match (s.values, &json[s.field]) {
                    (Values::Words(words), Value::String(w)) => assert!(words().contains(w), "{}: {w}", s.field),
                    (Values::Flag, Value::Bool(_)) | (Values::Metric, Value::Null) => {}
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
