//! [`Caller`]: one connection of the honest client, and the calls that it makes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use farcall::Channel;
use serde_json::json;

use crate::peer::http::{self, Connection};
use crate::server::Server;

/// The calls that an honest client makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// `Arith.multiply`, over farcall's protocol.
    Multiply,
    /// `Text.count` of three words, over farcall's protocol.
    Count,
    /// `Arith.multiply` by plain HTTP.
    Gateway,
    /// A heartbeat to a registry and the list of a small service, in turn, over HTTP connections.
    Registry,
}

/// The service of the honest client at a registry.
const SERVICE: &str = "honest";

/// A client with a connection.
pub(crate) struct Caller {
    server: std::net::SocketAddr,
    carrier: Carrier,
}

enum Carrier {
    Channel {
        channel: Channel,
        call: Call,
    },
    Http {
        /// The connection that is not in use, if there is one.
        idle: Mutex<Option<Connection>>,
        /// Sent in turn.
        requests: Vec<Vec<u8>>,
        sent: AtomicUsize,
    },
}

impl Caller {
    /// Connects to a server.
    pub(crate) async fn connect(server: &Server, call: Call) -> anyhow::Result<Self> {
        let requests = match call {
            Call::Multiply | Call::Count => {
                let carrier = Carrier::Channel { channel: channel(server.rpc)?, call };
                return Ok(Self { server: server.rpc, carrier });
            }
            Call::Gateway => {
                vec![http::send("POST", server.http, "/rpc/Arith.multiply", br#"{"a":6,"b":7}"#)]
            }
            Call::Registry => {
                let instance = format!("/v1/services/{SERVICE}/instances/a");
                let register = http::send("PUT", server.http, &instance, br#"{"addr":"tcp@127.0.0.1:7001"}"#);
                let mut connection = Connection::open(server.http).await?;
                let registered = ask(&mut connection, &register).await.map_err(anyhow::Error::msg);
                registered.context("registering the honest client's instance")?;
                vec![
                    http::send("POST", server.http, &format!("{instance}/heartbeat"), b""),
                    http::get(server.http, &format!("/v1/services/{SERVICE}/instances")),
                ]
            }
        };
        let idle = Mutex::new(Some(Connection::open(server.http).await?));
        Ok(Self { server: server.http, carrier: Carrier::Http { idle, requests, sent: AtomicUsize::new(0) } })
    }

    /// Makes a call over the client's connection.
    ///
    /// # Errors
    ///
    /// The reason why the call failed.
    pub(crate) async fn call(&self) -> Result<(), String> {
        match &self.carrier {
            Carrier::Channel { channel, call } => call_over(channel, *call).await,
            Carrier::Http { idle, requests, sent } => {
                let request = &requests[sent.fetch_add(1, Relaxed) % requests.len()];
                // Like any client of HTTP/1.1: a call opens a connection if all that there are wait for an answer. Of
                // those, one is kept.
                let reused = idle.lock().unwrap_or_else(PoisonError::into_inner).take();
                let mut connection = match reused {
                    Some(connection) => connection,
                    None => Connection::open(self.server).await.map_err(|error| error.to_string())?,
                };
                ask(&mut connection, request).await?;
                *idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
                Ok(())
            }
        }
    }

    /// Opens another connection, makes a call, and closes it.
    ///
    /// # Errors
    ///
    /// The reason why the call failed.
    pub(crate) async fn call_as_newcomer(&self) -> Result<(), String> {
        let called = match &self.carrier {
            Carrier::Channel { call, .. } => match channel(self.server) {
                Ok(channel) => call_over(&channel, *call).await,
                Err(error) => Err(error.to_string()),
            },
            Carrier::Http { requests, .. } => match Connection::open(self.server).await {
                Ok(mut connection) => ask(&mut connection, &requests[0]).await,
                Err(error) => Err(error.to_string()),
            },
        };
        called.map_err(|error| format!("a newcomer: {error}"))
    }
}

fn channel(server: std::net::SocketAddr) -> anyhow::Result<Channel> {
    Ok(Channel::to(format!("tcp@{server}"))?)
}

async fn call_over(channel: &Channel, call: Call) -> Result<(), String> {
    let called = if call == Call::Count {
        channel.call::<BTreeMap<String, u64>>("Text.count", &("one two two",)).await.map(|words| words.len())
    } else {
        channel.call::<i64>("Arith.multiply", &json!({"a": 1, "b": 2})).await.map(|product| product as usize)
    };
    match called {
        Ok(2) => Ok(()),
        Ok(other) => Err(format!("a wrong answer: {other}")),
        Err(error) => Err(error.to_string()),
    }
}

async fn ask(connection: &mut Connection, request: &[u8]) -> Result<(), String> {
    let response = connection.ask(request).await.map_err(|error| error.to_string())?;
    if response.status == 200 { Ok(()) } else { Err(format!("status {}", response.status)) }
}
