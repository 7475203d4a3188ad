//! [`HeadRefusal`]: answers a request for whose head there is no memory. hyper answers what it has read; this it has not.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const RESPONSE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 71\r\nconnection: close\r\n\r\n\
    the memory for the heads of requests is full; a head of 8 KiB has room\n";
/// The bytes of the request that are read to no purpose: a kernel that holds unread input answers a close with a reset, which can
/// overtake the response.
const MAX_DISCARDED: usize = 256 * 1024;

/// The refusal of a request on its way to the peer.
#[derive(Debug)]
pub(crate) struct HeadRefusal {
    /// The error of the connection, once the peer has the response. `None` after that.
    error: Option<io::Error>,
    step: Step,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// This many bytes of the response are written.
    Writing(usize),
    Closing,
    /// This many bytes were discarded. The time for a head limits this too.
    Discarding(usize),
}

impl HeadRefusal {
    pub(crate) const fn new(error: io::Error) -> Self {
        Self { error: Some(error), step: Step::Writing(0) }
    }

    /// Sends the response, and reads until the peer closes its side. Returns the error of the connection.
    pub(crate) fn poll<I>(&mut self, io: &mut I, cx: &mut Context<'_>) -> Poll<io::Error>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let ended = ready!(self.poll_end(io, cx));
        Poll::Ready(
            ended.err().or_else(|| self.error.take()).unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()),
        )
    }

    fn poll_end<I>(&mut self, io: &mut I, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let mut io = Pin::new(io);
        loop {
            self.step = match self.step {
                Step::Writing(written) if written == RESPONSE.len() => Step::Closing,
                Step::Writing(written) => match ready!(io.as_mut().poll_write(cx, &RESPONSE[written..]))? {
                    0 => return Poll::Ready(Ok(())),
                    more => Step::Writing(written + more),
                },
                Step::Closing => {
                    ready!(io.as_mut().poll_shutdown(cx))?;
                    Step::Discarding(0)
                }
                Step::Discarding(discarded) if discarded >= MAX_DISCARDED => return Poll::Ready(Ok(())),
                Step::Discarding(discarded) => {
                    let mut part = [0; 4096];
                    let mut part = ReadBuf::new(&mut part);
                    ready!(io.as_mut().poll_read(cx, &mut part))?;
                    if part.filled().is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    Step::Discarding(discarded + part.filled().len())
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_that_of_the_text() {
        let response = str::from_utf8(RESPONSE).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
    }
}
