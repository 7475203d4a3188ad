//! `farcall doctor`: checks the way to each instance step by step; each line that is not right says what to do.

mod report;
mod skew;
mod tls;

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use farcall::client::{Connection, ConnectionOptions, EndpointStatus};
use farcall::protocol::Codec;
use farcall::protocol::describe::{SCHEMA, SERVICES, ServiceInfo};
use farcall::{Address, Channel, Code, RpcError};
use farcall_schema::Document;

use self::report::Report;
use self::skew::{Description, Instance};
use crate::diagnose::diagnose;
use crate::environment::Environment;
use crate::exit::success_if;
use crate::failure::Failure;
use crate::methods::names;
use crate::output::escape::word;
use crate::output::print;
use crate::targets::args::TargetArgs;
use crate::targets::place::Place;
use crate::targets::settings::Settings;
use crate::time::show;

/// Checks DNS, connecting, TLS, the handshake, codecs and limits of each instance, and whether all are alike.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  farcall doctor tls@127.0.0.1:7001 --ca ca.pem")]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    target: TargetArgs,
}

pub(crate) async fn run(args: DoctorArgs, environment: &Environment) -> Result<ExitCode, Failure> {
    let settings = Settings::resolve(&args.target)?;
    let instances = instances(&settings, environment).await?;
    let mut report = Report::default();
    let mut descriptions = Vec::new();
    for Instance { address, .. } in &instances {
        report.heading(&address.to_string());
        if let Some(description) = examine(address, &settings, &mut report).await? {
            descriptions.push(description);
        }
    }
    if instances.len() > 1 {
        report.heading("all instances");
        skew::versions(&instances, &mut report);
        skew::types(&descriptions, &mut report);
    }
    print(&report.text)?;
    Ok(success_if(!report.has_failed))
}

/// Returns all instances.
async fn instances(settings: &Settings, environment: &Environment) -> Result<Vec<Instance>, Failure> {
    if let Place::Addresses(addresses) = &settings.place {
        let instance = |address: &Address| Instance { address: address.clone(), version: None };
        return Ok(addresses.iter().map(instance).collect());
    }
    let options = settings.connection_options().await?;
    let channel = settings.channel(None, false)?.options(options).build();
    let channel = channel.map_err(|error| Failure::usage(error.to_string()))?;
    environment.keep(&channel);
    // One that cannot be reached is examined below; the list is there in any case.
    let outcome = channel.connect().await;
    let instance = |status: EndpointStatus| Instance {
        address: status.endpoint.address.clone(),
        version: status.endpoint.version.clone(),
    };
    let found: Vec<_> = channel.endpoints().into_iter().map(instance).collect();
    match outcome {
        Err(error) if found.is_empty() => Err(Failure::of_call(&error, true)),
        _ => Ok(found),
    }
}

/// Checks one instance; returns what it says of its methods, if it does.
async fn examine(
    address: &Address,
    settings: &Settings,
    report: &mut Report,
) -> Result<Option<Description>, Failure> {
    if let (Some(host), Some(port)) = (address.host(), address.port()) {
        let start = Instant::now();
        match tokio::net::lookup_host((host, port)).await {
            Ok(found) => {
                let found: Vec<_> = found.map(|socket| socket.ip().to_string()).collect();
                report.ok("DNS", format!("{} in {}", found.join(", "), show(start.elapsed())));
            }
            Err(error) => {
                report.bad("DNS", error.to_string(), "check the name, and the name server of this machine");
            }
        }
    }
    if address.scheme().is_encrypted() {
        tls::examine(address, settings, report).await;
    }
    let options = settings.connection_options().await?;
    let start = Instant::now();
    let connection = match Connection::open(address, &options).await {
        Ok(connection) => connection,
        Err(error) => {
            let found = diagnose(address, settings.tls_client()?).await;
            let cure = found.map_or_else(|| cure(&error).to_owned(), |found| found.to_string());
            report.bad("connect", word(error.message()), &cure);
            return Ok(None);
        }
    };
    report.ok("connect", format!("with the handshake in {}", show(start.elapsed())));
    let negotiated = connection.negotiated();
    let limits = format!(
        "{} calls at once, frames of {} KiB, {}",
        negotiated.max_in_flight.get(),
        negotiated.send_limit.get() / 1024,
        negotiated.handle_timeout.map_or_else(
            || "no time limit of calls".to_owned(),
            |limit| format!("calls stopped after {}", show(limit))
        ),
    );
    report.ok("limits", limits);
    codecs(address, &options, report).await;
    let channel = Channel::from(connection);
    match channel.call::<Vec<ServiceInfo>>(SERVICES, &()).await.map_err(RpcError::from) {
        Ok(services) => {
            report.ok("services", format!("{} methods", names(&services).count()));
            let types = channel.call::<serde_json::Value>(SCHEMA, &()).await.ok();
            let types = types.and_then(|types| Document::from_json(&types).ok());
            Ok(Some(Description { address: address.clone(), services, types }))
        }
        Err(error) if error.code() == Code::Unimplemented => {
            report.ok("services", "it does not describe them");
            Ok(None)
        }
        Err(error) => {
            report.bad("services", error.to_string(), "look at the log of the server");
            Ok(None)
        }
    }
}

/// Checks which of the built-in codecs the server speaks.
async fn codecs(address: &Address, options: &ConnectionOptions, report: &mut Report) {
    let mut spoken = Vec::new();
    for codec in Codec::built_in() {
        let name = codec.name().to_owned();
        if let Ok(connection) = Connection::open(address, &options.clone().codec(codec)).await {
            connection.close();
            spoken.push(name);
        }
    }
    report.ok("codecs", spoken.join(", "));
}

/// Returns what to do about an error of connecting.
fn cure(error: &RpcError) -> &'static str {
    match error.code() {
        Code::Unauthenticated => "give a token with --token-file, or a certificate with --cert and --key",
        Code::ResourceExhausted => "raise the limit of the server's connections, or close some",
        _ if error.message().contains("refused") => "start the server, and check the port",
        _ if error.message().contains("certificate") => {
            "name the authority with --ca, or renew the certificate"
        }
        _ => "check the address, the firewall, and if the server runs",
    }
}
