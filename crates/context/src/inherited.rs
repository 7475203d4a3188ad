//! What calls made inside a handler take over from the call that is handled.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use farcall_protocol::Metadata;
use farcall_protocol::metadata::TRACEPARENT;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::trace::TraceContext;

/// The deadline, metadata and trace that a call hands on to the calls made for it.
#[derive(Clone, Debug, Default)]
pub struct Inherited {
    /// When the time of the outer call is up.
    pub deadline: Option<Instant>,
    /// The metadata of the outer call.
    pub metadata: Option<Arc<Metadata>>,
    /// The step of a trace that calls made for the outer one belong to: its span, where it has one. None
    /// where nobody listens; then the metadata's own `traceparent` is handed on as it came.
    // Behind a pointer, since this is moved often and there mostly is none.
    pub trace: Option<Arc<TraceContext>>,
}

thread_local! {
    static CURRENT: RefCell<Inherited> = const { RefCell::new(Inherited::NOTHING) };
}

impl Inherited {
    const NOTHING: Self = Self { deadline: None, metadata: None, trace: None };

    /// Returns what a call made here and now inherits: nothing outside a handler.
    #[must_use]
    pub fn current() -> Self {
        CURRENT.with_borrow(Clone::clone)
    }

    /// The trace that calls made for the outer one belong to: that of its span, else what its caller
    /// sent. `None` if there is none, or where that is malformed.
    #[must_use]
    pub fn trace_context(&self) -> Option<TraceContext> {
        self.trace
            .as_deref()
            .copied()
            .or_else(|| TraceContext::parse(self.metadata.as_ref()?.get(TRACEPARENT)?))
    }

    /// Runs `body` with this as what is current, and restores what was, also after a panic.
    pub fn scope<T>(&self, body: impl FnOnce() -> T) -> T {
        // Most calls hand on nothing, inside of nothing.
        if self.is_empty() && CURRENT.with_borrow(Self::is_empty) {
            return body();
        }
        // Not by the key's own `replace`, which is prepared to put this in as the first value, too.
        let _restore = Restore(CURRENT.with(|current| current.replace(self.clone())));
        body()
    }

    const fn is_empty(&self) -> bool {
        self.deadline.is_none() && self.metadata.is_none() && self.trace.is_none()
    }

    /// A future that has this as what is current whenever it is polled.
    pub const fn wrap<F>(self, future: F) -> WithInherited<F> {
        WithInherited { inherited: self, future }
    }
}

/// Puts back what was current; a drop, so that a panic of a handler cannot leave its deadline to
/// whatever its thread polls next.
struct Restore(Inherited);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.with_borrow_mut(|current| std::mem::swap(current, &mut self.0));
    }
}

pin_project! {
    /// A future that is polled with an [`Inherited`] as what is current. See [`Inherited::wrap`].
    #[derive(Debug)]
    pub struct WithInherited<F> {
        inherited: Inherited,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for WithInherited<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.inherited.scope(|| this.future.poll(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_current_comes_back_after_a_panic() {
        let inner = Inherited { deadline: Some(Instant::now()), ..Inherited::default() };
        let result = std::panic::catch_unwind(|| inner.scope(|| panic!("in a handler")));
        assert!(result.is_err());
        assert_eq!(Inherited::current().deadline, None);
    }

    #[test]
    fn scopes_nest() {
        let now = Instant::now();
        let outer = Inherited { deadline: Some(now), ..Inherited::default() };
        outer.scope(|| {
            Inherited::default().scope(|| assert_eq!(Inherited::current().deadline, None));
            assert_eq!(Inherited::current().deadline, Some(now));
        });
    }
}
