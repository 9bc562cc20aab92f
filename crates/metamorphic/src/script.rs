//! Scripts as text: one operation a line. The crate's README has the format.
//!
//! A line that is none is refused with its number and what would have been one.

use crate::op::{
    Call, Change, Crash, Leaves, NAMES, Op, SNAPSHOTS, TRANSACTIONS, Terms, Trouble, Value, View, Way, Write,
};
use esker_testkit::model::{Key, Level, Range, Step};
use std::fmt::{self, Write as _};
use std::ops::Bound;
use std::str::{FromStr, SplitWhitespace};

/// Operations in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Script(pub(crate) Vec<Op>);

const LEVELS: [(&str, Level); 3] = [("memory", Level::Memory), ("os", Level::Os), ("sync", Level::Sync)];
const WAYS: [(&str, Way); 3] = [("copied", Way::Copied), ("moved", Way::Moved), ("bulk", Way::Bulk)];
const TROUBLES: [(&str, Trouble); 5] = [
    ("io", Trouble::Io),
    ("full", Trouble::Full),
    ("short", Trouble::Short),
    ("done", Trouble::Done),
    ("flip", Trouble::Flip),
];
const CALLS: [(&str, Call); 10] = [
    ("append", Call::Append),
    ("create", Call::Create),
    ("grow", Call::Grow),
    ("map", Call::Map),
    ("open", Call::Open),
    ("read", Call::Read),
    ("remove", Call::Remove),
    ("rename", Call::Rename),
    ("sync", Call::Sync),
    ("sync-dir", Call::SyncDir),
];

fn named<T: Copy>(of: &[(&str, T)], word: &str) -> Result<T, String> {
    let names = || of.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let found = of.iter().find(|(name, _)| *name == word);
    found.map(|(_, what)| *what).ok_or_else(|| format!("expected one of {}, found `{word}`", names()))
}

fn name_of<T: PartialEq>(of: &[(&'static str, T)], what: &T) -> &'static str {
    of.iter().find(|(_, other)| other == what).map(|(name, _)| *name).expect("all have names")
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|op| writeln!(f, "{op}"))
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |name: &usize| NAMES[*name];
        match self {
            Self::Write(terms, writes) => {
                write!(f, "write {}", name_of(&LEVELS, &terms.level))?;
                terms.ttl.map_or(Ok(()), |ttl| write!(f, "@{ttl}"))?;
                f.write_str(&writes_text(writes))
            }
            Self::Clear(of) => write!(f, "clear {}", name(of)),
            Self::Insert(of, key, value) => write!(f, "insert {} {} {}", name(of), key_text(key), value_text(*value)),
            Self::Swap(of, key, matches, value) => {
                let value = value.map_or("-".into(), value_text);
                let expected = if *matches { "same" } else { "other" };
                write!(f, "swap {} {} {expected} {value}", name(of), key_text(key))
            }
            Self::Begin(tx) => write!(f, "begin {tx}"),
            Self::TransactionGet(tx, of, key) => write!(f, "tx-get {tx} {} {}", name(of), key_text(key)),
            Self::TransactionScan(tx, of, range, front) => {
                write!(f, "tx-scan {tx} {} {} {}", name(of), range_text(range), end_text(*front))
            }
            Self::TransactionWrite(tx, writes) => write!(f, "tx-write {tx}{}", writes_text(writes)),
            Self::Savepoint(tx) => write!(f, "savepoint {tx}"),
            Self::Back(tx) => write!(f, "back {tx}"),
            Self::Commit(tx, level) => write!(f, "commit {tx} {}", name_of(&LEVELS, level)),
            Self::Rollback(tx) => write!(f, "rollback {tx}"),
            Self::Ingest(of, way, entries) => {
                write!(f, "ingest {} {}", name(of), name_of(&WAYS, way))?;
                entries.iter().try_for_each(|(key, value)| match value {
                    Some(value) => write!(f, " {}={}", key_text(key), value_text(*value)),
                    None => write!(f, " {}-", key_text(key)),
                })
            }
            Self::Get(view, of, key) => write!(f, "get {} {} {}", view_text(*view), name(of), key_text(key)),
            Self::MultiGet(view, of, keys) => {
                write!(f, "multi-get {} {}", view_text(*view), name(of))?;
                keys.iter().try_for_each(|key| write!(f, " {}", key_text(key)))
            }
            Self::Scan(view, of, range, pattern) => {
                let pattern: String = pattern.iter().map(|front| end_text(*front)).collect();
                write!(f, "scan {} {} {} {pattern}", view_text(*view), name(of), range_text(range))
            }
            Self::Prefix(view, of, key, front) => {
                write!(f, "prefix {} {} {} {}", view_text(*view), name(of), key_text(key), end_text(*front))
            }
            Self::Walk(view, of, range, steps) => {
                let steps: Vec<_> = steps.iter().map(step_text).collect();
                write!(f, "walk {} {} {} {}", view_text(*view), name(of), range_text(range), steps.join(","))
            }
            Self::Ends(view, of) => write!(f, "ends {} {}", view_text(*view), name(of)),
            Self::Snapshot(n) => write!(f, "snapshot {n}"),
            Self::Release(n) => write!(f, "release {n}"),
            Self::Flush => f.write_str("flush"),
            Self::Compact(of, range) => write!(f, "compact {} {}", name(of), range_text(range)),
            Self::Work(steps) => write!(f, "work {steps}"),
            Self::Sync => f.write_str("sync"),
            Self::Pass(seconds) => write!(f, "pass {seconds}"),
            Self::Create(of) => write!(f, "create {}", name(of)),
            Self::Drop(of) => write!(f, "drop {}", name(of)),
            Self::Checkpoint => f.write_str("checkpoint"),
            Self::Changes => f.write_str("changes"),
            Self::Verify => f.write_str("verify"),
            Self::Reopen(0) => f.write_str("reopen"),
            Self::Reopen(further) => write!(f, "reopen {further}"),
            Self::Fault(trouble, call, path, nth) => {
                write!(f, "fault {} {} {path} {nth}", name_of(&TROUBLES, trouble), name_of(&CALLS, call))
            }
            Self::Heal => f.write_str("heal"),
            Self::Crash(crash) => {
                match crash.leaves {
                    Leaves::Synced => f.write_str("crash synced")?,
                    Leaves::All => f.write_str("crash all")?,
                    Leaves::Torn => f.write_str("crash torn")?,
                    Leaves::Subset(seed) => write!(f, "crash subset={seed}")?,
                }
                crash.at_percent.map_or(Ok(()), |percent| write!(f, " at {percent}"))
            }
        }
    }
}

fn writes_text(writes: &[Write]) -> String {
    writes.iter().fold(String::new(), |mut text, write| {
        let (name, key) = (NAMES[write.name], key_text(&write.key));
        let change = match &write.change {
            Change::Put(value) => format!("={}", value_text(*value)),
            Change::PutFor(value, seconds) => format!("={}@{seconds}", value_text(*value)),
            Change::PutForever(value) => format!("={}@-", value_text(*value)),
            Change::Merge(value) => format!("+{}", value_text(*value)),
            Change::Delete => "-".into(),
            Change::DeleteTo(end) => format!("..{}", key_text(end)),
        };
        write!(text, " {name}:{key}{change}").expect("to memory");
        text
    })
}

fn value_text(value: Value) -> String {
    format!("{}:{}", value.tag, value.len)
}

fn end_text(front: bool) -> &'static str {
    if front { "f" } else { "b" }
}

fn view_text(view: View) -> String {
    match view {
        View::Now => "now".into(),
        View::Snapshot(n) => format!("s{n}"),
    }
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

fn range_text(range: &Range) -> String {
    let bound = |bound: &Bound<Key>| match bound {
        Bound::Included(key) => format!("={}", key_text(key)),
        Bound::Excluded(key) => format!("~{}", key_text(key)),
        Bound::Unbounded => "-".into(),
    };
    format!("{} {}", bound(&range.lower), bound(&range.upper))
}

/// Letters, digits and `/` as they are, other bytes as `%` and two hex digits; `_` for the empty key; a byte that ends it again and again as `*` and the key's length.
pub(crate) fn key_text(key: &[u8]) -> String {
    let Some(last) = key.last() else { return "_".into() };
    let repeated = key.iter().rev().take_while(|byte| *byte == last).count();
    let shown = if repeated > 8 { key.len() - repeated + 1 } else { key.len() };
    let mut text = key[..shown].iter().fold(String::new(), |mut text, &byte| {
        match byte {
            b'/' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => text.push(byte.into()),
            byte => write!(text, "%{byte:02x}").expect("to memory"),
        }
        text
    });
    if shown < key.len() {
        write!(text, "*{}", key.len()).expect("to memory");
    }
    text
}

/// A line that is no operation.
#[derive(Debug)]
pub(crate) struct ScriptError {
    line: usize,
    text: String,
    what: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}\n    {}", self.line, self.what, self.text)
    }
}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.split('#').next().unwrap_or("").trim()));
        let ops = lines
            .filter(|(_, line)| !line.is_empty())
            .map(|(number, line)| line.parse().map_err(|what| ScriptError { line: number, text: line.into(), what }));
        ops.collect::<Result<_, _>>().map(Self)
    }
}

/// The words of a line, each with what is expected in its place.
struct Words<'a>(SplitWhitespace<'a>);

impl<'a> Words<'a> {
    fn next(&mut self, what: &str) -> Result<&'a str, String> {
        self.0.next().ok_or_else(|| format!("expected {what}, found the end of the line"))
    }

    fn number<T: FromStr>(&mut self, what: &str) -> Result<T, String> {
        number(self.next(what)?, what)
    }

    fn below(&mut self, end: usize, what: &str) -> Result<usize, String> {
        let number = self.number(what)?;
        if number < end { Ok(number) } else { Err(format!("expected {what} below {end}, found {number}")) }
    }

    fn transaction(&mut self) -> Result<usize, String> {
        self.below(TRANSACTIONS, "a transaction's number")
    }

    fn name(&mut self) -> Result<usize, String> {
        name(self.next("a keyspace")?)
    }

    fn key(&mut self) -> Result<Key, String> {
        key(self.next("a key")?)
    }

    fn value(&mut self) -> Result<Value, String> {
        value(self.next("a value, TAG:LENGTH")?)
    }

    fn view(&mut self) -> Result<View, String> {
        let word = self.next("`now` or a snapshot")?;
        match word.strip_prefix('s').and_then(|n| n.parse().ok()).filter(|n| *n < SNAPSHOTS) {
            Some(n) => Ok(View::Snapshot(n)),
            None if word == "now" => Ok(View::Now),
            None => Err(format!("expected `now`, or `s0` to `s{}`, found `{word}`", SNAPSHOTS - 1)),
        }
    }

    fn range(&mut self) -> Result<Range, String> {
        let mut bound = || {
            let word = self.next("a bound")?;
            match word.split_at_checked(1) {
                Some(("-", "")) => Ok(Bound::Unbounded),
                Some(("=", text)) => key(text).map(Bound::Included),
                Some(("~", text)) => key(text).map(Bound::Excluded),
                _ => Err(format!("expected a bound, `=KEY`, `~KEY` or `-`, found `{word}`")),
            }
        };
        Ok(Range { lower: bound()?, upper: bound()? })
    }

    fn end(&mut self) -> Result<bool, String> {
        named(&[("f", true), ("b", false)], self.next("an end, `f` or `b`")?)
    }

    fn all<T>(self, what: &str, parse: impl FnMut(&'a str) -> Result<T, String>) -> Result<Vec<T>, String> {
        let all: Vec<T> = self.0.map(parse).collect::<Result<_, _>>()?;
        if all.is_empty() { Err(format!("expected {what}, found the end of the line")) } else { Ok(all) }
    }
}

impl FromStr for Op {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = Words(line.split_whitespace());
        let op = match words.next("an operation")? {
            "write" => {
                let word = words.next("a durability level")?;
                let (level, ttl) = word.split_once('@').map_or((word, None), |(level, ttl)| (level, Some(ttl)));
                let ttl = ttl.map(|ttl| number(ttl, "seconds to live")).transpose()?;
                let terms = Terms { level: named(&LEVELS, level)?, ttl };
                return words.all("a write", write).map(|writes| Self::Write(terms, writes));
            }
            "clear" => Self::Clear(words.name()?),
            "insert" => Self::Insert(words.name()?, words.key()?, words.value()?),
            "swap" => {
                let (name, key) = (words.name()?, words.key()?);
                let matches = named(&[("same", true), ("other", false)], words.next("`same` or `other`")?)?;
                let word = words.next("a value, or `-`")?;
                Self::Swap(name, key, matches, (word != "-").then(|| value(word)).transpose()?)
            }
            "begin" => Self::Begin(words.transaction()?),
            "tx-get" => Self::TransactionGet(words.transaction()?, words.name()?, words.key()?),
            "tx-scan" => Self::TransactionScan(words.transaction()?, words.name()?, words.range()?, words.end()?),
            "tx-write" => {
                let tx = words.transaction()?;
                let writes = words.all("a write", write)?;
                if writes.iter().any(|w| matches!(w.change, Change::PutFor(..) | Change::PutForever(_))) {
                    return Err("expected writes without a time to live: a transaction's have none of their own".into());
                }
                return Ok(Self::TransactionWrite(tx, writes));
            }
            "savepoint" => Self::Savepoint(words.transaction()?),
            "back" => Self::Back(words.transaction()?),
            "commit" => Self::Commit(words.transaction()?, named(&LEVELS, words.next("a durability level")?)?),
            "rollback" => Self::Rollback(words.transaction()?),
            "ingest" => {
                let (name, way) = (words.name()?, named(&WAYS, words.next("a way")?)?);
                return words.all("an entry", entry).map(|entries| Self::Ingest(name, way, entries));
            }
            "get" => Self::Get(words.view()?, words.name()?, words.key()?),
            "multi-get" => {
                let (view, name) = (words.view()?, words.name()?);
                return words.all("a key", key).map(|keys| Self::MultiGet(view, name, keys));
            }
            "scan" => {
                let (view, name, range) = (words.view()?, words.name()?, words.range()?);
                let pattern = words.next("a pattern of `f` and `b`")?;
                let ends = pattern.chars().map(|end| match end {
                    'f' => Ok(true),
                    'b' => Ok(false),
                    _ => Err(format!("expected a pattern of `f` and `b`, found `{pattern}`")),
                });
                Self::Scan(view, name, range, ends.collect::<Result<_, _>>()?)
            }
            "prefix" => Self::Prefix(words.view()?, words.name()?, words.key()?, words.end()?),
            "walk" => {
                let (view, name, range) = (words.view()?, words.name()?, words.range()?);
                let steps = words.next("steps")?.split(',').map(step);
                Self::Walk(view, name, range, steps.collect::<Result<_, _>>()?)
            }
            "ends" => Self::Ends(words.view()?, words.name()?),
            "snapshot" => Self::Snapshot(words.below(SNAPSHOTS, "a snapshot's number")?),
            "release" => Self::Release(words.below(SNAPSHOTS, "a snapshot's number")?),
            "flush" => Self::Flush,
            "compact" => Self::Compact(words.name()?, words.range()?),
            "work" => Self::Work(words.number("a number of steps")?),
            "sync" => Self::Sync,
            "pass" => Self::Pass(words.number("seconds")?),
            "create" => Self::Create(words.name()?),
            "drop" => match words.name()? {
                0 => return Err(format!("expected a keyspace other than `{}`, which can't be dropped", NAMES[0])),
                name => Self::Drop(name),
            },
            "checkpoint" => Self::Checkpoint,
            "changes" => Self::Changes,
            "verify" => Self::Verify,
            "reopen" => Self::Reopen(
                words.0.next().map(|word| number(word, "a number of option sets")).transpose()?.unwrap_or(0),
            ),
            "fault" => {
                let trouble = named(&TROUBLES, words.next("a trouble")?)?;
                let call = named(&CALLS, words.next("a call")?)?;
                Self::Fault(trouble, call, words.next("a pattern of paths")?.into(), words.number("a count")?)
            }
            "heal" => Self::Heal,
            "crash" => {
                let word = words.next("what is left")?;
                let leaves = match word.strip_prefix("subset=") {
                    Some(seed) => Leaves::Subset(number(seed, "a seed")?),
                    None => {
                        let known = [("synced", Leaves::Synced), ("all", Leaves::All), ("torn", Leaves::Torn)];
                        named(&known, word).map_err(|what| what.replace("torn,", "torn, subset=SEED,"))?
                    }
                };
                let at_percent = match words.0.next() {
                    None => None,
                    Some("at") => Some(words.below(101, "a percentage")? as u64),
                    Some(word) => return Err(format!("expected `at`, or the end of the line, found `{word}`")),
                };
                Self::Crash(Crash { leaves, at_percent })
            }
            word => return Err(format!("expected an operation, found `{word}`: the README lists them")),
        };
        words.0.next().map_or(Ok(op), |word| Err(format!("expected the end of the line, found `{word}`")))
    }
}

fn number<T: FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("expected {what}, found `{text}`"))
}

fn name(text: &str) -> Result<usize, String> {
    let known: Vec<_> = NAMES.iter().copied().zip(0..).collect();
    named(&known, text).map_err(|what| what.replace("one of", "a keyspace, one of"))
}

fn value(text: &str) -> Result<Value, String> {
    let expected = || format!("expected a value, TAG:LENGTH, found `{text}`");
    let (tag, len) = text.split_once(':').ok_or_else(expected)?;
    Ok(Value { tag: tag.parse().map_err(|_| expected())?, len: len.parse().map_err(|_| expected())? })
}

fn write(text: &str) -> Result<Write, String> {
    let (space, rest) =
        text.split_once(':').ok_or_else(|| format!("expected KEYSPACE:KEY and a change, found `{text}`"))?;
    let name = name(space)?;
    let at = rest.find(['=', '+', '-', '.']).ok_or_else(|| {
        format!(
            "expected behind the key `=VALUE`, `=VALUE@SECONDS`, `=VALUE@-`, `+VALUE`, `-` or `..KEY`, found `{rest}`"
        )
    })?;
    let key_part = key(&rest[..at])?;
    let change = match rest[at..].split_at(1) {
        ("-", "") => Change::Delete,
        ("+", operand) if name == crate::op::MERGED => Change::Merge(value(operand)?),
        ("+", _) => return Err(format!("expected a merge into `{}`, found `{text}`", NAMES[crate::op::MERGED])),
        ("=", put) => match put.split_once('@') {
            None => Change::Put(value(put)?),
            Some((put, "-")) => Change::PutForever(value(put)?),
            Some((put, seconds)) => Change::PutFor(value(put)?, number(seconds, "seconds to live")?),
        },
        (_, end) => {
            let end = key(end.strip_prefix('.').ok_or_else(|| format!("expected `..KEY`, found `{end}`"))?)?;
            if end <= key_part {
                return Err(format!("expected a range whose end lies behind its beginning, found `{text}`"));
            }
            Change::DeleteTo(end)
        }
    };
    Ok(Write { name, key: key_part, change })
}

fn entry(text: &str) -> Result<(Key, Option<Value>), String> {
    match text.split_once('=') {
        Some((text, put)) => Ok((key(text)?, Some(value(put)?))),
        None => {
            let text =
                text.strip_suffix('-').ok_or_else(|| format!("expected `KEY=VALUE` or `KEY-`, found `{text}`"))?;
            Ok((key(text)?, None))
        }
    }
}

fn step(text: &str) -> Result<Step, String> {
    match text.split_once('=') {
        Some(("seek", text)) => key(text).map(Step::Seek),
        Some(("for", text)) => key(text).map(Step::SeekForPrev),
        _ => match text {
            "first" => Ok(Step::First),
            "last" => Ok(Step::Last),
            "next" => Ok(Step::Next),
            "prev" => Ok(Step::Prev),
            _ => Err(format!("expected a step, one of first, last, next, prev, seek=KEY, for=KEY, found `{text}`")),
        },
    }
}

fn key(text: &str) -> Result<Key, String> {
    let expected =
        || format!("expected a key of letters, digits, `/`, `%xx`, or `_` for the empty one, found `{text}`");
    if text == "_" {
        return Ok(Key::new());
    }
    let (mut rest, len) = match text.split_once('*') {
        Some((start, len)) => (start, Some(number::<usize>(len, "a key's length")?)),
        None => (text, None),
    };
    let mut key = Key::new();
    while let Some(first) = rest.chars().next() {
        let used = match first {
            '%' => {
                key.push(rest.get(1..3).and_then(|hex| u8::from_str_radix(hex, 16).ok()).ok_or_else(expected)?);
                3
            }
            first if first == '/' || first.is_ascii_alphanumeric() => {
                key.push(first as u8);
                1
            }
            _ => return Err(expected()),
        };
        rest = &rest[used..];
    }
    let last = *key.last().ok_or_else(expected)?;
    match len {
        Some(len) if len < key.len() || len > esker::KEY_BYTES_MAX => {
            Err(format!("expected a length from {} to {}, found {len}", key.len(), esker::KEY_BYTES_MAX))
        }
        _ => {
            key.resize(len.unwrap_or(key.len()), last);
            Ok(key)
        }
    }
}
