//! `new`: the project that it writes is built, tested and run; what it refuses.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use rustix::process::{Pid, Signal, kill_process};

use crate::registries::registry;
use crate::support::{Files, Ran, command};

/// Runs `farcall new` in a folder.
fn new(folder: &Path, arguments: &[&str]) -> Ran {
    Ran::of(&command(&["new"]).args(arguments).current_dir(folder).output().unwrap())
}

/// Returns the root of the workspace, whose crates a project can use.
fn clone() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A process that is killed if the test does not end it.
struct Process(Child);

impl Process {
    /// Starts a server, and returns the address that it prints.
    fn serve(command: &mut Command) -> (Self, String) {
        let mut process = Self(command.stdout(Stdio::piped()).spawn().unwrap());
        let mut line = String::new();
        BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (process, line.trim().strip_prefix("listening ").unwrap_or_else(|| panic!("{line}")).to_owned())
    }
}

impl Drop for Process {
    /// Closes the race of a failing test with its server.
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn new_project_passes_its_tests_and_serves_with_tls_and_a_registry() {
    // What the workspace was built with is there already: the same lock file, and the same folder.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("projects");
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).unwrap();
    let made = new(&folder, &["tea-shop-2", "--path", clone().to_str().unwrap()]);
    assert_eq!(made.code, 0, "{made:#?}");
    let project = folder.join("tea-shop-2");
    fs::copy(clone().join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_farcall")).parent().unwrap();
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        command.args(arguments).current_dir(&project).env("CARGO_INCREMENTAL", "0");
        command.env("CARGO_TARGET_DIR", programs.parent().unwrap());
        // What cargo says to this test is about this package, and would have dependencies built again that ask for it.
        let about = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
        let about = |name: &OsStr| about.iter().any(|start| name.to_string_lossy().starts_with(start));
        for (name, _) in env::vars_os().filter(|(name, _)| about(name)) {
            command.env_remove(name);
        }
        let ran = Ran::of(&command.output().unwrap());
        assert_eq!(ran.code, 0, "{arguments:?}\n{}\n{}", ran.out, ran.err);
        ran.out
    };
    cargo(&["fmt", "--all", "--check"]);
    // Programs and tests together: dependencies are built once, with the features that tests need.
    cargo(&["build", "--quiet", "--offline", "--all-targets"]);
    let tests = cargo(&["test", "--offline", "--lib", "--tests"]);
    for name in ["callers_wait_as_long", "calls_under_way_are_finished", "example_of_the_file_is_valid"] {
        assert!(tests.contains(name), "{tests}");
    }

    let (files, registry) = (Files::new(), registry());
    fs::write(files.path("tokens"), "ada 0123456789abcdef\n").unwrap();
    fs::write(files.path("token"), "0123456789abcdef\n").unwrap();
    let [certificate, key, tokens] = ["cert.pem", "key.pem", "tokens"].map(|name| files.path(name));
    let settings = format!(
        "listen = 'tls@127.0.0.1:0'\ncertificate = '{certificate}'\nkey = '{key}'\ntokens = '{tokens}'\nregistry = '{registry}'\n"
    );
    fs::write(files.path("config.toml"), settings).unwrap();
    let mut server = Command::new(programs.join("tea-shop-2-server"));
    server.args(["--config", &files.path("config.toml")]).env("TEA_SHOP_2_WORDS", "Welcome");
    let (mut server, address) = Process::serve(&mut server);
    let client = |arguments: &[&str]| {
        let mut command = Command::new(programs.join("tea-shop-2-client"));
        Ran::of(&command.args(["--ca", &certificate]).args(arguments).output().unwrap())
    };

    let token = files.path("token");
    let greeted = client(&["--registry", &registry, "--token-file", &token, "greet", "Ada"]);
    assert!(greeted.code == 0 && greeted.out.starts_with("Welcome, Ada!"), "{greeted:#?}");
    let refused = client(&["--server", &address, "--token-file", &token, "greet", " "]);
    assert!(refused.code == 1 && refused.err.contains("there is no name"), "{refused:#?}");
    let unknown = client(&["--server", &address, "greet", "Ada"]);
    assert!(unknown.code == 1 && unknown.err.contains("token"), "{unknown:#?}");

    kill_process(Pid::from_child(&server.0), Signal::TERM).unwrap();
    assert!(server.0.wait().unwrap().success());
    let gone = client(&["--registry", &registry, "--timeout-ms", "50", "greet", "Ada"]);
    assert!(gone.code == 1 && gone.err.contains("TeaShop2"), "{gone:#?}");
}

#[test]
fn unit_of_a_new_project_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(new(folder.path(), &["tea"]).code, 0);
    let unit = folder.path().join("tea/deploy/tea.service");
    let text = fs::read_to_string(&unit).unwrap();
    let program = "ExecStart=/usr/local/bin/tea-server --config /etc/tea/config.toml\n";
    assert!(text.contains(program), "{text}");
    // A program that is there, since it looks for that as well.
    fs::write(&unit, text.replace("/usr/local/bin/tea-server", env!("CARGO_BIN_EXE_farcall"))).unwrap();
    let verified = Command::new("systemd-analyze").arg("verify").arg(&unit).output();
    match verified {
        Ok(output) => assert!(output.status.success() && output.stderr.is_empty(), "{output:?}"),
        Err(error) => eprintln!("not verified, without systemd-analyze: {error}"),
    }
}

#[test]
fn new_refuses_what_it_would_spoil_and_what_cargo_would_refuse() {
    let folder = tempfile::tempdir().unwrap();
    let new = |arguments: &[&str]| new(folder.path(), arguments);
    new(&["Tea"]).assert_error(2, &["`Tea` cannot be the name of a crate", "upper case", "try `tea`"]);
    new(&["option"]).assert_error(2, &["`Option` cannot be the name of the trait", "--service"]);
    new(&["tea", "--path", "."]).assert_error(2, &["there is no crates/farcall/Cargo.toml in it"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    // A name of a template within a name is not replaced again.
    assert_eq!(new(&["my-service-b", "--git", "https://git.example.com/farcall"]).code, 0);
    let manifest = fs::read_to_string(folder.path().join("my-service-b/Cargo.toml")).unwrap();
    assert!(manifest.contains("my-service-b-api = { path"), "{manifest}");
    assert!(
        manifest.contains(r#"farcall = { git = "https://git.example.com/farcall", features"#),
        "{manifest}"
    );

    fs::create_dir(folder.path().join("tea")).unwrap();
    assert_eq!(new(&["tea"]).code, 0);
    let manifest = fs::read_to_string(folder.path().join("tea/Cargo.toml")).unwrap();
    assert!(
        manifest.contains(&format!("farcall = {{ version = \"{}\"", env!("CARGO_PKG_VERSION"))),
        "{manifest}"
    );
    new(&["tea"]).assert_error(2, &["the folder tea is there, and not empty"]);
}
