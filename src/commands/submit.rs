//! `medft submit`: hands what is missing of a study to Slurm.

use super::stations::say_missing;
use crate::cli::SubmitArgs;
use crate::cli::exit::{INCOMPLETE, OK};
use crate::runner::Context;
use crate::runner::cluster::{self, ArrayTask, Submitted};
use crate::text::{hours, table};
use crate::{outln, print};
use anyhow::Result;

/// Exit code 1 where runs are left that nobody has: an input is missing, or they are more than one array may have.
pub(super) fn run(c: &Context, a: &SubmitArgs) -> Result<u8> {
    let (plan, s) = cluster::submit(c, a)?;
    if c.global.json {
        print::json(&s)?;
    } else {
        outln!("{}", plan.summary())?;
        if a.dry_run {
            dry(&s)?;
        }
        outln!("{}", summary(&s, a.dry_run))?;
        if let Some(folder) = &s.folder {
            outln!(
                "scripts and logs are in {}; `medft plan {}` says how far they are",
                folder.display(),
                a.study.study
            )?;
        }
        if s.waiting_tasks > 0 {
            outln!(
                "{} tasks with {} runs wait for the next `medft submit`",
                s.waiting_tasks,
                s.waiting_runs
            )?;
        }
        for job in &s.stuck {
            outln!("job {job} waits for a job that did not succeed: `scancel {job}`")?;
        }
        say_missing(&plan)?;
        if !s.hash_first.is_empty() {
            outln!("\nA login node reads no data. Hash it in a job, then submit again:")?;
        }
        for line in &s.hash_first {
            outln!("  {line}")?;
        }
    }
    Ok(if s.blocked + s.waiting_tasks == 0 {
        OK
    } else {
        INCOMPLETE
    })
}

fn summary(s: &Submitted, dry: bool) -> String {
    let left = format!(
        "{} runs are done, {} are queued or running, {} are blocked",
        s.done, s.live, s.blocked
    );
    if s.tasks.is_empty() {
        return format!("nothing to submit: {left}");
    }
    let number = |n: &Option<String>| n.as_deref().unwrap_or("none").to_owned();
    let jobs = match dry {
        true => "would be submitted".to_owned(),
        false => format!(
            "submitted: prepare {}, runs {}, report {}",
            number(&s.jobs.prepare),
            number(&s.jobs.runs),
            number(&s.jobs.report)
        ),
    };
    format!("{} tasks with {} runs {jobs}; {left}", s.tasks.len(), s.runs)
}

/// Scripts, tasks and sbatch lines.
fn dry(s: &Submitted) -> Result<()> {
    let row = |(i, t): (usize, &ArrayTask)| {
        let expected = t.hours.map_or_else(|| "?".into(), hours);
        vec![i.to_string(), t.runs.len().to_string(), expected, t.only.join(" ")]
    };
    let rows: Vec<Vec<String>> = (1..).zip(&s.tasks).map(row).collect();
    for (line, script) in &s.scripts {
        outln!("\n$ {line}\n{script}")?;
    }
    if !rows.is_empty() {
        outln!("{}\n", table(&["task", "runs", "hours", "--only"], &rows))?;
    }
    Ok(())
}
