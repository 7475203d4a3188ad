//! [`AuthorizeLayer`]: which callers may call what.

use std::fmt;
use std::sync::Arc;
use std::task::{self, Poll};

use farcall_context::Identity;
use farcall_protocol::{BoxError, Code, Status};
use futures::future::{Either, MapErr, Ready, TryFutureExt, ready};
use tower_layer::Layer;
use tower_service::Service;

use crate::service::handler::Response;
use crate::service::layer::LayeredCall;

/// A layer that lets through the calls that are allowed to their caller, and no other. Cloning is
/// cheap.
///
/// What may be called is given by patterns: the name of a method such as `Arith.multiply`; or its
/// beginning and a `*`, as in `Arith.*`; or `*`, for all. What several rules allow adds up. Whoever
/// is not allowed to call is told `permission_denied`, or `unauthenticated` where nobody knows who
/// it is; the handler is not begun. The reserved methods are behind no layer: to leave them out, see
/// [`ServerBuilder::without_reserved_methods`](crate::ServerBuilder::without_reserved_methods).
///
/// ```
/// use farcall_server::{AuthorizeLayer, Server, Tokens};
///
/// let builder = Server::builder()
///     .authenticate(Tokens::fixed([("web", "q8mXe01rHsZ9"), ("ops", "bDF4vNyWTjL2")])?)
///     .layer(AuthorizeLayer::nobody().identity("web", ["Arith.*"]).identity("ops", ["*"]));
/// # let _ = builder;
/// # Ok::<(), farcall_server::TokensError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct AuthorizeLayer {
    rules: Arc<Vec<Rule>>,
}

#[derive(Clone, Debug)]
struct Rule {
    who: Who,
    what: Vec<Pattern>,
}

#[derive(Clone, Debug)]
enum Who {
    Anybody,
    Name(String),
    Attribute { attribute: String, value: String },
}

#[derive(Clone, Debug)]
enum Pattern {
    Exactly(String),
    Beginning(String),
}

impl AuthorizeLayer {
    /// Begins with nobody allowed to call anything.
    pub fn nobody() -> Self {
        Self { rules: Arc::default() }
    }

    /// Allows it to the caller whose [`Identity`] has this name.
    pub fn identity<P: AsRef<str>>(
        self,
        name: impl Into<String>,
        patterns: impl IntoIterator<Item = P>,
    ) -> Self {
        self.rule(Who::Name(name.into()), patterns)
    }

    /// Allows it to callers of whose [`Identity`] this is known, such as `role` being `admin`.
    pub fn attribute<P: AsRef<str>>(
        self,
        attribute: impl Into<String>,
        value: impl Into<String>,
        patterns: impl IntoIterator<Item = P>,
    ) -> Self {
        self.rule(Who::Attribute { attribute: attribute.into(), value: value.into() }, patterns)
    }

    /// Allows it to whoever could connect, also where nobody asks who it is.
    pub fn anybody<P: AsRef<str>>(self, patterns: impl IntoIterator<Item = P>) -> Self {
        self.rule(Who::Anybody, patterns)
    }

    fn rule<P: AsRef<str>>(mut self, who: Who, patterns: impl IntoIterator<Item = P>) -> Self {
        let what = patterns.into_iter().map(|pattern| Pattern::new(pattern.as_ref())).collect();
        Arc::make_mut(&mut self.rules).push(Rule { who, what });
        self
    }

    /// Whether a call may be made.
    ///
    /// # Errors
    ///
    /// The status to answer.
    fn check(&self, caller: Option<&Identity>, method: &str) -> Result<(), Status> {
        let allowed = |rule: &Rule| rule.who.is(caller) && rule.what.iter().any(|what| what.fits(method));
        if self.rules.iter().any(allowed) {
            return Ok(());
        }
        Err(match caller {
            Some(caller) => {
                let message = format!("`{}` may not call `{method}`", caller.name());
                Status::refused(Code::PermissionDenied, message)
            }
            None => {
                let message = format!("`{method}` is not for callers without a credential");
                Status::refused(Code::Unauthenticated, message)
            }
        })
    }
}

impl Who {
    fn is(&self, caller: Option<&Identity>) -> bool {
        match (self, caller) {
            (Self::Anybody, _) => true,
            (Self::Name(name), Some(caller)) => caller.name() == name,
            (Self::Attribute { attribute, value }, Some(caller)) => {
                caller.attribute(attribute) == Some(value)
            }
            (Self::Name(_) | Self::Attribute { .. }, None) => false,
        }
    }
}

impl Pattern {
    fn new(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(beginning) => Self::Beginning(beginning.to_owned()),
            None => Self::Exactly(text.to_owned()),
        }
    }

    fn fits(&self, method: &str) -> bool {
        match self {
            Self::Exactly(name) => method == name,
            Self::Beginning(beginning) => method.starts_with(beginning),
        }
    }
}

impl<S> Layer<S> for AuthorizeLayer {
    type Service = Authorize<S>;

    fn layer(&self, inner: S) -> Authorize<S> {
        Authorize { allow: self.clone(), inner }
    }
}

/// The service of [`AuthorizeLayer`].
#[derive(Clone)]
pub struct Authorize<S> {
    allow: AuthorizeLayer,
    inner: S,
}

impl<S> Service<LayeredCall> for Authorize<S>
where
    S: Service<LayeredCall, Response = Response, Error: Into<BoxError>>,
{
    type Response = Response;
    type Error = BoxError;
    type Future = Either<Ready<Result<Response, BoxError>>, MapErr<S::Future, fn(S::Error) -> BoxError>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, call: LayeredCall) -> Self::Future {
        let context = call.request.context();
        match self.allow.check(context.identity(), context.method()) {
            Ok(()) => Either::Right(self.inner.call(call).map_err(Into::into)),
            Err(status) => Either::Left(ready(Err(status.into()))),
        }
    }
}

impl<S> fmt::Debug for Authorize<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Allowed").field("allow", &self.allow).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allow: &AuthorizeLayer, caller: Option<&Identity>, method: &str) -> Option<Code> {
        allow.check(caller, method).err().map(|status| status.code)
    }

    #[test]
    fn what_rules_allow_adds_up_and_nothing_else_is_allowed() {
        let allow = AuthorizeLayer::nobody()
            .identity("web", ["Arith.multiply"])
            .identity("web", ["Text.*"])
            .attribute("role", "admin", ["*"])
            .anybody(["Text.count"]);
        let web = Some(Identity::new("web"));
        let admin = Some(Identity::new("eve").with("role", "admin"));
        let denied = Some(Code::PermissionDenied);
        for (caller, method, refused) in [
            (&web, "Arith.multiply", None),
            (&web, "Text.words", None),
            (&web, "Arith.multiply_all", denied),
            (&web, "Arith.divide", denied),
            (&web, "TextX.words", denied),
            (&web, "", denied),
            (&admin, "Arith.divide", None),
            (&Some(Identity::new("admin").with("role", "web")), "Arith.divide", denied),
            (&None, "Text.count", None),
            (&None, "Text.words", Some(Code::Unauthenticated)),
        ] {
            assert_eq!(check(&allow, caller.as_ref(), method), refused, "{caller:?} {method}");
        }
        assert_eq!(check(&AuthorizeLayer::nobody(), admin.as_ref(), "Text.count"), denied);
    }
}
