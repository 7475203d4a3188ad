//! libFuzzer's entry: runs the target that `FARCALL_FUZZ_TARGET` names.

#![no_main]

use std::sync::OnceLock;

use farcall_fuzz_targets::{Target, find};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<&Target> = OnceLock::new();

fuzz_target!(init: {
    let name = std::env::var("FARCALL_FUZZ_TARGET").expect("FARCALL_FUZZ_TARGET names a target");
    let target = find(&name).expect("FARCALL_FUZZ_TARGET is the name of a target");
    TARGET.set(target).expect("this runs once");
}, |data: &[u8]| {
    (TARGET.get().expect("it was set").run)(data);
});
