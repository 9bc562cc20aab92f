//! Blob files.

use super::{Dump, Opened, name};
use crate::failure::Result;
use crate::text;
use esker_blob::{Access, BlobFile};
use serde_json::json;
use std::path::Path;

/// Prints a blob file: `OFFSET BYTES VALUE` for each record. What lies behind a damaged record can't be found: records follow each other.
pub(super) fn blob(dump: &mut Dump, file: Opened, path: &Path) -> Result {
    let file = BlobFile::open(file, &name(path), Access::Copied, None)?;
    let (id, number) = (file.file_id(), file.number());
    let (records, bytes) = (file.record_count(), file.file_bytes());
    dump.about(
        &format!("blob file {number}, id {id}: {records} records, {bytes} bytes"),
        &json!({ "number": number.0, "id": id.to_string(), "records": records, "bytes": bytes }),
    )?;
    for record in file.records() {
        match record {
            Ok((reference, value)) => dump.value(reference.offset, &value)?,
            Err(error) => {
                dump.wrong.push(error.to_string());
                return dump.about("no records can be read from here on", &json!({ "missing": true }));
            }
        }
    }
    if let Err(error) = file.verify() {
        dump.wrong.push(error.to_string());
    }
    Ok(())
}

impl Dump {
    fn value(&mut self, offset: u64, value: &[u8]) -> Result {
        self.line.clear();
        if self.json {
            let place = format!("{{\"offset\":{offset},\"bytes\":{},", value.len());
            self.line.extend_from_slice(place.as_bytes());
            text::json_member_into(&mut self.line, "value", value, self.hex);
            self.line.push(b'}');
        } else {
            let shown = if self.hex { text::hex(value) } else { text::preview(value, super::SHOWN_BYTES_MAX) };
            self.line.extend_from_slice(format!("{offset} {} {shown}", value.len()).as_bytes());
        }
        self.out.line(&self.line)
    }
}
