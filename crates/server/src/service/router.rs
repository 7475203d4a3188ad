//! [`Router`]: finds methods by name; the reserved methods that describe the others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use farcall_protocol::describe::{
    HEALTH, Health, HealthRequest, HealthStatus, MethodInfo, MethodStats, ParamInfo, RESERVED_SERVICE,
    SCHEMA, SERVICES, STATS, ServiceInfo,
};
use farcall_protocol::text::shown_name;
use farcall_protocol::{ByteStr, Code, Status};
use rustc_hash::FxHashMap;

use crate::error::BuildError;
use crate::observe::metrics::MethodMetrics;
use crate::once::calls::OnceCalls;
use crate::once::handler::OnceHandler;
use crate::service::Service;
use crate::service::handler::{Handler, Request, Response, ResponseFuture};
use crate::service::layer::SharedLayer;
use crate::service::method::Method;
use crate::service::schema::Schema;

/// All methods of a server.
#[derive(Debug)]
pub(crate) struct Router {
    methods: Vec<Arc<Method>>,
    /// The indices of `methods` by full name, as on the wire. The names are chosen by the server and callers only look
    /// them up, so a hash without a secret is safe.
    indices: FxHashMap<Box<[u8]>, usize>,
    /// The descriptions of the services, in the order they were added in.
    services: Vec<ServiceInfo>,
    schema: Schema,
    draining: AtomicBool,
}

impl Router {
    /// Builds the table.
    ///
    /// # Errors
    ///
    /// A name was used twice, or cannot be carried by a header.
    pub(crate) fn new(
        services: Vec<Service>,
        layers: &[Arc<SharedLayer>],
        reserved: bool,
        once: &Arc<OnceCalls>,
    ) -> Result<Arc<Self>, BuildError> {
        let mut router = Self {
            methods: Vec::new(),
            indices: FxHashMap::default(),
            services: Vec::new(),
            schema: Schema::default(),
            draining: AtomicBool::new(false),
        };
        for service in services {
            if is_reserved(service.name()) {
                return Err(BuildError::ReservedName { name: service.name().to_owned() });
            }
            router.add(service, layers, once)?;
        }
        let shared = Arc::new(OnceLock::new());
        if reserved {
            router.add(reserved_methods(&shared), &[], once)?;
            // The reserved service does not describe itself.
            router.services.pop();
            router.schema.pop();
        }
        let router = Arc::new(router);
        shared.set(Arc::downgrade(&router)).expect("set only here");
        Ok(router)
    }

    fn add(
        &mut self,
        service: Service,
        layers: &[Arc<SharedLayer>],
        once: &Arc<OnceCalls>,
    ) -> Result<(), BuildError> {
        let Service { info, handlers, types, given, layers: own, unknown_once } = service;
        if let Some(method) = unknown_once {
            return Err(BuildError::UnknownOnce { name: format!("{}.{method}", info.name) });
        }
        check_name(&info.name)?;
        for (method, mut handler) in info.methods.iter().zip(handlers) {
            check_name(&method.name)?;
            if method.once {
                if method.streaming {
                    return Err(BuildError::OnceStream { name: format!("{}.{}", info.name, method.name) });
                }
                // Within the layers: a try that they refuse gets no answer that is kept.
                handler = Arc::new(OnceHandler::new(handler, Arc::clone(once)));
            }
            for layer in own.iter().chain(layers) {
                handler = layer.around(handler);
            }
            let name = format!("{}.{}", info.name, method.name);
            let previous = self.indices.insert(Box::from(name.as_bytes()), self.methods.len());
            if previous.is_some() {
                return Err(BuildError::DuplicateName { name });
            }
            let (index, reserved) = (self.methods.len(), is_reserved(&info.name));
            self.methods.push(Arc::new(Method::new(
                name,
                handler,
                &method.streams,
                method.once,
                index,
                reserved,
            )));
        }
        let known = self.services.iter_mut().enumerate().find(|(_, known)| known.name == info.name);
        self.schema.add(known.as_ref().map(|(index, _)| *index), types, given);
        // Methods that were added one by one under one service make one service.
        match known {
            Some((_, known)) => {
                known.methods.extend(info.methods);
                if known.doc.is_empty() {
                    known.doc = info.doc;
                }
            }
            None => self.services.push(info),
        }
        Ok(())
    }

    /// Returns the number of methods, reserved ones included.
    pub(crate) const fn method_count(&self) -> usize {
        self.methods.len()
    }

    /// Finds a method by name.
    ///
    /// # Errors
    ///
    /// The status to answer: `unimplemented`, `refused`; it says if the service is known.
    pub(crate) fn find(&self, name: &ByteStr) -> Result<&Arc<Method>, Status> {
        self.find_again(name, &mut 0)
    }

    /// Finds a method that is probably the one that was found `last`; the index of the found one replaces that.
    ///
    /// # Errors
    ///
    /// As for [`Router::find`].
    #[inline]
    pub(crate) fn find_again(&self, name: &ByteStr, last: &mut usize) -> Result<&Arc<Method>, Status> {
        match self.methods.get(*last) {
            Some(method) if method.is_named(name) => Ok(method),
            _ => {
                *last = self.index_of(name)?;
                Ok(&self.methods[*last])
            }
        }
    }

    /// Finds a method like [`Router::find_again`], by a name as it was received.
    #[inline]
    pub(crate) fn find_received(&self, name: &[u8], last: &mut usize) -> Option<&Arc<Method>> {
        match self.methods.get(*last) {
            Some(method) if method.name.as_bytes() == name => Some(method),
            _ => {
                *last = self.received_index(name)?;
                self.methods.get(*last)
            }
        }
    }

    #[inline(never)]
    fn received_index(&self, name: &[u8]) -> Option<usize> {
        self.indices.get(name).copied()
    }

    #[inline(never)]
    fn index_of(&self, name: &ByteStr) -> Result<usize, Status> {
        self.indices.get(name.as_bytes()).copied().ok_or_else(|| {
            let message = match name.rsplit_once('.') {
                Some((service, method)) if self.has_service(service) => {
                    format!("no method `{}` in service `{}`", shown_name(method), shown_name(service))
                }
                Some((service, _)) => format!("no service `{}`", shown_name(service)),
                None => format!("no method `{}`: a name is `Service.method`", shown_name(name)),
            };
            Status::refused(Code::Unimplemented, message)
        })
    }

    /// Returns `true` if there is a method of this service, reserved ones included.
    fn has_service(&self, service: &str) -> bool {
        // `shop` is not a service because `shop.Arith` is one.
        let of_service = |name: &[u8]| {
            let rest = name.strip_prefix(service.as_bytes()).and_then(|rest| rest.strip_prefix(b"."));
            rest.is_some_and(|method| !method.contains(&b'.'))
        };
        self.indices.keys().any(|name| of_service(name))
    }

    pub(crate) fn services(&self) -> &[ServiceInfo] {
        &self.services
    }

    /// Returns `true` if a method carries its calls out once.
    pub(crate) fn has_once(&self) -> bool {
        self.methods.iter().any(|method| method.once)
    }

    pub(crate) const fn schema(&self) -> &Schema {
        &self.schema
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn health(&self) -> HealthStatus {
        if self.draining.load(Ordering::Relaxed) { HealthStatus::Draining } else { HealthStatus::Serving }
    }

    /// Returns statistics of all methods except for the reserved ones, sorted by name.
    pub(crate) fn stats(&self) -> Vec<MethodStats> {
        let mut stats: Vec<_> = self
            .methods
            .iter()
            .map(|method| method.stats.snapshot(&method.name))
            .filter(|stats| !is_reserved(&stats.name))
            .collect();
        stats.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        stats
    }

    /// Returns the same as [`Router::stats`], as counts that can be added up.
    pub(crate) fn metrics(&self) -> Vec<MethodMetrics> {
        let methods = self.methods.iter().filter(|method| !is_reserved(&method.name));
        let mut metrics: Vec<_> = methods.map(|method| method.stats.metrics(&method.name)).collect();
        metrics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        metrics
    }

    fn service_health(&self, request: HealthRequest) -> Result<Health, Status> {
        let unknown = |name: &String| !self.services.iter().any(|known| known.name == *name);
        if let Some(name) = request.service.filter(unknown) {
            let message = format!("no service `{}`", shown_name(&name));
            return Err(Status::refused(Code::Unimplemented, message));
        }
        Ok(Health::new(self.health()))
    }
}

/// Returns `true` if a name is `farcall`, or starts with it and a dot.
fn is_reserved(name: &str) -> bool {
    name.split('.').next() == Some(RESERVED_SERVICE)
}

fn check_name(name: &str) -> Result<(), BuildError> {
    let fits =
        !name.is_empty() && name.len() <= 256 && !name.chars().any(|c| c.is_control() || c.is_whitespace());
    if fits { Ok(()) } else { Err(BuildError::BadName { name: name.to_owned() }) }
}

/// A reserved method: answers with a function of the router and the request.
struct Reserved<F> {
    router: Arc<OnceLock<Weak<Router>>>,
    answer: F,
}

impl<F: Fn(&Router, &Request) -> Response + Send + Sync + 'static> Handler for Reserved<F> {
    fn call(&self, request: Request) -> ResponseFuture {
        let router = self.router.get().and_then(Weak::upgrade);
        let router = router.expect("the router that found this method is alive");
        ResponseFuture::ready((self.answer)(&router, &request))
    }
}

/// The method that answers the schema, which takes some time when it is asked for first.
struct SchemaHandler(Arc<OnceLock<Weak<Router>>>);

impl Handler for SchemaHandler {
    fn call(&self, request: Request) -> ResponseFuture {
        let router =
            self.0.get().and_then(Weak::upgrade).expect("the router that found this method is alive");
        ResponseFuture::new(async move {
            match router.schema.get(&router.services).await {
                Ok(schema) => Response::ok(&request.codec, schema.json()),
                Err(status) => Response::error(status),
            }
        })
    }
}

fn reserved_methods(router: &Arc<OnceLock<Weak<Router>>>) -> Service {
    let reserved = |answer| Reserved { router: Arc::clone(router), answer };
    let info = |name: &str, returns: &str| {
        MethodInfo::new(name.strip_prefix("farcall.").expect("all reserved names have it").to_owned())
            .returns(returns)
            .idempotent(true)
    };
    let health = info(HEALTH, "Health").params(vec![ParamInfo::new("service", "Option<String>")]);
    type Answer = fn(&Router, &Request) -> Response;
    let services: Answer = |router, request| Response::ok(&request.codec, &router.services);
    let status: Answer =
        |router, request| match request.arguments().and_then(|health| router.service_health(health)) {
            Ok(health) => Response::ok(&request.codec, &health),
            Err(status) => Response::error(status),
        };
    let stats: Answer = |router, request| Response::ok(&request.codec, &router.stats());
    Service::new(RESERVED_SERVICE)
        .handler(info(SERVICES, "Vec<ServiceInfo>"), reserved(services))
        .handler(health, reserved(status))
        .handler(info(STATS, "Vec<MethodStats>"), reserved(stats))
        .handler(info(SCHEMA, "Document"), SchemaHandler(Arc::clone(router)))
}
