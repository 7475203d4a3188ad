//! [`yield_turn`]: the end of a turn of a task that has more to do.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll};

use tokio::task::yield_now;

/// Has this task polled again once its thread has run the other ready tasks, and looked for new events: a thread whose
/// tasks wake themselves does so after 61 of them, which may be as many turns.
pub(crate) fn yield_turn<T>(cx: &mut Context<'_>) -> Poll<T> {
    if pin!(yield_now()).poll(cx).is_ready() {
        cx.waker().wake_by_ref();
    }
    Poll::Pending
}
