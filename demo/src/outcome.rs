//! How a run ended, told to the shell and to the person.

use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

use crate::signals::Signal;

const ERROR: Style = AnsiColor::Red.on_default().bold();

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// All that was to be done was done, and was right.
    Done,
    /// Something was not, and this is why, on one line.
    Failed(String),
    /// A signal ended it.
    Interrupted(Signal),
}

impl Outcome {
    /// Says on stderr what went wrong, if anything did, and gives the exit code.
    pub(crate) fn tell(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::Failed(why) => {
                anstream::eprintln!("{ERROR}error:{ERROR:#} {why}");
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

/// An error and its causes on one line, without those that the text before them tells already.
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
    fn a_cause_is_told_once() {
        let error = anyhow!("refused").context("dialing x: refused").context("starting");
        assert_eq!(sentence(&error), "starting: dialing x: refused");
    }
}
