//! Tokio's and `futures`' primitives with a point before each operation at which shuttle may switch to another task.

use std::sync::atomic::{AtomicBool as PlainBool, Ordering::SeqCst};
use std::task::{Poll, Waker};

use futures::future::poll_fn;
use futures::task;
use shuttle::rand::Rng;
use shuttle::sync::atomic::AtomicBool;
use shuttle::thread;
use tokio::sync;
use tokio::sync::futures::Notified;

/// Lets another task run.
#[derive(Debug, Default)]
struct Point(AtomicBool);

impl Point {
    fn pass(&self) {
        self.0.load(SeqCst);
    }
}

/// In place of tokio's.
#[derive(Debug, Default)]
pub(in crate::connection) struct Notify(sync::Notify, Point);

impl Notify {
    pub(in crate::connection) fn new() -> Self {
        Self::default()
    }

    pub(in crate::connection) fn notified(&self) -> Notified<'_> {
        self.1.pass();
        self.0.notified()
    }

    pub(in crate::connection) fn notify_waiters(&self) {
        self.1.pass();
        self.0.notify_waiters();
    }
}

/// In place of that of `futures`.
#[derive(Debug, Default)]
pub(in crate::connection) struct AtomicWaker(task::AtomicWaker, Point);

impl AtomicWaker {
    pub(in crate::connection) fn new() -> Self {
        Self::default()
    }

    pub(in crate::connection) fn register(&self, waker: &Waker) {
        self.1.pass();
        self.0.register(waker);
    }

    pub(in crate::connection) fn wake(&self) {
        self.1.pass();
        self.0.wake();
    }
}

/// `true` while the runtime of the model may end before the next turn of a thread.
pub(super) static RUNTIME_MAY_END: PlainBool = PlainBool::new(false);

/// In place of tokio's: the next turn comes at any time, on any thread.
pub(in crate::connection) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        if !RUNTIME_MAY_END.load(SeqCst) || shuttle::rand::thread_rng().gen_bool(0.5) {
            let waker = cx.waker().clone();
            thread::spawn(move || waker.wake());
        }
        Poll::Pending
    })
    .await;
}
