//! Headers made by hand: of what no writer writes, what is wrong is told, and nothing else.

use super::*;

/// A block of `k#0,PUT=v` with these widths, in which nothing else is wrong: where offsets are wanted they are there, as 0 and 1, of 32 bits
/// unless two bytes are said.
fn with_widths(trailer_width: u8, key_width: u8, value_width: u8) -> Vec<u8> {
    let len_if_even = |width: u8| u8::from(width == 0);
    let mut payload = vec![1, 0, 0, 0, FLAG_ONE_KIND, trailer_width, key_width, value_width];
    payload.extend_from_slice(&[0, 0, len_if_even(key_width), 0, len_if_even(value_width), 0, 0, 0]);
    payload.extend_from_slice(&u64::from(ValueKind::Put as u8).to_le_bytes());
    for width in [key_width, value_width] {
        let at = payload.len();
        payload.resize(at + 2 * usize::from(width), 0);
        match width {
            0 => {}
            2 => payload[at + 2] = 1,
            // Of a width below 4 they reach into the trailer, which may be any number.
            _ => {
                payload.resize(payload.len().max(at + 8), 0);
                payload[at + 4] = 1;
            }
        }
    }
    let offsets_bytes = 2 * usize::from(key_width) + 2 * usize::from(value_width);
    payload.resize(HEADER_BYTES + offsets_bytes + usize::from(trailer_width), 0);
    payload.extend_from_slice(b"kv");
    payload
}

fn fault(payload: &[u8]) -> Option<Fault> {
    assert_eq!(Layout::parse(payload).is_none(), Layout::validate(payload).is_err(), "both look at the header");
    Layout::validate(payload).err()
}

#[test]
fn widths_are_those_of_the_format_page() {
    for width in 0..=u8::MAX {
        let is_offset = matches!(width, 0 | 2 | 4);
        for (payload, is_right) in [
            (with_widths(width, 0, 0), width <= 8),
            (with_widths(8, width, 0), is_offset),
            (with_widths(8, 0, width), is_offset),
        ] {
            match fault(&payload) {
                None => assert!(is_right, "a width of {width} in {payload:?}"),
                Some(fault) => assert!(!is_right && matches!(fault, Fault::Damaged(_)), "{fault:?}: {payload:?}"),
            }
        }
    }
    let read =
        [with_widths(0, 0, 0), with_widths(3, 2, 4), with_widths(8, 4, 2)].map(|payload| read(&payload).unwrap());
    assert!(read.iter().all(|entries| entries[0].1 == b"v" && *entries[0].0.user_key == *b"k"), "{read:?}");
}

#[test]
fn kinds_are_those_of_the_format_page() {
    use ValueKind::{Blob, Delete, Expiring, ExpiringBlob, Merge, Put};
    let known = [Delete, Put, Merge, Blob, Expiring, ExpiringBlob].map(|kind| kind as u8);
    let mixed = build(&vec![put(b"a", 0, b"x"), del(b"b", 0)]);
    let first_trailer = mixed.len() - b"axb".len() - 2;
    assert_eq!(mixed[first_trailer..][..2], [Put as u8, Delete as u8]);
    for kind in 0..=u8::MAX {
        let mut all = with_widths(0, 0, 0);
        all[16] = kind;
        let mut one = mixed.clone();
        one[first_trailer] = kind;
        for payload in [all, one] {
            match Layout::validate(&payload) {
                Ok(layout) => {
                    assert!(known.contains(&kind), "{kind}");
                    assert_eq!(layout.trailer(&payload, 0).unwrap().kind() as u8, kind);
                }
                Err(Fault::Unsupported { what: "value kind", found }) => {
                    assert!(found == u64::from(kind) && !known.contains(&kind), "{kind}");
                }
                Err(fault) => panic!("kind {kind}: {fault:?}"),
            }
        }
    }
}

/// What a later version may have written is told apart from damage, whatever else is wrong.
#[test]
fn damage_is_not_taken_for_something_to_come() {
    let damaged = |payload: &[u8]| assert!(matches!(fault(payload), Some(Fault::Damaged(_))), "{:?}", fault(payload));
    let mut all_flags = with_widths(9, 0, 0);
    damaged(&all_flags);
    all_flags[4] = FLAG_FINGERPRINTS | FLAG_ONE_KIND;
    damaged(&all_flags);
    // Each entry has its own kind, and yet there is one in the base.
    let mut mixed = build(&vec![put(b"a", 0, b"x"), del(b"b", 0)]);
    assert_eq!(mixed[4] & FLAG_ONE_KIND, 0);
    for kind in [1, 6, 64] {
        mixed[16] = kind;
        damaged(&mixed);
    }
}
