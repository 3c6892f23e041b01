//! Answers the questions of a TCP connection (RFC 7766): each has two bytes of length before it.

use std::time::Duration;

use sluicegate_policy::Transport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::accept::Accepted;
use crate::gate::Gate;

/// The longest question read: one name and EDNS options.
const QUESTION_BYTES_MAX: u16 = 4_096;

/// How long a TCP connection waits for its next question (RFC 7766 section 6.2.3 asks for
/// seconds).
const TCP_IDLE: Duration = Duration::from_secs(10);

/// Questions answered on one TCP connection.
const TCP_QUESTIONS_MAX: usize = 1_000;

/// Serves one connection to port 53, one question after the other.
pub async fn serve_tcp(gate: &Gate, accepted: Accepted) {
    let mut io = accepted.io;
    for _ in 0..TCP_QUESTIONS_MAX {
        let Ok(Ok(length)) = timeout(TCP_IDLE, io.read_u16()).await else { return };
        if length > QUESTION_BYTES_MAX {
            return;
        }
        let mut question = vec![0; usize::from(length)];
        let Ok(Ok(_)) = timeout(TCP_IDLE, io.read_exact(&mut question)).await else { return };
        let generation = gate.generation();
        let Some(reply) = gate.names.answer(&generation.policy, &question, Transport::Tcp) else { return };
        let Some(answer) = reply.bytes(&generation.upstream).await else { return };
        let Ok(length) = u16::try_from(answer.len()) else { return };
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        let Ok(Ok(())) = timeout(TCP_IDLE, io.write_all(&framed)).await else { return };
    }
}
