//! [`StreamBody`]: the body of a streaming call's answer, which takes items from the handler as the client reads them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use farcall_server::{InvokedEvent, InvokedStream, Response, ServerHandle};
use farcall_transport::PeerKey;
use farcall_web::HeldBytes;
use hyper::body::Frame;
use tokio::time::{Instant, Sleep, sleep};

use super::accept::Form;
use super::answers::AnswerMemory;
use super::body::MAX_CHECKED_INLINE;
use super::failure::Failure;
use super::stream_text::{push_comment, push_item, push_outcome};
use super::upload::Upload;

/// The time without an item after which a comment is sent: proxies close connections that are idle for a minute.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// The bytes after which no further item is added to a part of the body.
const MAX_PART: usize = 16 * 1024;

/// A text that another thread makes; `None` if the runtime shuts down meanwhile.
type PendingText = Pin<Box<dyn Future<Output = Option<Vec<u8>>> + Send>>;

/// The items of a call and its outcome. Dropping it before its end stops the handler.
pub(super) struct StreamBody {
    form: Form,
    /// The item or response that was taken before the body began.
    first: Option<InvokedEvent>,
    /// The text of a large item or outcome, which another thread makes.
    making: Option<PendingText>,
    /// `None` behind the outcome.
    stream: Option<InvokedStream>,
    upload: Option<Upload>,
    /// `None` where there are no comments.
    heartbeat: Option<Pin<Box<Sleep>>>,
    answers: PeerAnswers,
    /// The memory of the arguments.
    _held: Option<HeldBytes>,
}

/// The memory of answers, and the peer of a client.
#[derive(Debug)]
pub(super) struct PeerAnswers {
    pub(super) memory: AnswerMemory,
    pub(super) peer: PeerKey,
    /// The server whose threads make the text of large ones.
    pub(super) server: ServerHandle,
}

impl PeerAnswers {
    /// Counts a part of an answer until it was sent.
    ///
    /// # Errors
    ///
    /// There is no room for it.
    pub(super) fn hold(&self, bytes: Bytes) -> Result<Bytes, Failure> {
        self.memory.hold(bytes, self.peer)
    }
}

impl StreamBody {
    pub(super) fn new(
        form: Form,
        first: Option<InvokedEvent>,
        stream: InvokedStream,
        upload: Option<Upload>,
        memory: (PeerAnswers, Option<HeldBytes>),
    ) -> Self {
        let (answers, held) = memory;
        let heartbeat = (form == Form::Events).then(|| {
            // At once if the head was late already.
            let delay = if first.is_some() { HEARTBEAT } else { Duration::ZERO };
            Box::pin(sleep(delay))
        });
        Self { form, first, making: None, stream: Some(stream), upload, heartbeat, answers, _held: held }
    }

    /// Takes what there is, up to the size of a part.
    fn take(&mut self, cx: &mut Context<'_>) -> Vec<u8> {
        let mut text = Vec::new();
        while text.len() < MAX_PART {
            if let Some(making) = &mut self.making {
                // What was taken before goes first.
                if text.is_empty()
                    && let Poll::Ready(made) = making.as_mut().poll(cx)
                {
                    self.making = None;
                    // It is not there if the runtime shuts down.
                    text = made.unwrap_or_default();
                }
                break;
            }
            let Some(stream) = &mut self.stream else { break };
            let event = match self.first.take() {
                Some(first) => Some(first),
                None => match stream.poll_next(cx) {
                    Poll::Ready(event) => event,
                    Poll::Pending => break,
                },
            };
            self.push(event, &mut text);
        }
        text
    }

    /// Appends the text of what the handler gave, or has another thread make it if that takes long.
    fn push(&mut self, event: Option<InvokedEvent>, text: &mut Vec<u8>) {
        let form = self.form;
        match event {
            Some(InvokedEvent::Item(item)) => {
                let bytes = item.len();
                self.make(bytes, text, move |text| push_item(form, &item, text));
            }
            Some(InvokedEvent::Response(response)) => {
                let upload = self.upload.take();
                let failure = upload.as_ref().and_then(Upload::take_failure);
                if let Some(upload) = upload {
                    upload.linger();
                }
                self.stream = None;
                let bytes = response.body().len();
                self.make(bytes, text, move |text| push_outcome(form, &response, failure, text));
            }
            _ => self.stream = None,
        }
    }

    fn make(&mut self, bytes: usize, text: &mut Vec<u8>, push: impl FnOnce(&mut Vec<u8>) + Send + 'static) {
        if bytes <= MAX_CHECKED_INLINE {
            return push(text);
        }
        let making = self.answers.server.offload(self.answers.peer, move || {
            let mut text = Vec::new();
            push(&mut text);
            text
        });
        self.making = Some(Box::pin(making));
    }
}

impl StreamBody {
    /// Counts a part until it was sent. If there is no room for it, the call ends with an error in its place.
    fn held(&mut self, text: Vec<u8>) -> Bytes {
        self.answers.hold(text.into()).unwrap_or_else(|failure| {
            (self.stream, self.upload) = (None, None);
            let mut text = Vec::new();
            push_outcome(self.form, &Response::default(), Some(failure.after_begin()), &mut text);
            text.into()
        })
    }
}

impl HttpBody for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let mut text = this.take(cx);
        if text.is_empty() && this.stream.is_none() && this.making.is_none() {
            return Poll::Ready(None);
        }
        if let Some(heartbeat) = &mut this.heartbeat {
            if text.is_empty() && heartbeat.as_mut().poll(cx).is_ready() {
                push_comment(&mut text);
            }
            if !text.is_empty() {
                heartbeat.as_mut().reset(Instant::now() + HEARTBEAT);
            }
        }
        if text.is_empty() {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(this.held(text)))))
    }
}
