//! Requests of web pages, as a browser sends them.

use farcall_http::{Gateway, HttpOptions};

use crate::world::World;

const BODY: &str = r#"{"a":6,"b":7}"#;

async fn world() -> World {
    let settings = HttpOptions::default()
        .gateway(Gateway::default())
        .allowed_host("calc.example.com")
        .allowed_origin("https://app.example.com");
    World::with(settings).await
}

#[tokio::test]
async fn foreign_page_cannot_call_with_requests_that_need_no_preflight() {
    let world = world().await;
    for origin in
        ["http://evil.example", "https://app.example.com.evil.example", "https://app.example.com:444", "null"]
    {
        for content_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/json",
            "",
        ] {
            let headers = [&*format!("Origin: {origin}"), &format!("Content-Type: {content_type}")];
            let answer = world.call("Arith.multiply", &headers, BODY).await;
            let (code, message) = answer.error();
            assert_eq!((answer.status, code.as_str()), (403, "permission_denied"), "{origin} {content_type}");
            assert!(message.contains(origin), "{message}");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    assert_eq!(world.multiplied(), 0);
}

#[tokio::test]
async fn page_that_rebinds_its_host_name_cannot_call() {
    let world = world().await;
    for (host, origin) in [
        ("evil.example", Some("http://evil.example")),
        ("evil.example", None),
        ("calc.example.com.evil.example", None),
    ] {
        let mut headers = vec![format!("Host: {host}")];
        headers.extend(origin.map(|origin| format!("Origin: {origin}")));
        let headers: Vec<_> = headers.iter().map(String::as_str).collect();
        for line in ["POST /rpc/Arith.multiply", "GET /rpc", "GET /rpc/openapi.json"] {
            let answer = world.ask(line, &headers, BODY).await;
            assert_eq!(
                (answer.status, answer.error().0.as_str()),
                (403, "permission_denied"),
                "{host} {line}"
            );
        }
    }
    assert_eq!(world.multiplied(), 0);
    let answer = world.call("Arith.multiply", &["Host: calc.example.com"], BODY).await;
    assert_eq!(answer.body, "42");
}

#[tokio::test]
async fn preflight_of_a_foreign_page_is_refused() {
    let world = world().await;
    let headers = ["Origin: http://evil.example", "Access-Control-Request-Method: POST"];
    let answer = world.ask("OPTIONS /rpc/Arith.multiply", &headers, "").await;
    assert_eq!(answer.status, 403);
    assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control-")), "{answer:?}");
}

#[tokio::test]
async fn page_of_an_allowed_origin_can_use_the_whole_gateway() {
    let world = world().await;
    let origin = "Origin: https://app.example.com";
    let preflight = [
        origin,
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: authorization,content-type,farcall-meta-tenant,farcall-timeout-ms",
    ];
    for path in ["/rpc", "/rpc/openapi.json", "/rpc/Arith.multiply"] {
        let answer = world.ask(&format!("OPTIONS {path}"), &preflight, "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.com"));
        assert_eq!(answer.header("access-control-allow-methods"), Some("GET,POST"));
        assert_eq!(
            answer.header("access-control-allow-headers"),
            Some("authorization,content-type,farcall-meta-tenant,farcall-timeout-ms")
        );
        assert_eq!(answer.header("access-control-max-age"), Some("600"));
        // Scripts set the token in a header; cookies and other credentials of the browser are not used.
        assert_eq!(answer.header("access-control-allow-credentials"), None);
    }
    for (body, status) in [(BODY, 200), ("no JSON", 400)] {
        let answer = world.call("Arith.multiply", &[origin, "farcall-meta-tenant: blue"], body).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.com"));
        assert_eq!(answer.header("access-control-expose-headers"), Some("*"));
        assert!(answer.headers.get_all("vary").iter().any(|vary| vary.to_str().unwrap().contains("origin")));
    }
    assert_eq!(world.multiplied(), 1);
}

#[tokio::test]
async fn page_of_the_same_origin_can_call() {
    let world = world().await;
    let origin = format!("Origin: http://{}", world.place);
    assert_eq!(world.call("Arith.multiply", &[&origin], BODY).await.body, "42");
}
