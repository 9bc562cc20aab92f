//! A run as text, to be printed when it fails and pasted into a test.
//!
//! ```text
//! write os 0:key01=40 1:a%ff=- 0:a..b  a batch: keyspace, key, length of the value or - to delete; keys from one up to another, to delete
//! write os 0:key01=40@5               the same, to live 5 seconds
//! write os@9 0:key01=40 0:b=4@-       9 seconds for what does not say itself; for ever
//! write os 1:key01+40                 an operand of that length
//! transact os 0:key01=40              the same by a transaction
//! ingest 0 moved key01=40 a%ff=-      tables of these: copied, moved, or of a bulk load
//! get 0 now key01
//! scan 1 s0 =a ~b fb                  bounds: = included, ~ excluded, - none
//! walk 0 now - - first,next,seek=key%20
//! clear 0 | take | release 0 | flush | compact 0 - - | work 3 | create 1 | drop 1 | sync | pass 9 | set-back 9 | filter off | reopen | crash synced
//! ```
//! A line that begins with `#` is a comment. Of a key, bytes other than letters, digits and `/` are `%` and two hex digits; the empty key is `.`; `*300` behind it repeats its last byte to that length.

use super::op::{Change, Crash, Key, Level, Op, Range, Source, Step, Terms, View, Write};
use std::fmt;
use std::ops::Bound;
use std::str::FromStr;

/// Operations that print as a script and are read from one.
#[derive(Clone, PartialEq, Eq)]
pub struct Script(pub Vec<Op>);

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|op| writeln!(f, "{}", op_text(op)))
    }
}

/// As the script, so that what a property test shrinks to is ready to be pasted.
impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "script:\n{self}")
    }
}

/// A line that is no operation.
#[derive(Debug, PartialEq, Eq)]
pub struct ScriptError(String);

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an operation: {}", self.0)
    }
}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(|line| parse(line).ok_or_else(|| ScriptError(line.into()))).collect::<Result<_, _>>().map(Self)
    }
}

fn op_text(op: &Op) -> String {
    match op {
        Op::Write(terms, writes) => format!("write {}", writes_text(*terms, writes)),
        Op::Transact(terms, writes) => format!("transact {}", writes_text(*terms, writes)),
        Op::Clear(space) => format!("clear {space}"),
        Op::Ingest(space, source, entries) => {
            let source = match source {
                Source::Copied => "copied",
                Source::Moved => "moved",
                Source::Bulk => "bulk",
            };
            let entries = entries
                .iter()
                .map(|(key, len)| format!(" {}={}", key_text(key), len.map_or("-".into(), |len| len.to_string())));
            format!("ingest {space} {source}{}", entries.collect::<String>())
        }
        Op::Get(space, view, key) => format!("get {space} {} {}", view_text(*view), key_text(key)),
        Op::Scan(space, view, range, pattern) => {
            let pattern: String = pattern.iter().map(|front| if *front { 'f' } else { 'b' }).collect();
            format!("scan {space} {} {} {pattern}", view_text(*view), range_text(range))
        }
        Op::Walk(space, view, range, steps) => {
            let steps: Vec<_> = steps.iter().map(step_text).collect();
            format!("walk {space} {} {} {}", view_text(*view), range_text(range), steps.join(","))
        }
        Op::Take => "take".into(),
        Op::Release(n) => format!("release {n}"),
        Op::Flush => "flush".into(),
        Op::Compact(space, range) => format!("compact {space} {}", range_text(range)),
        Op::Work(steps) => format!("work {steps}"),
        Op::Create(space) => format!("create {space}"),
        Op::Drop(space) => format!("drop {space}"),
        Op::Sync => "sync".into(),
        Op::Pass(secs) => format!("pass {secs}"),
        Op::SetBack(secs) => format!("set-back {secs}"),
        Op::Register(is_registered) => format!("filter {}", if *is_registered { "on" } else { "off" }),
        Op::Reopen => "reopen".into(),
        Op::Crash(Crash::Synced) => "crash synced".into(),
        Op::Crash(Crash::All) => "crash all".into(),
        Op::Crash(Crash::Subset(seed)) => format!("crash {seed}"),
    }
}

fn writes_text(terms: Terms, writes: &[Write]) -> String {
    let level = match terms.level {
        Level::Memory => "memory",
        Level::Os => "os",
        Level::Sync => "sync",
    };
    let ttl = terms.ttl.map_or_else(String::new, |ttl| format!("@{ttl}"));
    let writes = writes.iter().map(|(space, key, change)| {
        let change = match change {
            Change::Put(len) => format!("={len}"),
            Change::PutFor(len, ttl) => format!("={len}@{ttl}"),
            Change::PutForever(len) => format!("={len}@-"),
            Change::Merge(len) => format!("+{len}"),
            Change::Delete => "=-".into(),
            Change::DeleteTo(end) => format!("..{}", key_text(end)),
        };
        format!(" {space}:{}{change}", key_text(key))
    });
    format!("{level}{ttl}{}", writes.collect::<String>())
}

fn step_text(step: &Step) -> String {
    match step {
        Step::First => "first".into(),
        Step::Last => "last".into(),
        Step::Next => "next".into(),
        Step::Prev => "prev".into(),
        Step::Seek(key) => format!("seek={}", key_text(key)),
        Step::SeekForPrev(key) => format!("for={}", key_text(key)),
    }
}

fn view_text(view: View) -> String {
    match view {
        View::Now => "now".into(),
        View::Snapshot(n) => format!("s{n}"),
    }
}

fn range_text(range: &Range) -> String {
    let bound = |bound: &Bound<Key>| match bound {
        Bound::Included(key) => format!("={}", key_text(key)),
        Bound::Excluded(key) => format!("~{}", key_text(key)),
        Bound::Unbounded => "-".into(),
    };
    format!("{} {}", bound(&range.lower), bound(&range.upper))
}

fn key_text(key: &[u8]) -> String {
    let Some(last) = key.last() else { return ".".into() };
    let repeated = key.iter().rev().take_while(|byte| *byte == last).count();
    let shown = if repeated > 8 { key.len() - repeated + 1 } else { key.len() };
    let mut text: String = key[..shown]
        .iter()
        .map(|&byte| match byte {
            b'/' => "/".into(),
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02x}"),
        })
        .collect();
    if shown < key.len() {
        text += &format!("*{}", key.len());
    }
    text
}

fn parse(line: &str) -> Option<Op> {
    let mut words = line.split_whitespace();
    let mut word = || words.next();
    let op = match word()? {
        "write" => {
            let terms = parse_terms(word()?)?;
            return Some(Op::Write(terms, words.map(parse_write).collect::<Option<_>>()?));
        }
        "clear" => Op::Clear(number(word()?)?),
        "transact" => {
            let terms = parse_terms(word()?)?;
            let writes: Vec<Write> = words.map(parse_write).collect::<Option<_>>()?;
            let is_none = |change: &Change| matches!(change, Change::PutFor(..) | Change::PutForever(_));
            let may_be = !writes.iter().any(|(_, _, change)| is_none(change));
            return may_be.then_some(Op::Transact(terms, writes));
        }
        "ingest" => {
            let space = number(word()?)?;
            let source = match word()? {
                "copied" => Source::Copied,
                "moved" => Source::Moved,
                "bulk" => Source::Bulk,
                _ => return None,
            };
            return Some(Op::Ingest(space, source, words.map(parse_entry).collect::<Option<_>>()?));
        }
        "get" => Op::Get(number(word()?)?, parse_view(word()?)?, parse_key(word()?)?),
        "scan" => {
            let (space, view, range) = (number(word()?)?, parse_view(word()?)?, parse_range(word()?, word()?)?);
            Op::Scan(space, view, range, word()?.chars().map(|c| c == 'f').collect())
        }
        "walk" => {
            let (space, view, range) = (number(word()?)?, parse_view(word()?)?, parse_range(word()?, word()?)?);
            Op::Walk(space, view, range, word()?.split(',').map(parse_step).collect::<Option<_>>()?)
        }
        "take" => Op::Take,
        "release" => Op::Release(number(word()?)?),
        "flush" => Op::Flush,
        "compact" => Op::Compact(number(word()?)?, parse_range(word()?, word()?)?),
        "work" => Op::Work(number(word()?)?),
        "create" => Op::Create(number(word()?)?),
        "drop" => Op::Drop(number(word()?)?),
        "sync" => Op::Sync,
        "pass" => Op::Pass(word()?.parse().ok()?),
        "set-back" => Op::SetBack(word()?.parse().ok()?),
        "filter" => Op::Register(match word()? {
            "on" => true,
            "off" => false,
            _ => return None,
        }),
        "reopen" => Op::Reopen,
        "crash" => Op::Crash(match word()? {
            "synced" => Crash::Synced,
            "all" => Crash::All,
            seed => Crash::Subset(seed.parse().ok()?),
        }),
        _ => return None,
    };
    word().is_none().then_some(op)
}

fn number(text: &str) -> Option<usize> {
    text.parse().ok()
}

fn parse_terms(word: &str) -> Option<Terms> {
    let (level, ttl) = match word.split_once('@') {
        Some((level, ttl)) => (level, Some(ttl.parse().ok()?)),
        None => (word, None),
    };
    Some(Terms { level: parse_level(level)?, ttl })
}

fn parse_level(word: &str) -> Option<Level> {
    Some(match word {
        "memory" => Level::Memory,
        "os" => Level::Os,
        "sync" => Level::Sync,
        _ => return None,
    })
}

fn parse_write(text: &str) -> Option<Write> {
    let (space, rest) = text.split_once(':')?;
    // The empty key is a dot: `...b` is from it up to `b`.
    if let Some((key, end)) = rest.strip_prefix("...").map(|end| (".", end)).or_else(|| rest.split_once("..")) {
        return Some((number(space)?, parse_key(key)?, Change::DeleteTo(parse_key(end)?)));
    }
    if let Some((key, len)) = rest.split_once('+') {
        return Some((number(space)?, parse_key(key)?, Change::Merge(number(len)?)));
    }
    let (key, len) = rest.split_once('=')?;
    let change = match len.split_once('@') {
        Some((len, "-")) => Change::PutForever(number(len)?),
        Some((len, ttl)) => Change::PutFor(number(len)?, ttl.parse().ok()?),
        None if len == "-" => Change::Delete,
        None => Change::Put(number(len)?),
    };
    Some((number(space)?, parse_key(key)?, change))
}

fn parse_entry(text: &str) -> Option<(Key, Option<usize>)> {
    let (key, len) = text.split_once('=')?;
    let len = if len == "-" { None } else { Some(number(len)?) };
    Some((parse_key(key)?, len))
}

fn parse_view(text: &str) -> Option<View> {
    match text {
        "now" => Some(View::Now),
        _ => number(text.strip_prefix('s')?).map(View::Snapshot),
    }
}

fn parse_range(lower: &str, upper: &str) -> Option<Range> {
    let bound = |text: &str| match text.split_at_checked(1)? {
        ("-", "") => Some(Bound::Unbounded),
        ("=", key) => parse_key(key).map(Bound::Included),
        ("~", key) => parse_key(key).map(Bound::Excluded),
        _ => None,
    };
    Some(Range { lower: bound(lower)?, upper: bound(upper)? })
}

fn parse_step(text: &str) -> Option<Step> {
    Some(match text.split_once('=') {
        Some(("seek", key)) => Step::Seek(parse_key(key)?),
        Some(("for", key)) => Step::SeekForPrev(parse_key(key)?),
        Some(_) => return None,
        None => match text {
            "first" => Step::First,
            "last" => Step::Last,
            "next" => Step::Next,
            "prev" => Step::Prev,
            _ => return None,
        },
    })
}

fn parse_key(text: &str) -> Option<Key> {
    if text == "." {
        return Some(Vec::new());
    }
    let (text, len) = match text.split_once('*') {
        Some((text, len)) => (text, Some(number(len)?)),
        None => (text, None),
    };
    let mut key = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (byte, used) = match first {
            '%' => (u8::from_str_radix(rest.get(1..3)?, 16).ok()?, 3),
            first => (u8::try_from(first).ok()?, 1),
        };
        key.push(byte);
        rest = rest.get(used..)?;
    }
    key.resize(len.unwrap_or(key.len()), *key.last()?);
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Mix, ops_strategy};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_script_reads_back_as_it_was(ops in ops_strategy(Mix::All, 1..50)) {
            let script = Script(ops);
            prop_assert_eq!(script.to_string().parse::<Script>().unwrap(), script);
        }
    }
}
