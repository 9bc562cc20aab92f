//! Script after script: generate, compare, and of what fails shrink and keep.

use crate::compare::{self, Failure};
use crate::generate::generate;
use crate::script::Script;
use crate::sets::SETS;
use crate::shrink::shrink;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a script is shrunk.
const SHRINK: Duration = Duration::from_secs(120);

/// Explores until `end`, or until there were so many scripts.
pub(crate) fn explore(seed: u64, scripts: u64, operations: usize, end: Instant, keep: &Path) -> Result<(), String> {
    let io = |error: std::io::Error| format!("{}: {error}", keep.display());
    let dir = tempfile::tempdir().map_err(io)?;
    let (mut tried, mut failures) = (0u64, 0);
    while tried < scripts && Instant::now() < end {
        let seed = seed + tried;
        let script = generate(seed, operations);
        let path = dir.path().join("script");
        fs::write(&path, script.to_string()).map_err(io)?;
        if let Err(failure) = compare::all(&script, &path, &compare::every()).map_err(io)? {
            failures += 1;
            eprintln!("seed {seed}, option set {}: {}", failure.options, failure.what);
            let (script, failure) = shrink(script, failure, Instant::now() + SHRINK).map_err(io)?;
            fs::create_dir_all(keep).map_err(io)?;
            let kept = keep.join(format!("seed-{seed}-options-{}.txt", failure.options));
            fs::write(&kept, noted(&script, &failure)).map_err(io)?;
            eprintln!("kept as {}:\n{}", kept.display(), noted(&script, &failure));
        }
        tried += 1;
    }
    let ran = tried * operations as u64 * SETS as u64;
    println!(
        "{tried} scripts of {operations} operations from seed {seed} on, under {SETS} option sets: {ran} operations, {failures} failures"
    );
    if failures == 0 { Ok(()) } else { Err(format!("{failures} scripts fail")) }
}

/// A script with what is wrong as its head.
pub(crate) fn noted(script: &Script, failure: &Failure) -> String {
    let head: String =
        failure.what.lines().map(|line| format!("# {}\n", line.chars().take(300).collect::<String>())).collect();
    format!("# Fails under option set {}:\n{head}{script}", failure.options)
}
