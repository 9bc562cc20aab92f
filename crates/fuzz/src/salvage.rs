//! What can still be read of damaged files: of tables block by block, of manifests edit by edit.

use crate::bytes::Bytes;
use crate::manifest;
use crate::sign::{TABLE_FOOTER_BYTES, u64_at};
use crate::table::{CACHE_BYTES, digest, walk};
use esker_format::{FileKind, FileNo, InternalKeyBuf, SeqNo};
use esker_manifest::salvage as salvage_manifests;
use esker_sstable::{BlockCache, ReadMode, Salvage, Table, TableOptions, Verify, salvage, told_file_id};
use std::path::Path;
use std::sync::Arc;

/// Salvages a table by its index, and without its footer, where blocks are found by their checksums. Of one that passes its verification all is found.
pub(crate) fn attack_table(bytes: Vec<u8>) {
    let without_footer = bytes[..bytes.len().saturating_sub(TABLE_FOOTER_BYTES)].to_vec();
    drop(taken(Bytes::new(without_footer), None));
    let file = Bytes::new(bytes);
    drop(taken(file.clone(), Some(SeqNo(77))));
    let taken = taken(file.clone(), None);
    let options = TableOptions {
        verify: Verify::FirstUse,
        read_mode: ReadMode::Map,
        cache: BlockCache::new(CACHE_BYTES),
        expect: None,
    };
    let Ok(table) = Table::open(file.clone(), "t.sst", options) else { return };
    assert_eq!(told_file_id(file, "t.sst").map(|(_, is_proven)| is_proven), Some(true), "what opens has a footer");
    if table.verify().is_ok() {
        let (salvaged, found) = taken.expect("its footer says which id it has");
        let (entries, sum, _) = walk(table.iter(), true, u64::MAX).expect("it was verified");
        assert_eq!((salvaged.entries, found), (entries, sum), "verified, and not all of it was found: {salvaged:?}");
        assert!(salvaged.skipped.is_empty() && !salvaged.ranges_lost, "{salvaged:?}");
        assert_eq!(salvaged.ranges.is_some(), table.range_tombstones().is_some());
    }
}

/// What is found, and a number that stands for it: in order, each stretch that is left out apart from the others, in the file, and with the keys on either side of it.
fn taken(file: Arc<Bytes>, seq: Option<SeqNo>) -> Option<(Salvage, u64)> {
    let told = told_file_id(file.clone(), "t.sst").map(|(file_id, _)| file_id);
    let len = esker_vfs::ReadableFile::len_bytes(&*file).expect("it is in memory");
    let (mut last, mut entries, mut sum): (Option<InternalKeyBuf>, u64, u64) = (None, 0, 0);
    let found = salvage(file, "t.sst", told, seq, &mut |key, value| {
        assert!(last.as_ref().is_none_or(|last| last.as_ref() < key), "{last:?}, and then {key:?}");
        assert!(seq.is_none_or(|seq| key.trailer.seq() == seq), "{key:?} of a table of {seq:?}");
        last = Some(key.to_buf());
        entries += 1;
        sum = sum.wrapping_add(digest(key, value));
    });
    let found = found.ok()?;
    assert_eq!(found.entries, entries);
    let mut end = 0;
    for skipped in &found.skipped {
        assert!(skipped.offset >= end && skipped.bytes <= len - skipped.offset, "{skipped:?} of {len} behind {end}");
        end = skipped.offset + skipped.bytes;
        if let (Some(after), Some(before)) = (&skipped.after, &skipped.before) {
            assert!(after <= before, "{skipped:?}");
        }
    }
    Some((found, sum))
}

/// Salvages a manifest that CURRENT names, and one that nothing names. Nothing is written.
pub(crate) fn attack_manifest(bytes: Vec<u8>) {
    let number = FileNo(u64_at(&bytes, 24).unwrap_or(1));
    let vfs = manifest::directory();
    manifest::write(&*vfs, &FileKind::Manifest(number).name(), &bytes);
    for is_named in [false, true] {
        if is_named {
            manifest::name(&*vfs, number);
        }
        let before = vfs.operations();
        let found = salvage_manifests(&*vfs, Path::new(manifest::DIR)).expect("the directory is there");
        assert_eq!(vfs.operations(), before, "something was written");
        assert!(found.tables.keys().all(|number| !found.removed.contains(number)), "there, and removed");
        assert!(is_named || found.version.is_none(), "nothing says which manifest holds");
        if let Some(version) = &found.version {
            version.check().expect("replay checks each edit");
            let reads = esker_manifest::VersionSet::read(&*vfs, Path::new(manifest::DIR));
            assert!(*version == reads.expect("it was read for the salvage").version);
        } else {
            assert!(found.error.is_some(), "nothing is wrong, and there is no version");
        }
    }
}
