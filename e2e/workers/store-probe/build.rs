//! Leaves the functions' names out of the wasm: they are a fifth of its size. What wasm-bindgen reads stays.
//! `OI_KEEP_WASM_NAMES=1` keeps them, to see what is large or slow.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=OI_KEEP_WASM_NAMES");
    if std::env::var_os("OI_KEEP_WASM_NAMES").is_none()
        && std::env::var("CARGO_CFG_TARGET_FAMILY").as_deref() == Ok("wasm")
    {
        println!("cargo::rustc-link-arg-cdylib=--strip-all");
        for section in ["__wasm_bindgen_unstable", "target_features", "producers"] {
            println!("cargo::rustc-link-arg-cdylib=--keep-section={section}");
        }
    }
}
