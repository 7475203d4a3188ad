//! Attacks on servers that lack something: descriptors, memory, room on a disk, or a place for their log.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::sleep;

use super::answers::answers_never_read;
use super::attack::Attack;
use super::registry_requests::{change, fill};
use super::target::{Target, begin, spawn_each, stay};
use crate::peer::http::Connection;
use crate::peer::{Offer, Request};
use crate::server::Scarcity;

/// The memory that a server of the attack `memory-short` may have, in MB: the share of one address, and as much again.
const SHORT_MEMORY_MB: u64 = 512;

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack::new(
            "descriptors-exhausted",
            "2,000 connections to a server that may open 300 descriptors",
            descriptors_exhausted,
        )
        .lacking(Scarcity::Descriptors(300))
        .without_newcomers(),
        Attack::new(
            "memory-short",
            "100 connections that ask for 50 x 1 MiB and never read, at a server with 512 MB",
            memory_short,
        )
        .lacking(Scarcity::MemoryMb(SHORT_MEMORY_MB))
        .max_mb(SHORT_MEMORY_MB)
        .ended_after(45),
        Attack::new(
            "disk-full",
            "4,000 instances of 4 KB, 16 MB, and changes; the disk of the snapshot has no room for them",
            disk_full,
        )
        .at_registry()
        .lacking(Scarcity::Disk)
        .lasting(20),
        Attack::new(
            "log-full",
            "calls of methods that do not exist, at a server whose log cannot be written",
            log_full,
        )
        .lacking(Scarcity::Log),
        Attack::new(
            "log-full-at-registry",
            "changes and refusals, at a registry whose log cannot be written",
            log_full_at_registry,
        )
        .at_registry()
        .lacking(Scarcity::Log),
    ]
}

/// A server without descriptors goes on with the connections that it has, and accepts again as soon as others close.
async fn descriptors_exhausted(target: Target) -> io::Result<()> {
    begin().await?;
    spawn_each(2_000, |number| async move {
        let address = if number % 2 == 0 { target.rpc } else { target.http };
        loop {
            if let Ok(stream) = TcpStream::connect(address).await {
                crate::peer::socket::discard(stream).await;
            }
            sleep(Duration::from_millis(100)).await;
        }
    });
    stay().await
}

/// Bytes that are held for peers stay below their bounds, and so does the process below the memory that it may have.
async fn memory_short(target: Target) -> io::Result<()> {
    // The attack is the same; the memory of its server is not.
    answers_never_read(target).await
}

/// A snapshot that cannot be written is told, at a rate, and tried again; nothing waits for it.
async fn disk_full(target: Target) -> io::Result<()> {
    begin().await?;
    fill(target, "a", 4_000, 4_000).await?;
    let mut connection = Connection::open(target.http).await?;
    for number in 0.. {
        connection.ask(&change(target, "a", number)).await?;
        // The rate of the attack: 100 changes a second.
        sleep(Duration::from_millis(10)).await;
    }
    stay().await
}

/// A log that cannot be written is no reason to stop, or to panic.
async fn log_full(target: Target) -> io::Result<()> {
    begin().await?;
    let call = Request::raw("No.such_method", bytes::Bytes::new());
    tokio::spawn(super::time::flood(target, 1, Offer::default(), call));
    // Not a handshake: refused, and logged.
    spawn_each(4, |_| async move {
        loop {
            let mut stream = TcpStream::connect(target.rpc).await?;
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"\0\0\0\x02{}").await;
            crate::peer::socket::discard(stream).await;
        }
    });
    stay().await
}

/// The same at a registry.
async fn log_full_at_registry(target: Target) -> io::Result<()> {
    fill(target, "a", 10, 0).await?;
    begin().await?;
    super::registry_requests::repeat(target, 2, vec![change(target, "a", 0), change(target, "a", 1)]).await
}
