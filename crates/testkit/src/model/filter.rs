//! The compaction filter of a run: what it makes of a value follows from the value alone.

/// The name of the keyspace that has it.
pub const FILTERED: usize = 0;

/// What a filter makes of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Kept,
    /// It goes.
    Removed,
    /// It becomes another one, which stays.
    Replaced(Vec<u8>),
}

/// What becomes of a value of [`value_of`](super::value_of) where compaction asks. One in four goes, and one in four becomes another: a short one longer and a long one short, so that they change places between tables and blob files.
pub fn fate_of(value: &[u8]) -> Fate {
    if value.first() == Some(&b'!') {
        return Fate::Kept;
    }
    let tag = value.split(|byte| *byte == b';').next().unwrap_or_default();
    match tag.iter().map(|byte| u32::from(*byte)).sum::<u32>() % 4 {
        1 => Fate::Removed,
        2 if value.len() < 100 => Fate::Replaced([b"!", &value.repeat(4)[..]].concat()),
        2 => Fate::Replaced([b"!", tag].concat()),
        _ => Fate::Kept,
    }
}
