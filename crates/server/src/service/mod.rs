//! [`Service`]: named methods with their descriptions. The macro builds them from traits; closures
//! become methods here.

use std::any::{Any, type_name};
use std::fmt;
use std::sync::Arc;

use farcall_protocol::IntoMethodError;
use farcall_protocol::as_bytes::ByteRef;
use farcall_protocol::describe::{MethodInfo, ServiceInfo};
use farcall_protocol::{BoxError, Codec, NoApplicationError};
use farcall_schema::{GivenTypes, MethodTypes, Type, TypeSource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower_layer::Layer;
use tower_service::Service as TowerService;

use self::from_fn::from_closure;
pub use self::from_fn::{AsyncMethod, from_borrowing_fn, from_fn};
use self::handler::{Handler, Request, Response};
use self::layer::{HandlerService, SharedLayer};
use self::stream_method::{AsyncExchangeMethod, AsyncStreamMethod, StreamHalves, from_stream_closure};
use crate::stream::receiver::Receiver;
use crate::stream::sender::Sender;

mod from_fn;
pub(crate) mod handler;
pub(crate) mod interceptor;
pub(crate) mod judgement;
pub(crate) mod layer;
pub(crate) mod method;
pub(crate) mod router;
pub(crate) mod schema;
pub(crate) mod stream_method;

/// A service: a name, its description, and a handler for each method.
///
/// `#[farcall::service]` generates `into_service()`, which makes one of a trait's implementation. By
/// hand:
///
/// ```
/// use farcall_server::{Server, Service};
///
/// #[derive(serde::Deserialize)]
/// struct Words {
///     text: String,
/// }
///
/// let text = Service::new("Text")
///     .method("words", |words: Words| async move { words.text.split_whitespace().count() });
/// let builder = Server::builder().service(text);
/// # let _ = builder;
/// ```
#[must_use = "a service does nothing until a server serves it"]
pub struct Service {
    pub(crate) info: ServiceInfo,
    pub(crate) handlers: Vec<Arc<dyn Handler>>,
    /// The types of the methods, for `farcall.schema`.
    pub(crate) types: Vec<MethodTypes>,
    /// The types that the user has described.
    pub(crate) given: GivenTypes,
    /// Innermost first.
    pub(crate) layers: Vec<Arc<SharedLayer>>,
    /// The first name that was declared `once`, and that no method has.
    pub(crate) unknown_once: Option<String>,
}

impl Service {
    /// Creates a service without methods.
    pub fn new(name: impl Into<String>) -> Self {
        let info = ServiceInfo::new(name);
        let given = GivenTypes::new();
        let (handlers, types, layers) = (Vec::new(), Vec::new(), Vec::new());
        Self { info, handlers, types, given, layers, unknown_once: None }
    }

    /// Sets the documentation that `farcall.services` answers.
    pub fn doc(mut self, doc: impl Into<String>) -> Self {
        self.info.doc = doc.into();
        self
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Returns the description.
    #[must_use]
    pub const fn info(&self) -> &ServiceInfo {
        &self.info
    }

    /// Adds a method with its description. In the schema it has the types that the description names, as far as they are
    /// the standard library's.
    pub fn handler(self, info: MethodInfo, handler: impl Handler) -> Self {
        self.typed_handler(info, MethodTypes::new(), handler)
    }

    /// Adds a method with its description and its types, which `farcall.schema` traces when it is asked.
    pub fn typed_handler(mut self, info: MethodInfo, types: MethodTypes, handler: impl Handler) -> Self {
        self.info.methods.push(info);
        self.types.push(types);
        self.handlers.push(Arc::new(handler));
        self
    }

    /// Declares that the calls of a method with the same `farcall-idempotency-key` are carried out once, as
    /// `#[rpc(once)]` does. The method was added before, and does not stream; otherwise the server is not built.
    ///
    /// A second try of a call joins the first one, or gets its answer. The first one goes on when its caller has gone, until
    /// its deadline. See [`OnceOptions`](crate::OnceOptions) for how long answers are kept.
    ///
    /// ```
    /// use farcall_server::{Server, Service};
    ///
    /// let bank = Service::new("Bank").method("pay", async |cents: u64| cents).once("pay");
    /// let builder = Server::builder().service(bank);
    /// # let _ = builder;
    /// ```
    pub fn once(mut self, method: &str) -> Self {
        if !self.declare_once(method) {
            self.unknown_once.get_or_insert(method.to_owned());
        }
        self
    }

    /// Does the same; returns `false` if there is no such method.
    pub(crate) fn declare_once(&mut self, method: &str) -> bool {
        let found = self.info.methods.iter_mut().find(|info| info.name == method);
        found.map(|info| info.once = true).is_some()
    }

    /// Describes `T` for `farcall.schema`, wherever this server's methods have it, because serde tells nothing about
    /// it: its form is written by hand, or `untagged`. `example` is a value that it reads, in JSON.
    ///
    /// ```
    /// use farcall_schema::Type;
    /// use farcall_server::Service;
    ///
    /// #[derive(serde::Deserialize)]
    /// #[serde(untagged)]
    /// enum Price {
    ///     Cents(u64),
    /// }
    ///
    /// let shop = Service::new("Shop")
    ///     .method("set_price", |_: Price| async {})
    ///     .describe_type::<Price>(Type::int(false, 64), serde_json::json!(5));
    /// # let _ = shop;
    /// ```
    pub fn describe_type<T>(mut self, ty: Type, example: serde_json::Value) -> Self {
        self.given.set::<T>(ty, example);
        self
    }

    /// Traces `T` for `farcall.schema` where a closure of this server returns it, fails with it, or sends it as an item.
    /// Arguments and items that are received are traced without that, because closures deserialize them.
    ///
    /// ```
    /// use farcall_server::{Sender, Service};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Progress {
    ///     percent: u8,
    /// }
    ///
    /// let job = Service::new("Job")
    ///     .stream_out("run", async |(): (), mut out: Sender<Progress>| {
    ///         let _ = out.send(Progress { percent: 100 }).await;
    ///     })
    ///     .trace_type::<Progress>();
    /// # let _ = job;
    /// ```
    pub fn trace_type<T: DeserializeOwned>(mut self) -> Self {
        self.given.trace::<T>();
        self
    }

    /// Adds a closure as a method. It takes the value that callers send, or a
    /// [`Context`](farcall_context::Context) and that value, and returns the result. The value usually has
    /// a field for each argument, and may have any type: `()`, `Option<Query>`, `(i64, i64)`.
    pub fn method<F, Args, Marker>(self, name: impl Into<String>, method: F) -> Self
    where
        F: AsyncMethod<Args, Marker>,
        F::Output: Serialize,
        Args: DeserializeOwned + 'static,
        Marker: 'static,
    {
        let info = describe::<Args, F::Output>(name.into());
        let types =
            MethodTypes::new().whole(TypeSource::of::<Args>()).result(TypeSource::named::<F::Output>());
        self.typed_handler(info, types, from_closure(method, ok))
    }

    /// Adds a closure that can fail as a method; its error reaches the caller encoded, under the
    /// code `application`.
    pub fn try_method<F, Args, Marker, T, E>(self, name: impl Into<String>, method: F) -> Self
    where
        F: AsyncMethod<Args, Marker, Output = Result<T, E>>,
        Args: DeserializeOwned + 'static,
        T: Serialize + Send + 'static,
        E: IntoMethodError + Send + 'static,
        Marker: 'static,
    {
        let info = describe::<Args, F::Output>(name.into());
        let types = MethodTypes::new().whole(TypeSource::of::<Args>()).result(TypeSource::named::<T>());
        let types = with_error::<E>(types);
        self.typed_handler(info, types, from_closure(method, ok_or_error))
    }

    /// Adds a closure as a method that sends items to its caller. It takes the value that callers send and a [`Sender`], or a
    /// [`Context`](farcall_context::Context) before them, and returns the result, which follows the items.
    pub fn stream_out<F, Args, T, Marker>(self, name: impl Into<String>, method: F) -> Self
    where
        F: AsyncStreamMethod<Args, Sender<T>, Marker>,
        F::Output: Serialize,
        Args: DeserializeOwned + 'static,
        T: Serialize + 'static,
        Marker: 'static,
    {
        let info = describe_stream::<Args, F::Output, Sender<T>>(name.into());
        let types = stream_types::<Args, F::Output, Sender<T>>();
        self.typed_handler(
            info,
            types,
            from_stream_closure(move |cx, args, out| method.call(cx, args, out), ok),
        )
    }

    /// Adds a closure like [`Service::stream_out`] that can fail, as [`Service::try_method`] does.
    pub fn try_stream_out<F, Args, Item, Marker, T, E>(self, name: impl Into<String>, method: F) -> Self
    where
        F: AsyncStreamMethod<Args, Sender<Item>, Marker, Output = Result<T, E>>,
        Args: DeserializeOwned + 'static,
        Item: Serialize + 'static,
        T: Serialize + Send + 'static,
        E: IntoMethodError + Send + 'static,
        Marker: 'static,
    {
        let info = describe_stream::<Args, F::Output, Sender<Item>>(name.into());
        let types = with_error::<E>(stream_types::<Args, T, Sender<Item>>());
        self.typed_handler(
            info,
            types,
            from_stream_closure(move |cx, args, out| method.call(cx, args, out), ok_or_error),
        )
    }

    /// Adds a closure as a method that receives items from its caller. It takes the value that callers send and a
    /// [`Receiver`], or a [`Context`](farcall_context::Context) before them, and returns the result.
    pub fn stream_in<F, Args, T, Marker>(self, name: impl Into<String>, method: F) -> Self
    where
        F: AsyncStreamMethod<Args, Receiver<T>, Marker>,
        F::Output: Serialize,
        Args: DeserializeOwned + 'static,
        T: DeserializeOwned + 'static,
        Marker: 'static,
    {
        let info = describe_stream::<Args, F::Output, Receiver<T>>(name.into());
        let types = stream_types::<Args, F::Output, Receiver<T>>();
        self.typed_handler(
            info,
            types,
            from_stream_closure(move |cx, args, items| method.call(cx, args, items), ok),
        )
    }

    /// Adds a closure like [`Service::stream_in`] that can fail, as [`Service::try_method`] does.
    pub fn try_stream_in<F, Args, Item, Marker, T, E>(self, name: impl Into<String>, method: F) -> Self
    where
        F: AsyncStreamMethod<Args, Receiver<Item>, Marker, Output = Result<T, E>>,
        Args: DeserializeOwned + 'static,
        Item: DeserializeOwned + 'static,
        T: Serialize + Send + 'static,
        E: IntoMethodError + Send + 'static,
        Marker: 'static,
    {
        let info = describe_stream::<Args, F::Output, Receiver<Item>>(name.into());
        let types = with_error::<E>(stream_types::<Args, T, Receiver<Item>>());
        self.typed_handler(
            info,
            types,
            from_stream_closure(move |cx, args, items| method.call(cx, args, items), ok_or_error),
        )
    }

    /// Adds a closure as a method that receives items and sends some. It takes the value that callers send, a [`Receiver`]
    /// and a [`Sender`], or a [`Context`](farcall_context::Context) before them, and returns the result, which
    /// follows the items.
    pub fn stream_both<F, Args, In, Out, Marker>(self, name: impl Into<String>, method: F) -> Self
    where
        F: AsyncExchangeMethod<Args, In, Out, Marker>,
        F::Output: Serialize,
        Args: DeserializeOwned + 'static,
        In: DeserializeOwned + 'static,
        Out: Serialize + 'static,
        Marker: 'static,
    {
        let info = describe_stream::<Args, F::Output, (Receiver<In>, Sender<Out>)>(name.into());
        let types = stream_types::<Args, F::Output, (Receiver<In>, Sender<Out>)>();
        let start = move |cx, args, (items, out)| method.call(cx, args, items, out);
        self.typed_handler(info, types, from_stream_closure(start, ok))
    }

    /// Adds a closure like [`Service::stream_both`] that can fail, as [`Service::try_method`] does.
    pub fn try_stream_both<F, Args, In, Out, Marker, T, E>(self, name: impl Into<String>, method: F) -> Self
    where
        F: AsyncExchangeMethod<Args, In, Out, Marker, Output = Result<T, E>>,
        Args: DeserializeOwned + 'static,
        In: DeserializeOwned + 'static,
        Out: Serialize + 'static,
        T: Serialize + Send + 'static,
        E: IntoMethodError + Send + 'static,
        Marker: 'static,
    {
        let info = describe_stream::<Args, F::Output, (Receiver<In>, Sender<Out>)>(name.into());
        let types = with_error::<E>(stream_types::<Args, T, (Receiver<In>, Sender<Out>)>());
        let start = move |cx, args, (items, out)| method.call(cx, args, items, out);
        self.typed_handler(info, types, from_stream_closure(start, ok_or_error))
    }

    /// Puts a tower layer around all calls of this service, also of methods that are added after
    /// it; a layer that is added later is further out. See
    /// [`ServerBuilder::layer`](crate::ServerBuilder::layer).
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<HandlerService>,
        L::Service: TowerService<Request, Response = Response, Error: Into<BoxError>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        self.layers.push(SharedLayer::new(layer.layer(HandlerService::new())));
        self
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("info", &self.info).finish_non_exhaustive()
    }
}

/// Describes a closure: its name, and its types.
fn describe<Args, Output>(name: String) -> MethodInfo {
    MethodInfo::new(name)
        .params(vec![farcall_protocol::describe::ParamInfo::new("arguments", type_name::<Args>().to_owned())])
        .returns(type_name::<Output>().to_owned())
}

/// Adds the type of the error of a closure that can fail.
fn with_error<E: IntoMethodError>(types: MethodTypes) -> MethodTypes {
    let error = TypeSource::named::<E::Application>();
    if error.name() == type_name::<NoApplicationError>() { types } else { types.error(error) }
}

/// Returns the types of a closure that streams.
fn stream_types<Args, T, Halves>() -> MethodTypes
where
    Args: DeserializeOwned,
    Halves: StreamHalves,
{
    Halves::types(MethodTypes::new().whole(TypeSource::of::<Args>()).result(TypeSource::named::<T>()))
}

/// Describes a closure that streams.
fn describe_stream<Args, Output, Halves: StreamHalves>(name: String) -> MethodInfo {
    Halves::describe(describe::<Args, Output>(name))
}

/// Creates the response of a closure's result. Byte vectors are byte strings, as in services of the macro.
fn ok<T: Serialize + 'static>(codec: &Codec, value: T) -> Response {
    let any = &value as &dyn Any;
    if let Some(bytes) = any.downcast_ref::<Vec<u8>>() {
        Response::ok(codec, &ByteRef(bytes))
    } else if let Some(bytes) = any.downcast_ref::<Option<Vec<u8>>>() {
        Response::ok(codec, &ByteRef(bytes))
    } else if let Some(list) = any.downcast_ref::<Vec<Vec<u8>>>() {
        Response::ok(codec, &ByteRef(list))
    } else {
        Response::ok(codec, &value)
    }
}

/// Creates the response of a closure that can fail.
fn ok_or_error<T: Serialize + 'static, E: IntoMethodError>(codec: &Codec, result: Result<T, E>) -> Response {
    match result {
        Ok(value) => ok(codec, value),
        Err(error) => Response::from_result::<(), E>(codec, Err(error)),
    }
}
