//! The allowed dependencies, crate by crate: the layers of `docs/architecture.md` as one table.

use super::{Problem, Tree};
use toml::{Table, Value};

/// What a crate may depend on.
struct Allowed {
    name: &'static str,
    /// Edges between our crates go to strictly lower layers.
    layer: u8,
    ours: &'static [&'static str],
    third_party: &'static [&'static str],
    /// Third-party crates that may only be there as `optional`, so that nobody gets them unasked.
    optional: &'static [&'static str],
}

#[rustfmt::skip]
const ALLOWED: [Allowed; 17] = [
    Allowed { name: "esker-format", layer: 0, ours: &[],
        third_party: &["byteorder", "crc32c", "thiserror"], optional: &[] },
    Allowed { name: "esker-vfs", layer: 0, ours: &[],
        third_party: &["libc", "memmap2", "rustix"], optional: &[] },
    Allowed { name: "esker-iterator", layer: 1, ours: &["esker-format"],
        third_party: &[], optional: &[] },
    Allowed { name: "esker-wal", layer: 1, ours: &["esker-format", "esker-vfs"],
        third_party: &["byteorder", "thiserror"], optional: &[] },
    Allowed { name: "esker-memtable", layer: 2, ours: &["esker-format", "esker-iterator"],
        third_party: &["crossbeam-skiplist", "rustix"], optional: &[] },
    Allowed { name: "esker-sstable", layer: 2, ours: &["esker-format", "esker-vfs", "esker-iterator"],
        third_party: &["byteorder", "lz4_flex", "quick_cache", "thiserror"], optional: &["serde", "zstd"] },
    Allowed { name: "esker-blob", layer: 2, ours: &["esker-format", "esker-vfs"],
        third_party: &["thiserror"], optional: &[] },
    Allowed { name: "esker-manifest", layer: 2, ours: &["esker-format", "esker-vfs", "esker-wal"],
        third_party: &["byteorder", "thiserror"], optional: &["serde"] },
    Allowed { name: "esker-compaction", layer: 3,
        ours: &["esker-format", "esker-vfs", "esker-iterator", "esker-sstable", "esker-blob", "esker-manifest"],
        third_party: &["thiserror"], optional: &["serde"] },
    Allowed { name: "esker", layer: 4,
        ours: &["esker-format", "esker-vfs", "esker-iterator", "esker-wal", "esker-memtable", "esker-sstable",
            "esker-blob", "esker-manifest", "esker-compaction"],
        third_party: &["arc-swap", "parking_lot", "thiserror"], optional: &["serde"] },
    // For its dumps the tool reads single files by the public face of their crates.
    Allowed { name: "esker-cli", layer: 5,
        ours: &["esker", "esker-format", "esker-vfs", "esker-wal", "esker-sstable", "esker-blob", "esker-manifest"],
        third_party: &["clap", "comfy-table", "csv", "indicatif", "serde", "serde_json"],
        optional: &[] },
    Allowed { name: "esker-bench", layer: 5, ours: &["esker"],
        third_party: &["clap", "comfy-table", "hdrhistogram", "indicatif", "rustix", "serde", "serde_json", "tempfile"],
        optional: &["fjall", "heed", "redb", "rocksdb", "sled", "surrealkv", "tokio"] },
    // What it counts are single crates too, by their public face.
    Allowed { name: "esker-gate", layer: 5,
        ours: &["esker", "esker-format", "esker-vfs", "esker-iterator", "esker-wal", "esker-memtable", "esker-sstable",
            "esker-compaction"],
        third_party: &["tempfile"], optional: &[] },
    // Its targets are the decoders of single crates, by their public face.
    Allowed { name: "esker-fuzz", layer: 5,
        ours: &["esker", "esker-format", "esker-vfs", "esker-iterator", "esker-wal", "esker-sstable", "esker-blob",
            "esker-manifest"],
        third_party: &["tempfile"], optional: &[] },
    // A program that only attacks the engine: the one to which the testkit is an ordinary dependency.
    Allowed { name: "esker-metamorphic", layer: 5, ours: &["esker", "esker-testkit"],
        third_party: &["clap", "rustix", "tempfile"], optional: &[] },
    // Only ever a dev-dependency, so it may sit beside the layers it tests.
    Allowed { name: "esker-testkit", layer: 2, ours: &["esker-format", "esker-vfs", "esker-iterator"],
        third_party: &["proptest", "tempfile"], optional: &[] },
    Allowed { name: "xtask", layer: 0, ours: &[],
        third_party: &["clap", "comfy-table", "indicatif", "proc-macro2", "serde_json", "syn", "toml"], optional: &[] },
];

/// What tests, examples and benches of every crate may use besides.
const DEV: [&str; 6] = ["esker-testkit", "criterion", "loom", "proptest", "serde_json", "tempfile"];

/// Compares every `Cargo.toml` with the table, and the workspace's dependencies with the decision pages.
pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for manifest in tree.manifests() {
        let path = manifest.path();
        let Some(allowed) = ALLOWED.iter().find(|allowed| allowed.name == manifest.name) else {
            let what = format!("crate `{}` is not in the table of xtask/src/tidy/edges.rs", manifest.name);
            problems.push(Problem::new(&path, 0, what));
            continue;
        };
        for (kind, name, spec) in dependencies(&manifest.table) {
            let table = spec.as_table();
            if table.and_then(|t| t.get("workspace")) != Some(&Value::Boolean(true)) {
                let what = format!("`{name}` must be `{name}.workspace = true`: versions stand in the root Cargo.toml");
                problems.push(Problem::new(&path, 0, what));
            }
            let optional = table.and_then(|t| t.get("optional")) == Some(&Value::Boolean(true));
            let fine = allowed.ours.contains(&name)
                || allowed.third_party.contains(&name)
                || (optional && allowed.optional.contains(&name))
                || (kind == "dev-dependencies" && DEV.contains(&name));
            if !fine {
                let what = format!("[{kind}] `{}` must not depend on `{name}`{}", allowed.name, hint(allowed, name));
                problems.push(Problem::new(&path, 0, what));
            }
        }
    }
    problems.extend(undecided(tree));
    problems
}

/// Why not, where the table tells.
fn hint(from: &Allowed, name: &str) -> String {
    let target = ALLOWED.iter().find(|allowed| allowed.name == name);
    match target {
        Some(_) if name == "esker-testkit" => ": testkit is for [dev-dependencies]".into(),
        Some(target) if target.layer >= from.layer => {
            format!(": that edge goes up, from layer {} to layer {}", from.layer, target.layer)
        }
        Some(_) => ": no such edge in docs/architecture.md".into(),
        None if from.optional.contains(&name) => ": only as `optional = true`".into(),
        None => ": a new dependency needs a page in docs/decisions and a place in the table".into(),
    }
}

/// All dependencies of a package: the section's name, the dependency's, and what is said about it.
fn dependencies(package: &Table) -> Vec<(&'static str, &str, &Value)> {
    let per_target = package.get("target").and_then(Value::as_table).into_iter().flatten();
    let tables = std::iter::once(package).chain(per_target.filter_map(|(_, target)| target.as_table()));
    let mut found = Vec::new();
    for table in tables {
        for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
            let section = table.get(kind).and_then(Value::as_table);
            found.extend(section.into_iter().flatten().map(|(name, spec)| (kind, name.as_str(), spec)));
        }
    }
    found
}

/// Third-party dependencies of the workspace that no page in `docs/decisions` names in backticks.
fn undecided(tree: &Tree) -> Vec<Problem> {
    let pages: Vec<_> = tree.texts().filter(|(path, _)| path.starts_with("docs/decisions/")).collect();
    let root: Table = tree.text("Cargo.toml").and_then(|text| text.parse().ok()).unwrap_or_default();
    let declared = root.get("workspace").and_then(|w| w.get("dependencies")).and_then(Value::as_table);
    let names = declared.into_iter().flatten().filter(|(_, spec)| spec.get("path").is_none()).map(|(name, _)| name);
    let undecided = names.filter(|name| {
        let quoted = format!("`{name}`");
        !pages.iter().any(|(_, text)| text.contains(&quoted))
    });
    undecided
        .map(|name| Problem::new("Cargo.toml", 0, format!("`{name}`: no page in docs/decisions says why it is used")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a package of this name and these lines.
    fn problems(name: &str, lines: &str) -> Vec<String> {
        let text = format!("[package]\nname = \"{name}\"\n{lines}");
        let tree = Tree::of([("crates/x/Cargo.toml", &text)]);
        check(&tree).iter().map(|problem| problem.what.clone()).collect()
    }

    #[test]
    fn the_table_goes_strictly_down() {
        for from in &ALLOWED {
            for name in from.ours {
                let to = ALLOWED.iter().find(|to| to.name == *name).expect(name);
                assert!(to.layer < from.layer, "{} -> {name}", from.name);
            }
        }
    }

    #[test]
    fn an_edge_of_the_table_is_fine_and_any_other_is_named() {
        let fine = "[dependencies]\nesker-format.workspace = true\nthiserror = { workspace = true }\n";
        assert_eq!(problems("esker-wal", fine), [""; 0]);
        for (line, expected) in [
            ("[dependencies]\nesker-sstable.workspace = true", "that edge goes up, from layer 1 to layer 2"),
            ("[build-dependencies]\nesker-iterator.workspace = true", "that edge goes up, from layer 1 to layer 1"),
            ("[dependencies]\nesker-testkit.workspace = true", "testkit is for [dev-dependencies]"),
            ("[target.'cfg(unix)'.dependencies]\nlibc.workspace = true", "a new dependency needs a page"),
            ("[dev-dependencies]\nesker.workspace = true", "that edge goes up"),
            ("[dependencies]\nthiserror = \"2\"", "`thiserror.workspace = true`"),
        ] {
            let found = problems("esker-wal", line);
            assert!(found.len() == 1 && found[0].contains(expected), "{line}: {found:?}");
        }
        assert!(problems("esker-compaction", "[dependencies]\nesker-wal.workspace = true")[0].contains("no such edge"));
        assert!(problems("esker-new", "")[0].contains("not in the table"));
    }

    #[test]
    fn tests_may_use_the_testkit_and_rivals_stay_optional() {
        assert_eq!(problems("esker-wal", "[dev-dependencies]\nesker-testkit.workspace = true"), [""; 0]);
        assert!(problems("esker-bench", "[dependencies]\nfjall.workspace = true")[0].contains("only as `optional"));
        let optional = "[dependencies]\nfjall = { workspace = true, optional = true }";
        assert_eq!(problems("esker-bench", optional), [""; 0]);
    }

    #[test]
    fn a_dependency_without_a_decision_page_is_found() {
        let root = "[workspace.dependencies]\nesker = { path = \"crates/engine\" }\ntoml = \"1\"\ncsv = \"1\"\n";
        let tree = Tree::of([("Cargo.toml", root), ("docs/decisions/0001-x.md", "We take `toml`, not csv.")]);
        let found: Vec<_> = check(&tree).iter().map(Problem::to_string).collect();
        assert_eq!(found, ["Cargo.toml: `csv`: no page in docs/decisions says why it is used"]);
    }
}
