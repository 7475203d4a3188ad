//! Readers of a registry that read slowly or not at all.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::attack::Attack;
use super::registry_requests::{change, fill};
use super::target::{Target, begin, spawn_each, stay};
use crate::peer::http::{self, Connection};
use crate::peer::socket::{connect_reluctantly, sip};

/// Metadata of the instances of large lists, in bytes.
const METADATA: usize = 4_000;

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack::new(
            "watchers-that-never-read",
            "8,000 instances of 4 KB; 40 watchers that never read, each after a change",
            watchers_that_never_read,
        )
        .at_registry()
        .lasting(15),
        Attack::new(
            "watchers-that-read-a-byte-a-second",
            "8,000 instances of 4 KB; 200 watchers that read a byte a second",
            watchers_that_read_a_byte_a_second,
        )
        .at_registry()
        .ended_after(60),
        Attack::new(
            "lists-never-read",
            "8,000 instances of 4 KB; 40 clients ask for lists with last_seen and never read",
            lists_never_read,
        )
        .at_registry()
        .lasting(15),
        Attack::new(
            "services-never-read",
            "20,000 services; 200 clients ask for them after a change and never read",
            services_never_read,
        )
        .at_registry()
        .lasting(15),
        Attack::new(
            "many-watchers-that-never-read",
            "10,001 watchers that do not read, beside 300 changes a second",
            many_watchers_that_never_read,
        )
        .at_registry()
        .max_mb(300)
        .lasting(20),
        Attack::new(
            "long-polls-that-never-read",
            "2,000 instances; 2,000 long polls that do not read, beside changes",
            long_polls_that_never_read,
        )
        .at_registry(),
    ]
}

/// A watcher holds shared bytes, of which there is one copy for each revision that is kept, and for a limited time.
async fn watchers_that_never_read(target: Target) -> io::Result<()> {
    fill(target, "a", 8_000, METADATA).await?;
    begin().await?;
    after_changes(target, 40, http::get(target.http, "/v1/watch?service=a")).await
}

/// The same for lists, which are made for each request because they have `last_seen`.
async fn lists_never_read(target: Target) -> io::Result<()> {
    fill(target, "a", 8_000, METADATA).await?;
    begin().await?;
    let list = http::get(target.http, "/v1/services/a/instances?include=last_seen");
    after_changes(target, 40, list).await
}

/// The same for the list of services.
async fn services_never_read(target: Target) -> io::Result<()> {
    let mut connection = Connection::open(target.http).await?;
    let instance = br#"{"addr":"tcp@10.0.0.1:7001"}"#;
    let puts = (0..20_000).map(|number| {
        http::send("PUT", target.http, &format!("/v1/services/s{number}/instances/a"), instance)
    });
    connection.ask_all(puts).await?;
    fill(target, "a", 1, 0).await?;
    begin().await?;
    after_changes(target, 200, http::get(target.http, "/v1/services")).await
}

/// Makes a change, opens a connection, sends `request` and reads nothing, `count` times.
async fn after_changes(target: Target, count: usize, request: Vec<u8>) -> io::Result<()> {
    let mut changing = Connection::open(target.http).await?;
    let mut readers = Vec::new();
    for number in 0..count {
        changing.ask(&change(target, "a", number)).await?;
        let mut reader = connect_reluctantly(target.http).await?;
        reader.write_all(&request).await?;
        readers.push(reader);
    }
    stay().await
}

/// A byte now and then is no progress: a watcher that falls behind without end is ended.
async fn watchers_that_read_a_byte_a_second(target: Target) -> io::Result<()> {
    fill(target, "a", 8_000, METADATA).await?;
    begin().await?;
    spawn_each(200, |_| async move {
        let mut stream = connect_reluctantly(target.http).await?;
        stream.write_all(&http::get(target.http, "/v1/watch")).await?;
        sip(stream, Duration::from_secs(1)).await;
        stay().await
    });
    stay().await
}

/// An event is made once and shared by all; a watcher that does not take it is ended.
async fn many_watchers_that_never_read(target: Target) -> io::Result<()> {
    fill(target, "a", 100, 0).await?;
    begin().await?;
    let mut watchers = Vec::new();
    for _ in 0..10_001 {
        let mut stream = connect_reluctantly(target.http).await?;
        stream.write_all(&http::get(target.http, "/v1/watch")).await?;
        watchers.push(stream);
    }
    keep_changing(target, 300).await
}

/// A long poll is answered from the same bytes as a list.
async fn long_polls_that_never_read(target: Target) -> io::Result<()> {
    fill(target, "a", 2_000, 100).await?;
    begin().await?;
    let poll = http::get(target.http, "/v1/services/a/instances?rev=2000&wait=55s");
    let mut polls: Vec<TcpStream> = Vec::new();
    for _ in 0..2_000 {
        let mut stream = connect_reluctantly(target.http).await?;
        stream.write_all(&poll.repeat(20)).await?;
        polls.push(stream);
    }
    keep_changing(target, 20).await
}

/// Makes `rate` changes a second.
async fn keep_changing(target: Target, rate: u32) -> io::Result<()> {
    let mut connection = Connection::open(target.http).await?;
    let start = Instant::now();
    for number in 0_u32.. {
        sleep_until(start + Duration::from_secs(1) * number / rate).await;
        connection.ask(&change(target, "a", number as usize)).await?;
    }
    Ok(())
}
