//! What a balancer is, and what it knows when it chooses.

mod load;

use std::fmt;
use std::sync::Arc;

pub use self::load::Load;
use crate::endpoint::Endpoint;

/// A way to spread calls over endpoints.
///
/// Whenever the endpoints that may be called change, it makes a [`Picker`] for them, away from the
/// path of any call; the picker then chooses for each call.
///
/// ```
/// use farcall_discovery::{Asked, Balancer, Candidates, Picker};
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
///     fn pick(&self, _asked: &Asked<'_>) -> usize {
///         self.0
///     }
/// }
/// ```
pub trait Balancer: fmt::Debug + Send + Sync + 'static {
    /// Prepares for choosing among these, of which at least one is usable.
    fn picker(&self, candidates: &Candidates) -> Box<dyn Picker>;

    /// Where the key of a call comes from, for those that need one.
    fn key(&self) -> KeySource {
        KeySource::None
    }
}

/// Chooses an endpoint for each call. It is called by many threads at once, and should neither
/// lock nor wait.
pub trait Picker: fmt::Debug + Send + Sync + 'static {
    /// The index among the usable candidates. One that the call has tried already is to be
    /// avoided where another can do; an index that is out of bounds is taken for the first.
    fn pick(&self, asked: &Asked<'_>) -> usize;
}

/// The endpoints that a picker is made for.
#[derive(Clone, Debug)]
pub struct Candidates {
    /// Those to choose among, in the order of addresses: not drained, not ejected, and stale only
    /// where nobody else is left. Never empty.
    pub usable: Arc<[Candidate]>,
    /// All that were found and are not drained, usable or not.
    pub known: Arc<[Candidate]>,
}

/// An endpoint that may be chosen. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Tells endpoints of a channel from each other, for as long as the channel lives.
    pub id: u64,
    /// What was found out of it.
    pub endpoint: Arc<Endpoint>,
    /// What this client has seen of it.
    pub load: Arc<Load>,
}

/// A call that an endpoint is wanted for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The call's key, where the balancer wants one and the call has one.
    pub key: Option<&'a [u8]>,
    /// The ids of candidates that the call has been to.
    pub tried: &'a [u64],
}

impl Asked<'_> {
    /// Whether the call has been there.
    #[must_use]
    pub fn has_tried(&self, candidate: &Candidate) -> bool {
        self.tried.contains(&candidate.id)
    }
}

/// Where the key of a call comes from.
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
    /// This field of the call's arguments: a string, a number, a boolean.
    Argument(String),
}
