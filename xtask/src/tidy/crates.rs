//! What each package must have so that it can be used, and read, on its own; and the traps of cargo that we stay out of.

use super::source::{Source, words};
use super::tree::Manifest;
use super::{Problem, Tree};
use std::collections::BTreeMap;
use toml::Value;

/// Packages that nobody depends on, or only tests do: they need no example of use on their own.
const NO_EXAMPLE: [&str; 6] = ["esker-cli", "esker-bench", "esker-gate", "esker-metamorphic", "esker-testkit", "xtask"];
/// Programs; everything else in `crates/` is a library, with a README.
const PROGRAMS: [&str; 5] = ["esker-cli", "esker-bench", "esker-gate", "esker-metamorphic", "xtask"];

/// A program that is all test equipment, and that no test of the testkit's own crates is built with.
const USES_TESTKIT: &str = "crates/metamorphic/";

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut examples: BTreeMap<String, String> = BTreeMap::new();
    for manifest in tree.manifests() {
        let mut need = |holds: bool, path: &str, what: &str| {
            if !holds {
                problems.push(Problem::new(path, 0, what));
            }
        };
        let Manifest { name, directory, table } = &manifest;
        let path = manifest.path();
        let said = |section: &str, key: &str| table.get(section).and_then(|s| s.get(key));
        need(
            said("lints", "workspace") == Some(&Value::Boolean(true)),
            &path,
            "no `[lints] workspace = true`: the workspace's lints are not on",
        );
        if !PROGRAMS.contains(&name.as_str()) {
            need(said("package", "description").is_some(), &path, "no description");
            need(tree.text(&format!("{directory}/README.md")).is_some(), directory, "no README.md");
            let lib = format!("{directory}/src/lib.rs");
            let code = Source::new(&lib, tree.text(&lib).unwrap_or("")).code;
            let guarded = code.contains("#![forbid(unsafe_code)]") || code.contains("#![deny(unsafe_code)]");
            need(guarded, &lib, "neither `#![forbid(unsafe_code)]` nor `#![deny(unsafe_code)]`");
        }
        if !NO_EXAMPLE.contains(&name.as_str()) {
            let has_some = !tree.targets(directory, "examples").is_empty();
            need(has_some, directory, "no program in examples/ that uses the crate on its own");
        }
        for example in tree.targets(directory, "examples") {
            if let Some(other) = examples.insert(example.clone(), directory.clone()) {
                let what = format!("example `{example}` has the name of one in {other}: cargo builds both to one file");
                problems.push(Problem::new(directory, 0, what));
            }
        }
    }
    problems.extend(testkit_in_unit_tests(tree));
    problems
}

/// A unit test that used the testkit would see its own crate twice, as two crates with different types. `stress` has none of our types.
fn testkit_in_unit_tests(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    let is_ours = |path: &str| path.contains("/src/") && !path.starts_with(USES_TESTKIT);
    for source in tree.sources().filter(|source| is_ours(source.path)) {
        let typed = |at: &usize| !source.code[*at..].starts_with("esker_testkit::stress");
        problems.extend(words(&source.code, "esker_testkit").filter(typed).map(|at| {
            Problem::new(source.path, source.line(at), "the testkit's suites are called from tests/, not from src/")
        }));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[package]\nname = \"esker-wal\"\ndescription = \"logs\"\n[lints]\nworkspace = true\n";

    fn problems<const N: usize>(files: [(&str, &str); N]) -> Vec<String> {
        check(&Tree::of(files)).iter().map(Problem::to_string).collect()
    }

    #[test]
    fn a_library_has_all_that_a_stranger_needs() {
        let whole = [
            ("crates/wal/Cargo.toml", MANIFEST),
            ("crates/wal/README.md", "# wal"),
            ("crates/wal/src/lib.rs", "//! Logs.\n#![forbid(unsafe_code)]\n"),
            ("crates/wal/examples/journal.rs", "fn main() {}"),
        ];
        assert_eq!(problems(whole), [""; 0]);
        for (missing, expected) in
            [(1, "crates/wal: no README.md"), (2, "crates/wal/src/lib.rs: neither"), (3, "crates/wal: no program")]
        {
            let mut files = whole;
            files[missing] = ("crates/wal/other.txt", "");
            let found = problems(files);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}");
        }
    }

    #[test]
    fn a_forbid_in_a_comment_is_none() {
        let tree = [
            ("crates/wal/Cargo.toml", MANIFEST),
            ("crates/wal/README.md", "# wal"),
            ("crates/wal/src/lib.rs", "//! #![forbid(unsafe_code)]\n"),
            ("crates/wal/examples/journal.rs", ""),
        ];
        assert_eq!(problems(tree).len(), 1);
    }

    #[test]
    fn programs_need_only_the_lints_and_examples_need_names_of_their_own() {
        assert_eq!(
            problems([("xtask/Cargo.toml", "[package]\nname = \"xtask\"\n")]),
            ["xtask/Cargo.toml: no `[lints] workspace = true`: the workspace's lints are not on"]
        );
        let program = "[package]\nname = \"xtask\"\n[lints]\nworkspace = true\n";
        let twice = [
            ("crates/a/Cargo.toml", program),
            ("crates/a/examples/basic.rs", ""),
            ("crates/b/Cargo.toml", program),
            ("crates/b/examples/basic.rs", ""),
        ];
        assert!(problems(twice)[0].starts_with("crates/b: example `basic` has the name of one in crates/a"));
    }

    #[test]
    fn the_testkit_stays_out_of_unit_tests() {
        let found = problems([
            ("crates/wal/src/reader/tests.rs", "// esker_testkit is fine here\n\nuse esker_testkit::vfs;"),
            ("crates/wal/src/writer/tests.rs", "use esker_testkit::stress;"),
            ("crates/wal/tests/suite.rs", "use esker_testkit::vfs;"),
        ]);
        assert_eq!(
            found,
            ["crates/wal/src/reader/tests.rs:3: the testkit's suites are called from tests/, not from src/"]
        );
    }
}
