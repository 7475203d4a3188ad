//! `farcall complete-words`: what could stand at the cursor, as the servers say. The scripts of `farcall completions` call it.
//!
//! It is asked at each press of a key, so it takes at most [`LIMIT`], and is silent about errors.

mod cache;
mod line;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser};
use farcall::protocol::describe::ServiceInfo;
use tokio::time::timeout;

use self::line::{Line, Wanted};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::methods::find;
use crate::output::escape::{lines, word};
use crate::output::print;
use crate::session::{Session, SessionOptions};
use crate::targets::args::TargetArgs;
use crate::targets::context;
use crate::targets::settings::Settings;

/// The time in which servers and registries are asked.
const LIMIT: Duration = Duration::from_millis(200);

/// Prints what could stand at the cursor, for the scripts of `farcall completions`.
#[derive(Debug, Args)]
#[command(hide = true)]
pub(crate) struct CompleteArgs {
    /// Words of the line, the program's name first; the last one is at the cursor.
    #[arg(value_name = "WORD", last = true)]
    words: Vec<String>,
}

/// A target with its connection, as the line has it.
#[derive(Debug, Parser)]
struct TargetLine {
    #[command(flatten)]
    target: TargetArgs,
}

/// A word that could stand at the cursor, and what it means.
type Candidate = (String, String);

/// Completes the command line of `C`.
pub(crate) async fn run<C: Parser>(args: &CompleteArgs) -> Result<ExitCode, Failure> {
    let Some(line) = Line::parse(&C::command(), &args.words) else { return Ok(ExitCode::SUCCESS) };
    // The channels are not kept until the end: nothing is under way that has to be cancelled.
    let found = timeout(LIMIT, candidates(&line, &Environment::default())).await;
    let mut text = String::new();
    for (candidate, meaning) in found.ok().flatten().unwrap_or_default() {
        if candidate.starts_with(&line.current) && is_plain(&candidate) {
            text.push_str(&format!("{candidate}\t{meaning}\n"));
        }
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Returns what could stand at the cursor; `None` if that cannot be found out.
async fn candidates(line: &Line, environment: &Environment) -> Option<Vec<Candidate>> {
    if line.wanted == Wanted::Target {
        let names = context::names().ok()?;
        return Some(names.into_iter().map(|name| (format!("@{name}"), "context".to_owned())).collect());
    }
    let parsed = TargetLine::try_parse_from([&["farcall".to_owned()], &line.target[..]].concat()).ok()?;
    let settings = Settings::resolve(&parsed.target).ok()?;
    // It may ask for a password, which no press of a key should.
    if settings.has_token_command() {
        return None;
    }
    let name = line.method.as_deref().unwrap_or(&line.current);
    if settings.is_registry() && settings.service.is_none() && !name.contains('.') {
        // Elsewhere it would be no part of a method's name.
        if line.wanted != Wanted::Service && !settings.has_services_of_methods() {
            return None;
        }
        let names = services_of_registry(line, &settings).await?;
        let end = if line.wanted == Wanted::Service { "" } else { "." };
        return Some(names.into_iter().map(|name| (format!("{name}{end}"), "service".to_owned())).collect());
    }
    let service = name.rsplit_once('.').map(|(service, _)| service);
    let key = cache::key(&line.target, service.filter(|_| settings.is_registry()));
    let services = match cache::load(&key) {
        Some(services) => services,
        None => {
            let session =
                Session::open(settings, Some(name), SessionOptions::default(), environment).await.ok()?;
            let services = session.services().await.ok()??;
            cache::store(&key, &services);
            services
        }
    };
    Some(of_services(line, &services))
}

/// Returns the names of the services of a registry.
async fn services_of_registry(line: &Line, settings: &Settings) -> Option<Vec<String>> {
    let key = cache::key(&line.target, None);
    if let Some(names) = cache::load(&key) {
        return Some(names);
    }
    let names = crate::commands::registry::service_names(settings).await.ok()?;
    cache::store(&key, &names);
    Some(names)
}

/// Returns what could stand at the cursor, of what a server describes.
fn of_services(line: &Line, services: &[ServiceInfo]) -> Vec<Candidate> {
    let summary = |doc: &str| lines(doc).next().unwrap_or_default();
    let names = services.iter().map(|service| (service.name.clone(), summary(&service.doc)));
    let methods = services.iter().flat_map(|service| {
        let methods = service.methods.iter();
        methods.map(move |method| (format!("{}.{}", service.name, method.name), summary(&method.doc)))
    });
    match line.wanted {
        Wanted::Target => Vec::new(),
        Wanted::Service => names.collect(),
        Wanted::Method => methods.collect(),
        Wanted::ServiceOrMethod => names.chain(methods).collect(),
        Wanted::Argument => {
            let Some(method) = line.method.as_ref().and_then(|method| find(services, method)) else {
                return Vec::new();
            };
            let is_given = |name: &str| {
                line.arguments.iter().any(|word| {
                    let given =
                        word.split_once('=').map(|(given, _)| given.strip_suffix(':').unwrap_or(given));
                    given == Some(name)
                })
            };
            let params = method.params.iter().filter(|param| !is_given(&param.name));
            let params = params.map(|param| {
                let sign = if param.type_name == "String" { "=" } else { ":=" };
                (format!("{}{sign}", param.name), word(&param.type_name))
            });
            params.collect()
        }
    }
}

/// Returns `true` if a shell takes the word as it is: a name of a peer must not become a command.
fn is_plain(candidate: &str) -> bool {
    candidate.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '=' | '@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_shell_would_run_are_left_out() {
        for plain in ["Arith.multiply", "a:=", "note=", "@shop"] {
            assert!(is_plain(plain), "{plain}");
        }
        for other in ["$(reboot)", "a b", "a;b", "`a`", "a\nb", "a'", "a>b"] {
            assert!(!is_plain(other), "{other}");
        }
    }
}
