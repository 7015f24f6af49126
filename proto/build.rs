//! Generates the messages and services, without a `protoc` binary.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FILES: [&str; 4] =
        ["proto/raft.proto", "proto/cluster.proto", "proto/admin.proto", "proto/backup.proto"];
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["proto"])?;
    // Shared bytes, so that an entry is not copied again on its way from the wire.
    tonic_prost_build::configure().bytes(".").emit_rerun_if_changed(false).compile_fds(descriptors)?;
    Ok(())
}
