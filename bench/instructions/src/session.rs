//! A fixed session: client and server of farcall in one thread, over a pipe in memory.
//!
//! It does the same each time, so that its instructions can be counted, and it has no socket in it.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, anyhow, bail, ensure};
use bytes::Bytes;
use farcall::client::{Connection, ConnectionOptions};
use farcall::protocol::Codec;
use farcall::server::{Receiver, Sender};
use farcall::transport::{Address, PeerAddress, Stream};
use farcall::{Channel, Server};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

/// The capacity of the pipe in each direction, in bytes.
const PIPE_BYTES: usize = 256 * 1024;

#[derive(Serialize, Deserialize)]
struct Multiply {
    a: i64,
    b: i64,
}

#[derive(Serialize, Deserialize)]
struct Echo {
    data: farcall::Bytes,
}

#[derive(Serialize, Deserialize)]
struct Items {
    count: u64,
}

/// The kind of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Two integers there, their product back.
    Multiply,
    /// This number of bytes in each direction.
    Echo(usize),
    /// An item of two integers from the server, in one stream for all.
    ItemOut,
    /// An item of two integers from the client, in one stream for all.
    ItemIn,
}

/// An item of 16 bytes.
type Item = (u64, u64);

fn item(n: u64) -> Item {
    // Large enough for eight bytes each.
    (u64::MAX - n, u64::MAX)
}

/// A kind of session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The name in options and in the stored counts.
    pub name: &'static str,
    work: Work,
    in_flight: usize,
    json: bool,
    /// The most instructions that a call may take, whatever the stored counts are; `None` if there is no such aim.
    pub budget: Option<u32>,
}

impl Session {
    /// All that there are.
    pub const ALL: &[Self] = &[
        Self { name: "mul1", work: Work::Multiply, in_flight: 1, json: false, budget: Some(8_000) },
        Self { name: "mul64", work: Work::Multiply, in_flight: 64, json: false, budget: Some(3_600) },
        Self { name: "mul64-json", work: Work::Multiply, in_flight: 64, json: true, budget: Some(7_500) },
        Self { name: "echo1k64", work: Work::Echo(1024), in_flight: 64, json: false, budget: Some(9_000) },
        Self { name: "echo64k16", work: Work::Echo(64 * 1024), in_flight: 16, json: false, budget: None },
        Self { name: "item-out", work: Work::ItemOut, in_flight: 1, json: false, budget: None },
        Self { name: "item-in", work: Work::ItemIn, in_flight: 1, json: false, budget: None },
    ];

    /// Connects, and makes this number of calls, or sends this number of items.
    ///
    /// # Errors
    ///
    /// A call failed.
    pub async fn run(self, calls: usize) -> anyhow::Result<()> {
        let channel =
            Channel::from(connection(if self.json { Codec::Json } else { Codec::MessagePack }).await?);
        match self.work {
            Work::ItemOut => return receive(&channel, calls as u64).await,
            Work::ItemIn => return send(&channel, calls as u64).await,
            Work::Multiply | Work::Echo(_) => {}
        }
        let mut lanes = JoinSet::new();
        for lane in 0..self.in_flight {
            let (channel, work) = (channel.clone(), self.work);
            let calls = calls / self.in_flight + usize::from(lane < calls % self.in_flight);
            lanes.spawn(async move {
                for n in 0..calls {
                    call(&channel, work, n as i64).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = lanes.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// A connection to a server in this runtime, with the methods that sessions call.
///
/// # Errors
///
/// The two did not agree.
pub async fn connection(codec: Codec) -> anyhow::Result<Connection> {
    let server = Server::builder()
        .method("Arith.multiply", |args: Multiply| async move { args.a * args.b })
        .method("Echo.echo", |args: Echo| async move { args.data })
        .stream_out("Feed.items", async |items: Items, mut out: Sender<Item>| {
            let mut sent = 0;
            while sent < items.count && out.send(item(sent)).await.is_ok() {
                sent += 1;
            }
            sent
        })
        .stream_in("Feed.count", async |(): (), mut items: Receiver<Item>| {
            let mut received = 0;
            while let Some(Ok(came)) = items.recv().await {
                received += u64::from(came == item(received));
            }
            received
        })
        .build()?;
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let handle = server.handle();
    // Both end with the runtime.
    tokio::spawn(server.serve());
    handle.serve_stream(Stream::new(far), PeerAddress::Memory);
    let address = Address::parse("tcp@in-memory:1")?;
    let options = ConnectionOptions::default().codec(codec);
    Connection::over(Stream::new(near), &address, &options).await.context("in memory")
}

/// Receives items from the server.
async fn receive(channel: &Channel, count: u64) -> anyhow::Result<()> {
    let mut items = channel.call::<u64>("Feed.items", &Items { count }).receive::<Item>().await?;
    let mut received = 0;
    while let Some(came) = items.next().await {
        ensure!(came? == item(received), "item {received} is another one");
        received += 1;
    }
    let sent = items.finish().await?;
    ensure!((sent, received) == (count, count), "{sent} of {count} items were sent, {received} received");
    Ok(())
}

/// Sends items to the server.
async fn send(channel: &Channel, count: u64) -> anyhow::Result<()> {
    let mut items = channel.call::<u64>("Feed.count", &()).send_items::<Item>().await?;
    for n in 0..count {
        ensure!(items.send(item(n)).await?, "the server takes no more items than {n}");
    }
    let received = items.finish().await?;
    ensure!(received == count, "{received} of {count} items were received");
    Ok(())
}

async fn call(channel: &Channel, work: Work, n: i64) -> anyhow::Result<()> {
    match work {
        Work::Multiply => {
            let product: i64 = channel.call("Arith.multiply", &Multiply { a: n, b: 7 }).await?;
            ensure!(product == n * 7, "{n} * 7 = {product}?");
        }
        Work::Echo(bytes) => {
            let data = Bytes::from(vec![7; bytes]).into();
            let back: farcall::Bytes = channel.call("Echo.echo", &Echo { data }).await?;
            ensure!(back.len() == bytes, "{bytes} bytes came back as {}", back.len());
        }
        Work::ItemOut | Work::ItemIn => bail!("items are no calls"),
    }
    Ok(())
}

impl FromStr for Session {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        let known = || Self::ALL.iter().map(|session| session.name).collect::<Vec<_>>().join(", ");
        let found = Self::ALL.iter().find(|session| session.name == name);
        found.copied().ok_or_else(|| anyhow!("no session `{name}`: there are {}", known()))
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}
