//! What is read from text: names of files, and edits as people write them.

use esker_format::FileKind;
use esker_manifest::VersionEdit;
use std::str;

/// Parses the name of a file. A number has one name.
pub(crate) fn attack_file_name(bytes: Vec<u8>) {
    let Ok(name) = str::from_utf8(&bytes) else { return };
    match FileKind::parse(name) {
        // A temporary file is known by its ending alone.
        None | Some(FileKind::Temp) => {}
        Some(kind) => assert_eq!(kind.name(), name, "a file of two names"),
    }
}

/// Parses an edit, and prints it.
pub(crate) fn attack_edit_text(bytes: Vec<u8>) {
    let Ok(text) = str::from_utf8(&bytes) else { return };
    if let Ok(edit) = text.parse::<VersionEdit>() {
        let _ = edit.to_string();
        if let Ok(decoded) = VersionEdit::decode(&edit.encode()) {
            assert!(decoded == edit, "an edit that changes when it is written");
        }
    }
}
