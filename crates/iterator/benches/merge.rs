//! What a step costs in a merge and in a view: `cargo bench -p esker-iterator`.
//!
//! `even` deals entries to the sources at random, so the lead changes at nearly every step; in `levels` each source is four
//! times as large as the one before, as the levels of a tree are.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use esker_format::{InternalKey, InternalKeyBuf, SeqNo, ValueKind};
use esker_iterator::{Bounds, InternalIterator, MergingIterator, VecIterator, VisibleIterator};
use std::hint::black_box;

const ENTRIES: u64 = 20_000;

fn scramble(i: u64) -> u64 {
    let mut x = i.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

fn entry(i: u64) -> (InternalKeyBuf, Vec<u8>) {
    let key = format!("user:{i:011}");
    (InternalKey::new(key.as_bytes(), SeqNo(1), ValueKind::Put).to_buf(), vec![7; 100])
}

/// Deals the entries to `count` sources by `choose`, which maps a random number to a source.
fn dealt(count: usize, choose: impl Fn(u64) -> usize) -> Vec<VecIterator> {
    let mut dealt = vec![Vec::new(); count];
    (0..ENTRIES).for_each(|i| dealt[choose(scramble(i))].push(entry(i)));
    dealt.into_iter().map(VecIterator::new).collect()
}

fn even(count: usize) -> Vec<VecIterator> {
    dealt(count, |random| (random % count as u64) as usize)
}

fn levels(count: usize) -> Vec<VecIterator> {
    let parts = (1u64 << (2 * count)) / 3;
    dealt(count, |random| {
        let part = random % parts;
        ((3 * part + 1).ilog2() / 2) as usize
    })
}

fn walk(iter: &mut impl InternalIterator) {
    assert!(iter.seek_to_first().is_ok());
    while iter.valid() {
        black_box((iter.key(), iter.value()));
        assert!(iter.next().is_ok());
    }
}

fn walk_back(iter: &mut impl InternalIterator) {
    assert!(iter.seek_to_last().is_ok());
    while iter.valid() {
        black_box((iter.key(), iter.value()));
        assert!(iter.prev().is_ok());
    }
}

fn merge(c: &mut Criterion) {
    let mut group = c.benchmark_group("merge");
    group.sample_size(20).throughput(Throughput::Elements(ENTRIES));
    group.bench_function("no merge", |b| {
        let mut iter = even(1).remove(0);
        b.iter(|| walk(&mut iter));
    });
    for count in [1, 2, 4, 8, 16] {
        group.bench_function(format!("even {count}"), |b| {
            let mut iter = MergingIterator::new(even(count));
            b.iter(|| walk(&mut iter));
        });
    }
    for count in [4, 8] {
        group.bench_function(format!("levels {count}"), |b| {
            let mut iter = MergingIterator::new(levels(count));
            b.iter(|| walk(&mut iter));
        });
    }
    group.bench_function("even 8 backward", |b| {
        let mut iter = MergingIterator::new(even(8));
        b.iter(|| walk_back(&mut iter));
    });
    group.bench_function("levels 4 backward", |b| {
        let mut iter = MergingIterator::new(levels(4));
        b.iter(|| walk_back(&mut iter));
    });
    group.finish();
}

fn view(c: &mut Criterion) {
    let mut group = c.benchmark_group("view");
    group.sample_size(20).throughput(Throughput::Elements(ENTRIES));
    let view = |inner| VisibleIterator::new(inner, SeqNo(9), Bounds::prefix(b"user:"));
    group.bench_function("one source, forward", |b| {
        let mut view = view(MergingIterator::new(even(1)));
        b.iter(|| {
            view.seek_to_first().unwrap();
            while view.valid() {
                black_box((view.key(), view.value()));
                view.next().unwrap();
            }
        });
    });
    group.bench_function("one source, backward", |b| {
        let mut view = view(MergingIterator::new(even(1)));
        b.iter(|| {
            view.seek_to_last().unwrap();
            while view.valid() {
                black_box((view.key(), view.value()));
                view.prev().unwrap();
            }
        });
    });
    group.bench_function("levels 4, forward", |b| {
        let mut view = view(MergingIterator::new(levels(4)));
        b.iter(|| {
            view.seek_to_first().unwrap();
            while view.valid() {
                black_box((view.key(), view.value()));
                view.next().unwrap();
            }
        });
    });
    group.finish();
}

criterion_group!(benches, merge, view);
criterion_main!(benches);
