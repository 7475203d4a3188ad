//! What the code that `#[farcall::service]` generates needs beside the public interface: gates
//! for the features, and short forms of what it would else repeat for every method.

#[cfg(feature = "client")]
pub use farcall_client::BuildError;
pub use farcall_protocol::IntoMethodError;
#[cfg(feature = "server")]
pub use farcall_server::{Response, from_fn};
pub use serde;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::protocol::describe::{MethodInfo, ParamInfo};
// The macro cannot see which features this crate was compiled with; these can.
#[cfg(feature = "client")]
pub use crate::{__dropped as unless_client, __kept as if_client};
#[cfg(feature = "server")]
pub use crate::{__dropped as unless_server, __kept as if_server};
#[cfg(not(feature = "client"))]
pub use crate::{__dropped as if_client, __kept as unless_client};
#[cfg(not(feature = "server"))]
pub use crate::{__dropped as if_server, __kept as unless_server};

/// An open gate.
#[doc(hidden)]
#[macro_export]
macro_rules! __kept {
    ($($code:tt)*) => { $($code)* };
}

/// A closed gate.
#[doc(hidden)]
#[macro_export]
macro_rules! __dropped {
    ($($code:tt)*) => {};
}

/// A method's description; the parameters are names and types.
#[must_use]
pub fn method_info(
    name: &str,
    doc: &str,
    params: &[(&str, &str)],
    returns: &str,
    idempotent: bool,
) -> MethodInfo {
    let param = |&(name, ty): &(&str, &str)| ParamInfo { name: name.to_owned(), type_name: ty.to_owned() };
    MethodInfo {
        name: name.to_owned(),
        doc: doc.to_owned(),
        params: params.iter().map(param).collect(),
        returns: returns.to_owned(),
        idempotent,
        streaming: false,
    }
}

/// Compiles if a server can send such a result.
pub const fn sent<T: Serialize + Send + 'static>() {}

/// Compiles if a server can send such an error.
pub const fn sent_error<E: IntoMethodError + Send + 'static>() {}

/// Compiles if a client can receive such a result.
pub const fn received<T: DeserializeOwned>() {}

/// Compiles if a client can receive such an error.
pub const fn received_error<E: IntoMethodError<Application: DeserializeOwned>>() {}
