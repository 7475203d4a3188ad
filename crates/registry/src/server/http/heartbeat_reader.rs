//! [`HeartbeatReader`]: reads the body of `POST /v1/heartbeats` part by part, so that other requests are answered in
//! between.
//!
//! serde_json reads each value. The object and the list around them are read here, as it would read them.

use farcall_protocol::text::parse_error;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::body::check_beginning;
use super::error::HttpError;
use crate::wire::{Heartbeat, Heartbeats};

/// Heartbeats of one part: reading and renewing them takes well under a millisecond.
pub(super) const MAX_PART: usize = 128;
/// The text after which a part ends, in bytes, though it has fewer.
const MAX_PART_BYTES: usize = 32 * 1024;
/// The largest value in the list, or of a field that is ignored, in bytes: it is read in one go.
const MAX_VALUE_BYTES: usize = 64 * 1024;
/// The name of the field that has the list.
const LIST: &str = "instances";

/// The heartbeats of a body that are still to be read.
#[derive(Debug)]
pub(super) struct HeartbeatReader<'a> {
    body: &'a [u8],
    /// The bytes that were read.
    at: usize,
    stage: Stage,
    /// `true` once the list has begun.
    has_list: bool,
}

/// The part of the body that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Object,
    /// A field or the end of the object; behind a comma if another was before it.
    Field {
        is_first: bool,
    },
    /// A heartbeat or the end of the list.
    Item {
        is_first: bool,
    },
    /// Nothing but white space.
    Rest,
}

impl<'a> HeartbeatReader<'a> {
    pub(super) const fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0, stage: Stage::Object, has_list: false }
    }

    /// Returns the next heartbeats, which may be none; `None` at the end of the body.
    ///
    /// # Errors
    ///
    /// The body is not a list of instances as JSON: 400, with line and column.
    pub(super) fn next_part(&mut self) -> Result<Option<Vec<Heartbeat>>, HttpError> {
        let (mut part, end) = (Vec::new(), self.at + MAX_PART_BYTES);
        while part.len() < MAX_PART && self.at < end {
            let Some(byte) = self.skip_white_space(end) else {
                if self.at < self.body.len() {
                    break;
                }
                return match self.stage {
                    Stage::Rest if part.is_empty() => Ok(None),
                    Stage::Rest => Ok(Some(part)),
                    Stage::Object => Err(HttpError::bad_request(
                        "the body is empty; it must be a list of instances as JSON",
                    )),
                    Stage::Item { .. } => Err(self.mistake("EOF while parsing a list")),
                    Stage::Field { .. } => Err(self.mistake("EOF while parsing an object")),
                };
            };
            match self.stage {
                Stage::Object => self.begin(byte)?,
                Stage::Field { is_first } => self.field(byte, is_first)?,
                Stage::Item { is_first } => part.extend(self.item(byte, is_first)?),
                Stage::Rest => return Err(self.mistake("trailing characters")),
            }
        }
        Ok(Some(part))
    }

    /// Reads the beginning of the object.
    fn begin(&mut self, byte: u8) -> Result<(), HttpError> {
        if byte == b'[' {
            // serde would read it as the fields in their order, which is not part of the interface.
            let error = "the body is a list; it must be a list of instances as a JSON object";
            return Err(HttpError::bad_request(error));
        }
        check_beginning(&self.body[self.at..])?;
        if byte != b'{' {
            // serde_json says what it is instead.
            self.value::<Heartbeats>()?;
            return Err(self.mistake("expected an object"));
        }
        self.at += 1;
        self.stage = Stage::Field { is_first: true };
        Ok(())
    }

    /// Reads a field up to its value, or up to the first value in the list; or the end of the object.
    fn field(&mut self, byte: u8, is_first: bool) -> Result<(), HttpError> {
        if byte == b'}' {
            if !self.has_list {
                return Err(self.mistake("missing field `instances`"));
            }
            self.at += 1;
            self.stage = Stage::Rest;
            return Ok(());
        }
        if !is_first {
            self.expect(b',', "expected `,` or `}`")?;
        }
        if self.peek() != Some(b'"') {
            return Err(self.mistake("key must be a string"));
        }
        let name: String = self.value()?;
        self.expect(b':', "expected `:`")?;
        if name != LIST {
            self.value::<IgnoredAny>()?;
            self.stage = Stage::Field { is_first: false };
            return Ok(());
        }
        if std::mem::replace(&mut self.has_list, true) {
            return Err(self.mistake("duplicate field `instances`"));
        }
        if self.peek() != Some(b'[') {
            self.value::<Vec<IgnoredAny>>()?;
            return Err(self.mistake("expected a list"));
        }
        self.at += 1;
        self.stage = Stage::Item { is_first: true };
        Ok(())
    }

    /// Reads a heartbeat; `None` at the end of the list.
    fn item(&mut self, byte: u8, is_first: bool) -> Result<Option<Heartbeat>, HttpError> {
        if byte == b']' {
            self.at += 1;
            self.stage = Stage::Field { is_first: false };
            return Ok(None);
        }
        if !is_first {
            self.expect(b',', "expected `,` or `]`")?;
        }
        self.stage = Stage::Item { is_first: false };
        self.value().map(Some)
    }

    /// Reads a value, and the white space before it.
    fn value<T: DeserializeOwned>(&mut self) -> Result<T, HttpError> {
        let rest = &self.body[self.at..];
        let text = &rest[..rest.len().min(MAX_VALUE_BYTES)];
        let mut values = serde_json::Deserializer::from_slice(text).into_iter::<T>();
        match values.next() {
            Some(Ok(value)) => {
                self.at += values.byte_offset();
                Ok(value)
            }
            Some(Err(error)) if error.is_eof() && text.len() < rest.len() => Err(self.too_large()),
            None if text.len() < rest.len() => Err(self.too_large()),
            Some(Err(error)) => Err(self.malformed(&error)),
            None => Err(self.mistake("EOF while parsing a value")),
        }
    }

    /// Reads this byte, and the white space before it.
    fn expect(&mut self, byte: u8, what: &str) -> Result<(), HttpError> {
        if self.peek() != Some(byte) {
            return Err(self.mistake(what));
        }
        self.at += 1;
        Ok(())
    }

    /// Returns the next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        self.skip_white_space(self.at + MAX_VALUE_BYTES)
    }

    /// Returns the next byte that is no white space, if there is one before `end`.
    fn skip_white_space(&mut self, end: usize) -> Option<u8> {
        let rest = &self.body[self.at..end.min(self.body.len())];
        let is_white = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\t' | b'\r');
        let white = rest.iter().take_while(|byte| is_white(byte)).count();
        self.at += white;
        rest.get(white).copied()
    }

    /// Returns the error for a mistake at the next byte.
    fn mistake(&self, what: &str) -> HttpError {
        let (line, before) = self.place();
        malformed(what, line, before + usize::from(self.at < self.body.len()))
    }

    /// Returns an error of serde_json with its place in the whole body.
    fn malformed(&self, error: &serde_json::Error) -> HttpError {
        let text = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let (line, before) = self.place();
        let column = if error.line() <= 1 { before + error.column() } else { error.column() };
        malformed(
            &parse_error(text.strip_suffix(&*place).unwrap_or(&text)),
            line + error.line().saturating_sub(1),
            column,
        )
    }

    fn too_large(&self) -> HttpError {
        let (line, before) = self.place();
        malformed(&format!("a value of more than {MAX_VALUE_BYTES} bytes"), line, before + 1)
    }

    /// Returns the line of the next byte, from 1, and the number of bytes that stand before it in that line.
    fn place(&self) -> (usize, usize) {
        let read = &self.body[..self.at];
        let lines = read.iter().filter(|byte| **byte == b'\n').count();
        let begin = read.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        (lines + 1, read.len() - begin)
    }
}

fn malformed(what: &str, line: usize, column: usize) -> HttpError {
    HttpError::bad_request(format!(
        "the body is not a list of instances as JSON: {what} at line {line} column {column}"
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads all parts, and asserts that none is large.
    fn read(body: &[u8]) -> Result<Vec<Heartbeat>, String> {
        let (mut reader, mut all) = (HeartbeatReader::new(body), Vec::new());
        loop {
            let before = reader.at;
            match reader.next_part() {
                Ok(Some(part)) => {
                    assert!(part.len() <= MAX_PART);
                    let read = reader.at - before;
                    assert!(read > 0 && read <= MAX_PART_BYTES + 3 * MAX_VALUE_BYTES, "{read}");
                    all.extend(part);
                }
                Ok(None) => return Ok(all),
                Err(error) => return Err(error.message().to_owned()),
            }
        }
    }

    fn whole(body: &[u8]) -> Result<Vec<Heartbeat>, String> {
        let read = serde_json::from_slice::<Heartbeats>(body).map(|heartbeats| heartbeats.instances);
        read.map_err(|error| format!("the body is not a list of instances as JSON: {error}"))
    }

    #[test]
    fn parts_are_what_the_whole_is() {
        let many = (0..20_000).map(|n| format!(r#"{{"service":"A","id":"i{n}","token":"t"}}"#));
        let many = format!(r#"{{"instances":[{}]}}"#, many.collect::<Vec<_>>().join(","));
        let spaced = many.replace(',', " ,\r\n\t").replace(':', " : ");
        for body in [
            &*many,
            &*spaced,
            r#"{"instances":[]}"#,
            r#" { "x" : {"instances":[1]}, "instances" : [ {"id":"a"} , ["A","b"] ] , "y" : -1.5e3 } "#,
            r#"{"\u0069nstances":[{"id":"\u0061","unknown":[{}]}]}"#,
        ] {
            let read = read(body.as_bytes());
            assert_eq!(read, whole(body.as_bytes()), "{body}");
            assert!(read.is_ok());
        }
    }

    #[test]
    fn mistakes_are_told_as_serde_json_tells_them() {
        for body in [
            r#"{"instances":[{"id":"a"},{"service":"A"}]}"#,
            "{\"instances\":[\n {\"id\":\"a\"},\n {\"id\":7}]}",
            r#"{"instances":[{"id":"a","id":"b"}]}"#,
            r#"{"instances":[{"id":"a","token":"two words"}]}"#,
            r#"{"instances":null}"#,
            r#"{"instances":{}}"#,
            r#"{"instances":[{"id":"a"} {"id":"b"}]}"#,
            r#"{"instances":[],"instances":[]}"#,
            r#"{"instances":[]} {}"#,
            r#"{"instances":[] "x":1}"#,
            r#"{"instances" []}"#,
            r#"{instances:[]}"#,
            "{}",
            "5",
        ] {
            let (ours, theirs) = (read(body.as_bytes()).unwrap_err(), whole(body.as_bytes()).unwrap_err());
            let reason = |text: &str| text.rsplit_once(" at line ").unwrap().0.to_owned();
            assert_eq!(reason(&ours), reason(&theirs), "{body}");
            let line = |text: &str| text.rsplit_once(" column ").unwrap().0.to_owned();
            assert_eq!(line(&ours), line(&theirs), "{body}");
        }
    }

    #[test]
    fn values_that_take_long_are_refused() {
        let long = "x".repeat(MAX_VALUE_BYTES);
        for (body, column) in [
            (format!(r#"{{"instances":[{{"id":"{long}"}}]}}"#), 15),
            (format!(r#"{{"x":"{long}","instances":[]}}"#), 6),
            (format!(r#"{{"x":{}1{},"instances":[]}}"#, "[".repeat(100), ",1".repeat(MAX_VALUE_BYTES)), 6),
            (format!(r#"{{"{long}":1,"instances":[]}}"#), 2),
        ] {
            let error = read(body.as_bytes()).unwrap_err();
            let expected = format!("a value of more than 65536 bytes at line 1 column {column}");
            assert!(error.ends_with(&expected), "{error}");
        }
        // White space alone is read in parts.
        let spaces = format!(r#"{{"instances":[{0}{{"id":"a"}}{0}]{0}}}{0}"#, " ".repeat(1_000_000));
        assert_eq!(read(spaces.as_bytes()).unwrap().len(), 1);
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_serde_json_reads_it(
            pieces in proptest::collection::vec(
                proptest::sample::select(vec![
                    "{", "}", "[", "]", ",", ":", " ", "\n", "\"instances\"", "\"id\"", "\"a\"", "null", "1", "-", "\"",
                    "{\"id\":\"a\"}", "{\"instances\":[", "\\", "é",
                ]),
                0..12,
            ),
        ) {
            let body = pieces.concat();
            // A list in place of the object is refused.
            prop_assume!(!body.trim_start().starts_with('['));
            let (ours, theirs) = (read(body.as_bytes()), whole(body.as_bytes()));
            prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{} {:?} {:?}", body, &ours, &theirs);
            if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
                prop_assert_eq!(ours, theirs);
            }
        }
    }
}
