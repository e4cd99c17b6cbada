//! The migrations are compiled in: a new file there means a new binary.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
