//! A tree of tables that exist in the manifest alone, without the engine: each run adds one at the top, moves the lowest one level down, and prints
//! the levels and what the manifest now holds.
//!
//! ```text
//! cargo run -p esker-manifest --example levels -- /tmp/levels
//! ```

use esker_format::{FileKind, KeyspaceId, SeqNo};
use esker_manifest::{EditReader, Level, TableMeta, VersionEdit, VersionSet};
use esker_vfs::{OsVfs, Vfs};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join("esker-levels"), PathBuf::from);
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs);
    vfs.create_dir_all(&directory)?;
    let mut set = match esker_manifest::probe(&*vfs, &directory)? {
        esker_manifest::Found::Nothing => VersionSet::create(Arc::clone(&vfs), &directory)?,
        esker_manifest::Found::Engine => VersionSet::recover(Arc::clone(&vfs), &directory)?.0,
    };

    let seq = set.current().last_seq.0;
    let number = set.new_file_no()?;
    let table: TableMeta = format!("{number} k{seq:04}#{},PUT .. k{seq:04}#{},PUT", seq + 2, seq + 1).parse()?;
    let mut edit = VersionEdit {
        reserve_seq: Some(SeqNo(seq + 2)),
        add: vec![(KeyspaceId::DEFAULT, Level::ZERO, table)],
        ..VersionEdit::default()
    };
    let lowest = set.current().tables().filter(|(_, level, _)| *level < Level::BOTTOM).last();
    if let Some((keyspace, level, table)) = lowest {
        edit.remove.push((keyspace, level, table.number));
        edit.add.push((keyspace, Level(level.0 + 1), TableMeta::clone(table)));
    }
    let version = set.commit(edit)?;
    for (_, level, table) in version.tables() {
        println!("{level}  {table}");
    }
    set.close(VersionEdit::default(), SeqNo(seq + 2))?;
    print_edits(&*vfs, &directory, &FileKind::Manifest(set.manifest_number()).name())
}

fn print_edits(vfs: &dyn Vfs, directory: &Path, name: &str) -> Result<(), Box<dyn Error>> {
    println!("\n{name}");
    let mut reader = EditReader::open(vfs.open_read(&directory.join(name))?, name)?;
    while let Some((position, edit)) = reader.next_edit()? {
        println!("at {position}\n{edit}");
    }
    Ok(())
}
