//! Runs the real binary.

use std::process::Command;

/// Output and exit code of a command.
pub struct CommandOutput {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl CommandOutput {
    #[track_caller]
    pub fn expect_code(self, code: i32) -> CommandOutput {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn assert_shows(self, text: &str) -> CommandOutput {
        assert!(self.out.contains(text) || self.err.contains(text), "no “{text}” in: {}\n{}", self.out, self.err);
        self
    }
}

/// A command of the binary with an empty environment, except for the log level and the temporary folder.
pub fn onrush(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onrush"));
    command.args(args).env_clear().env("RUST_LOG", "error").env("TMPDIR", std::env::temp_dir());
    command
}

pub fn run(args: &[&str]) -> CommandOutput {
    run_command(&mut onrush(args))
}

pub fn run_command(command: &mut Command) -> CommandOutput {
    let output = command.output().expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // A process that a signal ended has no exit code.
    CommandOutput { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}
