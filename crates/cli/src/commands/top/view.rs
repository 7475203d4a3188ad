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

const HEADER: [&str; 10] =
    ["METHOD", "ENDPOINT", "CALLS/S", "UNDER WAY", "STREAMS", "CALLS", "ERRORS", "P50", "P99", "MAX"];

/// Draws the rows, and the instances that did not answer.
pub(super) fn draw(frame: &mut Frame<'_>, target: &str, rows: &[Row], failures: &[(String, String)]) {
    let failed = u16::try_from(failures.len()).unwrap_or(u16::MAX);
    let parts = Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(failed)]);
    let [title, middle, bottom] = parts.areas(frame.area());
    let total: f64 = rows.iter().filter_map(|row| row.rate).sum();
    let streams: u64 = rows.iter().filter_map(|row| row.streams).sum();
    let text =
        format!("{}: {total:.0} calls/s, {streams} open streams, {} rows; q ends", word(target), rows.len());
    frame.render_widget(Line::styled(text, Modifier::BOLD), title);
    let (method, endpoint) = (width(rows, |row| &row.method), width(rows, |row| &row.endpoint));
    let widths = [method, endpoint, 9, 9, 7, 10, 8, 9, 9, 9].map(Constraint::Length);
    let cells = rows.iter().map(|row| {
        let style = if row.stats.in_flight > 0 { Style::new().bold() } else { Style::new() };
        Cells::new(texts(row)).style(style)
    });
    let header = Cells::new(HEADER).style(Style::new().reversed());
    frame.render_widget(Table::new(cells, widths).header(header), middle);
    let lines =
        failures.iter().map(|(endpoint, error)| Line::from(format!("{}: {}", word(endpoint), word(error))));
    frame.render_widget(Text::from_iter(lines).style(Style::new().bold()), bottom);
}

fn texts(row: &Row) -> [String; 10] {
    let micros = |micros| show(Duration::from_micros(micros));
    [
        word(&row.method),
        word(&row.endpoint),
        row.rate.map_or_else(String::new, |rate| format!("{rate:.0}")),
        row.stats.in_flight.to_string(),
        row.streams.map(|streams| streams.to_string()).unwrap_or_default(),
        row.stats.calls.to_string(),
        row.stats.errors.to_string(),
        micros(row.stats.p50_us),
        micros(row.stats.p99_us),
        micros(row.stats.max_us),
    ]
}

/// Returns the width of a column.
fn width(rows: &[Row], text: impl Fn(&Row) -> &String) -> u16 {
    let longest = rows.iter().map(|row| word(text(row)).chars().count()).max().unwrap_or_default();
    u16::try_from(longest.clamp(8, 60)).unwrap_or(60)
}
