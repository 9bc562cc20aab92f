//! JSON lines: each line one object, whose key is the text of one of its fields.

use super::Reader;
use super::lines::{Lines, Met};
use super::{Next, Record};
use crate::text;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::io::BufRead;

/// Reads `--format jsonl`.
pub(crate) struct JsonLines<R> {
    lines: Lines<R>,
    field: String,
}

impl<R: BufRead> JsonLines<R> {
    /// Records of `lines`; the key is the text of `field`.
    pub(crate) fn new(lines: Lines<R>, field: String) -> Self {
        Self { lines, field }
    }
}

impl<R: BufRead> Reader for JsonLines<R> {
    fn next(&mut self, record: &mut Record) -> Next {
        next_line(&mut self.lines, record, |record| key_of(&record.value, &self.field, &mut record.key))
    }
}

/// Reads `--format pairs`.
pub(crate) struct Pairs<R> {
    lines: Lines<R>,
    line: Record,
}

impl<R: BufRead> Pairs<R> {
    /// Records of `lines`.
    pub(crate) fn new(lines: Lines<R>) -> Self {
        Self { lines, line: Record::default() }
    }
}

impl<R: BufRead> Reader for Pairs<R> {
    fn next(&mut self, record: &mut Record) -> Next {
        record.clear();
        let next = next_line(&mut self.lines, &mut self.line, |line| {
            let pair: Pair<'_> = serde_json::from_slice(&line.value).map_err(explain)?;
            record.key = part("key", pair.key, pair.key_hex)?;
            record.value = part("value", pair.value, pair.value_hex)?;
            Ok(())
        });
        record.line = self.line.line;
        next
    }
}

/// Reads the next line that is not blank into `record.value`, and finishes the record by `parse`.
fn next_line<R: BufRead>(
    lines: &mut Lines<R>,
    record: &mut Record,
    parse: impl FnOnce(&mut Record) -> Result<(), String>,
) -> Next {
    loop {
        record.clear();
        let met = lines.append(&mut record.value, |_| {});
        record.line = lines.number();
        match met {
            Err(error) => return Next::Failed(error),
            Ok(Met::End) => return Next::End,
            Ok(Met::TooLong) => return Next::too_long(record.line, lines.limit_bytes()),
            Ok(Met::Line) if record.value.trim_ascii().is_empty() => {}
            Ok(Met::Line) => return Next::from_parse(record.line, parse(record)),
        }
    }
}

/// One line of `--format pairs`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair<'a> {
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key_hex: Option<Cow<'a, str>>,
    #[serde(borrow)]
    value: Option<Cow<'a, str>>,
    #[serde(borrow)]
    value_hex: Option<Cow<'a, str>>,
}

fn part(name: &str, plain: Option<Cow<'_, str>>, hex: Option<Cow<'_, str>>) -> Result<Vec<u8>, String> {
    match (plain, hex) {
        (Some(plain), None) => Ok(plain.into_owned().into_bytes()),
        (None, Some(hex)) => text::unhex(hex.as_bytes()).map_err(|reason| format!("\"{name}_hex\": {reason}")),
        (Some(_), Some(_)) => Err(format!("both \"{name}\" and \"{name}_hex\"")),
        (None, None) => Err(format!("no \"{name}\" and no \"{name}_hex\"")),
    }
}

/// Puts the text of the top-level field `field` of the JSON object `line` into `key`: a string's text, a number or a boolean as written.
/// Where the object has the field several times, the last counts.
pub(crate) fn key_of(line: &[u8], field: &str, key: &mut Vec<u8>) -> Result<(), String> {
    let raw = field_of(line, field)?.ok_or_else(|| format!("no field \"{field}\""))?.get();
    key.clear();
    match raw.as_bytes().first() {
        Some(b'"') => key.extend_from_slice(serde_json::from_str::<Cow<'_, str>>(raw).map_err(explain)?.as_bytes()),
        Some(b'-' | b'0'..=b'9' | b't' | b'f') => key.extend_from_slice(raw.as_bytes()),
        Some(b'n') => return Err(format!("field \"{field}\" is null, which gives no key")),
        Some(b'[') => return Err(format!("field \"{field}\" is an array, which gives no key")),
        _ => return Err(format!("field \"{field}\" is an object, which gives no key")),
    }
    Ok(())
}

/// Whether `line` is one JSON object, whatever its fields.
pub(crate) fn check_object(line: &[u8]) -> Result<(), String> {
    field_of(line, "").map(drop)
}

/// The field `field` of the JSON object `line`, as written.
fn field_of<'a>(line: &'a [u8], field: &str) -> Result<Option<&'a RawValue>, String> {
    let line = std::str::from_utf8(line).map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to() + 1))?;
    let mut input = serde_json::Deserializer::from_str(line);
    FieldOf(field).deserialize(&mut input).and_then(|found| input.end().map(|()| found)).map_err(explain)
}

/// A JSON error in words, with the column but without the line: a record is one line, and its number is told elsewhere.
#[expect(clippy::needless_pass_by_value, reason = "passed to map_err")]
fn explain(error: serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => format!("column {}: {}", error.column(), &text[..end]),
        None => text,
    }
}

/// Finds one field of an object, as written, and reads over all others.
struct FieldOf<'f>(&'f str);

impl<'de> DeserializeSeed<'de> for FieldOf<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FieldOf<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(hit) = map.next_key_seed(Is(self.0))? {
            if hit {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether a string is this one.
struct Is<'f>(&'f str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<bool, D::Error> {
        input.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read_all;
    use super::*;

    fn json(text: &[u8]) -> Vec<String> {
        read_all(&mut JsonLines::new(Lines::new(text, 200).unwrap(), "id".into()))
    }

    #[test]
    fn the_key_is_the_fields_text_and_the_value_the_line_as_it_stood() {
        for (line, key) in [
            (r#"{"id": "a"}"#, "a"),
            (r#"  { "x":[1,{"id":3}], "id":"b\u00e9\"c" } "#, "bé\"c"),
            (r#"{"id":1.50e1}"#, "1.50e1"),
            (r#"{"\u0069d":true}"#, "true"),
            (r#"{"id":""}"#, ""),
            (r#"{"id":1,"id":2}"#, "2"), // of a repeated field the last counts
        ] {
            for end in ["", "\n", "\r\n", "\n\n \n"] {
                let text = format!("\n{line}{end}");
                let value = text::escape(line.as_bytes());
                let carriage_return = if end == "\r\n" { "\r" } else { "" };
                assert_eq!(json(text.as_bytes()), [format!("2: {key} = {value}{carriage_return}")]);
            }
        }
    }

    #[test]
    fn a_bad_line_names_its_number_and_what_is_wrong_and_the_next_is_read() {
        let bad: [(&[u8], &str); 11] = [
            (b"nonsense", "column 2: expected ident"),
            (b"{\"id\":1", "column 7: EOF while parsing an object"),
            (b"{\"id\":1} {}", "column 10: trailing characters"),
            (b"[1]", "column 0: invalid type: sequence, expected a JSON object"),
            (b"{\"x\":1}", "no field \"id\""),
            (b"{\"id\":null}", "field \"id\" is null, which gives no key"),
            (b"{\"id\":[1]}", "field \"id\" is an array, which gives no key"),
            (b"{\"id\":{\"a\":1}}", "field \"id\" is an object, which gives no key"),
            (b"{\"id\":\"\\ud800\"}", "column 8: unexpected end of hex escape"),
            (b"{\"id\":\"\xff\"}", "not UTF-8 at byte 8"),
            (&[b' '; 201], "longer than the limit of 200 bytes; raise it with --record-limit"),
        ];
        for (line, reason) in bad {
            let text = [line, b"\n{\"id\":1}\n"].concat();
            assert_eq!(json(&text), [format!("1! {reason}"), r#"2: 1 = {"id":1}"#.to_owned()]);
        }
    }

    #[test]
    fn pairs_take_text_and_hex_and_nothing_else() {
        let pairs = |text: &[u8]| read_all(&mut Pairs::new(Lines::new(text, 200).unwrap()));
        let found = pairs(b"{\"key\":\"a\",\"value\":\"b\\n\"}\n{\"value_hex\":\"00FF\",\"key_hex\":\"\"}\n");
        assert_eq!(found, [r"1: a = b\n", "2:  = \0\\xff"]);
        let bad = [
            (r#"{"key":"a"}"#, "no \"value\" and no \"value_hex\""),
            (r#"{"key":"a","value":"b","key_hex":""}"#, "both \"key\" and \"key_hex\""),
            (
                r#"{"key":"a","value_hex":"0"}"#,
                "\"value_hex\": hex has two digits a byte, and '0' has an odd number of them",
            ),
            (r#"{"key":"a","key":"b","value":""}"#, "column 16: duplicate field `key`"),
            (r#"{"key":1,"value":""}"#, "column 8: invalid type: integer `1`, expected a string"),
        ];
        for (line, reason) in bad {
            assert_eq!(pairs(line.as_bytes()), [format!("1! {reason}")]);
        }
    }
}
