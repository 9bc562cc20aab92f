//! `scan`: a range of keys, either way.

use crate::args::{self, Common};
use crate::failure::Result;
use crate::output::Output;
use crate::store::{self, Access};
use crate::text;
use esker::ReadOptions;
use std::ffi::OsString;
use std::ops::Bound;

/// Prints a range of keys and values.
pub(crate) fn run(common: &Common, scan: args::Scan) -> Result {
    let argument = |argument: Option<OsString>| argument.map(|bytes| store::bytes(common, bytes)).transpose();
    let bounds = bounds(argument(scan.prefix)?, argument(scan.from)?, argument(scan.to)?);
    let engine = store::open(common, &scan.db, Access::Read)?;
    let mut cursor = store::keyspace(&engine, common, Access::Read)?.cursor_with(bounds);
    let mut out = Output::new();
    let mut line = Vec::new();
    let mut left = scan.limit.unwrap_or(u64::MAX);
    if left > 0 {
        if scan.reverse { cursor.seek_to_last()? } else { cursor.seek_to_first()? }
    }
    while left > 0 && cursor.valid() {
        line.clear();
        match (common.json, scan.keys_only) {
            (true, false) => {
                let key = cursor.key().to_vec();
                text::pair_into(&mut line, &key, cursor.value()?, common.hex);
            }
            (true, true) => {
                line.push(b'{');
                text::json_member_into(&mut line, "key", cursor.key(), common.hex);
                line.push(b'}');
            }
            (false, keys_only) => {
                let write = if common.hex { text::hex_into } else { text::escape_into };
                write(&mut line, cursor.key());
                if !keys_only {
                    line.push(b'\t');
                    write(&mut line, cursor.value()?);
                }
            }
        }
        out.line(&line)?;
        left -= 1;
        if scan.reverse { cursor.prev()? } else { cursor.next()? }
    }
    out.finish()
}

/// What lies in all of the three.
fn bounds(prefix: Option<Vec<u8>>, from: Option<Vec<u8>>, to: Option<Vec<u8>>) -> ReadOptions {
    let behind_prefix = prefix.as_deref().and_then(behind);
    let upper = match (behind_prefix, to) {
        (Some(behind), Some(to)) => Some(behind.min(to)),
        (behind, to) => behind.or(to),
    };
    ReadOptions {
        lower: prefix.max(from).map_or(Bound::Unbounded, Bound::Included),
        upper: upper.map_or(Bound::Unbounded, Bound::Excluded),
    }
}

/// The first key behind all that begin with `prefix`; `None` if there is none.
fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xFF)?;
    let mut behind = prefix[..=last].to_vec();
    behind[last] += 1;
    Some(behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_from_and_to_hold_together() {
        let b = |text: &str| Some(text.as_bytes().to_vec());
        let check = |prefix, from, to, lower: Option<&str>, upper: Option<&str>| {
            let found = bounds(prefix, from, to);
            assert_eq!(found.lower, lower.and_then(b).map_or(Bound::Unbounded, Bound::Included));
            assert_eq!(found.upper, upper.and_then(b).map_or(Bound::Unbounded, Bound::Excluded));
        };
        check(None, None, None, None, None);
        check(b("ab"), None, None, Some("ab"), Some("ac"));
        check(b("ab"), b("aa"), b("az"), Some("ab"), Some("ac"));
        check(b("ab"), b("abc"), b("abx"), Some("abc"), Some("abx"));
        check(b(""), None, b("x"), Some(""), Some("x"));
        check(None, b("a"), b("x"), Some("a"), Some("x"));
    }

    #[test]
    fn behind_a_prefix() {
        assert_eq!(behind(b"a"), Some(b"b".to_vec()));
        assert_eq!(behind(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(behind(b"\xff"), None);
        assert_eq!(behind(b""), None);
    }
}
