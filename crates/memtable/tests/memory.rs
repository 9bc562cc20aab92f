//! What a memtable says it takes, against an allocator that counts. One test, so that nothing else allocates meanwhile.
#![expect(unsafe_code, reason = "an allocator is unsafe to implement")]

use esker_format::{InternalKey, SeqNo, ValueKind};
use esker_memtable::{Form, MemTable};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promise is the system allocator's condition.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Fills a table; returns what it says it takes, and what was allocated.
fn measure(form: Form, entries: u64, key_bytes: usize, value_bytes: impl Fn(u64) -> usize) -> (usize, usize) {
    let mut key = vec![b'k'; key_bytes];
    let value = vec![7; (0..entries).map(&value_bytes).max().unwrap_or(0)];
    let before = LIVE.load(Relaxed);
    let table = Arc::new(MemTable::with_form(form));
    for i in 0..entries {
        let name = i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        let named = key_bytes.min(8);
        key[key_bytes - named..].copy_from_slice(&name[..named]);
        table.insert(InternalKey::new(&key, SeqNo(i + 1), ValueKind::Put), &value[..value_bytes(i)]);
    }
    (table.memory_bytes(), LIVE.load(Relaxed) - before)
}

#[test]
fn memory_bytes_is_within_a_tenth_of_what_is_allocated() {
    for form in [Form::Tree, Form::SkipList] {
        check(form);
    }
}

fn check(form: Form) {
    let measure =
        |entries, key_bytes, value_bytes: &dyn Fn(u64) -> usize| measure(form, entries, key_bytes, value_bytes);
    // The first use of a skip list allocates what the whole process shares.
    measure(1, 1, &|_| 0);
    let (claimed, allocated) = measure(0, 0, &|_| 0);
    assert!(allocated < 128 && claimed < 128, "an empty table takes {allocated} bytes and claims {claimed}");

    let sets: [(&str, (usize, usize)); 10] = [
        ("one tiny entry", measure(1, 1, &|_| 0)),
        ("ten tiny entries", measure(10, 4, &|_| 0)),
        ("a hundred small ones", measure(100, 8, &|_| 8)),
        ("many without a value", measure(50_000, 8, &|_| 0)),
        ("sixteen and a hundred bytes", measure(100_000, 16, &|_| 100)),
        ("long keys", measure(300, 60_000, &|_| 1)),
        ("a few kilobytes", measure(3_000, 20, &|_| 4_000)),
        ("just over a quarter of a chunk", measure(20, 20, &|_| 270_000)),
        ("several megabytes", measure(5, 20, &|_| 3_000_000)),
        ("a mixture", measure(2_000, 20, &|i| if i % 100 == 0 { 500_000 } else { 50 })),
    ];
    for (what, (claimed, allocated)) in sets {
        println!("{form:?}, {what}: {claimed} claimed, {allocated} allocated");
        assert!(
            claimed.abs_diff(allocated) * 10 <= allocated,
            "{what}, {form:?}: {claimed} claimed, {allocated} allocated"
        );
    }
}
