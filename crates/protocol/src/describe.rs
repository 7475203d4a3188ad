//! The results of the reserved methods: services and their methods, health, statistics.

use serde::{Deserialize, Serialize};

/// The method `farcall.services`, which returns a list of [`ServiceInfo`].
pub const SERVICES: &str = "farcall.services";
/// The method `farcall.health`, which returns the [`Health`] of a server or of one of its services.
pub const HEALTH: &str = "farcall.health";
/// The method `farcall.stats`, which returns a list of [`MethodStats`].
pub const STATS: &str = "farcall.stats";
/// The method `farcall.schema`, which returns a document with the types of all methods.
pub const SCHEMA: &str = "farcall.schema";
/// The service of the reserved methods.
pub const RESERVED_SERVICE: &str = "farcall";

/// A service, as `farcall.services` describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceInfo {
    /// The name, such as `Arith`.
    pub name: String,
    /// The documentation; empty where there is none.
    #[serde(default)]
    pub doc: String,
    /// The methods, in the order of their declaration.
    #[serde(default)]
    pub methods: Vec<MethodInfo>,
}

impl ServiceInfo {
    /// Creates a description without methods.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Sets the documentation.
    #[must_use]
    pub fn doc(mut self, doc: impl Into<String>) -> Self {
        self.doc = doc.into();
        self
    }

    /// Sets the methods.
    #[must_use]
    pub fn methods(mut self, methods: Vec<MethodInfo>) -> Self {
        self.methods = methods;
        self
    }
}

/// A method, as `farcall.services` describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MethodInfo {
    /// The name without that of its service, such as `multiply`.
    pub name: String,
    /// The documentation; empty where there is none.
    #[serde(default)]
    pub doc: String,
    /// The parameters in order.
    #[serde(default)]
    pub params: Vec<ParamInfo>,
    /// The type of the result, as written in the source.
    #[serde(default)]
    pub returns: String,
    /// `true` if calling the method twice has the effect of calling it once, also at two servers.
    #[serde(default)]
    pub idempotent: bool,
    /// `true` if calling the method twice has the effect of calling it once only at the same server; `idempotent` is
    /// `false` then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idempotent_at_same_server: bool,
    /// `true` if the server carries out the calls with the same
    /// [`farcall-idempotency-key`](crate::metadata::IDEMPOTENCY_KEY) once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    /// `true` if callers send items to the method, or get items from it.
    #[serde(default)]
    pub streaming: bool,
    /// The directions in which items are sent, and their types.
    #[serde(default)]
    pub streams: StreamInfo,
}

/// The items of a method: the directions in which they are sent, and their types.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StreamInfo {
    /// `true` if callers send items.
    #[serde(default, rename = "in")]
    pub takes: bool,
    /// `true` if callers get items.
    #[serde(default, rename = "out")]
    pub sends: bool,
    /// The type of the items that callers send, as written in the source; `None` if they send none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_type: Option<String>,
    /// The type of the items that callers get, as written in the source; `None` if they get none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_type: Option<String>,
}

impl MethodInfo {
    /// Creates a description of a method with this name, without parameters.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Sets the documentation.
    #[must_use]
    pub fn doc(mut self, doc: impl Into<String>) -> Self {
        self.doc = doc.into();
        self
    }

    /// Sets the parameters.
    #[must_use]
    pub fn params(mut self, params: Vec<ParamInfo>) -> Self {
        self.params = params;
        self
    }

    /// Sets the type of the result.
    #[must_use]
    pub fn returns(mut self, returns: impl Into<String>) -> Self {
        self.returns = returns.into();
        self
    }

    /// Declares that calling the method twice has the effect of calling it once only at the same server.
    #[must_use]
    pub const fn idempotent_at_same_server(mut self, idempotent: bool) -> Self {
        self.idempotent_at_same_server = idempotent;
        self
    }

    /// Declares that calling the method twice has the effect of calling it once, also at two servers.
    #[must_use]
    pub const fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    /// Declares that the server carries out the calls with the same key once.
    #[must_use]
    pub const fn once(mut self, once: bool) -> Self {
        self.once = once;
        self
    }

    /// Declares that callers send items of this type.
    #[must_use]
    pub fn takes_items(mut self, type_name: impl Into<String>) -> Self {
        self.streams.takes = true;
        self.streams.in_type = Some(type_name.into());
        self.streaming = true;
        self
    }

    /// Declares that callers get items of this type.
    #[must_use]
    pub fn sends_items(mut self, type_name: impl Into<String>) -> Self {
        self.streams.sends = true;
        self.streams.out_type = Some(type_name.into());
        self.streaming = true;
        self
    }
}

/// A parameter of a method.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParamInfo {
    /// The name, which is its key in the map of arguments.
    pub name: String,
    /// The type, as written in the source.
    #[serde(rename = "type")]
    pub type_name: String,
}

impl ParamInfo {
    /// Creates a description of a parameter.
    #[must_use]
    pub fn new(name: impl Into<String>, type_name: impl Into<String>) -> Self {
        Self { name: name.into(), type_name: type_name.into() }
    }
}

/// The argument of `farcall.health`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HealthRequest {
    /// The service to check; `None` for the whole server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// The result of `farcall.health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Health {
    /// The state of the server or service.
    pub status: HealthStatus,
}

impl Health {
    /// Creates a result from the state of a server or service.
    #[must_use]
    pub const fn new(status: HealthStatus) -> Self {
        Self { status }
    }
}

/// The state of a server or service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HealthStatus {
    /// New calls are accepted.
    Serving,
    /// New calls are refused; those in flight are finished.
    Draining,
}

/// The statistics of one method since the start of the server, as returned by `farcall.stats`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MethodStats {
    /// The full name, such as `Arith.multiply`.
    pub name: String,
    /// The number of calls that have ended.
    pub calls: u64,
    /// The number of calls that ended with an error; they are also counted in `calls`.
    pub errors: u64,
    /// The number of calls in flight.
    pub in_flight: u64,
    /// The median latency in microseconds, from the arrival of the request to its response.
    pub p50_us: u64,
    /// The latency that 90% of the calls stay within, in microseconds.
    pub p90_us: u64,
    /// The latency that 99% of the calls stay within, in microseconds.
    pub p99_us: u64,
    /// The longest latency in microseconds.
    pub max_us: u64,
    /// The number of items that its handlers have sent, those of calls in flight included; 0 if it sends none.
    #[serde(default)]
    pub items_sent: u64,
    /// The number of items that its handlers have received, those of calls in flight included; 0 if it takes none.
    #[serde(default)]
    pub items_received: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn description_has_all_that_was_set() {
        let method = MethodInfo::new("read")
            .doc("Reads.")
            .params(vec![ParamInfo::new("path", "String")])
            .returns("u64")
            .idempotent(true)
            .idempotent_at_same_server(true)
            .once(true)
            .takes_items("Chunk")
            .sends_items("Line");
        let service = ServiceInfo::new("Files").doc("Files.").methods(vec![method]);
        let expected = json!({"name": "Files", "doc": "Files.", "methods": [{
            "name": "read", "doc": "Reads.", "params": [{"name": "path", "type": "String"}], "returns": "u64",
            "idempotent": true, "idempotent_at_same_server": true, "once": true, "streaming": true,
            "streams": {"in": true, "out": true, "in_type": "Chunk", "out_type": "Line"},
        }]});
        assert_eq!(serde_json::to_value(&service).unwrap(), expected);
        assert_eq!(serde_json::from_value::<ServiceInfo>(expected).unwrap(), service);
    }

    #[test]
    fn one_direction_of_items_says_nothing_of_the_other() {
        let (takes, sends) = (MethodInfo::new("a").takes_items("T"), MethodInfo::new("a").sends_items("T"));
        assert!(takes.streaming && takes.streams.takes && !takes.streams.sends);
        assert!(sends.streaming && sends.streams.sends && !sends.streams.takes);
        assert_eq!((takes.streams.out_type, sends.streams.in_type), (None, None));
        assert!(!MethodInfo::new("a").streaming);
    }

    #[test]
    fn status_of_health_is_written_in_lower_case() {
        let written = |status| serde_json::to_value(Health::new(status)).unwrap();
        assert_eq!(written(HealthStatus::Serving), json!({"status": "serving"}));
        assert_eq!(written(HealthStatus::Draining), json!({"status": "draining"}));
    }
}
