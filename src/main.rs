//! The program: hands the command line to [`greenroom::cli`].

fn main() -> std::process::ExitCode {
    greenroom::cli::main()
}
