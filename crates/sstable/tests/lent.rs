//! What tables lend to a walk, one alone and three in turns, while the bytes below one of them change: the walk goes on with what it finds there, or ends in an error that sticks, and never in a panic.

mod support;

use esker_format::{SeqNo, Trailer};
use esker_iterator::{Bounds, MergingIterator, VisibleIterator};
use esker_sstable::{Codec, ReadMode, Table, TableError, TableIter, Verify};
use esker_vfs::{OsVfs, Vfs};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use support::{Entry, build, options, put, table_options};

type View = VisibleIterator<MergingIterator<TableIter>>;
type Found = (Vec<u8>, Trailer, Vec<u8>);
type Move = fn(&mut View) -> Result<(), TableError>;

const WAYS: [(Move, Move); 2] = [(View::seek_to_first, View::next), (View::seek_to_last, View::prev)];

/// One version of each key, in a few blocks, with keys and values of uneven lengths: those of one of so many tables.
fn entries(part: u64, of: u64) -> Vec<Entry> {
    let mine = (0..24 * of).filter(|i| i % of == part);
    mine.map(|i| put(key(i).as_bytes(), i + 1, &vec![b'v'; (i % 5) as usize * 9])).collect()
}

fn key(i: u64) -> String {
    format!("key{i:02}{}", &"+++++++++"[..(i % 4) as usize])
}

/// A view that stands on an entry that was lent.
fn on_lent(tables: &[Arc<Table>], (begin, step): (Move, Move)) -> View {
    let merged = MergingIterator::new(tables.iter().map(Table::iter).collect());
    let mut view = VisibleIterator::new(merged, SeqNo::MAX, Bounds::default());
    begin(&mut view).unwrap();
    step(&mut view).unwrap();
    let shown = format!("{view:?}");
    assert!(shown.contains("place: Lent"), "{shown}");
    view
}

/// Goes on to the end; what is found.
fn walk(view: &mut View, step: Move) -> Result<Vec<Found>, TableError> {
    let mut found = Vec::new();
    while view.valid() {
        assert_eq!(view.value_slice(), view.value());
        let here = (view.key().to_vec(), view.trailer(), view.value().to_vec());
        // One byte can make two keys the same, or two trailers, but not both.
        assert_ne!(found.last(), Some(&here), "a step that failed was taken for one that was made");
        found.push(here);
        assert!(found.len() <= 1000, "a walk without end");
        step(view)?;
    }
    Ok(found)
}

#[test]
fn bytes_that_change_while_they_are_lent_make_no_panic() {
    bytes_change(1);
}

#[test]
fn nor_do_those_of_one_of_several_tables_that_lend_in_turns() {
    bytes_change(3);
}

fn bytes_change(of: u64) {
    let directory = tempfile::tempdir().unwrap();
    let (mut tables, mut files) = (Vec::new(), Vec::new());
    for part in 0..of {
        let path = directory.path().join(format!("{part}.sst"));
        let bytes = build(&entries(part, of), options(400, Codec::None));
        OsVfs.create_new(&path).unwrap().append(&bytes).unwrap();
        let options = table_options(ReadMode::Map, Verify::FirstUse);
        let table = Table::open(OsVfs.open_read(&path).unwrap(), "t.sst", options).unwrap();
        assert!(table.properties().blocks > 1);
        tables.push(table);
        files.push((File::options().write(true).open(&path).unwrap(), bytes));
    }
    for way in WAYS {
        let right = walk(&mut on_lent(&tables, way), way.1).unwrap();
        assert_eq!(right.len() as u64, 24 * of - 1);
        let begin = key(if way == WAYS[0] { 0 } else { 24 * of - 1 });
        let (mut errors, mut others) = (0, 0);
        for (table, (file, bytes)) in tables.iter().zip(&files) {
            for at in 0..table.properties().data_bytes {
                for byte in [0xff, 0, bytes[at as usize].wrapping_add(1)] {
                    // Back and forth too: from a place in the middle, and over the one where it was lent.
                    for turn in [false, true] {
                        let mut view = on_lent(&tables, way);
                        (0..3).for_each(|_| way.1(&mut view).unwrap());
                        file.write_all_at(&[byte], at).unwrap();
                        let step = if turn { if way == WAYS[0] { View::prev } else { View::next } } else { way.1 };
                        match walk(&mut view, step) {
                            Ok(found) => others += usize::from(!turn && found != right[3..]),
                            Err(error) => {
                                assert!(error.is_corruption() || error.is_unsupported(), "{error}");
                                assert!(!view.valid());
                                assert_eq!(step(&mut view).unwrap_err().to_string(), error.to_string(), "it sticks");
                                errors += 1;
                            }
                        }
                        file.write_all_at(&bytes[at as usize..=at as usize], at).unwrap();
                        // A seek forgets the error, and takes back whatever is lent.
                        way.0(&mut view).unwrap();
                        assert_eq!(view.key(), begin.as_bytes());
                    }
                }
            }
        }
        assert!(
            errors > 0 && others > 0,
            "{errors} errors, {others} other answers: the map shows what changes below it"
        );
    }
}
