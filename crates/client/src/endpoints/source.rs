//! [`Source`]: a discovery that outlives the runtimes that run it.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use farcall_discovery::{Discovery, EndpointList, Publisher, Subscription, publisher_from};
use farcall_protocol::{EscapedText, panic_message};
use farcall_runtime::task::{JoinError, JoinHandle};
use futures::future::BoxFuture;

/// The source of a channel's endpoints, which can be run in several runtimes, one after another.
pub(crate) struct Source {
    /// The source's description, for errors and pages.
    pub(super) origin: String,
    next: Mutex<NextRun>,
}

/// The next run.
enum NextRun {
    /// A discovery that was not run.
    Discovery(Box<dyn AnyDiscovery>),
    /// The rest of a discovery that cannot be cloned.
    Rest { future: Arc<Mutex<RestOfRun>>, subscription: Subscription },
}

/// The future of a discovery; `None` once it has ended.
type RestOfRun = Option<BoxFuture<'static, ()>>;

/// A [`Discovery`] of any type.
trait AnyDiscovery: Send {
    fn try_clone(&self) -> Option<Box<dyn AnyDiscovery>>;
    fn run(self: Box<Self>, publisher: Publisher) -> BoxFuture<'static, ()>;
}

/// A run of the source in one runtime. It ends when this is dropped.
pub(super) struct SourceRun {
    /// The lists that it publishes.
    pub(super) subscription: Subscription,
    /// `true` if another run may succeed after this one has panicked.
    pub(super) can_restart: bool,
    /// `true` if it had ended in the runtime before.
    pub(super) is_over: bool,
    pub(super) task: RunTask,
}

/// The task of a run, aborted when this is dropped.
pub(super) struct RunTask {
    task: JoinHandle<()>,
    ended: bool,
}

/// The ends of a run.
pub(super) enum RunEnd {
    /// The regular end: there will be no other list.
    Complete,
    /// A panic with this message.
    Panicked(String),
}

impl Source {
    pub(crate) fn new(discovery: impl Discovery) -> Self {
        let origin = discovery.describe();
        Self { origin, next: Mutex::new(NextRun::Discovery(Box::new(discovery))) }
    }

    /// Runs it in this runtime; `last` is the list of the run before. Not called while another run goes on.
    pub(super) fn run(&self, last: EndpointList) -> SourceRun {
        let mut next = lock(&self.next);
        let copy = match &*next {
            NextRun::Discovery(discovery) => discovery.try_clone(),
            NextRun::Rest { future, subscription } => {
                return SourceRun::new(Arc::clone(future), subscription.clone(), false);
            }
        };
        let can_restart = copy.is_some();
        let (publisher, subscription) = publisher_from(last);
        // Filled below, when the discovery is out of its place.
        let future = Arc::new(Mutex::new(None));
        let rest = || NextRun::Rest { future: Arc::clone(&future), subscription: subscription.clone() };
        let following = copy.map_or_else(rest, NextRun::Discovery);
        if let NextRun::Discovery(discovery) = std::mem::replace(&mut *next, following) {
            *lock(&future) = Some(discovery.run(publisher));
        }
        SourceRun::new(future, subscription, can_restart)
    }
}

impl<D: Discovery> AnyDiscovery for D {
    fn try_clone(&self) -> Option<Box<dyn AnyDiscovery>> {
        Discovery::try_clone(self).map(|copy| Box::new(copy) as Box<dyn AnyDiscovery>)
    }

    fn run(self: Box<Self>, publisher: Publisher) -> BoxFuture<'static, ()> {
        // `run` is called when this is polled: a panic in it is the source's failure, not the caller's.
        Box::pin(async move { (*self).run(publisher).await })
    }
}

impl SourceRun {
    fn new(future: Arc<Mutex<RestOfRun>>, subscription: Subscription, can_restart: bool) -> Self {
        let is_over = lock(&future).is_none();
        // Owned by this, which sees its end.
        let task = farcall_runtime::spawn(poll_fn(move |cx| poll_rest(&future, cx)));
        Self { subscription, can_restart, is_over, task: RunTask { task, ended: false } }
    }
}

impl RunTask {
    /// Waits until it has ended; never ready again afterwards.
    pub(super) async fn end(&mut self) -> RunEnd {
        if self.ended {
            return std::future::pending().await;
        }
        let end = (&mut self.task).await;
        self.ended = true;
        match end.map_err(JoinError::try_into_panic) {
            Ok(()) => RunEnd::Complete,
            Err(Ok(panic)) => RunEnd::Panicked(EscapedText(panic_message(&*panic)).to_string()),
            // The runtime is shutting down, and drops this next.
            Err(Err(_cancelled)) => std::future::pending().await,
        }
    }
}

impl Drop for RunTask {
    /// Ends the run, whose lists are not read any more.
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.origin).finish()
    }
}

/// Polls the future in its place, where it stays if the runtime that polls it is shut down. A panic drops it.
fn poll_rest(rest: &Mutex<RestOfRun>, cx: &mut Context<'_>) -> Poll<()> {
    // Held while it is polled: the task of a runtime that is shutting down may still be in here.
    let mut place = lock(rest);
    let Some(mut future) = place.take() else { return Poll::Ready(()) };
    let poll = future.as_mut().poll(cx);
    if poll.is_pending() {
        *place = Some(future);
    }
    poll
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
