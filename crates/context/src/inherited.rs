//! The values that calls made inside a handler inherit from the call that is being handled.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use farcall_protocol::Metadata;
use farcall_protocol::metadata::TRACEPARENT;
use farcall_runtime::time::Instant;
use pin_project_lite::pin_project;

use crate::trace::TraceContext;

/// The deadline, metadata and trace that a call passes on to the calls made on its behalf.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Inherited {
    /// The deadline of the outer call; `None` if it has none.
    pub deadline: Option<Instant>,
    /// The metadata of the outer call.
    pub metadata: Option<Arc<Metadata>>,
    /// The span of the outer call, which is the parent of the spans of inner calls. `None` if the outer call
    /// is not recorded; the `traceparent` in its metadata is then passed on unchanged.
    // Boxed: this struct is moved often, and most calls have no span.
    pub trace: Option<Arc<TraceContext>>,
}

thread_local! {
    static CURRENT: RefCell<Inherited> = const { RefCell::new(Inherited::NOTHING) };
}

impl Inherited {
    const NOTHING: Self = Self { deadline: None, metadata: None, trace: None };

    /// Sets the deadline; `None` for none.
    #[must_use]
    pub fn deadline(mut self, deadline: impl Into<Option<Instant>>) -> Self {
        self.deadline = deadline.into();
        self
    }

    /// Sets the metadata; `None` for none.
    #[must_use]
    pub fn metadata(mut self, metadata: impl Into<Option<Arc<Metadata>>>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// Sets the span that is the parent of inner calls' spans; `None` for none.
    #[must_use]
    pub fn trace(mut self, trace: impl Into<Option<Arc<TraceContext>>>) -> Self {
        self.trace = trace.into();
        self
    }

    /// Returns the values that a call made now on this thread inherits; empty outside of a handler.
    #[must_use]
    pub fn current() -> Self {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Returns the trace context of the outer call: its span, else the `traceparent` that its caller sent.
    /// `None` if there is neither, or if the `traceparent` is malformed.
    #[must_use]
    pub fn trace_context(&self) -> Option<TraceContext> {
        self.trace
            .as_deref()
            .copied()
            .or_else(|| TraceContext::parse(self.metadata.as_ref()?.get(TRACEPARENT)?))
    }

    /// Runs `body` with these values as the current ones, and restores the previous ones afterwards, also
    /// after a panic.
    pub fn scope<T>(&self, body: impl FnOnce() -> T) -> T {
        // Fast path: most calls have nothing to pass on, and are not nested.
        if self.is_empty() && CURRENT.with_borrow(Self::is_empty) {
            return body();
        }
        // Not `CURRENT.replace`, which also generates code for the case that the key is not initialized.
        let _restore = Restore(CURRENT.with(|current| current.replace(self.clone())));
        body()
    }

    /// Returns `true` if there is nothing to pass on.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.deadline.is_none() && self.metadata.is_none() && self.trace.is_none()
    }

    /// Wraps a future so that these values are the current ones whenever it is polled.
    pub const fn wrap<F>(self, future: F) -> WithInherited<F> {
        WithInherited { inherited: self, future }
    }
}

/// Restores the previous values on drop, so that a handler that panics cannot leave its deadline to the
/// future that its thread polls next.
struct Restore(Inherited);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.with_borrow_mut(|current| std::mem::swap(current, &mut self.0));
    }
}

pin_project! {
    /// A future that is polled with an [`Inherited`] as the current values. See [`Inherited::wrap`].
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
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Waker;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    type IsCurrent = fn(&Inherited) -> bool;

    /// Returns values of which one is set, each with the check that this one is current.
    fn single_values() -> [(Inherited, IsCurrent); 3] {
        [
            (Inherited::default().deadline(Instant::now()), |current| current.deadline.is_some()),
            (Inherited::default().metadata(Arc::new(Metadata::new())), |current| current.metadata.is_some()),
            (Inherited::default().trace(Arc::new(TraceContext::root())), |current| current.trace.is_some()),
        ]
    }

    #[test]
    fn each_value_is_passed_on_without_the_others() {
        for (inherited, is_current) in single_values() {
            inherited.scope(|| assert!(is_current(&Inherited::current())));
            assert!(!is_current(&Inherited::current()));
        }
    }

    #[test]
    fn values_are_current_in_each_poll_of_a_wrapped_future() {
        for (inherited, is_current) in single_values() {
            let mut polls = 0;
            let mut future = pin!(inherited.wrap(poll_fn(|_| {
                assert!(is_current(&Inherited::current()));
                polls += 1;
                if polls == 2 { Poll::Ready(polls) } else { Poll::Pending }
            })));
            for expected in [Poll::Pending, Poll::Ready(2)] {
                let mut cx = task::Context::from_waker(Waker::noop());
                assert_eq!(future.as_mut().poll(&mut cx), expected);
                assert!(!is_current(&Inherited::current()));
            }
        }
    }

    #[test]
    fn span_of_the_call_comes_before_the_traceparent_that_it_came_with() {
        let mut metadata = Metadata::new();
        metadata.insert(TRACEPARENT, PARENT).unwrap();
        let span = TraceContext::root();
        let sent = Inherited::default().metadata(Arc::new(metadata));
        assert_eq!(sent.trace_context(), TraceContext::parse(PARENT));
        assert_eq!(sent.trace(Arc::new(span)).trace_context(), Some(span));
        let mut malformed = Metadata::new();
        malformed.insert(TRACEPARENT, "00").unwrap();
        let malformed = Inherited::default().metadata(Arc::new(malformed));
        assert_eq!((malformed.trace_context(), Inherited::default().trace_context()), (None, None));
    }

    #[test]
    fn previous_values_are_restored_after_a_panic() {
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
