//! Searches the highest rate at which conditions hold: by doubling, then by halving the interval.

use super::assertion::Assertions;
use super::job::Job;
use super::load::Load;
use super::plan::{Pace, Plan};
use super::report::Report;
use crate::failure::Failure;

/// The relative width of the interval at which the search ends.
const PRECISION: f64 = 0.05;
/// The most steps, each as long as a run.
const MAX_STEPS: usize = 24;
/// The highest rate that is tried.
const MAX_RATE: f64 = 10_000_000.0;

/// Returns the report of the highest rate that was found.
pub(super) async fn highest<J: Job>(
    load: &Load<J>,
    method: &str,
    plan: &Plan,
    conditions: &Assertions,
) -> Result<Report, Failure> {
    let Pace::Open { mut rate, ramp } = plan.pace else {
        return Err(Failure::usage("a rate is searched in an open loop only"));
    };
    let (mut best, mut too_high): (Option<(f64, Report)>, Option<f64>) = (None, None);
    for _ in 0..MAX_STEPS {
        let step = Plan { pace: Pace::Open { rate, ramp }, end: plan.end };
        let measured = load.run(&step).await;
        if measured.was_interrupted {
            return Err(Failure::interrupted(None));
        }
        let report = Report::new(method, &step, &measured);
        let mut failed = conditions.failures(&report);
        if report.check_generator().is_err() {
            failed.push("the generator keeps up".to_owned());
        }
        let verdict = if failed.is_empty() { "holds".to_owned() } else { failed.join(", ") };
        eprintln!("{rate:>10.0}/s  p99 {:>8}  {verdict}", report.shown("p99"));
        if failed.is_empty() {
            best = Some((rate, report));
        } else {
            too_high = Some(rate);
        }
        let low = best.as_ref().map_or(0.0, |(rate, _)| *rate);
        rate = match too_high {
            None if rate < MAX_RATE => rate * 2.0,
            Some(high) if (high - low) / high > PRECISION && high > 1.0 => f64::midpoint(low, high),
            _ => break,
        };
    }
    let (_, report) = best.ok_or_else(|| Failure::local("the conditions hold at no rate that was tried"))?;
    Ok(report)
}
