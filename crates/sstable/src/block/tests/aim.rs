//! What a look-up sends for before it compares.

use super::*;
use crate::fetch::sent_for;

fn sent(payload: &[u8], fingerprint: u8) -> Vec<Range<usize>> {
    let layout = Layout::parse(payload).unwrap();
    sent_for(|| layout.aim(payload, fingerprint))
}

#[test]
fn the_lowest_mark_is_at_the_first_zero() {
    for other in [0x01, 0x7f, 0x80, 0x81, 0xff] {
        assert_eq!(zero_bytes(u64::from_le_bytes([other; 8])), 0, "no byte is zero");
        for (at, byte) in (0..8).flat_map(|at| (0..=u8::MAX).map(move |byte| (at, byte))) {
            let mut bytes = [other; 8];
            bytes[at] = byte;
            for last in [other, 0] {
                bytes[7] = if at == 7 { byte } else { last };
                let first = bytes.iter().position(|byte| *byte == 0);
                let marks = zero_bytes(u64::from_le_bytes(bytes));
                let lowest = (marks != 0).then(|| marks.trailing_zeros() as usize);
                assert_eq!(lowest, first.map(|at| 8 * at + 7), "{bytes:?}");
            }
        }
    }
}

/// Key, trailer and value are columns apart, and each would be waited for in its turn.
#[test]
fn the_first_entry_with_the_fingerprint_is_sent_for() {
    let value = |i: u8| vec![b'v'; [0, 3, 300, 1000][usize::from(i % 4)]];
    let entries: Entries = (0..30u8).map(|i| put(&[b'k', b'e', b'y', i], u64::from(i) << 20, &value(i))).collect();
    let payload = build(&entries);
    let layout = Layout::parse(&payload).unwrap();
    let fingerprints: Vec<u8> = (0..layout.count).map(|i| layout.fingerprint(&payload, i).unwrap()).collect();
    // Trailers of four bytes lie in front of the keys, of which there is one byte each.
    let keys_at = layout.entry(&payload, 0).unwrap().rest.start;
    assert_eq!((layout.trailer_width, layout.trailers_at), (4, keys_at - 4 * layout.count));
    for fingerprint in 0..=u8::MAX {
        let expected = match fingerprints.iter().position(|other| *other == fingerprint) {
            None => Vec::new(),
            Some(i) => {
                let Entry { rest, value } = layout.entry(&payload, i).unwrap();
                let trailer = layout.trailers_at + 4 * i;
                let begin_of_value = value.start..value.start + value.len().min(256);
                let all = [rest, trailer..trailer + 1, begin_of_value];
                all.into_iter().filter(|range| !range.is_empty()).collect()
            }
        };
        assert_eq!(sent(&payload, fingerprint), expected, "{fingerprint} of {fingerprints:?}");
    }
}

#[test]
fn a_byte_behind_the_fingerprints_is_none() {
    // With values of one length and keys of one length, what follows is a trailer: that of 300 - 1, in two bytes.
    let entries: Entries = (0..10u64).map(|i| put(&[i as u8], if i == 0 { 300 } else { 1 }, b"v")).collect();
    let payload = build(&entries);
    let layout = Layout::parse(&payload).unwrap();
    assert_eq!(layout.trailers_at, layout.prefix_end + layout.count);
    let behind = payload[layout.trailers_at];
    assert_eq!(behind, 43);
    assert!((0..10).all(|i| layout.fingerprint(&payload, i) != Some(behind)), "choose another number");
    assert_eq!(sent(&payload, behind), Vec::<Range<usize>>::new());
}

#[test]
fn a_block_without_fingerprints_is_searched_and_nothing_is_sent_for() {
    let payload = build(&vec![put(b"key", 9, b"value")]);
    assert!((0..=u8::MAX).all(|fingerprint| sent(&payload, fingerprint).is_empty()));
}
