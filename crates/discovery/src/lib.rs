//! Which endpoints a farcall client can call, and which one the next call goes to.
//!
//! A [`Discovery`] finds [`Endpoint`]s and tells of changes: a fixed list, a file, DNS, a registry,
//! or what a user writes. A [`Balancer`] makes a [`Picker`] of those that may be called, and the
//! picker chooses one for each call. On the other side a [`Registrar`] makes an [`Instance`] of a
//! service known, and [`keep_registered`] renews that for as long as the server runs.
//!
//! Nothing in here calls anybody: channels do, in `farcall-client`.

mod balance;
mod discovery;
mod endpoint;
mod instance;
mod registrar;

pub use self::balance::{Asked, Balancer, Candidate, Candidates, KeySource, Load, Picker};
pub use self::discovery::{Discovered, Discovery, Failing, Publisher, Subscription, publisher};
pub use self::endpoint::{Endpoint, State};
pub use self::instance::{Instance, InstanceError};
pub use self::registrar::{Registered, Registrar, RegistrarError, Renewal, keep_registered};
