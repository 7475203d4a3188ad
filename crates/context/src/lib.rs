//! The context of a call: its deadline, its metadata, its trace and its caller.
//!
//! A handler receives it as a [`Context`]. Calls that a handler makes inherit the remaining deadline, the
//! metadata and the place in the [trace](trace::TraceContext) without passing them explicitly: the server
//! sets the current [`Inherited`] around each poll of the handler, and the client reads it with
//! [`Inherited::current`].
//!
//! ```
//! use farcall_context::Inherited;
//! use tokio::time::{Duration, Instant};
//!
//! let deadline = Instant::now() + Duration::from_secs(1);
//! let inherited = Inherited::default().deadline(Some(deadline));
//! inherited.scope(|| assert_eq!(Inherited::current().deadline, Some(deadline)));
//! assert_eq!(Inherited::current().deadline, None);
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

const _: () = assert!(
    farcall_protocol::Codec::ANY,
    "farcall needs a codec: enable the feature `msgpack`, or `json`, or both"
);

mod context;
mod drain;
mod identity;
mod inherited;
pub mod trace;

pub use self::context::{ConnectionInfo, Context};
pub use self::drain::DrainSignal;
pub use self::identity::Identity;
pub use self::inherited::{Inherited, WithInherited};
