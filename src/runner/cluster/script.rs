//! The batch scripts: kept beside the submission, so that everything that ran can be read later.
//!
//! A requeue is asked for in the script and not in medft, since a container has no scontrol. USR1 is the time limit and requeues,
//! TERM is a cancel (or a preemption, which Slurm requeues itself) and does not.

use super::file::ClusterFile;
use crate::runner::Context;
use crate::text::{command, quoted};
use anyhow::Result;
use std::path::Path;

/// How often a task may be started again.
const RESTARTS: u32 = 20;

/// What the three scripts of a submission share.
pub(super) struct Scripts<'a> {
    pub c: &'a Context,
    pub file: &'a ClusterFile,
    /// As `medft` takes it, wherever it is called.
    pub study: String,
    /// `--only` as typed.
    pub only: &'a [String],
    /// Folder of the submission.
    pub dir: &'a Path,
}

/// The study as typed; a path as one that holds everywhere.
pub(super) fn study_argument(typed: &str) -> Result<String> {
    let path = Path::new(typed);
    let is_path = typed.contains('/') || path.extension().is_some_and(|e| e == "toml");
    Ok(match is_path {
        true => std::path::absolute(path)?.display().to_string(),
        false => typed.to_owned(),
    })
}

/// The options of every verb, so that a job sees the same folders wherever it is and whatever of the environment reaches it.
pub(super) fn options(c: &Context) -> Result<Vec<String>> {
    let g = &c.global;
    let mut out = Vec::new();
    let folders = [
        ("--data-dir", Some(&g.data_dir)),
        ("--lists-dir", g.lists_dir.as_ref()),
        ("--weights-dir", Some(&g.weights_dir)),
        ("--results-dir", Some(&g.results_dir)),
        ("--reports-dir", Some(&g.reports_dir)),
        ("--experiments-dir", Some(&g.experiments_dir)),
        ("--templates", g.templates.as_ref()),
    ];
    for (name, folder) in folders {
        if let Some(folder) = folder {
            out.extend([name.to_owned(), std::path::absolute(folder)?.display().to_string()]);
        }
    }
    let mut option =
        |name: &str, value: Option<String>| out.extend(value.into_iter().flat_map(|v| [name.to_owned(), v]));
    option("--device", Some(g.device.to_string()));
    option("--cache-bytes", g.cache_bytes.map(|n| n.to_string()));
    option("--workers", g.workers.map(|n| n.to_string()));
    option("--checkpoint-every", Some(g.checkpoint_every.to_string()));
    Ok(out)
}

impl Scripts<'_> {
    /// The head of each script: variables, the place, the user's lines.
    fn head(&self, what: &str) -> Result<String> {
        let mut out = format!("#!/bin/bash\n# Written by medft submit: {what}\n");
        for name in ["MEDFT_LEASE_SECONDS", "MEDFT_MANIFESTS"] {
            if let Some(value) = std::env::var(name).ok().filter(|v| !v.is_empty()) {
                let value = match name {
                    "MEDFT_MANIFESTS" => std::path::absolute(value)?.display().to_string(),
                    _ => value,
                };
                out.push_str(&format!("export {name}={}\n", quoted(&value)));
            }
        }
        out.push_str(&format!("jobs={}\n", quoted(&self.dir.display().to_string())));
        out.push_str(&format!("medft=({})\n", command(&self.file.medft()?)));
        out.push_str(&format!("options=({})\n", command(&options(self.c)?)));
        out.push_str(&format!(
            "# sbatch had not answered, squeue did not know the job, and its runs were submitted again.\n\
             [ ! -e \"$jobs/{}\" ] || {{ echo 'medft: this submission was given up'; exit 0; }}\n",
            super::record::NOT_SUBMITTED
        ));
        Ok(out)
    }

    fn setup(&self) -> String {
        self.file.setup.iter().map(|l| format!("{l}\n")).collect()
    }

    fn study_and_filters(&self) -> String {
        let only: String = self.only.iter().map(|o| format!(" --only {}", quoted(o))).collect();
        format!("{}{only}", quoted(&self.study))
    }

    /// Phantoms, hashes, images: once, before the array.
    pub(crate) fn prepare(&self) -> Result<String> {
        Ok(format!(
            "{}{}\"${{medft[@]}}\" prepare {} \"${{options[@]}}\"\ncode=$?\n\
             # What cannot be prepared fails in its own tasks and stops no other.\n\
             [ \"$code\" -gt 1 ] || code=0\nexit \"$code\"\n",
            self.head("prepares what the tasks read.")?,
            self.setup(),
            self.study_and_filters()
        ))
    }

    /// One task of the array.
    pub(crate) fn task(&self) -> Result<String> {
        Ok(format!(
            r#"{head}me=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID
limit='' cancelled='' run=''
trap 'limit=1; [ -z "$run" ] || kill -TERM "$run"' USR1     # the time limit: a checkpoint, then a requeue
trap 'cancelled=1; [ -z "$run" ] || kill -TERM "$run"' TERM # scancel: a checkpoint
requeue() {{
  if [ "${{SLURM_RESTART_COUNT:-0}}" -ge {RESTARTS} ]; then
    echo "medft: $me was started {RESTARTS} times again and is not done"
    exit 1
  fi
  echo "medft: $me goes on after a requeue"
  trap 'exit 0' TERM # Slurm ends what it requeues, scontrol with it: that is no reason to ask again
  for pause in 1 5 15 30 60; do
    scontrol requeue "$me" && exit 0
    sleep "$pause"
  done
  exit 1
}}
{setup}read -r -a groups < <(sed -n "${{SLURM_ARRAY_TASK_ID}}p" "$jobs/tasks.txt")
worst=0
for only in "${{groups[@]}}"; do
  [ -z "$cancelled" ] || exit 130
  [ -z "$limit" ] || requeue
  "${{medft[@]}}" run {study} --only "$only" "${{options[@]}}" &
  run=$!
  # A signal ends the wait and not the run.
  while kill -0 "$run" 2>/dev/null; do wait "$run"; done
  wait "$run"
  code=$?
  run=''
  if [ "$code" -ne 0 ]; then
    [ -z "$cancelled" ] || exit 130
    [ -z "$limit" ] || requeue
    [ "$code" -ne 130 ] || exit 130
  fi
  [ "$code" -le "$worst" ] || worst=$code
done
exit "$worst"
"#,
            head = self.head("a task is a line of tasks.txt, a part of it what --only takes.")?,
            setup = self.setup(),
            study = quoted(&self.study),
        ))
    }

    /// What is there when the array has ended, whatever became of its tasks.
    pub(crate) fn report(&self) -> Result<String> {
        let study = quoted(&self.study);
        Ok(format!(
            "{}{}\"${{medft[@]}}\" report {study} \"${{options[@]}}\" || exit $?\n\
             \"${{medft[@]}}\" compare {study} \"${{options[@]}}\"\ncode=$?\n\
             # 1: a value differs, which is a result.\n[ \"$code\" -gt 1 ] || code=0\nexit \"$code\"\n",
            self.head("renders the report.")?,
            self.setup(),
        ))
    }
}
