//! [`JsonLines`]: values in JSON, each on a line of a file or of standard input, read when they are asked for.

use futures::StreamExt as _;
use tokio::fs::File;
use tokio::io::{AsyncRead, stdin};
use tokio_util::codec::{FramedRead, LinesCodec};

use super::arguments::{ItemSource, MAX_BYTES, json};
use crate::failure::Failure;
use crate::value::Value;

/// Values in JSON, one a line. Empty lines are skipped.
#[derive(Debug)]
pub(crate) struct JsonLines<R> {
    lines: FramedRead<R, LinesCodec>,
    place: String,
    number: u64,
}

/// A file or standard input.
pub(crate) type Input = Box<dyn AsyncRead + Send + Unpin>;

impl JsonLines<Input> {
    /// Opens a source.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub(crate) async fn open(source: &ItemSource) -> Result<Self, Failure> {
        Ok(match source {
            ItemSource::StandardInput => Self::new(Box::new(stdin()), "standard input"),
            ItemSource::File(path) => {
                let file = File::open(path).await;
                let file = file.map_err(|error| Failure::usage(format!("{path}: {error}")))?;
                Self::new(Box::new(file), path)
            }
        })
    }
}

impl<R: AsyncRead + Unpin> JsonLines<R> {
    /// Reads from `input`, which errors call `place`.
    fn new(input: R, place: &str) -> Self {
        let codec = LinesCodec::new_with_max_length(MAX_BYTES as usize);
        Self { lines: FramedRead::new(input, codec), place: place.to_owned(), number: 0 }
    }

    /// Reads the next value; `None` at the end. If the future is dropped, nothing is lost.
    ///
    /// # Errors
    ///
    /// The line is no JSON, no UTF-8, or too long; or reading failed.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>, Failure> {
        while let Some(line) = self.lines.next().await {
            self.number += 1;
            let place = format!("line {} of {}", self.number, self.place);
            let line = line.map_err(|error| Failure::usage(format!("{place}: {error}")))?;
            if !line.trim().is_empty() {
                return json(&line, &place).map(Some);
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn values_are_read_line_by_line_and_mistakes_have_their_line() {
        let mut lines = JsonLines::new(&b"1\n\n{\"a\":2}\r\n\"x\"\noops\n"[..], "in");
        for expected in ["1", r#"{"a":2}"#, r#""x""#] {
            let value = lines.next().await.unwrap().unwrap();
            assert_eq!(serde_json::to_string(&value).unwrap(), expected);
        }
        let failure = format!("{:?}", lines.next().await.unwrap_err());
        assert!(failure.contains("line 5 of in: no JSON"), "{failure}");
        assert!(JsonLines::new(&b"7"[..], "in").next().await.unwrap().is_some());
    }
}
