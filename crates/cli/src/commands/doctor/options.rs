//! `OPTIONS-NNNNNN`: text without a checksum, so a line that is not known may be a newer version's, or damage.

use super::{Doctor, Rank};
use crate::shell;
use esker::vfs::{OsVfs, Vfs, is_of_the_asker};
use esker::{Engine, ErrorKind, Options};
use esker_format::FileKind;
use std::fs;

const NO_CHECKSUM: &str = "a newer version wrote it, or it is damaged: the file has no checksum that would tell";

/// The options that are stored, as far as they are known; of a store that opens.
pub(super) fn stored(doctor: &mut Doctor<'_>) -> Options {
    let error = match Engine::stored_options(doctor.db) {
        Ok(options) => return options,
        Err(error) if error.kind() == ErrorKind::NotFound => return Options::default(),
        Err(error) => error,
    };
    let begin = "opening does not depend on the file, which is for people and for this tool";
    let next = "nothing: the next program that opens the store for writing stores its own options";
    if error.kind() == ErrorKind::Unsupported && is_text_of_options(doctor) {
        let what = format!("the stored options can't all be read: {error}");
        doctor.sees(Rank::Fine, what, format!("{begin}; {NO_CHECKSUM}"), next);
    } else if let Some(io) = error.io_error().filter(|io| is_of_the_asker(io)) {
        let next = doctor.mend(io);
        doctor.sees(Rank::Broken, format!("the stored options can't be read: {error}"), begin, next);
    } else {
        let what = format!("the stored options are damaged: {error}");
        doctor.sees(Rank::Broken, what, begin, next);
    }
    Options::default()
}

/// Whether it is the stored options that keep this version from opening the store, and then says so.
pub(super) fn keep_it_closed(doctor: &mut Doctor<'_>, why: &str) -> bool {
    let Some(file) = newest(doctor).filter(|file| why.contains(&file.name())) else { return false };
    let file = shell::path(&file.path(doctor.db));
    let next = format!(
        "if another version was ever used here, use that; else it is damage, and the file {file} is text: write the line anew, 'comparator = bytewise'"
    );
    doctor.sees(Rank::Closed, why, NO_CHECKSUM, next);
    true
}

fn newest(doctor: &Doctor<'_>) -> Option<FileKind> {
    let names = OsVfs.list(doctor.db).ok()?;
    let kinds = names.iter().filter_map(|name| FileKind::parse(name));
    kinds.filter(|kind| matches!(kind, FileKind::Options(_))).max()
}

/// Whether the file is lines of `name = value`, as every version writes it.
fn is_text_of_options(doctor: &Doctor<'_>) -> bool {
    let text = newest(doctor).and_then(|file| fs::read_to_string(file.path(doctor.db)).ok());
    let is_one = |line: &str| {
        let is_name = |name: &str| {
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.".contains(&byte))
        };
        line.starts_with('#')
            || line.split_once(" = ").is_some_and(|(name, value)| is_name(name) && !value.contains(char::is_control))
    };
    text.is_some_and(|text| text.lines().all(is_one))
}
