//! The `sluicegate` command.

use std::process::ExitCode;

use sluicegate::cli::Cli;
use sluicegate::{exit, telemetry};

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap, and not to us.
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    telemetry::start();
    ExitCode::from(cli.execute())
}
