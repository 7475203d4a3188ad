//! Writes the stubs of tonic and of volo, neither of which needs a schema compiler for it, and tells
//! the program which compiler made it.

use std::process::Command;

fn main() -> anyhow::Result<()> {
    #[cfg(feature = "rivals")]
    stubs()?;
    let compiler = Command::new(std::env::var("RUSTC")?).arg("--version").output()?;
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=COMPILER={}", String::from_utf8_lossy(&compiler.stdout).trim());
    Ok(())
}

#[cfg(feature = "rivals")]
fn stubs() -> anyhow::Result<()> {
    use tonic_build::manual::{Builder, Method, Service};

    let method = |name, route, input, output| {
        let message = |name| format!("crate::peers::tonic::{name}");
        let method = Method::builder().name(name).route_name(route);
        method.input_type(message(input)).output_type(message(output)).codec_path("tonic_prost::ProstCodec")
    };
    let multiply = || method("multiply", "Multiply", "Factors", "Product").build();
    let world = Service::builder()
        .name("World")
        .package("bench")
        .method(multiply())
        .method(method("echo", "Echo", "Data", "Data").build())
        .method(method("count", "Count", "Record", "Count").build())
        .build();
    let items = method("items", "Items", "Data", "Data").server_streaming().build();
    let feeder = Service::builder().name("Feeder").package("bench").method(multiply()).method(items).build();
    Builder::new().compile(&[world, feeder]);

    println!("cargo:rerun-if-changed=schema/world.thrift");
    volo_build::Builder::thrift().add_service("schema/world.thrift").write()?;
    println!("cargo:rerun-if-changed=schema/feeder.proto");
    volo_build::Builder::protobuf()
        .add_service("schema/feeder.proto")
        .include_dirs(vec!["schema".into()])
        .filename("feeder_gen.rs".into())
        .write()?;
    Ok(())
}
