//! The head of an HTTP/1 response, read from a stream that goes on behind it.

use std::time::Duration;

use httparse::Status;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::error::{HttpUpgradeError, excerpt};

/// The longest head, in bytes. Those of proxies have some hundred.
pub(super) const MAX_HEAD: usize = 16 * 1024;
/// The most header fields.
const MAX_FIELDS: usize = 100;
/// The size of one read: the head and not much of what is behind it.
const CHUNK: usize = 1024;
/// The part of the body of a refusal that is searched for its first line, in bytes.
const MAX_LINE: usize = 512;
/// The time that this line is waited for: the refusal itself is known.
const LINE_TIMEOUT: Duration = Duration::from_millis(500);

/// The head of a response.
#[derive(Debug)]
pub(super) struct Head {
    status: u16,
    reason: String,
    /// Names in lower case.
    fields: Vec<(String, String)>,
}

impl Head {
    pub(super) const fn status(&self) -> u16 {
        self.status
    }

    pub(super) fn is_success(&self) -> bool {
        self.status == 101 || (200..300).contains(&self.status)
    }

    /// Returns the status and its reason, such as `404 Not Found`, escaped.
    pub(super) fn status_line(&self) -> String {
        excerpt(format!("{} {}", self.status, self.reason).trim())
    }

    /// Returns the first value of the field with this name, which is given in lower case.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }
}

/// Reads up to the end of a head, past interim ones such as `100 Continue`, and returns also what
/// was read behind it.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<(Head, Vec<u8>), HttpUpgradeError> {
    let mut bytes = Vec::new();
    // What was read in all, interim heads included.
    let mut total = 0;
    loop {
        while let Some((head, len)) = parse(&bytes)? {
            bytes.drain(..len);
            if head.status == 101 || head.status >= 200 {
                return Ok((head, bytes));
            }
        }
        if total >= MAX_HEAD {
            return Err(HttpUpgradeError::HeadTooLong { limit: MAX_HEAD });
        }
        let mut chunk = [0; CHUNK];
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Err(HttpUpgradeError::Closed);
        }
        bytes.extend_from_slice(&chunk[..read]);
        total += read;
    }
}

/// The head at the beginning of the bytes and its length, if all of it is there.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, HttpUpgradeError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let len = match response.parse(bytes) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return Err(HttpUpgradeError::NotHttp { error }),
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let head = Head {
        status: response.code.unwrap_or_default(),
        reason: response.reason.unwrap_or_default().to_owned(),
        fields: response
            .headers
            .iter()
            .map(|field| (field.name.to_ascii_lowercase(), text(field.value)))
            .collect(),
    };
    Ok(Some((head, len)))
}

/// Returns the first line of a refusal's body, of which `begun` was read along with the head. `None` if it is
/// empty or HTML.
pub(super) async fn first_line(
    stream: &mut (impl AsyncRead + Unpin),
    head: &Head,
    mut begun: Vec<u8>,
) -> Option<String> {
    // In a chunked body, the first line is the length of what follows.
    let skip = usize::from(head.value("transfer-encoding").is_some());
    let wanted = head.value("content-length").and_then(|len| len.trim().parse().ok()).unwrap_or(MAX_LINE);
    let reading = async {
        let lines = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == b'\n').count();
        while begun.len() < wanted.min(MAX_LINE) && lines(&begun) <= skip {
            let mut chunk = [0; MAX_LINE];
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(read) => begun.extend_from_slice(&chunk[..read]),
            }
        }
    };
    // A timeout is no error: the bytes that arrived by then are used.
    let _ = timeout(LINE_TIMEOUT, reading).await;
    begun.truncate(MAX_LINE);
    let text = String::from_utf8_lossy(&begun);
    let line = text.lines().nth(skip)?.trim();
    let is_html = line.starts_with('<');
    (!line.is_empty() && !is_html).then(|| excerpt(line))
}
