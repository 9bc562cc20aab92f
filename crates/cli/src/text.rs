//! Bytes as text and back. Three forms, each exact:
//!
//! - **escaped**, for people and line-based tools: UTF-8 as it is, but `\t`, `\n`, `\\` for tab, newline and backslash, and `\xHH` for each
//!   byte that is not part of valid UTF-8. So a tab or a newline in the output is always ours.
//! - **hex**: two lower-case digits a byte.
//! - **JSON**: a string where the bytes are UTF-8, else hex under the name with `_hex` added.
//!
//! Sentences and names in them are shown by [`shown`], which no text within can leave.

use indicatif::HumanCount;
use std::borrow::Cow;
use std::fmt::Write as _;

/// Appends `bytes` in escaped form.
pub(crate) fn escape_into(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for &byte in chunk.valid().as_bytes() {
            match byte {
                b'\t' => out.extend_from_slice(b"\\t"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\\' => out.extend_from_slice(b"\\\\"),
                _ => out.push(byte),
            }
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(b"\\x");
            hex_into(out, &[*byte]);
        }
    }
}

/// `bytes` in escaped form.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    escape_into(&mut out, bytes);
    String::from_utf8(out).expect("only valid chunks and ASCII were appended")
}

/// Whether a terminal shows something else for it than a character: the end of a line, a colour, text that runs the other way.
pub(crate) fn is_hidden(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` on one line, whatever paths and names stand in it: what is hidden as `\t`, `\n`, or `\xHH` for each of its bytes.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            hidden if is_hidden(hidden) => {
                let mut buffer = [0; 4];
                for byte in hidden.encode_utf8(&mut buffer).bytes() {
                    write!(out, "\\x{byte:02x}").expect("writing to a string");
                }
            }
            plain => out.push(plain),
        }
    }
    out.into()
}

/// The name of a keyspace, an operator or a filter, in escaped form, nothing in it hidden.
pub(crate) fn name(name: &str) -> String {
    shown(&escape(name.as_bytes())).into_owned()
}

/// `bytes` in escaped form for a message or a table: at most about `bytes_max` of them, and then how many there are.
pub(crate) fn preview(bytes: &[u8], bytes_max: usize) -> String {
    if bytes.len() <= bytes_max {
        return escape(bytes);
    }
    let mut end = bytes_max;
    while end > 0 && bytes[end] & 0xC0 == 0x80 {
        end -= 1; // not in the middle of a character
    }
    let mut text = escape(&bytes[..end]);
    write!(text, "... ({} bytes)", bytes.len()).expect("writing to a string");
    text
}

/// `1 table`, `2,000 tables`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    counted_in(count, noun, &format!("{noun}s"))
}

/// `1 entry`, `2,000 entries`.
pub(crate) fn counted_in(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", HumanCount(count), if count == 1 { one } else { many })
}

/// Appends `bytes` in hex.
pub(crate) fn hex_into(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 * bytes.len());
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// `bytes` in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    hex_into(&mut out, bytes);
    String::from_utf8(out).expect("hex digits are ASCII")
}

/// Reads hex, in either case. The error says what is wrong with it.
pub(crate) fn unhex(text: &[u8]) -> Result<Vec<u8>, String> {
    if !text.len().is_multiple_of(2) {
        return Err(format!("hex has two digits a byte, and '{}' has an odd number of them", preview(text, 40)));
    }
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    text.chunks_exact(2)
        .map(|pair| match (digit(pair[0]), digit(pair[1])) {
            (Some(high), Some(low)) => Ok(high << 4 | low),
            _ => Err(format!("'{}' is not hex", preview(text, 40))),
        })
        .collect()
}

/// Appends the JSON member `"name":"text"`, or `"name_hex":"hex"` where `bytes` are not UTF-8 or `force_hex` is set.
pub(crate) fn json_member_into(out: &mut Vec<u8>, name: &str, bytes: &[u8], force_hex: bool) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    match std::str::from_utf8(bytes) {
        Ok(text) if !force_hex => {
            out.extend_from_slice(b"\":");
            serde_json::to_writer(&mut *out, text).expect("a string is JSON, and a vector takes it");
        }
        _ => {
            out.extend_from_slice(b"_hex\":\"");
            hex_into(out, bytes);
            out.push(b'"');
        }
    }
}

/// Appends a record in the form of `--format pairs`, without the newline.
pub(crate) fn pair_into(out: &mut Vec<u8>, key: &[u8], value: &[u8], force_hex: bool) {
    out.push(b'{');
    json_member_into(out, "key", key, force_hex);
    out.push(b',');
    json_member_into(out, "value", value, force_hex);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The inverse of [`escape`].
    fn unescape(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            if byte != b'\\' {
                bytes.push(byte);
                continue;
            }
            match tail[0] {
                b't' => bytes.push(b'\t'),
                b'n' => bytes.push(b'\n'),
                b'\\' => bytes.push(b'\\'),
                b'x' => bytes.extend(unhex(&tail[1..3]).unwrap()),
                other => panic!("no such escape: {other}"),
            }
            rest = &tail[if tail[0] == b'x' { 3 } else { 1 }..];
        }
        bytes
    }

    #[test]
    fn what_is_escaped_and_what_is_not() {
        assert_eq!(escape(b"a\tb\nc\\d"), r"a\tb\nc\\d");
        assert_eq!(escape("grüße \u{1F980}\r".as_bytes()), "grüße \u{1F980}\r");
        assert_eq!(escape(b"\xff\xc3("), r"\xff\xc3(");
        assert_eq!(escape(br"\xff"), r"\\xff", "an escape in the data is not taken for one of ours");
        assert_eq!(escape(b""), "");
    }

    #[test]
    fn names_and_sentences_hide_nothing() {
        assert_eq!(name("a\\b\n\u{1b}[31m"), r"a\\b\n\x1b[31m");
        assert_eq!(name("grüße \u{1F980}"), "grüße \u{1F980}");
        assert_eq!(shown("one\r\ntwo\u{9b}\u{2028}\u{202e}"), r"one\x0d\ntwo\xc2\x9b\xe2\x80\xa8\xe2\x80\xae");
        assert_eq!(shown(r"twice \n"), r"twice \n", "what was escaped stays as it is");
    }

    #[test]
    fn escapes_and_hex_are_read_back_exactly() {
        let mut bytes: Vec<u8> = (0..=255).collect();
        bytes.extend("\\x41\\n\\\\ \u{7ff}\u{10ffff}".as_bytes());
        for start in 0..bytes.len() {
            let part = &bytes[start..];
            assert_eq!(unescape(&escape(part)), part);
            assert_eq!(unhex(hex(part).as_bytes()).unwrap(), part);
            let lines = escape(part);
            assert!(!lines.contains(['\t', '\n']));
        }
        assert_eq!(unhex(b"00fF").unwrap(), [0, 255]);
        assert!(unhex(b"0").unwrap_err().contains("odd"));
        assert!(unhex(b"0g").unwrap_err().contains("not hex"));
        assert!(unhex("0\u{e9}0".as_bytes()).is_err());
    }

    #[test]
    fn a_preview_is_short_and_says_so() {
        assert_eq!(preview(b"short", 10), "short");
        assert_eq!(preview("ab\u{e9}cd".as_bytes(), 3), "ab... (6 bytes)");
        assert_eq!(preview(&[0x80; 9], 4), "... (9 bytes)");
    }

    #[test]
    fn pairs_are_json() {
        let mut line = Vec::new();
        pair_into(&mut line, b"a\"b", b"\xff\x00", false);
        assert_eq!(line, br#"{"key":"a\"b","value_hex":"ff00"}"#);
        line.clear();
        pair_into(&mut line, b"a", b"", true);
        assert_eq!(line, br#"{"key_hex":"61","value_hex":""}"#);
    }
}
