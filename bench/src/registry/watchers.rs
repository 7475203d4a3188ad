//! Watchers: open streams of events, of which nothing is kept but revisions and moments.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::options::Watch;
use super::population::Population;

/// The number of watchers that connect, and get their first list, concurrently.
const CONCURRENT_CONNECTS: usize = 32;

/// All watchers, on a separate thread.
pub(super) struct Watchers {
    stop: watch::Sender<bool>,
    thread: JoinHandle<anyhow::Result<Vec<Seen>>>,
}

/// The events that one watcher has seen.
#[derive(Debug)]
pub(super) struct Seen {
    /// The watched service; `None` for all services.
    pub(super) service: Option<u32>,
    /// The number of notifications that events were lost.
    pub(super) resyncs: usize,
    /// Revisions, and when they came.
    events: Vec<(u64, Instant)>,
}

impl Seen {
    #[cfg(test)]
    pub(super) fn of(service: Option<u32>, events: impl Into<Vec<(u64, Instant)>>) -> Self {
        Self { service, resyncs: 0, events: events.into() }
    }

    /// When it knew what was true of this revision.
    pub(super) fn moment_of(&self, rev: u64) -> Option<Instant> {
        let at = self.events.partition_point(|(seen, _)| *seen < rev);
        self.events.get(at).map(|(_, moment)| *moment)
    }
}

impl Watchers {
    /// Returns when all of them have their first list.
    pub(super) fn start(
        address: &str,
        population: &Population,
        watch: Watch,
        count: u32,
    ) -> anyhow::Result<Self> {
        let (stop, stopping) = watch::channel(false);
        let (ready, mut all_ready) = mpsc::channel(1);
        let (address, population) = (address.to_owned(), population.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                let connecting = Arc::new(Semaphore::new(CONCURRENT_CONNECTS));
                let mut watching = JoinSet::new();
                for n in 0..count {
                    let service = match watch {
                        Watch::Each => Some(n % population.services()),
                        Watch::One => Some(0),
                        Watch::All => None,
                    };
                    let (connecting, address) = (Arc::clone(&connecting), address.clone());
                    let (stopping, ready) = (stopping.clone(), ready.clone());
                    let request = population.watch(service);
                    watching.spawn(async move {
                        let mut watcher = Watcher::new(service);
                        watcher.connect(&address, &request, &connecting).await?;
                        drop(ready);
                        watcher.follow(stopping).await
                    });
                }
                drop(ready);
                let mut all = Vec::new();
                while let Some(seen) = watching.join_next().await {
                    all.push(seen?.context("a watcher")?);
                }
                Ok(all)
            })
        });
        // None when everybody has dropped its sender: each is ready, or has failed, which `stop` tells.
        let none: Option<()> = all_ready.blocking_recv();
        debug_assert!(none.is_none());
        Ok(Self { stop, thread })
    }

    pub(super) fn stop(self) -> anyhow::Result<Vec<Seen>> {
        self.stop.send_replace(true);
        self.thread.join().expect("nothing panics there")
    }
}

struct Watcher {
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
    events: Events,
    seen: Seen,
}

impl Watcher {
    fn new(service: Option<u32>) -> Self {
        Self {
            stream: None,
            buffer: vec![0; 16 * 1024],
            events: Events::default(),
            seen: Seen { service, resyncs: 0, events: Vec::new() },
        }
    }

    async fn connect(&mut self, address: &str, request: &[u8], connecting: &Semaphore) -> anyhow::Result<()> {
        let _permit = connecting.acquire().await?;
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request).await?;
        self.stream = Some(stream);
        while self.seen.events.is_empty() {
            self.read().await?;
        }
        Ok(())
    }

    async fn follow(mut self, mut stopping: watch::Receiver<bool>) -> anyhow::Result<Seen> {
        loop {
            tokio::select! {
                // Cancel-safe: a read that is not done has read nothing.
                read = self.read() => read?,
                // Cancel-safe: it ends the loop.
                _ = stopping.changed() => return Ok(self.seen),
            }
        }
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        let stream = self.stream.as_mut().context("not connected")?;
        let read = stream.read(&mut self.buffer).await?;
        ensure!(read > 0, "the stream of events was ended");
        self.events.feed(&self.buffer[..read], Instant::now(), &mut self.seen)
    }
}

/// Takes a stream of events apart, as it comes: headers, chunks, lines.
#[derive(Default)]
struct Events {
    part: Part,
    /// The headers, while they come; then the beginning of a line.
    line: Vec<u8>,
    /// The revision of the event that is coming.
    rev: Option<u64>,
}

#[derive(Default)]
enum Part {
    #[default]
    Head,
    /// The digits of a chunk's size that have come; none before the first.
    Size(Option<usize>),
    /// The remaining bytes of the chunk.
    Data(usize),
}

/// As much of a line as is looked at.
const LINE_BEGIN: usize = 128;

impl Events {
    fn feed(&mut self, mut bytes: &[u8], now: Instant, seen: &mut Seen) -> anyhow::Result<()> {
        while let [byte, rest @ ..] = bytes {
            match &mut self.part {
                Part::Head => {
                    self.line.push(*byte);
                    if self.line.ends_with(b"\r\n\r\n") {
                        self.check_head()?;
                    }
                    bytes = rest;
                }
                Part::Size(size) => {
                    match (char::from(*byte).to_digit(16), *size) {
                        (Some(digit), _) => *size = Some(size.unwrap_or(0) * 16 + digit as usize),
                        (None, Some(0)) => bail!("the stream of events was ended"),
                        (None, Some(len)) if *byte == b'\n' => self.part = Part::Data(len),
                        (None, _) => {} // the line break behind a chunk's data or size
                    }
                    bytes = rest;
                }
                Part::Data(left) => {
                    let (data, rest) = bytes.split_at(bytes.len().min(*left));
                    *left -= data.len();
                    if *left == 0 {
                        self.part = Part::Size(None);
                    }
                    self.text(data, now, seen)?;
                    bytes = rest;
                }
            }
        }
        Ok(())
    }

    fn check_head(&mut self) -> anyhow::Result<()> {
        let head = String::from_utf8_lossy(&self.line).to_ascii_lowercase();
        ensure!(head.starts_with("http/1.1 200 "), "watching was answered {head}");
        ensure!(head.contains("transfer-encoding: chunked"), "the stream of events has no chunks: {head}");
        self.line.clear();
        self.part = Part::Size(None);
        Ok(())
    }

    fn text(&mut self, data: &[u8], now: Instant, seen: &mut Seen) -> anyhow::Result<()> {
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BEGIN.saturating_sub(self.line.len());
            let is_whole = piece.ends_with(b"\n");
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if is_whole {
                self.line_ends(now, seen)?;
                self.line.clear();
            }
        }
        Ok(())
    }

    fn line_ends(&mut self, now: Instant, seen: &mut Seen) -> anyhow::Result<()> {
        // A line whose begin was cut off may have lost its end in the middle of a character.
        let line = String::from_utf8_lossy(&self.line);
        let line = line.trim_end();
        if let Some(id) = line.strip_prefix("id:") {
            let (_, rev) = id.rsplit_once('-').with_context(|| format!("the id {id} has no revision"))?;
            self.rev = Some(rev.parse().with_context(|| format!("the revision of the id {id}"))?);
        } else if line.starts_with("event:") && line.ends_with("resync") {
            seen.resyncs += 1;
        } else if line.is_empty()
            && let Some(rev) = self.rev.take()
        {
            seen.events.push((rev, now));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_they_are_cut() {
        let body = [
            "id: e-7\nevent: snapshot\ndata: {}\n\n",
            ": ping\n\n",
            "event: put\ndata: {\"a\":\"äöü\"}\nid: e-9\n\n",
        ];
        let mut stream = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in body {
            stream.extend_from_slice(format!("{:x}\r\n{chunk}\r\n", chunk.len()).as_bytes());
        }
        for step in 1..stream.len() {
            let (mut events, now) = (Events::default(), Instant::now());
            let mut seen = Seen::of(None, []);
            for piece in stream.chunks(step) {
                events.feed(piece, now, &mut seen).unwrap();
            }
            assert_eq!(seen.events, [(7, now), (9, now)], "in pieces of {step}");
        }
    }
}
