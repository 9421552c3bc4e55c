//! A trained model on images from anywhere: the run's own preprocessing, logits bit by bit those that it wrote for its test images.

use super::Context;
use super::trained::TrainedRun;
use crate::data::transform::Transform;
use crate::data::{Folder, ImageArray, Pixels, Sample};
use crate::error::BadInput;
use crate::eval::{argmax, sigmoid, softmax};
use crate::study::Freeze;
use anyhow::Result;
use candle_core::Tensor;
use rayon::prelude::*;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Images that are decoded and predicted at a time.
const BATCH: usize = 32;

/// What a model says of an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    pub image: String,
    /// The class of the largest logit; the labels above one half where an image may have several.
    pub predicted: Vec<String>,
    /// For each class or label.
    pub probabilities: Vec<f64>,
    pub logits: Vec<f32>,
}

/// All images, in order; one that cannot be read is an error of its own.
pub struct Predictions {
    pub run: TrainedRun,
    pub images: Vec<Result<Prediction>>,
}

/// Predicts.
///
/// # Errors
/// As [`TrainedRun::find`] and [`TrainedRun::model`].
pub fn predict(c: &Context, mut run: TrainedRun, images: &[PathBuf]) -> Result<Predictions> {
    // Nothing is trained: no activation needs to be remembered.
    run.record.spec.run.freeze = Freeze::Frozen;
    let device = c.device()?;
    let model = run.model(&device)?;
    let (about, spec) = (&run.about, &run.record.spec.run);
    let transform = Transform::new(&spec.protocol, &about.mean, &about.std)?;
    let bar = c.progress.items("images", images.len());
    let mut out = Vec::new();
    for some in images.chunks(BATCH) {
        let read: Vec<Result<ImageArray>> = some.par_iter().map(|path| open(&transform, path)).collect();
        let whole: Vec<&ImageArray> = read.iter().filter_map(|r| r.as_ref().ok()).collect();
        let mut pixels = vec![0.0; whole.len() * transform.len()];
        for (img, slot) in whole.iter().zip(pixels.chunks_exact_mut(transform.len())) {
            transform.finish_val(img, slot);
        }
        let side = spec.protocol.crop as usize;
        let logits = match whole.len() {
            0 => Vec::new(),
            n => {
                let x = Tensor::from_vec(pixels, (n, about.channels, side, side), &device)?;
                model.forward(&x)?.flatten_all()?.to_vec1::<f32>()?
            }
        };
        let mut rows = logits.chunks(about.classes.len());
        for (path, read) in some.iter().zip(read) {
            out.push(read.and_then(|_| {
                said(
                    path,
                    rows.next().unwrap_or_default(),
                    about.task == "labels",
                    &about.classes,
                )
            }));
        }
        bar.at(out.len() as u64, images.len() as u64);
    }
    Ok(Predictions { run, images: out })
}

/// Decodes and prepares an image file.
fn open(transform: &Transform, path: &Path) -> Result<ImageArray> {
    let sample = Sample {
        id: path.display().to_string(),
        group: None,
        pixels: Pixels::File(path.to_owned()),
    };
    transform
        .preparation()
        .open(&Folder::unverified(""), &sample)
        .map_err(|e| match e.downcast::<BadInput>() {
            // The file is no data set's.
            Ok(bad) => BadInput {
                remedy: "Give the path of an image.".into(),
                ..bad
            }
            .into(),
            Err(e) => e,
        })
}

fn said(path: &Path, logits: &[f32], labels: bool, classes: &[String]) -> Result<Prediction> {
    let probabilities = match labels {
        true => sigmoid(logits),
        false => softmax(logits, classes.len())?,
    };
    let chosen: Vec<usize> = match labels {
        true => (0..classes.len()).filter(|&i| probabilities[i] > 0.5).collect(),
        false => argmax(&probabilities, classes.len())
            .into_iter()
            .map(|i| i as usize)
            .collect(),
    };
    Ok(Prediction {
        image: path.display().to_string(),
        predicted: chosen.into_iter().map(|i| classes[i].clone()).collect(),
        probabilities,
        logits: logits.to_vec(),
    })
}
