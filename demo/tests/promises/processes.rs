//! The registries and servers of these tests, each in a separate process.

use std::net::SocketAddr;
use std::path::Path;

use farcall::Channel;
use farcall::discovery::RoundRobin;
use farcall::registry::HttpDiscovery;
use farcall_registry::wire::{Envelope, InstanceRecord, Instances};
use farcall_test_support::http::{Response, ask};
use farcall_test_support::loopback::own_address;
pub(crate) use farcall_test_support::wait::until_async as until;
use rustix::process::Signal;

use crate::support::{Demo, SOON, within};

/// The number of services of each server.
pub(crate) const SERVICES: usize = 4;

/// A registry. Dropping it kills it, as SIGKILL does.
pub(crate) struct Registry {
    process: Demo,
    place: Place,
}

/// The address of a registry and its command line.
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    options: Vec<String>,
}

impl Registry {
    /// Starts one at a free port.
    pub(crate) fn start(options: &[&str]) -> Self {
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        Self::listening(&own_address(), options)
    }

    fn listening(listen: &str, options: Vec<String>) -> Self {
        let command = ["registry", "--listen", listen].map(str::to_owned);
        let mut process = Demo::start(command.iter().chain(&options));
        let line = process.line();
        let address = line.strip_prefix("listening http://").and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("{line:?}"));
        Self { process, place: Place { address, options } }
    }

    /// Kills it with SIGKILL; gives what is needed to start it again.
    pub(crate) fn kill(self) -> Place {
        let Self { process, place } = self;
        drop(process);
        place
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.place.address
    }

    /// Returns the URL for servers and clients.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/registry", self.address())
    }

    /// Asks it without a body. It must answer.
    pub(crate) async fn ask(&self, method: &str, path: &str) -> Response {
        ask(self.address(), method, path).await.unwrap()
    }

    /// The instances of `Echo`, the stale ones included.
    pub(crate) async fn list(&self) -> Envelope<Instances> {
        let response = self.ask("GET", "/v1/services/Echo/instances?include=stale").await;
        assert_eq!(response.status, 200);
        serde_json::from_slice(&response.body).unwrap()
    }

    /// Returns its entry for the `Echo` of a server.
    pub(crate) async fn find(&self, server: &str) -> Option<InstanceRecord> {
        self.list().await.body.instances.into_iter().find(|listed| listed.instance.addr.to_string() == server)
    }
}

impl Place {
    /// Starts it again where it was.
    pub(crate) fn restart(self) -> Registry {
        Registry::listening(&self.address.to_string(), self.options)
    }

    /// The file that follows `--snapshot`.
    pub(crate) fn snapshot(&self) -> &str {
        let option = self.options.iter().position(|option| option == "--snapshot").unwrap();
        &self.options[option + 1]
    }
}

/// A server. Dropping it kills it, as SIGKILL does.
pub(crate) struct Server {
    process: Demo,
    pub(crate) address: String,
}

impl Server {
    /// Starts one that registers at these URLs; it listens when this returns, and may not yet be known.
    pub(crate) fn start(name: &str, registries: &[&str]) -> Self {
        let listen = format!("tcp@{}", own_address());
        let mut arguments = vec!["--listen", &listen, "--instance", name, "--drain-timeout", "5s"];
        arguments.extend(registries.iter().flat_map(|registry| ["--registry", registry]));
        let (process, mut addresses) = Demo::server(&arguments);
        Self { process, address: addresses.remove(0) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid().unsigned_abs()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Kills it with SIGKILL, and waits for its end.
    pub(crate) fn kill(self) -> String {
        drop(self.process);
        self.address
    }

    /// Stops it with SIGTERM, and waits for its end, which must be a good one. Gives its address.
    pub(crate) fn stop(self) -> String {
        self.signal(Signal::TERM);
        self.process.ended().assert_code(0);
        self.address
    }
}

/// Starts this many servers at a registry, and waits until all are registered.
pub(crate) async fn servers(count: usize, registry: &Registry) -> Vec<Server> {
    let servers: Vec<_> =
        (0..count).map(|number| Server::start(&format!("server-{number}"), &[&registry.url()])).collect();
    until("every server is known", async || registry.list().await.body.instances.len() == count).await;
    servers
}

/// A channel to the servers that a registry knows. A call that hangs fails.
pub(crate) fn client(url: &str) -> Channel {
    client_of(HttpDiscovery::new(url, "Echo").unwrap())
}

pub(crate) fn client_of(discovery: HttpDiscovery) -> Channel {
    Channel::builder().discover(discovery).balancer(RoundRobin).timeout(SOON).build().unwrap()
}

/// The addresses that a channel has found.
pub(crate) fn found(channel: &Channel) -> Vec<String> {
    channel.endpoints().iter().map(|status| status.endpoint.address.to_string()).collect()
}

/// Waits until a file has something in it.
pub(crate) fn until_file(path: &Path, condition: impl Fn(&str) -> bool) {
    let holds = || std::fs::read_to_string(path).is_ok_and(|text| condition(&text));
    assert!(within(SOON, holds), "{} has {:?}", path.display(), std::fs::read_to_string(path));
}
