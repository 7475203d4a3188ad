//! The outcome of a run, as an exit code and a line on stderr.

use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

use crate::signals::Signal;

const ERROR: Style = AnsiColor::Red.on_default().bold();

/// The outcome of a run.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The run succeeded.
    Done,
    /// The run failed, with the reason on one line.
    Failed(String),
    /// A signal ended the run.
    Interrupted(Signal),
}

impl Outcome {
    /// Prints the failure on stderr, if any, and returns the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::Failed(reason) => {
                anstream::eprintln!("{ERROR}error:{ERROR:#} {reason}");
                ExitCode::FAILURE
            }
            Self::Interrupted(signal) => {
                anstream::eprintln!("{ERROR}interrupted{ERROR:#} by {signal}");
                ExitCode::from(signal.exit_code())
            }
        }
    }
}

impl From<&anyhow::Error> for Outcome {
    fn from(error: &anyhow::Error) -> Self {
        Self::Failed(sentence(error))
    }
}

/// Returns an error and its causes on one line, without causes that the text before already contains.
fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if sentence.is_empty() {
            sentence = cause;
        } else if !sentence.contains(&cause) {
            sentence = format!("{sentence}: {cause}");
        }
    }
    sentence
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn each_cause_is_printed_once() {
        let error = anyhow!("refused").context("dialing x: refused").context("starting");
        assert_eq!(sentence(&error), "starting: dialing x: refused");
    }
}
