//! What calls made inside a handler take over from the call that is handled.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use farcall_protocol::Metadata;
use pin_project_lite::pin_project;
use tokio::time::Instant;

/// The deadline and metadata that a call hands on to the calls made for it.
#[derive(Clone, Debug, Default)]
pub struct Inherited {
    /// When the time of the outer call is up.
    pub deadline: Option<Instant>,
    /// The metadata of the outer call.
    pub metadata: Option<Arc<Metadata>>,
}

thread_local! {
    static CURRENT: RefCell<Inherited> = const { RefCell::new(Inherited { deadline: None, metadata: None }) };
}

/// What a call made here and now inherits; nothing outside of a handler.
#[must_use]
pub fn current() -> Inherited {
    CURRENT.with_borrow(Clone::clone)
}

impl Inherited {
    /// Runs `body` with this as what is current, and restores what was, also after a panic.
    pub fn scope<T>(&self, body: impl FnOnce() -> T) -> T {
        // Most calls hand on nothing, inside of nothing.
        if self.is_empty() && CURRENT.with_borrow(Self::is_empty) {
            return body();
        }
        let _restore = Restore(CURRENT.replace(self.clone()));
        body()
    }

    const fn is_empty(&self) -> bool {
        self.deadline.is_none() && self.metadata.is_none()
    }

    /// A future that has this as what is current whenever it is polled.
    pub const fn wrap<F>(self, future: F) -> Inherit<F> {
        Inherit { inherited: self, future }
    }
}

/// Puts back what was current; a drop, so that a panic of a handler cannot leave its deadline to
/// whatever its thread polls next.
struct Restore(Inherited);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(std::mem::take(&mut self.0));
    }
}

pin_project! {
    /// A future that is polled with an [`Inherited`] as what is current. See [`Inherited::wrap`].
    #[derive(Debug)]
    pub struct Inherit<F> {
        inherited: Inherited,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Inherit<F> {
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
        let inner = Inherited { deadline: Some(Instant::now()), metadata: None };
        let result = std::panic::catch_unwind(|| inner.scope(|| panic!("in a handler")));
        assert!(result.is_err());
        assert_eq!(current().deadline, None);
    }

    #[test]
    fn scopes_nest() {
        let now = Instant::now();
        let outer = Inherited { deadline: Some(now), metadata: None };
        outer.scope(|| {
            Inherited::default().scope(|| assert_eq!(current().deadline, None));
            assert_eq!(current().deadline, Some(now));
        });
    }
}
