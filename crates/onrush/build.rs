//! Passes the name of Cargo's profile to the code. Cargo itself passes only `debug` or `release`.

use std::{env, ffi::OsStr, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let out = env::var_os("OUT_DIR").expect("Cargo sets OUT_DIR");
    println!("cargo::rustc-env=ONRUSH_BUILD_PROFILE={}", profile(Path::new(&out)));
}

/// The folder above `build` in `target/<profile>/build/<package>/out`.
fn profile(out: &Path) -> &str {
    let build = out.ancestors().find(|folder| folder.ends_with("build"));
    build.and_then(Path::parent).and_then(Path::file_name).and_then(OsStr::to_str).expect("OUT_DIR is below the folder of a profile")
}
