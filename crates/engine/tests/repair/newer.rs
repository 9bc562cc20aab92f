//! What a newer version has written is told apart from damage, and left to it.

use crate::rebuild::{NEW, repaired_in};
use crate::small::{DIR, all, builder, calm, checked, files, small};
use esker::vfs::{MemVfs, Vfs, read_file};
use esker::{ErrorKind, Gravity};
use esker_format::checksum::crc32c;
use std::path::Path;

/// Where in a file its version stands, the checksummed bytes around it begin, and the checksum behind them; from the end where that is told from there.
struct Place {
    part: &'static str,
    is_at_end: bool,
    length: usize,
    version: usize,
    checksum: usize,
}

const PLACES: [Place; 4] = [
    Place { part: "MANIFEST", is_at_end: false, length: 64, version: 8, checksum: 60 },
    Place { part: ".wal", is_at_end: false, length: 64, version: 8, checksum: 60 },
    Place { part: ".sst", is_at_end: true, length: 128, version: 108, checksum: 116 },
    Place { part: ".blob", is_at_end: false, length: 40, version: 8, checksum: 36 },
];

fn make_newer(vfs: &MemVfs, path: &Path, place: &Place) {
    vfs.edit(path, |bytes| {
        let from = if place.is_at_end { bytes.len() - place.length } else { 0 };
        let part = &mut bytes[from..];
        part[place.version] = 9;
        let checksum = crc32c(&part[..place.checksum]);
        part[place.checksum..][..4].copy_from_slice(&checksum.to_le_bytes());
    })
    .unwrap();
}

/// `repair` took for damage what a newer version had written: of a manifest it made one keyspace of all, a log it left out, and both it called a directory that can be opened. The check advised it.
#[test]
fn what_a_newer_version_wrote_is_refused() {
    let small = small();
    for place in &PLACES {
        for path in all(&small.vfs, place.part) {
            let vfs = small.copy();
            make_newer(&vfs, &path, place);
            let name = path.file_name().unwrap().to_str().unwrap();
            let error = repaired_in(&vfs, NEW).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {error}");
            assert!(error.to_string().contains(name), "{error}");
            assert!(vfs.metadata(Path::new(NEW)).is_err(), "{name}: nothing is left of it");
            let report = checked(&vfs, DIR);
            let of_it = |found: &&esker::Finding| found.gravity == Gravity::Damage && found.file == name;
            let advice: Vec<_> = report.findings.iter().filter(of_it).map(|found| &found.advice).collect();
            assert!(!advice.is_empty(), "{name}: {report:#?}");
            assert!(advice.iter().all(|advice| advice.contains("newer")), "{name}: {advice:?}");
        }
    }
}

/// Whether CURRENT can be read or not, nor what else there is.
#[test]
fn it_is_refused_in_a_directory_that_is_damaged_too() {
    let small = small();
    for place in &PLACES {
        let path = all(&small.vfs, place.part).pop().unwrap();
        let vfs = small.copy();
        make_newer(&vfs, &path, place);
        vfs.remove_file(&all(&vfs, "CURRENT")[0]).unwrap();
        let error = repaired_in(&vfs, NEW).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{}: {error}", path.display());
    }
}

/// What nobody needs keeps nobody from it.
#[test]
fn what_is_not_needed_may_be_newer() {
    let small = small();
    let vfs = small.copy();
    builder(&vfs, DIR, calm()).open().unwrap().close().unwrap();
    // Numbers that were given out before.
    let taken: Vec<String> = files(&vfs, DIR).iter().map(|path| path.display().to_string()).collect();
    let mut free = (2..).map(|n| format!("{n:06}.")).filter(|n| !taken.iter().any(|name| name.contains(n)));
    for place in &PLACES[2..] {
        let bytes = read_file(&*vfs, &all(&vfs, place.part)[0], 1 << 30).unwrap();
        let path = Path::new(DIR).join(format!("{}{}", free.next().unwrap(), &place.part[1..]));
        vfs.create_new(&path).unwrap().append(&bytes).unwrap();
        // Of an id that nobody names.
        vfs.edit(&path, |bytes| {
            let at = if place.is_at_end { bytes.len() - place.length + 88 } else { 16 };
            let id = bytes[at..at + 8].to_vec();
            while let Some(at) = bytes.windows(8).position(|window| window == id) {
                bytes[at] ^= 0x55;
            }
        })
        .unwrap();
        make_newer(&vfs, &path, place);
    }
    let report = repaired_in(&vfs, NEW).unwrap();
    assert!(report.is_whole(), "{report:#?}");
}
