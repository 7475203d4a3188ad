//! Durations: as they are written on the command line, and as they are shown.

use std::time::Duration;

/// Parses `5s`, `250ms`, `1m 30s`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write a time like 5s or 250ms"))
}

/// Parses a time limit: with zero, nothing could be done within it.
pub(crate) fn parse_limit(text: &str) -> Result<Duration, String> {
    let limit = parse(text)?;
    if limit.is_zero() { Err("a time limit must be above zero".to_owned()) } else { Ok(limit) }
}

/// Shows a time with three digits: `1.23 ms`, `456 µs`, `12.3 s`.
pub(crate) fn show(time: Duration) -> String {
    let nanos = time.as_nanos() as f64;
    let (value, unit) = match time.as_nanos() {
        0..1_000 => (nanos, "ns"),
        1_000..1_000_000 => (nanos / 1e3, "µs"),
        1_000_000..1_000_000_000 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    let digits = if value >= 100.0 || unit == "ns" {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_above_zero() {
        assert_eq!(parse_limit("1ns"), Ok(Duration::from_nanos(1)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_limit("0s"), Err("a time limit must be above zero".to_owned()));
        assert!(parse_limit("5").unwrap_err().contains("write a time like"));
    }

    #[test]
    fn times_have_three_digits() {
        for (nanos, shown) in [
            (0, "0 ns"),
            (456_000, "456 µs"),
            (1_234_567, "1.23 ms"),
            (12_345_678, "12.3 ms"),
            (1_500_000_000, "1.50 s"),
        ] {
            assert_eq!(show(Duration::from_nanos(nanos)), shown);
        }
    }
}
