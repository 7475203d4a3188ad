//! The services, as a list and as an OpenAPI document.

use std::collections::BTreeSet;

use farcall_http::{Gateway, HttpOptions};
use farcall_protocol::describe::ServiceInfo;
use serde_json::{Value, json};

use crate::world::World;

#[tokio::test]
async fn services_are_listed_as_registered() {
    let world = World::new().await;
    let answer = world.get("/rpc").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let services: Vec<ServiceInfo> = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(services, world.handle.services());
    assert!(answer.body.contains("Multiplies two numbers."));
}

#[tokio::test]
async fn server_without_reserved_methods_lists_no_services() {
    let settings = HttpOptions::default().gateway(Gateway::default());
    let world = World::of(settings, |builder| builder.without_reserved_methods()).await;
    for path in ["/rpc", "/rpc/openapi.json"] {
        let answer = world.get(path).await;
        assert_eq!(answer.status, 404);
        assert_eq!(answer.error().1, "this server is configured not to list its services");
    }
    assert_eq!(world.call("Arith.multiply", &[], "[6,7]").await.body, "42");
}

/// Collects every `$ref` in a document.
fn references<'a>(value: &'a Value, into: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(object) => {
            into.extend(object.get("$ref").and_then(Value::as_str));
            object.values().for_each(|value| references(value, into));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, into)),
        _ => {}
    }
}

#[tokio::test]
async fn openapi_document_describes_every_method_and_resolves_its_references() {
    let gateway = Gateway::default().title("Calculator").version("2.1.0");
    let world = World::with(HttpOptions::default().gateway(gateway)).await;
    let answer = world.get("/rpc/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.1");
    assert_eq!(document["info"], json!({ "title": "Calculator", "version": "2.1.0" }));

    let paths: BTreeSet<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
    let methods = world.handle.services().iter().flat_map(|service| {
        service.methods.iter().map(|method| format!("/rpc/{}.{}", service.name, method.name))
    });
    assert_eq!(paths, methods.collect());
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let operations: Vec<_> = item.as_object().unwrap().keys().collect();
        assert_eq!(operations, ["post"], "{path}");
        let post = &item["post"];
        assert!(ids.insert(post["operationId"].as_str().unwrap()), "{path}");
        let (body, answer) = (&post["requestBody"]["content"], &post["responses"]["200"]["content"]);
        let streams = ["Feed.echo", "Feed.sum", "Feed.first"].iter().any(|name| path.ends_with(name));
        let media_type = if streams { "application/x-ndjson" } else { "application/json" };
        assert!(body[media_type]["schema"].is_object(), "{path}");
        let sends =
            path.contains("/Feed.") && !["Feed.sum", "Feed.first"].iter().any(|name| path.ends_with(name));
        let media_types: &[_] =
            if sends { &["application/x-ndjson", "text/event-stream"] } else { &["application/json"] };
        for media_type in media_types {
            assert!(answer[media_type]["schema"].is_object(), "{path}");
        }
        for (status, response) in post["responses"].as_object().unwrap() {
            assert!(response["$ref"].is_string() || response["description"].is_string(), "{path} {status}");
        }
        assert_eq!(post["responses"]["default"]["$ref"], "#/components/responses/Error", "{path}");
    }
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() >= 4, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn openapi_document_matches_the_methods() {
    let world = World::new().await;
    let document = world.get("/rpc/openapi.json").await.json();
    let post = &document["paths"]["/rpc/Arith.multiply"]["post"];
    assert_eq!((&post["summary"], &post["tags"]), (&json!("Multiplies two numbers."), &json!(["Arith"])));
    let schema = &post["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!((&schema["type"], &schema["required"]), (&json!("object"), &json!(["a", "b"])));
    assert_eq!(schema["properties"]["a"]["type"], "integer");
    assert_eq!(schema["properties"]["a"]["maximum"], i64::MAX);

    // The error's schema names the fields, codes and executions that errors have.
    let error = &document["components"]["schemas"]["Error"]["properties"]["error"];
    let failed = world.call("Arith.divide", &[], "[1,0]").await.json()["error"].clone();
    let known: BTreeSet<_> = error["properties"].as_object().unwrap().keys().collect();
    assert_eq!(known, failed.as_object().unwrap().keys().collect());
    for field in ["code", "execution"] {
        assert!(error["properties"][field]["enum"].as_array().unwrap().contains(&failed[field]), "{field}");
    }
    let response = &document["paths"]["/rpc/Arith.divide"]["post"]["responses"]["422"];
    assert!(
        response["content"]["application/json"]["schema"].to_string().contains("DivideError"),
        "{response}"
    );
}
