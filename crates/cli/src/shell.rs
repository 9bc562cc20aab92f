//! Commands to be typed: words as a shell takes them, and such that what is printed of them ends no line.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path in a command: a folder, or what lies in one.
pub(crate) fn path(path: &Path) -> String {
    let mut bytes = Cow::from(path.as_os_str().as_bytes());
    if bytes.starts_with(b"-") {
        bytes.to_mut().splice(..0, *b"./"); // else it is an option, quoted or not
    }
    if bytes.ends_with(b"\n") {
        bytes.to_mut().push(b'/'); // of which a command's output keeps what is in front
    }
    word(&bytes).unwrap_or_default()
}

/// Bytes as one word; `None` if they end in a newline, which no plain shell takes but in a line of its own.
pub(crate) fn word(bytes: &[u8]) -> Option<String> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(byte);
    if !bytes.is_empty() && bytes.iter().all(is_plain) {
        return Some(String::from_utf8_lossy(bytes).into_owned());
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(crate::text::is_hidden) => Some(format!("'{}'", text.replace('\'', "'\\''"))),
        _ if bytes.ends_with(b"\n") => None,
        _ => {
            let mut word = String::from("\"$(printf '");
            for &byte in bytes {
                match byte {
                    b'%' => word.push_str("%%"),
                    byte if byte == b' ' || byte.is_ascii_graphic() && !b"\\'-".contains(&byte) => {
                        word.push(char::from(byte));
                    }
                    byte => write!(word, "\\{byte:03o}").expect("writing to a string"),
                }
            }
            word.push_str("')\"");
            Some(word)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::process::Command;

    #[test]
    fn plain_words_stand_as_they_are() {
        assert_eq!(path(Path::new("/a/b-c.d")), "/a/b-c.d");
        assert_eq!(path(Path::new("my store")), "'my store'");
        assert_eq!(path(Path::new("it's")), "'it'\\''s'");
        assert_eq!(word("grüße".as_bytes()).as_deref(), Some("'grüße'"));
    }

    #[test]
    fn a_shell_takes_them_for_what_they_are() {
        let words: [&[u8]; 12] = [
            b"",
            b"it's; $(touch x) `touch x` \"x\" \\n \\\\ ! * ~",
            b"'",
            b"~",
            b"a\nb",
            b"a'\n%s%d\\n\"$(x)\"`x`",
            b"\x1b[31m\r\x7f\t",
            b"\xff\xfe'",
            "\u{9b}31m\u{202e}".as_bytes(),
            b"--salvage",
            b"# no comment",
            b"\n ",
        ];
        for bytes in words {
            let word = word(bytes).unwrap();
            assert!(!word.contains(crate::text::is_hidden), "{word:?}");
            let said = Command::new("sh").arg("-c").arg(format!("printf %s. {word}")).output().unwrap();
            assert_eq!(said.stdout, [bytes, b"."].concat(), "{word}");
        }
        assert_eq!(word(b"ends\n"), None);
        for (bytes, expected) in [(&b"-x"[..], &b"./-x"[..]), (b"ends\n", b"ends\n/")] {
            let word = path(Path::new(OsStr::from_bytes(bytes)));
            let said = Command::new("sh").arg("-c").arg(format!("printf %s {word}")).output().unwrap();
            assert_eq!(said.stdout, expected, "{word}");
        }
    }
}
