//! The commands of the chapters, in one shell after the other, print what the chapters say.
//!
//! The programs are those that the workspace has built, so the commands that build the project are left out. With
//! `TUTORIAL_FROM_SCRATCH=FOLDER` nothing is: the project is made in that folder, files and all, with the ports of the pages,
//! as a reader does it. That takes minutes, and ports 7001, 7002, 7080 and 7100.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::project::{Block, blocks, chapters, package};

/// The time limit of one command.
const LIMIT: Duration = Duration::from_secs(120);
/// The time limit of one command that may build programs.
const BUILD_LIMIT: Duration = Duration::from_secs(900);
/// The environment variable with the folder in which the project is made as a reader does it.
const FROM_SCRATCH: &str = "TUTORIAL_FROM_SCRATCH";
/// The end of a command's output.
const END: &str = "=== end of output";
const HOST: &str = "127.0.0.1:";

/// A shell, and the addresses that its processes have in place of those that the pages write.
struct Shell {
    child: Child,
    input: ChildStdin,
    output: Receiver<String>,
    addresses: HashMap<String, String>,
    from_scratch: bool,
}

impl Shell {
    /// Starts a shell that finds the programs of the workspace.
    fn new(folder: &Path) -> Self {
        // `farcall` and `registry-server` are built by a test of the workspace, or by `cargo build`.
        let programs = Path::new(env!("CARGO_BIN_EXE_buy")).parent().unwrap();
        for program in ["farcall", "registry-server"] {
            assert!(
                programs.join(program).exists(),
                "no {program}: run `cargo build -p farcall-cli -p farcall-registry-server`"
            );
        }
        Self::start(Command::new("bash").current_dir(folder), programs, false)
    }

    /// Starts a shell next to a clone of the repository. It installs programs into the folder.
    fn from_scratch(folder: &Path) -> Self {
        let clone = folder.join("farcall");
        if !clone.exists() {
            std::os::unix::fs::symlink(package().parent().unwrap(), clone).unwrap();
        }
        let installed = folder.join("installed");
        let mut command = Command::new("bash");
        command.current_dir(folder).env("CARGO_INSTALL_ROOT", &installed);
        // What cargo tells a test is not for the cargo that the reader runs.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG")) {
            command.env_remove(name);
        }
        command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_TARGET_DIR").env_remove("CARGO");
        Self::start(&mut command, &installed.join("bin"), true)
    }

    fn start(command: &mut Command, programs: &Path, from_scratch: bool) -> Self {
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let mut child = command
            .env("PATH", path)
            .env_remove("RUST_LOG")
            .env_remove("RUST_BACKTRACE")
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
        Self { child, input, output, addresses: HashMap::new(), from_scratch }
    }

    /// Runs a block of commands that print nothing that matters.
    fn run(&mut self, commands: &[&str]) {
        let commands = commands.join("\n");
        let output = if self.from_scratch { ">&2" } else { ">/dev/null 2>&1" };
        writeln!(self.input, "{{ set -e\n{commands}\nset +e; }} {output}; echo \"{END}\"").unwrap();
        while self.line(&commands) != END {}
    }

    /// Runs a command, and compares what it prints.
    fn check(&mut self, command: &str, expected: &[&str]) {
        let in_background = command.ends_with('&');
        let actual = self.with_addresses(command, in_background);
        // What is printed beside the output, such as a log, would fill the reader's terminal too.
        let redirected = match actual.strip_suffix('&') {
            Some(program) if program.contains(" 2>") => format!("{program}&"), // the page writes it into a file
            Some(program) => format!("{program} 2>&1 &"),
            None => format!("{{ {actual}; }} 2>&1"),
        };
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
        let limit = if self.from_scratch { BUILD_LIMIT } else { LIMIT };
        self.output.recv_timeout(limit).unwrap_or_else(|error| panic!("$ {command}\n{error}"))
    }

    /// Replaces the addresses of a page. Those that a new server is to have are assigned by the system.
    fn with_addresses(&mut self, command: &str, new: bool) -> String {
        let mut text = command.to_owned();
        for port in ports(command) {
            let written = format!("{HOST}{port}");
            match self.addresses.get(&written) {
                Some(actual) => text = text.replace(&written, actual),
                None if self.from_scratch => {}
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
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (text, expected) = (words(&text), words(&expected.join("\n")));
        if expected.contains("...") {
            // What is left out may be anything, and the rest comes in this order.
            let found = expected
                .split("...")
                .map(str::trim)
                .try_fold(text.as_str(), |rest, part| rest.find(part).map(|at| &rest[at + part.len()..]));
            assert!(found.is_some() && !text.is_empty(), "{told}");
        } else {
            assert_eq!(text, expected, "{told}");
        }
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
fn commands_are_for_zsh_and_other_systems_too() {
    for (name, chapter) in chapters(&package()) {
        for block in blocks(&chapter) {
            let commands = block.lines.iter().filter(|line| match block.language {
                "sh" => true,
                "console" => line.starts_with("$ "),
                _ => false,
            });
            for command in commands {
                // At its prompt, zsh looks up what follows `!` in its history, and takes `#` for an argument.
                let after = command.split('!').skip(1);
                assert!(
                    after.map(|rest| rest.chars().next()).all(|c| c.is_none_or(char::is_whitespace)),
                    "{name}: {command}"
                );
                assert!(!command.contains(" #"), "{name}: {command}");
                // `jobs -p` of zsh prints more than process ids; macOS has no `timeout`.
                for word in ["jobs -p", "timeout "] {
                    assert!(!command.contains(word), "{name}: {command}");
                }
            }
        }
    }
}

#[test]
fn commands_of_the_chapters_print_what_these_say() {
    let folder = tempfile::tempdir().unwrap();
    let from_scratch = std::env::var_os(FROM_SCRATCH).map(PathBuf::from);
    let mut shell = from_scratch.as_deref().map_or_else(|| Shell::new(folder.path()), Shell::from_scratch);
    let mut commands = 0;
    for (name, chapter) in chapters(&package()) {
        if from_scratch.is_none() && ["README.md", "01", "02", "03"].iter().any(|page| name.starts_with(page))
        {
            continue; // their programs have their ports in their code
        }
        for block in blocks(&chapter) {
            let begin = Instant::now();
            if let (Some(folder), Some(file), "rust") = (&from_scratch, block.file(), block.language) {
                let file = folder.join("tea-shop").join(file);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, block.text()).unwrap();
            }
            commands += shell.follow(&block);
            if from_scratch.is_some() && ["sh", "console"].contains(&block.language) {
                let took = begin.elapsed().as_secs_f64();
                eprintln!("=== {name}: {} ({took:.1} s)", block.lines.join("; "));
            }
        }
    }
    assert!(commands >= 20, "{commands}");
}

impl Shell {
    /// Runs the commands of a block, and returns how many of them were compared with the page.
    fn follow(&mut self, block: &Block<'_>) -> usize {
        match block.language {
            "sh" => {
                let builds =
                    |line: &&&str| ["cargo ", "cp ", "export PATH"].iter().any(|b| line.starts_with(b));
                let lines: Vec<_> =
                    block.lines.iter().filter(|line| self.from_scratch || !builds(line)).copied().collect();
                self.run(&lines);
                0
            }
            "console" => self.transcript(&block.lines),
            _ => 0,
        }
    }

    /// Runs commands, and compares what they print.
    fn transcript(&mut self, lines: &[&str]) -> usize {
        let starts = lines.iter().enumerate().filter(|(_, line)| line.starts_with("$ "));
        let mut starts: Vec<_> = starts.map(|(n, _)| n).collect();
        starts.push(lines.len());
        for pair in starts.windows(2) {
            let command = lines[pair[0]].trim_start_matches("$ ");
            self.check(command, &lines[pair[0] + 1..pair[1]]);
            if command.starts_with("registry-server") && !self.from_scratch {
                let url = format!("http://{}/registry", self.addresses["127.0.0.1:7100"]);
                self.run(&[&format!("export SHOP_REGISTRY={url}")]);
            }
        }
        starts.len() - 1
    }
}
