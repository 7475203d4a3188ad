//! [`Balancer`] and [`Picker`], and the requests that they choose for.

mod alias_table;
mod balancer_fn;
mod candidates;
mod consistent_hash;
mod least_loaded;
mod load;
mod peak_ewma;
mod random;
mod reported_load;
mod ring;
mod round_robin;
mod subset;
#[cfg(test)]
mod test_support;
mod weighted_round_robin;
mod zone_first;

use std::fmt;
use std::sync::Arc;

pub use self::balancer_fn::{BalancerFn, balancer_fn};
pub use self::candidates::{Candidate, Candidates};
pub use self::consistent_hash::ConsistentHash;
pub use self::least_loaded::LeastLoaded;
pub use self::load::{Load, LoadReports};
pub use self::peak_ewma::PeakEwma;
pub use self::random::Random;
pub use self::reported_load::ReportedLoad;
pub use self::round_robin::RoundRobin;
pub use self::subset::Subset;
pub use self::weighted_round_robin::WeightedRoundRobin;
pub use self::zone_first::ZoneFirst;

/// A way to spread calls over endpoints.
///
/// Whenever the endpoints that may be called change, it makes a [`Picker`] for them, away from the
/// path of any call; the picker then chooses for each call. If nothing has to be prepared,
/// [`balancer_fn`] makes a balancer of a closure.
///
/// ```
/// use farcall_discovery::{PickRequest, Balancer, Candidates, Picker};
///
/// /// Sends every call to the endpoint with the largest weight.
/// #[derive(Debug)]
/// struct Largest;
///
/// #[derive(Debug)]
/// struct Always(usize);
///
/// impl Balancer for Largest {
///     fn picker(&self, candidates: &Candidates) -> Box<dyn Picker> {
///         let weights = candidates.usable.iter().map(|candidate| candidate.endpoint.weight);
///         let largest = weights.enumerate().max_by_key(|(_, weight)| *weight);
///         Box::new(Always(largest.map_or(0, |(index, _)| index)))
///     }
/// }
///
/// impl Picker for Always {
///     fn pick(&self, _request: &PickRequest<'_>) -> usize {
///         self.0
///     }
/// }
/// ```
pub trait Balancer: fmt::Debug + Send + Sync + 'static {
    /// Prepares for choosing among these, of which at least one is usable.
    fn picker(&self, candidates: &Candidates) -> Box<dyn Picker>;

    /// Leaves out the endpoints that this client has nothing to do with, in the order of the others; the flag is `true` for one
    /// that cannot be used: it is ejected, or was not reached. A channel connects to none that is left out, and probes none. Default: all stay.
    ///
    /// A channel calls it before [`Candidates::select`], whenever the endpoints or their health have changed. A balancer
    /// around another one passes this on to it.
    fn narrow(&self, found: &mut Vec<(Candidate, bool)>) {
        let _ = found;
    }

    /// Returns the source of a call's key, for balancers that need one.
    fn key(&self) -> KeySource {
        KeySource::None
    }

    /// Describes the balancer in a few words, for display: `least loaded`. Default: its `Debug` text.
    fn describe(&self) -> String {
        format!("{self:?}")
    }
}

/// Chooses an endpoint for each call. It is called by many threads at once, and should neither
/// lock nor wait.
pub trait Picker: fmt::Debug + Send + Sync + 'static {
    /// Returns an index among the usable candidates. One that the call has tried already should be
    /// avoided where another can do; an index that is out of bounds is taken for the first.
    fn pick(&self, request: &PickRequest<'_>) -> usize;

    /// Returns `true` if the usable candidate of this index gets only calls that have been to the others. A channel
    /// closes connections to it when these calls have ended. Default: none is.
    fn is_spare(&self, index: usize) -> bool {
        let _ = index;
        false
    }
}

/// A call that an endpoint is wanted for.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct PickRequest<'a> {
    /// The call's key, where the balancer wants one and the call has one.
    pub key: Option<&'a [u8]>,
    /// The ids of candidates that the call has been to.
    pub tried: &'a [u64],
}

impl<'a> PickRequest<'a> {
    /// Creates the request of a call with this key, which has tried these candidates.
    #[inline]
    #[must_use]
    pub const fn new(key: Option<&'a [u8]>, tried: &'a [u64]) -> Self {
        Self { key, tried }
    }

    /// Returns `true` if the call has tried this candidate.
    #[must_use]
    pub fn has_tried(&self, candidate: &Candidate) -> bool {
        self.tried.contains(&candidate.id)
    }

    /// Returns `true` if the call has tried the candidate of this index.
    fn has_been_to(&self, usable: &[Candidate], index: usize) -> bool {
        !self.tried.is_empty() && usable.get(index).is_some_and(|candidate| self.has_tried(candidate))
    }

    /// This index, or the first one after it, all around, that the call has not been to; this one
    /// where it has been to all.
    fn next_untried(&self, usable: &[Candidate], index: usize) -> usize {
        if !self.has_been_to(usable, index) {
            return index;
        }
        let others = (index + 1..usable.len()).chain(0..index);
        others.into_iter().find(|index| !self.has_been_to(usable, *index)).unwrap_or(index)
    }
}

impl<B: Balancer + ?Sized> Balancer for Box<B> {
    fn picker(&self, candidates: &Candidates) -> Box<dyn Picker> {
        (**self).picker(candidates)
    }

    fn narrow(&self, found: &mut Vec<(Candidate, bool)>) {
        (**self).narrow(found);
    }

    fn key(&self) -> KeySource {
        (**self).key()
    }

    fn describe(&self) -> String {
        (**self).describe()
    }
}

impl<B: Balancer + ?Sized> Balancer for Arc<B> {
    fn picker(&self, candidates: &Candidates) -> Box<dyn Picker> {
        (**self).picker(candidates)
    }

    fn narrow(&self, found: &mut Vec<(Candidate, bool)>) {
        (**self).narrow(found);
    }

    fn key(&self) -> KeySource {
        (**self).key()
    }

    fn describe(&self) -> String {
        (**self).describe()
    }
}

/// The source of a call's key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeySource {
    /// No key is wanted.
    #[default]
    None,
    /// The call's own, as it was given with it.
    Call,
    /// The value of this key of the call's metadata.
    Metadata(String),
    /// This field of the call's arguments: a string, a number, a boolean. A number stands for its
    /// decimal digits, a boolean for `true` or `false`, so that all codecs give the same key.
    Argument(String),
}
