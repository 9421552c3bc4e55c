//! How long a run will take on this machine: from finished runs, else from stored benchmarks, else a guess that says so.
//!
//! Work is counted in multiply-adds of matrix products (forward 1, training step 3); a measurement turns it into time.

use super::Context;
use super::card::{Card, SHOWN};
use super::inventory::{Inventory, Look};
use super::plan::{Plan, PlanEntry, PlanState};
use crate::cache::Bucket;
use crate::data::loader::ViewMode;
use crate::data::{fraction, registry};
use crate::device::CPU;
use crate::fsio;
use crate::model::facts;
use crate::results::{Listing, RunRecord, cpu_name};
use crate::spec::protocol::{MhaBody, Precision};
use crate::study::{Freeze, HeadKind, Protocol, RunSpec, Scale, Scope};
use crate::{limits, tell};
use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;

/// A benchmark of a backbone with a linear head on one machine, as `medft bench` stores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// `forward` or `train`.
    pub what: String,
    pub backbone: String,
    /// Side of the input in pixels.
    pub size: usize,
    pub machine: Machine,
    /// Not written for float32, as all were that were stored before.
    #[serde(default = "float32", skip_serializing_if = "is_float32")]
    pub precision: Precision,
    pub images_per_s: f64,
}

fn float32() -> Precision {
    Precision::F32
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde asks.
fn is_float32(p: &Precision) -> bool {
    *p == Precision::F32
}

/// What a time holds for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// `cpu`, or the GPU's name.
    pub device: String,
    pub cpu: String,
    pub threads: u32,
}

impl Machine {
    /// This machine with the device that is asked for; a GPU that is not here goes by the text it was asked for with.
    pub fn this(c: &Context) -> Self {
        Self {
            device: c.devices.name(&c.global.device),
            cpu: cpu_name(),
            threads: rayon::current_num_threads() as u32,
        }
    }

    /// This machine with the device of that name, wherever it is.
    pub fn asked(c: &Context, device: Option<&str>) -> Self {
        let here = Self::this(c);
        match device {
            Some(name) => Self {
                device: name.to_owned(),
                ..here
            },
            None => here,
        }
    }

    fn of(r: &RunRecord) -> Self {
        Self {
            device: r.provenance.device.clone(),
            cpu: r.provenance.cpu.clone(),
            threads: r.provenance.threads,
        }
    }

    /// Whether what was measured there holds here: a GPU's name says it, whatever computer it is in; a CPU counts with its threads.
    fn like(&self, other: &Self) -> bool {
        self.device == other.device && (self.device != "cpu" || self == other)
    }

    /// What an hour of it is called.
    pub fn hours(&self) -> &'static str {
        if self.device == "cpu" { "hours" } else { "GPU-hours" }
    }
}

/// Keeps a benchmark for later plans; the newest of a kind counts.
///
/// # Errors
/// Where the results folder is not writable.
pub fn keep(c: &Context, m: &Measurement) -> Result<()> {
    let text = serde_json::to_vec_pretty(m)?;
    fsio::write_atomic(&c.cache().entry(Bucket::Rates, &file_name(m)?), &text)
}

/// What was measured, by name and by a hash.
///
/// # Errors
/// Where the measurement cannot be serialised.
pub fn file_name(m: &Measurement) -> Result<String> {
    let key = match m.precision {
        Precision::F32 => Bucket::Rates.key(&(&m.what, &m.backbone, m.size, &m.machine))?,
        p => Bucket::Rates.key(&(&m.what, &m.backbone, m.size, &m.machine, p))?,
    };
    Ok(format!("{}-{}-{}.json", m.what, m.backbone, &key[..8]))
}

/// The stored benchmarks that hold for this machine. What is not the one that its file's name says is left out, with a note: times are
/// guesses, and no reason to stop.
fn kept(c: &Context, machine: &Machine) -> Result<Vec<Measurement>> {
    let dir = c.cache().bucket(Bucket::Rates);
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for e in fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = e?.path();
        if path.extension().is_some_and(|x| x == "json") {
            files.push(path);
        }
    }
    files.sort();
    let mut out = Vec::new();
    for path in files {
        let stored = fsio::read_at_most(&path, limits::RECORD)
            .map_err(anyhow::Error::from)
            .and_then(|text| Ok(serde_json::from_slice::<Measurement>(&text)?))
            .and_then(
                |m| match file_name(&m)? == path.file_name().unwrap_or_default().to_string_lossy() {
                    true => Ok(m),
                    false => bail!("it is another one than its name says"),
                },
            );
        match stored {
            Ok(m) if machine.like(&m.machine) => out.push(m),
            Ok(_) => {}
            Err(e) => tell!(
                "warning: {} is not a stored benchmark ({e:#}) and is left out; remove it",
                path.display()
            ),
        }
    }
    Ok(out)
}

/// How a time was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "from", content = "of")]
pub enum Basis {
    /// Finished runs of the same backbone, freeze mode and head on this machine.
    Runs(usize),
    /// Benchmarks of the same backbone on this machine.
    Bench,
    /// Measurements of these other backbones on this machine, scaled by multiply-adds.
    Guess(Vec<String>),
    /// The nominal rate of this device and the part of it that is expected; nothing was measured.
    Nominal(String),
    /// Nothing to go by, and what would help.
    Unknown(String),
}

impl std::fmt::Display for Basis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Runs(n) => write!(f, "measured on {n} runs"),
            Self::Bench => f.write_str("measured by bench"),
            Self::Guess(of) => write!(f, "guessed from {}", of.join(", ")),
            Self::Nominal(rate) => write!(f, "by nominal rate: {rate}"),
            Self::Unknown(why) => write!(f, "unknown: {why}"),
        }
    }
}

/// Expected time of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    pub hours: Option<f64>,
    pub basis: Basis,
}

/// Times a study's runs.
pub struct Estimator<'a> {
    inventory: &'a Inventory,
    c: &'a Context,
    done: Vec<&'a RunRecord>,
    bench: Vec<Measurement>,
    device: String,
    /// Training, validation and test images by data set and protocol.
    sizes: BTreeMap<String, Option<[f64; 3]>>,
}

/// Multiply-adds of a run, in units of 10⁹: forward passes, and training steps by the passes they are worth.
#[derive(Debug, Clone, Copy, PartialEq)]
struct MultiplyAdds {
    forward: f64,
    train: f64,
}

impl<'a> Estimator<'a> {
    /// # Errors
    /// Where a stored benchmark cannot be read.
    pub(super) fn new(
        c: &'a Context,
        inventory: &'a Inventory,
        listing: &'a Listing,
        machine: &Machine,
    ) -> Result<Self> {
        Ok(Self {
            inventory,
            c,
            done: listing.done.iter().filter(|r| machine.like(&Machine::of(r))).collect(),
            bench: kept(c, machine)?,
            device: machine.device.clone(),
            sizes: BTreeMap::new(),
        })
    }

    /// The time of a run whose frozen backbone serves `heads` heads in one pass.
    pub fn estimate(&mut self, spec: &RunSpec, heads: usize) -> Estimate {
        let unknown = |why: String| Estimate {
            hours: None,
            basis: Basis::Unknown(why),
        };
        if spec.scale == Scale::Tiny {
            return unknown("tiny models take seconds".into());
        }
        let Some(sizes) = self.sizes(spec) else {
            return unknown(format!("the number of images of {}", spec.dataset));
        };
        let Some(work) = work(spec, sizes, heads) else {
            return unknown(format!("the size of {}", spec.backbone));
        };
        if let Some(e) = self.by_runs(spec, work) {
            return e;
        }
        let precision = spec.precision();
        let bench = || self.bench.iter().filter(|m| m.precision == precision);
        let own = |m: &&Measurement| m.backbone == spec.backbone;
        if let Some(seconds) = seconds(work, bench().filter(own)) {
            return Estimate {
                hours: Some(seconds / 3600.0),
                basis: Basis::Bench,
            };
        }
        match seconds(work, bench()) {
            Some(s) => {
                let mut of: Vec<String> = bench().map(|m| m.backbone.clone()).collect();
                of.sort();
                of.dedup();
                Estimate {
                    hours: Some(s / 3600.0),
                    basis: Basis::Guess(of),
                }
            }
            None => match Card::find(&self.device) {
                Some(card) => Estimate {
                    hours: Some((work.forward + work.train) / card.gmacs_per_s(precision) / 3600.0),
                    basis: Basis::Nominal(card.rate(precision)),
                },
                None => {
                    let what = match spec.freeze {
                        Freeze::Frozen => "forward",
                        Freeze::Unfrozen => "train",
                    };
                    let flag = match precision {
                        Precision::F32 => String::new(),
                        p => format!(" --precision {p}"),
                    };
                    unknown(format!("run `medft bench {what} --backbone {}{flag}`", spec.backbone))
                }
            },
        }
    }

    /// Scales the time of finished runs of the same kind by the work.
    fn by_runs(&mut self, spec: &RunSpec, work: MultiplyAdds) -> Option<Estimate> {
        let same = |r: &&&RunRecord| {
            let s = &r.spec.run;
            (&s.backbone, s.freeze, s.head, s.protocol.crop, s.precision())
                == (
                    &spec.backbone,
                    spec.freeze,
                    spec.head,
                    spec.protocol.crop,
                    spec.precision(),
                )
        };
        let like: Vec<&RunRecord> = self.done.iter().filter(same).copied().collect();
        let mut rates = Vec::new();
        for r in &like {
            let seconds = r.provenance.seconds();
            let sizes = self.sizes(&r.spec.run)?;
            let w = self::work(&r.spec.run, sizes, 1)?;
            if seconds > 0.0 {
                rates.push(seconds / (w.forward + w.train));
            }
        }
        let n = rates.len();
        Some(Estimate {
            hours: Some(median(rates)? * (work.forward + work.train) / 3600.0),
            basis: Basis::Runs(n),
        })
    }

    /// Test images of a run's data set.
    pub fn test_images(&mut self, spec: &RunSpec) -> Option<f64> {
        self.sizes(spec).map(|s| s[2])
    }

    /// Images of the data set's parts: of the copy at hand, else as its manifest counts them.
    pub(super) fn sizes(&mut self, spec: &RunSpec) -> Option<[f64; 3]> {
        // How it is computed changes no image.
        let images = spec.protocol.scoped(&[Scope::Images]);
        let key = format!("{} {}", spec.dataset, serde_json::to_string(&images).ok()?);
        if let Some(known) = self.sizes.get(&key) {
            return *known;
        }
        let found = self.count(spec);
        self.sizes.insert(key, found);
        found
    }

    fn count(&self, spec: &RunSpec) -> Option<[f64; 3]> {
        let source = registry::find(&spec.dataset).ok()?;
        let here = self.inventory.sets.get(&spec.dataset).filter(|s| s.require().is_ok());
        if let Some(set) = here.filter(|_| self.inventory.look != Look::Unread)
            && let Ok(d) = fraction::read(source, &set.folder.clone().into(), &spec.protocol)
        {
            return Some([d.train.len(), d.val.len(), d.test.len()].map(|n| n as f64));
        }
        let m = self.c.catalogue.set(&spec.dataset).ok()?;
        let of = |split: &str| {
            let mut all = m.counts.iter().filter(|c| c.split == split).map(|c| c.images as f64);
            // Variants of a split differ by a few images; the largest is the whole.
            all.next().map(|first| all.fold(first, f64::max))
        };
        match (of("train"), of("val"), of("test")) {
            (Some(a), Some(b), Some(c)) => Some([a, b, c]),
            _ => of("all").map(|n| [0.8 * n, 0.1 * n, 0.1 * n]),
        }
    }
}

/// The time of each run of a plan that is still to be made. Runs that share a frozen backbone share its time.
///
/// # Errors
/// Where a stored benchmark cannot be read.
pub fn times(c: &Context, plan: &Plan, machine: &Machine) -> Result<Vec<Estimate>> {
    let mut estimator = Estimator::new(c, &plan.inventory, &plan.listing, machine)?;
    let open = |e: &PlanEntry| e.state != PlanState::Done;
    let times = plan.entries.iter().map(|e| {
        let together = |o: &&PlanEntry| {
            open(o)
                && o.spec.precision() == e.spec.precision()
                && RunSpec {
                    head: e.spec.head,
                    ..o.spec.clone()
                } == e.spec
        };
        let heads = match e.spec.freeze {
            Freeze::Frozen => plan.entries.iter().filter(together).count().max(1),
            Freeze::Unfrozen => 1,
        };
        match open(e) {
            true => estimator.estimate(&e.spec, heads),
            false => Estimate {
                hours: Some(0.0),
                basis: Basis::Runs(1),
            },
        }
    });
    Ok(times.collect())
}

/// Hours of a plan's open runs on a card, by precision: float32, the authors' mixture, bfloat16.
pub struct CardHours {
    pub card: String,
    /// `None` where a run's is not known.
    pub hours: [Option<f64>; 3],
    /// Whether all of them are by nominal rates.
    pub nominal: bool,
}

/// The precisions of [`CardHours`], in order.
pub const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Authors, Precision::Bf16];

/// What the open runs of a plan take on cards that users have, and on the one that is asked for.
///
/// # Errors
/// Where a stored benchmark cannot be read.
pub fn by_card(c: &Context, plan: &Plan, machine: &Machine) -> Result<Vec<CardHours>> {
    let open: Vec<&RunSpec> = plan
        .entries
        .iter()
        .filter(|e| e.state != PlanState::Done && e.spec.scale == Scale::Full)
        .map(|e| &e.spec)
        .collect();
    if open.is_empty() {
        return Ok(Vec::new());
    }
    let mut names: Vec<String> = SHOWN.iter().map(|n| (*n).to_owned()).collect();
    if machine.device != CPU && !names.contains(&machine.device) {
        names.push(machine.device.clone());
    }
    // Heads of a frozen backbone share its pass where they share the arithmetic.
    let mut together: BTreeMap<String, usize> = BTreeMap::new();
    let keys: Vec<String> = open
        .iter()
        .map(|s| {
            let any = RunSpec {
                head: HeadKind::Linear,
                ..(*s).clone()
            };
            Ok(serde_json::to_string(&any)?)
        })
        .collect::<Result<_>>()?;
    for key in &keys {
        *together.entry(key.clone()).or_default() += 1;
    }
    let mut sizes = BTreeMap::new();
    let mut out = Vec::new();
    for name in names {
        let machine = Machine {
            device: name.clone(),
            ..machine.clone()
        };
        let mut estimator = Estimator::new(c, &plan.inventory, &plan.listing, &machine)?;
        estimator.sizes = sizes;
        let mut nominal = true;
        let hours = PRECISIONS.map(|precision| {
            let of = |(s, key): (&&RunSpec, &String)| {
                let spec = RunSpec {
                    protocol: Protocol {
                        precision,
                        ..s.protocol.clone()
                    },
                    ..(*s).clone()
                };
                let heads = match (s.freeze, precision) {
                    (Freeze::Unfrozen, _) | (_, Precision::Authors) => 1,
                    (Freeze::Frozen, _) => together.get(key).copied().unwrap_or(1),
                };
                let e = estimator.estimate(&spec, heads);
                nominal &= matches!(e.basis, Basis::Nominal(_));
                e.hours
            };
            open.iter().zip(&keys).map(of).sum()
        });
        sizes = estimator.sizes;
        out.push(CardHours {
            card: name,
            hours,
            nominal,
        });
    }
    Ok(out)
}

/// Seconds for `work` by the median rate of `measured`; a rate of the other kind serves where there is none.
fn seconds<'m>(work: MultiplyAdds, measured: impl Iterator<Item = &'m Measurement> + Clone) -> Option<f64> {
    let rate = |what: &str| {
        let rates = measured.clone().filter(|m| m.what == what).filter_map(|m| {
            let passes = if what == "train" { 3.0 } else { 1.0 };
            Some(m.images_per_s * passes * gmacs(&m.backbone, m.size as f64)?)
        });
        median(rates.collect())
    };
    let (forward, train) = (rate("forward"), rate("train"));
    Some(work.forward / forward.or(train)? + work.train / train.or(forward)?)
}

fn median(mut x: Vec<f64>) -> Option<f64> {
    x.sort_by(f64::total_cmp);
    x.get(x.len() / 2).copied()
}

/// Multiply-adds of a forward pass at `size` pixels, in units of 10⁹.
pub(super) fn gmacs(backbone: &str, size: f64) -> Option<f64> {
    Some(facts::find(backbone)?.gmacs_224 * (size / 224.0).powi(2))
}

/// The work of a run (see the module's head).
fn work(spec: &RunSpec, [train, val, test]: [f64; 3], heads: usize) -> Option<MultiplyAdds> {
    let p = &spec.protocol;
    let body = gmacs(&spec.backbone, f64::from(p.crop))?;
    let (tokens, _) = facts::find(&spec.backbone)?.tokens;
    let head = match (spec.head, p.mha_body) {
        (HeadKind::Linear, _) => 0.0,
        (HeadKind::Mha, MhaBody::DeitBase) => deit_gmacs(tokens, 12),
        (HeadKind::Mha, MhaBody::OneBlock) => deit_gmacs(tokens, 1),
    };
    let epochs = f64::from(p.epochs);
    Some(match spec.freeze {
        Freeze::Frozen => {
            let passes = match ViewMode::of_all_seeds(p).len() {
                0 => train * epochs,
                views => train * views as f64,
            };
            MultiplyAdds {
                // Validation and test images pass the backbone once; the pass serves all heads.
                forward: (passes + val + test) * body / heads as f64 + (val * epochs + test) * head,
                train: 3.0 * train * epochs * head,
            }
        }
        Freeze::Unfrozen => MultiplyAdds {
            forward: (val * epochs + 2.0 * test) * (body + head),
            train: 3.0 * train * epochs * (body + head),
        },
    })
}

/// Multiply-adds of `depth` DeiT-B blocks on `tokens` + 1 tokens, in units of 10⁹.
fn deit_gmacs(tokens: usize, depth: usize) -> f64 {
    let (n, d) = (tokens as f64 + 1.0, 768.0);
    depth as f64 * (12.0 * d * d * n + 2.0 * n * n * d) / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::Protocol;

    fn spec(freeze: Freeze, head: HeadKind) -> RunSpec {
        RunSpec {
            dataset: "ddsm".into(),
            backbone: "mae-b".into(),
            scale: Scale::Full,
            freeze,
            head,
            seed: 0,
            protocol: Protocol::faithful(),
        }
    }

    /// The body is that of ViT-B/16, whose upstream count with the patch embedding stands in `facts` under MAE.
    #[test]
    fn a_deit_body_costs_what_vit_b_does_without_its_stem() {
        let whole = facts::find("mae-b").unwrap().gmacs_224;
        let stem = 196.0 * 768.0 * 768.0 / 1e9;
        assert!((deit_gmacs(196, 12) - (whole - stem)).abs() < 1e-3);
    }

    #[test]
    fn work_is_counted_by_hand() {
        let g = 17.563;
        let p = Protocol::faithful();
        let e = f64::from(p.epochs);
        let unfrozen = work(&spec(Freeze::Unfrozen, HeadKind::Linear), [10.0, 2.0, 3.0], 1).unwrap();
        assert!((unfrozen.train - 3.0 * 10.0 * e * g).abs() < 1e-6);
        assert!((unfrozen.forward - (2.0 * e + 6.0) * g).abs() < 1e-6);
        let frozen = work(&spec(Freeze::Frozen, HeadKind::Linear), [10.0, 2.0, 3.0], 2).unwrap();
        assert!((frozen.forward - (10.0 * e + 5.0) * g / 2.0).abs() < 1e-6 && frozen.train == 0.0);
    }

    #[test]
    fn a_rate_turns_work_into_time_and_an_absent_one_into_nothing() {
        let m = |what: &str, images_per_s| Measurement {
            what: what.into(),
            backbone: "mae-b".into(),
            size: 224,
            machine: Machine {
                device: "cpu".into(),
                cpu: String::new(),
                threads: 2,
            },
            precision: Precision::F32,
            images_per_s,
        };
        let w = MultiplyAdds {
            forward: 17.563 * 40.0,
            train: 3.0 * 17.563 * 10.0,
        };
        let both = [m("forward", 4.0), m("train", 1.0)];
        assert!((seconds(w, both.iter()).unwrap() - 20.0).abs() < 1e-9);
        assert!((seconds(w, both[..1].iter()).unwrap() - 17.5).abs() < 1e-9);
        assert_eq!(seconds(w, [].iter()), None);
    }
}
