//! Servers, calls and time that are made up: what each balancer does with them, as Markdown tables.
//!
//! ```sh
//! cargo run -p farcall-discovery --example simulate
//! ```
//!
//! Time is virtual and chance is seeded: each run prints the same. `docs/BALANCING.md` shows it.

mod keys;
mod run;
mod subsets;
mod tables;
mod zones;

fn main() {
    print!("{}", tables::all().join("\n"));
}

#[test]
fn the_documentation_shows_what_the_simulation_prints() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/BALANCING.md");
    let documentation = std::fs::read_to_string(path).unwrap();
    for table in tables::all() {
        assert!(documentation.contains(&table), "docs/BALANCING.md lacks this table:\n\n{table}");
    }
}
