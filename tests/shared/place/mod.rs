//! A folder of its own to run the binary in, and what it said.
#![allow(dead_code)] // Each test binary uses its part of it.

use assert_cmd::Command;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A study of a few seconds on one phantom set.
pub(crate) const SHORT: &str = r#"
title = "A short study"
expected = "Nothing: it tests the program."
preset = "faithful"
scale = "tiny"
datasets = ["aptos2019"]
backbones = ["dinov2-b"]
freeze = ["frozen", "unfrozen"]
heads = ["linear", "mha"]
seeds = [0]
[protocol]
resize = 72
crop = 64
epochs = 2
batch = 16
lr = 2e-3
warmup = "none"
validation_set = "all"
"#;

/// A temporary working folder; nothing of the environment but `PATH` and what [`Place::set`] names reaches a program in it.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    env: Vec<(&'static str, OsString)>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, env: Vec::new() }
    }

    pub(crate) fn set(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    pub(crate) fn path(&self, rel: &str) -> PathBuf {
        self.dir.path().join(rel)
    }

    /// A program to be looked at while it runs.
    pub(crate) fn process(&self, args: &[&str]) -> std::process::Command {
        let mut c = std::process::Command::new(assert_cmd::cargo::cargo_bin("medft"));
        c.current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(self.env.iter().cloned())
            .args(args);
        c
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut c = Command::cargo_bin("medft").unwrap();
        c.current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(self.env.iter().cloned())
            .args(args);
        c
    }

    pub(crate) fn medft(&self, args: &[&str]) -> Said {
        Said::by(&mut self.command(args))
    }

    /// Writes [`SHORT`] with a change; returns its name on the command line.
    pub(crate) fn study(&self, name: &str, change: impl Fn(String) -> String) -> String {
        fs::write(self.path(&format!("{name}.toml")), change(SHORT.to_owned())).unwrap();
        format!("./{name}.toml")
    }

    /// Files below a folder with their bytes, sorted; without what holds times.
    pub(crate) fn files(&self, rel: &str) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(dir: &Path, out: &mut Vec<(PathBuf, Vec<u8>)>) {
            for e in fs::read_dir(dir).unwrap() {
                let p = e.unwrap().path();
                if p.is_dir() {
                    walk(&p, out);
                } else {
                    out.push((p.clone(), fs::read(&p).unwrap()));
                }
            }
        }
        let mut out = Vec::new();
        walk(&self.path(rel), &mut out);
        out.sort();
        out.into_iter()
            .map(|(p, b)| (p.strip_prefix(self.path(rel)).unwrap().to_owned(), b))
            .filter(|(p, _)| !p.ends_with("provenance.json") && !p.ends_with("DONE"))
            .collect()
    }
}

/// What a command said.
pub(crate) struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
    pub seconds: f64,
}

impl Said {
    /// Runs a command to its end.
    pub(crate) fn by(command: &mut Command) -> Self {
        let start = Instant::now();
        let out = command.output().unwrap();
        Self {
            code: out.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&out.stdout).into_owned(),
            err: String::from_utf8_lossy(&out.stderr).into_owned(),
            seconds: start.elapsed().as_secs_f64(),
        }
    }

    pub(crate) fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.all()))
    }
}
