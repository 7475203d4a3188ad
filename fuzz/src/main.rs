//! libFuzzer's entry: runs the target that `FARCALL_FUZZ_TARGET` names. `fuzz --list` prints their names instead, and
//! `fuzz --inputs FOLDER` writes the inputs to begin with, so that `scripts/fuzz` builds one program only.

#![no_main]

use std::path::Path;
use std::sync::OnceLock;
use std::{env, process};

use farcall_fuzz_targets::replay::write_inputs;
use farcall_fuzz_targets::{TARGETS, Target, find};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<&Target> = OnceLock::new();

fn prepare() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments == ["--list"] {
        TARGETS.iter().for_each(|target| println!("{}", target.name));
        process::exit(0);
    }
    let name = env::var("FARCALL_FUZZ_TARGET").expect("FARCALL_FUZZ_TARGET names a target");
    let target = find(&name).expect("FARCALL_FUZZ_TARGET is the name of a target");
    if let [option, folder] = &arguments[..]
        && option == "--inputs"
    {
        write_inputs(target, Path::new(folder)).expect("the folder takes files");
        process::exit(0);
    }
    TARGET.set(target).expect("this runs once");
}

fuzz_target!(init: prepare(), |data: &[u8]| {
    (TARGET.get().expect("it was set").run)(data);
});
