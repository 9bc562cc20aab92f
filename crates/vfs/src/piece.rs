//! [`PIECE_BYTES`]: how files are best written by who wants them mapped.

/// Files that will be mapped are written in pieces of this size, each at a multiple of it, if there is memory to gather so much, in bytes.
///
/// A system that keeps what it was given at once in one stretch of memory can then map it by its largest pages: on Linux with ext4 or xfs, one entry of the processor's page tables
/// for 2 MiB and not for 4 KiB. So random reads of a large file miss these tables less, and the first touch of a piece costs one fault and not hundreds.
/// Elsewhere it is only a large write.
pub const PIECE_BYTES: usize = 2 << 20;

/// How many of `gathered_bytes`, which follow `written_bytes` of a file, reach to the end of a piece of `piece_bytes`: so many should be written now.
///
/// ```text
/// |      piece      |      piece      |   ...
/// |<- written ->|<--- gathered --->|
///               |<-->|                           the answer
/// ```
pub fn whole_pieces(written_bytes: u64, gathered_bytes: usize, piece_bytes: usize) -> usize {
    let end = written_bytes + gathered_bytes as u64;
    (end - end % piece_bytes.max(1) as u64).saturating_sub(written_bytes) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_end_where_pieces_end() {
        let whole = |written, gathered| whole_pieces(written, gathered, 100);
        assert_eq!((whole(0, 0), whole(0, 99), whole(0, 100), whole(100, 101)), (0, 0, 100, 100));
        assert_eq!((whole(97, 2), whole(97, 3), whole(97, 4), whole(7, 300)), (0, 3, 3, 293));
        assert_eq!(whole_pieces(7, 5, 0), 5, "pieces of nothing are written at once");
    }
}
