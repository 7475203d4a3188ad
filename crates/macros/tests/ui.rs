//! What is said of a trait that cannot be a service.
//!
//! `TRYBUILD=overwrite cargo test -p farcall-macros --test ui` writes the messages anew; read them as
//! whoever made the mistake would.

#[test]
fn each_mistake_is_told_where_it_was_made_with_what_to_write_instead() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

#[test]
#[ignore = "the messages are rustc's, here of 1.95, and other versions word them otherwise"]
fn what_a_type_lacks_is_told_at_that_type() {
    trybuild::TestCases::new().compile_fail("tests/ui/rustc/*.rs");
}
