//! Links the bootable image with its own linker script, on the machine's target only.

fn main() {
    println!("cargo:rerun-if-changed=kernel.ld");
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let dir = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
        println!("cargo:rustc-link-arg=-T{dir}/kernel.ld");
        println!("cargo:rustc-link-arg=--build-id=none");
    }
}
