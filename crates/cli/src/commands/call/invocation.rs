//! [`Invocation`]: a call of one method, checked against its description and made with any arguments.

use farcall::client::{Call, Request, Response};
use farcall::protocol::Codec;
use farcall::protocol::describe::MethodInfo;
use farcall::{Code, RpcError};
use farcall_schema::Document;

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
    /// `true` if the server carries out all tries of the call once.
    is_once: bool,
}

/// The description of the method, and its types if the server tells them.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) method: MethodInfo,
    types: Option<Document>,
}

impl Description {
    /// Checks arguments, before they are sent.
    ///
    /// # Errors
    ///
    /// The server would refuse them.
    pub(super) fn check(&self, name: &str, arguments: &Value) -> Result<(), Failure> {
        let by_types = || self.types.as_ref().map_or(Ok(()), |types| schema::check(types, name, arguments));
        check(&self.method, arguments).and_then(|()| by_types()).map_err(|error| {
            Failure::usage(error)
                .with_field("method", word(name))
                .with_field("sent", "no, --no-check sends it")
        })
    }
}

impl Invocation {
    /// Creates a call of a method of which nothing else is known.
    pub(super) const fn new(session: Session, method: String, is_idempotent: bool) -> Self {
        Self { session, method, is_idempotent, is_once: false }
    }

    /// Returns what the server says of the method; `None` if it says nothing of any.
    ///
    /// # Errors
    ///
    /// There is no such method.
    pub(super) async fn describe(&mut self) -> Result<Option<Description>, Failure> {
        if self.method.starts_with("farcall.") {
            return Ok(None);
        }
        // A server that cannot be asked is asked for the call itself, whose error says more.
        let (services, types) =
            tokio::join!(self.session.services(), schema::of_server_if_any(&self.session));
        let Ok(Some(services)) = services else { return Ok(None) };
        let Some(method) = find(&services, &self.method) else {
            let failure = Failure::usage(format!("there is no method `{}`", word(&self.method)));
            return Err(failure.with_hint(suggestion(&services, &self.method)));
        };
        self.is_idempotent |= method.idempotent;
        self.is_once = method.once;
        Ok(Some(Description { method: method.clone(), types }))
    }

    /// Creates the call, to be made as a streaming one.
    pub(super) fn plain_call(&self, arguments: &Value) -> Call<Value> {
        let mut call = self.session.channel.call::<Value>(self.method.clone(), arguments);
        for (key, value) in &self.session.settings.metadata {
            call = call.metadata(key, value);
        }
        match (self.is_once, self.is_idempotent) {
            (true, _) => call.once(),
            (_, true) => call.idempotent(),
            _ => call,
        }
    }

    /// Creates the request.
    pub(super) fn request(&self, arguments: &Value) -> Request {
        let mut request = self.session.channel.request(self.method.clone(), arguments);
        for (key, value) in &self.session.settings.metadata {
            request.set_metadata(key, value);
        }
        if self.is_once {
            request.set_once();
        } else if self.is_idempotent {
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
