//! The polls of one handler: on its call's task while its method is quick, aside while it is slow.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;
use tracing::dispatcher::{self, Dispatch};

use super::Handling;
use crate::call::offload::{Job, STUCK, Ticket};
use crate::server::state::Core;

/// What a poll aside may take longer than one in place: its thread was just woken, on another core, and
/// finds nothing in that one's caches. Without, quick methods would stay aside for being there.
const COLD: Duration = Duration::from_micros(100);

/// A handler that is polled until it has ended, wherever that is done.
///
/// It goes aside for one poll and comes back, so that one that waits keeps no thread.
pub(super) struct Turns {
    /// None while it is aside.
    here: Option<Handling>,
    aside: Option<Aside>,
    /// Woken by what the handler has waited for since it was polled aside.
    woken: Option<Arc<Woken>>,
}

/// A poll aside that is under way, or waits for its turn.
struct Aside {
    core: Arc<Core>,
    ticket: Ticket,
    back: oneshot::Receiver<(Handling, Poll<()>)>,
}

/// One poll aside.
pub(crate) struct Turn {
    handling: Handling,
    waker: Waker,
    runtime: Handle,
    /// Who listens to spans and events where the call's task is.
    dispatch: Dispatch,
    back: oneshot::Sender<(Handling, Poll<()>)>,
}

/// Keeps a wake-up that comes while the poll is still under way, which the call's task would take
/// for news of the poll.
#[derive(Default)]
struct Woken(Notify);

impl Turns {
    pub(super) const fn new(handling: Handling) -> Self {
        Self { here: Some(handling), aside: None, woken: None }
    }

    /// Polls the handler until it has ended. May be dropped at any time; [`Turns::over`] then has it.
    pub(super) async fn run(&mut self) {
        loop {
            let has_ended = poll_fn(|cx| self.poll_here(cx)).await;
            if has_ended || self.poll_aside().await.is_ready() {
                return;
            }
            if let Some(woken) = &self.woken {
                woken.0.notified().await;
            }
        }
    }

    /// The handler when no poll is under way any more: nobody can end one before its time. None
    /// where the runtime ended and took it along.
    pub(super) async fn over(&mut self) -> Option<Handling> {
        if let Some(turn) = self.withdraw() {
            return Some(turn.handling);
        }
        let _ = self.come_back().await;
        self.here.take()
    }

    /// Ready with whether the handler has ended; if not, it is too slow for this place.
    fn poll_here(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match &mut self.here {
            Some(handling) if handling.is_slow() => Poll::Ready(false),
            Some(handling) => handling.poll(cx, Duration::ZERO).map(|()| true),
            None => Poll::Ready(true),
        }
    }

    /// One poll on another thread.
    async fn poll_aside(&mut self) -> Poll<()> {
        if let Some(handling) = self.here.take() {
            let core = Arc::clone(handling.core());
            let waker = Waker::from(Arc::clone(self.woken.get_or_insert_default()));
            let (sender, back) = oneshot::channel();
            let dispatch = dispatcher::get_default(Dispatch::clone);
            let turn = Turn { handling, waker, runtime: Handle::current(), dispatch, back: sender };
            let ticket = core.aside.line_up(turn, &core.tasks);
            self.aside = Some(Aside { core, ticket, back });
        }
        self.come_back().await
    }

    async fn come_back(&mut self) -> Poll<()> {
        let Some(Aside { core, back, .. }) = &mut self.aside else { return Poll::Ready(()) };
        let came = loop {
            match timeout(STUCK, &mut *back).await {
                Ok(came) => break came,
                Err(_elapsed) => core.aside.help(&core.tasks),
            }
        };
        self.aside = None;
        // An error means that it was dropped there: it has answered, and there is nothing to poll.
        let Ok((handling, polled)) = came else { return Poll::Ready(()) };
        self.here = Some(handling);
        polled
    }

    /// The handler's turn, if it has not begun.
    fn withdraw(&mut self) -> Option<Turn> {
        let Aside { core, ticket, .. } = self.aside.as_ref()?;
        core.aside.withdraw(*ticket)
    }
}

impl Drop for Turns {
    /// Where the task is dropped unfinished, nobody may be left to take the turn out of the line.
    fn drop(&mut self) {
        drop(self.withdraw());
    }
}

impl Job for Turn {
    fn kind(&self) -> usize {
        self.handling.method_id()
    }

    fn run(self) {
        let Self { mut handling, waker, runtime, dispatch, back } = self;
        let _listened = dispatcher::set_default(&dispatch);
        let mut cx = Context::from_waker(&waker);
        // As a task of the runtime's is polled: with its timers, and a budget after which even
        // what never waits comes back, and can be stopped.
        let polled = runtime.block_on(poll_fn(|_| Poll::Ready(handling.poll(&mut cx, COLD))));
        // Where its task was dropped meanwhile, this drops the handler, and gives its place back.
        let _ = back.send((handling, polled));
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}
