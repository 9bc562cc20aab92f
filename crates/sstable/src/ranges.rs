//! The block of range tombstones (`docs/format/sstable.md`, "Range tombstones").
//!
//! ```text
//! layers | tombstones of the first | begin, end, number | ... | tombstones of the second | ...
//! ```
//! Decoded when the table is opened, so that no look-up or scan fails for it later; tables without one have nothing to decode.
//!
//! Invariants
//! - Within a layer tombstones lie apart, in order; the numbers of a layer are above those of the next.
//! - Each has an end, and holds a key that there can be.

use crate::properties::Properties;
use esker_format::{DecodeError, Decoder, InternalKey, KEY_BYTES_MAX, SeqNo, ValueKind, varint};
use esker_iterator::{Fragments, RangeTombstone, RangeTombstones};
use std::sync::Arc;

/// The place behind the longest key is one byte longer.
const PLACE_BYTES_MAX: usize = KEY_BYTES_MAX + 1;

/// Why a layer can't be added to a table, if it can't. `above` are the layers that were added before.
pub(crate) fn check_layer(layer: &Fragments, above: &[Arc<Fragments>]) -> Option<&'static str> {
    let numbers = |layer: &Fragments| layer.iter().map(|tombstone| tombstone.seq).collect::<Vec<_>>();
    let newest = numbers(layer).into_iter().max();
    let least_above = above.last().and_then(|layer| numbers(layer).into_iter().min());
    if layer.is_empty() {
        return Some("a layer of no range tombstones");
    }
    if least_above.is_some_and(|above| newest >= Some(above)) {
        return Some("a layer with range tombstones newer than those of the layer above");
    }
    layer.iter().find_map(check_tombstone)
}

fn check_tombstone(tombstone: RangeTombstone<'_>) -> Option<&'static str> {
    let RangeTombstone { begin, end, seq } = tombstone;
    let rules = [
        (!end.is_empty(), "a range tombstone without an end"),
        (begin.len().max(end.len()) <= PLACE_BYTES_MAX, "an end of a range tombstone longer than any place"),
        (seq <= SeqNo::MAX, "a range tombstone with a sequence number that there is not"),
        (tombstone.first_key().is_some(), "a range tombstone behind all keys"),
    ];
    rules.iter().find(|(holds, _)| !holds).map(|(_, what)| *what)
}

pub(crate) fn encode(layers: &[Arc<Fragments>]) -> Vec<u8> {
    let mut out = Vec::new();
    varint::put(&mut out, layers.len() as u64);
    for layer in layers {
        varint::put(&mut out, layer.len() as u64);
        for RangeTombstone { begin, end, seq } in layer.iter() {
            for place in [begin, end] {
                varint::put(&mut out, place.len() as u64);
                out.extend_from_slice(place);
            }
            varint::put(&mut out, seq.0);
        }
    }
    out
}

/// Reads what [`encode`] wrote; what is there must be as the module's page says.
pub(crate) fn decode(payload: &[u8]) -> Result<RangeTombstones, DecodeError> {
    let mut decoder = Decoder::new(payload);
    let count = decoder.varint("number of layers")?;
    let mut layers: Vec<Arc<Fragments>> = Vec::new();
    // Each takes bytes, so a count that lies ends where they do.
    for number in 0..count {
        let offset = decoder.offset();
        let mut layer = Fragments::default();
        for _ in 0..decoder.varint("number of range tombstones")? {
            let offset = decoder.offset();
            let (begin, end) = (decoder.prefixed("begin")?, decoder.prefixed("end")?);
            let tombstone = RangeTombstone { begin, end, seq: SeqNo(decoder.varint("sequence number")?) };
            if !layer.push(tombstone) {
                let what = "range tombstone out of order or of no keys, sequence number";
                return Err(DecodeError::Invalid { what, offset, found: tombstone.seq.0 });
            }
        }
        if let Some(what) = check_layer(&layer, &layers) {
            return Err(DecodeError::Invalid { what, offset, found: number });
        }
        layers.push(Arc::new(layer));
    }
    match decoder.rest().len() {
        0 if !layers.is_empty() => Ok(RangeTombstones::new(layers)),
        left => Err(decoder.invalid("end of the range tombstones, bytes left", left as u64)),
    }
}

impl Properties {
    /// Counts a table's range tombstones in, which have a place in its bounds as its entries do.
    pub(crate) fn count_ranges(&mut self, tombstones: &RangeTombstones) {
        for tombstone in tombstones.iter() {
            let seq = tombstone.seq;
            let Some(first) = tombstone.first_key() else { continue };
            let smallest = InternalKey::new(&first, seq, ValueKind::RangeDelete);
            let largest = InternalKey::new(tombstone.last_key(), seq, ValueKind::RangeDelete);
            let is_only = self.entries == 0 && self.range_tombstones == 0;
            if is_only || smallest < self.smallest.as_ref() {
                self.smallest = smallest.to_buf();
            }
            if is_only || largest > self.largest.as_ref() {
                self.largest = largest.to_buf();
            }
            self.smallest_seq = self.smallest_seq.min(seq);
            self.largest_seq = self.largest_seq.max(seq);
            self.range_tombstones += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(tombstones: &[(&[u8], &[u8], u64)]) -> Arc<Fragments> {
        let mut layer = Fragments::default();
        assert!(tombstones.iter().all(|(begin, end, seq)| layer.push(RangeTombstone { begin, end, seq: SeqNo(*seq) })));
        Arc::new(layer)
    }

    #[test]
    fn round_trip_and_any_cut_is_refused() {
        let longest = [0xff; KEY_BYTES_MAX + 1];
        let layers = [layer(&[(b"", b"b", 9), (b"b", b"c", 8), (b"x", &longest, 9)]), layer(&[(b"a", b"y\0", 7)])];
        let bytes = encode(&layers);
        assert_eq!(decode(&bytes).unwrap().layers(), layers);
        for cut in (0..bytes.len()).rev().step_by(97).chain(0..40) {
            assert!(!decode(&bytes[..cut]).unwrap_err().is_unsupported(), "cut to {cut}");
        }
        assert!(decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let refused = |layers: &[Arc<Fragments>]| decode(&encode(layers)).unwrap_err().to_string();
        assert!(refused(&[]).contains("bytes left"));
        assert!(refused(&[layer(&[])]).contains("no range tombstones"));
        assert!(refused(&[layer(&[(b"a", b"b", 5)]), layer(&[(b"c", b"d", 5)])]).contains("layer above"));
        assert!(refused(&[layer(&[(b"a", b"", 5)])]).contains("without an end"));
        assert!(refused(&[layer(&[(b"a", &[0xff; KEY_BYTES_MAX + 2], 5)])]).contains("longer"));
        assert!(refused(&[layer(&[(b"a", b"b", SeqNo::MAX.0 + 1)])]).contains("there is not"));
        let behind_all = [&[0xff; KEY_BYTES_MAX][..], &[0]].concat();
        assert!(refused(&[layer(&[(&behind_all, &[0xff; KEY_BYTES_MAX + 1], 5)])]).contains("behind all keys"));
        // One that overlaps the one before: `a` to `c`, then `b` to `d`.
        assert!(decode(&[1, 2, 1, b'a', 1, b'c', 1, 1, b'b', 1, b'd', 1]).is_err());
        assert!(decode(&[0xff, 0xff, 0xff, 0xff, 1, 0xff, 0xff, 3]).is_err(), "counts that nothing is behind");
    }

    #[test]
    fn bounds_are_keys_that_no_key_that_may_be_covered_lies_outside_of() {
        let counted = |begin: &[u8], end: &[u8]| {
            let mut properties = Properties::unset();
            properties.count_ranges(&RangeTombstones::new(vec![layer(&[(begin, end, 5)])]));
            (properties.smallest.user_key.to_vec(), properties.largest.user_key.to_vec())
        };
        assert_eq!(counted(b"a", b"b"), (b"a".to_vec(), b"b".to_vec()), "no greatest key lies before `b`");
        assert_eq!(
            counted(b"a\0", b"b\0"),
            (b"a\0".to_vec(), b"b".to_vec()),
            "what lies before `b` and a zero ends with `b`"
        );
        let longest = [b'k'; KEY_BYTES_MAX];
        let behind = |key: &[u8]| [key, &[0]].concat();
        assert_eq!(counted(b"a", &behind(&longest)).1, longest);
        let next = [&longest[1..], b"l"].concat();
        assert_eq!(counted(&behind(&longest), b"z").0, next, "the next key behind the longest one");
        let high = [&[b'k'][..], &[0xff; KEY_BYTES_MAX - 1]].concat();
        assert_eq!(counted(&behind(&high), b"z").0, b"l");
    }
}
