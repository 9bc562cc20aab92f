//! `doctor`: what is wrong with a folder that should be a store, in plain sentences, the gravest first, each with the next command to type.
//!
//! | module | looks at |
//! |---|---|
//! | `folder` | what lies there, who has it open, whether the manifest can be read and its files are there |
//! | `inside` | what an opened store says of itself: logs, levels, operators, space |
//!
//! It writes nothing at all: not even the file `LOCK`, if that is missing. It reads no table's blocks; `verify --deep` does.

mod folder;
mod inside;

use crate::args::Common;
use crate::failure::{Failure, Result};
use crate::output::Output;
use serde_json::json;
use std::path::Path;

/// How bad a sign is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The store can't be opened.
    Closed,
    /// It opens, and something in it can't be read, or writing fails or soon will.
    Broken,
    /// It works, and is slower or larger than it need be.
    Strained,
    /// Nothing is wrong.
    Fine,
}

impl Rank {
    /// As a program reads it, and as a person does.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Closed => ("closed", "does not open"),
            Self::Broken => ("broken", "broken"),
            Self::Strained => ("strained", "strained"),
            Self::Fine => ("fine", "fine"),
        }
    }
}

/// Something that was seen.
#[derive(Debug)]
struct Sign {
    rank: Rank,
    /// What it is.
    what: String,
    /// What it means.
    meaning: String,
    /// What to do.
    next: String,
}

/// What has been seen so far.
struct Doctor<'a> {
    db: &'a Path,
    /// The folder as a shell takes it.
    quoted: String,
    signs: Vec<Sign>,
}

impl Doctor<'_> {
    fn sees(&mut self, rank: Rank, what: impl Into<String>, meaning: impl Into<String>, next: impl Into<String>) {
        self.signs.push(Sign { rank, what: what.into(), meaning: meaning.into(), next: next.into() });
    }

    /// What to do about bytes that are gone.
    fn restore(&self) -> String {
        format!(
            "restore it from a copy; without one, 'esker repair {0} NEW' makes a new store of what is left, and 'esker verify {0} --deep' says what that is",
            self.quoted
        )
    }
}

/// Looks at the folder `db` and explains.
pub(crate) fn run(common: &Common, db: &Path) -> Result {
    let mut doctor = Doctor { db, quoted: quoted(db), signs: Vec::new() };
    if let Some(found) = folder::look(&mut doctor)? {
        inside::look(&mut doctor, &found);
    }
    let Doctor { mut signs, .. } = doctor;
    signs.sort_by_key(|sign| sign.rank);
    let worst = signs.first().map_or(Rank::Fine, |sign| sign.rank);
    let mut out = Output::new();
    if common.json {
        let one = |sign: &Sign| json!({ "rank": sign.rank.words().0, "what": sign.what, "meaning": sign.meaning, "next": sign.next });
        let signs: Vec<_> = signs.iter().map(one).collect();
        out.json(&json!({ "db": db.to_string_lossy(), "rank": worst.words().0, "signs": signs }))?;
    } else {
        if worst == Rank::Fine {
            out.line("nothing is wrong as far as can be told without reading every block")?;
        }
        for sign in &signs {
            out.line(format!("{}: {}", sign.rank.words().1, sign.what))?;
            out.line(format!("    {}", sign.meaning))?;
            out.line(format!("    next: {}", sign.next))?;
        }
        if worst == Rank::Fine {
            out.line(format!("to have every block read: esker verify {} --deep", quoted(db)))?;
        }
    }
    out.finish()?;
    match signs.first() {
        Some(sign) if worst <= Rank::Broken => Err(Failure::damage(format!("{}; next: {}", sign.what, sign.next))),
        _ => Ok(()),
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    match text.chars().all(is_plain) && !text.is_empty() && !text.starts_with('-') {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_can_be_pasted_into_a_shell() {
        assert_eq!(quoted(Path::new("/a/b-c.d")), "/a/b-c.d");
        assert_eq!(quoted(Path::new("my store")), "'my store'");
        assert_eq!(quoted(Path::new("it's")), "'it'\\''s'");
        assert_eq!(quoted(Path::new("-x")), "'-x'");
    }
}
