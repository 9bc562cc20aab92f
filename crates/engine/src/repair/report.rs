//! [`RepairReport`]: what a repair used, what is lost, and what may have come back.

use std::fmt;

/// What [`crate::repair`] did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RepairReport {
    /// Whether the manifest could be read whole, so that it is known which files belonged together.
    pub exact: bool,
    /// Why it could not.
    pub manifest_error: Option<String>,
    /// The keyspaces of the new directory.
    pub keyspaces: Vec<RepairedKeyspace>,
    /// Tables that were whole.
    pub tables_whole: u64,
    /// Tables of which a part could be read.
    pub tables_in_part: u64,
    /// Logs of which something was used.
    pub logs: u64,
    /// Operations in them that were used.
    pub log_operations: u64,
    /// Large values that were carried over.
    pub blob_records: u64,
    /// What could not be carried over.
    pub losses: Vec<Loss>,
    /// Files that nothing was taken from, because nothing in them was needed, and why.
    pub unused: Vec<(String, String)>,
    /// In plain sentences: what may be there again that had been deleted or replaced, and what else is to be known.
    pub remarks: Vec<String>,
}

impl RepairReport {
    /// Whether all that the directory held was carried over, as it was, and a whole manifest vouches that this is all.
    pub fn is_whole(&self) -> bool {
        self.exact && self.manifest_error.is_none() && self.losses.is_empty() && self.remarks.is_empty()
    }
}

/// A keyspace of the new directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairedKeyspace {
    /// Its name.
    pub name: String,
    /// Its number, which is the one it had.
    pub id: u32,
    /// Whether its name and options come from the manifest. If not, the name was made up, and the options are those of a new keyspace.
    pub is_known: bool,
    /// Keys, of which each has one value, or the operands that make it.
    pub keys: u64,
    /// Tables that hold them now.
    pub tables: u64,
    /// Length of these and of the blob files, in bytes.
    pub bytes: u64,
}

/// Something that could not be carried over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// The file's name.
    pub file: String,
    /// Where in the file, in bytes, if it is a part of it.
    pub offset: Option<u64>,
    /// What is lost, and why.
    pub what: String,
    /// The keyspace's name, if it is known.
    pub keyspace: Option<String>,
    /// What is lost lies at or behind this key; `None` if that is not known.
    pub first: Option<Vec<u8>>,
    /// What is lost lies at or before this key; `None` if that is not known.
    pub last: Option<Vec<u8>>,
    /// How many records, if that is known.
    pub records: Option<u64>,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.what)?;
        if let Some(records) = self.records {
            write!(f, " ({records} records)")?;
        }
        if let Some(keyspace) = &self.keyspace {
            // One line, whatever the name holds.
            write!(f, ", of keyspace '{}'", keyspace.escape_debug())?;
        }
        match (&self.first, &self.last) {
            (None, None) => Ok(()),
            (first, last) => {
                let show = |key: &Option<Vec<u8>>, none: &str| match key {
                    Some(key) => format!("'{}'", key.escape_ascii()),
                    None => none.to_owned(),
                };
                write!(f, ", keys {} to {}", show(first, "from the first"), show(last, "the last"))
            }
        }
    }
}
