//! Other programs, run to their end within a time, with no more of their output than a bound.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

/// How much of what a program prints is read, in bytes: a report of ours is a tenth of it.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024;

/// What became of a program.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its exit code; none where a signal ended it.
    pub(super) code: Option<i32>,
    /// What it printed.
    pub(super) stdout: String,
    /// What it complained about.
    pub(super) stderr: String,
}

/// Runs a program to its end; one that takes longer is killed.
///
/// # Errors
/// When it cannot be started, or does not end in time.
pub(super) async fn finish(mut command: Command, deadline: Duration) -> io::Result<Ended> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let run = async {
        let (stdout, stderr) = tokio::join!(text(stdout), text(stderr));
        Ok(Ended { code: child.wait().await?.code(), stdout: stdout?, stderr: stderr? })
    };
    timeout(deadline, run).await.unwrap_or_else(|_| Err(late(deadline)))
}

/// What a pipe gives up to its end. The rest of what is too long is not read, so that its writer is ended by it.
pub(super) async fn text(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The error of what did not end in time.
pub(super) fn late(deadline: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("it did not end within {} s", deadline.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_program_is_heard_to_its_end() {
        let ended = finish(shell("echo out; echo err >&2; exit 3"), Duration::from_secs(20)).await.unwrap();
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(3), "out\n", "err\n"));
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_ended() {
        let error = finish(shell("exec sleep 60"), Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn no_more_than_the_bound_is_read() {
        let ended = finish(shell("yes 2>/dev/null"), Duration::from_secs(20)).await.unwrap();
        assert_eq!(ended.stdout.len() as u64, OUTPUT_BYTES_MAX);
    }
}
