//! A streaming call: items from the lines of a file or of standard input, items to the lines of standard output.
//!
//! Lines are read when the server has granted credit for the one before, and items are taken when those before are written.
//! So neither side of a pipe runs ahead of the other by more than the windows of the stream.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use farcall::RpcError;
use farcall::client::{ItemSink, ItemStream, StreamCall};
use farcall::protocol::describe::StreamInfo;
use futures::FutureExt as _;
use tokio::task::spawn_blocking;

use super::arguments::{parse, split_items};
use super::invocation::{Description, Invocation};
use super::items::{Input, JsonLines};
use super::timing::attempts_text;
use crate::environment::ItemCounts;
use crate::failure::{Failure, error_value, exit_code};
use crate::output::json::line;
use crate::output::{Format, print};
use crate::time::show;
use crate::value::Value;

/// The bytes of items that are written at once, if more of them are there already.
const CHUNK_BYTES: usize = 64 * 1024;

/// The options of a streaming call.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamOptions {
    /// The time for the whole call.
    pub(super) timeout: Option<Duration>,
    /// The time until the first item or the result.
    pub(super) first_within: Option<Duration>,
    /// The time between two items.
    pub(super) gap: Option<Duration>,
    /// Print `{"item": ...}`, and `{"result": ...}` or `{"error": ...}` last.
    pub(super) is_tagged: bool,
    pub(super) format: Option<Format>,
    pub(super) is_verbose: bool,
}

/// The reason why a streaming call did not succeed.
enum End {
    Call(RpcError),
    Here(Failure),
}

impl<E: Into<RpcError>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Call(error.into())
    }
}

/// Makes a streaming call. `words` are the arguments, and behind them the source of the items if the method takes some.
pub(super) async fn run(
    invocation: &Invocation,
    streams: &StreamInfo,
    description: Option<&Description>,
    words: &[String],
    options: StreamOptions,
    counts: &ItemCounts,
) -> Result<ExitCode, Failure> {
    let (words, source) = match streams.takes {
        true => split_items(words).map(|(words, source)| (words, Some(source)))?,
        false => (words, None),
    };
    let arguments = parse(words)?;
    if let Some(description) = description {
        description.check(&invocation.method, &arguments)?;
    }
    let lines = match &source {
        Some(source) => Some(JsonLines::open(source).await?),
        None => None,
    };
    let mut times = Times::start();
    let outcome = exchange(invocation, &arguments, lines, streams.sends, options, counts, &mut times).await;
    if options.is_verbose {
        times.print(invocation);
    }
    match outcome {
        Ok(result) => print_result(&result, streams.sends, options),
        Err(End::Here(failure)) => Err(failure.with_items(Some(counts.to_string()))),
        Err(End::Call(error)) if options.is_tagged => {
            let value = Value::object([("error", error_value(&error, invocation.is_idempotent))]);
            print(&line(&value))?;
            Ok(ExitCode::from(exit_code(&error)))
        }
        Err(End::Call(error)) => Err(invocation.failure(&error).await.with_items(Some(counts.to_string()))),
    }
}

/// Makes the call, sends the lines, prints the items, and returns the result.
async fn exchange(
    invocation: &Invocation,
    arguments: &Value,
    lines: Option<JsonLines<Input>>,
    sends: bool,
    options: StreamOptions,
    counts: &ItemCounts,
    times: &mut Times,
) -> Result<Value, End> {
    let call = invocation.plain_call(arguments);
    let Some(lines) = lines else {
        let mut call = limited(call.receive::<Value>(), options);
        if let Some(gap) = options.gap {
            call = call.gap(gap);
        }
        let items = call.await?;
        times.opened(invocation);
        return receive(items, options, counts, times).await;
    };
    let mut call = limited(call.exchange::<Value, Value>(), options);
    // A method that sends no items cannot exceed the limit on the time between two of them.
    if let Some(gap) = options.gap.filter(|_| sends) {
        call = call.gap(gap);
    }
    let (sink, items) = call.await?.split();
    times.opened(invocation);
    let receiving = receive(items, options, counts, times);
    let sending = async {
        match send(lines, sink, counts).await {
            // The outcome is that of the other half.
            Ok(()) => std::future::pending().await,
            Err(end) => end,
        }
    };
    tokio::select! {
        // The arm that is dropped has nothing that is wanted any more: the call is over, or is cancelled.
        biased;
        outcome = receiving => outcome,
        end = sending => Err(end),
    }
}

/// Sets the limits of time that calls in all directions have.
fn limited<K>(mut call: StreamCall<K, Value>, options: StreamOptions) -> StreamCall<K, Value> {
    if let Some(limit) = options.timeout {
        call = call.timeout(limit);
    }
    if let Some(limit) = options.first_within {
        call = call.first_within(limit);
    }
    call
}

/// Sends each line, as soon as there is credit for it. A line that is no item cancels the call.
async fn send(
    mut lines: JsonLines<Input>,
    mut sink: ItemSink<Value, Value>,
    counts: &ItemCounts,
) -> Result<(), End> {
    while let Some(item) = lines.next().await.map_err(End::Here)? {
        if !sink.send(item).await? {
            break;
        }
        counts.count_sent();
    }
    sink.end();
    Ok(())
}

/// Prints the items, and returns the result. Items that are there already are written together.
async fn receive(
    mut items: ItemStream<Value, Value>,
    options: StreamOptions,
    counts: &ItemCounts,
    times: &mut Times,
) -> Result<Value, End> {
    let mut chunk = String::new();
    loop {
        let next = match chunk.len() {
            0 => Some(items.next().await),
            CHUNK_BYTES.. => None,
            _ => items.next().now_or_never(),
        };
        if let Some(Some(Ok(item))) = next {
            times.item_came();
            // Before it is printed: a reader that has seen the line may interrupt at once.
            counts.count_received();
            chunk.push_str(&item_text(item, options));
            continue;
        }
        if !chunk.is_empty() {
            // On another thread, so that Ctrl-C is noticed while the reader of a pipe stands still.
            let text = std::mem::take(&mut chunk);
            let written = spawn_blocking(move || print(&text)).await;
            written
                .unwrap_or_else(|error| Err(Failure::local(format!("standard output: {error}"))))
                .map_err(End::Here)?;
        }
        match next {
            None | Some(Some(Ok(_))) => {}
            Some(Some(Err(error))) => return Err(error.into()),
            Some(None) => return Ok(items.finish().await?),
        }
    }
}

fn item_text(item: Value, options: StreamOptions) -> String {
    if options.is_tagged {
        return line(&Value::object([("item", item)]));
    }
    options.format.unwrap_or(Format::Ndjson).text(&item)
}

/// Prints the result: to standard output if it is alone there, and otherwise to standard error.
fn print_result(result: &Value, is_behind_items: bool, options: StreamOptions) -> Result<ExitCode, Failure> {
    if options.is_tagged {
        print(&line(&Value::object([("result", result.clone())])))?;
    } else if !is_behind_items {
        options.format.unwrap_or(Format::Json).print(result)?;
    } else if *result != Value::Null {
        let text = format!("result: {}", line(result));
        // The items are what the call was made for.
        let _ = anstream::stderr().write_all(text.as_bytes());
    }
    Ok(ExitCode::SUCCESS)
}

/// The times of a streaming call, for `-v`.
#[derive(Debug)]
struct Times {
    start: Instant,
    open: Option<Duration>,
    first: Option<Duration>,
    endpoint: String,
}

impl Times {
    fn start() -> Self {
        Self { start: Instant::now(), open: None, first: None, endpoint: String::new() }
    }

    /// Records that the request was sent.
    fn opened(&mut self, invocation: &Invocation) {
        self.open = Some(self.start.elapsed());
        let streams = invocation.session.channel.overview().streams;
        self.endpoint = streams.into_iter().find_map(|stream| stream.endpoint).unwrap_or_default();
    }

    fn item_came(&mut self) {
        if self.first.is_none() {
            self.first = Some(self.start.elapsed());
        }
    }

    /// Writes the times to standard error, and the items with their bytes.
    fn print(&self, invocation: &Invocation) {
        let mut text = attempts_text(&invocation.session);
        let times = [("open", self.open), ("first item", self.first), ("end", Some(self.start.elapsed()))];
        for (name, time) in times {
            if let Some(time) = time {
                let row = format!("{name:<10} {:>9}  {}", show(time), self.endpoint);
                text.push_str(row.trim_end());
                text.push('\n');
            }
        }
        let streams = invocation.session.channel.metrics().streams;
        for (name, items, bytes) in [
            ("sent", streams.items_sent, streams.bytes_sent),
            ("received", streams.items_received, streams.bytes_received),
        ] {
            if items > 0 {
                text.push_str(&format!("{name:<10} {items:>9}  items with {bytes} bytes\n"));
            }
        }
        let _ = anstream::stderr().write_all(text.as_bytes());
    }
}
