//! [`Invocation`]: a call of one method, checked against its description and made with any arguments.

use farcall::client::{Request, Response};
use farcall::protocol::Codec;
use farcall::{Code, RpcError};

use super::timing::Timing;
use crate::check::check;
use crate::failure::Failure;
use crate::methods::{find, suggestion};
use crate::output::escape::word;
use crate::schema;
use crate::session::Session;
use crate::value::Value;

/// A call that is ready to be made, with any arguments.
#[derive(Debug)]
pub(super) struct Invocation {
    pub(super) session: Session,
    pub(super) method: String,
    pub(super) is_idempotent: bool,
}

impl Invocation {
    /// Checks the method's name, and the arguments if there are any yet, against what the server says of it.
    pub(super) async fn check(&mut self, arguments: Option<&Value>) -> Result<(), Failure> {
        if self.method.starts_with("farcall.") {
            return Ok(());
        }
        // A server that cannot be asked is asked for the call itself, whose error says more.
        let (services, document) =
            tokio::join!(self.session.services(), schema::of_server_if_any(&self.session));
        let Ok(Some(services)) = services else { return Ok(()) };
        let Some(method) = find(&services, &self.method) else {
            let failure = Failure::usage(format!("there is no method `{}`", word(&self.method)));
            return Err(failure.with_hint(suggestion(&services, &self.method)));
        };
        self.is_idempotent |= method.idempotent;
        let Some(arguments) = arguments else { return Ok(()) };
        let by_types =
            || document.map_or(Ok(()), |document| schema::check(&document, &self.method, arguments));
        check(method, arguments).and_then(|()| by_types()).map_err(|error| {
            Failure::usage(error)
                .with_field("method", word(&self.method))
                .with_field("sent", "no, --no-check sends it")
        })
    }

    /// Creates the request.
    pub(super) fn request(&self, arguments: &Value) -> Request {
        let mut request = self.session.channel.request(self.method.clone(), arguments);
        for (key, value) in &self.session.settings.metadata {
            request.set_metadata(key, value);
        }
        if self.is_idempotent {
            request.set_idempotent();
        }
        request
    }

    /// Makes the call.
    pub(super) async fn call(&self, arguments: &Value, timing: &mut Timing) -> Result<Value, RpcError> {
        let response = timing.response(&self.session.channel, self.request(arguments)).await?;
        timing.decode(|| decode(&response))
    }

    /// Returns the failure of a call, with the nearest method if there is none of this name.
    pub(super) async fn failure(&self, error: &RpcError) -> Failure {
        let failure = Failure::of_call(error, self.is_idempotent);
        if error.code() != Code::Unimplemented {
            return failure;
        }
        let services = self.session.services().await.ok().flatten().unwrap_or_default();
        failure.with_hint(suggestion(&services, &self.method))
    }
}

/// Decodes a result. Nothing, as one-way methods return, is null.
fn decode(response: &Response) -> Result<Value, RpcError> {
    if response.body().is_empty() && *response.codec() == Codec::Json {
        return Ok(Value::Null);
    }
    response.decode()
}
