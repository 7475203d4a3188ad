//! `GET /rpc` and `GET /rpc/openapi.json`: what there is to call, for whoever may call.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use farcall_protocol::describe::SERVICES;
use farcall_protocol::{Code, Codec, Status};
use farcall_server::Invocation;
use farcall_transport::TlsInfo;

use super::answer::{Failure, of_call, result};
use super::head::token;
use super::openapi::document_of;
use super::{DOCUMENT, Open, wrong_method};
use crate::opening::peer_of;

/// The services, as `farcall.services` tells them.
pub(super) async fn services(State(open): State<Open>, request: Request) -> Response {
    open.ask_for_services(request).await.unwrap_or_else(Failure::into_response)
}

/// The document that describes them, by which tools make clients and forms. Everything else below is to be
/// called, by POST.
pub(super) async fn document(State(open): State<Open>, request: Request) -> Response {
    if request.uri().path() != DOCUMENT {
        return wrong_method(request.uri().path());
    }
    match open.ask_for_services(request).await {
        Ok(answer) if answer.status().is_success() => {
            let document = document_of(open.handle.services(), &open.options);
            result(Body::from(document.to_string()))
        }
        Ok(refused) => refused,
        Err(failure) => failure.into_response(),
    }
}

impl Open {
    /// Asks the server by a call, so that it is for those whom the server lets in, and not at all where it
    /// was told to have no such method.
    async fn ask_for_services(&self, request: Request) -> Result<Response, Failure> {
        let (peer, token) = (peer_of(&request), token(request.headers())?);
        let tls = request.extensions().get::<Arc<TlsInfo>>().cloned();
        drop(request);
        let had_token = token.is_some();
        let mut invocation = Invocation::new(SERVICES, Codec::Json, Bytes::new()).peer(peer).idempotent(true);
        if let Some(tls) = tls {
            invocation = invocation.tls(tls);
        }
        if let Some(token) = token {
            invocation = invocation.token(token);
        }
        let called = self.handle.invoke(invocation).await;
        if called.status().is_some_and(|status| status.code == Code::Unimplemented) {
            let message = "this server was told not to say what it offers";
            return Err(Status::refused(Code::Unimplemented, message).into());
        }
        Ok(of_call(&called, had_token))
    }
}
