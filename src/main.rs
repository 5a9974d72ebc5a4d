//! The `gr2` binary: everything is in the library.

fn main() -> std::process::ExitCode {
    gr2::cli::main()
}
