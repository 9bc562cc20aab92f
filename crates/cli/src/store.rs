//! Opening a store, with errors that say what to do.
//!
//! Only commands that write open for writing, and only `put`, `import` and `merge --operator` make anything that is not there.

use crate::args::Common;
use crate::failure::{self, Failure, Result};
use crate::shell;
use crate::text;
use esker::{Engine, Error, ErrorKind, Event, Keyspace, KeyspaceOptions, Options, ReadMode, RecoveryMode};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The keyspace that is meant if none is named.
const DEFAULT: &str = "default";

/// What a command does to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing at all.
    Read,
    /// Changes it.
    Write,
    /// Changes it, and makes it if there is none.
    Create,
}

/// Opens the store in the folder `db`. With `--salvage`, and only if it does not open otherwise, without what is lost; that is told then.
pub(crate) fn open(common: &Common, db: &Path, access: Access) -> Result<Engine> {
    open_with(common, db, access, &KeyspaceOptions::default())
}

/// As [`open`]. A store that is made is made with these options of the keyspace that `--keyspace` names.
pub(crate) fn open_with(common: &Common, db: &Path, access: Access, options: &KeyspaceOptions) -> Result<Engine> {
    let default = match common.keyspace.as_deref() {
        None | Some(DEFAULT) => options.clone(),
        Some(_) => KeyspaceOptions::default(),
    };
    let shown = db.display();
    match fs::metadata(db) {
        Ok(found) if !found.is_dir() => {
            return Err(Failure::error(format!("'{shown}' is a file, and a store is a folder; give the folder")));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound && access == Access::Create => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::error(format!("there is no folder '{shown}'; {NO_STORE_ADVICE}")));
        }
        Err(error) => return Err(Failure::io("opening the store", db, &error)),
    }
    let open = |recovery| {
        // Logs that the store's owner has kept for its feed of changes are not to go by our visit.
        let Options { wal_retain_bytes, wal_retain_age, .. } = match Engine::stored_options(db) {
            // Of a newer version: nobody here knows which it keeps.
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                Options { wal_retain_bytes: Some(u64::MAX), ..Options::default() }
            }
            stored => stored.unwrap_or_default(),
        };
        let create_if_missing = access == Access::Create;
        // What the device can't give is an error with a name to who only looks, and not the end of the process.
        let read_mode = if access == Access::Read { ReadMode::GuardedMap } else { ReadMode::default() };
        let options =
            Options { create_if_missing, recovery, wal_retain_bytes, wal_retain_age, read_mode, ..Options::default() };
        Engine::builder(db)
            .options(options)
            .default_keyspace(default.clone())
            .read_only(access == Access::Read)
            .listener(move |event: &Event| told(event, recovery))
            .open()
    };
    let engine = match open(RecoveryMode::PointInTime) {
        Err(error) if common.salvage && error.kind() == ErrorKind::Corruption => {
            let engine = open(RecoveryMode::Salvage);
            if engine.is_ok() {
                let cause = error.to_string();
                let cause = cause.split(ENGINE_ADVICE).next().unwrap_or_default();
                failure::tell(format!("--salvage: opened without what is lost: {cause}"));
            }
            engine
        }
        engine => engine,
    };
    engine.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::error(format!("the folder '{shown}' holds no store; {NO_STORE_ADVICE}")),
        ErrorKind::Corruption => Failure::damage(format!(
            "opening the store '{shown}': {}; to be told what can be done: esker doctor {}",
            error.to_string().replace("open with RecoveryMode::Salvage", "add --salvage (see docs/cli.md)"),
            shell::path(db)
        )),
        _ => Failure::from(error).within(format!("opening the store '{shown}'")),
    })
}

/// Says what recovery left out. But with `--salvage` it was not promised to survive a power cut; that it did not should be known all the same.
fn told(event: &Event, recovery: RecoveryMode) {
    if let Event::SetAside { path, reason } = event {
        let promised = if recovery == RecoveryMode::Salvage { "" } else { ", never synced," };
        failure::tell(format!(
            "a log was not whole ({reason}); what lay behind that place{promised} is left out, and kept in '{}' until the store is next opened for writing",
            path.display()
        ));
    }
}

/// With this the engine begins to say what can be done about a store that does not open.
const ENGINE_ADVICE: &str = ". Restore the directory";

const NO_STORE_ADVICE: &str = "check the path, or make a store by 'esker put' or 'esker import'";

/// Opens the keyspace that `--keyspace` names.
pub(crate) fn keyspace(engine: &Engine, common: &Common, access: Access) -> Result<Keyspace> {
    keyspace_with(engine, common, access, KeyspaceOptions::default())
}

/// As [`keyspace`]. One that is made is made with these options, and of one that is there they must not say otherwise.
pub(crate) fn keyspace_with(
    engine: &Engine,
    common: &Common,
    access: Access,
    options: KeyspaceOptions,
) -> Result<Keyspace> {
    let name = common.keyspace.as_deref().unwrap_or(DEFAULT);
    let names = engine.keyspaces();
    if access != Access::Create && !names.iter().any(|known| known == name) {
        let names: Vec<String> = names.iter().map(|name| text::preview(name.as_bytes(), 60)).collect();
        let names = names.join(", ");
        return Err(Failure::error(format!("there is no keyspace '{name}'; the store has: {names}")));
    }
    Ok(engine.keyspace(name, options)?)
}

/// Closes a store in which all that was asked for is done and on stable storage. So a failure is told, and is none of the command's: who runs a merge again that was stored counts it twice.
pub(crate) fn close(engine: &Engine) {
    if let Err(error) = engine.close() {
        failure::tell(format!("it is done, and stays; but the store could not be closed in order: {error}"));
    }
}

/// The bytes of a key or value on the command line.
pub(crate) fn bytes(common: &Common, argument: OsString) -> Result<Vec<u8>> {
    if common.hex { text::unhex(argument.as_bytes()).map_err(Failure::error) } else { Ok(argument.into_vec()) }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let advice = match error.kind() {
            ErrorKind::Corruption => "; 'esker verify' checks the whole store, 'esker dump' shows one file",
            ErrorKind::NoSpace => "; make room and run it again: nothing that was acknowledged is lost",
            ErrorKind::Unsupported => "; a newer version of esker may know it",
            ErrorKind::Io => error.io_error().map_or("", failure::advice),
            _ => "",
        };
        let message = format!("{error}{advice}");
        match error.kind() {
            ErrorKind::Corruption => Self::damage(message),
            _ => Self::error(message),
        }
    }
}
