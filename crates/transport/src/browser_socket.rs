//! [`BrowserSocket`]: the stream of bytes in the binary messages of a browser's WebSocket.
//!
//! The borders of messages mean nothing. A browser has events for what it receives and none for what it has sent, so
//! reading is woken by events, and writing looks at the bytes that wait. What is received cannot be held back: the windows of
//! streams and the responses that a client asks for bound it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use farcall_runtime::time::{Sleep, sleep};
use js_sys::{ArrayBuffer, Uint8Array};
use send_wrapper::SendWrapper;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{BinaryType, CloseEvent, MessageEvent, WebSocket};

/// The most that one message carries, in bytes.
const MAX_SENT: usize = 64 * 1024;
/// The bytes that may wait in the browser: while there are more, nothing is written.
const MAX_WAITING: u32 = 256 * 1024;
/// The time after which they are looked at again: a browser has no event for it.
const WRITE_PAUSE: Duration = Duration::from_millis(5);

/// A WebSocket of the browser. Dropping it sends what waits, then a Close.
pub(crate) struct BrowserSocket(SendWrapper<Socket>);

struct Socket {
    socket: WebSocket,
    state: Rc<RefCell<State>>,
    /// Runs while too much waits to be sent.
    pause: Option<Pin<Box<Sleep>>>,
    /// Called by the browser, which holds no part of them.
    _handlers: Handlers,
}

/// The handlers of events, in the order of their registration.
struct Handlers {
    _open: Closure<dyn FnMut()>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _close: Closure<dyn FnMut(CloseEvent)>,
}

/// The part of the state that events change.
#[derive(Default)]
struct State {
    is_open: bool,
    received: VecDeque<Bytes>,
    end: Option<End>,
    /// The task that waits for an event.
    waker: Option<Waker>,
}

/// The end of the WebSocket.
#[derive(Clone)]
enum End {
    /// The peer has closed, and all that it sent was received.
    Complete,
    /// The connection was lost, or was not made, or the peer sent what it must not; with the reason.
    Failed(io::ErrorKind, String),
}

impl BrowserSocket {
    /// Starts to open a WebSocket.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`]: this page may not open it, for example as it was loaded by `https` and the URL is
    /// not encrypted.
    pub(crate) fn open(url: &str) -> io::Result<BrowserSocket> {
        let refused = |error: JsValue| {
            let reason =
                error.dyn_ref::<js_sys::Error>().map_or_else(String::new, |error| error.message().into());
            io::Error::new(io::ErrorKind::InvalidInput, format!("the browser does not open {url}: {reason}"))
        };
        let socket = WebSocket::new(url).map_err(refused)?;
        socket.set_binary_type(BinaryType::Arraybuffer);
        let state = Rc::new(RefCell::new(State::default()));
        let handlers = Handlers::register(&socket, &state);
        Ok(BrowserSocket(SendWrapper::new(Socket { socket, state, pause: None, _handlers: handlers })))
    }

    /// Waits until it is open.
    pub(crate) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.state.borrow_mut();
        if state.is_open {
            return Poll::Ready(Ok(()));
        }
        match &state.end {
            Some(end) => Poll::Ready(Err(end.to_error())),
            None => state.wait(cx),
        }
    }
}

impl Handlers {
    /// Has the events of a WebSocket change a state.
    fn register(socket: &WebSocket, state: &Rc<RefCell<State>>) -> Handlers {
        let shared = Rc::clone(state);
        let open =
            Closure::<dyn FnMut()>::new(move || shared.borrow_mut().change(|state| state.is_open = true));
        let shared = Rc::clone(state);
        let message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            shared.borrow_mut().change(|state| state.receive(&event.data()));
        });
        let shared = Rc::clone(state);
        let close = Closure::<dyn FnMut(CloseEvent)>::new(move |event: CloseEvent| {
            shared.borrow_mut().change(|state| state.close(&event));
        });
        socket.set_onopen(Some(open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(close.as_ref().unchecked_ref()));
        Handlers { _open: open, _message: message, _close: close }
    }
}

impl State {
    /// Changes it, and wakes the task that waits for that.
    fn change(&mut self, change: impl FnOnce(&mut State)) {
        change(self);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn receive(&mut self, data: &JsValue) {
        match data.dyn_ref::<ArrayBuffer>() {
            Some(buffer) => self.received.push_back(Uint8Array::new(buffer).to_vec().into()),
            None => {
                let reason = "a text message came over the WebSocket, where only binary ones may";
                self.fail(io::ErrorKind::InvalidData, reason.to_owned());
            }
        }
    }

    fn close(&mut self, event: &CloseEvent) {
        if !self.is_open {
            let reason = "no WebSocket was opened; the console of the browser may say why";
            return self.fail(io::ErrorKind::ConnectionRefused, reason.to_owned());
        }
        if event.was_clean() {
            self.end.get_or_insert(End::Complete);
            return;
        }
        let reason = format!("the WebSocket was cut off (code {})", event.code());
        self.fail(io::ErrorKind::ConnectionReset, reason);
    }

    /// Ends it. The first reason holds.
    fn fail(&mut self, kind: io::ErrorKind, reason: String) {
        self.end.get_or_insert(End::Failed(kind, reason));
    }

    /// Has the next event wake the task.
    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Fills `buf` with what was received. Ready with nothing at the end.
    fn poll_read(&mut self, cx: &Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let start = buf.filled().len();
        while buf.remaining() > 0
            && let Some(first) = self.received.front_mut()
        {
            let some = first.len().min(buf.remaining());
            buf.put_slice(&first[..some]);
            first.advance(some);
            if first.is_empty() {
                self.received.pop_front();
            }
        }
        if buf.filled().len() > start || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        match &self.end {
            Some(End::Complete) => Poll::Ready(Ok(())),
            Some(end) => Poll::Ready(Err(end.to_error())),
            None => self.wait(cx),
        }
    }
}

impl End {
    fn to_error(&self) -> io::Error {
        match self {
            End::Complete => io::Error::new(io::ErrorKind::BrokenPipe, "the server has closed the WebSocket"),
            End::Failed(kind, reason) => io::Error::new(*kind, reason.clone()),
        }
    }
}

impl Socket {
    /// Waits while more than [`MAX_WAITING`] bytes wait in the browser.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.socket.buffered_amount() >= MAX_WAITING {
            let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(WRITE_PAUSE)));
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        Poll::Ready(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(end) = &self.state.borrow().end {
            return Poll::Ready(Err(end.to_error()));
        }
        ready!(self.poll_room(cx));
        let some = &buf[..buf.len().min(MAX_SENT)];
        if !some.is_empty() && self.socket.send_with_u8_array(some).is_err() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Poll::Ready(Ok(some.len()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onclose(None);
        // Fails only for codes and reasons that are not allowed, and has neither.
        let _ = self.socket.close();
    }
}

impl AsyncRead for BrowserSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.state.borrow_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for BrowserSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Does nothing: a WebSocket has no half close, and the server closes when all is answered.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
