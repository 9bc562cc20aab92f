//! Builds a write batch, shows its bytes as a log would hold them, and reads them back, without an engine.

use esker_format::{DecodeError, KeyspaceId, SeqNo, ValueKind, WriteBatch, batch, split_expiry};

fn main() -> Result<(), DecodeError> {
    let users = KeyspaceId(1);
    let mut written = WriteBatch::new();
    written.put(users, b"7", b"ada").put(users, b"8", b"").delete(KeyspaceId::DEFAULT, b"last-login");

    // Sequence numbers are given out at commit, when the order of all writers is known.
    let (header, ops) = batch::with_first_seq(written.as_bytes(), SeqNo(41));
    let record = [&header[..], ops].concat();
    println!("{} bytes: {:02x?}", record.len(), record);

    let (first, ops) = batch::decode(&record)?;
    for (i, op) in ops.enumerate() {
        let op = op?;
        let seq = first.0 + i as u64;
        let (keyspace, key, value) = (op.keyspace, op.key.escape_ascii(), op.value.escape_ascii());
        match op.kind {
            ValueKind::Put => println!("#{seq} keyspace {keyspace}: put {key} = \"{value}\""),
            ValueKind::Merge => println!("#{seq} keyspace {keyspace}: merge \"{value}\" into {key}"),
            ValueKind::Delete => println!("#{seq} keyspace {keyspace}: delete {key}"),
            ValueKind::RangeDelete if op.value.is_empty() => {
                println!("#{seq} keyspace {keyspace}: delete from {key} on")
            }
            ValueKind::RangeDelete => println!("#{seq} keyspace {keyspace}: delete from {key} up to {value}"),
            ValueKind::Expiring => {
                let (expiry, value) = split_expiry(op.value).expect("decoding refuses shorter ones");
                println!("#{seq} keyspace {keyspace}: put {key} = \"{}\" until {expiry} ms", value.escape_ascii())
            }
            ValueKind::Blob | ValueKind::ExpiringBlob => {
                unreachable!("no batch has references to blob files: decoding refuses them")
            }
        }
    }

    // Bytes that nobody vouches for give an error that says where, never a panic.
    let torn = &record[..record.len() - 1];
    let error = batch::decode(torn)?.1.find_map(Result::err).expect("the last key is cut short");
    println!("cut short: {error}");
    Ok(())
}
