//! `put`, `get`, `merge`, `delete`: one key; `delete-range`: many.

use crate::args::Common;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::store::{self, Access};
use crate::text;
use esker::{KeyspaceOptions, WriteOptions};
use indicatif::HumanDuration;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Sets a key, durably.
pub(crate) fn put(common: &Common, db: &Path, key: OsString, value: OsString, ttl: Option<Duration>) -> Result {
    let (key, value) = (store::bytes(common, key)?, store::bytes(common, value)?);
    check_key(&key)?; // before a store is made for it
    let engine = store::open(common, db, Access::Create)?;
    store::keyspace(&engine, common, Access::Create)?.put_with(
        key,
        value,
        &WriteOptions { ttl, ..WriteOptions::sync() },
    )?;
    store::close(&engine);
    Ok(())
}

/// Prints a key's value, or when it expires.
pub(crate) fn get(common: &Common, db: &Path, key: OsString, expires: bool) -> Result {
    let key = store::bytes(common, key)?;
    let engine = store::open(common, db, Access::Read)?;
    let keyspace = store::keyspace(&engine, common, Access::Read)?;
    let Some((value, expiry)) = keyspace.get_with_expiry(&key)? else {
        let shown = if common.hex { text::hex(&key) } else { text::preview(&key, 80) };
        return Err(Failure::not_found(format!("there is no key '{shown}' in keyspace '{}'", keyspace.name())));
    };
    let mut out = Output::new();
    if common.json {
        let mut line = Vec::new();
        text::pair_into(&mut line, &key, &value, common.hex);
        if expires {
            let unix_ms = expiry.map_or_else(|| "null".to_owned(), |expiry| unix_ms(expiry).to_string());
            line.pop();
            line.extend_from_slice(format!(",\"expires_unix_ms\":{unix_ms}}}").as_bytes());
        }
        out.line(line)?;
    } else if expires {
        out.line(expiry.map_or_else(|| "never".to_owned(), when))?;
    } else if common.hex {
        out.bytes(text::hex(&value).as_bytes())?;
    } else {
        out.bytes(&value)?;
    }
    out.finish()
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

fn when(expiry: SystemTime) -> String {
    let left = expiry.duration_since(SystemTime::now()).unwrap_or_default();
    format!("{} in {}", unix_ms(expiry), HumanDuration(left))
}

/// Merges an operand into the value of a key, durably.
pub(crate) fn merge(common: &Common, db: &Path, key: OsString, operand: OsString, operator: Option<String>) -> Result {
    let (key, operand) = (store::bytes(common, key)?, store::bytes(common, operand)?);
    check_key(&key)?;
    if operator.as_deref() == Some(COUNTER) && !common.hex {
        number(&operand)?; // before a store is made for it
    }
    let access = if operator.is_some() { Access::Create } else { Access::Write };
    let options = KeyspaceOptions { merge_operator: operator, ..KeyspaceOptions::default() };
    let engine = store::open_with(common, db, access, &options)?;
    let keyspace = store::keyspace_with(&engine, common, access, options)?;
    let operand = match keyspace.merge_operator() {
        None => {
            return Err(Failure::error(format!(
                "the keyspace '{}' has no merge operator; one that is made by 'esker merge --operator NAME --keyspace NAME' has",
                keyspace.name()
            )));
        }
        Some(COUNTER) if !common.hex => number(&operand)?.to_le_bytes().to_vec(),
        _ => operand,
    };
    keyspace.merge_with(key, operand, &WriteOptions::sync())?;
    store::close(&engine);
    Ok(())
}

/// The merge operator whose operands are numbers.
const COUNTER: &str = "esker.counter";

fn number(text: &[u8]) -> Result<i64> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| {
        let shown = text::preview(text, 80);
        Failure::error(format!("'{shown}' is no number that a counter takes; give one, or its 8 bytes with --hex"))
    })
}

/// Removes a key, durably.
pub(crate) fn delete(common: &Common, db: &Path, key: OsString) -> Result {
    let key = store::bytes(common, key)?;
    let engine = store::open(common, db, Access::Write)?;
    store::keyspace(&engine, common, Access::Write)?.delete_with(key, &WriteOptions::sync())?;
    store::close(&engine);
    Ok(())
}

/// Removes the keys of a range, durably.
pub(crate) fn delete_range(common: &Common, db: &Path, from: OsString, to: OsString) -> Result {
    let (from, to) = (store::bytes(common, from)?, store::bytes(common, to)?);
    check_key(&from)?;
    check_key(&to)?;
    if from >= to {
        return Err(Failure::error("the range ends where it begins, or before: give the smaller key first"));
    }
    let engine = store::open(common, db, Access::Write)?;
    store::keyspace(&engine, common, Access::Write)?.delete_range_with(from, to, &WriteOptions::sync())?;
    store::close(&engine);
    Ok(())
}

fn check_key(key: &[u8]) -> Result {
    let (len, max) = (key.len(), esker_format::KEY_BYTES_MAX);
    if len > max {
        return Err(Failure::error(format!("the key has {len} bytes, and at most {max} are allowed; shorten it")));
    }
    Ok(())
}
