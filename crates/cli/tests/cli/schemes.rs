//! A wrong scheme is told in less than a second, with the right one: 8 schemes against 8 servers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use farcall_test_support::loopback::refusing_address;
use farcall_test_support::machine;

use crate::support::{Files, command, farcall, serve, serve_http, server, until};

const SCHEMES: [&str; 8] = ["tcp", "tls", "http", "https", "ws", "wss", "connect", "unix"];

/// A server, the schemes that work there, and the hint for all others.
struct Row {
    name: &'static str,
    place: String,
    works: &'static [&'static str],
    hint: &'static str,
}

/// Accepts connections and gives each to `serve`, on threads of the test.
fn raw(serve: fn(std::net::TcpStream)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    place
}

fn web_server() -> String {
    raw(|mut stream| {
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer);
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    })
}

fn ssh_server() -> String {
    raw(|mut stream| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n");
        let _ = stream.read(&mut [0; 4096]);
    })
}

fn silent_server() -> String {
    raw(|mut stream| while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {})
}

fn rows(files: &Files) -> Vec<Row> {
    let local = |port: u16| format!("127.0.0.1:{port}");
    let net = |scheme: &str| {
        let address = serve(server().tls(files.tls()), &format!("{scheme}@127.0.0.1:0"));
        local(address.port().unwrap())
    };
    let row = |name, place, works, hint| Row { name, place, works, hint };
    vec![
        row("tcp", net("tcp"), &["tcp"], "use tcp@"),
        row("tls", net("tls"), &["tls"], "this port speaks TLS: use tls@"),
        row("http", local(serve_http(None)), &["http", "ws", "connect"], "this port speaks HTTP: use http@"),
        row(
            "https",
            local(serve_http(Some(files.tls()))),
            &["https", "wss"],
            "this port speaks HTTPS: use https@",
        ),
        row("web", web_server(), &[], "this port speaks HTTP, and no farcall"),
        row("ssh", ssh_server(), &[], "SSH"),
        row("silent", silent_server(), &[], ""),
        row("closed", refusing_address().to_string(), &[], "refused"),
    ]
}

#[test]
fn wrong_scheme_is_told_with_the_cure() {
    let files = Files::new();
    let socket = format!("unix@{}", files.path("socket"));
    serve(server(), &socket);
    let ca = files.path("cert.pem");
    for row in rows(&files) {
        for scheme in SCHEMES {
            let target = if scheme == "unix" {
                format!("unix@/{}", row.place)
            } else {
                format!("{scheme}@{}", row.place)
            };
            // A port that accepts and says nothing can only be waited for.
            let (patience, limit) = if row.name == "silent" { ("2s", 4) } else { ("30s", 1) };
            let limit = Duration::from_secs(limit);
            let hint = if scheme == "unix" { "No such file" } else { row.hint };
            machine::kept_once(limit, || {
                let start = Instant::now();
                let call = ["call", &target, "Arith.multiply", "a:=6", "b:=7", "--ca", &ca];
                let ran = farcall(&[&call[..], &["--connect-timeout", patience]].concat());
                let took = start.elapsed();
                let case = format!("{scheme} at {}: {took:?} {ran:#?}", row.name);
                if row.works.contains(&scheme) {
                    assert_eq!((ran.code, ran.out.as_str()), (0, "42\n"), "{case}");
                    return Duration::ZERO;
                }
                assert_eq!(ran.code, 3, "{case}");
                // A server that is looked into has 600 ms to answer: late, a command has no hint.
                assert!(ran.err.contains(hint) || took > Duration::from_millis(600), "{case}");
                if ran.err.contains(hint) { took } else { Duration::MAX }
            });
        }
    }
    farcall(&["call", &socket, "Arith.multiply", "a:=6", "b:=7"]).assert_out("42");
}

#[test]
fn port_that_says_nothing_is_told_before_the_time_limit() {
    let target = format!("tcp@{}", silent_server());
    machine::kept_once(Duration::from_secs(1), || {
        let start = Instant::now();
        let mut child =
            command(&["ls", &target, "--connect-timeout", "30s"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let took = start.elapsed();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(line, format!("note: {target} has not answered yet, in no protocol of farcall\n"));
        took
    });
}

#[test]
fn untrusted_certificate_is_named_with_the_cure() {
    let files = Files::new();
    let address = serve(server().tls(files.tls()), "tls@127.0.0.1:0").to_string();
    let mut ran = farcall(&["ls", &address.replace("tls@", "tcp@")]);
    until("the server answers in time", || {
        ran = farcall(&["ls", &address.replace("tls@", "tcp@")]);
        ran.err.contains("this port speaks")
    });
    ran.assert_error(3, &[&format!("this port speaks TLS: use {address} (but its certificate"), "--ca"]);
}
