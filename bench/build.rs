//! Writes the stubs of tonic and of volo-thrift, neither of which needs a schema compiler for it, and tells
//! the program which compiler made it.

use std::process::Command;

use tonic_build::manual::{Builder, Method, Service};

fn main() -> anyhow::Result<()> {
    let method = |name, route, input, output| {
        let message = |name| format!("crate::peers::tonic::{name}");
        let method = Method::builder().name(name).route_name(route);
        method
            .input_type(message(input))
            .output_type(message(output))
            .codec_path("tonic_prost::ProstCodec")
            .build()
    };
    let service = Service::builder()
        .name("World")
        .package("bench")
        .method(method("multiply", "Multiply", "Factors", "Product"))
        .method(method("echo", "Echo", "Data", "Data"))
        .build();
    Builder::new().compile(&[service]);

    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=schema/world.thrift");
    volo_build::Builder::thrift().add_service("schema/world.thrift").write()?;

    let compiler = Command::new(std::env::var("RUSTC")?).arg("--version").output()?;
    println!("cargo:rustc-env=COMPILER={}", String::from_utf8_lossy(&compiler.stdout).trim());
    Ok(())
}
