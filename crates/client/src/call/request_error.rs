//! [`RequestError`]: a mistake in the description of a call.

use farcall_protocol::text::shown_name;
use farcall_protocol::{Code, EncodeError, Execution, MetadataError};

use crate::error::{Phase, RpcError};

/// Mistakes in a request's description, reported when the call starts.
#[derive(Clone, Debug)]
pub(super) enum RequestError {
    Arguments(EncodeError),
    Metadata(MetadataError),
    /// A streaming call that was declared `once`.
    OnceStream,
}

impl RequestError {
    /// Creates the error of a call of this method.
    #[cold]
    pub(super) fn into_rpc_error(self, method: &str) -> RpcError {
        let invalid =
            |message| RpcError::new(Code::InvalidArgument, Execution::NotSent, Phase::Prepare, message);
        let method = shown_name(method);
        match self {
            Self::OnceStream => invalid(format!(
                "`{method}` streams: `once` is for calls without items, which are not kept for a second try"
            )),
            Self::Metadata(error) => invalid(format!("`{method}`: {error}")).with_source(error),
            Self::Arguments(error) => invalid(format!("arguments of `{method}`: {error}")).with_source(error),
        }
    }
}
