//! Lines of any length, one at a time, within a limit of memory.

use std::io::{self, BufRead, Chain, ErrorKind, Read};

const BYTE_ORDER_MARK: &[u8; 3] = b"\xEF\xBB\xBF";

/// Reads lines and counts them. A byte order mark at the very beginning is dropped.
pub(crate) struct Lines<R> {
    /// Begins with what was taken for a byte order mark and was none.
    input: Chain<&'static [u8], R>,
    /// Lines begun so far: the number of the line read last, counted from 1.
    number: u64,
    limit_bytes: usize,
}

/// What [`Lines::append`] met.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// A line, ended by a newline or by the end of the input.
    Line,
    /// A line that does not fit the limit. It was read over to its end.
    TooLong,
    /// The end of the input: no line.
    End,
}

impl<R: BufRead> Lines<R> {
    /// Lines of `input`; what they are appended to never grows past `limit_bytes`.
    pub(crate) fn new(mut input: R, limit_bytes: usize) -> io::Result<Self> {
        let mut matched = 0;
        while matched < BYTE_ORDER_MARK.len() && fill(&mut input)?.first() == Some(&BYTE_ORDER_MARK[matched]) {
            input.consume(1);
            matched += 1;
        }
        let unread = if matched == BYTE_ORDER_MARK.len() { &[] } else { &BYTE_ORDER_MARK[..matched] };
        Ok(Self { input: unread.chain(input), number: 0, limit_bytes })
    }

    /// The number of the line read last, counted from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Most bytes a line may have.
    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// Appends the next line, without its newline, to `line`, and shows `seen` its bytes piece by piece, also those that do not fit.
    pub(crate) fn append(&mut self, line: &mut Vec<u8>, mut seen: impl FnMut(&[u8])) -> io::Result<Met> {
        let mut begun = false;
        let mut too_long = false;
        loop {
            let chunk = fill(&mut self.input)?;
            if chunk.is_empty() && !begun {
                return Ok(Met::End);
            }
            self.number += u64::from(!begun);
            begun = true;
            let newline = chunk.iter().position(|&byte| byte == b'\n');
            let part = &chunk[..newline.unwrap_or(chunk.len())];
            seen(part);
            too_long |= part.len() > self.limit_bytes.saturating_sub(line.len());
            if !too_long {
                line.extend_from_slice(part);
            }
            let ended = newline.is_some() || chunk.is_empty();
            let used = part.len() + usize::from(newline.is_some());
            self.input.consume(used);
            if ended {
                return Ok(if too_long { Met::TooLong } else { Met::Line });
            }
        }
    }
}

fn fill<R: BufRead>(input: &mut R) -> io::Result<&[u8]> {
    // Asked twice, since a borrow returned from within a loop would last for all of it; the second answer comes from the buffer.
    while let Err(error) = input.fill_buf() {
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
    input.fill_buf()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufReader, Cursor};

    fn all(text: &[u8], limit: usize, buffer: usize) -> Vec<(u64, Option<String>)> {
        let mut lines = Lines::new(BufReader::with_capacity(buffer, Cursor::new(text)), limit).unwrap();
        let mut found = Vec::new();
        loop {
            let mut line = Vec::new();
            let met = lines.append(&mut line, |_| {}).unwrap();
            assert!(line.len() <= limit);
            match met {
                Met::End => return found,
                Met::Line => found.push((lines.number(), Some(String::from_utf8(line).unwrap()))),
                Met::TooLong => found.push((lines.number(), None)),
            }
        }
    }

    #[test]
    fn lines_are_whole_whatever_the_buffer() {
        for buffer in 1..12 {
            let line = |number, text: &str| (number, Some(text.to_owned()));
            assert_eq!(all(b"a\n\nbcd\r\ne", 9, buffer), [line(1, "a"), line(2, ""), line(3, "bcd\r"), line(4, "e")]);
            assert_eq!(all(b"", 9, buffer), []);
            assert_eq!(all(b"\n", 9, buffer), [line(1, "")]);
            assert_eq!(all(b"\xEF\xBB\xBFx\n\xEF\xBB\xBFy", 9, buffer), [line(1, "x"), line(2, "\u{feff}y")]);
            assert_eq!(all("\u{fefe}x".as_bytes(), 9, buffer), [line(1, "\u{fefe}x")]);
            assert_eq!(all(b"\xEF\xBB\xBF", 9, buffer), []);
        }
    }

    #[test]
    fn a_monstrous_line_is_read_over_and_counted() {
        for buffer in 1..12 {
            let found = all(b"abcd\nabcde\nabcdefghijkl\nx\n", 4, buffer);
            assert_eq!(found, [(1, Some("abcd".into())), (2, None), (3, None), (4, Some("x".into()))]);
        }
    }
}
