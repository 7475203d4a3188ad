//! Instructions of a call, kept in a file, and whether they grew.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, ensure};

use crate::callgrind::Counts;

/// The tolerated growth of instructions over the stored counts, in percent.
pub const TOLERANCE: f64 = 2.0;
/// The tolerated growth of allocations a call over the stored counts: an occasional buffer is no growth.
const TOLERATED_ALLOCATIONS: f64 = 0.1;

/// Counts by the name of their session.
pub type Kept = BTreeMap<String, Counts>;

/// Returns a description of what grew and where; empty if nothing did.
#[must_use]
pub fn growth(name: &str, before: &Counts, now: &Counts) -> Option<String> {
    let percent = (now.total / before.total - 1.0) * 100.0;
    let allocations = now.allocations - before.allocations;
    let most = before.total * (1.0 + TOLERANCE / 100.0);
    if now.total <= most && allocations <= TOLERATED_ALLOCATIONS {
        return None;
    }
    let mut message =
        format!("{name} grew: {} instructions a call to {} ({percent:+.1}%)", before.total, now.total);
    if allocations > TOLERATED_ALLOCATIONS {
        let _ = write!(message, ", {} allocations a call to {}", before.allocations, now.allocations);
    }
    let change = |part: &String| {
        let of = |counts: &Counts| counts.parts.get(part).copied().unwrap_or(0.0);
        (of(now) - of(before), part.clone(), of(before), of(now))
    };
    let mut changes: Vec<_> = now.parts.keys().map(change).filter(|change| change.0 >= 1.0).collect();
    changes.sort_by(|one, other| other.0.total_cmp(&one.0));
    for (more, part, before, now) in changes {
        let _ = write!(message, "\n  {part}: {before} to {now} ({more:+})");
    }
    Some(message)
}

/// Returns a description of how far a call is over its budget; `None` if it is not.
#[must_use]
pub fn over_budget(name: &str, budget: u32, now: &Counts) -> Option<String> {
    let over = now.total - f64::from(budget);
    (over > 0.0).then(|| format!("{name} takes {} instructions a call, {over} over its budget", now.total))
}

const HEAD: &str = "\
# What a call of each session takes under callgrind: `cargo run --release -p farcall-instructions`
# compares, and with `-- --update` writes this file. Instructions in all, those of each part, calls of the allocator.
";
const MADE_BY: &str = "# made by ";

/// The text of the file. `made_by` is the compiler, and the profile at the end.
#[must_use]
pub fn written(kept: &Kept, made_by: &str) -> String {
    let mut text = format!("{HEAD}{MADE_BY}{made_by}\n");
    for (name, counts) in kept {
        let _ = writeln!(text, "\n{name}: total = {}", counts.total);
        for (part, count) in &counts.parts {
            let _ = writeln!(text, "{name}: {part} = {count}");
        }
        let _ = writeln!(text, "{name}: allocations = {}", counts.allocations);
    }
    text
}

/// Reads the text of the file. Beside what it keeps, tells whether it was made by the same compiler on the same
/// processor.
///
/// # Errors
///
/// It is something else, or was made with another profile.
pub fn read(text: &str, made_by: &str) -> anyhow::Result<(Kept, bool)> {
    let maker = text.lines().find_map(|line| line.strip_prefix(MADE_BY)).unwrap_or("nobody knows what");
    let profile = |maker: &str| maker.rsplit_once(' ').map(|(_, profile)| profile.to_owned());
    ensure!(
        profile(maker) == profile(made_by),
        "what is kept was made by {maker}; this is {made_by}, and the two cannot be compared"
    );
    if maker != made_by {
        println!(
            "what is kept was made by {maker}; this is {made_by}, and some of the difference may be that"
        );
    }
    Ok((parse(text)?, maker == made_by))
}

fn parse(text: &str) -> anyhow::Result<Kept> {
    let mut kept = Kept::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let parts = line.split_once(": ").and_then(|(name, rest)| Some((name, rest.split_once(" = ")?)));
        let (name, (part, count)) = parts.with_context(|| format!("`{line}` is no count"))?;
        let count: f64 = count.parse().with_context(|| format!("`{line}` is no count"))?;
        let counts = kept.entry(name.to_owned()).or_default();
        match part {
            "total" => counts.total = count,
            "allocations" => counts.allocations = count,
            part => drop(counts.parts.insert(part.to_owned(), count)),
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(client: f64, serde: f64, allocations: f64) -> Counts {
        let parts = [("farcall_client".to_owned(), client), ("serde".to_owned(), serde)];
        Counts { total: client + serde, parts: parts.into(), allocations }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let kept = Kept::from([("mul1".to_owned(), counts(900.0, 100.0, 2.25))]);
        assert_eq!(parse(&written(&kept, "a compiler, profile release")).unwrap(), kept);
    }

    #[test]
    fn budget_holds_whatever_is_kept() {
        let now = counts(900.0, 100.0, 2.0);
        assert_eq!(over_budget("mul1", 1000, &now), None);
        let message = over_budget("mul1", 997, &now).unwrap();
        assert_eq!(message, "mul1 takes 1000 instructions a call, 3 over its budget");
    }

    #[test]
    fn growth_tells_what_grew_and_the_most_first() {
        let message = growth("mul1", &counts(900.0, 100.0, 2.0), &counts(910.0, 150.0, 2.0)).unwrap();
        let lines: Vec<_> = message.lines().collect();
        assert_eq!(lines[0], "mul1 grew: 1000 instructions a call to 1060 (+6.0%)");
        assert_eq!(lines[1..], ["  serde: 100 to 150 (+50)", "  farcall_client: 900 to 910 (+10)"]);
    }

    #[test]
    fn two_percent_are_no_growth_and_an_allocation_is() {
        let before = counts(900.0, 100.0, 2.0);
        assert_eq!(growth("mul1", &before, &counts(920.0, 100.0, 2.0)), None);
        assert!(growth("mul1", &before, &counts(921.0, 100.0, 2.0)).is_some());
        assert!(growth("mul1", &before, &counts(900.0, 100.0, 3.0)).is_some());
    }
}
