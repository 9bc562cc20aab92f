//! `docs/stress.md`, to which what was tried is added, with the commit that it was tried at.

use crate::output;
use std::path::Path;

pub(crate) const PAGE: &str = "docs/stress.md";

/// What a record of a run begins with: where the sources stood.
pub(crate) struct Record {
    commit: String,
}

/// The page as it stands.
pub(crate) fn page(root: &Path) -> Result<String, String> {
    std::fs::read_to_string(root.join(PAGE)).map_err(|error| format!("{PAGE}: {error}"))
}

impl Record {
    /// Of what is checked out. With changes that no commit has there is nothing that a row could name; those of the page itself are earlier records.
    pub(crate) fn of_head(root: &Path) -> Result<Self, String> {
        let but_the_page = format!(":(exclude){PAGE}");
        let status = ["status", "--porcelain", "--untracked-files=no", "--", ".", &but_the_page];
        if !output(root, "git", &status)?.is_empty() {
            return Err("--record names the commit, but there are changes that are not committed".into());
        }
        Ok(Self { commit: output(root, "git", &["rev-parse", "--short", "HEAD"])? })
    }

    /// Changes the page; `change` is given the page, and what each row of it begins with.
    pub(crate) fn write(
        &self,
        root: &Path,
        change: impl FnOnce(&str, &str) -> Result<String, String>,
    ) -> Result<(), String> {
        let path = root.join(PAGE);
        let page = page(root)?;
        let date = output(root, "date", &["-u", "+%F"])?;
        let begin = format!("| {date} | {} |", self.commit);
        let page = change(&page, &begin).map_err(|error| format!("{PAGE}: {error}"))?;
        // Whole or not at all: the rows are the record.
        let new = path.with_extension("md.new");
        std::fs::write(&new, page)
            .and_then(|()| std::fs::rename(&new, &path))
            .map_err(|error| format!("{PAGE}: {error}"))
    }

    /// Adds `rows`, cells behind date and commit, to the table that `<!-- end of NAME -->` closes.
    pub(crate) fn add(&self, root: &Path, name: &str, rows: &[String]) -> Result<(), String> {
        self.write(root, |page, begin| with_rows(page, name, begin, rows))
    }
}

/// Rows of the page that name a commit which is not part of the history; each with its line, from 1. Where the history is not there, or not whole, nothing is known.
pub(crate) fn rows_of_no_commit(root: &Path) -> Vec<(usize, String)> {
    let git = |args: &[&str]| output(root, "git", args);
    if git(&["rev-parse", "--is-shallow-repository"]).map_or(true, |shallow| shallow.trim() != "false") {
        return Vec::new();
    }
    let page = std::fs::read_to_string(root.join(PAGE)).unwrap_or_default();
    let rows = page.lines().zip(1..).filter_map(|(row, line)| Some((line, commit_of(row)?)));
    let rows = rows.filter(|(_, commit)| git(&["merge-base", "--is-ancestor", commit, "HEAD"]).is_err());
    rows.map(|(line, commit)| (line, commit.to_owned())).collect()
}

/// The commit that a row of a record names.
fn commit_of(row: &str) -> Option<&str> {
    let (date, rest) = row.strip_prefix("| ")?.split_once(" | ")?;
    let is_date = date.len() == 10 && date.chars().all(|c| c.is_ascii_digit() || c == '-');
    let commit = rest.split(" | ").next()?;
    (is_date && commit.len() >= 7 && commit.chars().all(|c| c.is_ascii_hexdigit())).then_some(commit)
}

fn with_rows(page: &str, name: &str, begin: &str, rows: &[String]) -> Result<String, String> {
    let end = format!("<!-- end of {name} -->\n");
    let (head, tail) = page.split_once(&end).ok_or_else(|| format!("the end of {name} is not there"))?;
    let rows: String = rows.iter().map(|row| format!("{begin} {row} |\n")).collect();
    Ok(format!("{head}{rows}{end}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_names_its_commit() {
        assert_eq!(commit_of("| 2026-11-27 | 65de0c0 | errno | 7295 | 0 | 72 | 3 |"), Some("65de0c0"));
        assert_eq!(commit_of("| date | commit | suite |"), None);
        assert_eq!(commit_of("| metamorphic, 2026-11-27, unoptimised | 80,000 operations |"), None);
    }

    #[test]
    fn rows_go_before_the_mark_of_their_table() {
        let page = "# Page\n| a |\n<!-- end of x -->\nmore\n<!-- end of y -->\n";
        let made = with_rows(page, "x", "| 2026-11-27 | abc1234 |", &["miri | 3".into(), "tsan | 4".into()]).unwrap();
        let rows = "| 2026-11-27 | abc1234 | miri | 3 |\n| 2026-11-27 | abc1234 | tsan | 4 |\n";
        assert_eq!(made, format!("# Page\n| a |\n{rows}<!-- end of x -->\nmore\n<!-- end of y -->\n"));
        assert!(with_rows(page, "z", "|", &[]).unwrap_err().contains("end of z"));
    }
}
