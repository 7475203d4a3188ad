//! A chart of a run, in SVG: the latencies by percentile, and the longest of each second.

use std::time::Duration;

use super::report::Report;
use crate::time::show;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;
const MARGIN: f64 = 70.0;

/// Returns the chart.
pub(super) fn svg(report: &Report) -> String {
    let percentiles: Vec<_> =
        report.latencies().iter().filter(|(name, _)| name.starts_with('p')).cloned().collect();
    let seconds: Vec<_> =
        report.timeline().iter().enumerate().map(|(at, one)| (format!("{at} s"), one.max)).collect();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{MARGIN}\" y=\"20\">{}</text>\n",
        WIDTH + 2.0 * MARGIN,
        2.0 * (HEIGHT + MARGIN) + 40.0,
        escaped(&report.title())
    );
    panel(&mut svg, 40.0, "latency by percentile", &percentiles);
    panel(&mut svg, 40.0 + HEIGHT + MARGIN, "longest latency of each second", &seconds);
    svg.push_str("</svg>\n");
    svg
}

/// Adds a line through these points, with names below and times at the left.
fn panel(svg: &mut String, top: f64, title: &str, points: &[(String, f64)]) {
    let max = points.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let bottom = top + HEIGHT;
    let step = WIDTH / (points.len().max(2) - 1) as f64;
    let place =
        |index: usize, value: f64| (MARGIN + index as f64 * step, bottom - value / max * (HEIGHT - 30.0));
    svg.push_str(&format!("<text x=\"{MARGIN}\" y=\"{:.1}\" fill=\"gray\">{title}</text>\n", top + 14.0));
    for part in [0.0, 0.5, 1.0] {
        let (_, y) = place(0, max * part);
        let time = show(Duration::from_secs_f64(max * part));
        svg.push_str(&format!("<path d=\"M{MARGIN} {y:.1}h{WIDTH}\" stroke=\"lightgray\"/>\n"));
        svg.push_str(&format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{time}</text>\n",
            MARGIN - 6.0,
            y + 4.0
        ));
    }
    let every = points.len().div_ceil(12).max(1);
    let mut line = String::new();
    for (index, (name, value)) in points.iter().enumerate() {
        let (x, y) = place(index, *value);
        line.push_str(&format!("{x:.1},{y:.1} "));
        if index % every == 0 {
            let below = bottom + 18.0;
            svg.push_str(&format!(
                "<text x=\"{x:.1}\" y=\"{below:.1}\" text-anchor=\"middle\">{}</text>\n",
                escaped(name)
            ));
        }
    }
    svg.push_str(&format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"steelblue\" stroke-width=\"2\"/>\n",
        line.trim_end()
    ));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
