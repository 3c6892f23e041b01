//! What there is no more of: descriptors, room for the log, patience with bodies.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use e2e::{Attached, Origin, OriginConfig, Reply, World};
use serde_json::json;

use crate::support::{allowing, api_origin, curl, lines, plain, until};

fn dial(gate: &Attached<'_>, port: u16) -> TcpStream {
    let address = SocketAddr::from(([198, 51, 100, 7], port));
    let stream =
        gate.namespace().enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(20))).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Clock ticks of processor time that a process has used.
fn processor_ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn resident_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_gate_without_descriptors_waits_and_comes_back() {
    let world = World::new("descriptors");
    let (_origin, policy) = api_origin(&world);
    let mut gate = world.gate(&policy).attach();
    curl(&gate, &["https://api.test/"]).assert_success();
    let pid = gate.running().pid();
    let open = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let limit = open() + 20;
    let prlimit =
        ["prlimit", &format!("--pid={pid}"), &format!("--nofile={limit}:{limit}")].map(str::to_owned);
    world.root_job(world.gate_namespace(), prlimit).run().assert_success();
    let held: Vec<_> = (0..100).map(|_| dial(&gate, 443)).collect();
    until("there are no descriptors left", || open() >= limit - 1);
    // Waiting costs next to nothing: less than a fifth of two seconds.
    let before = processor_ticks(pid);
    std::thread::sleep(Duration::from_secs(2));
    let used = processor_ticks(pid) - before;
    assert!(used < 40, "{used} ticks of 200 while there was nothing to do");
    drop(held);
    curl(&gate, &["--max-time", "30", "https://api.test/"]).assert_success().assert_stdout("hello");
    // Those that waited were accepted as they were, closed, and each is one line.
    let unused = [("kind", json!("flow")), ("reason", json!("closed_unused"))];
    until("each is in the log", || lines(&gate.log(), &unused).len() == 100);
}

/// A file system of 64 KiB over a folder, taken away when dropped.
struct SmallDisk<'world> {
    world: &'world World,
    folder: PathBuf,
}

impl<'world> SmallDisk<'world> {
    fn over(world: &'world World, folder: PathBuf) -> Self {
        let shown = folder.display().to_string();
        let mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=777", "tmpfs", &shown];
        world.root_job(world.gate_namespace(), mount).run().assert_success();
        Self { world, folder }
    }

    /// Leaves no room.
    fn fill(&self) {
        fs::write(self.folder.join("filler"), vec![0; 64 * 1024]).unwrap_err();
    }

    /// Gives the room back.
    fn clear(&self) {
        fs::remove_file(self.folder.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let shown = self.folder.display().to_string();
        self.world.root_job(self.world.gate_namespace(), ["umount", "--lazy", &shown]).run();
    }
}

#[test]
fn o01_without_room_for_the_log_nothing_passes() {
    let world = World::new("log-full");
    let (origin, _) = api_origin(&world);
    let found = [("api.test:443", origin.address()), ("spliced.test:443", origin.address())];
    let policy = allowing(&world, &found) + "[[rules]]\nhost = \"spliced.test\"\nintercept = false\n";
    let disk = SmallDisk::over(&world, world.path("log"));
    let gate = world.gate(&policy).attach();
    let certificates = [fs::read(gate.ca_file()).unwrap(), fs::read(world.origin_ca_file()).unwrap()];
    let both = world.file("both.pem", certificates.concat()).display().to_string();
    let ask = |name: &str| {
        let url = format!("https://{name}/");
        curl(&gate, &["--cacert", &both, "-o", "/dev/null", "-w", "%{http_code}", &url])
    };
    for name in ["api.test", "spliced.test"] {
        ask(name).assert_success().assert_stdout("200");
    }
    disk.fill();
    // What the last block of the file still takes may be written; then no more.
    until("requests are refused", || ask("api.test").stdout == "503");
    let before = origin.requests().len();
    assert!(before < 300, "{before} requests after the disk was full");
    for _ in 0..5 {
        ask("api.test").assert_success().assert_stdout("503");
        assert_eq!(ask("spliced.test").code(), 35);
    }
    assert_eq!(origin.requests().len(), before);
    disk.clear();
    until("requests pass again", || ask("api.test").stdout == "200" && ask("spliced.test").stdout == "200");
}

/// A body in chunks that are too many, too long, or never end.
const CHUNKS: [(&str, &str, &str, usize); 6] = [
    ("a length beyond 64 bits", "10000000000000000\r\nx", "", 0),
    ("a length with endless zeros", "", "0", 4 << 20),
    ("an endless extension", "1;", "a", 4 << 20),
    ("extensions without number", "", "1;a=b\r\nx\r\n", 1 << 20),
    ("an endless trailer", "0\r\nx-long: ", "a", 4 << 20),
    ("trailers without number", "0\r\n", "x-many: y\r\n", 400_000),
];

#[test]
fn chunked_bodies_without_bounds_cost_their_own_connection() {
    let world = World::new("chunks");
    let secure = Origin::start_with(&world, OriginConfig::default(), |_| Reply::text("hello"));
    let origin = Origin::start_with(&world, plain(&["http/1.1"]), |_| Reply::text("hello"));
    let found = [("api.test:80", origin.address()), ("api.test:443", secure.address())];
    let mut gate = world.gate(&allowing(&world, &found)).attach();
    curl(&gate, &["http://api.test/"]).assert_success();
    let pid = gate.running().pid();
    let before = resident_kib(pid);
    for (what, beginning, repeated, times) in CHUNKS {
        let mut io = dial(&gate, 80);
        let head = "POST /chunks HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        io.write_all(format!("{head}{beginning}").as_bytes()).unwrap();
        let piece = repeated.repeat(64 * 1024 / repeated.len().max(1));
        let mut left = times * repeated.len();
        // Somewhere on the way the gate has enough.
        while left > 0 && io.write_all(piece.as_bytes()).is_ok() {
            left = left.saturating_sub(piece.len());
        }
        let mut answer = Vec::new();
        let end = io.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.starts_with("HTTP/1.1 200"), "{what}: {answer}");
        let is_reset = end.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
        assert!(end.is_ok() || is_reset, "{what}: {end:?}, {left} bytes left");
    }
    let grown = resident_kib(pid).saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more");
    assert!(origin.requests().iter().skip(1).all(|request| !request.complete), "{:#?}", origin.requests());
    curl(&gate, &["http://api.test/"]).assert_success().assert_stdout("hello");
}
