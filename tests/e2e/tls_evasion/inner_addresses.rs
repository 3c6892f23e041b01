//! What stands beside a container is no exception: its neighbours, its host, and the metadata service of
//! a cloud are reached where the policy says so, and nowhere else.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::thread;

use e2e::{Attached, GATE_IPV4, GATE_IPV6, ORIGIN_IPV4, Origin, OriginConfig, Reply, TcpServer, World};
use serde_json::Value;

use crate::support::{PYTHON, curl, end, told};

const METADATA: &str = "169.254.169.254";

/// A neighbour by http, https and a protocol of its own, in both families, and a metadata service.
struct Beside {
    plain: [Origin; 2],
    secure: Origin,
    metadata: Origin,
    echo: TcpServer,
}

impl Beside {
    fn start(world: &World) -> Self {
        world.add_origin_address(METADATA.parse().unwrap());
        let at = |address: &str, port| OriginConfig {
            address: address.parse().unwrap(),
            port,
            identity: e2e::Identity::Plain,
            alpn: &["http/1.1"],
        };
        let plain = ["10.77.0.2", "fd77::2"]
            .map(|address| Origin::start_with(world, at(address, 80), |_| Reply::text("neighbour")));
        let secure = OriginConfig { port: 443, ..OriginConfig::default() };
        let secure = Origin::start_with(world, secure, |_| Reply::text("neighbour"));
        let metadata = Origin::start_with(world, at(METADATA, 80), |request| {
            Reply::text(format!("{} {}", request.method, request.path))
        });
        let echo = TcpServer::start_at(world, SocketAddr::new(ORIGIN_IPV4.into(), 5432), |mut stream| {
            let mut line = String::new();
            let read = BufReader::new(stream.try_clone().unwrap()).read_line(&mut line);
            // A connection that ends without a line wants no answer.
            drop(read.and_then(|_| stream.write_all(line.as_bytes())));
        });
        for address in [IpAddr::from(GATE_IPV4), GATE_IPV6.into()] {
            serve_on_the_host(world, address);
        }
        Self { plain, secure, metadata, echo }
    }

    #[track_caller]
    fn assert_untouched(&self, world: &World) {
        self.plain.iter().chain([&self.secure, &self.metadata]).for_each(Origin::assert_untouched);
        assert_eq!(self.echo.connections(), 0);
        assert_eq!(world.arrivals(), e2e::Arrivals::default());
    }
}

/// Answers on port 80 of the gate's own namespace as long as the test lives.
fn serve_on_the_host(world: &World, address: IpAddr) {
    let listener = world.gate_namespace().enter(|| TcpListener::bind((address, 80))).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            if lines.any(|line| line.is_empty()) {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nhost")
                    .unwrap();
            }
        }
    });
}

const URLS: [&str; 6] = [
    "http://10.77.0.2/",
    "http://[fd77::2]/",
    "https://10.77.0.2/",
    "http://10.77.0.1/",
    "http://[fd77::1]/",
    "http://169.254.169.254/latest/meta-data/",
];

/// Asks for a token first, as the services of clouds want it.
const TOKEN: [&str; 3] = ["-X", "PUT", "http://169.254.169.254/latest/api/token"];

/// Says a line to the neighbour's own protocol, and prints what came of it.
const LINE: &str = "
import errno, socket
try:
    stream = socket.create_connection(('10.77.0.2', 5432), 15)
    stream.sendall(b'\\x00line\\n')
    print(stream.recv(100))
except OSError as error: print(errno.errorcode[error.errno])
";

fn line(gate: &Attached<'_>) -> String {
    gate.run([PYTHON, "-c", LINE]).assert_success().stdout.trim_end().to_owned()
}

/// `HOST:PORT REASON` of each exchange and flow that got nowhere. A flow that a list lets pass and that
/// leads to a forbidden address has failed, an exchange was refused.
fn refused(log: &[Value]) -> Vec<String> {
    log.iter()
        .filter(|line| line["verdict"] == "refused")
        .map(|line| {
            let host = line["host"].as_str().unwrap_or_default();
            format!("{host}:{} {}", line["port"], line["reason"].as_str().unwrap_or_default())
        })
        .collect()
}

#[test]
fn e17_what_stands_beside_the_workload_is_refused_unless_the_policy_names_it() {
    let world = World::new("e17");
    let beside = Beside::start(&world);
    // With nothing said, with everything open, and with the hosts allowed but not their ranges.
    let hosts = "allowed_hosts = [\"10.77.0.0/24\", \"fd77::/64\", \"169.254.169.254\"]";
    for (policy, reason, of_a_line) in [
        ("", "not_named", "opaque_flow"),
        ("internet = true", "forbidden_address", "opaque_flow"),
        (hosts, "forbidden_address", "opaque_flow"),
        ("internet = true\ntcp = [\"10.77.0.2:5432\"]", "forbidden_address", "forbidden_address"),
    ] {
        let gate = world.gate(&format!("version = 1\n{policy}\n")).attach();
        // TLS to an address names nobody, which is told where nothing is open.
        let unnamed = if reason == "not_named" { "server_name_missing" } else { reason };
        for url in URLS {
            let reason = if url.starts_with("https") { unnamed } else { reason };
            assert_eq!(told(&gate, &[url]), format!("403 {reason}"), "{policy} {url}");
        }
        assert_eq!(told(&gate, &TOKEN), format!("403 {reason}"), "{policy}");
        assert_eq!(line(&gate), "ECONNRESET", "{policy}");
        let expected = [
            format!("10.77.0.2:80 {reason}"),
            format!("fd77::2:80 {reason}"),
            format!("10.77.0.2:443 {unnamed}"),
            format!("10.77.0.1:80 {reason}"),
            format!("fd77::1:80 {reason}"),
            format!("169.254.169.254:80 {reason}"),
            format!("169.254.169.254:80 {reason}"),
            format!("10.77.0.2:5432 {of_a_line}"),
        ];
        assert_eq!(refused(&end(gate)), expected, "{policy}");
    }
    beside.assert_untouched(&world);
}

#[test]
fn e17_what_the_policy_names_beside_the_workload_is_reached_and_nothing_else() {
    let world = World::new("e17-named");
    let beside = Beside::start(&world);
    let policy = format!(
        "version = 1\nallowed_hosts = [\"10.77.0.2\", \"10.77.0.2:5432\", \"[fd77::2]\", \"10.77.0.1\"]\n\
         tcp = [\"10.77.0.2:5432\"]\n{}\
         allow_ranges = [\"10.77.0.0/24\", \"fd77::2\", \"169.254.169.254\"]\n",
        world.upstream(&[])
    );
    let gate = world.gate(&policy).attach();
    for url in &URLS[..3] {
        curl(&gate, &[url]).assert_success().assert_stdout("neighbour");
    }
    curl(&gate, &[URLS[3]]).assert_success().assert_stdout("host");
    assert_eq!(line(&gate), "b'\\x00line\\n'");
    // A range alone allows no host: the other address of the host, and the service of the cloud.
    for url in &URLS[4..] {
        assert_eq!(told(&gate, &[url]), "403 not_in_allowed_hosts", "{url}");
    }
    assert_eq!(told(&gate, &TOKEN), "403 not_in_allowed_hosts");
    assert_eq!(refused(&end(gate)).len(), 3);
    beside.metadata.assert_untouched();

    // A rule opens one path of it, and says so for each request.
    let policy = "version = 1\n[[rules]]\nhost = \"169.254.169.254\"\nmethods = [\"GET\"]\n\
                  paths = [\"/latest/meta-data/**\"]\n[upstream]\nallow_ranges = [\"169.254.169.254\"]\n";
    let gate = world.gate(policy).attach();
    curl(&gate, &[URLS[5]]).assert_success().assert_stdout("GET /latest/meta-data/");
    assert_eq!(told(&gate, &TOKEN), "403 no_rule_matches");
    assert_eq!(told(&gate, &["http://169.254.169.254/latest/user-data"]), "403 no_rule_matches");
    assert_eq!(told(&gate, &["http://10.77.0.2/"]), "403 not_named");
    end(gate);
    assert_eq!(beside.metadata.only_request().path, "/latest/meta-data/");
}
