//! Pages that the device can't read, each in turn and for good: what lies elsewhere comes out.

use crate::rebuild::{NEW, read_back};
use crate::small::{Contents, DIR, all, builder, calm, small};
use esker::vfs::{CrashPolicy, Fault, FaultVfs, MemVfs, Operation, Rule, Vfs};
use esker::{Options, RepairReport, WriteOptions, repair, verify_deep};
use esker_blob::{Access, BlobFile};
use esker_sstable::{BlockCache, ReadMode, Table, TableOptions, Verify};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PAGE: u64 = 4096;

/// A key and its value.
type Entry = (Vec<u8>, Vec<u8>);

fn key(n: usize) -> Vec<u8> {
    format!("{n:05}").into_bytes()
}

/// A copy of which some bytes of a file can't be read.
fn unreadable(vfs: &MemVfs, path: &Path, bytes: Range<u64>) -> (Arc<MemVfs>, Arc<FaultVfs>) {
    let copy = Arc::new(vfs.crash_now(CrashPolicy::All));
    let faults = FaultVfs::new(Arc::clone(&copy) as Arc<dyn Vfs>);
    faults.add(Rule::new(Operation::Read, Fault::EIO).path(path.to_str().unwrap()).bytes(bytes));
    (copy, faults)
}

/// Repairs a copy of which a page can't be read.
#[track_caller]
fn repaired_around(vfs: &MemVfs, path: &Path, page: u64) -> (RepairReport, BTreeMap<String, Contents>) {
    let (copy, faults) = unreadable(vfs, path, page..page + PAGE);
    let report = repair(&(Arc::clone(&faults) as Arc<dyn Vfs>), DIR, NEW, &mut |_| {}).unwrap();
    assert_eq!(faults.count(Operation::Map), 0, "what is mapped can't be read with an error");
    let is_told = report.remarks.iter().any(|remark| remark.contains(&format!("the first at {page}: ")));
    assert!(is_told && !report.is_whole(), "page at {page}: {report:#?}");
    read_back(&copy, report)
}

fn pages(vfs: &MemVfs, path: &Path) -> impl Iterator<Item = u64> + use<> {
    (0..vfs.metadata(path).unwrap().len_bytes).step_by(PAGE as usize)
}

/// That of `written` just those are missing which the bytes of `at` overlap with, and that they are told of.
#[track_caller]
fn judge(page: u64, written: &[Entry], at: impl Fn(usize) -> Range<u64>, found: &Contents, report: &RepairReport) {
    let mut is_lossy = false;
    for (n, (key, value)) in written.iter().enumerate() {
        let Range { start, end } = at(n);
        let is_there = found.get(key) == Some(value);
        let is_hit = start < page + PAGE && end > page;
        is_lossy |= is_hit;
        assert_eq!(is_there, !is_hit, "page at {page}: key {} at {start}..{end}. {report:#?}", key.escape_ascii());
    }
    assert_eq!(!report.losses.is_empty(), is_lossy, "page at {page}: {report:#?}");
}

/// One sector in the place of its footer or index cost a table all of its keys, though nothing else was wrong with it: it was searched in memory, and read at once.
#[test]
fn a_page_of_a_table_costs_the_blocks_in_it() {
    let vfs = MemVfs::new();
    let engine = builder(&vfs, DIR, calm()).open().unwrap();
    // Deleted keys lie in an older table, from which they come back where the deletion is lost.
    for n in 2000..2100 {
        engine.put(key(n), [1; 40]).unwrap();
    }
    engine.flush().unwrap();
    for n in 0..2000 {
        engine.put(key(n), [n as u8; 40]).unwrap();
    }
    engine.delete_range(key(2000), key(2100)).unwrap();
    engine.close().unwrap();
    let path = all(&vfs, ".sst").remove(1);
    let options =
        TableOptions { verify: Verify::Always, read_mode: ReadMode::Pread, cache: BlockCache::new(0), expect: None };
    let table = Table::open(vfs.open_read(&path).unwrap(), "table", options).unwrap();
    let properties = table.properties();
    let (data_bytes, blocks) = (properties.data_bytes, properties.blocks);
    let block_bytes = data_bytes.div_ceil(blocks);
    assert!(data_bytes > 10 * PAGE && blocks > 20, "{properties:?}");
    let mut without_ranges = 0;
    for page in pages(&vfs, &path) {
        let (report, found) = repaired_around(&vfs, &path, page);
        let found = &found["default"];
        // Where a block begins is not known to its entries, and of two that a page touches both may be lost.
        let lost: Vec<usize> = (0..2000).filter(|n| found.get(&key(*n)) != Some(&vec![*n as u8; 40])).collect();
        let place = |n: usize| n as u64 * data_bytes / 2000;
        let touched = page.saturating_sub(2 * block_bytes)..page + PAGE + 2 * block_bytes;
        assert!(lost.iter().all(|n| touched.contains(&place(*n))), "page at {page}: {lost:?}, {report:#?}");
        assert_eq!(lost.is_empty(), page >= data_bytes, "page at {page}: {report:#?}");
        let is_back = found.contains_key(&key(2050));
        without_ranges += u64::from(is_back);
        assert_eq!(report.losses.is_empty(), lost.is_empty() && !is_back, "page at {page}: {report:#?}");
    }
    // They lie behind the index, near the end.
    assert_eq!(without_ranges, 1);
}

fn logged(synced: bool) -> (Arc<MemVfs>, PathBuf, Vec<Entry>) {
    let vfs = MemVfs::new();
    let engine = builder(&vfs, DIR, Options { wal_bytes_max: 1 << 20, ..calm() }).open().unwrap();
    let written: Vec<_> = (0..600).map(|n| (key(n), vec![n as u8; 40])).collect();
    for (n, (key, value)) in written.iter().enumerate() {
        let options = if synced && n + 1 == 600 { WriteOptions::sync() } else { WriteOptions::default() };
        engine.put_with(key, value, &options).unwrap();
    }
    let vfs = Arc::new(vfs.crash_now(CrashPolicy::All));
    let path = all(&vfs, ".wal").remove(0);
    (vfs, path, written)
}

/// One sector cost a log all that it held, 128 KiB at a time being read: also where nothing had ever been written to that place.
#[test]
fn a_page_of_a_log_costs_the_records_in_it() {
    for synced in [false, true] {
        let (vfs, path, written) = logged(synced);
        let mut reader = esker_wal::Reader::open(vfs.open_read(&path).unwrap(), "log").unwrap();
        let start = reader.header().start.0;
        let mut places = Vec::new();
        while let Some(record) = reader.next().unwrap() {
            if record.kind == esker_wal::RecordKind::Data {
                places.push(record.position.0 - start..record.end.0 - start);
            }
        }
        assert_eq!(places.len(), written.len());
        let end = places.last().unwrap().end;
        assert!(end > 8 * PAGE && pages(&vfs, &path).last() > Some(end), "there is room behind what was written");
        for page in pages(&vfs, &path).take_while(|page| *page < end + 3 * PAGE) {
            let (report, found) = repaired_around(&vfs, &path, page);
            let found = &found["default"];
            match page {
                // Without the header no record can be told from damage.
                0 => assert!(found.is_empty() && report.unused.len() + report.losses.len() > 0, "{report:#?}"),
                // What nothing stands behind ends there; whether anything was promised only what vouches for it tells.
                page if page < end && page + PAGE > end => {
                    let kept = places.iter().filter(|place| place.end <= page).count();
                    assert_eq!(found.len(), kept, "{report:#?}");
                    assert!(report.unused.len() + report.losses.len() > 0, "{report:#?}");
                }
                page => judge(page, &written, |n| places[n].clone(), found, &report),
            }
        }
    }
}

#[test]
fn a_page_of_a_blob_file_costs_the_values_in_it() {
    let vfs = MemVfs::new();
    let engine = builder(&vfs, DIR, calm()).open().unwrap();
    let written: Vec<_> = (0..60).map(|n| (key(n), vec![n as u8; 700])).collect();
    for (key, value) in &written {
        engine.put(key, value).unwrap();
    }
    engine.close().unwrap();
    let path = all(&vfs, ".blob").remove(0);
    let file = BlobFile::open(vfs.open_read(&path).unwrap(), "blobs", Access::Copied, None).unwrap();
    let places: Vec<_> = file.records().map(|record| record.unwrap().0).collect();
    assert_eq!(places.len(), written.len());
    for page in pages(&vfs, &path) {
        let (report, found) = repaired_around(&vfs, &path, page);
        // Without what fills it up.
        let place = |n: usize| places[n].offset..places[n].offset + 8 + 700;
        judge(page, &written, place, &found["default"], &report);
    }
}

/// Of CURRENT, manifest and options nothing is needed for a key to come out.
#[test]
fn other_files_cost_no_key() {
    let small = small();
    for part in ["CURRENT", "MANIFEST", "OPTIONS"] {
        let path = all(&small.vfs, part).remove(0);
        let (report, found) = repaired_around(&small.vfs, &path, 0);
        assert_eq!(found["default"], small.default, "{part}: {report:#?}");
        let other = if part == "MANIFEST" { "keyspace-1" } else { "other" };
        assert_eq!(found[other], small.other, "{part}: {report:#?}");
        assert_eq!(report.exact, part == "OPTIONS", "{part}: {report:#?}");
    }
}

/// The last edit of a manifest looks as if it had never been made where it can't be read.
#[test]
fn a_manifest_that_is_not_read_to_its_end_is_not_whole() {
    let small = small();
    let manifest = all(&small.vfs, "MANIFEST").remove(0);
    let used = crate::small::used_bytes(&small.vfs, &manifest) as u64;
    let (copy, faults) = unreadable(&small.vfs, &manifest, PAGE * (used / PAGE) + PAGE..u64::MAX);
    copy.edit(&manifest, |bytes| bytes.resize(bytes.len() + 2 * PAGE as usize, 0)).unwrap();
    let report = repair(&(Arc::clone(&faults) as Arc<dyn Vfs>), DIR, NEW, &mut |_| {}).unwrap();
    assert!(!report.exact && report.manifest_error.is_some_and(|why| why.contains("can't be read")));
}

/// A device that gives at the second attempt what it did not give at the first has lost nothing.
#[test]
fn what_can_be_read_at_another_attempt_is_no_loss() {
    let small = small();
    let mut tried = 0;
    for n in 1.. {
        let vfs = small.copy();
        let faults = FaultVfs::new(Arc::clone(&vfs) as Arc<dyn Vfs>);
        let rule = faults.add(Rule::new(Operation::Read, Fault::EIO).path("/data/*").nth(n));
        let report = repair(&(Arc::clone(&faults) as Arc<dyn Vfs>), DIR, NEW, &mut |_| {}).unwrap();
        if faults.rules().iter().all(|(id, _, struck)| *id != rule || *struck == 0) {
            break;
        }
        tried += 1;
        assert!(report.is_whole(), "read {n}: {report:#?}");
    }
    assert!(tried > 40, "{tried}");
}

/// `verify_deep` opened an engine that maps its files, and a page that can't be read was the end of the process, with no word of it.
#[test]
fn a_check_maps_nothing() {
    let small = small();
    for part in [".sst", ".blob", ".wal", "MANIFEST"] {
        for path in all(&small.vfs, part) {
            for page in pages(&small.vfs, &path).take(3) {
                let (copy, faults) = unreadable(&small.vfs, &path, page..page + PAGE);
                let vfs = Arc::clone(&faults) as Arc<dyn Vfs>;
                let report = verify_deep(&vfs, DIR, &mut |_| {}).unwrap();
                assert_eq!(faults.count(Operation::Map), 0, "{}", path.display());
                let name = path.file_name().unwrap().to_str().unwrap();
                let is_told = report.findings.iter().any(|found| found.file == name);
                assert!(!report.is_ok() && is_told, "{name}, page at {page}: {report:#?}");
                drop(copy);
            }
        }
    }
}
