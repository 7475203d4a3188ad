//! [`DedupStore`]: where the keys and answers of calls that are carried out once are kept.

use farcall_protocol::{BoxError, Status};
use futures::future::BoxFuture;

use super::once_call::OnceCall;

/// The keys and answers of calls that are carried out once.
///
/// The default, [`MemoryDedupStore`](crate::MemoryDedupStore), is one server's memory: a call that may have been carried
/// out is repeated at that server only. With a store that several servers share, such as a table of a database, it may be
/// repeated at any of them: all have the same [name](DedupStore::name) for it, and clients declare their calls with
/// `#[rpc(once = "anywhere")]` or `Call::once_anywhere`.
///
/// A server claims a key before it calls the handler, and has the answer kept behind that. Calls with the same key at one
/// server wait for each other without asking the store.
///
/// A store that several servers of one process share; `crates/farcall/examples/shared_once_store.rs` is one over a file
/// system, with claims that lapse:
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::{Arc, Mutex};
///
/// use farcall_protocol::{BoxError, Status};
/// use farcall_server::{Claim, DedupStore, OnceCall, OnceOptions, Server};
/// use futures::future::{BoxFuture, FutureExt as _, ready};
///
/// #[derive(Clone, Default)]
/// struct Shared(Arc<Mutex<HashMap<String, (u128, Option<Vec<u8>>)>>>);
///
/// impl DedupStore for Shared {
///     fn name(&self) -> String {
///         "orders".to_owned()
///     }
///
///     fn claim<'a>(&'a self, call: &'a OnceCall) -> BoxFuture<'a, Result<Claim, Status>> {
///         let mut calls = self.0.lock().expect("no code panics under the lock");
///         let claim = match calls.get(&call.storage_key()) {
///             Some((fingerprint, _)) if *fingerprint != call.fingerprint() => Claim::OtherArguments,
///             Some((_, Some(answer))) => Claim::Answered(answer.clone()),
///             Some((_, None)) => Claim::Running,
///             None => {
///                 calls.insert(call.storage_key(), (call.fingerprint(), None));
///                 Claim::Granted
///             }
///         };
///         ready(Ok(claim)).boxed()
///     }
///
///     fn keep<'a>(&'a self, call: &'a OnceCall, answer: Vec<u8>) -> BoxFuture<'a, Result<(), BoxError>> {
///         let mut calls = self.0.lock().expect("no code panics under the lock");
///         calls.insert(call.storage_key(), (call.fingerprint(), Some(answer)));
///         ready(Ok(())).boxed()
///     }
///
///     fn release<'a>(&'a self, call: &'a OnceCall) -> BoxFuture<'a, Result<(), BoxError>> {
///         self.0.lock().expect("no code panics under the lock").remove(&call.storage_key());
///         ready(Ok(())).boxed()
///     }
/// }
///
/// let store = Shared::default();
/// let servers = [store.clone(), store].map(|store| Server::builder().once_options(OnceOptions::default().store(store)));
/// # let _ = servers;
/// ```
pub trait DedupStore: Send + Sync + 'static {
    /// Returns a name that all servers have for this store, and for no other: clients repeat a call that may have been
    /// carried out only at a server that names the store of the first try. 1 to 128 bytes.
    fn name(&self) -> String;

    /// Claims the key of a call, in one step with the check if it is claimed already.
    ///
    /// # Errors
    ///
    /// The status to answer: `refused`, since the call is not carried out. `resource_exhausted` if the store is full,
    /// `unavailable` if it cannot be reached.
    fn claim<'a>(&'a self, call: &'a OnceCall) -> BoxFuture<'a, Result<Claim, Status>>;

    /// Keeps the answer of a call whose claim was granted, for as long as the call may be repeated: clients do so for two
    /// minutes. `answer` is bytes that only [`Claim::Answered`] needs.
    ///
    /// # Errors
    ///
    /// The answer could not be kept. It is tried again twice, and then logged.
    fn keep<'a>(&'a self, call: &'a OnceCall, answer: Vec<u8>) -> BoxFuture<'a, Result<(), BoxError>>;

    /// Forgets a call whose claim was granted, and of which nothing was done.
    ///
    /// # Errors
    ///
    /// The claim could not be removed. It is tried again twice, and then logged.
    fn release<'a>(&'a self, call: &'a OnceCall) -> BoxFuture<'a, Result<(), BoxError>>;
}

/// The answer of a store to the claim of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Claim {
    /// The key was free, and is claimed by this.
    Granted,
    /// Another server carries the call out. The store is asked again, after 10 ms at first and each second at last.
    Running,
    /// The call was carried out, and this is its answer.
    Answered(Vec<u8>),
    /// The key was used for a call with other arguments, by their [fingerprint](OnceCall::fingerprint).
    OtherArguments,
    /// The key was claimed by a server that is gone, so that the call may have been carried out. It is answered
    /// `unavailable`, `maybe`.
    Abandoned,
}
