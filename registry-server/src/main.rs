//! The farcall registry: which instances of a service are up.

fn main() -> std::process::ExitCode {
    registry_server::run(std::env::args_os())
}
