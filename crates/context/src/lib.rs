//! What a call carries beside its arguments: its deadline, its metadata, who called.
//!
//! A handler that wants to know takes a [`Context`]; calls that a handler makes inherit what is
//! left of its deadline, its metadata, and its place in a [trace](trace::TraceContext), without anybody passing them on: the server sets what
//! is current around each poll of the handler, the client asks for [`current`].
//!
//! ```
//! use farcall_context::{Inherited};
//! use tokio::time::{Duration, Instant};
//!
//! let deadline = Instant::now() + Duration::from_secs(1);
//! let inherited = Inherited { deadline: Some(deadline), ..Inherited::default() };
//! inherited.scope(|| assert_eq!(Inherited::current().deadline, Some(deadline)));
//! assert_eq!(Inherited::current().deadline, None);
//! ```

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
