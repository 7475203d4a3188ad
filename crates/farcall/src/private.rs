//! What the code that `#[farcall::service]` generates needs beside the public interface: gates
//! for the features, and short forms of what it would else repeat for every method.

use std::fmt::Display;

#[cfg(feature = "server")]
pub use farcall_server::from_fn;
pub use serde;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::protocol::describe::{MethodInfo, ParamInfo};
#[cfg(feature = "client")]
use crate::{Call, Channel};
#[cfg(feature = "server")]
use crate::{protocol::Codec, server::Response};
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

/// The answer of a method that returns a value.
#[cfg(feature = "server")]
pub fn answer<T: Serialize>(codec: &Codec, value: T) -> Response {
    Response::ok(codec, &value)
}

/// The answer of a method that returns a `Result<T, E>`.
#[cfg(feature = "server")]
pub fn fallible_answer<T: Serialize, E: Serialize + Display>(
    codec: &Codec,
    result: Result<T, E>,
) -> Response {
    match result {
        Ok(value) => Response::ok(codec, &value),
        Err(error) => Response::application(codec, &error),
    }
}

/// A call of a method that returns a value.
#[cfg(feature = "client")]
pub fn call<T: DeserializeOwned>(
    channel: &Channel,
    method: &'static str,
    arguments: &impl Serialize,
) -> Call<T> {
    channel.call(method, arguments)
}

/// A call of a method that returns a `Result<T, E>`.
#[cfg(feature = "client")]
pub fn fallible_call<T: DeserializeOwned, E: DeserializeOwned>(
    channel: &Channel,
    method: &'static str,
    arguments: &impl Serialize,
) -> Call<T, E> {
    channel.call_fallible(method, arguments)
}

/// Compiles if a server can send such a result.
pub const fn sent<T: Serialize + Send + 'static>() {}

/// Compiles if a server can send such an error.
pub const fn sent_error<E: Serialize + Display + Send + 'static>() {}

/// Compiles if a client can receive such a result or error.
pub const fn received<T: DeserializeOwned>() {}
