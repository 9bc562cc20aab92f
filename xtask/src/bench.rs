//! `cargo xtask bench`: workloads, micro-benchmarks and counts of instructions, all in the release profile.

mod gate;

use crate::{cargo, run as run_command};
use std::path::Path;

/// Stores that are only built with a feature of `esker-bench`.
const RIVALS: [&str; 4] = ["fjall", "redb", "sled", "surrealkv"];
const NATIVE: [&str; 2] = ["rocksdb", "lmdb"];

/// Runs `bench micro FILTER..`, `bench gate PART..` or `bench WORKLOAD.. OPTIONS..`.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<(), String> {
    match args.split_first() {
        Some((first, rest)) if first == "micro" => micro(root, rest),
        Some((first, rest)) if first == "gate" => gate::run(root, rest),
        _ => run_command(&mut cargo(root, &workload_args(args).iter().map(String::as_str).collect::<Vec<_>>())),
    }
}

/// The arguments of cargo that run the workloads, with the features that `args` ask for.
fn workload_args(args: &[String]) -> Vec<String> {
    let mut words: Vec<String> = ["run", "--release", "-p", "esker-bench"].map(String::from).into();
    // `--store a,b`, `--store=a,b`, `--fjall`, `--native`: whatever names a store, in whatever way.
    let named: Vec<&str> = args.iter().flat_map(|arg| arg.split(['=', ','])).collect();
    let names_one_of = |stores: &[&str]| stores.iter().any(|store| named.contains(store));
    let rivals = names_one_of(&RIVALS) || names_one_of(&["--fjall", "--compare"]);
    let native = names_one_of(&NATIVE) || names_one_of(&["--native"]);
    let features = [(rivals, "rivals"), (native, "native")];
    let features: Vec<_> = features.into_iter().filter_map(|(asked, feature)| asked.then_some(feature)).collect();
    if !features.is_empty() {
        words.extend(["--features".into(), features.join(",")]);
    }
    words.push("--".into());
    words.extend_from_slice(args);
    words
}

/// Runs the criterion benches of every crate that has some; `filters` are criterion's.
///
/// Each bench is named, since the harness of a library's unit tests would not take criterion's arguments.
fn micro(root: &Path, filters: &[String]) -> Result<(), String> {
    for (package, benches) in benches(root)? {
        let mut args = vec!["bench", "-p", &package];
        for bench in &benches {
            args.extend(["--bench", bench]);
        }
        args.push("--");
        args.extend(filters.iter().map(String::as_str));
        run_command(&mut cargo(root, &args))?;
    }
    Ok(())
}

/// Packages with files in `benches/`, and the names of those.
fn benches(root: &Path) -> Result<Vec<(String, Vec<String>)>, String> {
    let tree = crate::tidy::Tree::load(root)?;
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for manifest in tree.manifests() {
        let names = tree.targets(&manifest.directory, "benches");
        if !names.is_empty() {
            found.push((manifest.name.clone(), names));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(args: &str) -> String {
        workload_args(&args.split_whitespace().map(String::from).collect::<Vec<_>>()).join(" ")
    }

    #[test]
    fn a_rival_turns_its_feature_on_and_all_arguments_are_handed_on() {
        assert_eq!(words("fillseq --num 10"), "run --release -p esker-bench -- fillseq --num 10");
        assert_eq!(words("--fjall fillseq"), "run --release -p esker-bench --features rivals -- --fjall fillseq");
        for (args, features) in [
            ("--compare", "rivals"),
            ("--compare --native", "rivals,native"),
            ("--store=esker,redb", "rivals"),
            ("--store lmdb", "native"),
        ] {
            assert_eq!(words(args), format!("run --release -p esker-bench --features {features} -- {args}"));
        }
    }
}
