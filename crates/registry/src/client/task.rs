//! [`DiscoveryTask`]: a discovery that runs. It chooses the best interface that the registry has.
//!
//! Using the interfaces is left to [`watching`](super::watching) and [`polling`](super::polling).

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::sleep;
use tracing::debug;

use super::list_state::ListState;
use super::polling::Poller;
use super::request_error::{RequestError, RequestErrorKind};
use super::source::Source;
use super::watching::{Watch, WatchEnd};

/// Short watches in a row after which the list is polled for a while.
const MAX_SHORT_WATCHES: u32 = 3;
/// The minimum duration of a watch that does not count as short.
const MIN_WATCH_UPTIME: Duration = Duration::from_secs(30);

/// The ways of asking a registry, from the best to the plainest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interface {
    /// The registry sends changes.
    Watch,
    /// The registry answers when there is a change.
    LongPoll,
    /// The registry answers at once, because it has too many long polls.
    Lists,
    /// The registry has the simple interface only.
    Simple,
}

/// A discovery that runs.
pub(super) struct DiscoveryTask<'a> {
    source: &'a Source,
    state: ListState<'a>,
    /// The number of short watches in a row.
    short_watches: u32,
}

impl<'a> DiscoveryTask<'a> {
    pub(super) fn new(source: &'a Source, state: ListState<'a>) -> Self {
        Self { source, state, short_watches: 0 }
    }

    /// Keeps the list current. Never ready.
    pub(super) async fn run(mut self) -> Infallible {
        let mut interface = Interface::Watch;
        loop {
            interface = match interface {
                Interface::Watch => self.watch().await,
                Interface::LongPoll => match self.poller().poll_lists(true).await {
                    Ok(()) => Interface::Watch,
                    Err(error) if error.kind == RequestErrorKind::NoRoute => Interface::Simple,
                    Err(error) if error.kind == RequestErrorKind::Busy => Interface::Lists,
                    Err(error) => self.back_off(&error).await,
                },
                Interface::Lists => match self.poller().poll_lists(false).await {
                    Ok(()) => Interface::Watch,
                    Err(error) if error.kind == RequestErrorKind::NoRoute => Interface::Simple,
                    Err(error) => self.back_off(&error).await,
                },
                Interface::Simple => match self.poller().poll_simple().await {
                    Ok(()) => Interface::Watch,
                    Err(error) => self.back_off(&error).await,
                },
            };
        }
    }

    /// Watches until the watch ends; returns what to try next.
    async fn watch(&mut self) -> Interface {
        match Watch::new(self.source, &mut self.state).run().await {
            WatchEnd::NotStarted(error) if error.kind == RequestErrorKind::Unreachable => {
                self.back_off(&error).await
            }
            WatchEnd::NotStarted(error) => {
                debug!(registry = self.source.describe(), %error, "the registry cannot be watched; polling");
                Interface::LongPoll
            }
            WatchEnd::Malformed(error) => self.back_off(&error).await,
            // Registries restart, and proxies end long responses: no failure if the next watch works.
            WatchEnd::Broken(error, uptime) => {
                debug!(registry = self.source.describe(), %error, "the watch ended");
                let is_short = uptime < MIN_WATCH_UPTIME;
                self.short_watches = if is_short { self.short_watches + 1 } else { 0 };
                sleep(self.state.next_pause()).await;
                if is_short && self.short_watches.is_multiple_of(MAX_SHORT_WATCHES) {
                    Interface::LongPoll
                } else {
                    Interface::Watch
                }
            }
        }
    }

    fn poller(&mut self) -> Poller<'_, 'a> {
        Poller::new(self.source, &mut self.state)
    }

    /// Reports a failure, and pauses before everything is tried again.
    async fn back_off(&mut self, error: &RequestError) -> Interface {
        self.state.report(error);
        sleep(self.state.next_pause()).await;
        Interface::Watch
    }
}
