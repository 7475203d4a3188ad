//! The floor of latency: one call at a time over a blocking socket, without a runtime.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use crate::load::{Loops, Meter};
use crate::scenario::{Scenario, Work};

/// The size of a call with two integers in the smallest encoding of the peers.
const MULTIPLY_BYTES: usize = 16;

pub(super) fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    loop {
        let mut stream = listener.accept()?.0;
        stream.set_nodelay(true)?;
        std::thread::spawn(move || {
            let mut call = [0; MULTIPLY_BYTES];
            while stream.read_exact(&mut call).and_then(|()| stream.write_all(&call)).is_ok() {}
        });
    }
}

pub(super) fn start(address: &str, scenario: Scenario, meter: &Arc<Meter>) -> anyhow::Result<Loops> {
    anyhow::ensure!(scenario.work == Work::Multiply && scenario.in_flight == 1, "it has one call at a time");
    let mut loops = Loops::new();
    for _ in 0..scenario.connections {
        let (stream, meter) = (TcpStream::connect(address)?, Arc::clone(meter));
        stream.set_nodelay(true)?;
        loops.spawn_blocking(move || call_until_stopped(stream, &meter));
    }
    Ok(loops)
}

fn call_until_stopped(mut stream: TcpStream, meter: &Meter) -> anyhow::Result<()> {
    let mut calls = 0;
    let mut began = Instant::now();
    let mut call = [7; MULTIPLY_BYTES];
    meter.has_begun();
    while !meter.is_stopped() {
        stream.write_all(&call)?;
        match stream.read_exact(&mut call) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => anyhow::bail!("the server went away"),
            read => read?,
        }
        let now = Instant::now();
        if meter.is_counting() {
            calls += 1;
            meter.record(now - began);
        }
        began = now;
    }
    meter.count(calls);
    Ok(())
}
