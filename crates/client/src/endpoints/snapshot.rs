//! The endpoints to choose among at one moment.

use std::sync::Arc;
use std::time::Duration;

use farcall_discovery::{Endpoint, EndpointList, PickRequest, Picker};
use farcall_runtime::time::Instant;
use farcall_transport::HumanDuration;

use super::backend::Backend;
use super::guard::InFlightGuard;

/// The endpoints to choose among. A snapshot never changes: the next one replaces it.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) list: EndpointList,
    /// All endpoints of the list, ordered by address.
    pub(super) entries: Vec<SnapshotEntry>,
    /// `None` if no endpoint may be picked.
    pub(super) active: Option<Arc<ActiveSet>>,
    pub(super) outlook: Outlook,
}

/// The prospect of another snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Outlook {
    /// The endpoints are followed.
    #[default]
    Open,
    /// The task that followed them ended with its runtime: the next call starts another.
    Orphaned,
    /// The source has ended or panicked: what is not here now does not come without a call that fails first.
    Final,
}

/// A backend with its latest description.
#[derive(Clone, Debug)]
pub(super) struct SnapshotEntry {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) backend: Arc<Backend>,
}

/// The endpoints that get calls, and the picker among them.
#[derive(Debug)]
pub(super) struct ActiveSet {
    /// In the order of the picker's indices. Never empty.
    pub(super) usable: Vec<SnapshotEntry>,
    /// The number of endpoints that the picker was made for, those included that it must not pick.
    pub(super) known: usize,
    pub(super) picker: Box<dyn Picker>,
}

impl Snapshot {
    pub(super) fn pick(&self, request: &PickRequest<'_>) -> Option<InFlightGuard> {
        let ActiveSet { usable, picker, .. } = &**self.active.as_ref()?;
        let entry = usable.get(picker.pick(request)).unwrap_or(&usable[0]);
        Some(InFlightGuard::new(&entry.backend))
    }

    /// Returns `true` if an endpoint that gets calls is not among these.
    pub(super) fn has_others(&self, tried: &[u64]) -> bool {
        self.usable().iter().any(|entry| !tried.contains(&entry.backend.id()))
    }

    pub(super) fn usable(&self) -> &[SnapshotEntry] {
        self.active.as_ref().map_or(&[], |active| &active.usable)
    }

    /// Returns all backends that are not drained.
    pub(super) fn undrained(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.entries.iter().filter(|entry| !entry.endpoint.is_drained()).map(|entry| &entry.backend)
    }

    /// Returns `true` once the source has sent a list, or has failed to find one.
    pub(super) fn is_known(&self) -> bool {
        self.outlook != Outlook::Orphaned && self.has_answer()
    }

    /// Returns `true` if waiting for another snapshot is of no use.
    pub(super) fn is_final(&self) -> bool {
        self.outlook == Outlook::Final
    }

    fn has_answer(&self) -> bool {
        self.list.confirmed.is_some() || self.list.failing.is_some()
    }

    /// Returns the reason why there is no endpoint to pick; `None` if the source has not answered yet.
    pub(super) fn unavailable_reason(&self) -> Option<String> {
        let EndpointList { confirmed, failing, note, .. } = &self.list;
        let mut reason = match (confirmed, self.entries.len()) {
            (None, _) if failing.is_none() => return None,
            (None, _) => "none was ever found".to_owned(),
            (Some(_), 0) => "the list is empty".to_owned(),
            (Some(_), 1) => "the only one is drained".to_owned(),
            (Some(_), entries) => format!("all {entries} are drained"),
        };
        if let Some(note) = note.as_ref().filter(|_| self.entries.is_empty()) {
            reason.push_str(&format!("; {note}"));
        }
        if let Some(failing) = failing {
            let since = Instant::now().saturating_duration_since(failing.since);
            let since = HumanDuration(Duration::from_secs(since.as_secs()));
            reason.push_str(&format!("; looking has failed for {since}: {}", failing.reason));
        }
        Some(reason)
    }
}
