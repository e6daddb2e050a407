//! The real binary, run once.

use std::process::Command;

/// What a command said, and its exit code.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    #[track_caller]
    pub fn expect(self, code: i32) -> Said {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn shows(self, text: &str) -> Said {
        assert!(self.out.contains(text) || self.err.contains(text), "no “{text}” in: {}\n{}", self.out, self.err);
        self
    }
}

/// The binary, with nothing of our environment but where its log goes.
pub fn onrush(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onrush"));
    command.args(args).env_clear().env("RUST_LOG", "error").env("TMPDIR", std::env::temp_dir());
    command
}

pub fn run(args: &[&str]) -> Said {
    said(&mut onrush(args))
}

pub fn said(command: &mut Command) -> Said {
    let output = command.output().expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // A process that aborted has no code.
    Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}
