//! `doctor`: what is wrong with a folder that should be a store, in plain sentences, the gravest first, each with the next command to type.
//!
//! | module | looks at |
//! |---|---|
//! | `folder` | what lies there, who has it open, whether the manifest can be read and its files are there |
//! | `options` | what is stored as text |
//! | `inside` | what an opened store says of itself: logs, levels, operators, space |
//!
//! It writes nothing at all: not even the file `LOCK`, if that is missing. It reads no table's blocks; `verify --deep` does.

mod folder;
mod inside;
mod options;

use crate::args::Common;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::shell;
use crate::text;
use esker_vfs::{UnreadablePage, is_of_the_asker};
use serde_json::json;
use std::io;
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

/// The device can't give what is asked for.
const EIO: i32 = 5;
const AS_ITS_USER: &str = "run it as the user whom the store belongs to, or change the permissions";

const TABLE_LOST: &str = "reads in its key range answer with an error; all other keys can be read";
const BLOB_LOST: &str = "the large values in it can't be read; all else can";

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
    fn sees(&mut self, rank: Rank, what: impl AsRef<str>, meaning: impl AsRef<str>, next: impl AsRef<str>) {
        // For who prints what a program is given, too.
        let [what, meaning, next] =
            [what.as_ref(), meaning.as_ref(), next.as_ref()].map(|text| text::shown(text).into_owned());
        self.signs.push(Sign { rank, what, meaning, next });
    }

    /// What to do about bytes that are gone.
    fn restore(&self) -> String {
        format!(
            "restore it from a copy; without one, see what is left by esker verify {0} --deep, and make a new store of it by esker repair {0} NEW",
            self.quoted
        )
    }

    /// What to do where the system refuses something.
    fn mend(&self, error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::PermissionDenied => AS_ITS_USER.to_owned(),
            _ if is_of_the_asker(error) => format!(
                "allow it more open files ('ulimit -n') or memory, and look again: esker doctor {}",
                self.quoted
            ),
            // Something else has the file's name.
            io::ErrorKind::IsADirectory | io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge => self.restore(),
            _ if error.raw_os_error() == Some(EIO) || UnreadablePage::of(error).is_some() => format!(
                "look into the system's messages (dmesg) for errors of the disk, and copy the folder as long as it can be read. Of what can't be read: {}",
                self.restore()
            ),
            _ => format!("mend what the message names, and look again: esker doctor {}", self.quoted),
        }
    }
}

/// Looks at the folder `db` and explains.
pub(crate) fn run(common: &Common, db: &Path) -> Result {
    let mut doctor = Doctor { db, quoted: shell::path(db), signs: Vec::new() };
    if let Some(found) = folder::look(&mut doctor)? {
        let opens = inside::look(&mut doctor, &found);
        folder::strays(&mut doctor, &found, opens);
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
            out.say("nothing is wrong as far as can be told without reading every block")?;
        }
        for sign in &signs {
            out.say(format!("{}: {}", sign.rank.words().1, sign.what))?;
            out.say(format!("    {}", sign.meaning))?;
            out.say(format!("    next: {}", sign.next))?;
        }
        if worst == Rank::Fine {
            out.say(format!("to have every block read: esker verify {} --deep", shell::path(db)))?;
        }
    }
    out.finish()?;
    match signs.first() {
        Some(sign) if worst <= Rank::Broken => Err(Failure::damage(format!("{}; next: {}", sign.what, sign.next))),
        _ => Ok(()),
    }
}
