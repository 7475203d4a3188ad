//! The output of callgrind: instructions by function, and calls of the allocator.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// Instructions by the part of the program that they belong to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// All of them.
    pub total: f64,
    /// Those of each part.
    pub parts: BTreeMap<String, f64>,
    /// Calls of the allocator for memory.
    pub allocations: f64,
}

/// Settings of glibc by which no copy is a `rep movsb`. For copies of some KiB and more glibc prefers that one instruction,
/// which valgrind counts once for each byte: the copies of `echo64k16` counted eleven times as many as by vectors. Other C
/// libraries ignore it.
const COPIES_BY_VECTORS: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.cpu.x86_rep_movsb_threshold=0x7fffffff:glibc.cpu.x86_rep_stosb_threshold=0x7fffffff",
);

/// Returns `true` if valgrind is installed.
#[must_use]
pub fn is_installed() -> bool {
    let version =
        Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// Runs this program with these arguments, and counts.
///
/// # Errors
///
/// There is no valgrind, or the program failed under it.
pub fn count(args: &[&str]) -> anyhow::Result<Counts> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("callgrind.out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe()?)
        .args(args)
        .env(COPIES_BY_VECTORS.0, COPIES_BY_VECTORS.1)
        .stdin(Stdio::null())
        .output()
        .context("starting valgrind")?;
    ensure!(output.status.success(), "valgrind: {}", String::from_utf8_lossy(&output.stderr));
    parse(&fs::read_to_string(&file).context("reading what callgrind counted")?)
}

/// Reads callgrind's format, in which nothing was compressed.
fn parse(text: &str) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    let (mut part, mut allocates, mut is_of_callee) = ("rest", false, false);
    for line in text.lines() {
        if let Some(function) = line.strip_prefix("fn=") {
            part = part_of(function);
        } else if let Some(function) = line.strip_prefix("cfn=") {
            allocates =
                matches!(function, "malloc" | "calloc" | "realloc" | "posix_memalign" | "aligned_alloc");
        } else if let Some(calls) = line.strip_prefix("calls=") {
            // The next line has what the callee took, which is counted where it is.
            is_of_callee = true;
            if allocates {
                let calls = calls.split(' ').next().unwrap_or_default();
                counts.allocations += calls.parse::<f64>().with_context(|| format!("a count in `{line}`"))?;
            }
        } else if line.starts_with(|first: char| first.is_ascii_digit()) && !std::mem::take(&mut is_of_callee)
        {
            let cost = line.split(' ').nth(1).unwrap_or_default();
            let cost: f64 = cost.parse().with_context(|| format!("a cost in `{line}`"))?;
            counts.total += cost;
            *counts.parts.entry(part.to_owned()).or_default() += cost;
        }
    }
    ensure!(counts.total > 0.0, "callgrind has counted nothing");
    Ok(counts)
}

/// Returns the part that a function belongs to: the first of our crates in its name, if there is one.
fn part_of(function: &str) -> &'static str {
    const OURS: [&str; 6] = [
        "farcall_protocol",
        "farcall_transport",
        "farcall_client",
        "farcall_server",
        "farcall_context",
        "farcall_discovery",
    ];
    const OTHERS: [(&str, &[&str]); 5] = [
        ("this benchmark", &["farcall_instructions"]),
        ("serde", &["serde", "rmp"]),
        ("tokio", &["tokio"]),
        ("allocator", &["malloc", "calloc", "realloc", "free", "_chunk", "__rdl_", "__rust_"]),
        ("copying", &["memcpy", "memmove", "memset", "memcmp", "bcmp"]),
    ];
    let ours = OURS.into_iter().filter_map(|name| Some((function.find(name)?, name))).min();
    let other = || OTHERS.into_iter().find(|(_, names)| names.iter().any(|name| function.contains(name)));
    ours.map(|(_, name)| name).or_else(|| other().map(|(name, _)| name)).unwrap_or("rest")
}

impl Counts {
    /// Returns the difference to other counts, divided by the number of calls.
    #[must_use]
    pub fn over(&self, less: &Self, calls: f64) -> Self {
        let part = |(name, count): (&String, &f64)| {
            let each = (count - less.parts.get(name).unwrap_or(&0.0)) / calls;
            (name.clone(), each.round())
        };
        Self {
            total: ((self.total - less.total) / calls).round(),
            parts: self.parts.iter().map(part).filter(|(_, each)| *each >= 1.0).collect(),
            allocations: ((self.allocations - less.allocations) / calls * 100.0).round() / 100.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "events: Ir\n\nfn=<farcall_client::call::Call<tokio::T> as core::future::Future>::poll\n\
                        10 100\ncfn=malloc\ncalls=3 0\n11 999\n12 20\n\nfn=malloc\n0 60\nfn=main\n1 20\ntotals: 200\n";

    #[test]
    fn a_function_is_charged_with_its_own_instructions_only() {
        let counts = parse(TEXT).unwrap();
        assert_eq!(counts.total, 200.0);
        assert_eq!(counts.allocations, 3.0);
        let parts: Vec<_> = counts.parts.iter().map(|(name, count)| (&**name, *count)).collect();
        assert_eq!(parts, [("allocator", 60.0), ("farcall_client", 120.0), ("rest", 20.0)]);
    }

    #[test]
    fn what_a_session_costs_without_calls_is_no_part_of_a_call() {
        let (less, more) = (parse(TEXT).unwrap(), parse(&TEXT.replace("10 100", "10 600")).unwrap());
        let each = more.over(&less, 5.0);
        assert_eq!((each.total, each.parts["farcall_client"], each.parts.len()), (100.0, 100.0, 1));
    }
}
