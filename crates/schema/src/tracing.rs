//! [`Tracing`]: traces the types of all methods, without trusting their code.

use std::any::type_name;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use farcall_protocol::describe::{MethodInfo, ServiceInfo};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::document::{Document, MethodSchema, ServiceSchema};
use crate::methods::MethodTypes;
use crate::rust_text::{parse, result_types};
use crate::trace::finish::Definitions;
use crate::trace::names::unwrapped;
use crate::trace::session::{Given, Session};
use crate::trace::{Sources, TypeSource};
use crate::types::{Field, Struct, Type};

/// The stack of the thread that reads samples, in bytes. It is reserved, and takes memory only where it is used.
const STACK: usize = 64 * 1024 * 1024;
/// The time that is waited for all types. A session ends by itself before that: only a type whose code hangs takes so
/// long.
const MAX_WAIT: Duration = Duration::from_secs(3);
/// The number of types whose code hangs after which no more are traced. Each leaves a thread behind.
const MAX_HANGING: usize = 3;
/// The name of the parameter of a method that takes one value.
const WHOLE: &str = "arguments";

/// The services of a server, to be traced.
///
/// ```
/// use farcall_protocol::describe::{MethodInfo, ServiceInfo};
/// use farcall_schema::{MethodTypes, Tracing, Type, TypeSource};
///
/// let service = ServiceInfo::new("Arith").methods(vec![MethodInfo::new("primes")]);
/// let types = MethodTypes::new().result(TypeSource::of::<Vec<i64>>());
/// let document = Tracing::new().service(&service, &[types]).run();
/// assert_eq!(document.method("Arith.primes").unwrap().result, Type::i64().list());
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct Tracing {
    services: Vec<ServiceSchema>,
    methods: Vec<MethodAt>,
    given: GivenTypes,
}

/// The types of a method, and its place in the document.
#[derive(Clone, Copy, Debug)]
struct MethodAt {
    service: usize,
    method: usize,
    types: MethodTypes,
}

impl Tracing {
    /// Creates a tracing of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a service, with the types of its methods in the same order.
    pub fn service(mut self, info: &ServiceInfo, types: &[MethodTypes]) -> Self {
        let service = self.services.len();
        let methods =
            types.iter().enumerate().map(|(method, types)| MethodAt { service, method, types: *types });
        self.methods.extend(methods);
        let methods = info.methods.iter().map(by_names).collect();
        self.services.push(ServiceSchema { name: info.name.clone(), doc: info.doc.clone(), methods });
        self
    }

    /// Sets the types that users describe.
    pub fn given(mut self, given: GivenTypes) -> Self {
        self.given = given;
        self
    }

    /// Traces all types. That takes some milliseconds, and at most 9 s, so it is not for a thread that runs connections.
    ///
    /// A type whose code panics or does not end is opaque, and in the second case a thread is left behind.
    #[must_use]
    pub fn run(self) -> Document {
        let document = Document { services: self.services, definitions: BTreeMap::new() };
        let progress =
            Arc::new(Mutex::new(Progress { document, definitions: Definitions::default(), next: 0 }));
        let methods: Arc<[MethodAt]> = self.methods.into();
        for _ in 0..MAX_HANGING {
            let (done, wait) = mpsc::channel::<()>();
            let (progress_there, methods_there) = (Arc::clone(&progress), Arc::clone(&methods));
            let given = self.given.clone();
            let thread = thread::Builder::new().name("farcall-schema".to_owned()).stack_size(STACK);
            let started = thread.spawn(move || {
                let _done = done;
                trace_methods(&progress_there, &methods_there, &given);
            });
            if started.is_err() {
                break;
            }
            // Its sender is dropped at the end, or by a panic. If it hangs, its method is left out.
            let _ = wait.recv_timeout(MAX_WAIT);
            let mut progress = lock(&progress);
            if progress.next >= methods.len() {
                break;
            }
            progress.next += 1;
        }
        let mut progress = lock(&progress);
        // A thread that was left behind finds nothing to do.
        progress.next = usize::MAX;
        let mut document = std::mem::take(&mut progress.document);
        document.definitions = std::mem::take(&mut progress.definitions).types;
        document
    }
}

/// The part of the document that is traced.
struct Progress {
    document: Document,
    definitions: Definitions,
    /// The index of the method that is traced next.
    next: usize,
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

fn trace_methods(progress: &Mutex<Progress>, methods: &[MethodAt], given: &GivenTypes) {
    let mut session = Session::new(given.types.clone());
    loop {
        let index = lock(progress).next;
        let Some(MethodAt { service, method, types }) = methods.get(index) else { return };
        // Not under the lock: a user's code runs here.
        let traced = types.trace(&mut session, &given.sources);
        let mut progress = lock(progress);
        if progress.next != index {
            return;
        }
        progress.next += 1;
        let Progress { document, definitions, .. } = &mut *progress;
        let services = &mut document.services;
        if let Some(method) = services.get_mut(*service).and_then(|service| service.methods.get_mut(*method))
        {
            traced.describe(&session, definitions, method);
        }
    }
}

/// Describes a method by the names of its types alone.
fn by_names(info: &MethodInfo) -> MethodSchema {
    let known =
        |text: &str| parse(text).unwrap_or_else(|| Type::opaque(text.trim(), "only its name is known"));
    let takes_whole = matches!(&info.params[..], [only] if only.name == WHOLE);
    let arguments = match &info.params[..] {
        [only] if takes_whole => known(&only.type_name),
        params => Type::Struct(Struct::new(params.iter().map(|param| {
            let ty = known(&param.type_name);
            // An `Option` of what is not known is one by its name.
            let is_optional = matches!(ty, Type::Option(_)) || param.type_name.trim().starts_with("Option<");
            let field = Field::new(&param.name, ty);
            if is_optional { field.optional() } else { field }
        }))),
    };
    let (result, error) = match result_types(&info.returns) {
        Some((value, error)) => (value, error),
        None => (info.returns.as_str(), None),
    };
    MethodSchema {
        name: info.name.clone(),
        doc: info.doc.clone(),
        arguments,
        takes_whole,
        result: if result.trim().is_empty() {
            Type::opaque("", "it is not described")
        } else {
            known(result)
        },
        error: error.map(known),
        items_in: info.streams.in_type.as_deref().map(known),
        items_out: info.streams.out_type.as_deref().map(known),
        idempotent: info.idempotent,
        idempotent_at_same_server: info.idempotent_at_same_server,
        once: info.once,
    }
}

/// Types that users describe, because serde tells nothing about them.
///
/// ```
/// use farcall_schema::{GivenTypes, Type};
///
/// /// Reads a number or its text.
/// struct Cents(u64);
///
/// let mut given = GivenTypes::new();
/// given.set::<Cents>(Type::int(false, 64), serde_json::json!(5));
/// ```
#[derive(Clone, Debug, Default)]
pub struct GivenTypes {
    types: BTreeMap<String, Given>,
    /// The types that are traced where only their names are known.
    sources: Sources,
}

impl GivenTypes {
    /// Creates a list without types.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the types of another list. They win over those of the same name.
    pub fn extend(&mut self, other: Self) {
        self.types.extend(other.types);
        self.sources.extend(other.sources);
    }

    /// Returns the descriptions by the names of their types.
    #[cfg(test)]
    pub(crate) fn types(self) -> BTreeMap<String, Given> {
        self.types
    }

    /// Describes `T`, wherever it is a field, an element, an argument or a result. `example` is a value that it reads, in
    /// JSON, with which the types around it are traced. References in `ty` are not resolved.
    pub fn set<T: ?Sized>(&mut self, ty: Type, example: Value) {
        self.types.insert(unwrapped(type_name::<T>()).to_owned(), Given { ty, example });
    }

    /// Traces `T` where only its name is known: in the results and errors of closures, and in the items that they send.
    ///
    /// ```
    /// use farcall_schema::GivenTypes;
    ///
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Progress {
    ///     percent: u8,
    /// }
    ///
    /// let mut given = GivenTypes::new();
    /// given.trace::<Progress>();
    /// ```
    pub fn trace<T: DeserializeOwned>(&mut self) {
        self.sources.insert(unwrapped(type_name::<T>()).to_owned(), TypeSource::of::<T>());
    }
}
