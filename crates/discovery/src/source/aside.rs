//! [`aside`]: work on large lists, done where no other task waits for it.

#[cfg(not(target_family = "wasm"))]
use std::future::pending;
#[cfg(not(target_family = "wasm"))]
use std::panic::resume_unwind;

#[cfg(not(target_family = "wasm"))]
use tokio::task::spawn_blocking;

/// The bytes that are worked at on the task itself: parsing as many takes some 300 µs.
#[cfg(not(target_family = "wasm"))]
const MAX_INLINE_BYTES: usize = 64 * 1024;

/// Does work whose time grows with `bytes`, such as parsing a list: on a thread for blocking work if it would keep other
/// tasks of this one waiting. If the runtime shuts down meanwhile, this is never ready.
///
/// # Panics
///
/// The work panicked.
#[cfg(not(target_family = "wasm"))]
pub async fn aside<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if bytes <= MAX_INLINE_BYTES {
        return work();
    }
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => pending().await,
        },
    }
}

/// Does work whose time grows with the bytes. In a page there are no threads for it.
#[cfg(target_family = "wasm")]
pub async fn aside<T>(_bytes: usize, work: impl FnOnce() -> T) -> T {
    work()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn large_work_is_done_on_another_thread_and_small_work_here() {
        let own = thread::current().id();
        assert_eq!(aside(MAX_INLINE_BYTES, || thread::current().id()).await, own);
        assert_ne!(aside(MAX_INLINE_BYTES + 1, || thread::current().id()).await, own);
    }

    #[tokio::test]
    #[should_panic(expected = "as it should")]
    async fn panic_of_the_work_is_passed_on() {
        aside(usize::MAX, || panic!("as it should")).await;
    }
}
