//! All mutants of a file in one: each behind a switch, of which a run turns one on.
//!
//! ```text
//! a + b * c                                        two mutants of +, 7 and 8, and one of *, 9
//! (if on(7) { a - b * c } else if on(8) { a * b * c } else { a + (if on(9) { b + c } else { b * c }) })
//! ```
//! What a switch leads to is text as cargo-mutants would have it, without switches of its own: only one is on at a time. Nothing is taken out of the file, so all is done by insertions.

use serde_json::Value;
use std::ops::Range;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// As `cargo mutants --list --json` has it.
#[derive(Debug, Clone)]
pub(super) struct Mutant {
    pub(super) name: String,
    /// Its path in the workspace.
    pub(super) file: String,
    genre: String,
    replacement: String,
    start: Point,
    end: Point,
}

/// Both count from 1, and the column counts characters.
#[derive(Debug, Clone, Copy)]
struct Point {
    line: usize,
    column: usize,
}

impl Mutant {
    /// All of a list.
    pub(super) fn list(json: &str) -> Result<Vec<Self>, String> {
        let list: Vec<Value> = serde_json::from_str(json).map_err(|error| format!("the list of mutants: {error}"))?;
        list.iter().map(|one| Self::of(one).ok_or_else(|| format!("the list of mutants: {one}"))).collect()
    }

    fn of(one: &Value) -> Option<Self> {
        let text = |key: &str| one[key].as_str().map(str::to_owned);
        let number = |at: &Value| at.as_u64().map(|number| number as usize);
        let point = |at: &Value| Some(Point { line: number(&at["line"])?, column: number(&at["column"])? });
        Some(Self {
            name: text("name")?,
            file: text("file")?,
            genre: text("genre")?,
            replacement: text("replacement")?,
            start: point(&one["span"]["start"])?,
            end: point(&one["span"]["end"])?,
        })
    }
}

/// A file with switches.
#[derive(Debug, Default)]
pub(super) struct Switched {
    pub(super) text: String,
    /// What each switch leads to, in bytes of `text`, by number.
    arms: Vec<(u32, Range<usize>)>,
    /// What was put into parentheses, with the numbers of the switches in front of it.
    sites: Vec<(Vec<u32>, Range<usize>)>,
    /// Which of these are patterns that got a guard.
    patterns: Vec<usize>,
}

impl Switched {
    /// The switches to which an error at this byte is owed: that which leads there, or those of the least expression around it.
    pub(super) fn blamed(&self, at: usize) -> Vec<u32> {
        if let Some((number, _)) = self.arms.iter().find(|(_, range)| range.contains(&at)) {
            return vec![*number];
        }
        let around = self.sites.iter().filter(|(_, range)| range.contains(&at));
        around.min_by_key(|(_, range)| range.len()).map_or_else(Vec::new, |(numbers, _)| numbers.clone())
    }

    /// Those of the first arm that got a guard behind this byte: a `match` that lacks an arm is told of where it begins.
    pub(super) fn blamed_behind(&self, at: usize) -> Vec<u32> {
        let arms = self.patterns.iter().map(|site| &self.sites[*site]).filter(|(_, range)| range.start > at);
        arms.min_by_key(|(_, range)| range.start).map_or_else(Vec::new, |(numbers, _)| numbers.clone())
    }

    /// The numbers of all switches that there are.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.arms.iter().map(|(number, _)| *number)
    }
}

/// Text, piece by piece, each with the switch that leads there.
type Parts = Vec<(Option<u32>, String)>;

/// What gets switches, and which.
struct Site<'a> {
    range: Range<usize>,
    form: Form,
    there: Vec<(u32, &'a Mutant)>,
}

/// What is put into the file at a place.
struct Insertion {
    at: usize,
    /// Ends come before beginnings at the same place, of beginnings the outer one, of ends the inner one first.
    rank: (bool, i64),
    parts: Parts,
    site: usize,
}

/// Puts the mutants, each with the number of its switch, into their file. Those for which there is no way are left out.
pub(super) fn switched(text: &str, mutants: &[(u32, &Mutant)]) -> Result<Switched, String> {
    let file = syn::parse_file(text).map_err(|error| error.to_string())?;
    let lines = Lines::of(text);
    let mut nodes = Nodes { lines: &lines, found: Vec::new() };
    nodes.visit_file(&file);

    let mut sites: Vec<Site<'_>> = Vec::new();
    for &(number, mutant) in mutants {
        let span = lines.at(mutant.start)..lines.at(mutant.end);
        let Some((range, form)) = nodes.site(&mutant.genre, &span) else { continue };
        match sites.iter_mut().find(|site| site.range == range && site.form == form) {
            Some(site) => site.there.push((number, mutant)),
            None => sites.push(Site { range, form, there: vec![(number, mutant)] }),
        }
    }
    let mut insertions = Vec::new();
    for (at, site) in sites.iter().enumerate() {
        let (before, behind) = site.around(text, &lines);
        let (Range { start, end }, outer) = (site.range.clone(), site.range.len() as i64);
        insertions.push(Insertion { at: start, rank: (true, -outer - site.form.outer()), parts: before, site: at });
        insertions.push(Insertion { at: end, rank: (false, outer), parts: behind, site: at });
    }
    insertions.sort_by_key(|insertion| (insertion.at, insertion.rank));

    let mut made = Switched {
        sites: sites.iter().map(|site| (site.there.iter().map(|(number, _)| *number).collect(), 0..0)).collect(),
        patterns: (0..sites.len()).filter(|at| sites[*at].form == Form::Pattern).collect(),
        ..Switched::default()
    };
    let mut from = 0;
    for Insertion { at, rank, parts, site } in insertions {
        made.text.push_str(&text[from..at]);
        from = at;
        if rank.0 {
            made.sites[site].1.start = made.text.len();
        }
        for (number, part) in parts {
            let begin = made.text.len();
            made.text.push_str(&part);
            made.arms.extend(number.map(|number| (number, begin..made.text.len())));
        }
        made.sites[site].1.end = made.text.len();
    }
    made.text.push_str(&text[from..]);
    Ok(made)
}

/// How switches are put around something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// An expression, beside what it is with other text in it.
    Expression,
    /// The beginning of a function's body: it returns something else.
    Body,
    /// The guard of an arm, which is another one, or never passes.
    Guard,
    /// The end of the pattern of an arm without a guard, which gets one.
    Pattern,
}

impl Form {
    /// What begins where a body begins lies within it.
    fn outer(self) -> i64 {
        if self == Self::Body { 1 << 40 } else { 0 }
    }
}

impl Site<'_> {
    /// What stands before it and behind it.
    fn around(&self, text: &str, lines: &Lines<'_>) -> (Parts, Parts) {
        let on = |number: u32| format!("crate::switch::on({number})");
        let mut before = Vec::new();
        let mut behind = Vec::new();
        match self.form {
            Form::Expression => {
                before.push((None, "(".to_owned()));
                for &(number, mutant) in &self.there {
                    let other = other(text, &self.range, mutant, lines);
                    before.push((Some(number), format!("if {} {{ {other} }}", on(number))));
                    before.push((None, " else ".to_owned()));
                }
                before.push((None, "{ ".to_owned()));
                behind.push((None, " })".to_owned()));
            }
            Form::Body => {
                for &(number, mutant) in &self.there {
                    let other = &mutant.replacement;
                    before.push((Some(number), format!("if {} {{ return {other}; }} ", on(number))));
                }
            }
            Form::Guard => {
                before.push((None, "(".to_owned()));
                for &(number, mutant) in &self.there {
                    let test =
                        if mutant.replacement == "true" { on(number) + " || " } else { format!("!{} && ", on(number)) };
                    before.push((Some(number), test + "("));
                    behind.push((None, ")".to_owned()));
                }
                behind.push((None, ")".to_owned()));
            }
            Form::Pattern => {
                let tests: Vec<String> = self.there.iter().map(|(number, _)| format!("!{}", on(*number))).collect();
                behind.push((self.there.first().map(|(number, _)| *number), format!(" if {}", tests.join(" && "))));
            }
        }
        (before, behind)
    }
}

/// The expression with the mutant's text in it.
fn other(text: &str, range: &Range<usize>, mutant: &Mutant, lines: &Lines<'_>) -> String {
    let (start, mut end) = (lines.at(mutant.start), lines.at(mutant.end));
    if mutant.genre == "StructField" {
        let rest = &text[end..range.end];
        end += rest.len() - rest.trim_start().strip_prefix(',').unwrap_or(rest).len();
    }
    format!("{}{}{}", &text[range.start..start], mutant.replacement, &text[end..range.end])
}

/// Where lines begin, to find a byte by line and column.
struct Lines<'a>(Vec<(usize, &'a str)>);

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let mut at = 0;
        let lines = text.split_inclusive('\n').map(|line| {
            at += line.len();
            (at - line.len(), line)
        });
        Self(lines.collect())
    }

    fn at(&self, point: Point) -> usize {
        let Some((begin, line)) = self.0.get(point.line - 1) else {
            return self.0.last().map_or(0, |(at, line)| at + line.len());
        };
        begin + line.char_indices().nth(point.column - 1).map_or(line.len(), |(at, _)| at)
    }

    fn range(&self, span: proc_macro2::Span) -> Range<usize> {
        let point = |at: proc_macro2::LineColumn| self.at(Point { line: at.line, column: at.column + 1 });
        point(span.start())..point(span.end())
    }
}

/// Where switches can be put: by what kind of mutant, where that begins, what goes into parentheses, and how.
struct Nodes<'a> {
    lines: &'a Lines<'a>,
    found: Vec<(&'static str, usize, Range<usize>, Form)>,
}

impl Nodes<'_> {
    fn site(&self, genre: &str, span: &Range<usize>) -> Option<(Range<usize>, Form)> {
        if genre == "FnValue" {
            return Some((span.clone(), Form::Body));
        }
        let there = self.found.iter().filter(|(kind, start, ..)| *kind == genre && *start == span.start);
        there.min_by_key(|(.., range, _)| range.len()).map(|(.., range, form)| (range.clone(), *form))
    }

    fn push(&mut self, genre: &'static str, at: proc_macro2::Span, whole: Range<usize>, form: Form) {
        let at = self.lines.range(at).start;
        self.found.push((genre, at, whole, form));
    }
}

impl<'ast> Visit<'ast> for Nodes<'_> {
    fn visit_expr_binary(&mut self, node: &'ast syn::ExprBinary) {
        // A chain with `let` can't be taken apart.
        if !has_let(&node.left) && !has_let(&node.right) {
            self.push("BinaryOperator", node.op.span(), self.lines.range(node.span()), Form::Expression);
        }
        visit::visit_expr_binary(self, node);
    }

    fn visit_expr_unary(&mut self, node: &'ast syn::ExprUnary) {
        self.push("UnaryOperator", node.op.span(), self.lines.range(node.span()), Form::Expression);
        visit::visit_expr_unary(self, node);
    }

    fn visit_expr_struct(&mut self, node: &'ast syn::ExprStruct) {
        for field in &node.fields {
            self.push("StructField", field.span(), self.lines.range(node.span()), Form::Expression);
        }
        visit::visit_expr_struct(self, node);
    }

    fn visit_arm(&mut self, node: &'ast syn::Arm) {
        match &node.guard {
            Some((_, guard)) if !has_let(guard) => {
                self.push("MatchArmGuard", guard.span(), self.lines.range(guard.span()), Form::Guard);
                self.push("MatchArm", node.span(), self.lines.range(guard.span()), Form::Guard);
            }
            Some(_) => {}
            None => {
                let end = self.lines.range(node.pat.span()).end;
                self.push("MatchArm", node.span(), end..end, Form::Pattern);
            }
        }
        visit::visit_arm(self, node);
    }
}

fn has_let(expr: &syn::Expr) -> bool {
    match expr {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mutant of the nth `of` in the text.
    fn mutant(text: &str, genre: &str, of: &str, nth: usize, replacement: &str) -> Mutant {
        let (begin, _) = text.match_indices(of).nth(nth).unwrap();
        let point = |at: usize| {
            let line = text[..at].matches('\n').count() + 1;
            let column = text[..at].rsplit('\n').next().unwrap().chars().count() + 1;
            Point { line, column }
        };
        let [name, file] = [(); 2].map(|()| String::new());
        let (start, end) = (point(begin), point(begin + of.len()));
        Mutant { name, file, genre: genre.into(), replacement: replacement.into(), start, end }
    }

    fn made(text: &str, mutants: &[Mutant]) -> Switched {
        let numbered: Vec<(u32, &Mutant)> = (7..).zip(mutants).collect();
        let made = switched(text, &numbered).unwrap();
        syn::parse_file(&made.text).unwrap_or_else(|error| panic!("{error}:\n{}", made.text));
        made
    }

    #[test]
    fn operators_are_switched_with_all_that_lies_in_them() {
        let text = "fn f() -> u8 { a + b * c }";
        let mutants = [("+", "-"), ("+", "*"), ("*", "+")].map(|(of, to)| mutant(text, "BinaryOperator", of, 0, to));
        let found = made(text, &mutants).text.replace("crate::switch::", "");
        let expected = "fn f() -> u8 { (if on(7) { a - b * c } else if on(8) { a * b * c } else { a + (if on(9) { b + c } else { b * c }) }) }";
        assert_eq!(found, expected);
    }

    #[test]
    fn bodies_guards_arms_fields_and_signs_are_switched() {
        let text = "fn f(x: u8) -> u8 { match x { 1 if q => 2, 3 => !x, _ => S { a: 1, b: 2, ..s } } } // é";
        let mutants = [
            mutant(text, "FnValue", "match x { 1 if q => 2, 3 => !x, _ => S { a: 1, b: 2, ..s } }", 0, "0"),
            mutant(text, "MatchArmGuard", "q", 0, "true"),
            mutant(text, "MatchArmGuard", "q", 0, "false"),
            mutant(text, "MatchArm", "3 => !x,", 0, ""),
            mutant(text, "UnaryOperator", "!", 0, ""),
            mutant(text, "StructField", "a: 1", 0, ""),
        ];
        let found = made(text, &mutants).text.replace("crate::switch::", "");
        let expected = "fn f(x: u8) -> u8 { if on(7) { return 0; } match x { 1 if (on(8) || (!on(9) && (q))) => 2, 3 if !on(10) => \
                        (if on(11) { x } else { !x }), _ => (if on(12) { S {  b: 2, ..s } } else { S { a: 1, b: 2, ..s } }) } } // é";
        assert_eq!(found, expected);
    }

    #[test]
    fn a_chain_with_let_is_left_as_it_is() {
        let text = "fn f() { if a && let Some(b) = c && d == e {} }";
        let mutants = [("&&", 0, "||"), ("&&", 1, "||"), ("==", 0, "!=")];
        let mutants = mutants.map(|(of, nth, to)| mutant(text, "BinaryOperator", of, nth, to));
        let made = made(text, &mutants);
        assert_eq!(made.numbers().collect::<Vec<_>>(), [9]);
        assert!(made.text.contains("&& (if crate::switch::on(9) { d != e } else { d == e })"), "{}", made.text);
    }

    #[test]
    fn errors_are_owed_to_the_nearest_switch() {
        let text = "fn f() { ä(1); a + b * c }";
        let mutants = [("+", "-"), ("*", "+")].map(|(of, to)| mutant(text, "BinaryOperator", of, 0, to));
        let made = made(text, &mutants);
        let blamed = |part: &str| made.blamed(made.text.find(part).unwrap());
        assert_eq!(blamed("a - b"), [7]);
        assert_eq!(blamed("b + c"), [8]);
        assert_eq!(blamed("else { a +"), [7]);
        assert_eq!(blamed("else { b * c"), [8]);
        assert_eq!(blamed("ä"), [0u32; 0]);
    }

    #[test]
    fn a_match_that_lacks_an_arm_is_owed_to_the_next_one() {
        let text = "fn f() { match a { 1 => 2, _ => 3 } match b { 4 => 5, _ => 6 } }";
        let mutants = ["1 => 2,", "4 => 5,"].map(|of| mutant(text, "MatchArm", of, 0, ""));
        let made = made(text, &mutants);
        assert_eq!(
            [" a {", " b {", "6 }"].map(|part| made.blamed_behind(made.text.find(part).unwrap())),
            [vec![7], vec![8], vec![]]
        );
    }
}
