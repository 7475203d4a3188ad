//! `streams`: items a second beside raw frames and the server streaming of tonic and of volo, a stream beside others that are not read,
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
#[cfg(feature = "rivals")]
mod tonic;
#[cfg(feature = "rivals")]
mod volo;

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
}

const SMALL_ITEMS: usize = 0;
const LARGE_ITEMS: usize = 1;
const ALONE: usize = 2;
const BESIDE_STILL: usize = 3;
const CALLS_ALONE: usize = 4;
const CALLS_BESIDE_LARGE: usize = 5;
const CALLS_BESIDE_SMALL: usize = 6;

const ROWS: [Row; 7] = [
    Row {
        what: "16 bytes, thousand items/s",
        sources: &[Source::Raw, Source::Farcall, Source::Tonic, Source::Volo],
        take: |take| take.bytes = SMALL,
        figure: |taken| taken.items_per_s / 1e3,
    },
    Row {
        what: "64 KiB, MB/s",
        sources: &[Source::Raw, Source::Farcall, Source::Tonic, Source::Volo],
        take: |take| take.bytes = LARGE,
        figure: |taken| taken.bytes_per_s / 1e6,
    },
    Row {
        what: "1 KiB alone, thousand items/s",
        sources: &[Source::Farcall, Source::TonicDefault],
        take: |take| take.bytes = MEDIUM,
        figure: |taken| taken.items_per_s / 1e3,
    },
    Row {
        what: "1 KiB beside 255 that are not read, thousand items/s",
        sources: &[Source::Farcall, Source::TonicDefault],
        take: |take| (take.bytes, take.still) = (MEDIUM, STILL),
        figure: |taken| taken.items_per_s / 1e3,
    },
    Row {
        what: "1,000 calls/s alone, p99 in microseconds",
        sources: &[Source::Farcall, Source::Tonic],
        take: |take| (take.bytes, take.reads, take.calls_per_s) = (LARGE, false, CALLS_PER_S),
        figure: |taken| taken.call_p99_us,
    },
    Row {
        what: "1,000 calls/s beside a stream of 64 KiB, p99 in microseconds",
        sources: &[Source::Farcall, Source::Tonic],
        take: |take| (take.bytes, take.calls_per_s) = (LARGE, CALLS_PER_S),
        figure: |taken| taken.call_p99_us,
    },
    Row {
        what: "1,000 calls/s beside a stream of 16 bytes, p99 in microseconds",
        sources: &[Source::Farcall, Source::Tonic],
        take: |take| (take.bytes, take.calls_per_s) = (SMALL, CALLS_PER_S),
        figure: |taken| taken.call_p99_us,
    },
];

/// A figure by its row and source.
type Place = (usize, Source);

/// Ratios of two figures of the same round, and what they are to be.
const RATIOS: [(&str, Place, Place, &str); 9] = [
    ("16 bytes, of raw", (SMALL_ITEMS, Source::Farcall), (SMALL_ITEMS, Source::Raw), "at least 0.5"),
    ("16 bytes, of tonic", (SMALL_ITEMS, Source::Farcall), (SMALL_ITEMS, Source::Tonic), "at least 8"),
    ("64 KiB, of raw", (LARGE_ITEMS, Source::Farcall), (LARGE_ITEMS, Source::Raw), "at least 0.8"),
    ("64 KiB, of tonic", (LARGE_ITEMS, Source::Farcall), (LARGE_ITEMS, Source::Tonic), "at least 1"),
    ("64 KiB, of volo's gRPC", (LARGE_ITEMS, Source::Farcall), (LARGE_ITEMS, Source::Volo), "at least 1"),
    (
        "beside 255 that are not read, of alone",
        (BESIDE_STILL, Source::Farcall),
        (ALONE, Source::Farcall),
        "at least 0.95",
    ),
    ("the same, tonic's defaults", (BESIDE_STILL, Source::TonicDefault), (ALONE, Source::TonicDefault), ""),
    (
        "p99 beside 64 KiB, of alone",
        (CALLS_BESIDE_LARGE, Source::Farcall),
        (CALLS_ALONE, Source::Farcall),
        "at most 2",
    ),
    (
        "p99 beside 16 bytes, of alone",
        (CALLS_BESIDE_SMALL, Source::Farcall),
        (CALLS_ALONE, Source::Farcall),
        "at most 2",
    ),
];

/// The figures of one row and source, one for each round.
#[derive(Default)]
struct Figures {
    figures: Vec<f64>,
    cpu_ns: Vec<f64>,
}

pub(crate) fn run(options: &Streams) -> anyhow::Result<()> {
    ensure!(options.rounds > 0 && options.ms > 0, "there is nothing to measure");
    let mut all = ROWS.map(|row| row.sources.iter().map(|_| Figures::default()).collect::<Vec<_>>());
    for _ in 0..options.rounds {
        for (row, figures) in ROWS.iter().zip(&mut all) {
            for (source, figures) in row.sources.iter().zip(figures) {
                let mut take = Take::new(*source, options.ms);
                (row.take)(&mut take);
                let taken = measure_once(&take).with_context(|| format!("{source}, {}", row.what))?;
                figures.figures.push((row.figure)(&taken));
                figures.cpu_ns.push(taken.cpu_ns);
            }
        }
    }
    let idle = measure_once(&Take::idle(options.idle, (options.idle * IDLE.1).div_ceil(IDLE.0)))?;
    println!("{}", processor());
    println!("medians of {} rounds of {} ms, one connection", options.rounds, options.ms);
    print_figures(&all);
    print_ratios(&all);
    println!(
        "{} idle streams, each of which has sent one item: {:.2} KB each on the server",
        options.idle, idle.server_kb_each
    );
    Ok(())
}

/// Prints the medians, with the CPU time of both processes for each item of the rows that measure items.
fn print_figures(all: &[Vec<Figures>; ROWS.len()]) {
    let mut table = table([String::new()].into_iter().chain(Source::ALL.map(|source| source.to_string())));
    for (row, figures) in ROWS.iter().zip(all) {
        let cells = |cell: fn(&Figures) -> String| {
            Source::ALL.map(|source| {
                let index = row.sources.iter().position(|one| *one == source);
                index.map_or_else(String::new, |index| cell(&figures[index]))
            })
        };
        let of_figures = cells(|figures| format!("{:.0}", median(figures.figures.clone())));
        table.add_row([row.what.to_owned()].into_iter().chain(of_figures));
        if row.what.ends_with("/s") {
            let of_cpu = cells(|figures| format!("{:.0}", median(figures.cpu_ns.clone())));
            table.add_row(["the same, ns of CPU an item".to_owned()].into_iter().chain(of_cpu));
        }
    }
    println!("{table}");
}

/// Prints the medians of the rounds' ratios.
fn print_ratios(all: &[Vec<Figures>; ROWS.len()]) {
    let mut table = table(["", "ratio", "asked"].map(str::to_owned).into_iter());
    let of = |(row, source): Place| {
        let index = ROWS[row].sources.iter().position(|one| *one == source);
        index.map(|index| &all[row][index].figures)
    };
    for (what, one, other, asked) in RATIOS {
        let (Some(one), Some(other)) = (of(one), of(other)) else { continue };
        let ratios = one.iter().zip(other).map(|(one, other)| one / other).collect();
        table.add_row([what.to_owned(), format!("{:.2}", median(ratios)), asked.to_owned()]);
    }
    println!("{table}");
}

fn table(header: impl Iterator<Item = String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Returns the name of the processor.
fn processor() -> String {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, model)| model.trim().to_owned())
}

/// Measures once, with a new server and a new client.
pub(crate) fn measure_once(take: &Take) -> anyhow::Result<Taken> {
    let server = ServerProcess::start(&["serve-streams", "--source", take.source.name()])?;
    let output = this_program(&["take-streams", "--address", &server.address])?
        .args(["--server", &server.pid().to_string()])
        .args(take.arguments())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the client ended with {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}
