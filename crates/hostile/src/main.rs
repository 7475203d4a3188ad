//! `hostile`: attacks farcall's servers while an honest client uses them, and says what that client noticed.
//!
//! For each attack it starts a server of the demo or a registry, and a control server of the same kind that is left in
//! peace. An honest client makes 100 small calls a second to each, first alone, then during the attack. The attacker is
//! another process with one thread. The report has the latencies and errors of the honest client, the server's memory,
//! descriptors and connections, and a verdict.
//!
//! - [`attacks`] has the attacks, a file for each theme, and [`peer`] the raw connections that they are made of;
//! - [`honest`] has the honest client;
//! - [`clients`] turns it round: a hostile server, and clients in Rust, Python and JavaScript;
//! - [`network`] has clients call over a bad network;
//! - [`mutations`] decodes mutated messages in this process;
//! - [`server`] starts servers and reads their figures;
//! - [`attacker`] is the process that attacks, and [`commands`] runs those of the system;
//! - [`repetition`] compares what is left after each run of an attack;
//! - [`trial`] is one attack from start to end, [`verdict`] its judgement, [`report`] the table and the JSON.

use std::process::ExitCode;

mod attacker;
mod attacks;
mod cli;
mod clients;
mod commands;
mod honest;
mod mutations;
mod network;
mod peer;
mod repetition;
mod report;
mod run;
mod server;
mod trial;
mod verdict;

fn main() -> ExitCode {
    run::run()
}
