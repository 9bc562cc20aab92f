//! Nothing half done is taken, and every file opens with what it is.

use super::source::{Source, words};
use super::{Problem, Tree};

/// Macros that stand for work not done, or for looking around.
const MACROS: [&str; 3] = ["todo", "unimplemented", "dbg"];
/// Marks in comments that put something off.
const MARKS: [&str; 2] = ["FIXME", "XXX"];
/// Past 600 lines a file has a seam somewhere; past this it is too late to say so kindly.
const LINES_MAX: usize = 900;

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    tree.sources().flat_map(|source| check_source(&source)).collect()
}

fn check_source(source: &Source<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut found = |offset: usize, what: String| problems.push(Problem::new(source.path, source.line(offset), what));
    for name in MACROS {
        words(&source.code, name)
            .filter(|at| source.code[at + name.len()..].starts_with('!'))
            .for_each(|at| found(at, format!("`{name}!` is left over")));
    }
    for (at, _) in source.code.match_indices("#[ignore") {
        found(at, "an ignored test tests nothing: make it pass, or take it out".into());
    }
    for attribute in ["[allow(", "[expect("] {
        for (at, _) in source.code.match_indices(attribute) {
            let text = source.code[at..].split(']').next().unwrap_or("");
            if words(text, "reason").next().is_none() {
                found(at, "a lint is turned off without `reason = \"..\"`".into());
            }
        }
    }
    for mark in MARKS {
        words(&source.comments, mark).for_each(|at| found(at, format!("`{mark}` is left over: do it now, or file it")));
    }
    let lines = source.text.lines().count();
    if lines > LINES_MAX {
        problems.push(Problem::new(source.path, 0, format!("{lines} lines, at most {LINES_MAX}: find the seam")));
    }
    let is_unit_tests = source.path.ends_with("/tests.rs");
    if !source.text.starts_with("//!") && !is_unit_tests {
        problems.push(Problem::new(source.path, 1, "does not begin with a module comment `//!`"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let mut problems = check(&Tree::of([("x.rs", text)]));
        problems.sort();
        problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn what_was_left_over_is_found_where_it_counts() {
        let text = "//! Says todo!() and #[ignore] in a comment.\nfn f() { todo!() }\n#[ignore = \"slow\"]\nfn t() {}\n// FIXME later\n";
        assert_eq!(
            problems(text),
            [
                "x.rs:2: `todo!` is left over",
                "x.rs:3: an ignored test tests nothing: make it pass, or take it out",
                "x.rs:5: `FIXME` is left over: do it now, or file it",
            ]
        );
        assert_eq!(problems("//! Fine.\nf(\"XXX todo!\", todo, my_todo!());\n"), [""; 0]);
    }

    #[test]
    fn a_lint_is_turned_off_for_a_reason() {
        let text = "//! Lints.\n#[expect(unsafe_code, reason = \"maps\")]\n#![allow(dead_code)]\n";
        assert_eq!(problems(text), ["x.rs:3: a lint is turned off without `reason = \"..\"`"]);
    }

    #[test]
    fn a_file_says_what_it_is_and_stays_short() {
        assert_eq!(problems("fn f() {}\n"), ["x.rs:1: does not begin with a module comment `//!`"]);
        let long = format!("//! Long.\n{}", "x();\n".repeat(LINES_MAX));
        assert_eq!(problems(&long), ["x.rs: 901 lines, at most 900: find the seam"]);
    }
}
