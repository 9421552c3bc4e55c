//! `medft predict`: a trained model's probabilities for images.

use crate::cli::PredictArgs;
use crate::cli::exit::{BROKEN, INCOMPLETE, OK};
use crate::runner::Context;
use crate::runner::predict::{Prediction, predict};
use crate::runner::trained::TrainedRun;
use crate::{outln, print, tell, text};
use anyhow::Result;

/// Exit code 1 where an image cannot be read, 2 where none can.
pub(super) fn run(c: &Context, a: &PredictArgs) -> Result<u8> {
    let run = TrainedRun::find(c, &a.run, a.weights.as_deref())?;
    let all = predict(c, run, &a.images)?;
    let classes = &all.run.about.classes;
    let read: Vec<&Prediction> = all.images.iter().filter_map(|i| i.as_ref().ok()).collect();
    let head: Vec<&str> = ["image", "predicted"]
        .into_iter()
        .chain(classes.iter().map(String::as_str))
        .collect();
    let row = |p: &&Prediction, number: fn(&f64) -> String| -> Vec<String> {
        [p.image.clone(), p.predicted.join(";")]
            .into_iter()
            .chain(p.probabilities.iter().map(number))
            .collect()
    };
    if c.global.json {
        print::json(&read)?;
    } else if a.csv {
        let mut table = csv::Writer::from_writer(Vec::new());
        table.write_record(&head)?;
        read.iter()
            .try_for_each(|p| table.write_record(row(p, |x| x.to_string())))?;
        print::write(format_args!("{}", String::from_utf8(table.into_inner()?)?))?;
    } else if !read.is_empty() {
        let rows: Vec<_> = read.iter().map(|p| row(p, |x| format!("{x:.4}"))).collect();
        outln!("{}", text::table(&head, &rows))?;
    }
    for e in all.images.iter().filter_map(|i| i.as_ref().err()) {
        tell!("error: {e:#}");
    }
    Ok(match read.len() {
        n if n == all.images.len() => OK,
        0 => BROKEN,
        _ => INCOMPLETE,
    })
}
