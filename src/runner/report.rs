//! From the records of a study to what its report is rendered from.

use super::plan::{Plan, PlanEntry, PlanState};
use super::report_place::{folder, maker, templates};
use super::sources::Sources;
use super::{Context, foresight, notes};
use crate::cache::Cache;
use crate::cli::ReportArgs;
use crate::data::registry;
use crate::eval::metric_title;
use crate::fsio;
use crate::model;
use crate::privacy::without_places;
use crate::report::{
    Archive, Audit, BackboneFacts, ContextValue, DatasetFacts, PlannedRun, PlannedState, Point, ProtocolNote,
    PublishedPoint, ReportInput, ReportOutput, Sweep, render, seal,
};
use crate::results::{DECISION, Evidences, Listing, WhichWeights, frame};
use crate::study::{Protocol, Published, Scale, SplitRule, Study, Swept, Tolerances, caveats as caveats_of};
use crate::tell;
use crate::train::evaluate::{SelectionRule, direction, trained};
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Below a report's folder: the report of fewer results than it has.
const SMALLER: &str = "fewer-results";

/// Renders `reports/<study>/` (a part of the study: a folder of its own below it), unless what lies there is what would be written.
/// A report of fewer results than the one that lies there goes beside it, never over it.
///
/// # Errors
/// Where the records cannot be read or the report not written.
pub fn write(c: &Context, plan: &Plan, a: &ReportArgs) -> Result<ReportOutput> {
    let done = plan
        .entries
        .iter()
        .filter(|e| matches!(e.state, PlanState::Done))
        .count();
    let mut folder = folder(c, &plan.study, &a.study.only);
    if let Some(more) = seal::results(&folder).filter(|n| *n > done) {
        let beside = folder.join(SMALLER);
        c.progress.say(&format!(
            "warning: {} holds a report of {more} results; this one of {done} is written to {} (remove the former to have it there)",
            folder.display(),
            beside.display()
        ));
        folder = beside;
    }
    let listing = listing(plan)?;
    let input = input(c, plan, a, &listing)?;
    let inputs = digest(c, plan, &input, a.replicates)?;
    if let Some(output) = seal::still_holds(&folder, &inputs) {
        return Ok(output);
    }
    let _bar = c.progress.items("report", 0);
    fsio::sweep_below(&folder);
    let before = seal::open(&folder)?;
    let (output, whole) = finish(plan, input, listing, a.replicates, &folder, Some(&c.cache()))?;
    if whole {
        seal::close(&folder, &inputs, &output, &before)?;
    }
    Ok(output)
}

/// Renders the report into any folder; everything is computed from the stored predictions.
///
/// # Errors
/// As [`write()`].
pub fn write_to(c: &Context, plan: &Plan, a: &ReportArgs, to: &Path) -> Result<ReportOutput> {
    let listing = listing(plan)?;
    let input = input(c, plan, a, &listing)?;
    Ok(finish(plan, input, listing, a.replicates, to, None)?.0)
}

/// Adds the evidence and renders; also says whether every record could be used.
fn finish(
    plan: &Plan,
    mut input: ReportInput,
    mut listing: Listing,
    replicates: usize,
    to: &Path,
    cache: Option<&Cache>,
) -> Result<(ReportOutput, bool)> {
    let all = listing.done.len();
    input.evidence = evidence(plan, &mut listing, replicates, cache)?;
    for r in &mut listing.done {
        r.spec.run.dataset = plan.study.table(&r.spec.run.dataset, &r.spec.run.protocol);
    }
    input.runs = frame(&listing.done)?;
    Ok((render(&input, to)?, listing.done.len() == all))
}

/// The records of the study; warns of those that cannot be read.
fn listing(plan: &Plan) -> Result<Listing> {
    let listing = plan.store.all()?;
    for (name, why) in &listing.broken {
        tell!(
            "warning: {}: {why}; it is left out",
            plan.store.folder().join(name).display()
        );
    }
    Ok(listing)
}

/// The hash of everything a report is made from, this binary included.
fn digest(c: &Context, plan: &Plan, input: &ReportInput, replicates: usize) -> Result<String> {
    let mut text = format!("{input:?}\n{replicates} resamples\n");
    text.push_str(&maker(c)?);
    for p in &input.planned {
        if let PlannedState::Done(id) = &p.state {
            text.push_str(&plan.store.mark(id)?);
        }
    }
    Ok(fsio::sha256_hex(text.as_bytes()))
}

/// The planned runs' predictions on resampled test sets. A run whose predictions do not fit their hash is taken out of the
/// listing, as any other record that was changed.
fn evidence(plan: &Plan, listing: &mut Listing, replicates: usize, cache: Option<&Cache>) -> Result<Evidences> {
    let planned: BTreeSet<&str> = plan
        .entries
        .iter()
        .filter_map(|e| Some(e.id.as_ref()?.full()))
        .collect();
    let runs: Vec<_> = listing
        .done
        .iter()
        .filter(|r| planned.contains(r.id()))
        .cloned()
        .collect();
    // Decisions (marks, claims) are made from a fixed number of resamples; what is asked for is what is printed.
    let (mut evidence, unusable) = Evidences::of(&plan.store, &runs, replicates.max(DECISION), cache)?;
    evidence.replicates = replicates;
    for u in &unusable {
        tell!("warning: {}; the run is left out", u.why);
    }
    listing.done.retain(|r| unusable.iter().all(|u| u.id != r.id()));
    Ok(evidence)
}

/// All but the evidence, which takes longer.
fn input(c: &Context, plan: &Plan, a: &ReportArgs, listing: &Listing) -> Result<ReportInput> {
    let study = &plan.study;
    let planned: Vec<PlannedRun> = plan.entries.iter().map(|e| planned(study, e)).collect();
    // The report of a part names what the part has, not everything that it leaves out.
    let part = !a.study.only.is_empty();
    let has_set = |name: &str| !part || planned.iter().any(|p| p.dataset == name);
    let has_backbone = |name: &str| !part || planned.iter().any(|p| p.backbone == name);
    let has = |p: &PublishedPoint| {
        !part
            || planned
                .iter()
                .any(|r| r.dataset == p.dataset && r.backbone == p.backbone)
    };
    let tolerances = Tolerances::of(&study.report.published, &c.global.experiments_dir)?;
    let datasets = dataset_facts(study, &tolerances, &has_set)?;
    let backbones = backbone_facts(study, listing, &has_backbone)?;
    let mut published = Vec::new();
    let mut context = Vec::new();
    let sources = Sources::load(c, study)?;
    for set in &sources.sets {
        points(study, &sources, set, &mut published, &mut context);
    }
    let mut protocol = ProtocolNote::new(
        &study.protocol.preset.to_string(),
        &serde_json::to_value(study.protocol.preset.protocol())?,
        &serde_json::to_value(&study.protocol)?,
    );
    for s in &study.sweep {
        protocol.sweep(s.field, &s.printed());
    }
    let templates = templates(c)?;
    let mut caveats = caveats_of(&sources.sets, &study.datasets);
    caveats.extend(crate::report::template_notes(templates.as_deref())?);
    published.retain(has);
    context.retain(|v| has_set(&v.dataset));
    Ok(ReportInput {
        study: study.name.clone(),
        title: study.title.clone(),
        description: study.description.clone(),
        expected: study.expected.clone(),
        demo: study.report.demo,
        protocol,
        datasets,
        backbones,
        planned,
        runs: frame(&listing.done)?,
        evidence: Evidences::default(),
        published,
        context,
        sources: sources.sets.iter().map(Published::origin).collect(),
        caveats,
        without_code: sources.without_code(),
        alpha: tolerances.alpha,
        archive: Archive {
            records: listing.done.iter().map(|r| (r.id().to_owned(), r.clone())).collect(),
            store: Some(plan.store.clone()),
            study_argument: study.name.clone(),
            audit: Audit::beside(&folder(c, study, &[])),
            notes: notes::all(c, study, listing)?,
        },
        // A claim speaks of the whole study.
        claims: Some(foresight::asked(c, study)?).filter(|c| a.study.only.is_empty() && !c.claims.is_empty()),
        sweep: sweep(plan, listing)?,
        only: a.study.only.clone(),
        templates,
    })
}

/// The tables' data sets for which `has` holds.
fn dataset_facts(study: &Study, tolerances: &Tolerances, has: &dyn Fn(&str) -> bool) -> Result<Vec<DatasetFacts>> {
    let mut out = Vec::new();
    for (set, protocol) in study.tables() {
        let name = study.table(set, &protocol);
        if !has(&name) {
            continue;
        }
        let info = registry::find(set)?.info(&protocol);
        let tolerance = tolerances.get(info.target);
        out.push(DatasetFacts {
            title: title(study, set, &protocol, info.title),
            name,
            set: set.to_owned(),
            plain_title: info.title.to_owned(),
            split: SplitRule::name(set, &protocol).to_string(),
            train_fraction: protocol.train_fraction,
            metric: info.target.to_owned(),
            metric_title: metric_title(info.target),
            classes: info.classes,
            margin: tolerance.map(|t| t.margin),
            margin_reason: tolerance.map_or_else(String::new, |t| t.reason.clone()),
        });
    }
    Ok(out)
}

/// The study's backbones for which `has` holds.
fn backbone_facts(study: &Study, listing: &Listing, has: &dyn Fn(&str) -> bool) -> Result<Vec<BackboneFacts>> {
    let facts = |name: &String| {
        let e = model::registry::find(name)?;
        let found = listing.done.iter().find(|r| r.spec.run.backbone == *name);
        Ok(BackboneFacts {
            name: name.clone(),
            title: e.title.to_owned(),
            family: e.family.to_owned(),
            params: match study.scale {
                Scale::Tiny => found.map(|r| r.metrics.model.backbone_params),
                Scale::Full => model::facts::find(name).map(|f| f.parameters),
            },
        })
    };
    study.backbones.iter().filter(|name| has(name)).map(facts).collect()
}

/// As printed, with split and point of the sweep where the study has several.
fn title(study: &Study, set: &str, protocol: &Protocol, plain: &str) -> String {
    let mut title = plain.to_owned();
    if study.family(set, protocol) != set {
        title.push_str(&format!(", {} split", SplitRule::name(set, protocol)));
    }
    if !study.sweep.is_empty() {
        title.push_str(&format!(", {}", study.point(protocol)));
    }
    title
}

/// The points of a sweep, and what their runs gave on validation.
fn sweep(plan: &Plan, listing: &Listing) -> Result<Option<Sweep>> {
    let study = &plan.study;
    if study.sweep.is_empty() {
        return Ok(None);
    }
    let mut points = Vec::new();
    for (set, protocol) in study.tables() {
        let info = registry::find(set)?.info(&protocol);
        let selects = protocol.selection_metric.as_deref().unwrap_or(info.target);
        let only = study
            .sweep
            .iter()
            .map(|s| format!(",{}={}", s.field, s.name(&protocol)));
        let family = study.family(set, &protocol);
        points.push(Point {
            table: study.table(set, &protocol),
            title: match family == set {
                true => info.title.to_owned(),
                false => format!("{}, {} split", info.title, SplitRule::name(set, &protocol)),
            },
            family,
            values: study.sweep.iter().map(|s| s.value(&protocol)).collect(),
            only: only.collect(),
            selects: metric_title(selects),
            direction: direction(selects),
        });
    }
    let mut validation = BTreeMap::new();
    for r in &listing.done {
        let p = &r.spec.run.protocol;
        let selects = p.selection_metric.as_ref().unwrap_or(&r.metrics.target);
        // The epoch of the weights that are tested; none where the untrained ones are.
        let epochs = plan.store.epochs(r.id())?;
        let epoch = match r.metrics.headline {
            WhichWeights::Last => trained(p, selects, &epochs),
            WhichWeights::Best => SelectionRule::of(p).select(&epochs, selects),
        };
        let at = epochs.iter().find(|e| Some(e.epoch) == epoch);
        if let Some(value) = at.map(|e| e.value(selects)).filter(|v| !v.is_nan()) {
            validation.insert(r.id().to_owned(), value);
        }
    }
    Ok(Some(Sweep {
        switches: study.sweep.iter().map(Swept::title).collect(),
        points,
        validation,
    }))
}

/// Published values of a study's data sets: comparable ones as points, others as context.
fn points(
    study: &Study,
    sources: &Sources,
    p: &Published,
    published: &mut Vec<PublishedPoint>,
    context: &mut Vec<ContextValue>,
) {
    for v in p.values.iter().filter(|v| study.datasets.contains(&v.dataset)) {
        // Published values are of the authors' splits and all their images: they stand beside those, where a study has several.
        let tables = study.tables();
        let of_set = || tables.iter().filter(|t| t.0 == v.dataset);
        let authors = of_set().find(|t| sources.other_experiment(p, v, study, (t.0, &t.1)).is_none());
        // What is neither of these experiments nor of these backbones is context, whatever the source's other values are.
        let here = |b: &String| authors.is_some() || study.backbones.contains(b);
        let Some((set, protocol)) = authors.or_else(|| of_set().next()) else {
            continue;
        };
        let dataset = study.table(set, protocol);
        match &v.backbone {
            Some(backbone) if p.comparable && here(backbone) => published.push(PublishedPoint {
                dataset,
                backbone: backbone.clone(),
                freeze: v.freeze,
                head: v.head,
                metric: v.metric.clone(),
                params_millions: v.params_millions,
                value: v.value,
                uncertainty: v.uncertainty,
                shared_offset: v.shared_offset,
                rounding: v.rounding,
                runs: v.seeds,
                sd: v.sd,
                no_verdict: sources.no_verdict(p, v, study, (set, protocol)),
                note: sources.note(p, backbone).map(|n| n.note.clone()),
            }),
            _ => context.push(ContextValue {
                dataset,
                label: v.label.clone(),
                metric: metric_title(&v.metric),
                value: v.value,
                sd: v.sd,
                source: v.source.clone(),
            }),
        }
    }
}

fn planned(study: &Study, e: &PlanEntry) -> PlannedRun {
    let one_line = |s: &str| {
        let first = s.split_whitespace().collect::<Vec<_>>().join(" ");
        without_places(first.trim_end_matches('.'))
    };
    PlannedRun {
        dataset: study.table(&e.spec.dataset, &e.spec.protocol),
        backbone: e.spec.backbone.clone(),
        freeze: e.spec.freeze,
        head: e.spec.head,
        seed: e.spec.seed,
        state: match (&e.state, &e.id) {
            (PlanState::Done, Some(id)) => PlannedState::Done(id.full().to_owned()),
            (PlanState::Blocked(why), _) => PlannedState::Gap(one_line(why)),
            (PlanState::Failed(why), _) => PlannedState::Gap(format!("the run failed: {}", one_line(why))),
            (PlanState::Stale(why), _) => PlannedState::Gap(format!("not run again since {}", one_line(why))),
            (PlanState::Resume, _) => PlannedState::Gap("started and not finished".to_owned()),
            _ => PlannedState::Gap("not run yet".to_owned()),
        },
    }
}
