//! `streams`: items a second beside raw frames and tonic's server streaming, a stream beside others that are not read,
//! calls beside a stream that saturates the connection, and the memory of open streams.

use std::process::Stdio;

use anyhow::{Context, ensure};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

pub(crate) use self::serve::ServeStreams;
use self::source::Source;
use self::take::{Take, Taken};
use crate::measured::median;
use crate::process::{ServerProcess, this_program};

mod farcall;
mod feed;
mod raw;
mod serve;
mod source;
pub(crate) mod take;
mod tonic;

/// The size of a small item, in bytes.
const SMALL: usize = 16;
/// The size of a large item, in bytes.
const LARGE: usize = 64 * 1024;
/// The size of the items beside which others are measured, in bytes.
const MEDIUM: usize = 1024;
/// The number of streams that are not read.
const STILL: usize = 255;
/// The calls a second beside a stream.
const CALLS_PER_S: u64 = 1000;
/// The number of idle streams, and of the connections that they share.
const IDLE: (usize, usize) = (10_000, 40);

#[derive(Args)]
pub(crate) struct Streams {
    /// Number of rounds; the tables show medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Duration of each measurement, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    ms: u64,
    /// Number of idle streams, over a 250th as many connections.
    #[arg(long, default_value_t = IDLE.0)]
    idle: usize,
}

/// One line of the table: what is measured, with which item size, beside what.
struct Row {
    what: &'static str,
    sources: &'static [Source],
    take: fn(&mut Take),
    figure: fn(&Taken) -> f64,
    digits: usize,
}

const ROWS: [Row; 7] = [
    Row {
        what: "16 bytes, thousand items/s",
        sources: &[Source::Raw, Source::Farcall, Source::Tonic],
        take: |take| take.bytes = SMALL,
        figure: |taken| taken.items_per_s / 1e3,
        digits: 0,
    },
    Row {
        what: "64 KiB, MB/s",
        sources: &[Source::Raw, Source::Farcall, Source::Tonic],
        take: |take| take.bytes = LARGE,
        figure: |taken| taken.bytes_per_s / 1e6,
        digits: 0,
    },
    Row {
        what: "1 KiB alone, thousand items/s",
        sources: &[Source::Farcall, Source::TonicDefault],
        take: |take| take.bytes = MEDIUM,
        figure: |taken| taken.items_per_s / 1e3,
        digits: 0,
    },
    Row {
        what: "1 KiB beside 255 that are not read, thousand items/s",
        sources: &[Source::Farcall, Source::TonicDefault],
        take: |take| (take.bytes, take.still) = (MEDIUM, STILL),
        figure: |taken| taken.items_per_s / 1e3,
        digits: 0,
    },
    Row {
        what: "1,000 calls/s alone, p99 in microseconds",
        sources: &[Source::Farcall, Source::Tonic],
        take: |take| (take.bytes, take.reads, take.calls_per_s) = (LARGE, false, CALLS_PER_S),
        figure: |taken| taken.call_p99_us,
        digits: 0,
    },
    Row {
        what: "1,000 calls/s beside a stream of 64 KiB, p99 in microseconds",
        sources: &[Source::Farcall, Source::Tonic],
        take: |take| (take.bytes, take.calls_per_s) = (LARGE, CALLS_PER_S),
        figure: |taken| taken.call_p99_us,
        digits: 0,
    },
    Row {
        what: "1,000 calls/s beside a stream of 16 bytes, p99 in microseconds",
        sources: &[Source::Farcall, Source::Tonic],
        take: |take| (take.bytes, take.calls_per_s) = (SMALL, CALLS_PER_S),
        figure: |taken| taken.call_p99_us,
        digits: 0,
    },
];

pub(crate) fn run(options: &Streams) -> anyhow::Result<()> {
    ensure!(options.rounds > 0 && options.ms > 0, "there is nothing to measure");
    let mut figures = ROWS.map(|row| row.sources.iter().map(|_| Vec::new()).collect::<Vec<_>>());
    for _ in 0..options.rounds {
        for (row, figures) in ROWS.iter().zip(&mut figures) {
            for (source, figures) in row.sources.iter().zip(figures) {
                let mut take = Take::new(*source, options.ms);
                (row.take)(&mut take);
                let taken = measure_once(&take).with_context(|| format!("{source}, {}", row.what))?;
                figures.push((row.figure)(&taken));
            }
        }
    }
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([String::new()].into_iter().chain(Source::ALL.map(|source| source.to_string())));
    for (row, figures) in ROWS.iter().zip(&figures) {
        let cells = Source::ALL.map(|source| {
            let index = row.sources.iter().position(|one| *one == source);
            index.map_or_else(String::new, |index| {
                let digits = row.digits;
                format!("{:.digits$}", median(figures[index].clone()))
            })
        });
        table.add_row([row.what.to_owned()].into_iter().chain(cells));
    }
    let idle = measure_once(&Take::idle(options.idle, (options.idle * IDLE.1).div_ceil(IDLE.0)))?;
    table.add_row([
        "idle streams, KB each on the server",
        "",
        &format!("{:.2}", idle.server_kb_each),
        "",
        "",
    ]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("medians of {} rounds of {} ms, one connection\n{table}", options.rounds, options.ms);
    println!("{} idle streams, each of which has sent one item.", options.idle);
    Ok(())
}

/// Measures once, with a new server and a new client.
fn measure_once(take: &Take) -> anyhow::Result<Taken> {
    let server = ServerProcess::start(&["serve-streams", "--source", take.source.name()])?;
    let output = this_program(&["take-streams", "--address", &server.address])?
        .args(["--server", &server.pid().to_string()])
        .args(take.arguments())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the client ended with {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}
