//! The task that keeps the endpoints of a channel: it follows the list, leaves out who is ill, and
//! lets back who has recovered.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farcall_discovery::{
    Candidates, Discovery, EndpointList, Publisher, SourceError, Subscription, publisher,
};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{debug, error};

use super::Shared;
use super::backend::{Condition, Member};
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
    /// What its end means, once the source's task has ended.
    over: Option<SourceError>,
    next_id: u64,
    /// Those who are ill, until they are let back. Bounded by the members.
    probes: FuturesUnordered<BoxFuture<'static, u64>>,
    /// Who of the members is left out, and why.
    ill: HashMap<u64, Condition>,
}

/// The source's own task, which ends with its owner.
struct Discovering {
    task: JoinHandle<()>,
    ended: bool,
}

/// With ten thousand endpoints a look takes milliseconds, and where many fall ill there is always
/// something to look at: beyond this, no more than half of the time goes into looking.
const QUICK_LOOK: Duration = Duration::from_millis(1);
/// How often the age of the list is reported.
const REPORT_EVERY: Duration = Duration::from_secs(1);

impl Watch {
    pub(super) fn new(shared: Arc<Shared>, source: Source) -> Self {
        let (publisher, subscription) = publisher();
        // There is one task, so that it was not set before.
        let _ = shared.list.set(subscription.clone());
        // Called in the task, too: should it panic, that is the source's fault, not the caller's.
        let task = tokio::spawn(async move { (source.run)(publisher).await });
        let discovery = Discovering { task, ended: false };
        let (probes, ill) = (FuturesUnordered::new(), HashMap::new());
        Self { shared, subscription, discovery, over: None, next_id: 0, probes, ill }
    }

    pub(super) async fn run(mut self) {
        let mut report = interval(REPORT_EVERY);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Whether the source has let go of its end: what it said last stays in force.
        let mut silent = false;
        loop {
            // None of these loses anything when another is first: each only says that it is time
            // to look again.
            tokio::select! {
                changed = self.subscription.changed(), if !silent => silent = changed.is_err(),
                over = self.discovery.over(), if !self.discovery.ended => self.source_ended(over),
                () = self.shared.unwell.notified() => {}
                Some(restored) = self.probes.next(), if !self.probes.is_empty() => self.let_back(restored),
                _ = report.tick() => {
                    self.report();
                    continue;
                }
            }
            let begin = Instant::now();
            self.look();
            let took = begin.elapsed();
            if took > QUICK_LOOK {
                // What happens meanwhile is looked at all at once.
                sleep(took).await;
            }
        }
    }

    /// Makes the next snapshot. It goes through all endpoints.
    fn look(&mut self) {
        let discovered = self.discovered();
        let last = self.shared.snapshot.load_full();
        let seats = self.seats(&discovered, &last);
        self.tend(&seats);
        let choice = self.choice(&seats, last.choice.as_ref());
        self.shared.replace(Snapshot { discovered, seats, choice });
    }

    /// This one has been let back or has left, and whoever else has by now.
    fn let_back(&mut self, restored: u64) {
        self.ill.remove(&restored);
        while let Some(Some(restored)) = self.probes.next().now_or_never() {
            self.ill.remove(&restored);
        }
    }

    fn source_ended(&mut self, over: Result<(), JoinError>) {
        let why = match over {
            Ok(()) if self.subscription.borrow().confirmed.is_some() => return,
            Ok(()) => "its discovery ended without a list",
            Err(error) => {
                error!(origin = self.shared.origin, %error, "the discovery of endpoints has failed for good");
                "its discovery panicked"
            }
        };
        self.over = Some(SourceError::new(why));
    }

    fn discovered(&mut self) -> EndpointList {
        let mut discovered = self.subscription.borrow_and_update().clone();
        if let Some(over) = &self.over {
            discovered.failing = Some(over.clone());
        }
        discovered
    }

    /// A member for each endpoint, the same as before where it was there. Both lists are sorted.
    fn seats(&mut self, discovered: &EndpointList, last: &Snapshot) -> Vec<Seat> {
        let mut leave = |left: &Seat| {
            left.member.leave();
            self.ill.remove(&left.member.id());
        };
        let mut old = last.seats.iter().peekable();
        let mut seats = Vec::with_capacity(discovered.endpoints.len());
        for endpoint in &*discovered.endpoints {
            while let Some(left) = old.next_if(|seat| seat.endpoint.address < endpoint.address) {
                leave(left);
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
        old.for_each(leave);
        seats
    }

    /// Leaves out who has fallen ill, as far as that is allowed.
    fn tend(&mut self, seats: &[Seat]) {
        let asked = seats.iter().filter(|seat| !seat.endpoint.is_drained());
        let (mut known, mut ejected) = (0, 0);
        for seat in asked {
            known += 1;
            ejected += usize::from(self.ill.get(&seat.member.id()) == Some(&Condition::Ejected));
        }
        for Seat { member, endpoint } in seats {
            let condition = member.condition();
            if condition == Condition::Healthy || self.ill.contains_key(&member.id()) {
                continue;
            }
            if condition == Condition::Ejected {
                if (ejected + 1) * 2 > known {
                    member.pardon();
                    continue;
                }
                ejected += 1;
            }
            debug!(endpoint = %endpoint.address, ?condition, "left out");
            member.leave_out();
            self.ill.insert(member.id(), condition);
            let options = Arc::clone(&self.shared.options);
            self.probes.push(Box::pin(restored(Arc::clone(member), options)));
        }
    }

    /// Who calls go to. A picker is kept as long as nothing has changed for it.
    fn choice(&self, seats: &[Seat], last: Option<&Arc<Choice>>) -> Option<Arc<Choice>> {
        let all = seats.iter().map(|Seat { endpoint, member }| {
            (member.candidate(endpoint), self.ill.contains_key(&member.id()))
        });
        let candidates = Candidates::select(&all.collect::<Vec<_>>())?;
        // Those that are usable stand in the same order.
        let mut ids = candidates.usable.iter().map(|candidate| candidate.id).peekable();
        let usable = seats.iter().filter(|seat| ids.next_if_eq(&seat.member.id()).is_some());
        let usable: Vec<Seat> = usable.cloned().collect();
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

impl Drop for Watch {
    /// Nobody looks any more: the channel is gone, its runtime was shut down, or a balancer of a
    /// user's panicked. Calls that wait for endpoints are not to wait for this.
    fn drop(&mut self) {
        if std::thread::panicking() {
            error!(origin = self.shared.origin, "the task that looks for endpoints has panicked");
        }
        let Snapshot { discovered, seats, choice } = &*self.shared.snapshot.load_full();
        let mut discovered = discovered.clone();
        discovered.failing = Some(SourceError::new("the task that looks for endpoints has ended"));
        self.shared.replace(Snapshot { discovered, seats: seats.clone(), choice: choice.clone() });
    }
}

impl Discovering {
    /// Ready when the source has ended, as it did. Not to be asked again then.
    async fn over(&mut self) -> Result<(), JoinError> {
        let over = (&mut self.task).await;
        self.ended = true;
        over
    }
}

impl Drop for Discovering {
    /// Nobody listens any more.
    fn drop(&mut self) {
        self.task.abort();
    }
}
