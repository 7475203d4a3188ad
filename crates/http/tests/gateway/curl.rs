//! The commands in `docs/CALLING.md`, run with the real curl: each prints the output that is shown below it.

use farcall_http::{Gateway, HttpOptions};
use farcall_server::Tokens;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::PATIENCE;
use crate::world::World;

const CALLING: &str = include_str!("../../../../docs/CALLING.md");
/// The addresses that the document uses: a server open to all callers, and one that requires a token.
const OPEN: &str = "127.0.0.1:7080";
const GUARDED: &str = "127.0.0.1:7081";

/// Runs a shell command and returns its output, without curl's progress.
async fn run(command: &str) -> String {
    let mut shell = Command::new("bash");
    shell.args(["-e", "-u", "-o", "pipefail", "-c", command]).stdin(std::process::Stdio::null());
    // Proxies that this machine is configured to use must not be used for loopback addresses.
    shell.env("NO_PROXY", "127.0.0.1").kill_on_drop(true);
    let output = timeout(PATIENCE, shell.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the commands of the document, each with its output.
fn commands() -> Vec<(&'static str, String)> {
    let blocks = CALLING.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let command = |text: &'static str| {
        let (command, printed) = text.split_once('\n').unwrap();
        (command, printed.trim_end().to_owned())
    };
    blocks.flat_map(|block| block.split("$ ").skip(1)).map(command).collect()
}

#[tokio::test]
async fn shortest_command_prints_the_product() {
    let world = World::new().await;
    let command = format!(r#"curl -d '{{"a":6,"b":7}}' http://{}/rpc/Arith.multiply"#, world.place);
    assert_eq!(run(&command).await, "42");
}

#[tokio::test]
async fn documented_commands_print_the_documented_output() {
    let settings = || HttpOptions::default().gateway(Gateway::default());
    let open = World::new().await;
    let guarded = World::of(settings(), |builder| {
        builder.authenticate(Tokens::fixed([("web", "q8mXe01rHsZ9")]).unwrap())
    })
    .await;
    let commands = commands();
    assert!(commands.len() >= 12, "{commands:?}");
    for (command, printed) in commands {
        assert!(command.starts_with("curl ") && !printed.is_empty(), "{command}");
        let local = command.replace(OPEN, &open.place).replace(GUARDED, &guarded.place);
        assert_ne!(local, command, "the command uses neither of the documented servers");
        assert_eq!(run(&local).await.trim_end(), printed, "{command}");
    }
}

#[tokio::test]
async fn curl_receives_413_for_an_oversized_body() {
    let world = World::new().await;
    let url = format!("http://{}/rpc/Arith.multiply", world.place);
    for expect in ["-H 'Expect:'", ""] {
        let command = format!(
            "head -c 10000000 /dev/zero | tr '\\0' ' ' | curl -s {expect} --data-binary @- -w ' %{{http_code}}' {url}"
        );
        let printed = run(&command).await;
        assert!(
            printed.contains("over the limit of 4194304 bytes") && printed.ends_with(" 413"),
            "{printed}"
        );
    }
}
