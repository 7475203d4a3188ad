//! `demo srv`: the process of a registry whose instances are SRV records of DNS, answered by an installed BIND.
//!
//! Servers register over HTTP, and clients see DNS alone, as with Consul's and Nomad's name servers.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;

use anyhow::Context as _;
use farcall::discovery::{Discovery, EndpointList, Subscription, publisher};
use farcall::registry::HttpDiscovery;
use farcall_registry::server::RegistryOptions;
use registry_server::{Config, Server};
use rustix::process::Signal;
use tokio::net::{TcpListener, UdpSocket};
use tokio::process::Command;
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::cli::SrvArgs;
use crate::external::{Program, Question, STOP_LIMIT};
use crate::outcome::Outcome;
use crate::parent::Parent;
use crate::registry::announce;
use crate::registry_url::{ZONE, srv_name};
use crate::signals::Signals;

/// The services of the demo's servers.
const SERVICES: [&str; 4] = ["Arith", "Echo", "Feed", "Text"];

/// Runs the registry and the name server until a signal or the end of the parent process.
pub(crate) async fn serve(args: SrvArgs) -> anyhow::Result<Outcome> {
    let mut signals = Signals::catch().context("catching signals")?;
    let mut orphaned = pin!(Parent::new(args.exit_with_parent, STOP_LIMIT).gone());
    let settings = RegistryOptions::default().ttl(args.ttl).heartbeat(args.heartbeat);
    let registry = Server::bind(Config::new(settings).listen("127.0.0.1:0")).await?;
    let url = registry.urls().next().context("the registry has no URL")?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(registry.serve(async { drop(stopped.await) }));

    let mut zone = Zone::new(&args.data, &url)?;
    zone.write(1)?;
    let name_server = free_address().await?;
    let mut program = start(&args.data, name_server).await?;
    announce(&[format!("srv+{url}?dns={name_server}")])?;
    let mut serial = 1;
    loop {
        tokio::select! {
            // Cancel-safe: each of these is asked again, or not needed any more.
            signal = signals.next() => {
                info!(%signal, "stopping");
                break;
            }
            () = &mut orphaned => break,
            ended = program.ended() => return ended,
            () = zone.changed() => {
                serial += 1;
                // BIND reads its zones again.
                let told = zone.write(serial).and_then(|()| program.signal(Signal::HUP));
                if let Err(error) = told {
                    warn!(%error, "the zone is not up to date");
                }
            }
        }
    }
    program.stop().await?;
    drop(stop);
    serving.await??;
    Ok(Outcome::Done)
}

/// The zone with the records of all services.
struct Zone {
    file: PathBuf,
    services: Vec<(&'static str, Subscription)>,
}

impl Zone {
    fn new(directory: &Path, url: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).context("making the directory of the name server")?;
        let mut services = Vec::new();
        for service in SERVICES {
            let (publisher, list) = publisher();
            // It ends when the list is dropped.
            tokio::spawn(HttpDiscovery::new(url, service)?.run(publisher));
            services.push((service, list));
        }
        Ok(Self { file: directory.join("zone"), services })
    }

    /// Waits until the list of a service has changed.
    async fn changed(&mut self) {
        let lists = self.services.iter_mut().map(|(_, list)| Box::pin(list.changed()));
        // A discovery ends with its runtime only.
        let _ = futures::future::select_all(lists).await;
    }

    /// Writes the file, as of the lists now.
    fn write(&mut self, serial: u32) -> anyhow::Result<()> {
        let mut text = format!(
            "$ORIGIN {ZONE}.\n$TTL 1\n@ IN SOA ns root {serial} 1 1 1 1\n@ IN NS ns\nns IN A 127.0.0.1\n"
        );
        let mut hosts = BTreeSet::new();
        for (service, list) in &mut self.services {
            let list = list.borrow_and_update();
            records(&mut text, &mut hosts, service, &list)?;
        }
        for host in hosts {
            writeln!(text, "{} IN A {host}", host_name(host))?;
        }
        let written = self.file.with_extension("new");
        fs::write(&written, text).and_then(|()| fs::rename(written, &self.file)).context("writing the zone")
    }
}

/// Writes the records of a service. One without servers has a record that says so.
fn records(
    text: &mut String,
    hosts: &mut BTreeSet<Ipv4Addr>,
    service: &str,
    list: &EndpointList,
) -> anyhow::Result<()> {
    let name = srv_name(service);
    let mut is_empty = true;
    for endpoint in list.endpoints.iter().filter(|endpoint| !endpoint.is_drained()) {
        let address = endpoint.address.host().map(|host| host.to_string()).unwrap_or_default();
        let (Ok(IpAddr::V4(host)), Some(port)) = (address.parse(), endpoint.address.port()) else {
            warn!(address = %endpoint.address, "it has no IPv4 address; it is left out");
            continue;
        };
        writeln!(text, "{name}. IN SRV 0 {} {port} {}", endpoint.weight, host_name(host))?;
        hosts.insert(host);
        is_empty = false;
    }
    if is_empty {
        writeln!(text, "{name}. IN SRV 0 0 0 .")?;
    }
    Ok(())
}

fn host_name(host: Ipv4Addr) -> String {
    format!("host-{}", host.to_string().replace('.', "-"))
}

/// Starts BIND, with the zone in this directory.
async fn start(directory: &Path, address: SocketAddr) -> anyhow::Result<Program> {
    let config = directory.join("named.conf");
    let settings = format!(
        "options {{ directory \"{}\"; listen-on port {} {{ {}; }}; listen-on-v6 {{ none; }}; pid-file none; \
         session-keyfile none; recursion no; dnssec-validation no; notify no; }};\ncontrols {{ }};\n\
         zone \"{ZONE}\" {{ type primary; file \"zone\"; }};\n",
        directory.display(),
        address.port(),
        address.ip()
    );
    fs::write(&config, settings).context("writing the settings of the name server")?;
    let program = if Path::new("/usr/sbin/named").exists() { "/usr/sbin/named" } else { "named" };
    let mut command = Command::new(program);
    command.args(["-f", "-n", "1", "-c"]).arg(&config);
    // It accepts connections when it has read its zone.
    let question = Question { address: address.to_string(), text: String::new(), answer: "" };
    Program::start("BIND", command, "is it installed? Debian and Ubuntu call it bind9", &question).await
}

/// Returns an address whose port was free just now for both transports.
async fn free_address() -> anyhow::Result<SocketAddr> {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("looking for a free port")?;
        let address = listener.local_addr()?;
        if UdpSocket::bind(address).await.is_ok() {
            return Ok(address);
        }
    }
}
