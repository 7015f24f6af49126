//! `justrun` as tests take it to break it: the same program, and it follows a file of faults. A binary of its own, so that it
//! is never taken for the one that is shipped.

#[path = "../main.rs"]
mod justrun;

fn main() -> std::process::ExitCode {
    justrun::main()
}
