//! The program `registry-server`: the farcall registry.

fn main() -> std::process::ExitCode {
    registry_server::run(std::env::args_os())
}
