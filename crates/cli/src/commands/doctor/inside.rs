//! What a store says of itself when it is opened for reading only: logs, levels, operators, where its space goes.

use super::folder::Found;
use super::{Doctor, Rank, options};
use crate::shell;
use crate::text::{self, counted};
use esker::{Background, Engine, ErrorKind, KeyspaceMetrics, Metrics, Options, ReadMode};
use esker_format::{FileKind, FileNo};
use indicatif::HumanBytes;

/// Tables of so many times what their lowest level holds are mostly what nobody reads any more.
const AMPLIFICATION_MAX: f64 = 2.0;
/// Below this nobody cares.
const WASTE_BYTES_MIN: u64 = 64 << 20;

/// Looks at the store, and says whether it opens.
pub(super) fn look(doctor: &mut Doctor<'_>, found: &Found) -> bool {
    if found.version.is_none() || found.is_locked {
        return false;
    }
    // It is asked where disks fail too, so what they can't give must be an error.
    let asked = Options { create_if_missing: false, read_mode: ReadMode::GuardedMap, ..Options::default() };
    let engine = Engine::builder(doctor.db).options(asked).read_only(true).background(Background::Manual).open();
    match engine {
        Err(error) => {
            refused(doctor, &error);
            false
        }
        Ok(engine) => {
            let options = options::stored(doctor);
            let metrics = engine.metrics();
            logs(doctor, &metrics, found);
            for keyspace in &metrics.keyspaces {
                functions(doctor, keyspace);
                levels(doctor, keyspace, &options);
            }
            true
        }
    }
}

fn refused(doctor: &mut Doctor<'_>, error: &esker::Error) {
    // Its advice is for programs.
    let text = error.to_string();
    let what = text.split(". Restore the directory").next().unwrap_or(&text).to_owned();
    let db = doctor.quoted.clone();
    match error.kind() {
        // The file LOCK can't be opened, which was told.
        ErrorKind::Io if error.path().is_some_and(|path| path.ends_with("LOCK")) => {}
        ErrorKind::Corruption if text.contains(".wal") || text.contains("the logs end") => {
            let meaning = "writes that were on stable storage are missing: this is damage, and not the torn end that a crash leaves";
            let next = format!(
                "restore it from a copy; without one, copy the folder and look at what would be left: esker scan {db} --salvage. Or have all that can be read put into a new store: esker repair {db} NEW"
            );
            doctor.sees(Rank::Closed, what, meaning, next);
        }
        ErrorKind::Corruption => {
            let next = doctor.restore();
            doctor.sees(Rank::Closed, what, "the store does not open", next);
        }
        ErrorKind::Unsupported if options::keep_it_closed(doctor, &what) => {}
        ErrorKind::Unsupported => {
            let next = "use the version that wrote it, or a newer one; 'esker --version' tells this one's";
            doctor.sees(Rank::Closed, what, "this version can't read it, and leaves it alone", next);
        }
        ErrorKind::Locked => {
            let next = format!("wait for whoever opened it, and look again: esker doctor {db}");
            doctor.sees(Rank::Closed, what, "it was opened for writing just now", next);
        }
        _ => {
            let again = || format!("mend what the message names, and look again: esker doctor {db}");
            let next = error.io_error().map_or_else(again, |io| doctor.mend(io));
            doctor.sees(Rank::Closed, what, "the store does not open", next);
        }
    }
}

fn logs(doctor: &mut Doctor<'_>, metrics: &Metrics, found: &Found) {
    for left_out in &metrics.left_out_of_recovery {
        doctor.sees(
            Rank::Fine,
            format!("a log ends in something that is not whole: {left_out}"),
            "as a kill or a power cut leaves it; nothing that was promised to last is missing",
            "nothing: the next open for writing sets it aside",
        );
    }
    if metrics.retained_log_bytes >= WASTE_BYTES_MIN {
        let what = format!(
            "{} of {} are kept for the feed of changes alone",
            counted(metrics.retained_logs as u64, "log"),
            HumanBytes(metrics.retained_log_bytes)
        );
        let meaning = "the options wal_retain_bytes and wal_retain_age ask for it";
        doctor.sees(Rank::Strained, what, meaning, "if nobody follows the store, open it with these options lowered");
    }
    for number in metrics.quarantined_tables.iter().map(|number| FileNo(*number)) {
        let is_blob =
            found.version.iter().flat_map(|version| version.blobs()).any(|(_, blob)| blob.meta.number == number);
        let (what, kind, meaning) = match is_blob {
            true => ("blob file", FileKind::Blob(number), super::BLOB_LOST),
            false => ("table", FileKind::Table(number), super::TABLE_LOST),
        };
        if found.told.contains(&kind) {
            continue;
        }
        let next = doctor.restore();
        doctor.sees(Rank::Broken, format!("{what} {} can't be opened", kind.name()), meaning, next);
    }
}

/// The user's own functions, which are known by name.
fn functions(doctor: &mut Doctor<'_>, keyspace: &KeyspaceMetrics) {
    let name = text::name(&keyspace.name);
    if let Some(operator) = keyspace.merge_operator.as_deref().filter(|operator| !operator.starts_with("esker.")) {
        let operator = text::name(operator);
        doctor.sees(
            Rank::Fine,
            format!("keyspace {name} has the merge operator {operator}, which is a program's own"),
            "merged values can be read by a program alone that registers it (Builder::merge_operator); the tool shows all others",
            "if your program gets 'Unsupported', register an operator of exactly this name when it opens the store",
        );
    }
    if let Some(filter) = keyspace.compaction_filter.as_deref().filter(|_| !keyspace.compaction_filter_found) {
        let filter = text::name(filter);
        doctor.sees(
            Rank::Fine,
            format!("keyspace {name} has the compaction filter {filter}, which is a program's own"),
            "whoever opens the store without it compacts without: nothing is lost, and what it would have removed stays",
            "register a filter of exactly this name when your program opens the store",
        );
    }
}

fn levels(doctor: &mut Doctor<'_>, keyspace: &KeyspaceMetrics, options: &Options) {
    let name = text::name(&keyspace.name);
    let (db, knobs) = (doctor.quoted.clone(), &options.compaction);
    let of = match shell::word(keyspace.name.as_bytes()) {
        Some(word) if keyspace.name != "default" => format!(" --keyspace={word}"),
        // Without a name it is all keyspaces.
        Some(_) | None => String::new(),
    };
    let compact = format!("esker compact {db}{of}");
    let top = keyspace.levels.iter().find(|level| level.level == 0).map_or(0, |level| level.tables);
    if top >= knobs.l0_slowdown {
        let rank = if top >= knobs.l0_stop { Rank::Broken } else { Rank::Strained };
        let what = format!(
            "keyspace {name} has {} in level 0; writers are slowed down from {} on, and stopped from {}",
            counted(top as u64, "table"),
            knobs.l0_slowdown,
            knobs.l0_stop
        );
        doctor.sees(
            rank,
            what,
            "compaction is behind, or was never given the time; each read looks into all of them",
            compact.clone(),
        );
    }
    let amplification = keyspace.space_amplification().unwrap_or(1.0);
    let waste = (keyspace.table_bytes() as f64 * (1.0 - 1.0 / amplification.max(1.0))) as u64;
    if amplification > AMPLIFICATION_MAX && waste >= WASTE_BYTES_MIN {
        let what = format!(
            "keyspace {name}: about {} of {} in tables may be old versions and deletions",
            HumanBytes(waste),
            HumanBytes(keyspace.table_bytes())
        );
        let meaning = "a snapshot that was held for long keeps what it sees, and what was kept is given back by the next compaction only";
        doctor.sees(Rank::Strained, what, meaning, compact.clone());
    }
    if keyspace.blob_garbage_bytes >= WASTE_BYTES_MIN && keyspace.blob_garbage_bytes * 2 > keyspace.blob_bytes {
        let what = format!(
            "keyspace {name}: {} of {} in blob files belong to no key any more",
            HumanBytes(keyspace.blob_garbage_bytes),
            HumanBytes(keyspace.blob_bytes)
        );
        doctor.sees(Rank::Strained, what, "collecting them is behind", compact);
    }
}
