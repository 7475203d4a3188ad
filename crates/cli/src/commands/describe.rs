//! `farcall describe`: what a server says of a method or a service.

use std::process::ExitCode;

use clap::Args;
use farcall::protocol::describe::{MethodInfo, ServiceInfo};
use farcall_schema::Document;

use super::ls::described;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::methods::{find, idempotence, signature, suggestion};
use crate::output::escape::{lines, word};
use crate::output::{Format, print};
use crate::schema;
use crate::session::{Session, SessionOptions};
use crate::targets::args::TargetArgs;
use crate::targets::settings::Settings;
use crate::value::Value;

/// Describes a method: its documentation, its signature, and how to call it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  farcall describe 127.0.0.1:7001 Arith.multiply\n  farcall describe 127.0.0.1:7001 Arith"
)]
pub(crate) struct DescribeArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Method, as in Arith.multiply, or a service.
    #[arg(value_name = "METHOD")]
    name: String,
    /// Format of the description.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

pub(crate) async fn run(args: DescribeArgs, environment: &Environment) -> Result<ExitCode, Failure> {
    let DescribeArgs { target, name, output } = args;
    let mut settings = Settings::resolve(&target)?;
    if settings.has_services_of_methods() && settings.service.is_none() && !name.contains('.') {
        settings.service = Some(name.clone());
    }
    let session = Session::open(settings, Some(&name), SessionOptions::default(), environment).await?;
    let services = described(&session).await?;
    let document = schema::of_server_if_any(&session).await;
    let document = document.as_ref();
    let (value, text) = if let Some(method) = find(&services, &name) {
        (method_value(&name, method, document), method_text(&target.target, &name, method, document))
    } else if let Some(service) = services.iter().find(|service| service.name == name) {
        (Value::of(service), service_text(&target.target, service, document))
    } else {
        let failure = Failure::usage(format!("there is no method or service `{}`", word(&name)));
        return Err(failure.with_hint(suggestion(&services, &name)));
    };
    match output {
        Format::Table => print(&text)?,
        format => format.print(&value)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the description as JSON, with the JSON Schema of the method's types.
fn method_value(name: &str, method: &MethodInfo, document: Option<&Document>) -> Value {
    let mut value = Value::of(method);
    if let (Value::Object(fields), Some(types)) =
        (&mut value, document.and_then(|document| schema::of_method(document, name)))
    {
        fields.push(("schema".to_owned(), Value::of(&types.to_json())));
    }
    value
}

fn service_text(target: &str, service: &ServiceInfo, document: Option<&Document>) -> String {
    let mut text = format!("service {}\n", word(&service.name));
    push_doc(&mut text, &service.doc);
    for method in &service.methods {
        let name = format!("{}.{}", service.name, method.name);
        text.push('\n');
        text.push_str(&method_text(target, &name, method, document));
    }
    text
}

fn method_text(target: &str, name: &str, method: &MethodInfo, document: Option<&Document>) -> String {
    let mut text = format!("{}{}\n", word(name), signature(method));
    push_doc(&mut text, &method.doc);
    let idempotence = idempotence(method);
    if !idempotence.is_empty() {
        text.push_str(&format!("    It is {idempotence}.\n"));
    }
    let streams = &method.streams;
    for (is_there, verb, item) in
        [(streams.takes, "takes", &streams.in_type), (streams.sends, "sends", &streams.out_type)]
    {
        if is_there {
            let item = item.as_ref().map(|item| format!(" of type {}", word(item))).unwrap_or_default();
            text.push_str(&format!("    It {verb} items{item}.\n"));
        }
    }
    for (name, ty) in
        document.and_then(|document| schema::of_method(document, name)).unwrap_or_default().definitions
    {
        text.push_str(&format!("    type {} = {}\n", word(&name), word(&ty.to_string())));
    }
    let arguments = method.params.iter().map(|param| match param.type_name.as_str() {
        "String" => format!(" {}=TEXT", word(&param.name)),
        _ => format!(" {}:=JSON", word(&param.name)),
    });
    let arguments = match document.and_then(|document| schema::example(document, name)) {
        Some(example) => format!(" '{}'", word(&example)),
        None => arguments.collect(),
    };
    let items = if streams.takes { " -" } else { "" };
    text.push_str(&format!("    $ farcall call {target} {}{arguments}{items}\n", word(name)));
    text
}

fn push_doc(text: &mut String, doc: &str) {
    for line in lines(doc) {
        text.push_str(format!("    {line}").trim_end());
        text.push('\n');
    }
}
