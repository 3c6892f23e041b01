//! Values by key in a Redis server, or one that speaks as it does (Valkey, KeyDB, Dragonfly).
//!
//! The `redis` crate speaks the protocol, over a connection that is dialled and verified as every
//! other. OpenDAL's service has no lists, times to live or atomic increments, and dials by itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, Pipeline, RedisConnectionInfo, Value, cmd};
use sluicegate_policy::{Answer, KvOperation};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::AbortHandle;

use super::envelope::milliseconds;
use super::key::Prefix;
use super::location::RedisServer;
use super::reply_room::ReplyRoom;
use super::{Fault, LIST_KEYS_MAX, VALUE_BYTES_MAX};
use crate::causes::in_words;
use crate::secrets::{Secret, Secrets};
use crate::upstream::Upstream;

/// Commands at once; more wait for their turn.
const COMMANDS_MAX: usize = 16;

/// Keys that one step of a scan looks at.
const SCAN_STEP: u32 = 1000;

/// What the longest replies to all commands at once take, in bytes: values and a little around them.
const REPLIES_BYTES_MAX: usize = COMMANDS_MAX * (VALUE_BYTES_MAX + 64 * 1024);

/// A key-value binding in a Redis server.
pub(super) struct Redis {
    server: RedisServer,
    prefix: Prefix,
    upstream: Arc<Upstream>,
    places: Semaphore,
    /// The one for new commands, made at the first; those at work may still hold an older one.
    connection: Mutex<Option<Arc<Connection>>>,
}

/// A connection that is logged in, for many commands at once. It closes when nobody holds it.
struct Connection {
    commands: MultiplexedConnection,
    /// With what it is logged in.
    password: Option<Arc<Secret>>,
    room: ReplyRoom,
    /// The task that reads and writes; it ends when the server goes away.
    driver: AbortHandle,
    /// A command failed, or was given up before its reply, which may never come.
    is_doubtful: AtomicBool,
}

impl Redis {
    pub(super) fn new(server: RedisServer, prefix: Prefix, upstream: Arc<Upstream>) -> Self {
        let (places, connection) = (Semaphore::new(COMMANDS_MAX), Mutex::default());
        Self { server, prefix, upstream, places, connection }
    }

    /// To be dropped when its time is up: the next command then gets a connection of its own.
    pub(super) async fn perform(&self, operation: KvOperation, secrets: &Secrets) -> Result<Answer, Fault> {
        let _place = self.places.acquire().await.map_err(|_| Fault::Failed)?;
        let connection = self.connection(secrets).await?;
        let mut waiting = Waiting { connection: &connection, is_over: false };
        let answer = self.perform_on(&connection, operation).await;
        // Another connection may lead to a server that works, or that is no longer a replica.
        waiting.is_over = !matches!(answer, Err(Fault::Unreachable | Fault::Failed));
        answer
    }

    async fn perform_on(&self, on: &Connection, operation: KvOperation) -> Result<Answer, Fault> {
        match operation {
            KvOperation::Get(key) => on.get(&self.prefix.before(&key)?).await,
            KvOperation::Put { key, value, ttl } => {
                let mut set = cmd("SET");
                set.arg(self.prefix.before(&key)?).arg(&*value);
                if let Some(ttl) = ttl {
                    set.arg("PX").arg(milliseconds(ttl));
                }
                (on.ask::<Value>(&set).await? == Value::Okay).then_some(Answer::Done).ok_or(Fault::Failed)
            }
            KvOperation::Delete(key) => {
                let _deleted: i64 = on.ask(cmd("DEL").arg(self.prefix.before(&key)?)).await?;
                Ok(Answer::Done)
            }
            KvOperation::Increment { key, by, ttl } => {
                let key = self.prefix.before(&key)?;
                on.increment(&key, by, ttl.map(milliseconds)).await.map(Answer::Number)
            }
            KvOperation::List(start) => self.list(on, &start).await.map(Answer::Keys),
        }
    }

    /// The first thousand keys. A scan looks at every key of the database, also of others.
    async fn list(&self, on: &Connection, start: &str) -> Result<Vec<Box<str>>, Fault> {
        let start = self.prefix.before_start(start)?;
        let pattern = format!("{}*", escape(&start));
        let mut cursor = 0;
        let mut found = BTreeSet::new();
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(SCAN_STEP);
            let (next, keys): (u64, Vec<Vec<u8>>) = on.ask(&scan).await?;
            for key in keys {
                // A key that is no text is none of ours.
                found.extend(std::str::from_utf8(&key).ok().and_then(|key| self.prefix.strip(key)));
                if found.len() > LIST_KEYS_MAX {
                    found.pop_last();
                }
            }
            if next == 0 {
                return Ok(found.into_iter().collect());
            }
            cursor = next;
        }
    }

    async fn connection(&self, secrets: &Secrets) -> Result<Arc<Connection>, Fault> {
        let password = match &self.server.password {
            Some(name) => Some(secrets.reveal(name).map_err(|_| Fault::Secret)?),
            None => None,
        };
        // Locked while one is made, so that there is one.
        let mut held = self.connection.lock().await;
        if let Some(connection) = held.as_ref().filter(|held| held.is_good_for(password.as_deref())) {
            return Ok(Arc::clone(connection));
        }
        *held = None;
        let connection = Arc::new(self.connect(password).await?);
        Ok(Arc::clone(held.insert(connection)))
    }

    async fn connect(&self, password: Option<Arc<Secret>>) -> Result<Connection, Fault> {
        let RedisServer { authority, scheme, .. } = &self.server;
        let stream = self.upstream.dial_store(*scheme, authority).await.map_err(|error| {
            tracing::warn!(store = %authority, error = %in_words(&error), "a store cannot be reached");
            Fault::Unreachable
        })?;
        let room = ReplyRoom::new(REPLIES_BYTES_MAX);
        let (reader, writer) = tokio::io::split(stream);
        let stream = tokio::io::join(room.around(reader), writer);
        // It is told nothing, so that it sends nothing: `log_in` does, and its errors are told apart.
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        // The deadline is our caller's.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (commands, driver) = MultiplexedConnection::new_with_config(&info, stream, config).await?;
        let driver = tokio::spawn(driver).abort_handle();
        let connection = Connection { commands, password, room, driver, is_doubtful: AtomicBool::new(false) };
        connection.log_in(self.server.database).await?;
        Ok(connection)
    }
}

impl Connection {
    /// A password that was changed lets nobody in who came with the old one.
    fn is_good_for(&self, password: Option<&Secret>) -> bool {
        let is_same = self.password.as_deref().map(Secret::bytes) == password.map(Secret::bytes);
        is_same && !self.driver.is_finished() && !self.is_doubtful.load(Ordering::Relaxed)
    }

    /// The crate keeps no password, but the bytes that it sent are not wiped.
    async fn log_in(&self, database: u32) -> Result<(), Fault> {
        if let Some(password) = &self.password {
            let () = self.ask(cmd("AUTH").arg(password.bytes())).await?;
        }
        if database != 0 {
            let () = self.ask(cmd("SELECT").arg(database)).await?;
        }
        Ok(())
    }

    /// The reply to `GET` may have any length, so a part is asked for that is one byte longer than
    /// a value may be. It is empty where there is no key.
    async fn get(&self, key: &str) -> Result<Answer, Fault> {
        let (mut part, mut exists) = (cmd("GETRANGE"), cmd("EXISTS"));
        part.arg(key).arg(0).arg(VALUE_BYTES_MAX);
        exists.arg(key);
        let (value, is_there): (Vec<u8>, bool) = self.ask_in_transaction([part, exists]).await?;
        match value.len() {
            0 if !is_there => Ok(Answer::Nothing),
            length if length > VALUE_BYTES_MAX => Err(Fault::ValueTooLong),
            _ => Ok(Answer::Bytes(Bytes::from(value))),
        }
    }

    /// In one transaction, so that the number has its time to live from the start, and nobody's
    /// increment comes between.
    async fn increment(&self, key: &str, by: i64, ttl: Option<u64>) -> Result<i64, Fault> {
        let (mut begin, mut increment) = (cmd("SET"), cmd("INCRBY"));
        increment.arg(key).arg(by);
        let Some(ttl) = ttl else { return self.ask(&increment).await };
        begin.arg(key).arg(0).arg("PX").arg(ttl).arg("NX");
        let (_, sum): (Value, i64) = self.ask_in_transaction([begin, increment]).await?;
        Ok(sum)
    }

    async fn ask<Reply: FromRedisValue>(&self, command: &Cmd) -> Result<Reply, Fault> {
        let reply = command.query_async(&mut self.commands.clone()).await;
        self.room.renew();
        Ok(reply?)
    }

    /// Not with the crate's `atomic`, which miscounts where the server refuses `MULTI` itself.
    async fn ask_in_transaction<Reply: FromRedisValue>(&self, commands: [Cmd; 2]) -> Result<Reply, Fault> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("MULTI").ignore();
        for command in commands {
            pipeline.add_command(command).ignore();
        }
        pipeline.cmd("EXEC");
        let replies = pipeline.query_async(&mut self.commands.clone()).await;
        self.room.renew();
        let (reply,): (Reply,) = replies?;
        Ok(reply)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A command that waits for a reply of use. Dropped before that, it casts doubt on the connection.
struct Waiting<'connection> {
    connection: &'connection Connection,
    is_over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.connection.is_doubtful.store(true, Ordering::Relaxed);
        }
    }
}

/// A text as a pattern that matches it alone.
fn escape(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '^' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_the_text_alone() {
        assert_eq!(escape("a/b"), "a/b");
        assert_eq!(escape("*?[]^\\"), "\\*\\?\\[\\]\\^\\\\");
    }
}
