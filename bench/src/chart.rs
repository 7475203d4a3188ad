//! Calls a second as a picture: a panel for each scenario, a bar for each peer.

use std::fmt::Write;

use crate::measured::{Measured, measured, median, of};
use crate::peers::Peer;
use crate::scenario::Scenario;

const COLUMNS: usize = 2;
const PANEL_WIDTH: f64 = 470.0;
const MARGIN: f64 = 24.0;
const NAMES_WIDTH: f64 = 120.0;
/// The space for the number after the longest bar.
const FIGURES_WIDTH: f64 = 60.0;
const ROW_HEIGHT: f64 = 19.0;
const BAR_HEIGHT: f64 = 13.0;
const TITLE_HEIGHT: f64 = 30.0;
const HEAD_HEIGHT: f64 = 64.0;

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#334155}.head{font-size:18px;font-weight:600;fill:#0f172a}\
                     .title{font-size:13px;font-weight:600;fill:#0f172a}.name{text-anchor:end}\
                     .farcall{fill:#2563eb}.socket{fill:#94a3b8}.rival{fill:#f59e0b}\
                     .range{stroke:#0f172a;stroke-opacity:.55}.axis{stroke:#cbd5e1}";

/// The bars of one scenario: a peer, its median, its least and its most.
struct Panel {
    scenario: Scenario,
    bars: Vec<(Peer, f64, f64, f64)>,
}

impl Panel {
    fn new(all: &[Measured], peers: &[Peer], scenario: Scenario) -> Self {
        let bar = |peer: Peer| {
            let rates: Vec<_> = of(all, peer, &scenario).map(|one| one.figures.calls_per_s).collect();
            let (least, most) =
                (rates.iter().copied().reduce(f64::min)?, rates.iter().copied().reduce(f64::max)?);
            Some((peer, median(rates), least, most))
        };
        Self { scenario, bars: peers.iter().copied().filter_map(bar).collect() }
    }

    fn height(&self) -> f64 {
        TITLE_HEIGHT + self.bars.len() as f64 * ROW_HEIGHT + MARGIN
    }

    fn draw(&self, left: f64, top: f64, svg: &mut String) -> std::fmt::Result {
        let zero = left + NAMES_WIDTH;
        let room = PANEL_WIDTH - NAMES_WIDTH - FIGURES_WIDTH;
        let most = self.bars.iter().map(|bar| bar.3).fold(f64::MIN_POSITIVE, f64::max);
        let at = |rate: f64| zero + rate / most * room;
        let title = format!("{}: {}", self.scenario, described(&self.scenario));
        writeln!(svg, r#"<text class="title" x="{left:.1}" y="{:.1}">{title}</text>"#, top + 16.0)?;
        for (row, (peer, rate, least, most)) in self.bars.iter().enumerate() {
            let y = top + TITLE_HEIGHT + row as f64 * ROW_HEIGHT;
            let (middle, words) = (y + BAR_HEIGHT / 2.0, y + BAR_HEIGHT - 2.5);
            let class = match peer {
                peer if peer.is_farcall() => "farcall",
                peer if peer.is_rival() => "rival",
                _ => "socket",
            };
            writeln!(svg, r#"<text class="name" x="{:.1}" y="{words:.1}">{peer}</text>"#, zero - 8.0)?;
            let width = at(*rate) - zero;
            writeln!(
                svg,
                r#"<rect class="{class}" x="{zero:.1}" y="{y:.1}" width="{width:.1}" height="{BAR_HEIGHT}" rx="2"/>"#
            )?;
            let (from, to) = (at(*least), at(*most));
            writeln!(
                svg,
                r#"<line class="range" x1="{from:.1}" x2="{to:.1}" y1="{middle:.1}" y2="{middle:.1}"/>"#
            )?;
            writeln!(
                svg,
                r#"<text x="{:.1}" y="{words:.1}">{}</text>"#,
                to.max(at(*rate)) + 6.0,
                rounded(*rate)
            )?;
        }
        let (top, bottom) = (top + TITLE_HEIGHT - 4.0, top + self.height() - MARGIN);
        writeln!(svg, r#"<line class="axis" x1="{zero:.1}" x2="{zero:.1}" y1="{top:.1}" y2="{bottom:.1}"/>"#)
    }
}

/// Returns an SVG of all measurements.
pub(crate) fn draw(all: &[Measured]) -> String {
    let (peers, scenarios) = measured(all);
    let panels: Vec<_> = scenarios.into_iter().map(|scenario| Panel::new(all, &peers, scenario)).collect();
    let rows = || panels.chunks(COLUMNS);
    let row_height = |row: &[Panel]| row.iter().map(Panel::height).fold(0.0, f64::max);
    let columns = panels.len().clamp(1, COLUMNS) as f64;
    let width = MARGIN + columns * (PANEL_WIDTH + MARGIN);
    let height = HEAD_HEIGHT + rows().map(row_height).sum::<f64>();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n\
         <style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text class=\"head\" x=\"{MARGIN}\" y=\"30\">Calls a second</text>\n\
         <text x=\"{MARGIN}\" y=\"48\">medians; the thin line is from the slowest round to the fastest</text>\n"
    );
    let mut top = HEAD_HEIGHT;
    for row in rows() {
        for (column, panel) in row.iter().enumerate() {
            let left = MARGIN + column as f64 * (PANEL_WIDTH + MARGIN);
            panel.draw(left, top, &mut svg).expect("a string takes all that is written");
        }
        top += row_height(row);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Describes a scenario.
fn described(scenario: &Scenario) -> String {
    use crate::scenario::Work;
    let work = match scenario.work {
        Work::Multiply => "two integers".to_owned(),
        Work::MultiplyOrBurn => "two integers, 1% burn 5 ms".to_owned(),
        Work::Record => "50 strings, 4 KiB in all".to_owned(),
        Work::Echo(bytes) if bytes >= 1024 * 1024 => format!("{} MiB", bytes / 1024 / 1024),
        Work::Echo(bytes) => format!("{} KiB", bytes / 1024),
    };
    let connections = match scenario.connections {
        1 => String::new(),
        connections => format!(" on each of {connections} connections"),
    };
    let core = if scenario.one_core { ", on one core" } else { "" };
    format!("{work}, {} in flight{connections}{core}", scenario.in_flight)
}

/// Formats a rate with three digits.
fn rounded(rate: f64) -> String {
    match rate {
        rate if rate >= 999_500.0 => format!("{:.2} M", rate / 1e6),
        rate if rate >= 99_950.0 => format!("{:.0} k", rate / 1e3),
        rate if rate >= 1000.0 => format!("{:.1} k", rate / 1e3),
        rate => format!("{rate:.0}"),
    }
}
