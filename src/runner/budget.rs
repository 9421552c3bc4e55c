//! `medft plan --budget`: the part of a study that decides the most for so many hours of this machine, as a study file.
//!
//! A study is a matrix, so what is looked for is one: some of the data sets, freeze modes and heads, the backbones (all of them,
//! those that the authors' code can run, or the cheapest few) and a number of seeds. All such matrices that fit the hours are compared: the
//! one with the most claims within reach wins, then the one with the most values, then the cheapest.

use super::Context;
use super::estimate::{Basis, Estimator, Machine};
use super::foresight::{self, Cell, ClaimOutlook, ENOUGH, Outline, SetNoise};
use super::plan::Plan;
use super::sources::Sources;
use crate::cli::PlanArgs;
use crate::error::BadInput;
use crate::eval::Outlook;
use crate::fsio;
use crate::study::{Claims, Freeze, HeadKind, Protocol, RunSpec, Study, Tolerances};
use crate::text as ui;
use anyhow::Result;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::str::FromStr;

/// The most seeds a budget is spent on: what more of them add is little.
const SEEDS: usize = 10;

/// Hours of work: `48h`, `90m`, `2d`, or a number of hours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget(pub f64);

impl FromStr for Budget {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let (number, factor) = match s.char_indices().next_back() {
            Some((i, 'h')) => (&s[..i], 1.0),
            Some((i, 'm')) => (&s[..i], 1.0 / 60.0),
            Some((i, 'd')) => (&s[..i], 24.0),
            _ => (s, 1.0),
        };
        let hours = number.parse::<f64>().ok().map(|x| x * factor);
        hours
            .filter(|h| h.is_finite() && *h > 0.0)
            .map(Self)
            .ok_or_else(|| "a time above 0, such as 48h, 90m or 2d".to_owned())
    }
}

/// A matrix within a study.
#[derive(Debug, Clone)]
struct Part {
    datasets: Vec<String>,
    backbones: Vec<String>,
    freeze: Vec<Freeze>,
    heads: Vec<HeadKind>,
    seeds: usize,
}

/// A part with what it costs and decides.
struct Offer {
    part: Part,
    hours: f64,
    claims: Vec<ClaimOutlook>,
    /// Claims within reach.
    decided: usize,
    /// Values that are expected to come out reproduced or consistent if they are.
    values: f64,
}

impl Offer {
    /// What is compared, the better the larger; hours are rounded so that the last bit of a sum decides nothing.
    fn rank(&self) -> (usize, i64, i64) {
        (self.decided, (self.values * 1e6) as i64, -((self.hours * 1e6) as i64))
    }
}

/// The part of a study that was chosen, and what it promises.
pub struct Proposal {
    /// Where it was written.
    pub file: PathBuf,
    pub hours: f64,
    /// Whether some of the hours are of other backbones' speed.
    pub guessed: bool,
    pub machine: Machine,
    pub runs: usize,
    pub cells: usize,
    pub seeds: usize,
    pub claims: Vec<ClaimOutlook>,
    /// Of a value on each data set that is the same in truth.
    pub values: Vec<ValueOutlook>,
}

/// What may be said of a value on a data set.
pub struct ValueOutlook {
    pub noise: SetNoise,
    /// Values that are judged there.
    pub judged: usize,
    pub outlook: Option<Outlook>,
}

/// Chooses the part of a study that decides the most for so many hours, and writes it as a study.
///
/// # Errors
/// [`BadInput`] where nothing fits the hours or the file is there; where study, records or claims cannot be read.
pub fn choose(c: &Context, a: &PlanArgs, budget: Budget) -> Result<Proposal> {
    let (study, runs) = c.study(&a.study)?;
    let plan = Plan::make(c, study, runs)?;
    let study = &plan.study;
    let out = place(c, a, study)?;
    let machine = Machine::asked(c, a.as_device.as_deref());
    let mut estimator = Estimator::new(c, &plan.inventory, &plan.listing, &machine)?;
    let noises = foresight::noises(c, study, &plan.listing.done, &mut estimator, None)?;
    let specs: Vec<RunSpec> = plan.entries.iter().map(|e| e.spec.clone()).collect();
    let prices = Prices::new(&specs, &mut estimator, machine)?;
    let evaluator = Evaluator {
        claims: foresight::asked(c, study)?,
        alpha: Tolerances::of(&study.report.published, &c.global.experiments_dir)?.alpha,
        cells: foresight::cells(&specs),
        noises: &noises,
    };
    let axes = Axes::of(study, &specs);
    let backbones = backbone_choices(&axes.backbones, &Sources::load(c, study)?.without_code(), &prices);
    let Some(best) = search(&axes, &backbones, &prices, &evaluator, budget.0) else {
        let least = prices.least() * 2.0;
        return Err(BadInput::new(
            "--budget",
            format!("at least {} hours: the cheapest cell with two seeds", ui::hours(least)),
            format!("{} hours", ui::hours(budget.0)),
            "Give it more time, or a faster device (--device).",
        )
        .into());
    };
    let text = file(study, &best.part, &format!("{} within {}", study.name, a.budget_text()));
    let name = out.file_stem().and_then(|s| s.to_str()).unwrap_or("").to_owned();
    // What is written is read back first: a study that could not be run would be worse than none.
    let written = c.known(|known| Study::parse(&name, &out.display().to_string(), &text, known))?;
    fsio::write_atomic(&out, text.as_bytes())?;
    let part = &best.part;
    let values = noises
        .iter()
        .filter(|n| part.datasets.contains(&n.dataset))
        .map(|n| ValueOutlook {
            judged: judged(n, part),
            outlook: n.value(part.seeds, 0.0, evaluator.alpha),
            noise: n.clone(),
        })
        .collect();
    Ok(Proposal {
        values,
        file: out,
        hours: best.hours,
        guessed: prices.guessed,
        machine: prices.machine,
        runs: written.runs().len(),
        cells: written.cells(),
        seeds: part.seeds,
        claims: best.claims,
    })
}

/// Where the study goes.
fn place(c: &Context, a: &PlanArgs, study: &Study) -> Result<PathBuf> {
    let default = || {
        c.global
            .experiments_dir
            .join(format!("{}-{}.toml", study.name, a.budget_text()))
    };
    let out = a.out.clone().unwrap_or_else(default);
    if out.exists() {
        return Err(BadInput::new(
            out.display(),
            "a file that is not there yet",
            "one that is",
            "Name another with --out, or remove it.",
        )
        .into());
    }
    Ok(out)
}

/// Hours by data set, backbone, freeze mode and heads that are run together.
struct Prices {
    hours: BTreeMap<(String, String, Freeze, Vec<HeadKind>), f64>,
    guessed: bool,
    machine: Machine,
}

impl Prices {
    /// # Errors
    /// [`BadInput`] where the speed of this device is not known for a cell.
    fn new(specs: &[RunSpec], estimator: &mut Estimator, machine: Machine) -> Result<Self> {
        let (mut hours, mut guessed) = (BTreeMap::new(), false);
        for s in specs.iter().filter(|s| s.seed == specs[0].seed) {
            let both = specs.iter().any(|o| {
                o.head != s.head
                    && RunSpec {
                        head: s.head,
                        ..o.clone()
                    } == *s
            });
            // Frozen heads share their features; a part has this head alone or all that are planned.
            for heads in [vec![s.head], HeadKind::ALL.to_vec()] {
                if heads.len() > 1 && !both {
                    continue;
                }
                let together = if s.freeze == Freeze::Frozen { heads.len() } else { 1 };
                let e = estimator.estimate(s, together);
                let Some(h) = e.hours else {
                    return Err(BadInput::new(
                        format!("{s}"),
                        "a device whose speed is known",
                        e.basis.to_string(),
                        "Measure it with `medft bench forward` and `medft bench train` on a backbone of the study, then plan again.",
                    )
                    .into());
                };
                guessed |= matches!(e.basis, Basis::Guess(_));
                *hours
                    .entry((s.dataset.clone(), s.backbone.clone(), s.freeze, heads))
                    .or_insert(0.0) += h;
            }
        }
        Ok(Self {
            hours,
            guessed,
            machine,
        })
    }

    /// Of one seed; `None` where a cell of the part has no price.
    fn of(&self, part: &Part) -> Option<f64> {
        let mut heads = part.heads.clone();
        heads.sort_unstable();
        let mut sum = 0.0;
        for d in &part.datasets {
            for b in &part.backbones {
                for &f in &part.freeze {
                    sum += self.hours.get(&(d.clone(), b.clone(), f, heads.clone()))?;
                }
            }
        }
        Some(sum)
    }

    fn backbone(&self, name: &str) -> f64 {
        self.hours.iter().filter(|(k, _)| k.1 == name).map(|h| h.1).sum()
    }

    fn least(&self) -> f64 {
        self.hours.values().copied().fold(f64::INFINITY, f64::min)
    }
}

/// What the planned runs are a matrix of, in the order of the study; with `--only` that is less than the study has.
struct Axes {
    datasets: Vec<String>,
    backbones: Vec<String>,
    freeze: Vec<Freeze>,
    heads: Vec<HeadKind>,
}

impl Axes {
    fn of(study: &Study, specs: &[RunSpec]) -> Self {
        fn kept<T: Clone>(all: &[T], planned: impl Fn(&T) -> bool) -> Vec<T> {
            all.iter().filter(|x| planned(x)).cloned().collect()
        }
        Self {
            datasets: kept(&study.datasets, |d| specs.iter().any(|s| s.dataset == *d)),
            backbones: kept(&study.backbones, |b| specs.iter().any(|s| s.backbone == *b)),
            freeze: kept(&study.freeze, |f| specs.iter().any(|s| s.freeze == *f)),
            heads: kept(&study.heads, |h| specs.iter().any(|s| s.head == *h)),
        }
    }
}

/// All backbones, those of the authors' code, and the cheapest few of either.
fn backbone_choices(all: &[String], without_code: &[String], prices: &Prices) -> Vec<Vec<String>> {
    let authors: Vec<String> = all.iter().filter(|b| !without_code.contains(b)).cloned().collect();
    let mut choices = Vec::new();
    for list in [all.to_vec(), authors] {
        let mut cheapest = list.clone();
        cheapest.sort_by(|a, b| prices.backbone(a).total_cmp(&prices.backbone(b)));
        for n in 1..=list.len() {
            let mut some = list.clone();
            some.retain(|b| cheapest[..n].contains(b));
            if !choices.contains(&some) {
                choices.push(some);
            }
        }
    }
    choices
}

struct Evaluator<'a> {
    claims: Claims,
    alpha: f64,
    cells: Vec<Cell>,
    noises: &'a [SetNoise],
}

impl Evaluator<'_> {
    /// What a part needs for the claims; the same for every number of seeds.
    fn outline(&self, part: &Part) -> Outline {
        let here = |c: &&Cell| {
            part.datasets.contains(&c.dataset)
                && part.backbones.contains(&c.backbone)
                && part.freeze.contains(&c.freeze)
                && part.heads.contains(&c.head)
        };
        let cells: Vec<Cell> = self.cells.iter().filter(here).cloned().collect();
        Outline::of(&self.claims, &cells, self.noises)
    }

    /// Of each data set, the probability that one value is found reproduced or consistent if it is, by number of seeds from 2.
    fn values(&self) -> Vec<Vec<f64>> {
        let one = |n: &SetNoise, seeds| {
            n.value(seeds, 0.0, self.alpha)
                .map_or(0.0, |o| o.reproduced + o.consistent)
        };
        let of = |n| (2..=SEEDS).map(|seeds| one(n, seeds)).collect();
        self.noises.iter().map(of).collect()
    }

    fn offer(&self, part: Part, hours: f64, outline: &Outline, values: &[Vec<f64>]) -> Offer {
        let claims = outline.with(part.seeds);
        let sets = self.noises.iter().zip(values);
        let values = sets
            .filter(|(n, _)| part.datasets.contains(&n.dataset))
            .map(|(n, p)| judged(n, &part) as f64 * p[part.seeds - 2])
            .sum();
        Offer {
            decided: claims
                .iter()
                .filter(|o| o.probability.is_some_and(|p| p >= ENOUGH))
                .count(),
            claims,
            values,
            part,
            hours,
        }
    }
}

/// How many values of a data set can have a verdict in a part.
fn judged(n: &SetNoise, part: &Part) -> usize {
    n.backbones.iter().filter(|b| part.backbones.contains(b)).count()
}

/// The best part that fits.
fn search(
    axes: &Axes,
    backbones: &[Vec<String>],
    prices: &Prices,
    evaluator: &Evaluator,
    budget: f64,
) -> Option<Offer> {
    let values = evaluator.values();
    let mut best: Option<Offer> = None;
    for datasets in subsets(&axes.datasets) {
        for freeze in subsets(&axes.freeze) {
            for heads in subsets(&axes.heads) {
                for backbones in backbones {
                    let mut part = Part {
                        datasets: datasets.clone(),
                        backbones: backbones.clone(),
                        freeze: freeze.clone(),
                        heads: heads.clone(),
                        seeds: 2,
                    };
                    let Some(one) = prices.of(&part).filter(|one| 2.0 * one <= budget) else {
                        continue;
                    };
                    let outline = evaluator.outline(&part);
                    for seeds in (2..=SEEDS).take_while(|s| one * *s as f64 <= budget) {
                        part.seeds = seeds;
                        let offer = evaluator.offer(part.clone(), one * seeds as f64, &outline, &values);
                        if best.as_ref().is_none_or(|b| offer.rank() > b.rank()) {
                            best = Some(offer);
                        }
                    }
                }
            }
        }
    }
    best
}

/// Every part of a list that is not empty, in its order.
fn subsets<T: Clone>(all: &[T]) -> Vec<Vec<T>> {
    let pick = |mask: usize| {
        (0..all.len())
            .filter(move |i| mask >> i & 1 == 1)
            .map(|i| all[i].clone())
            .collect()
    };
    (1..1usize << all.len()).map(pick).collect()
}

/// The part as a study file.
fn file(study: &Study, part: &Part, what: &str) -> String {
    let text = |s: &str| Value::from(s).to_string();
    let list = |all: &[String]| all.iter().map(|s| text(s)).collect::<Vec<_>>().join(", ");
    let mut out = format!(
        "# Made by `medft plan --budget`: the part of {} that decides the most claims, then values, for its time.\n",
        study.name
    );
    let quoted_list = |all: Vec<String>| list(&all);
    let freeze = quoted_list(part.freeze.iter().map(ToString::to_string).collect());
    let heads = quoted_list(part.heads.iter().map(ToString::to_string).collect());
    let _ = writeln!(out, "title = {}", text(&format!("{} ({what})", study.title)));
    if !study.description.is_empty() {
        let _ = writeln!(out, "description = {}", text(&study.description));
    }
    if !study.expected.is_empty() {
        let _ = writeln!(out, "expected = {}", text(&study.expected));
    }
    out.push('\n');
    let _ = writeln!(out, "preset = \"{}\"", study.protocol.preset);
    let _ = writeln!(out, "scale = \"{}\"", study.scale);
    let _ = writeln!(out, "datasets = [{}]", list(&part.datasets));
    let _ = writeln!(out, "backbones = [{}]", list(&part.backbones));
    let _ = writeln!(out, "freeze = [{freeze}]\nheads = [{heads}]");
    let seeds: Vec<u64> = (0..).take(part.seeds).collect();
    let _ = writeln!(out, "seeds = {seeds:?}");
    if !study.splits.is_empty() {
        let splits = quoted_list(study.splits.iter().map(ToString::to_string).collect());
        let _ = writeln!(out, "splits = [{splits}]");
    }
    let _ = writeln!(out, "keep_weights = \"{}\"", study.keep_weights);
    let (own, preset) = (&study.protocol, study.protocol.preset.protocol());
    let fields = Protocol::switches().into_iter().map(|s| s.field);
    let swept = |f: &str| study.sweep.iter().any(|s| s.field == f);
    let set: Vec<&str> = fields.filter(|f| swept(f) || own.get(f) != preset.get(f)).collect();
    if !set.is_empty() {
        out.push_str("\n[protocol]\n");
        for field in set {
            let swept = study.sweep.iter().find(|s| s.field == field);
            let value = swept.map_or_else(|| own.get(field), |s| Value::Array(s.values.clone()));
            let _ = writeln!(out, "{field} = {}", toml(&value));
        }
    }
    out.push_str("\n[report]\n");
    if study.report.demo {
        out.push_str("demo = true\n");
    }
    if !study.report.published.is_empty() {
        let _ = writeln!(out, "published = [{}]", list(&study.report.published));
    }
    out
}

/// A switch's value in TOML; JSON but for tables.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(k, v)| format!("{k} = {}", toml(v))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(toml).collect();
            format!("[{}]", values.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_read_in_hours() {
        for (text, hours) in [("48h", 48.0), ("90m", 1.5), ("2d", 48.0), ("3.5", 3.5)] {
            assert_eq!(text.parse::<Budget>().unwrap().0, hours, "{text}");
        }
        for bad in ["", "h", "-1h", "0", "48x", "NaN", "infh"] {
            assert!(bad.parse::<Budget>().is_err(), "{bad}");
        }
    }

    #[test]
    fn subsets_are_all_there() {
        let all = subsets(&[1, 2, 3]);
        assert_eq!(all.len(), 7);
        assert!(all.contains(&vec![1, 3]) && all.contains(&vec![1, 2, 3]) && !all.contains(&vec![]));
    }

    /// Overrides of every kind of value survive, and what is written runs what was chosen.
    #[test]
    fn the_file_is_the_part() {
        let (sets, backbones) = (crate::data::registry::names(), crate::model::registry::names());
        let known = crate::study::Known {
            datasets: &sets,
            backbones: &backbones,
            published: &["somebody"],
        };
        let text = "title = \"T \\\"q\\\"\"\nexpected = \"e\"\npreset = \"corrected\"\ndatasets = [\"ddsm\", \"isic2019\"]\n\
            backbones = [\"mae-b\", \"dinov2-b\"]\nfreeze = [\"frozen\", \"unfrozen\"]\nheads = [\"linear\", \"mha\"]\nseeds = [4]\n\
            splits = [\"grouped\"]\n[protocol]\nlr = 3e-4\nwarmup = { epochs = 2 }\ncrop_scale = [0.5, 1]\nclip = 0\ngrey_stem = \"red-kernel\"\n\
            train_fraction = 0.25\nextra_validation = true\nselection_metric = \"accuracy\"\n[report]\npublished = [\"somebody\"]\n";
        let study = Study::parse("s", "s.toml", text, &known).unwrap();
        let part = Part {
            datasets: vec!["isic2019".into()],
            backbones: vec!["mae-b".into()],
            freeze: vec![Freeze::Unfrozen],
            heads: vec![HeadKind::Linear, HeadKind::Mha],
            seeds: 3,
        };
        let made = Study::parse("p", "p.toml", &file(&study, &part, "s within 2h"), &known).unwrap();
        assert_eq!(
            (&made.protocol, &made.splits, &made.report),
            (&study.protocol, &study.splits, &study.report)
        );
        assert_eq!((made.runs().len(), made.cells(), made.seeds), (6, 2, vec![0, 1, 2]));
    }
}
