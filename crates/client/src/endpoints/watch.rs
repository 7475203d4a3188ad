//! The task that keeps the endpoints of a channel: it follows the list, leaves out who is ill, and
//! lets back who has recovered.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farcall_discovery::{Candidates, Discovered, Discovery, Failing, Publisher, Subscription, publisher};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, error};

use super::Shared;
use super::member::{Condition, Member};
use super::probe::restored;
use super::snapshot::{Choice, Seat, Snapshot};

/// A source of endpoints that was not asked yet.
pub(crate) struct Source {
    /// Where they come from, for people.
    pub(crate) origin: String,
    run: Box<dyn FnOnce(Publisher) -> BoxFuture<'static, ()> + Send>,
}

impl Source {
    pub(crate) fn new(discovery: impl Discovery) -> Self {
        let origin = discovery.describe();
        Self { origin, run: Box::new(move |publisher| Box::pin(discovery.run(publisher))) }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.origin).finish()
    }
}

/// What the task works on.
pub(super) struct Watch {
    shared: Arc<Shared>,
    subscription: Subscription,
    discovery: Discovering,
    /// Whether the source has said its last word, which stays in force.
    ended: bool,
    /// Since when there is no source because it panicked.
    panicked: Option<Instant>,
    next_id: u64,
    /// Those who are ill, by id, until they are let back. Bounded by the members.
    probes: FuturesUnordered<BoxFuture<'static, u64>>,
    /// Who of them is left out, and whether for failing.
    ill: HashMap<u64, Condition>,
}

/// The source's own task, which ends with its owner.
struct Discovering(JoinHandle<()>);

impl Drop for Discovering {
    /// Nobody listens any more.
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How often the age of the list is reported.
const REPORT_EVERY: Duration = Duration::from_secs(1);

impl Watch {
    pub(super) fn new(shared: Arc<Shared>, source: Source) -> Self {
        let (publisher, subscription) = publisher();
        let discovery = Discovering(tokio::spawn((source.run)(publisher)));
        let (probes, ill) = (FuturesUnordered::new(), HashMap::new());
        Self { shared, subscription, discovery, ended: false, panicked: None, next_id: 0, probes, ill }
    }

    pub(super) async fn run(mut self) {
        let mut report = interval(REPORT_EVERY);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // None of these loses anything when another is first: each only says that it is time
            // to look again.
            tokio::select! {
                changed = self.subscription.changed(), if !self.ended => {
                    if changed.is_err() {
                        self.source_ended().await;
                    }
                }
                () = self.shared.unwell.notified() => {}
                Some(restored) = self.probes.next(), if !self.probes.is_empty() => {
                    self.ill.remove(&restored);
                }
                _ = report.tick() => {
                    self.report();
                    continue;
                }
            }
            self.look();
        }
    }

    /// Makes the next snapshot.
    fn look(&mut self) {
        let discovered = self.discovered();
        let last = self.shared.snapshot.load_full();
        let seats = self.seats(&discovered, &last);
        self.tend(&seats);
        let choice = self.choice(&seats, last.choice.as_ref());
        self.shared.snapshot.store(Arc::new(Snapshot { discovered, seats, choice }));
        self.shared.replaced.notify_waiters();
    }

    async fn source_ended(&mut self) {
        self.ended = true;
        if let Err(error) = (&mut self.discovery.0).await {
            error!(origin = self.shared.origin, %error, "the discovery of endpoints has failed for good");
            self.panicked = Some(Instant::now());
        }
    }

    fn discovered(&mut self) -> Discovered {
        let mut discovered = self.subscription.borrow_and_update().clone();
        if let Some(since) = self.panicked {
            discovered.failing = Some(Failing { since, why: "its discovery panicked".into() });
        }
        discovered
    }

    /// A member for each endpoint, the same as before where it was there. Both lists are sorted.
    fn seats(&mut self, discovered: &Discovered, last: &Snapshot) -> Vec<Seat> {
        let mut old = last.seats.iter().peekable();
        let mut seats = Vec::with_capacity(discovered.endpoints.len());
        for endpoint in &*discovered.endpoints {
            while let Some(left) = old.next_if(|seat| seat.endpoint.address < endpoint.address) {
                left.member.leave();
            }
            let member = match old.next_if(|seat| seat.endpoint.address == endpoint.address) {
                Some(stays) => Arc::clone(&stays.member),
                None => {
                    self.next_id += 1;
                    Arc::new(Member::new(self.next_id, &endpoint.address, &self.shared))
                }
            };
            seats.push(Seat { endpoint: Arc::clone(endpoint), member });
        }
        old.for_each(|left| left.member.leave());
        seats
    }

    /// Leaves out who has fallen ill, as far as that is allowed.
    fn tend(&mut self, seats: &[Seat]) {
        let known = seats.iter().filter(|seat| !seat.endpoint.is_drained()).count();
        for Seat { member, endpoint } in seats {
            let condition = member.condition();
            if condition == Condition::Well || self.ill.contains_key(&member.id()) {
                continue;
            }
            if condition == Condition::Failing {
                let ejected = self.ill.values().filter(|ill| **ill == Condition::Failing).count();
                if (ejected + 1) * 2 > known {
                    member.pardon();
                    continue;
                }
            }
            debug!(endpoint = %endpoint.address, ?condition, "left out");
            member.leave_out();
            self.ill.insert(member.id(), condition);
            let options = self.shared.options.clone();
            self.probes.push(Box::pin(restored(Arc::clone(member), options)));
        }
    }

    /// Who calls go to. A picker is kept as long as nothing has changed for it.
    fn choice(&self, seats: &[Seat], last: Option<&Arc<Choice>>) -> Option<Arc<Choice>> {
        let all = seats.iter().map(|Seat { endpoint, member }| {
            (member.candidate(endpoint), self.ill.contains_key(&member.id()))
        });
        let candidates = Candidates::select(&all.collect::<Vec<_>>())?;
        let by_id: HashMap<u64, &Seat> = seats.iter().map(|seat| (seat.member.id(), seat)).collect();
        let usable: Vec<Seat> = candidates
            .usable
            .iter()
            .filter_map(|candidate| by_id.get(&candidate.id).copied().cloned())
            .collect();
        let same = |last: &&Arc<Choice>| {
            last.known == candidates.known.len()
                && last.usable.len() == usable.len()
                && last.usable.iter().zip(&usable).all(|(last, now)| {
                    last.member.id() == now.member.id() && Arc::ptr_eq(&last.endpoint, &now.endpoint)
                })
        };
        if let Some(last) = last.filter(same) {
            return Some(Arc::clone(last));
        }
        let known = candidates.known.len();
        Some(Arc::new(Choice { usable, known, picker: self.shared.balancer.picker(&candidates) }))
    }

    fn report(&self) {
        if let Some(age) = self.shared.age() {
            metrics::gauge!("farcall_client_endpoints_age_seconds", "origin" => self.shared.origin.clone())
                .set(age.as_secs_f64());
        }
    }
}
