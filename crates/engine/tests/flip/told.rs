//! What the feed of changes is to tell of a write, as a line: `merged put 07 12:....`.

use esker::{ChangedKeyspace, Operation};
use std::time::UNIX_EPOCH;

fn line(keyspace: &str, what: &str, key: &[u8], rest: &[u8]) -> String {
    format!("{keyspace} {what} {} {}", key.escape_ascii(), rest.escape_ascii())
}

pub(crate) fn put(keyspace: &str, key: &[u8], value: &[u8]) -> String {
    line(keyspace, "put", key, value)
}

pub(crate) fn put_until(keyspace: &str, key: &[u8], value: &[u8], unix_ms: u64) -> String {
    line(keyspace, &format!("put until {unix_ms}"), key, value)
}

pub(crate) fn merge(keyspace: &str, key: &[u8], operand: &[u8]) -> String {
    line(keyspace, "merge", key, operand)
}

pub(crate) fn delete(keyspace: &str, key: &[u8]) -> String {
    line(keyspace, "delete", key, &[])
}

pub(crate) fn delete_range(keyspace: &str, begin: &[u8], end: &[u8]) -> String {
    line(keyspace, "delete range", begin, end)
}

/// The line of what was told.
pub(crate) fn of(operation: &Operation<'_>) -> String {
    let name = |keyspace: &ChangedKeyspace<'_>| keyspace.name.expect("none was dropped").to_owned();
    match operation {
        Operation::Put { keyspace, key, value } => put(&name(keyspace), key, value),
        Operation::PutExpiring { keyspace, key, value, expires } => {
            let since = expires.duration_since(UNIX_EPOCH).expect("later than that");
            put_until(&name(keyspace), key, value, since.as_millis() as u64)
        }
        Operation::Merge { keyspace, key, operand } => merge(&name(keyspace), key, operand),
        Operation::Delete { keyspace, key } => delete(&name(keyspace), key),
        Operation::DeleteRange { keyspace, begin, end } => {
            delete_range(&name(keyspace), begin, end.expect("none went on to the end"))
        }
        other => panic!("nobody has written {other:?}"),
    }
}
