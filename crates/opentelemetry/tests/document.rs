//! The program in `docs/OBSERVING.md` equals the example in this crate's documentation, which runs.

#[test]
fn page_shows_the_program_of_the_crate_documentation() {
    let page = include_str!("../../../docs/OBSERVING.md");
    let program = include_str!("../src/lib.rs");
    let (_, block) = page.split_once("```rust,ignore\nlet provider").expect("the page sets up a provider");
    let (block, _) = block.split_once("```").expect("the block ends");
    let block = format!("let provider{block}");
    assert!(block.lines().count() > 8, "{block}");
    for line in block.lines() {
        // An application exports in batches, and uses the facade.
        let line = line
            .replace("with_batch_exporter(exporter)", "with_simple_exporter(exporter.clone())")
            .replace("farcall::opentelemetry::install", "farcall_opentelemetry::install");
        assert!(program.contains(&format!("//! {line}\n")), "the program has no line {line:?}");
    }
}
