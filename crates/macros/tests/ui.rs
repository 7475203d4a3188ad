//! Error messages for traits that cannot be services.
//!
//! `TRYBUILD=overwrite cargo test -p farcall-macros --test ui` updates the expected messages; review them from
//! the point of view of a user who made the mistake.

#[test]
fn each_mistake_is_reported_at_its_location_with_a_correction() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

#[test]
#[ignore = "the messages are those of rustc 1.95, and differ in other versions"]
fn missing_traits_are_reported_at_the_type() {
    trybuild::TestCases::new().compile_fail("tests/ui/rustc/*.rs");
}
