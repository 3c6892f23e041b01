//! One upgraded connection from the 101 to its end, and its record.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::both_ways::{Ending, Terms, pass};
use super::leaving::Left;
use super::{Granted, handshake, messages, reset};
use crate::activity::Active;
use crate::audit::AuditRecord;
use crate::exchange::Connection;
use crate::generation::Generation;
use crate::respond;

/// How long it may take until the 101 is with the workload: one that does not read it is given up.
const HANDOVER_DEADLINE: Duration = Duration::from_secs(10);

/// A connection that leaves HTTP, with what must live as long as it.
pub(super) struct Pipe {
    pub(super) connection: Arc<Connection>,
    pub(super) idle: Duration,
    pub(super) granted: Granted,
    pub(super) record: AuditRecord,
    /// Of the handler's request that led here.
    pub(super) fetch: Option<AuditRecord>,
    pub(super) _active: Active,
}

impl Pipe {
    /// Passes bytes to the end. The records are written then, and the connection is over.
    pub(super) async fn run(mut self) {
        let ending = self.pass().await;
        let why = match ending {
            Ok(Ending::Done) => None,
            Ok(Ending::Broken(error)) => Some(error.to_string()),
            Ok(Ending::Idle) => Some(format!("nothing passed for {} s", self.idle.as_secs())),
            Ok(Ending::Refused) => {
                Some(String::from("closed: a newer policy does not let this connection go on"))
            }
            Ok(Ending::Stopped(stop)) => {
                respond::note(&stop.failure, &mut self.record);
                Some(stop.to_string())
            }
            Err(error) => Some(format!("the connection was not there to be changed: {error}")),
        };
        for record in self.fetch.iter_mut().chain([&mut self.record]) {
            record.complete = Some(why.is_none());
            if let Some(why) = &why {
                record.set_detail(why);
            }
        }
    }

    async fn pass(&mut self) -> Result<Ending, io::Error> {
        let asked = &self.granted.asked;
        let (workload, upstream) = (asked.workload.clone().left(), self.granted.upstream.clone().left());
        let both = async { tokio::try_join!(workload, upstream) };
        let (mut workload, mut upstream) = timeout(HANDOVER_DEADLINE, both).await??;
        self.connection.activity.leave_http();
        let terms = Terms {
            sent: self.record.request_bytes_counter(),
            received: self.record.response_bytes_counter(),
            idle: self.idle,
            is_websocket: handshake::is_websocket(&asked.protocol),
        };
        if let Some(fetch) = &mut self.fetch {
            fetch.share_request_bytes(Arc::clone(&terms.sent));
            fetch.share_response_bytes(Arc::clone(&terms.received));
        }
        let ending = match &self.granted.judge {
            None => pass(&mut workload, &mut upstream, &terms, self.until_refused()).await,
            // Boxed: most connections have nobody to ask, and shall not have the room for it.
            Some(judge) => {
                let (ends, terms) = ((&mut workload, &mut upstream), (&terms, &**judge));
                Box::pin(messages::pass(ends, terms, self.until_refused())).await
            }
        };
        let has_said_so =
            terms.is_websocket && matches!(ending, Ending::Idle | Ending::Refused | Ending::Stopped(_));
        if !matches!(ending, Ending::Done) && !has_said_so {
            break_off(workload, upstream);
        }
        Ok(ending)
    }

    /// Ends when a policy comes that does not let the connection go on.
    async fn until_refused(&self) {
        let Granted { asked, to, .. } = &self.granted;
        let refuses = |generation: &Generation| !asked.ground.lasts(&generation.policy, (to.0, &to.1));
        self.connection.gate.until(refuses).await;
    }
}

fn break_off(workload: Left, upstream: Left) {
    reset::workload(workload);
    reset::upstream(upstream);
}
