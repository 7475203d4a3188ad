//! [`Line`]: a command line that is not complete yet, and what is wanted at its cursor.

use clap::{Arg, Command};

/// A command line that is being written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The target, and the flags with their values, as they are written.
    pub(super) target: Vec<String>,
    /// The word behind the target, if the cursor is behind it.
    pub(super) method: Option<String>,
    /// The further words before the cursor.
    pub(super) arguments: Vec<String>,
    /// The word at the cursor, as far as it is written.
    pub(super) current: String,
    pub(super) wanted: Wanted,
}

/// The thing that is wanted at the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Target,
    Service,
    Method,
    ServiceOrMethod,
    Argument,
}

/// The flags that say how a target is connected to; others do not matter here.
const TARGET_FLAGS: [&str; 9] = [
    "service",
    "ca",
    "cert",
    "key",
    "server-name",
    "token-file",
    "token-env",
    "token-command",
    "registry-token-file",
];

impl Line {
    /// Parses the words of a line of `program`. `None` if nothing is wanted that a server knows.
    pub(super) fn parse(program: &Command, words: &[String]) -> Option<Self> {
        let (current, words) = words.split_last()?;
        let (name, words) = words.get(1..)?.split_first()?;
        let command = program.find_subcommand(name)?;
        if current.starts_with('-') && current.len() > 1 {
            return None;
        }
        let (mut positional, mut flags) = (Vec::new(), Vec::new());
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if !word.starts_with('-') || word == "-" {
                positional.push(word.clone());
                continue;
            }
            let (flag, value) = match word.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (&word[..], None),
            };
            let takes_value =
                command.get_arguments().find(|arg| is_named(arg, flag)).is_some_and(takes_value);
            let value = match value {
                None if takes_value => Some(words.next()?.clone()),
                value => value,
            };
            let is_of_target = flag.strip_prefix("--").is_some_and(|flag| TARGET_FLAGS.contains(&flag));
            if let Some(value) = value.filter(|_| is_of_target) {
                flags.extend([flag.to_owned(), value]);
            }
        }
        let wanted = match (name.as_str(), positional.len()) {
            ("ls" | "describe" | "call" | "template" | "bench" | "top" | "health" | "ping" | "doctor", 0) => {
                Wanted::Target
            }
            ("ls", 1) => Wanted::Service,
            ("describe", 1) => Wanted::ServiceOrMethod,
            ("call" | "bench" | "template", 1) => Wanted::Method,
            ("call" | "bench", _) => Wanted::Argument,
            _ => return None,
        };
        let mut positional = positional.into_iter();
        let target = positional.next().into_iter().chain(flags).collect();
        let method = positional.next();
        Some(Self { target, method, arguments: positional.collect(), current: current.clone(), wanted })
    }
}

fn is_named(arg: &Arg, flag: &str) -> bool {
    match flag.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => arg.get_short().is_some_and(|short| flag.strip_prefix('-') == Some(&short.to_string())),
    }
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn parsed(line: &str) -> Option<Line> {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        Line::parse(&Cli::command(), &words)
    }

    #[test]
    fn words_before_the_cursor_say_what_is_wanted_there() {
        for (line, wanted) in [
            ("farcall call ", Some(Wanted::Target)),
            ("farcall call h:1 ", Some(Wanted::Method)),
            ("farcall call h:1 Arith.m", Some(Wanted::Method)),
            ("farcall call --timeout 5s h:1 -v ", Some(Wanted::Method)),
            ("farcall call h:1 A.m ", Some(Wanted::Argument)),
            ("farcall bench h:1 A.m --rate 5 a:=1 ", Some(Wanted::Argument)),
            ("farcall ls h:1 ", Some(Wanted::Service)),
            ("farcall describe h:1 ", Some(Wanted::ServiceOrMethod)),
            ("farcall call h:1 --", None),
            ("farcall call h:1 --timeout ", None),
            ("farcall cal", None),
            ("farcall", None),
            ("farcall registry ls ", None),
        ] {
            assert_eq!(parsed(line).map(|line| line.wanted), wanted, "{line}");
        }
        let line = parsed("farcall call --ca ca.pem h:1 A.m --timeout 5s a:=1 b").unwrap();
        let expected = Line {
            target: ["h:1", "--ca", "ca.pem"].map(str::to_owned).to_vec(),
            method: Some("A.m".to_owned()),
            arguments: vec!["a:=1".to_owned()],
            current: "b".to_owned(),
            wanted: Wanted::Argument,
        };
        assert_eq!(line, expected);
    }
}
