//! [`Failure`]: the end of a command with an error, as it is shown on standard error.

use std::io::Write as _;
use std::process::ExitCode;

use farcall::client::Phase;
use farcall::protocol::{EscapedText, Execution};
use farcall::{Code, RpcError};

use crate::exit;
use crate::output::escape;
use crate::output::json::line;
use crate::value::Value;

/// The reason why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: u8,
    /// A sentence; `None` if there is nothing to say.
    message: Option<String>,
    /// Further facts, such as the method and the endpoint.
    fields: Vec<(&'static str, String)>,
    /// The next thing to do.
    hint: Option<String>,
}

impl Failure {
    fn new(exit: u8, message: impl Into<String>) -> Self {
        Self { exit, message: Some(message.into()), fields: Vec::new(), hint: None }
    }

    /// Creates the failure of a wrong command line, context or argument.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(exit::USAGE, message)
    }

    /// Creates the failure of something on this machine, such as a file, or of a check.
    pub(crate) fn local(message: impl Into<String>) -> Self {
        Self::new(exit::FAILED, message)
    }

    /// Creates the failure of a call that was not sent, or of a registry that was not reached.
    pub(crate) fn not_sent(message: impl Into<String>) -> Self {
        Self::new(exit::NOT_SENT, message)
    }

    /// Creates the end by Ctrl-C, with the items so far of a streaming call.
    pub(crate) fn interrupted(items: Option<String>) -> Self {
        let failure = Self::new(exit::INTERRUPTED, "interrupted; what was under way is cancelled");
        failure.with_items(items)
    }

    /// Creates the end of a command whose output has no reader any more.
    pub(crate) const fn silent() -> Self {
        Self { exit: exit::FAILED, message: None, fields: Vec::new(), hint: None }
    }

    /// Creates the failure of a call. `is_idempotent` says if the method may be called twice whatever happened.
    pub(crate) fn of_call(error: &RpcError, is_idempotent: bool) -> Self {
        let mut failure = Self::new(exit_code(error), EscapedText(error.message()).to_string());
        let mut field = |name, value: String| failure.fields.push((name, value));
        field("code", error.code().to_string());
        field("execution", error.execution().to_string());
        field("may be repeated", repeatable(error, is_idempotent).to_owned());
        if let Some(method) = error.method() {
            field("method", escape::word(method));
        }
        if let Some(endpoint) = error.endpoint() {
            field("endpoint", endpoint.to_string());
        }
        field("phase", phase(error.phase()).to_owned());
        if error.attempts() > 1 {
            let tried: Vec<_> = error.tried_endpoints().iter().map(ToString::to_string).collect();
            field("attempts", format!("{} {}", error.attempts(), tried.join(", ")).trim_end().to_owned());
        }
        if let Some(Ok(details)) = error.details::<Value>() {
            field("details", line(&details).trim_end().to_owned());
        }
        failure
    }

    /// Returns `true` if the command line, a context or an argument is wrong.
    pub(crate) const fn is_usage(&self) -> bool {
        self.exit == exit::USAGE
    }

    /// Returns the failure of arguments that are wrong, and were not sent, in the form of [`error_value`].
    pub(crate) fn value_of_arguments(&self) -> Value {
        Value::object([
            ("code", Value::text(Code::InvalidArgument.name())),
            ("message", Value::text(self.message.clone().unwrap_or_default())),
            ("execution", Value::text(Execution::NotSent.name())),
            ("may_be_repeated", Value::Bool(true)),
            ("phase", Value::text(phase(Phase::Prepare))),
            ("details", Value::Null),
        ])
    }

    /// Sets what to do about it.
    pub(crate) fn with_hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into().or(self.hint);
        self
    }

    /// Adds something that is known.
    pub(crate) fn with_field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Adds the items so far of a streaming call.
    pub(crate) fn with_items(self, items: Option<String>) -> Self {
        match items {
            Some(items) => self.with_field("items", items),
            None => self,
        }
    }

    /// Writes the failure to standard error, and returns the exit code.
    pub(crate) fn print(&self) -> ExitCode {
        let (red, cyan) =
            (anstyle::AnsiColor::Red.on_default().bold(), anstyle::AnsiColor::Cyan.on_default());
        let Some(message) = &self.message else { return ExitCode::from(self.exit) };
        let mut text = format!("{red}error{red:#}: {message}\n");
        let width = self.fields.iter().map(|(name, _)| name.len() + 1).max().unwrap_or_default();
        for (name, value) in &self.fields {
            text.push_str(&format!("  {:<width$} {value}\n", format!("{name}:")));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("{cyan}hint{cyan:#}: {hint}\n"));
        }
        // If standard error is gone, the exit code has to do.
        let _ = anstream::stderr().write_all(text.as_bytes());
        ExitCode::from(self.exit)
    }
}

/// Returns the exit code for an error of a call.
pub(crate) fn exit_code(error: &RpcError) -> u8 {
    match error.execution() {
        Execution::NotSent => exit::NOT_SENT,
        _ => exit::of_code(error.code()),
    }
}

/// Returns an error of a call as JSON, in the form of the JSON gateway's.
pub(crate) fn error_value(error: &RpcError, is_idempotent: bool) -> Value {
    let mut fields = vec![
        ("code", Value::text(error.code().name())),
        ("message", Value::text(error.message())),
        ("execution", Value::text(error.execution().name())),
        ("may_be_repeated", Value::Bool(repeatable(error, is_idempotent) == "yes")),
    ];
    if let Some(endpoint) = error.endpoint() {
        fields.push(("endpoint", Value::text(endpoint.to_string())));
    }
    fields.push(("phase", Value::text(phase(error.phase()))));
    fields.push(("details", error.details().and_then(Result::ok).unwrap_or(Value::Null)));
    Value::object(fields)
}

/// Returns `yes` if the call may be made again without doing its work twice.
fn repeatable(error: &RpcError, is_idempotent: bool) -> &'static str {
    let unstarted = matches!(error.execution(), Execution::NotSent | Execution::Refused);
    if unstarted || is_idempotent { "yes" } else { "no" }
}

/// Returns the name of a phase.
pub(crate) const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Prepare => "prepare",
        Phase::Pick => "pick",
        Phase::Resolve => "resolve",
        Phase::Connect => "connect",
        Phase::Handshake => "handshake",
        Phase::Queue => "queue",
        Phase::Write => "write",
        Phase::Wait => "wait",
        Phase::Answer => "answer",
        _ => "unknown",
    }
}
