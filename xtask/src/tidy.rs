//! `cargo xtask tidy`: rules of the project that neither the compiler nor clippy know.
//!
//! All files are read once into a [`Tree`]; a rule is a function from the tree to the [`Problem`]s it finds, so each is
//! tested on a few made-up files. `cargo test -p xtask` holds the real workspace to the same rules.

mod crates;
mod edges;
mod links;
mod loose_ends;
mod outside_world;
mod source;
mod tree;
mod unsafe_code;

pub(crate) use tree::Tree;

use std::fmt;
use std::path::Path;

/// One breach of a rule, in one line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Problem {
    path: String,
    /// 1 for the first; 0 if the whole file is meant.
    line: usize,
    what: String,
}

impl Problem {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.into(), line, what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

type Rule = fn(&Tree) -> Vec<Problem>;

const RULES: [Rule; 7] = [
    edges::check,
    crates::check,
    outside_world::check,
    unsafe_code::check,
    loose_ends::check,
    links::check_links,
    links::check_machine_paths,
];

/// Checks the workspace and prints what is wrong, one line each.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let mut problems = check(&Tree::load(root)?);
    let strange = crate::record::rows_of_no_commit(root).into_iter();
    problems.extend(strange.map(|(line, commit)| {
        Problem::new(crate::record::PAGE, line, format!("a record of commit {commit}, which is not in the history"))
    }));
    for problem in &problems {
        eprintln!("{problem}");
    }
    match problems.len() {
        0 => Ok(()),
        n => Err(format!("tidy: {n} to put right")),
    }
}

fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems: Vec<_> = RULES.iter().flat_map(|rule| rule(tree)).collect();
    problems.sort();
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let tree = Tree::load(&crate::workspace_root()).expect("the workspace is readable");
        let problems: Vec<_> = check(&tree).iter().map(Problem::to_string).collect();
        assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    }
}
