//! [`Assertions`]: conditions on the figures of a run, such as `p99<5ms,errors=0`.

use std::str::FromStr;

use super::report::Report;
use crate::time;

/// Conditions that must all hold.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Assertions(Vec<Condition>);

#[derive(Clone, Debug, PartialEq)]
struct Condition {
    text: String,
    figure: String,
    comparison: Comparison,
    /// Seconds for latencies, a number for others.
    bound: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    Equal,
    AtLeast,
    More,
}

/// The comparisons; those of two characters first.
const COMPARISONS: [(&str, Comparison); 5] = [
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("<", Comparison::Less),
    (">", Comparison::More),
    ("=", Comparison::Equal),
];

impl Assertions {
    /// Returns what does not hold, with the figure that was found.
    pub(super) fn failures(&self, report: &Report) -> Vec<String> {
        let fails = |condition: &&Condition| {
            !report.figure(&condition.figure).is_some_and(|found| condition.holds(found))
        };
        let failed = self.0.iter().filter(fails);
        failed
            .map(|condition| format!("{} (it was {})", condition.text, report.shown(&condition.figure)))
            .collect()
    }
}

impl Condition {
    fn holds(&self, found: f64) -> bool {
        match self.comparison {
            Comparison::Less => found < self.bound,
            Comparison::AtMost => found <= self.bound,
            Comparison::Equal => (found - self.bound).abs() < f64::EPSILON,
            Comparison::AtLeast => found >= self.bound,
            Comparison::More => found > self.bound,
        }
    }
}

impl FromStr for Assertions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(|condition| condition.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let split =
            COMPARISONS.iter().find_map(|(sign, comparison)| Some((text.split_once(sign)?, *comparison)));
        let ((figure, bound), comparison) = split.ok_or("write a condition like p99<5ms or errors=0")?;
        let (figure, bound) = (figure.trim().to_owned(), bound.trim());
        let bound = match figure.as_str() {
            "errors" | "rate" | "items" | "bytes" => {
                bound.parse().map_err(|_| format!("`{bound}` is no number"))?
            }
            name if Report::LATENCIES.iter().any(|(known, _)| *known == name)
                || matches!(name, "max" | "mean" | "first-p50" | "first-p99" | "first-max") =>
            {
                time::parse(bound)?.as_secs_f64()
            }
            other => {
                return Err(format!(
                    "there is no figure `{other}`: p50, p90, p99, p99.9, p99.99, max, mean, errors, rate, items, bytes, first-p50, first-p99, first-max"
                ));
            }
        };
        Ok(Self { text: text.to_owned(), figure, comparison, bound })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_have_a_figure_a_comparison_and_a_bound() {
        let Assertions(parsed) = "p99<5ms, errors=0,rate>=900".parse().unwrap();
        let found: Vec<_> =
            parsed.iter().map(|one| (one.figure.as_str(), one.comparison, one.bound)).collect();
        let expected = [
            ("p99", Comparison::Less, 0.005),
            ("errors", Comparison::Equal, 0.0),
            ("rate", Comparison::AtLeast, 900.0),
        ];
        assert_eq!(found, expected);
        for wrong in ["", "p99", "p98<5ms", "p99<5", "errors=no", "p99<5ms,"] {
            assert!(wrong.parse::<Assertions>().is_err(), "{wrong}");
        }
    }
}
