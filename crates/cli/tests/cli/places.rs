//! Targets in Consul, ZooKeeper and Kubernetes: with stand-ins, and with the system's ZooKeeper.

use crate::registries::Running;
use crate::support::{Files, arith, background, command, farcall, until};

#[path = "../../../consul/tests/consul/agent.rs"]
#[allow(dead_code, reason = "the tests of farcall-consul need more of it")]
mod agent;
#[path = "../../../kubernetes/tests/kubernetes/api_server.rs"]
#[allow(dead_code, reason = "the tests of farcall-kubernetes need more of it")]
mod api_server;
#[path = "../../../farcall/tests/sources/zookeeper_server.rs"]
#[allow(dead_code, reason = "the tests of the sources need more of it")]
mod zookeeper_server;

/// Starts a stand-in for Consul's agent, and one for Kubernetes's API server, which know a server as `Arith` and `arith`.
pub(crate) fn stand_ins(server: &str) -> (agent::Agent, api_server::ApiServer) {
    let (agent, api) = (background(agent::Agent::start), background(api_server::ApiServer::start));
    let port: u16 = server.rsplit_once(':').unwrap().1.parse().unwrap();
    agent.put(serde_json::json!({"ID": "a", "Name": "Arith", "Address": "127.0.0.1", "Port": port, "Tags": [], "Meta": {},
        "Weights": {"Passing": 100, "Warning": 1}}));
    let mut slice = api_server::slice("arith", "arith-1", port, &["127.0.0.1"]);
    let ports = slice["ports"].as_array_mut().unwrap();
    ports.push(serde_json::json!({"name": "metrics", "port": 9, "protocol": "TCP"}));
    api.put("shop", &slice);
    (agent, api)
}

/// Returns the address of the system's ZooKeeper.
pub(crate) fn zookeeper() -> String {
    background(zookeeper_server::address).to_string()
}

/// Uses a server that is found as `service` at the place, whose address is `server`.
fn work(place: &str, service: &str, server: &str) {
    let (target, address) = (format!("{place}#{service}"), format!("tcp@{server}"));
    let services = farcall(&["ls", place, "-o", "ndjson"]);
    let name = service.split(':').next().unwrap();
    assert!(services.out.contains(&format!(r#""name":"{name}""#)), "{services:#?}");
    for list in [&["ls", &target][..], &["ls", place, service], &["ls", place, "--service", service]] {
        let ran = farcall(list);
        assert!(ran.code == 0 && ran.out.contains("Arith.multiply(a: i64, b: i64)"), "{list:?}: {ran:#?}");
    }
    let described = farcall(&["describe", &target, "Arith.multiply"]);
    assert!(described.out.contains("Multiplies two numbers."), "{described:#?}");
    farcall(&["call", &target, "Arith.multiply", "a:=6", "b:=7"]).assert_out("42");
    farcall(&["health", &target]).assert_out(&format!("ENDPOINT STATUS {address} serving"));
    let doctor = farcall(&["doctor", &target]);
    assert!(doctor.code == 0 && doctor.out.contains("services"), "{doctor:#?}");
    let bench =
        farcall(&["bench", &target, "Arith.multiply", "a:=6", "b:=7", "--closed", "2", "--calls", "50"]);
    assert!(bench.code == 0 && bench.out.contains("50 calls in"), "{bench:#?}");
    let top = farcall(&["top", &target, "--once", "--json", "--interval", "50ms"]);
    assert!(top.code == 0 && top.out.contains(&address), "{top:#?}");
    let instances = farcall(&["registry", "ls", place, service]);
    assert!(instances.code == 0 && instances.out.contains(&format!("{address}  up")), "{instances:#?}");
    let drain = farcall(&["registry", "drain", place, service, &address]);
    drain.assert_error(2, &["this command does not change what", "hint:"]);
    let missing = farcall(&["registry", "ls", &format!("{place}#other")]);
    assert!(missing.code == 0 && !missing.out.contains(&address), "{missing:#?}");
    let files = Files::new();
    std::fs::write(files.path("contexts.toml"), format!("[shop]\ntarget = \"{target}\"\n")).unwrap();
    let mut by_context = command(&["complete-words", "--", "farcall", "call", "@shop", "Arith.m"]);
    by_context
        .env("FARCALL_CONTEXTS", files.path("contexts.toml"))
        .env("XDG_CACHE_HOME", files.path("cache"));
    let is_completed = || {
        let output = by_context.output().unwrap();
        String::from_utf8(output.stdout).unwrap().starts_with("Arith.multiply\t")
    };
    // On a busy machine, the 200 ms for an answer may be over before it is there.
    let is_completed = std::cell::RefCell::new(is_completed);
    until("the method is completed", || is_completed.borrow_mut()());
}

/// Registers a server by the command, uses it, and watches it go.
fn register_and_work(place: &str, service: &str) {
    let server = arith();
    let registered = Running::start(&["registry", "register", place, service, &server, "--weight", "7"]);
    until("it is registered", || farcall(&["registry", "ls", place, service]).out.contains(&server));
    work(place, service, &server);
    let mut watch = Running::start(&["registry", "watch", place, service]);
    watch.assert_line(&format!("new      tcp@{server} up weight 7"));
    registered.interrupt();
    watch.assert_line(&format!("gone     tcp@{server}"));
    watch.interrupt();
}

#[test]
fn servers_are_found_in_consul() {
    let agent = background(agent::Agent::start);
    let place = format!("consul://{}", agent.address);
    register_and_work(&place, "Arith");

    agent.require_token("secret");
    let refused = farcall(&["registry", "ls", &place]);
    refused.assert_error(3, &["the token is missing, wrong, or has no permission"]);
    let files = Files::new();
    std::fs::write(files.path("token"), "secret\n").unwrap();
    let ran = farcall(&["registry", "ls", &place, "--registry-token-file", &files.path("token")]);
    assert_eq!(ran.code, 0, "{ran:#?}");
}

#[test]
fn servers_of_others_in_consul_may_have_a_scheme() {
    let agent = background(agent::Agent::start);
    let service = r#"{"ID": "a", "Name": "other", "Address": "127.0.0.1", "Port": 7, "Tags": [], "Meta": {},
        "Weights": {"Passing": 3, "Warning": 1}}"#;
    agent.put(serde_json::from_str(service).unwrap());
    let place = format!("consul://{}", agent.address);
    for (service, address) in [("other", "tcp@127.0.0.1:7"), ("tls@other", "tls@127.0.0.1:7")] {
        let ran = farcall(&["registry", "ls", &place, service]);
        ran.assert_out(&format!("ADDRESS STATE WEIGHT ZONE VERSION {address} up 3 - -"));
    }
    farcall(&["registry", "ls", &place, "unix@other"])
        .assert_error(2, &["`unix` is no scheme of services in Consul"]);
}

#[test]
fn servers_are_found_in_zookeeper() {
    let address = zookeeper();
    register_and_work(&format!("zookeeper://{address}/blue/v1"), "Arith");
    let empty = farcall(&["registry", "ls", &format!("zookeeper://{address}/nothing-here")]);
    empty.assert_out("");
}

#[test]
fn nodes_of_a_user_of_zookeeper_are_registered_with_its_password() {
    let (address, server, files) = (zookeeper(), arith(), Files::new());
    let place = format!("zookeeper://{address}/of-a-user");
    std::fs::write(files.path("user"), "me:a password\n").unwrap();
    let with_user = ["--registry-token-file", &files.path("user")];
    let register = [&["registry", "register", &place, "Arith", &server], &with_user[..]].concat();
    let registered = Running::start(&register);
    until("it is registered", || farcall(&["registry", "ls", &place, "Arith"]).out.contains(&server));
    registered.interrupt();
    std::fs::write(files.path("user"), "me\n").unwrap();
    farcall(&register).assert_error(2, &["its first line is not `name:password`"]);
}

#[test]
fn servers_are_found_in_kubernetes() {
    let server = arith();
    let (_, api) = stand_ins(&server);
    let place = format!("kubernetes+http://{}/shop", api.address);
    work(&place, "arith:rpc", &server);

    let mut watch = Running::start(&["registry", "watch", &place, "arith:rpc"]);
    watch.assert_line(&format!("new      tcp@{server} up weight 100"));
    api.delete("shop", "arith-1");
    watch.assert_line(&format!("gone     tcp@{server}"));
    watch.interrupt();

    // The service of the method is none of Kubernetes.
    let unnamed = farcall(&["call", &place, "Arith.multiply", "a:=6", "b:=7"]);
    unnamed.assert_error(2, &["which one?", "#Service"]);
    farcall(&["call", &format!("{place}#Arith"), "Arith.multiply"])
        .assert_error(2, &["`Arith` is no service"]);
    let register = farcall(&["registry", "register", &place, "arith", &server]);
    register.assert_error(2, &["servers do not register in Kubernetes"]);
    farcall(&["ls", "kubernetes:///shop"])
        .assert_error(2, &["KUBERNETES_SERVICE_HOST", "kubernetes://host:6443"]);
    api.require_token("secret");
    farcall(&["ls", &place]).assert_error(3, &["status 401", "the token is missing, wrong or expired"]);
}

#[test]
fn place_that_is_not_there_is_told() {
    for (place, part) in [
        ("consul://127.0.0.1:1", "Connection refused"),
        ("zookeeper://127.0.0.1:1", "127.0.0.1:1: no connection"),
        ("kubernetes+http://127.0.0.1:1/shop", "Connection refused"),
    ] {
        farcall(&["ls", place]).assert_error(3, &[part]);
        let call = farcall(&["call", &format!("{place}#arith"), "Arith.multiply", "a:=6", "b:=7"]);
        call.assert_error(3, &["code: unavailable execution: not_sent", part]);
    }
    for (target, part) in [
        ("consul://", "is no URL of a Consul agent"),
        ("zookeeper://", "is no server of ZooKeeper"),
        ("kubernetes://a:6443/Shop", "`Shop` is no namespace"),
        ("k8s://a:6443", "write http://host:port/registry, etcd://, consul://"),
    ] {
        farcall(&["ls", target]).assert_error(2, &[part]);
    }
}
