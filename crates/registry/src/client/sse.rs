//! [`Events`]: server-sent events out of bytes that come in any pieces.
//!
//! The format is [the HTML standard's](https://html.spec.whatwg.org/multipage/server-sent-events.html).
//! No I/O, no clock.

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// `message` where none is given.
    pub(super) name: String,
    pub(super) data: String,
    /// The id that stands at this event or was the last before it.
    pub(super) id: Option<String>,
}

/// Reads events.
#[derive(Debug)]
pub(super) struct Events {
    /// The most bytes of one event.
    limit: usize,
    /// The line that has begun.
    line: Vec<u8>,
    /// The last line ended in CR: an LF that follows belongs to it.
    after_cr: bool,
    /// Nothing was read yet: a byte order mark may come.
    at_start: bool,
    name: String,
    data: String,
    id: Option<String>,
}

impl Events {
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

    /// The events that end in these bytes. An error is a sentence, after which nothing more is to be
    /// read.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<Vec<Event>, String> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + self.data.len() + part.len() > self.limit {
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
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            // A comment, which has no name; `retry`, for this client has its own pauses; what is unknown.
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
    fn events_are_read_as_the_standard_says() {
        assert_eq!(Events::new(100).read(STREAM.as_bytes()).unwrap(), expected());
    }

    #[test]
    fn an_event_without_an_end_is_refused_at_the_limit() {
        for line in ["data: x\n", "x"] {
            let mut events = Events::new(1000);
            let refused = (0..2000).any(|_| events.read(line.as_bytes()).is_err());
            assert!(refused, "{line}");
            assert!(events.line.capacity() + events.data.capacity() < 10_000);
        }
        // Events one after the other are as many as may come.
        let mut events = Events::new(1000);
        assert!((0..2000).all(|_| events.read(b"data: x\n\n").unwrap().len() == 1));
    }

    #[test]
    fn what_is_not_utf8_is_refused() {
        assert!(Events::new(100).read(b"data: \xff\n").is_err());
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(cuts in proptest::collection::vec(0..STREAM.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let mut events = Events::new(100);
            let mut read = Vec::new();
            for pair in cuts.windows(2) {
                read.extend(events.read(&STREAM.as_bytes()[pair[0]..pair[1]]).unwrap());
            }
            prop_assert_eq!(read, expected());
        }
    }
}
