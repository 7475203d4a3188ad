//! [`ConsistentHash`]: calls with the same key to the same endpoint, as long as it is not overloaded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::least_loaded::LeastLoadedPicker;
use super::ring::{Ring, position_of};
use super::{Balancer, Candidate, Candidates, KeySource, PickRequest, Picker};

/// Sends calls with the same key to the same endpoint, so that what it has cached is used again.
///
/// ```
/// use farcall_discovery::ConsistentHash;
///
/// let by_user = ConsistentHash::by_argument("user_id");
/// let by_tenant = ConsistentHash::by_metadata("tenant").load_factor(1.5);
/// assert_ne!(by_user, by_tenant);
/// ```
///
/// Endpoints get keys in proportion to their weights, give or take 9% (the standard deviation). Where
/// one of n leaves, its own keys move and no others; where one joins, the keys that it takes move and
/// no others.
///
/// **Bounded load**: an endpoint has at most `⌈load factor × (calls in flight + 1) × its share of the
/// weights⌉` calls in flight; past that a call goes where it would if the endpoint were not there
/// (Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016). So one popular
/// key cannot overload one endpoint. It also means that with few calls in flight, two concurrent calls
/// with one key may go to different endpoints; if they must not, set [`ConsistentHash::unbounded`].
/// Calls in flight are those of this client; their sum is kept up to date by each call for the
/// endpoints that it looks at and for two others, in turn, and may lag behind for the rest.
///
/// A call without a key goes to the less loaded of two, as with [`LeastLoaded`](crate::LeastLoaded).
///
/// Two clients with the same list agree on each key, whatever their process, machine and version.
/// Keys are bytes: those of a text, the decimal digits of a number, `true` or `false`, so that codecs
/// make no difference either. Positions are the upper 32 bits of XXH3 (64 bits, no seed) of the key;
/// an endpoint's points are both halves of XXH3 of its address as it is displayed, with the seeds 1
/// to 64.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsistentHash {
    key: KeySource,
    load_factor: f64,
}

#[derive(Debug)]
struct ConsistentHashPicker {
    usable: Arc<[Candidate]>,
    ring: Ring,
    /// The number of calls that each may have in flight, for each that is in flight in all.
    allowed: Box<[f64]>,
    in_flight: InFlight,
    without_key: LeastLoadedPicker,
}

/// About how many calls are in flight at all endpoints.
///
/// Adding up thousands of counters for each call would be slow. So each counter's value when it was
/// last looked at is kept, and their sum.
#[derive(Debug)]
// Every call writes to it, so it has a separate cache line (two, since they are fetched in pairs).
#[repr(align(128))]
struct InFlight {
    sum: AtomicUsize,
    /// The counter that is read next.
    turn: AtomicUsize,
    seen: Box<[AtomicUsize]>,
}

/// The number of counters that each call reads for the sum's sake.
const COUNTERS_PER_CALL: usize = 2;

impl ConsistentHash {
    /// The load factor of those that do not set one.
    pub const DEFAULT_LOAD_FACTOR: f64 = 1.25;

    /// By the key that is given with a call.
    #[must_use]
    pub const fn by_key() -> Self {
        Self::by(KeySource::Call)
    }

    /// By the value of this key of a call's metadata.
    #[must_use]
    pub fn by_metadata(key: impl Into<String>) -> Self {
        Self::by(KeySource::Metadata(key.into()))
    }

    /// By the value of this field of a call's arguments.
    #[must_use]
    pub fn by_argument(field: impl Into<String>) -> Self {
        Self::by(KeySource::Argument(field.into()))
    }

    const fn by(key: KeySource) -> Self {
        Self { key, load_factor: Self::DEFAULT_LOAD_FACTOR }
    }

    /// Sets how much more than its share of the calls in flight an endpoint may have: 1.25 (the default) is
    /// a quarter more. Nearer to 1 spreads load better and parts more calls from their endpoints; 2
    /// and more keeps nearly all together. What is less than 1 is taken for 1.
    #[must_use]
    pub const fn load_factor(mut self, load_factor: f64) -> Self {
        // Not a number becomes 1, too.
        self.load_factor = load_factor.max(1.0);
        self
    }

    /// Sends a key's calls to its endpoint however many are in flight there.
    #[must_use]
    pub const fn unbounded(self) -> Self {
        self.load_factor(f64::INFINITY)
    }
}

impl Balancer for ConsistentHash {
    fn picker(&self, candidates: &Candidates) -> Box<dyn Picker> {
        let usable = Arc::clone(&candidates.usable);
        let weights: u64 = usable.iter().map(Candidate::weight).sum();
        let allowed = |candidate: &Candidate| self.load_factor * candidate.weight() as f64 / weights as f64;
        Box::new(ConsistentHashPicker {
            ring: Ring::new(&usable),
            allowed: usable.iter().map(allowed).collect(),
            in_flight: InFlight::new(&usable),
            without_key: LeastLoadedPicker::new(candidates),
            usable,
        })
    }

    fn key(&self) -> KeySource {
        self.key.clone()
    }

    fn describe(&self) -> String {
        let key = match &self.key {
            KeySource::Argument(name) => format!("the argument `{name}`"),
            KeySource::Metadata(key) => format!("the metadata `{key}`"),
            _ => "the call's key".to_owned(),
        };
        if self.load_factor.is_infinite() {
            return format!("consistent hash by {key}, unbounded");
        }
        format!("consistent hash by {key}, load factor {}", self.load_factor)
    }
}

impl ConsistentHashPicker {
    fn pick_by(&self, key: &[u8], request: &PickRequest<'_>) -> usize {
        let position = position_of(key);
        let untried = |index| !request.has_been_to(&self.usable, index);
        let picked = self.ring.nearest(position, |index| untried(index) && self.has_room(index));
        // Counts change meanwhile, so that all may look full; and all may have been tried.
        let picked = picked.or_else(|| self.ring.nearest(position, untried));
        picked.unwrap_or_else(|| {
            request.next_untried(&self.usable, position as usize % self.usable.len().max(1))
        })
    }

    /// Returns `true` if the endpoint is within its bound with one call more.
    fn has_room(&self, index: usize) -> bool {
        let (Some(candidate), Some(allowed)) = (self.usable.get(index), self.allowed.get(index)) else {
            return false;
        };
        let here = candidate.load.in_flight();
        self.in_flight.saw(index, here);
        here as f64 + 1.0 <= (allowed * (self.in_flight.sum() as f64 + 1.0)).ceil()
    }
}

impl Picker for ConsistentHashPicker {
    fn pick(&self, request: &PickRequest<'_>) -> usize {
        self.in_flight.look_around(&self.usable);
        let picked = match request.key {
            Some(key) => self.pick_by(key, request),
            None => self.without_key.pick(request),
        };
        if let Some(candidate) = self.usable.get(picked) {
            // With the call that will be there in a moment.
            self.in_flight.saw(picked, candidate.load.in_flight().saturating_add(1));
        }
        picked
    }
}

impl InFlight {
    fn new(usable: &[Candidate]) -> Self {
        let now = || usable.iter().map(|candidate| candidate.load.in_flight());
        // Counters may be anything by a moment's race, never added up past what a number holds.
        let sum = AtomicUsize::new(now().fold(0, usize::wrapping_add));
        Self { sum, turn: AtomicUsize::new(0), seen: now().map(AtomicUsize::new).collect() }
    }

    fn sum(&self) -> usize {
        self.sum.load(Ordering::Relaxed)
    }

    fn saw(&self, index: usize, calls: usize) {
        let Some(seen) = self.seen.get(index) else { return };
        // Most of the time nothing has changed; reading only keeps the line shared.
        if seen.load(Ordering::Relaxed) != calls {
            // Each takes out what it replaces, so that the sum is that of what was seen, exactly.
            let last = seen.swap(calls, Ordering::Relaxed);
            self.sum.fetch_add(calls.wrapping_sub(last), Ordering::Relaxed);
        }
    }

    fn look_around(&self, usable: &[Candidate]) {
        let turn = self.turn.fetch_add(COUNTERS_PER_CALL, Ordering::Relaxed);
        for turn in turn..turn.saturating_add(COUNTERS_PER_CALL) {
            let index = turn % usable.len().max(1);
            if let Some(candidate) = usable.get(index) {
                self.saw(index, candidate.load.in_flight());
            }
        }
    }
}

#[cfg(test)]
mod tests;
