//! What a cursor sends for ahead of its use: no line too many, none that is not used next, and none of copies.

use crate::fetch::sent_for;
use crate::table::tests::{blocks, byte, key, layout, mapped, table};
use crate::{Codec, InternalIterator, ReadMode, Table};
use esker_vfs::CACHE_LINE_BYTES;
use std::ops::Range;

/// Up to eight whole lines from a block's start on.
fn head(block: Option<&Range<usize>>) -> Vec<Range<usize>> {
    let lines = |block: &Range<usize>| block.clone().step_by(CACHE_LINE_BYTES).take(8.min(block.len() / 64));
    block.into_iter().flat_map(lines).map(byte).collect()
}

/// Up to 64 whole lines from a block's end on, backward.
fn tail(block: Option<&Range<usize>>) -> Vec<Range<usize>> {
    let lines = |block: &Range<usize>| {
        let (start, end) = (block.start, block.end);
        (1..=64).map_while(move |i| end.checked_sub(CACHE_LINE_BYTES * i).filter(|at| *at >= start))
    };
    block.into_iter().flat_map(lines).map(byte).collect()
}

/// Six lines from the value of an entry of a block on, so far as the file goes.
fn values(table: &Table, block: &Range<usize>, i: usize) -> Vec<Range<usize>> {
    let (layout, payload) = layout(table, block);
    let value = block.start + layout.entry(payload, i).unwrap().value.start;
    let lines = (0..6).map(|line| value + CACHE_LINE_BYTES * line);
    lines.filter(|at| *at < table.map().unwrap().len()).map(byte).collect()
}

#[test]
fn a_seek_sends_for_the_head_of_its_block_then_for_values_and_near_its_end_for_the_next() {
    for table in mapped() {
        let (mut iter, blocks) = (table.iter(), blocks(&table));
        let mut i = 0;
        for (number, block) in blocks.iter().enumerate() {
            let count = layout(&table, block).0.count;
            for in_block in 0..count {
                let target = key(i);
                let of_index = sent_for(|| assert_eq!(table.find_block(target.as_ref()).unwrap(), number));
                let sent = sent_for(|| iter.prepare_seek(target.as_ref()));
                assert_eq!(sent, [of_index, head(Some(block))].concat());
                let sent = sent_for(|| iter.seek_prepared(target.as_ref()).unwrap());
                let next = if count - in_block <= 12 { head(blocks.get(number + 1)) } else { Vec::new() };
                assert_eq!(sent, [values(&table, block, in_block), next].concat(), "{in_block} of {count}");
                assert_eq!(iter.key(), target.as_ref());
                i += 1;
            }
        }
        assert_eq!(i, 400);
    }
}

#[test]
fn a_walk_sends_for_the_block_behind_the_one_that_it_enters() {
    for table in mapped() {
        let (mut iter, blocks) = (table.iter(), blocks(&table));
        let counts: Vec<usize> = blocks.iter().map(|block| layout(&table, block).0.count).collect();
        iter.seek_to_first().unwrap();
        for (number, count) in counts.iter().enumerate() {
            for _ in 1..*count {
                assert!(sent_for(|| iter.next().unwrap()).is_empty());
            }
            assert_eq!(sent_for(|| iter.next().unwrap()), head(blocks.get(number + 2)), "forward from block {number}");
        }
        assert!(!iter.valid());
        iter.seek_to_last().unwrap();
        for (number, count) in counts.iter().enumerate().rev() {
            for _ in 1..*count {
                assert!(sent_for(|| iter.prev().unwrap()).is_empty());
            }
            let next = number.checked_sub(2).map(|number| &blocks[number]);
            let sent = sent_for(|| iter.prev().unwrap());
            assert_eq!(sent, [head(next), tail(next)].concat(), "backward from block {number}");
        }
        assert!(!iter.valid());
    }
}

#[test]
fn nothing_is_sent_for_of_blocks_that_are_read_as_copies() {
    for (codec, mode) in [(Codec::Lz4, ReadMode::Map), (Codec::None, ReadMode::Pread)] {
        let table = table(4096, codec, mode);
        let mut iter = table.iter();
        let target = key(7);
        let of_index = sent_for(|| drop(table.find_block(target.as_ref())));
        assert_eq!(sent_for(|| iter.seek(target.as_ref()).unwrap()), of_index);
        let walks = sent_for(|| {
            (7..400).for_each(|_| iter.next().unwrap());
            iter.seek_to_last().unwrap();
            (0..400).for_each(|_| iter.prev().unwrap());
        });
        assert!(walks.is_empty() && !iter.valid());
    }
}
