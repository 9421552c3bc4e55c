//! Per-image test predictions as parquet: what every metric can be computed from again.
//!
//! One row a set of weights and image, sets one after the other, images in test order. Columns: `weights` ("best", "last",
//! then "corrected" or "faithful" where that preset's rule of selection picks weights other than the best), `id`, `group` (the patient,
//! lesion or case of the image, empty where none is known; records of before the column have none), the truth (`truth` for classes, `truth_0` … for labels; u32) and `logit_0` … (f32).

use crate::error::BadInput;
use crate::limits;
use anyhow::{Result, anyhow, ensure};
use polars::prelude::*;
use polars_io::prelude::*;
use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::Range;
use std::path::Path;

/// Sets of weights in a file at most: best, last and the two presets' where they are others.
const MOST_SETS: u64 = 4;

/// The truth of the test images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Truth {
    /// One class an image.
    Classes(Vec<u32>),
    /// `labels` zeros or ones an image, row-major (images, labels).
    Labels { labels: usize, values: Vec<u32> },
}

/// Logits of the test images under each set of weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    /// Sample ids in test order.
    pub ids: Vec<String>,
    /// The patient, lesion or case of every image; `None` in a record that was written before groups were.
    pub groups: Option<Vec<Option<String>>>,
    pub truth: Truth,
    /// Logits an image.
    pub outputs: usize,
    /// Row-major (images, outputs), from the weights of the selected epoch.
    pub best: Vec<f32>,
    /// Row-major (images, outputs), from the weights after the last step.
    pub last: Vec<f32>,
    /// Rule of selection → row-major (images, outputs), where it selects weights other than the best.
    pub others: BTreeMap<String, Vec<f32>>,
}

impl Predictions {
    /// Name and logits of every set of weights, in the order of the file.
    pub fn sets(&self) -> impl Iterator<Item = (&str, &Vec<f32>)> {
        let others = self.others.iter().map(|(name, x)| (name.as_str(), x));
        [("best", &self.best), ("last", &self.last)].into_iter().chain(others)
    }

    /// The number of every image's group, from 0 without gaps in order of appearance; an image without one is its own.
    /// `None` where no group is known.
    pub fn group_numbers(&self) -> Option<Vec<u32>> {
        let groups = self.groups.as_ref().filter(|g| g.iter().any(Option::is_some))?;
        let mut known = BTreeMap::<&str, u32>::new();
        let mut count = 0;
        let mut out = Vec::with_capacity(groups.len());
        for g in groups {
            let number = match g {
                Some(name) => *known.entry(name).or_insert(count),
                None => count,
            };
            count = count.max(number + 1);
            out.push(number);
        }
        Some(out)
    }

    fn check(&self) -> Result<()> {
        let n = self.ids.len();
        let truths = match &self.truth {
            Truth::Classes(c) => c.len(),
            Truth::Labels { labels, values } => {
                ensure!(*labels == self.outputs, "{labels} labels but {} outputs", self.outputs);
                ensure!(
                    values.len() == n * labels,
                    "{} label values for {n} images × {labels} labels",
                    values.len()
                );
                n
            }
        };
        ensure!(truths == n, "{truths} truths for {n} images");
        if let Some(groups) = &self.groups {
            ensure!(groups.len() == n, "{} groups for {n} images", groups.len());
        }
        for (name, logits) in self.sets() {
            ensure!(
                logits.len() == n * self.outputs,
                "{} {name} logits for {n} images × {} outputs",
                logits.len(),
                self.outputs
            );
        }
        Ok(())
    }

    /// The parquet file, the same bytes for the same content.
    ///
    /// # Errors
    /// Where columns differ in length, or parquet cannot be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.check()?;
        let n = self.ids.len();
        let sets: Vec<(&str, &Vec<f32>)> = self.sets().collect();
        let each = |column: &[u32]| column.repeat(sets.len());
        let weights: Vec<&str> = sets.iter().flat_map(|s| std::iter::repeat_n(s.0, n)).collect();
        let ids: Vec<&str> = self.ids.iter().map(String::as_str).collect();
        let ids = ids.repeat(sets.len());
        let mut columns = vec![Column::new("weights".into(), weights), Column::new("id".into(), ids)];
        if let Some(groups) = &self.groups {
            let groups: Vec<Option<&str>> = groups.iter().map(Option::as_deref).collect();
            columns.push(Column::new("group".into(), groups.repeat(sets.len())));
        }
        match &self.truth {
            Truth::Classes(c) => columns.push(Column::new("truth".into(), each(c))),
            Truth::Labels { labels, values } => {
                for l in 0..*labels {
                    let one: Vec<u32> = values.iter().skip(l).step_by(*labels).copied().collect();
                    columns.push(Column::new(format!("truth_{l}").into(), each(&one)));
                }
            }
        }
        for k in 0..self.outputs {
            let one: Vec<f32> = sets
                .iter()
                .flat_map(|s| s.1.iter().skip(k).step_by(self.outputs).copied())
                .collect();
            columns.push(Column::new(format!("logit_{k}").into(), one));
        }
        let mut frame = DataFrame::new(sets.len() * n, columns)?;
        let mut bytes = Vec::new();
        ParquetWriter::new(&mut bytes)
            .with_compression(ParquetCompression::Zstd(None))
            .finish(&mut frame)
            .map_err(|e| anyhow!("cannot encode the predictions as parquet: {e}"))?;
        Ok(bytes)
    }

    /// Reads the bytes of a parquet file back, of `images` test images where that is known; `at` is named in errors. What the
    /// file says of its size is held against that and against [`limits`] before anything is unpacked.
    ///
    /// # Errors
    /// [`BadInput`] when the bytes are no parquet file, hold other columns or are of another size.
    pub fn from_bytes(at: &Path, bytes: &[u8], images: Option<u64>) -> Result<Self> {
        let bad = |found: String| {
            BadInput::new(
                at.display(),
                "test predictions as medft writes them",
                found,
                "Move the run's folder away and run the study again.",
            )
        };
        let unreadable = |e: PolarsError| bad(format!("an unreadable file ({e})"));
        let mut reader = ParquetReader::new(Cursor::new(bytes));
        let about = reader.get_metadata().map_err(unreadable)?;
        let columns: Vec<_> = about.row_groups.iter().flat_map(|g| g.parquet_columns()).collect();
        let width = columns.len() / about.row_groups.len().max(1);
        let cells = about
            .num_rows
            .checked_mul(width)
            .filter(|c| *c <= limits::PREDICTION_CELLS);
        let unpacked = columns.iter().try_fold(0, |all: u64, c| {
            let sum = all.checked_add(u64::try_from(c.uncompressed_size()).ok()?)?;
            (sum <= limits::PREDICTION_BYTES).then_some(sum)
        });
        if cells.is_none() || unpacked.is_none() {
            let found = format!("one that unpacks to {} rows of {width} columns", about.num_rows);
            return Err(bad(found).into());
        }
        if let Some(images) = images
            && !(2..=MOST_SETS).any(|sets| images.checked_mul(sets) == Some(about.num_rows as u64))
        {
            let found = format!("{} rows, which is no number of sets of {images} images", about.num_rows);
            return Err(bad(found).into());
        }
        let frame = reader.finish().map_err(unreadable)?;
        Self::from_frame(&frame).map_err(|e| bad(format!("{e:#}")).into())
    }

    fn from_frame(frame: &DataFrame) -> Result<Self> {
        let weights = text(frame, "weights")?;
        let mut names = weights.clone();
        names.dedup();
        let n = frame.height() / names.len().max(2);
        let blocks = names.iter().flat_map(|w| std::iter::repeat_n(w, n));
        ensure!(
            names.len() >= 2 && names[..2] == ["best", "last"] && weights.iter().eq(blocks),
            "`weights` is not best, last and then other sets of the same length"
        );
        // Only the first set's names become strings of their own: the others say the same.
        let ids: Vec<&str> = text(frame, "id")?;
        ensure!(
            n == 0 || ids.chunks(n).all(|c| *c == ids[..n]),
            "the sets of weights name other images"
        );
        let ids = ids[..n].iter().map(|&id| id.to_owned()).collect();
        let groups = match frame.column("group") {
            Err(_) => None,
            Ok(column) => {
                let all: Vec<Option<&str>> = column.str()?.iter().collect();
                ensure!(
                    n == 0 || all.chunks(n).all(|c| *c == all[..n]),
                    "the sets of weights name other groups"
                );
                Some(all[..n].iter().map(|g| g.map(str::to_owned)).collect())
            }
        };
        let count = |prefix: &str| {
            frame
                .get_column_names()
                .iter()
                .filter(|c| c.starts_with(prefix))
                .count()
        };
        let (labels, outputs) = (count("truth_"), count("logit_"));
        let truth = if labels == 0 {
            let mut classes = whole(frame, "truth")?;
            classes.truncate(n);
            Truth::Classes(classes)
        } else {
            let columns = (0..labels)
                .map(|l| whole(frame, &format!("truth_{l}")))
                .collect::<Result<Vec<_>>>()?;
            Truth::Labels {
                labels,
                values: rows(&columns, 0..n),
            }
        };
        let logits = (0..outputs)
            .map(|k| {
                let column = frame.column(&format!("logit_{k}"))?.f32()?;
                Ok(match column.has_nulls() {
                    true => column.iter().map(|x| x.unwrap_or(f32::NAN)).collect(),
                    false => column.into_no_null_iter().collect(),
                })
            })
            .collect::<Result<Vec<Vec<f32>>>>()?;
        let predictions = Self {
            ids,
            groups,
            truth,
            outputs,
            best: rows(&logits, 0..n),
            last: rows(&logits, n..2 * n),
            others: names[2..]
                .iter()
                .zip(2..)
                .map(|(&name, i)| (name.to_owned(), rows(&logits, i * n..(i + 1) * n)))
                .collect(),
        };
        predictions.check()?;
        Ok(predictions)
    }
}

/// Rows `at` of columns, row-major.
fn rows<T: Copy + Default>(columns: &[Vec<T>], at: Range<usize>) -> Vec<T> {
    let mut out = vec![T::default(); columns.len() * at.len()];
    for (k, column) in columns.iter().enumerate() {
        for (row, &x) in out.chunks_exact_mut(columns.len()).zip(&column[at.clone()]) {
            row[k] = x;
        }
    }
    out
}

fn text<'a>(frame: &'a DataFrame, name: &str) -> Result<Vec<&'a str>> {
    let column = frame.column(name)?.str()?;
    column
        .iter()
        .map(|s| s.ok_or_else(|| anyhow!("`{name}` has an empty cell")))
        .collect()
}

fn whole(frame: &DataFrame, name: &str) -> Result<Vec<u32>> {
    let column = frame.column(name)?.u32()?;
    ensure!(!column.has_nulls(), "`{name}` has an empty cell");
    Ok(column.into_no_null_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_images() -> Predictions {
        Predictions {
            ids: vec!["a".into(), "b".into()],
            groups: None,
            truth: Truth::Classes(vec![0, 1]),
            outputs: 2,
            best: vec![0.1, 0.9, 0.8, 0.2],
            last: vec![0.2, 0.8, 0.7, 0.3],
            others: BTreeMap::new(),
        }
    }

    /// A file of a few KB that would unpack to 300 million cells, and one of other images than the metrics say.
    #[test]
    fn what_the_file_says_of_its_size_is_held_first() {
        let p = two_images();
        let bytes = p.to_bytes().unwrap();
        assert_eq!(Predictions::from_bytes(Path::new("x"), &bytes, Some(2)).unwrap(), p);
        for images in [0, 1, 3, u64::MAX] {
            let found = Predictions::from_bytes(Path::new("x"), &bytes, Some(images));
            match images {
                // Four sets of one image are as many rows as two of two: the ids tell them apart.
                1 => assert!(found.is_ok()),
                _ => assert!(found.unwrap_err().to_string().contains("no number of sets")),
            }
        }
        let many = BooleanChunked::full("a".into(), true, 150_000_000).into_series();
        let columns = vec![many.clone().into(), many.with_name("b".into()).into()];
        let mut frame = DataFrame::new(150_000_000, columns).unwrap();
        let mut bomb = Vec::new();
        ParquetWriter::new(&mut bomb).finish(&mut frame).unwrap();
        drop(frame);
        assert!(bomb.len() < 100_000_000, "{}", bomb.len());
        let e = Predictions::from_bytes(Path::new("x"), &bomb, None)
            .unwrap_err()
            .to_string();
        assert!(e.contains("unpacks to 150000000 rows of 2 columns"), "{e}");
    }
}
