//! Who there is to choose among at one moment.

use std::sync::Arc;
use std::time::Duration;

use farcall_discovery::{Endpoint, EndpointList, PickRequest, Picker};
use farcall_transport::HumanDuration;
use tokio::time::Instant;

use super::backend::Member;
use super::guard::Visit;

/// Who there is to choose among. It never changes: the next one takes its place.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) discovered: EndpointList,
    /// All that were found, in the order of addresses.
    pub(super) seats: Vec<Seat>,
    pub(super) choice: Option<Arc<Choice>>,
}

/// A member, and how it was described last.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) member: Arc<Member>,
}

/// Those that calls go to, and who chooses among them.
#[derive(Debug)]
pub(super) struct Choice {
    /// As the picker numbers them. Never empty.
    pub(super) usable: Vec<Seat>,
    /// How many the picker knows of, those that it may not choose included.
    pub(super) known: usize,
    pub(super) picker: Box<dyn Picker>,
}

impl Snapshot {
    pub(super) fn pick(&self, asked: &PickRequest<'_>) -> Option<Visit> {
        let Choice { usable, picker, .. } = &**self.choice.as_ref()?;
        let seat = usable.get(picker.pick(asked)).unwrap_or(&usable[0]);
        Some(Visit::new(&seat.member))
    }

    /// Whether calls go to somebody who is not among these.
    pub(super) fn has_others(&self, tried: &[u64]) -> bool {
        self.usable().iter().any(|seat| !tried.contains(&seat.member.id()))
    }

    pub(super) fn usable(&self) -> &[Seat] {
        self.choice.as_ref().map_or(&[], |choice| &choice.usable)
    }

    /// All that are not drained.
    pub(super) fn known(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.seats.iter().filter(|seat| !seat.endpoint.is_drained()).map(|seat| &seat.member)
    }

    /// Whether it is known who is there, or why that cannot be known.
    pub(super) fn is_known(&self) -> bool {
        self.discovered.confirmed.is_some() || self.discovered.failing.is_some()
    }

    /// Why there is nobody to choose; none where nothing is known at all.
    pub(super) fn why_nobody(&self) -> Option<String> {
        let EndpointList { confirmed, failing, .. } = &self.discovered;
        let mut why = match (confirmed, self.seats.len()) {
            (None, _) if failing.is_none() => return None,
            (None, _) => "none was ever found".to_owned(),
            (Some(_), 0) => "nobody is there".to_owned(),
            (Some(_), 1) => "the only one is drained".to_owned(),
            (Some(_), seats) => format!("all {seats} are drained"),
        };
        if let Some(failing) = failing {
            let since = Instant::now().saturating_duration_since(failing.since);
            let since = HumanDuration(Duration::from_secs(since.as_secs()));
            why.push_str(&format!("; looking has failed for {since}: {}", failing.reason));
        }
        Some(why)
    }
}
