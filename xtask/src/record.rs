//! `docs/stress.md`, to which what was tried is added, with the commit that it was tried at.

use crate::output;
use std::path::Path;

const PAGE: &str = "docs/stress.md";

/// What a record of a run begins with: where the sources stood.
pub(crate) struct Record {
    commit: String,
}

/// The page as it stands.
pub(crate) fn page(root: &Path) -> Result<String, String> {
    std::fs::read_to_string(root.join(PAGE)).map_err(|error| format!("{PAGE}: {error}"))
}

impl Record {
    /// Of what is checked out. With changes that no commit has there is nothing that a row could name.
    pub(crate) fn of_head(root: &Path) -> Result<Self, String> {
        if !output(root, "git", &["status", "--porcelain", "--untracked-files=no"])?.is_empty() {
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
    fn rows_go_before_the_mark_of_their_table() {
        let page = "# Page\n| a |\n<!-- end of x -->\nmore\n<!-- end of y -->\n";
        let made = with_rows(page, "x", "| 2026-11-27 | abc1234 |", &["miri | 3".into(), "tsan | 4".into()]).unwrap();
        let rows = "| 2026-11-27 | abc1234 | miri | 3 |\n| 2026-11-27 | abc1234 | tsan | 4 |\n";
        assert_eq!(made, format!("# Page\n| a |\n{rows}<!-- end of x -->\nmore\n<!-- end of y -->\n"));
        assert!(with_rows(page, "z", "|", &[]).unwrap_err().contains("end of z"));
    }
}
