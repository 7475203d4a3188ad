//! [`EventDecoder`]: decodes Server-Sent Events from bytes that arrive in arbitrary pieces.
//!
//! The format is [the HTML standard's](https://html.spec.whatwg.org/multipage/server-sent-events.html).
//! No I/O and no clock.

/// A Server-Sent Event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// The event's type; `message` if none is given.
    pub(super) name: String,
    pub(super) data: String,
    /// The last id up to and including this event, if it has at most [`MAX_ID`] bytes: events that came together are kept
    /// together, each with its own.
    pub(super) id: Option<String>,
}

/// The maximum length of an id that is kept, in bytes.
pub(super) const MAX_ID: usize = 256;

/// An incremental decoder.
#[derive(Debug)]
pub(super) struct EventDecoder {
    /// The maximum size of an event, in bytes.
    limit: usize,
    /// The bytes of the current line.
    line: Vec<u8>,
    /// `true` if the last line ended in CR: an LF that follows belongs to it.
    after_cr: bool,
    /// `true` until the first line was read, which may begin with a byte order mark.
    at_start: bool,
    name: String,
    data: String,
    id: Option<String>,
}

impl EventDecoder {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            after_cr: false,
            at_start: true,
            name: String::new(),
            data: String::new(),
            id: None,
        }
    }

    /// Returns the events that end in these bytes. After an error, which is a message, the decoder must not be used.
    pub(super) fn decode(&mut self, mut bytes: &[u8]) -> Result<Vec<Event>, String> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + self.name.len() + self.data.len() + part.len() > self.limit {
                return Err(format!("an event is longer than {} bytes", self.limit));
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { break };
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8(line).map_err(|_| "an event is not UTF-8".to_owned())?;
            events.extend(self.end_line(&line));
        }
        Ok(events)
    }

    fn end_line(&mut self, line: &str) -> Option<Event> {
        let line =
            if std::mem::take(&mut self.at_start) { line.trim_start_matches('\u{feff}') } else { line };
        if line.is_empty() {
            return self.end_event();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // One that is too long does not stand for the one before: the events of both would be mixed up.
            "id" if !value.contains('\0') => self.id = (value.len() <= MAX_ID).then(|| value.to_owned()),
            // Comments, which have an empty name; `retry`, because this client has its own pauses; unknown fields.
            _ => {}
        }
        None
    }

    fn end_event(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        if data.is_empty() {
            return None;
        }
        let name = if name.is_empty() { "message".to_owned() } else { name };
        Some(Event { name, data, id: self.id.clone() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = "\u{feff}: welcome\nevent: snapshot\r\nid: e-1\rdata: {\"a\":\rdata:1}\r\n\r\n\
        : ping\n\nretry: 5\n\ndata:  two\n\nevent: empty\n\nid: e-2\nevent: put\ndata: é\n\ndata: cut off";

    fn event(name: &str, data: &str, id: &str) -> Event {
        Event { name: name.to_owned(), data: data.to_owned(), id: Some(id.to_owned()) }
    }

    fn expected() -> Vec<Event> {
        vec![
            event("snapshot", "{\"a\":\n1}", "e-1"),
            event("message", " two", "e-1"),
            event("put", "é", "e-2"),
        ]
    }

    #[test]
    fn events_are_decoded_as_the_standard_requires() {
        assert_eq!(EventDecoder::new(100).decode(STREAM.as_bytes()).unwrap(), expected());
    }

    #[test]
    fn endless_event_is_refused_at_the_limit() {
        for line in ["data: x\n", "x"] {
            let mut events = EventDecoder::new(1000);
            let refused = (0..2000).any(|_| events.decode(line.as_bytes()).is_err());
            assert!(refused, "{line}");
            assert!(events.line.capacity() + events.data.capacity() < 10_000);
        }
        // The limit is for one event, not for all of them.
        let mut events = EventDecoder::new(1000);
        assert!((0..2000).all(|_| events.decode(b"data: x\n\n").unwrap().len() == 1));
    }

    #[test]
    fn long_id_is_not_kept_with_each_event() {
        let mut events = EventDecoder::new(1 << 20);
        let text = format!("id: {}\n{}", "i".repeat(MAX_ID + 1), "data: x\n\n".repeat(1000));
        let decoded = events.decode(text.as_bytes()).unwrap();
        assert!(decoded.len() == 1000 && decoded.iter().all(|event| event.id.is_none()));
        let decoded = events.decode(format!("id: {}\ndata: x\n\n", "i".repeat(MAX_ID)).as_bytes()).unwrap();
        assert_eq!(decoded[0].id.as_ref().map(String::len), Some(MAX_ID));
    }

    #[test]
    fn invalid_utf8_is_refused() {
        assert!(EventDecoder::new(100).decode(b"data: \xff\n").is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_pieces_give_the_same_events(cuts in proptest::collection::vec(0..STREAM.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let mut events = EventDecoder::new(100);
            let mut read = Vec::new();
            for pair in cuts.windows(2) {
                read.extend(events.decode(&STREAM.as_bytes()[pair[0]..pair[1]]).unwrap());
            }
            prop_assert_eq!(read, expected());
        }
    }
}
