//! `medft report` and `medft compare`: from records to tables, figure and verdicts.

use super::plan::{Entry, Plan, State};
use super::{Context, INCOMPLETE, OK};
use crate::cli::StudyArgs;
use crate::data::registry;
use crate::model;
use crate::report::{
    BackboneFacts, ContextValue, DatasetFacts, PlannedRun, PlannedState, ProtocolNote, PublishedPoint, ReportInput,
    ReportOutput, render,
};
use crate::results::{Listing, frame};
use crate::study::protocol::Preset;
use crate::study::{Protocol, Published, Scale, SplitRule, Study, Tolerances};
use anyhow::Result;
use std::path::PathBuf;

/// Renders the report and says where it is; exit code 1 where a planned run has no result.
pub fn run(c: &Context, a: &StudyArgs) -> Result<u8> {
    let (study, runs) = c.study(a)?;
    let plan = Plan::make(c, study, runs)?;
    let out = write(c, &plan)?;
    println!("{}", folder(c, &plan.study).join("README.md").display());
    Ok(if out.done < out.planned { INCOMPLETE } else { OK })
}

/// Renders the report and prints the comparison; exit code 1 where a value differs.
pub fn compare(c: &Context, a: &StudyArgs) -> Result<u8> {
    let (study, runs) = c.study(a)?;
    let plan = Plan::make(c, study, runs)?;
    let out = write(c, &plan)?;
    if c.global.json {
        println!("{}", serde_json::to_string_pretty(&out.comparisons)?);
    } else {
        print!(
            "{}",
            crate::fsio::read_to_string(&folder(c, &plan.study).join("compare.md"))?
        );
    }
    Ok(if out.verdicts.differs > 0 { INCOMPLETE } else { OK })
}

fn folder(c: &Context, study: &Study) -> PathBuf {
    c.global.reports_dir.join(&study.name)
}

/// Renders `reports/<study>/`.
pub fn write(c: &Context, plan: &Plan) -> Result<ReportOutput> {
    render(&input(c, plan)?, &folder(c, &plan.study))
}

fn input(c: &Context, plan: &Plan) -> Result<ReportInput> {
    let study = &plan.study;
    let mut listing: Listing = plan.store.all()?;
    for (name, why) in &listing.broken {
        eprintln!(
            "warning: {}: {why}; it is left out",
            plan.store.folder().join(name).display()
        );
    }
    for r in &mut listing.done {
        r.spec.run.dataset = study.table(&r.spec.run.dataset, &r.spec.run.protocol);
    }
    let tolerances = Tolerances::load(&c.global.experiments_dir)?;
    let datasets = study
        .tables()
        .into_iter()
        .map(|(set, protocol)| {
            let info = registry::find(set)?.info(&protocol);
            let tolerance = tolerances.get(info.target);
            let name = study.table(set, &protocol);
            Ok(DatasetFacts {
                title: match SplitRule::word(set, &protocol) {
                    _ if name == set => info.title.to_owned(),
                    rule => format!("{}, {rule} split", info.title),
                },
                name,
                metric: info.target.to_owned(),
                metric_title: metric_title(info.target),
                margin: tolerance.map(|t| t.margin),
                margin_reason: tolerance.map_or_else(String::new, |t| t.reason.clone()),
            })
        })
        .collect::<Result<_>>()?;
    let backbones = study
        .backbones
        .iter()
        .map(|name| {
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
        })
        .collect::<Result<_>>()?;
    let mut published = Vec::new();
    let mut context = Vec::new();
    let (mut sources, mut caveats) = (Vec::new(), Vec::new());
    for name in &study.report.published {
        let p = Published::load(name, &c.global.experiments_dir)?;
        points(study, &p, &mut published, &mut context);
        sources.push(format!("{} ({}). {}", p.source, p.url, p.method));
        caveats.extend(p.caveats);
    }
    let defaults = match study.protocol.preset {
        Preset::Faithful => Protocol::faithful(),
        Preset::Corrected => Protocol::corrected(),
    };
    Ok(ReportInput {
        study: study.name.clone(),
        title: study.title.clone(),
        description: study.description.clone(),
        expected: study.expected.clone(),
        demo: study.report.demo,
        protocol: ProtocolNote::new(
            match study.protocol.preset {
                Preset::Faithful => "faithful",
                Preset::Corrected => "corrected",
            },
            &serde_json::to_value(&defaults)?,
            &serde_json::to_value(&study.protocol)?,
        ),
        datasets,
        backbones,
        planned: plan.entries.iter().map(|e| planned(study, e)).collect(),
        runs: frame(&listing.done)?,
        published,
        context,
        sources,
        caveats,
        alpha: tolerances.alpha,
        templates: Some(PathBuf::from("templates")).filter(|t| t.is_dir()),
    })
}

/// Published values of a study's data sets: comparable ones as points, others as context.
fn points(study: &Study, p: &Published, published: &mut Vec<PublishedPoint>, context: &mut Vec<ContextValue>) {
    for v in p.values.iter().filter(|v| study.datasets.contains(&v.dataset)) {
        // Published values are of the authors' splits: they stand beside those, where a study has several.
        let tables = study.tables();
        let of_set = || tables.iter().filter(|t| t.0 == v.dataset);
        let authors = of_set().find(|t| SplitRule::word(t.0, &t.1) == "authors");
        let Some((set, protocol)) = authors.or_else(|| of_set().next()) else {
            continue;
        };
        let dataset = study.table(set, protocol);
        match &v.backbone {
            Some(backbone) if p.comparable => published.push(PublishedPoint {
                dataset,
                backbone: backbone.clone(),
                freeze: v.freeze,
                head: v.head,
                metric: v.metric.clone(),
                params_millions: v.params_millions,
                value: v.value,
                uncertainty: v.uncertainty,
                shared_offset: v.shared_offset,
                note: p.backbones.get(backbone).map(|n| n.note.clone()),
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

fn planned(study: &Study, e: &Entry) -> PlannedRun {
    let one_line = |s: &str| {
        let first = s.split_whitespace().collect::<Vec<_>>().join(" ");
        first.trim_end_matches('.').to_owned()
    };
    PlannedRun {
        dataset: study.table(&e.spec.dataset, &e.spec.protocol),
        backbone: e.spec.backbone.clone(),
        freeze: e.spec.freeze,
        head: e.spec.head,
        seed: e.spec.seed,
        state: match (&e.state, &e.id) {
            (State::Done, Some(id)) => PlannedState::Done(id.full().to_owned()),
            (State::Blocked(why), _) => PlannedState::Gap(one_line(why)),
            (State::Failed(why), _) => PlannedState::Gap(format!("the run failed: {}", one_line(why))),
            (State::Stale(why), _) => PlannedState::Gap(format!("not run again since {}", one_line(why))),
            (State::Resume, _) => PlannedState::Gap("started and not finished".to_owned()),
            _ => PlannedState::Gap("not run yet".to_owned()),
        },
    }
}

/// A metric as printed.
fn metric_title(key: &str) -> String {
    match key {
        "roc_auc" => "ROC-AUC",
        "roc_auc_ovr" => "ROC-AUC (one against rest)",
        "recall" => "macro recall",
        "quadratic_kappa" => "quadratic weighted kappa",
        "accuracy" => "accuracy",
        k => return k.replace('_', " "),
    }
    .to_owned()
}
