//! The commands of the chapters, in one shell after the other, print what the chapters say.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::{blocks, chapters};

/// The time limit of one command.
const LIMIT: Duration = Duration::from_secs(120);
/// The end of a command's output.
const END: &str = "=== end of output";
const HOST: &str = "127.0.0.1:";

/// A shell, and the addresses that its processes have in place of those that the pages write.
struct Shell {
    child: Child,
    input: ChildStdin,
    output: Receiver<String>,
    addresses: HashMap<String, String>,
}

impl Shell {
    fn new(folder: &Path) -> Self {
        // `farcall` and `registry-server` are built by a test of the workspace, or by `cargo build`.
        let programs = Path::new(env!("CARGO_BIN_EXE_buy")).parent().unwrap();
        for program in ["farcall", "registry-server"] {
            assert!(
                programs.join(program).exists(),
                "no {program}: run `cargo build -p farcall-cli -p farcall-registry-server`"
            );
        }
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let mut child = Command::new("bash")
            .current_dir(folder)
            .env("PATH", path)
            .env("RUST_LOG", "off")
            .env_remove("SHOP_AUTHORITY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let (lines, output) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        Self { child, input, output, addresses: HashMap::new() }
    }

    /// Runs a block of commands that print nothing that matters.
    fn run(&mut self, commands: &[&str]) {
        let commands = commands.join("\n");
        writeln!(self.input, "{{ set -e; {commands}\nset +e; }} >/dev/null 2>&1; echo \"{END}\"").unwrap();
        while self.line(&commands) != END {}
    }

    /// Runs a command, and compares what it prints.
    fn check(&mut self, command: &str, expected: &[&str]) {
        let in_background = command.ends_with('&');
        let actual = self.with_addresses(command, in_background);
        let redirected = if in_background { actual } else { format!("{{ {actual}; }} 2>&1") };
        // The output may lack its last newline.
        writeln!(self.input, "{redirected}\nprintf '\\n{END}\\n'").unwrap();
        let mut printed = Vec::new();
        let mut ended = false;
        // A server goes on; it has printed its addresses when it can be called.
        while !ended || (in_background && printed.len() < expected.len()) {
            match self.line(command) {
                line if line == END => ended = true,
                // A terminal shows what the shell tells of its jobs in another way.
                line if line.is_empty() || line.starts_with("bash: line") => {}
                line => printed.push(line),
            }
        }
        self.compare(command, expected, &printed);
    }

    fn line(&self, command: &str) -> String {
        self.output.recv_timeout(LIMIT).unwrap_or_else(|error| panic!("$ {command}\n{error}"))
    }

    /// Replaces the addresses of a page. Those that a new server is to have are assigned by the system.
    fn with_addresses(&mut self, command: &str, new: bool) -> String {
        let mut text = command.to_owned();
        for port in ports(command) {
            let written = format!("{HOST}{port}");
            match self.addresses.get(&written) {
                Some(actual) => text = text.replace(&written, actual),
                None if new => text = text.replace(&written, &format!("{HOST}0")),
                None => panic!("$ {command}\nno server has printed {written}"),
            }
        }
        text
    }

    fn compare(&mut self, command: &str, expected: &[&str], printed: &[String]) {
        for (expected, printed) in expected.iter().zip(printed) {
            for (written, actual) in ports(expected).iter().zip(ports(printed)) {
                self.addresses.insert(format!("{HOST}{written}"), format!("{HOST}{actual}"));
            }
        }
        let mut text = printed.join("\n");
        for (written, actual) in &self.addresses {
            text = text.replace(actual, written);
        }
        let told = format!("$ {command}\nprinted\n{text}\ninstead of\n{}", expected.join("\n"));
        if let [elided] = expected
            && elided.contains("...")
        {
            assert!(elided.split("...").all(|part| text.contains(part)) && !text.is_empty(), "{told}");
            return;
        }
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&text), words(&expected.join("\n")), "{told}");
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(writeln!(self.input, "kill -KILL $(jobs -p); exit"));
        drop(self.child.wait());
    }
}

/// Returns the ports of a text that are not 0.
fn ports(text: &str) -> Vec<String> {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    text.split(HOST).skip(1).map(digits).filter(|port| port != "0").collect()
}

#[test]
fn commands_of_the_chapters_print_what_these_say() {
    let folder = tempfile::tempdir().unwrap();
    let mut shell = Shell::new(folder.path());
    let mut commands = 0;
    for (name, chapter) in chapters() {
        if name == "README.md" {
            continue; // it makes the package
        }
        for block in all_blocks(&chapter) {
            match block {
                Block::Commands(lines) => shell.run(&lines),
                Block::Transcript(lines) => {
                    let starts = lines.iter().enumerate().filter(|(_, line)| line.starts_with("$ "));
                    let mut starts: Vec<_> = starts.map(|(n, _)| n).collect();
                    starts.push(lines.len());
                    for pair in starts.windows(2) {
                        let command = lines[pair[0]].trim_start_matches("$ ");
                        shell.check(command, &lines[pair[0] + 1..pair[1]]);
                        if command.starts_with("registry-server") {
                            let url = format!("http://{}/registry", shell.addresses["127.0.0.1:7100"]);
                            shell.run(&[&format!("export SHOP_REGISTRY={url}")]);
                        }
                        commands += 1;
                    }
                }
            }
        }
    }
    assert!(commands >= 20, "{commands}");
}

enum Block<'a> {
    Commands(Vec<&'a str>),
    Transcript(Vec<&'a str>),
}

/// Returns the blocks with commands, in their order.
fn all_blocks(chapter: &str) -> Vec<Block<'_>> {
    let commands = blocks(chapter, "sh").into_iter().map(Block::Commands);
    // A chapter prepares its files first.
    commands.chain(blocks(chapter, "console").into_iter().map(Block::Transcript)).collect()
}
