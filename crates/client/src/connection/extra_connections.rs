//! [`ExtraConnections`]: connections beside the usual ones of an endpoint, for large requests that overlap.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use farcall_discovery::Load;
use farcall_transport::Address;

use super::Connection;
use super::options::ConnectionOptions;
use super::slot::ConnectionSlot;

/// The time after which an extra connection without calls is closed.
pub(super) const MAX_UNUSED: Duration = Duration::from_secs(30);

/// Connections beside the usual ones of an endpoint. Each is dialed once all others carry a large request, and closes when it
/// was not used for [`MAX_UNUSED`].
#[derive(Debug)]
pub(super) struct ExtraConnections {
    max: usize,
    endpoint: Address,
    options: Arc<ConnectionOptions>,
    load: OnceLock<Arc<Load>>,
    /// Created when one is dialed first: most endpoints never need them.
    slots: OnceLock<Box<[ConnectionSlot]>>,
}

impl ExtraConnections {
    pub(super) const fn new(endpoint: Address, options: Arc<ConnectionOptions>, max: usize) -> Self {
        Self { max, endpoint, options, load: OnceLock::new(), slots: OnceLock::new() }
    }

    /// Has the load that the server reports recorded there.
    pub(super) fn report_load_to(&self, load: &Arc<Load>) {
        // Once, before the first dial.
        let _ = self.load.set(Arc::clone(load));
    }

    /// Returns those that there are, or have been.
    pub(super) fn slots(&self) -> &[ConnectionSlot] {
        self.slots.get().map_or(&[], |slots| &**slots)
    }

    /// Starts to dial one more, without waiting for it, if there may be one more and none is dialed already.
    pub(super) fn dial(&self) {
        if self.max == 0 {
            return;
        }
        let slots = self.slots.get_or_init(|| self.create_slots());
        if let Some(missing) = slots.iter().find(|slot| slot.ready().is_none()) {
            missing.dial();
        }
    }

    fn create_slots(&self) -> Box<[ConnectionSlot]> {
        let mut options = (*self.options).clone();
        options.max_unused = Some(MAX_UNUSED);
        let options = Arc::new(options);
        let slots = (0..self.max).map(|_| {
            let slot = ConnectionSlot::new(self.endpoint.clone(), Arc::clone(&options));
            if let Some(load) = self.load.get() {
                slot.report_load_to(load);
            }
            slot
        });
        slots.collect()
    }
}

/// Returns the connection that has to carry the fewest bytes of large requests, the first of several.
pub(super) fn least_loaded<'a>(slots: impl Iterator<Item = &'a ConnectionSlot>) -> Option<(Connection, u64)> {
    let mut least: Option<(Connection, u64)> = None;
    for connection in slots.filter_map(ConnectionSlot::ready) {
        let bytes = connection.large_bytes_in_flight();
        if least.as_ref().is_none_or(|(_, fewest)| bytes < *fewest) {
            let is_free = bytes == 0;
            least = Some((connection, bytes));
            if is_free {
                break;
            }
        }
    }
    least
}
