//! Prices as they change, read as they were: `cargo run --example ticker`.
//!
//! One thread writes prices, each change with its own number. Meanwhile another asks what everything cost at a moment of the
//! past, and gets one consistent answer however far the writer has gone on.

use esker_format::{InternalKey, SeqNo, ValueKind};
use esker_iterator::{Bounds, VisibleIterator};
use esker_memtable::MemTable;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SHARES: [&str; 4] = ["ash", "birch", "cedar", "elm"];
const CHANGES: u64 = 100_000;

fn main() -> Result<(), Infallible> {
    let prices = Arc::new(MemTable::new());
    let published = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for seq in 1..=CHANGES {
                let share = SHARES[(seq % 4) as usize];
                let price = (100 + seq % 37).to_string();
                prices.insert(InternalKey::new(share.as_bytes(), SeqNo(seq), ValueKind::Put), price.as_bytes());
                // Whoever reads this number finds all changes up to it.
                published.store(seq, Ordering::Release);
            }
        });
        for tenth in 1..=10 {
            let mut now = 0;
            while now < CHANGES * tenth / 10 {
                std::thread::yield_now();
                now = published.load(Ordering::Acquire);
            }
            let moment = SeqNo(now / 2);
            let mut view = VisibleIterator::new(prices.iter(), moment, Bounds::default());
            let mut line = format!("at {moment:>5} (of {now:>6} so far):");
            view.seek_to_first()?;
            while view.valid() {
                line += &format!("  {} {}", view.key().escape_ascii(), view.value().escape_ascii());
                view.next()?;
            }
            println!("{line}");
        }
        Ok::<(), Infallible>(())
    })?;
    let (version, price) = prices.get(b"elm", SeqNo(1_000)).expect("every fourth change is one of `elm`");
    println!("at 1000 `elm` cost {}, by change {}", price.escape_ascii(), version.seq());
    println!("{} changes take {} KiB", prices.len(), prices.memory_bytes() / 1024);
    Ok(())
}
