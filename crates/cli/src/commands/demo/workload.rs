//! The records of the demo. Each can be told from its number, and its number from its key, so that what is found in a store can be judged
//! without remembering anything: record `n` is there, its value is right, and all of 0 to `n` are.

use crate::failure::{Failure, Result};
use crate::text;
use esker::{Engine, WriteBatch};
use std::io::Write as _;

const VALUE_BYTES: usize = 100;
/// Records are written in groups of so many: most groups as one batch,
const GROUP: u64 = 100;
/// and one group in so many by single puts.
const SINGLES_EVERY: u64 = 10;
/// Odd, so multiplication by it is one to one: spreads consecutive numbers over all keys.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// Key and value of a record.
#[derive(Debug, Default)]
pub(crate) struct Pair {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

impl Pair {
    /// Becomes record `number`.
    pub(crate) fn set(&mut self, number: u64) {
        let spread = number.wrapping_mul(SPREAD);
        self.key.clear();
        write!(self.key, "user{spread:016x}").expect("a vector takes it");
        self.value.clear();
        write!(self.value, "record {number} ").expect("a vector takes it");
        let mut state = spread;
        while self.value.len() < VALUE_BYTES {
            state = mix(state);
            self.value.push(b'a' + (state % 16) as u8);
        }
    }
}

/// One step of a random sequence (SplitMix64).
pub(crate) fn mix(state: u64) -> u64 {
    let state = state.wrapping_add(SPREAD);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// The number of the record with this key.
fn number_of(key: &[u8]) -> Option<u64> {
    let digits = key.strip_prefix(b"user").filter(|digits| digits.len() == 16)?;
    let bytes = text::unhex(digits).ok()?;
    let spread = u64::from_be_bytes(bytes.try_into().ok()?);
    Some(spread.wrapping_mul(inverse(SPREAD)))
}

/// What undoes multiplication by an odd number, by Newton's method: each step doubles the number of right bits, beginning with 3.
const fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut step = 0;
    while step < 5 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}

/// Stores the records `from..to`; tells `acknowledged` how many there are in all after each write that returned.
pub(crate) fn load(engine: &Engine, from: u64, to: u64, mut acknowledged: impl FnMut(u64) -> Result) -> Result {
    let mut pair = Pair::default();
    let mut batch = WriteBatch::new();
    for number in from..to {
        pair.set(number);
        if is_single(number) {
            engine.put(&pair.key, &pair.value)?;
            acknowledged(number + 1)?;
            continue;
        }
        batch.put(&pair.key, &pair.value);
        if (number + 1).is_multiple_of(GROUP) || number + 1 == to {
            engine.write(&batch)?;
            batch.clear();
            acknowledged(number + 1)?;
        }
    }
    Ok(())
}

fn is_single(number: u64) -> bool {
    (number / GROUP) % SINGLES_EVERY == SINGLES_EVERY - 1
}

/// Reads the whole store and returns how many records it has, if they are exactly the first so many of `total`, in order, each with its
/// value, and the last batch whole.
pub(crate) fn prove(engine: &Engine, total: u64, mut seen: impl FnMut(u64)) -> Result<u64> {
    let mut expected = Pair::default();
    let mut before = Vec::new();
    let (mut count, mut end) = (0, 0);
    let mut cursor = engine.cursor();
    cursor.seek_to_first()?;
    while cursor.valid() {
        before.clear();
        before.extend_from_slice(&expected.key);
        let shown = || text::preview(cursor.key(), 80);
        let number = number_of(cursor.key()).filter(|&number| number < total);
        let number = number.ok_or_else(|| Failure::damage(format!("key '{}' was never written", shown())))?;
        if count > 0 && cursor.key() <= &before[..] {
            return Err(Failure::damage(format!("key '{}' is out of order", shown())));
        }
        expected.set(number);
        if cursor.value()? != expected.value {
            return Err(Failure::damage(format!("record {number} does not have the value that was written")));
        }
        count += 1;
        end = end.max(number + 1);
        seen(count);
        cursor.next()?;
    }
    // The keys ascend, so they are `count` different ones, all of records below `end`.
    if count != end {
        return Err(Failure::damage(format!(
            "record {} is there, but of those before it {} are missing",
            end - 1,
            end - count
        )));
    }
    if count != total && !count.is_multiple_of(GROUP) && !is_single(count - 1) {
        return Err(Failure::damage(format!("only a part of the batch that ends with record {} is there", count - 1)));
    }
    Ok(count)
}

/// Looks up `count` records of `total` at random.
pub(crate) fn get(engine: &Engine, total: u64, count: u64) -> Result {
    let mut expected = Pair::default();
    let mut state = total;
    for _ in 0..count {
        state = mix(state);
        let number = state % total;
        expected.set(number);
        match engine.get(&expected.key)? {
            Some(value) if value == expected.value => {}
            Some(_) => {
                return Err(Failure::damage(format!("record {number} does not have the value that was written")));
            }
            None => return Err(Failure::damage(format!("record {number} is missing"))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_number_and_a_number_its_record() {
        let (mut pair, mut again) = (Pair::default(), Pair::default());
        for number in [0, 1, 2, 99, 1_000_000, u64::MAX] {
            pair.set(number);
            assert_eq!(number_of(&pair.key), Some(number));
            assert_eq!(pair.value.len(), VALUE_BYTES);
            again.set(number);
            assert_eq!((&pair.key, &pair.value), (&again.key, &again.value));
        }
        assert_eq!(number_of(b"user"), None);
        assert_eq!(number_of(b"user000000000000000g"), None);
    }

    #[test]
    fn the_proof_finds_what_is_missing_wrong_or_torn() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(dir.path()).unwrap();
        let fails = |engine: &Engine| prove(engine, 2000, |_| {}).unwrap_err().message().unwrap().to_owned();
        let mut pair = Pair::default();

        load(&engine, 0, 950, |_| Ok(())).unwrap();
        assert_eq!(prove(&engine, 2000, |_| {}).unwrap(), 950, "the tenth group is written by single puts");
        load(&engine, 950, 1000, |_| Ok(())).unwrap();
        pair.set(1000);
        engine.put(&pair.key, &pair.value).unwrap();
        assert_eq!(fails(&engine), "only a part of the batch that ends with record 1000 is there");
        engine.delete(&pair.key).unwrap();

        pair.set(500);
        engine.delete(&pair.key).unwrap();
        assert_eq!(fails(&engine), "record 999 is there, but of those before it 1 are missing");
        engine.put(&pair.key, b"other").unwrap();
        assert_eq!(fails(&engine), "record 500 does not have the value that was written");
        engine.put(&pair.key, &pair.value).unwrap();

        engine.put("zzz", "").unwrap();
        assert_eq!(fails(&engine), "key 'zzz' was never written");
        engine.delete("zzz").unwrap();
        assert_eq!(prove(&engine, 2000, |_| {}).unwrap(), 1000);
        get(&engine, 1000, 100).unwrap();
        assert!(get(&engine, 1001, 100_000).unwrap_err().message().unwrap().contains("record 1000 is missing"));
    }
}
