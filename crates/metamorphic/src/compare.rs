//! A script under all option sets, each in a process of its own; and what is written down of it.

use crate::oracle::Oracle;
use crate::script::Script;
use crate::sets::SETS;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// What went wrong with which option set.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) options: usize,
    pub(crate) what: String,
}

/// Runs a script under one option set, in a process of its own.
///
/// # Errors
/// If the process can't be started; what it finds is in the answer.
pub(crate) fn one(path: &Path, options: usize, history: &Path) -> io::Result<Result<String, Failure>> {
    let output = Command::new(std::env::current_exe()?)
        .arg("run")
        .arg(path)
        .args(["--options", &options.to_string(), "--history"])
        .arg(history)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(Ok(fs::read_to_string(history)?));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Ok(Err(Failure { options, what: format!("{}\n({})", said.trim(), output.status) }))
}

/// Runs a script under these option sets. All histories must be that of the model, and so the same.
pub(crate) fn all(script: &Script, path: &Path, sets: &[usize]) -> io::Result<Result<(), Failure>> {
    let dir = tempfile::tempdir()?;
    let mut oracle = Oracle::new();
    let model: String = script.0.iter().map(|op| oracle.apply(op).line + "\n").collect();
    for &options in sets {
        match one(path, options, &dir.path().join("history"))? {
            Ok(history) if history == model => {}
            Ok(history) => {
                let mut lines = history.lines().zip(model.lines()).zip(1..);
                let first = lines.find(|((run, model), _)| run != model);
                let what = format!("the history differs from the model's, at operation {first:?}");
                return Ok(Err(Failure { options, what }));
            }
            Err(failure) => return Ok(Err(failure)),
        }
    }
    Ok(Ok(()))
}

/// The numbers of all option sets.
pub(crate) fn every() -> Vec<usize> {
    (0..SETS).collect()
}
