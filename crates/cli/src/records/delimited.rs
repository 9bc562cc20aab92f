//! CSV and TSV with a header line.
//!
//! Where a record ends is found here, so that its bytes are kept as they stood and a limit holds; what its fields say is left to the `csv`
//! crate, which reads the same bytes again. Should the two ever disagree on where the record ends, it is reported as bad.

use super::lines::{Lines, Met};
use super::{Next, Reader, Record};
use crate::text;
use csv::ByteRecord;
use std::io::{self, BufRead, Read};

/// How fields are told apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialect {
    /// Between fields: a comma or a tab.
    pub(crate) delimiter: u8,
    /// Whether a field may stand in double quotes, and then hold delimiters and newlines, and quotes doubled.
    pub(crate) quotes: bool,
}

/// Where in a record the bytes read so far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    FieldStart,
    Plain,
    Quoted,
    /// Behind a quote in a quoted field: its end, or the first of two.
    QuoteSeen,
    /// Behind that and a carriage return, which is fine if the line ends here.
    Return,
    /// Behind text that follows a closing quote, up to the end of the line: no record.
    Stray,
}

impl Dialect {
    /// Goes over `bytes`, from `place` on.
    fn scan(self, place: Place, bytes: &[u8]) -> Place {
        bytes.iter().fold(place, |place, &byte| match (place, byte) {
            (Place::FieldStart, b'"') if self.quotes => Place::Quoted,
            (Place::Quoted, b'"') => Place::QuoteSeen,
            (Place::Quoted, _) | (Place::QuoteSeen, b'"') => Place::Quoted,
            (Place::Return | Place::Stray, _) => Place::Stray,
            (_, byte) if byte == self.delimiter => Place::FieldStart,
            (Place::QuoteSeen, b'\r') => Place::Return,
            (Place::QuoteSeen, _) => Place::Stray,
            _ => Place::Plain,
        })
    }

    /// Whether `bytes` would be read back as exactly one record.
    pub(crate) fn is_one_record(self, bytes: &[u8]) -> bool {
        let mut place = Place::FieldStart;
        let mut lines = bytes.split(|&byte| byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            place = self.scan(place, line);
            if place == Place::Stray || (place == Place::Quoted) != lines.peek().is_some() {
                return false;
            }
        }
        !is_blank(bytes)
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.is_empty() || line == b"\r"
}

/// Reads `--format csv` and `--format tsv`.
pub(crate) struct Delimited<R> {
    lines: Lines<R>,
    dialect: Dialect,
    fields: Fields,
}

impl<R: BufRead> Delimited<R> {
    /// Records of `lines`, after reading the header, which must name `column` exactly once.
    pub(crate) fn new(mut lines: Lines<R>, dialect: Dialect, column: &str) -> Result<Self, String> {
        let mut header = Record::default();
        match next_raw(&mut lines, dialect, &mut header) {
            Next::Record => {}
            Next::End => return Err("it is empty; its first line must name the columns".into()),
            Next::Bad { line, reason } => return Err(format!("line {line}, the header: {reason}")),
            Next::Failed(error) => return Err(crate::failure::describe(&error)),
        }
        let fields = Fields::new(dialect, &header.value, column)?;
        Ok(Self { lines, dialect, fields })
    }
}

impl<R: BufRead> Reader for Delimited<R> {
    fn next(&mut self, record: &mut Record) -> Next {
        match next_raw(&mut self.lines, self.dialect, record) {
            Next::Record => {
                let parsed = self.fields.key_of(&record.value);
                Next::from_parse(record.line, parsed.map(|key| record.key.extend_from_slice(key)))
            }
            other => other,
        }
    }
}

/// Reads the bytes of the next record that is not a blank line into `record.value`.
fn next_raw<R: BufRead>(lines: &mut Lines<R>, dialect: Dialect, record: &mut Record) -> Next {
    loop {
        record.clear();
        record.line = lines.number() + 1;
        let mut place = Place::FieldStart;
        let mut too_long = false;
        loop {
            match lines.append(&mut record.value, |part| place = dialect.scan(place, part)) {
                Err(error) => return Next::Failed(error),
                Ok(Met::End) if place == Place::FieldStart => return Next::End,
                Ok(Met::End) => {
                    let last = lines.number();
                    let reason = format!("a quoted field is never closed; read to the end of the file, line {last}");
                    return Next::bad(record.line, reason);
                }
                Ok(met) => too_long |= met == Met::TooLong,
            }
            if place != Place::Quoted {
                break;
            }
            record.value.push(b'\n');
        }
        if too_long {
            return Next::too_long(record.line, lines.limit_bytes());
        }
        if place == Place::Stray {
            return Next::bad(record.line, stray(record.line, lines.number()));
        }
        if !is_blank(&record.value) {
            return Next::Record;
        }
    }
}

/// What is wrong with a record that begins in line `first`, where text in line `last` follows a closing quote.
fn stray(first: u64, last: u64) -> String {
    let over = if last > first { format!("; the field was read to line {last}") } else { String::new() };
    format!("text behind the closing quote of a field{over}; if quotes mean nothing in this file, add --no-quotes")
}

/// Reads the fields of records, one after the other, and finds the one that is the key.
pub(crate) struct Fields {
    dialect: Dialect,
    csv: csv::Reader<Feed>,
    record: ByteRecord,
    column: usize,
    columns: usize,
}

impl Fields {
    /// For records under `header`, of which only the number of fields matters.
    pub(crate) fn counted(dialect: Dialect, header: &[u8]) -> Result<Self, String> {
        let mut fields = Self { dialect, csv: reader(dialect), record: ByteRecord::new(), column: 0, columns: 0 };
        fields.parse(header).map_err(|reason| format!("the header: {reason}"))?;
        fields.columns = fields.record.len();
        Ok(fields)
    }

    /// For records under `header`, which must name `column` exactly once.
    pub(crate) fn new(dialect: Dialect, header: &[u8], column: &str) -> Result<Self, String> {
        let mut fields = Self::counted(dialect, header)?;
        let mut places = fields.record.iter().enumerate().filter(|(_, name)| *name == column.as_bytes());
        let (Some((found, _)), None) = (places.next(), places.next()) else {
            let names: Vec<String> = fields.record.iter().map(|name| text::preview(name, 40)).collect();
            let how_often = if names.iter().any(|name| name == column) { "twice" } else { "not" };
            return Err(format!("column \"{column}\" is {how_often} in the header; it has: {}", names.join(", ")));
        };
        fields.column = found;
        Ok(fields)
    }

    /// The text of the key's column in `raw`, one record as it stood.
    pub(crate) fn key_of(&mut self, raw: &[u8]) -> Result<&[u8], String> {
        self.parse(raw)?;
        if self.record.len() != self.columns {
            let fields = text::counted(self.record.len() as u64, "field");
            return Err(format!("{fields}, and the header has {}", self.columns));
        }
        Ok(&self.record[self.column])
    }

    fn parse(&mut self, raw: &[u8]) -> Result<(), String> {
        // Without the carriage return of the line end; with a newline, so that the reader never sees the end of its input.
        let bytes = raw.strip_suffix(b"\r").unwrap_or(raw);
        let before = self.csv.position().byte();
        let feed = self.csv.get_mut();
        feed.bytes.clear();
        feed.bytes.extend_from_slice(bytes);
        feed.bytes.push(b'\n');
        feed.read = 0;
        let read = self.csv.read_byte_record(&mut self.record);
        let used = self.csv.position().byte() - before;
        match read {
            Ok(true) if used == bytes.len() as u64 + 1 => Ok(()),
            Ok(_) => {
                self.csv = reader(self.dialect);
                Err("quotes or carriage returns that leave open where the record ends".into())
            }
            Err(error) => {
                self.csv = reader(self.dialect);
                Err(error.to_string())
            }
        }
    }
}

fn reader(dialect: Dialect) -> csv::Reader<Feed> {
    csv::ReaderBuilder::new()
        .delimiter(dialect.delimiter)
        .quoting(dialect.quotes)
        .terminator(csv::Terminator::Any(b'\n'))
        .has_headers(false)
        .flexible(true)
        .from_reader(Feed::default())
}

/// Input of the `csv` reader: one record at a time.
#[derive(Default)]
struct Feed {
    bytes: Vec<u8>,
    read: usize,
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (&self.bytes[self.read..]).read(buffer)?;
        self.read += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read_all;
    use super::*;

    const CSV: Dialect = Dialect { delimiter: b',', quotes: true };

    fn csv(text: &str) -> Vec<String> {
        read_all(&mut Delimited::new(Lines::new(text.as_bytes(), 60).unwrap(), CSV, "id").unwrap())
    }

    #[test]
    fn records_are_kept_as_they_stood() {
        let text = "n,\"id\"\r\n1,a\r\n\r\n2,\"b,\"\"c\"\"\"\n\n\"x\ny\n\",\"d\ne\"\r\n \"4\" ,f\"g\n,\n5,last";
        let expected = [
            "2: a = 1,a\r",
            r#"4: b,"c" = 2,"b,""c""""#,
            "6: d\\ne = \"x\\ny\\n\",\"d\\ne\"\r",
            r#"10: f"g =  "4" ,f"g"#,
            "11:  = ,",
            "12: last = 5,last",
        ];
        assert_eq!(csv(text), expected);
    }

    #[test]
    fn a_bad_record_names_its_first_line_and_the_next_is_read() {
        let long = "x".repeat(61);
        let long_quoted = format!("1,\"{long}\n2,b\n\"");
        let bad = [
            ("only one", "2! 1 field, and the header has 2"),
            ("1,2,\"\n\"", "2! 3 fields, and the header has 2"),
            (&long, "2! longer than the limit of 60 bytes; raise it with --record-limit"),
            (&long_quoted, "2! longer than the limit of 60 bytes; raise it with --record-limit"),
        ];
        for (record, expected) in bad {
            let found = csv(&format!("n,id\n{record}\n1,a\n"));
            assert_eq!(found[0], expected);
            assert_eq!(found[1..], [format!("{}: a = 1,a", 3 + record.matches('\n').count())]);
        }
        assert_eq!(
            csv("n,id\n1,a\n2,\"b\n3,c\n"),
            ["2: a = 1,a", "3! a quoted field is never closed; read to the end of the file, line 4"]
        );
    }

    /// Two quotes that belong to the text of two records do not make one record of them.
    #[test]
    fn text_behind_a_closing_quote_is_no_record() {
        let found = csv("n,id\n1,\"x\n2,b\n3,y\"z\n4,d\n\"5\" ,e\n\"6\"\r7,f\n\"8\",\"g\"\r\n");
        let advice = "; if quotes mean nothing in this file, add --no-quotes";
        let stray = "text behind the closing quote of a field";
        let expected = [
            format!("2! {stray}; the field was read to line 4{advice}"),
            "5: d = 4,d".to_owned(),
            format!("6! {stray}{advice}"),
            format!("7! {stray}{advice}"),
            "8: g = \"8\",\"g\"\r".to_owned(),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn tabs_and_files_without_quoting() {
        let read = |quotes, text: &str| {
            let dialect = Dialect { delimiter: b'\t', quotes };
            read_all(&mut Delimited::new(Lines::new(text.as_bytes(), 60).unwrap(), dialect, "id").unwrap())
        };
        assert_eq!(read(true, "id\tn\n\"a\tb\"\t1\n"), [r#"2: a\tb = "a\tb"\t1"#]);
        assert_eq!(read(false, "id\tn\n\"a\t1\n"), [r#"2: "a = "a\t1"#]);
    }

    #[test]
    fn a_header_that_does_not_do_is_refused() {
        let refused = |text: &str| Delimited::new(Lines::new(text.as_bytes(), 60).unwrap(), CSV, "id").err().unwrap();
        assert_eq!(refused("a,b\n"), "column \"id\" is not in the header; it has: a, b");
        assert_eq!(refused("id,id\n"), "column \"id\" is twice in the header; it has: id, id");
        assert!(refused("").contains("empty"));
        assert!(refused("\"id\n").contains("never closed"));
    }

    #[test]
    fn what_is_one_record_and_what_is_not() {
        for (bytes, one) in [
            (&b"a,b"[..], true),
            (b"a,\"b\nc\"", true),
            (b"a,\"b\nc\"\r", true),
            (b"a\nb", false),
            (b"\"a\nb", false),
            (b"a,\"b\"\n", false),
            (b"", false),
            (b"\r", false),
            (b"\"a\"b", false),
            (b"a,\"b\nc\"d", false),
            (b"\"a\"\rb", false),
        ] {
            assert_eq!(CSV.is_one_record(bytes), one, "{}", text::escape(bytes));
        }
    }

    /// The `csv` crate reading the whole file at once says the same as this module record by record, over all short texts of the bytes
    /// that matter.
    #[test]
    fn agrees_with_the_csv_crate() {
        let alphabet = b"\",\na";
        let mut compared = 0;
        let mut fields = Fields::new(CSV, b"id", "id").unwrap();
        for number in 0..4_u32.pow(7) {
            let body: Vec<u8> = (0..7).map(|place| alphabet[(number >> (2 * place)) as usize & 3]).collect();
            let mut input = reader(CSV);
            input.get_mut().bytes = body.clone();
            let expected: Vec<ByteRecord> = input.byte_records().map(Result::unwrap).collect();
            let mut lines = Lines::new(&body[..], 60).unwrap();
            let mut record = Record::default();
            for expected in &expected {
                match next_raw(&mut lines, CSV, &mut record) {
                    Next::Record => fields.parse(&record.value).unwrap(),
                    // The crate takes a quoted field that is never closed for one that ends with the file, and text behind a closing quote
                    // for a part of the field.
                    Next::Bad { reason, .. } => {
                        assert!(reason.contains("never closed") || reason.contains("behind the closing quote"));
                        break;
                    }
                    other => panic!("{other:?} in {}", text::escape(&body)),
                }
                assert_eq!(&fields.record, expected, "{}", text::escape(&body));
                compared += 1;
            }
        }
        assert!(compared > 10_000);
    }
}
