//! The table on the screen.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Row as Cells, Table};

use super::sample::Row;
use crate::output::escape::word;
use crate::time::show;

/// A column: its title, its width if that does not depend on the rows, and the text of a row.
struct Column {
    title: &'static str,
    width: Option<u16>,
    kind: ColumnKind,
    text: fn(&Row) -> String,
}

/// The rows that a column is for. One without any is left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ColumnKind {
    Every,
    /// Methods that stream.
    Streams,
    /// Instances that report their load.
    Reports,
}

const COLUMNS: [Column; 13] = [
    Column::named("METHOD", |row| word(&row.method)),
    Column::named("ENDPOINT", |row| word(&row.endpoint)),
    Column::of_calls("CALLS/S", 9, |row| rate(row.rate)),
    Column::of_calls("UNDER WAY", 9, |row| row.stats.in_flight.to_string()),
    Column::of_streams("STREAMS", 7, |row| {
        row.streams.map(|streams| streams.to_string()).unwrap_or_default()
    }),
    Column::of_streams("ITEMS/S IN", 10, |row| rate(row.items_in)),
    Column::of_streams("ITEMS/S OUT", 11, |row| rate(row.items_out)),
    Column::of_calls("CALLS", 10, |row| row.stats.calls.to_string()),
    Column::of_calls("ERRORS", 8, |row| row.stats.errors.to_string()),
    Column::of_calls("P50", 9, |row| micros(row.stats.p50_us)),
    Column::of_calls("P99", 9, |row| micros(row.stats.p99_us)),
    Column::of_calls("MAX", 9, |row| micros(row.stats.max_us)),
    Column::of_reports("REPORTED LOAD", 44, reported),
];

impl Column {
    /// Creates a column that is as wide as its longest text.
    const fn named(title: &'static str, text: fn(&Row) -> String) -> Self {
        Self { title, width: None, kind: ColumnKind::Every, text }
    }

    const fn of_calls(title: &'static str, width: u16, text: fn(&Row) -> String) -> Self {
        Self { title, width: Some(width), kind: ColumnKind::Every, text }
    }

    const fn of_streams(title: &'static str, width: u16, text: fn(&Row) -> String) -> Self {
        Self { title, width: Some(width), kind: ColumnKind::Streams, text }
    }

    const fn of_reports(title: &'static str, width: u16, text: fn(&Row) -> String) -> Self {
        Self { title, width: Some(width), kind: ColumnKind::Reports, text }
    }

    fn is_shown(&self, rows: &[Row]) -> bool {
        match self.kind {
            ColumnKind::Every => true,
            ColumnKind::Streams => rows.iter().any(|row| row.streams.is_some()),
            ColumnKind::Reports => rows.iter().any(|row| row.reported.is_some()),
        }
    }

    fn width(&self, rows: &[Row]) -> u16 {
        self.width.unwrap_or_else(|| {
            let longest = rows.iter().map(|row| (self.text)(row).chars().count()).max().unwrap_or_default();
            u16::try_from(longest.clamp(8, 60)).unwrap_or(60)
        })
    }
}

/// Draws the rows, and the instances that did not answer. Columns that no row has anything in are left out.
pub(super) fn draw(frame: &mut Frame<'_>, target: &str, rows: &[Row], failures: &[(String, String)]) {
    let failed = u16::try_from(failures.len()).unwrap_or(u16::MAX);
    let parts = Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(failed)]);
    let [title, middle, bottom] = parts.areas(frame.area());
    let stream = rows.iter().any(|row| row.streams.is_some());
    frame.render_widget(Line::styled(summary(target, rows, stream), Modifier::BOLD), title);
    let columns: Vec<_> = COLUMNS.iter().filter(|column| column.is_shown(rows)).collect();
    let cells = rows.iter().map(|row| {
        let style = if row.stats.in_flight > 0 { Style::new().bold() } else { Style::new() };
        Cells::new(columns.iter().map(|column| (column.text)(row))).style(style)
    });
    let widths = columns.iter().map(|column| Constraint::Length(column.width(rows)));
    let header = Cells::new(columns.iter().map(|column| column.title)).style(Style::new().reversed());
    frame.render_widget(Table::new(cells, widths).header(header), middle);
    let lines =
        failures.iter().map(|(endpoint, error)| Line::from(format!("{}: {}", word(endpoint), word(error))));
    frame.render_widget(Text::from_iter(lines).style(Style::new().bold()), bottom);
}

/// Returns the line with what all rows have together.
fn summary(target: &str, rows: &[Row], stream: bool) -> String {
    let calls: f64 = rows.iter().filter_map(|row| row.rate).sum();
    let of_streams = if stream {
        let streams: u64 = rows.iter().filter_map(|row| row.streams).sum();
        let items: f64 = rows.iter().flat_map(|row| [row.items_in, row.items_out]).flatten().sum();
        format!(", {streams} open streams, {items:.0} items/s")
    } else {
        String::new()
    };
    format!("{}: {calls:.0} calls/s{of_streams}, {} rows; q ends", word(target), rows.len())
}

/// Returns the load of a row's instance, such as `42% used, 1250 calls/s, 17.2 under way, 300ms ago`.
fn reported(row: &Row) -> String {
    let Some(load) = &row.reported else { return String::new() };
    let used = load.utilization.map_or_else(String::new, |used| format!("{:.0}% used, ", used * 100.0));
    let age = show(Duration::from_millis(load.age_ms));
    format!("{used}{:.0} calls/s, {:.1} under way, {age} ago", load.calls_per_second, load.in_flight)
}

fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(String::new, |rate| format!("{rate:.0}"))
}

fn micros(micros: u64) -> String {
    show(Duration::from_micros(micros))
}
