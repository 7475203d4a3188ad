//! [`AuthorizeLayer`]: rules for which callers may call which methods.

use std::fmt;
use std::sync::Arc;
use std::task::{self, Poll};

use farcall_context::Identity;
use farcall_protocol::{BoxError, Code, Status};
use futures::future::{Either, MapErr, Ready, TryFutureExt, ready};
use tower_layer::Layer;
use tower_service::Service;

use crate::service::handler::{Request, Response};

/// A layer that lets through calls that a rule allows to their caller, and refuses all others.
/// Cloning is cheap.
///
/// A rule has patterns: the name of a method such as `Arith.multiply`; a prefix and a `*`, as in
/// `Arith.*`; or `*`, for all methods. Rules add up. Other calls are refused before the handler is
/// called, with `permission_denied`, or with `unauthenticated` if the caller has no identity. The
/// reserved methods are behind no layer: to leave them out, see
/// [`ServerBuilder::without_reserved_methods`](crate::ServerBuilder::without_reserved_methods).
///
/// ```
/// use farcall_server::{AuthorizeLayer, Server, Tokens};
///
/// let builder = Server::builder()
///     .authenticate(Tokens::fixed([("web", "q8mXe01rHsZ9"), ("ops", "bDF4vNyWTjL2")])?)
///     .layer(AuthorizeLayer::deny_by_default().identity("web", ["Arith.*"]).identity("ops", ["*"]));
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
    principal: Principal,
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
enum Principal {
    Everyone,
    Name(String),
    Attribute { attribute: String, value: String },
}

#[derive(Clone, Debug)]
enum Pattern {
    Exact(String),
    Prefix(String),
}

impl AuthorizeLayer {
    /// Creates a layer without rules, which refuses all calls.
    pub fn deny_by_default() -> Self {
        Self { rules: Arc::default() }
    }

    /// Allows these methods to callers whose [`Identity`] has this name.
    pub fn identity<P: AsRef<str>>(
        self,
        name: impl Into<String>,
        patterns: impl IntoIterator<Item = P>,
    ) -> Self {
        self.rule(Principal::Name(name.into()), patterns)
    }

    /// Allows these methods to callers whose [`Identity`] has this attribute, such as `role` with the value
    /// `admin`.
    pub fn attribute<P: AsRef<str>>(
        self,
        attribute: impl Into<String>,
        value: impl Into<String>,
        patterns: impl IntoIterator<Item = P>,
    ) -> Self {
        self.rule(Principal::Attribute { attribute: attribute.into(), value: value.into() }, patterns)
    }

    /// Allows these methods to all callers, also to those without an identity.
    pub fn everyone<P: AsRef<str>>(self, patterns: impl IntoIterator<Item = P>) -> Self {
        self.rule(Principal::Everyone, patterns)
    }

    fn rule<P: AsRef<str>>(mut self, principal: Principal, patterns: impl IntoIterator<Item = P>) -> Self {
        let patterns = patterns.into_iter().map(|pattern| Pattern::new(pattern.as_ref())).collect();
        Arc::make_mut(&mut self.rules).push(Rule { principal, patterns });
        self
    }

    /// Checks if a call is allowed.
    ///
    /// # Errors
    ///
    /// The status to answer.
    fn check(&self, caller: Option<&Identity>, method: &str) -> Result<(), Status> {
        let allowed = |rule: &Rule| {
            rule.principal.matches(caller) && rule.patterns.iter().any(|pattern| pattern.matches(method))
        };
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

impl Principal {
    fn matches(&self, caller: Option<&Identity>) -> bool {
        match (self, caller) {
            (Self::Everyone, _) => true,
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
            Some(prefix) => Self::Prefix(prefix.to_owned()),
            None => Self::Exact(text.to_owned()),
        }
    }

    fn matches(&self, method: &str) -> bool {
        match self {
            Self::Exact(name) => method == name,
            Self::Prefix(prefix) => method.starts_with(prefix),
        }
    }
}

impl<S> Layer<S> for AuthorizeLayer {
    type Service = Authorize<S>;

    fn layer(&self, inner: S) -> Authorize<S> {
        Authorize { rules: self.clone(), inner }
    }
}

/// The service of [`AuthorizeLayer`].
#[derive(Clone)]
pub struct Authorize<S> {
    rules: AuthorizeLayer,
    inner: S,
}

impl<S> Service<Request> for Authorize<S>
where
    S: Service<Request, Response = Response, Error: Into<BoxError>>,
{
    type Response = Response;
    type Error = BoxError;
    type Future = Either<Ready<Result<Response, BoxError>>, MapErr<S::Future, fn(S::Error) -> BoxError>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let context = request.context();
        match self.rules.check(context.identity(), context.method()) {
            Ok(()) => Either::Right(self.inner.call(request).map_err(Into::into)),
            Err(status) => Either::Left(ready(Err(status.into()))),
        }
    }
}

impl<S> fmt::Debug for Authorize<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorize").field("rules", &self.rules).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(layer: &AuthorizeLayer, caller: Option<&Identity>, method: &str) -> Option<Code> {
        layer.check(caller, method).err().map(|status| status.code)
    }

    #[test]
    fn rules_add_up_and_other_calls_are_refused() {
        let layer = AuthorizeLayer::deny_by_default()
            .identity("web", ["Arith.multiply"])
            .identity("web", ["Text.*"])
            .attribute("role", "admin", ["*"])
            .everyone(["Text.count"]);
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
            assert_eq!(check(&layer, caller.as_ref(), method), refused, "{caller:?} {method}");
        }
        assert_eq!(check(&AuthorizeLayer::deny_by_default(), admin.as_ref(), "Text.count"), denied);
    }
}
