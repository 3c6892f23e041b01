//! A name server in the origin namespace that counts the questions it is asked.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};

use crate::origin::TcpServer;
use crate::world::{ORIGIN_IPV4, World};

/// A name server on port 53, of [`ORIGIN_IPV4`] unless told otherwise, by UDP and TCP. Names that were not set do not exist.
#[derive(Debug)]
pub struct Dns {
    zone: Arc<Zone>,
    _tcp: TcpServer,
}

#[derive(Debug, Default)]
struct Zone {
    addresses: Mutex<HashMap<String, Vec<IpAddr>>>,
    questions: Mutex<Vec<String>>,
    silent: AtomicBool,
    stopping: AtomicBool,
}

impl Dns {
    /// Starts one that knows these names.
    pub fn start(world: &World, names: &[(&str, IpAddr)]) -> Self {
        Self::start_at(world, ORIGIN_IPV4.into(), names)
    }

    /// Starts one at an address of the origin namespace.
    pub fn start_at(world: &World, address: IpAddr, names: &[(&str, IpAddr)]) -> Self {
        let zone = Arc::new(Zone::default());
        let listening_at = SocketAddr::new(address, 53);
        let socket =
            world.origin_namespace().enter(|| UdpSocket::bind(listening_at)).expect("listen on UDP port 53");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let answering = Arc::clone(&zone);
        thread::spawn(move || answering.serve_udp(&socket));
        let answering = Arc::clone(&zone);
        let tcp = TcpServer::start_at(world, listening_at, move |stream| {
            // The client closes when it has no more questions.
            let _ = answering.serve_tcp(stream);
        });
        let dns = Self { zone, _tcp: tcp };
        for (name, address) in names {
            dns.set(name, &[*address]);
        }
        dns
    }

    /// Sets what a name resolves to from now on. An empty list leaves a name without addresses.
    pub fn set(&self, name: &str, addresses: &[IpAddr]) {
        let mut names = self.zone.addresses.lock().expect("no answer panicked");
        names.insert(name.to_owned(), addresses.to_vec());
    }

    /// Stops answering, or answers again. Questions are still counted.
    pub fn set_silent(&self, silent: bool) {
        self.zone.silent.store(silent, Ordering::SeqCst);
    }

    /// Every question so far, as `NAME TYPE` with the name in lower case and without a last dot.
    pub fn questions(&self) -> Vec<String> {
        self.zone.questions.lock().expect("no answer panicked").clone()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.zone.stopping.store(true, Ordering::SeqCst);
    }
}

impl Zone {
    fn serve_udp(&self, socket: &UdpSocket) {
        let mut buffer = [0; 4096];
        while !self.stopping.load(Ordering::SeqCst) {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            if let Some(answer) = self.answer(buffer.get(..length).unwrap_or_default()) {
                // A client that went away is no matter.
                let _ = socket.send_to(&answer, from);
            }
        }
    }

    fn serve_tcp(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut question)?;
            let Some(answer) = self.answer(&question) else { return Ok(()) };
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())?;
        }
    }

    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let message = Message::from_vec(question).ok()?;
        let query = message.queries.first()?.clone();
        let name = query.name().to_ascii().to_lowercase();
        let name = name.trim_end_matches('.');
        self.questions.lock().expect("no answer panicked").push(format!("{name} {}", query.query_type()));
        if self.silent.load(Ordering::SeqCst) {
            return None;
        }
        let mut answer = Message::response(message.metadata.id, message.metadata.op_code);
        answer.metadata.recursion_desired = message.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        match self.addresses.lock().expect("no answer panicked").get(name) {
            Some(addresses) => {
                answer.answers = addresses.iter().filter_map(|address| record(&query, *address)).collect();
            }
            None => answer.metadata.response_code = ResponseCode::NXDomain,
        }
        answer.add_query(query);
        answer.to_vec().ok()
    }
}

fn record(query: &Query, address: IpAddr) -> Option<Record> {
    let data = match (query.query_type(), address) {
        (RecordType::A, IpAddr::V4(address)) => RData::A(address.into()),
        (RecordType::AAAA, IpAddr::V6(address)) => RData::AAAA(address.into()),
        _ => return None,
    };
    // Nobody may keep it: tests change what a name resolves to.
    Some(Record::from_rdata(query.name().clone(), 0, data))
}
