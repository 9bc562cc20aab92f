//! [`Source`]: a Rust file taken apart into code, comments and test code.
//!
//! The parts have the length and the lines of the whole: what does not belong to a part is blank in it. So a rule finds words
//! by plain search, and an offset in any part tells the line.

/// One Rust file.
pub(super) struct Source<'a> {
    pub(super) path: &'a str,
    pub(super) text: &'a str,
    /// The code, without comments and without what string and character literals hold.
    pub(super) code: String,
    /// The comments.
    pub(super) comments: String,
}

impl<'a> Source<'a> {
    pub(super) fn new(path: &'a str, text: &'a str) -> Self {
        let (code, comments) = split(text);
        Self { path, text, code, comments }
    }

    /// The line of an offset, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        1 + self.text.as_bytes()[..offset].iter().filter(|b| **b == b'\n').count()
    }

    /// Whether the whole file is a test, an example or a bench.
    pub(super) fn is_test_file(&self) -> bool {
        let mut parts = self.path.split('/');
        parts.any(|part| matches!(part, "tests" | "tests.rs" | "examples" | "benches"))
            || self.code.contains("#![cfg(test)]")
    }

    /// The code, without items under `#[cfg(test)]`.
    pub(super) fn code_without_tests(&self) -> String {
        let mut bytes = self.code.clone().into_bytes();
        let mut from = 0;
        while let Some(at) = find(&bytes, b"#[cfg(test)]", from) {
            from = item_end(&bytes, at + b"#[cfg(test)]".len());
            blank(&mut bytes[at..from]);
        }
        String::from_utf8(bytes).expect("whole characters were blanked")
    }
}

/// Offsets of `word` in `code` where it is a whole word.
pub(super) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Offsets where `code` names `tail` in `head`: `head::tail`, or `head::{.., tail, ..}`.
pub(super) fn path_uses<'a>(code: &'a str, head: &'a str, tail: &'a str) -> impl Iterator<Item = usize> + 'a {
    words(code, head).filter(move |&at| {
        let rest = code[at + head.len()..].trim_start();
        let Some(rest) = rest.strip_prefix("::").map(str::trim_start) else { return false };
        match rest.strip_prefix('{') {
            Some(group) => group_names(group, tail),
            None => first_word(rest) == tail,
        }
    })
}

/// Whether `tail` starts an element of the group that `text` is the inside of, up to the closing brace.
fn group_names(text: &str, tail: &str) -> bool {
    let mut depth = 0;
    let mut starts = vec![0];
    for (i, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => starts.push(i + 1),
            _ => {}
        }
    }
    starts.into_iter().any(|start| first_word(text[start..].trim_start()) == tail)
}

fn first_word(text: &str) -> &str {
    text.split(|c| !is_word(c)).next().unwrap_or("")
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn find(bytes: &[u8], what: &[u8], from: usize) -> Option<usize> {
    bytes[from..].windows(what.len()).position(|window| window == what).map(|at| from + at)
}

/// The end of the item that starts at `from`: behind its `;`, or behind the brace that closes its first one.
fn item_end(code: &[u8], from: usize) -> usize {
    let (mut braces, mut others) = (0usize, 0usize);
    for (i, byte) in code.iter().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => others += 1,
            b')' | b']' => others = others.saturating_sub(1),
            b'{' => braces += 1,
            b'}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return i + 1;
                }
            }
            b';' if braces == 0 && others == 0 => return i + 1,
            _ => {}
        }
    }
    code.len()
}

fn blank(bytes: &mut [u8]) {
    bytes.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
}

/// Code and comments of `text`, each as long as `text`.
fn split(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut comments = bytes.to_vec();
    blank(&mut comments);
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let len = if rest.starts_with(b"//") {
            rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            block_comment_len(rest)
        } else {
            let word_before = at > 0 && is_word(bytes[at - 1].into());
            match literal_len(rest, word_before) {
                Some(len) => {
                    blank(&mut code[at..at + len]);
                    code[at] = b'"';
                    code[at + len - 1] = b'"';
                    at += len;
                }
                None => at += 1,
            }
            continue;
        };
        comments[at..at + len].copy_from_slice(&bytes[at..at + len]);
        blank(&mut code[at..at + len]);
        at += len;
    }
    let whole = "comments and literals are whole characters";
    (String::from_utf8(code).expect(whole), String::from_utf8(comments).expect(whole))
}

/// The length of the comment at the front, comments within it included.
fn block_comment_len(bytes: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// The length of the string or character literal at the front, if there is one.
fn literal_len(bytes: &[u8], word_before: bool) -> Option<usize> {
    match bytes {
        [b'"', ..] => Some(quoted_len(bytes, b'"')),
        [b'\'', b'\\', ..] => Some(quoted_len(bytes, b'\'')),
        // A character is at most four bytes; a quote farther off, or none, makes it a lifetime.
        [b'\'', first, ..] => {
            let width = match first {
                0..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
            (bytes.get(1 + width) == Some(&b'\'')).then_some(2 + width)
        }
        [b'r' | b'b' | b'c', ..] if !word_before => {
            let raw = bytes.iter().take(2).position(|b| *b == b'r')? + 1;
            let hashes = bytes[raw..].iter().take_while(|b| **b == b'#').count();
            (bytes.get(raw + hashes) == Some(&b'"')).then(|| {
                let close = [&b"\""[..], &b"#".repeat(hashes)].concat();
                find(bytes, &close, raw + hashes + 1).map_or(bytes.len(), |at| at + close.len())
            })
        }
        _ => None,
    }
}

/// The length of a literal that starts and ends with `quote`, and in which a backslash takes the next byte along.
fn quoted_len(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Source::new("x.rs", text).code.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        for (text, expected) in [
            ("a // unsafe\nb", "a b"),
            ("a /* x /* unsafe */ y */ b", "a b"),
            (r#"f("unsafe // \" x") + g"#, r#"f(" ") + g"#),
            ("f(r#\"un\"safe\"#) + g", "f(\" \") + g"),
            ("f(br\"\\\") + g", "f(\" \") + g"),
            ("f(b\"//\", c\"//\") // h", "f(b\" \", c\" \")"),
            ("f('\"', '\\'', 'é', b'/') + \"//\"", "f(\" \", \" \", \" \", b\" \") + \" \""),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            ("r#type + bar", "r#type + bar"),
            ("'outer: loop { break 'outer }", "'outer: loop { break 'outer }"),
        ] {
            assert_eq!(code(text), expected, "{text}");
        }
    }

    #[test]
    fn every_part_keeps_offsets_and_lines() {
        let text = "a /* é\n */ \"ü\n\" // ñ\n'é'";
        let source = Source::new("x.rs", text);
        assert_eq!((source.code.len(), source.comments.len()), (text.len(), text.len()));
        assert_eq!(source.comments.lines().collect::<Vec<_>>(), ["  /* é", " */    ", "  // ñ", "    "]);
        assert_eq!(source.line(text.len()), 4);
    }

    #[test]
    fn unfinished_literals_end_with_the_file() {
        for text in ["\"abc", "'\\", "/* abc", "r##\"abc\"#", "'", "b", "r"] {
            assert_eq!(Source::new("x.rs", text).code.len(), text.len(), "{text}");
        }
    }

    #[test]
    fn test_items_are_left_out_and_what_follows_is_not() {
        let text = "#[cfg(test)]\nuse a;\nb\n#[cfg(test)]\nmod tests { fn f(x: [u8; 3]) { c } }\n#[cfg(test)] fn g(x: [u8; 3]);\nd";
        let rest = Source::new("x.rs", text).code_without_tests();
        assert_eq!(rest.split_whitespace().collect::<Vec<_>>(), ["b", "d"]);
        assert_eq!(rest.lines().count(), text.lines().count());
    }

    #[test]
    fn a_path_is_found_in_groups_too() {
        let found = |code, head, tail| path_uses(code, head, tail).count();
        assert_eq!(found("use std::fs; std :: fs::read()", "std", "fs"), 2);
        assert_eq!(found("use std::{io::{self, Read}, fs::{self, File}, sync::Arc};", "std", "fs"), 1);
        assert_eq!(found("use std::{io::{self, fs}, sync};", "std", "fs"), 0);
        assert_eq!(found("std::fsx; xstd::fs; std_fs", "std", "fs"), 0);
        assert_eq!(found("std::thread::{self, spawn}", "thread", "spawn"), 1);
        assert_eq!(words("unsafe unsafe_code an_unsafe unsafe{", "unsafe").count(), 2);
    }
}
