//! The `fourseven` program: parse, call [`fourseven::app`], turn an error into an exit code.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    fourseven::app::main()
}
