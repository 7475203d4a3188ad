//! Tokens, `Host`, `Origin`; and hostile bytes, which change nothing.

use farcall_registry::server::{OpenError, OptionsError, Registry, RegistryOptions, Tokens};

use crate::support::start;

const READING: [&str; 8] = [
    "GET /registry",
    "HEAD /registry",
    "GET /v1/services",
    "GET /v1/services/A/instances",
    "GET /v1/services/A/instances/i",
    "GET /v1/watch",
    "GET /v1/status",
    "GET /metrics",
];
const WRITING: [&str; 6] = [
    "POST /registry",
    "PUT /v1/services/A/instances/i",
    "POST /v1/services/A/instances/i/heartbeat",
    "POST /v1/heartbeats",
    "PATCH /v1/services/A/instances/i",
    "DELETE /v1/services/A/instances/i",
];

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

#[tokio::test]
async fn every_route_requires_its_token() {
    let running =
        start(RegistryOptions::default().tokens(Tokens::default().read("the-reader").write("the-writer")))
            .await;
    for request in READING.into_iter().chain(WRITING) {
        for headers in [
            vec![],
            vec!["Authorization: Basic dzp3"],
            vec!["Authorization: Bearer x"],
            vec!["Authorization: the-writer"],
        ] {
            let answer = running.send(request, &headers, "").await;
            assert_eq!(answer.status, 401, "{request} {headers:?}");
            assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"));
            assert!(
                request.starts_with("HEAD") || answer.error().to_lowercase().contains("token"),
                "{answer:?}"
            );
        }
    }
    for request in WRITING {
        let answer = running.send(request, &[&bearer("the-reader")], "").await;
        assert_eq!(answer.status, 403, "{request}");
        assert!(answer.error().contains("reading only"));
    }
    let reader = bearer("the-reader");
    for request in READING.into_iter().filter(|request| !request.ends_with("watch")) {
        for token in [&reader, &bearer("the-writer")] {
            let status = running.send(request, &[token], "").await.status;
            assert!(status == 200 || (status == 404 && request.ends_with("/i")), "{request} {status}");
        }
    }
    for path in ["/healthz", "/"] {
        assert_eq!(running.get(path).await.status, 200, "{path}");
    }
    assert_eq!(running.get("/readyz").await.status, 503);
    let body = r#"{"addr":"10.0.0.1:1"}"#;
    assert_eq!(
        running.send("PUT /v1/services/A/instances/i", &[&bearer("the-writer")], body).await.status,
        200
    );
}

#[tokio::test]
async fn service_token_writes_to_its_service_only_and_cannot_override() {
    let tokens = Tokens::default().read("the-reader").write("the-writer").service("the-server", ["A"]);
    let running = start(RegistryOptions::default().tokens(tokens)).await;
    let token = bearer("the-server");
    let body = r#"{"addr":"10.0.0.1:1"}"#;
    for (request, body, status) in [
        ("PUT /v1/services/A/instances/i", body, 200),
        ("POST /v1/services/A/instances/i/heartbeat", "", 200),
        ("GET /v1/services/B/instances", "", 200),
        ("PATCH /v1/services/A/instances/i", r#"{"drain":true}"#, 403),
        ("PUT /v1/services/B/instances/i", body, 403),
        ("DELETE /v1/services/B/instances/i", "", 403),
        ("POST /v1/services/B/instances/i/heartbeat", "", 403),
        ("POST /registry", r#"{"addr":"10.0.0.1:1"}"#, 403),
        ("POST /registry", r#"{"service":"A","addr":"10.0.0.1:1"}"#, 200),
        ("POST /v1/heartbeats", r#"{"instances":[{"service":"A","id":"i"},{"service":"B","id":"i"}]}"#, 403),
        ("POST /v1/heartbeats", r#"{"instances":[{"service":"A","id":"i"}]}"#, 200),
        ("DELETE /v1/services/A/instances/i", "", 204),
    ] {
        let answer = running.send(request, &[&token], body).await;
        assert_eq!(answer.status, status, "{request} {body} {answer:?}");
    }
    assert_eq!(running.registry.list("B"), []);
}

#[tokio::test]
async fn tokens_can_be_replaced_at_run_time() {
    let running = start(RegistryOptions::default().tokens(Tokens::default().read("old-token"))).await;
    assert_eq!(running.send("GET /registry", &[&bearer("old-token")], "").await.status, 200);
    running.registry.set_tokens(Tokens::default().read("new-token")).unwrap();
    // One that can be guessed is refused, and changes nothing.
    let error = running.registry.set_tokens(Tokens::default().read("x")).unwrap_err();
    assert!(error.to_string().contains("8 characters"), "{error}");
    assert_eq!(running.send("GET /registry", &[&bearer("old-token")], "").await.status, 401);
    assert_eq!(running.send("GET /registry", &[&bearer("new-token")], "").await.status, 200);
}

#[tokio::test]
async fn registry_with_a_short_token_does_not_start() {
    for tokens in [
        Tokens::default().read("1234567"),
        Tokens::default().write("x").read("the-reader"),
        Tokens::default().service("x", ["A"]),
    ] {
        let error = Registry::open(RegistryOptions::default().tokens(tokens)).await.unwrap_err();
        assert!(matches!(error, OpenError::Options(OptionsError::ShortToken { min: 8 })), "{error}");
    }
    Registry::open(RegistryOptions::default().tokens(Tokens::default().read("12345678"))).await.unwrap();
}

#[tokio::test]
async fn forms_of_foreign_pages_are_refused_without_origin_too() {
    let running = start(RegistryOptions::default()).await;
    let own = format!("Referer: http://{}/", running.address);
    let post = "POST /registry";
    for (headers, status) in [
        (&["Sec-Fetch-Site: cross-site"][..], 403),
        (&["Sec-Fetch-Site: same-site"], 403),
        (&["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"], 403),
        (&["Referer: http://evil.example/form"], 403),
        (&["Sec-Fetch-Site: same-origin", &own], 200),
        (&["Sec-Fetch-Site: none"], 200),
        (&[&own], 200),
        (&[], 200),
    ] {
        let headers = [&["X-Farcall-Server: 10.0.0.1:7001", "Content-Type: text/plain"], headers].concat();
        assert_eq!(running.send(post, &headers, "").await.status, status, "{headers:?}");
    }
    let link = ["Referer: http://evil.example/", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"];
    assert_eq!(running.send("GET /", &link, "").await.status, 200);
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused() {
    let running = start(RegistryOptions::default().allowed_host("registry.example.com")).await;
    let port = running.address.port();
    let request = |line: &str, head: &str| format!("{line} HTTP/1.1\r\nConnection: close\r\n{head}\r\n\r\n");
    for (host, ours) in [
        (format!("localhost:{port}"), true),
        (format!("127.0.0.1:{port}"), true),
        ("registry.example.com".to_owned(), true),
        (format!("evil.example:{port}"), false),
        ("localhost.evil.example".to_owned(), false),
    ] {
        for path in ["/registry", "/healthz", "/", "/nowhere"] {
            let answer = running
                .send_bytes(request(&format!("GET {path}"), &format!("Host: {host}")).as_bytes())
                .await;
            assert_eq!(answer.status == 403, !ours, "{host} {path} {answer:?}");
            assert!(ours || answer.error().contains(&host));
        }
    }
    for (origin, ours) in [
        (format!("http://127.0.0.1:{port}"), true),
        (format!("http://localhost:{port}"), false),
        ("http://evil.example".to_owned(), false),
        ("null".to_owned(), false),
    ] {
        for line in [
            "GET /registry",
            "POST /registry",
            "OPTIONS /registry",
            "GET /",
            "GET /healthz",
            "GET /v1/status",
        ] {
            let answer = running.send(line, &[&format!("Origin: {origin}")], "").await;
            assert_eq!(answer.status == 403, !ours, "{line} {origin} {answer:?}");
            assert!(answer.header("access-control-allow-origin").is_none());
        }
    }
    let none = running.send_bytes(b"GET /registry HTTP/1.0\r\n\r\n").await;
    assert!(none.status == 403 && none.error().contains("Host"), "{none:?}");
    let two = request("GET /registry", "Host: localhost\r\nHost: evil.example");
    assert_eq!(running.send_bytes(two.as_bytes()).await.status, 400);
}

#[tokio::test]
async fn too_large_bodies_are_refused_with_413() {
    let running = start(RegistryOptions::default()).await;
    let megabyte = "x".repeat(1 << 20);
    for request in ["POST /registry", "PUT /v1/services/A/instances/i", "PATCH /v1/services/A/instances/i"] {
        let answer = running.send(request, &[], &megabyte).await;
        assert_eq!(answer.status, 413, "{request}");
        assert!(answer.error().contains("65536 bytes"), "{}", answer.error());
    }
    let answer = running.send("POST /v1/heartbeats", &[], &megabyte.repeat(5)).await;
    assert!(answer.status == 413 && answer.error().contains("4194304"), "{answer:?}");
    // Also in chunks, without a length.
    let head = format!(
        "POST /registry HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
        running.address
    );
    let chunked = format!("{head}{:x}\r\n{megabyte}\r\n0\r\n\r\n", megabyte.len());
    assert_eq!(running.send_bytes(chunked.as_bytes()).await.status, 413);
    assert_eq!(running.registry.counts().instances, 0);
}

#[tokio::test]
async fn hostile_headers_change_nothing() {
    let running = start(RegistryOptions::default()).await;
    let host = running.address;
    let post = |head: &[u8]| {
        let begin =
            format!("POST /registry HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n");
        [begin.as_bytes(), head, b"\r\n\r\n"].concat()
    };
    for (head, status) in [
        (&b"X-Farcall-Server: 10.0.0.1:1\x00"[..], 400),
        (b"X-Farcall-Server: 10.0.0.1:1\x01", 400),
        (b"X-Farcall-Server: 10.0.0.1:1\x7f", 400),
        (b"X-Farcall-Server: 10.0.0.1:1\rX: y", 400),
        (b"X-Farcall-Server: \xff\xfe:1", 400),
        (b"X-Farcall-Server: <b>bold</b>:1", 400),
        (b"X-Farcall-Server: 10.0.0.1:1 ,", 400),
        // A line break ends the header: the rest is another one, which is unknown.
        (b"X-Farcall-Server: 10.0.0.1\r\nX-Other: :1", 400),
    ] {
        let answer = running.send_bytes(&post(head)).await;
        assert_eq!(answer.status, status, "{} {answer:?}", String::from_utf8_lossy(head));
    }
    let megabyte = [b"X-Farcall-Server: ".as_slice(), &vec![b'a'; 1 << 20]].concat();
    assert_eq!(running.send_bytes(&post(&megabyte)).await.status, 431);
    let long = format!(
        "GET /registry?service={} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n",
        "a".repeat(9000)
    );
    let answer = running.send_bytes(long.as_bytes()).await;
    assert!(answer.status == 414 && answer.error().contains("8192"), "{answer:?}");
    assert_eq!(running.registry.counts().instances, 0);
    assert_eq!(running.get("/registry").await.header("x-farcall-rev"), Some("0"));
}

#[tokio::test]
async fn unknown_paths_and_methods_are_json_errors() {
    let running = start(RegistryOptions::default()).await;
    for path in ["/nowhere", "/v1", "/v1/services/A", "/registry/", "/v1/services//instances", "//registry"] {
        let answer = running.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.error().contains(path), "{}", answer.error());
    }
    for request in ["POST /v1/services", "DELETE /healthz", "PUT /", "GET /v1/heartbeats", "TRACE /metrics"] {
        let answer = running.send(request, &[], "").await;
        assert_eq!(answer.status, 405, "{request}");
        assert!(answer.error().ends_with("; the header `Allow` says what is"), "{}", answer.error());
        assert!(answer.error().contains("not allowed") && answer.header("allow").is_some());
    }
    // Neither the method nor the path is repeated as long as it may be.
    let answer = running.send(&format!("{} /{}", "M".repeat(5000), "p".repeat(5000)), &[], "").await;
    assert!(answer.status == 404 && answer.error().len() < 400, "{answer:?}");
}

#[tokio::test]
async fn byte_order_mark_is_named() {
    let running = start(RegistryOptions::default()).await;
    for (request, body) in [
        ("PUT /v1/services/A/instances/a", "\u{feff}{\"addr\":\"10.0.0.1:1\"}"),
        ("POST /v1/heartbeats", "\u{feff}{\"instances\":[]}"),
    ] {
        let answer = running.send(request, &[], body).await;
        assert!(answer.status == 400 && answer.error().contains("byte order mark"), "{answer:?}");
    }
}
