//! The two sides: a namespace that reaches the servers, and a sealed one with the gate. All else is the same
//! for a client, down to the paths of its home and of the certificates that it trusts.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::{Attached, Job, Namespace, ORIGIN_IPV4, Outcome, Speaks, Unbound, World, wait_until};

use crate::row::{Client, Evidence, Row};
use crate::table::Compared;

/// The servers' names, and the last byte of the address that each has to itself.
pub(crate) const NAMES: [(&str, u8); 12] = [
    ("api.test", 11),
    ("files.test", 12),
    ("git.test", 13),
    ("pypi.test", 14),
    ("npm.test", 15),
    ("grpc.test", 16),
    ("socket.test", 17),
    ("page.test", 18),
    ("db.test", 19),
    ("cache.test", 20),
    ("mail.test", 21),
    ("ssh.test", 22),
];

/// What the name server has besides addresses. Not to be kept: a time to live would count down where the gate
/// keeps an answer.
const RECORDS: [&str; 5] = [
    "names.test. 0 IN TXT \"v=spf1 include:_spf.names.test -all\"",
    "names.test. 0 IN TXT \"Second Text\"",
    "names.test. 0 IN MX 10 Mail.names.test.",
    "names.test. 0 IN MX 20 mail2.names.test.",
    "_sip._tcp.names.test. 0 IN SRV 1 2 5060 sip.names.test.",
];

const POLICY: &str = r#"
version = 1
allowed_hosts = ["*.test", "api.test:8443", "grpc.test:50051", "db.test:5432", "cache.test:6379", "mail.test:25", "ssh.test:22"]
tcp = ["db.test:5432", "cache.test:6379", "mail.test:25", "ssh.test:22"]
[dns.forward]
"names.test" = ["TXT", "MX"]
"_sip._tcp.names.test" = ["SRV"]
"#;

/// The variables by which clients are told whom to trust, and the file of the trust folder that each names.
const TRUST: [(&str, &str); 9] = [
    ("CURL_CA_BUNDLE", "ca.pem"),
    ("GIT_SSL_CAINFO", "ca.pem"),
    ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "ca.pem"),
    ("NODE_EXTRA_CA_CERTS", "ca.pem"),
    ("NPM_CONFIG_CAFILE", "ca.pem"),
    ("PIP_CERT", "ca.pem"),
    ("REQUESTS_CA_BUNDLE", "ca.pem"),
    ("SSL_CERT_FILE", "ca.pem"),
    ("WGETRC", "wgetrc"),
];

/// Puts the folders of a side where the client looks for them, in a mount namespace and with process ids of
/// its own, so that nothing of it outlives it, and runs the script there.
const ENTER: &str = r#"
mount --bind "$1" "$2/home"; mount --bind "$3" "$2/trust"; mount --bind "$4" /etc/resolv.conf
cd "$2/home"; exec sh -ec "$5"
"#;

/// A row that takes longer has failed.
const ROW_SECONDS: &str = "50";

/// Where a server listens.
pub(crate) fn address(name: &str, port: u16) -> SocketAddr {
    let (_, last) = NAMES.iter().find(|(known, _)| *known == name).unwrap();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 77, 0, *last)), port)
}

/// Gives each server its address.
pub(crate) fn add_addresses(world: &World) {
    for (name, _) in NAMES {
        world.add_origin_address(address(name, 0).ip());
    }
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Direct,
    Through,
}

/// Both sides of one world, after its servers were started.
pub(crate) struct Stage<'world> {
    world: &'world World,
    gate: Attached<'world>,
    inside: PathBuf,
    resolver: PathBuf,
    _names: Unbound<'world>,
}

impl<'world> Stage<'world> {
    pub(crate) fn start(world: &'world World) -> Self {
        let addresses = NAMES.map(|(name, _)| format!("{name}. 300 IN A {}", address(name, 0).ip()));
        let records: Vec<_> = RECORDS.into_iter().chain(addresses.iter().map(String::as_str)).collect();
        let names = Unbound::start(world, Speaks::Udp, "test.", &records);
        let policy = format!(
            "{POLICY}{}dns = [\"{ORIGIN_IPV4}\"]\nallow_ranges = [\"10.77.0.0/24\"]\n",
            world.upstream(&[])
        );
        let gate = world.gate(&policy).attach();
        let inside = world.path("inside");
        for folder in ["home", "trust"] {
            fs::create_dir_all(inside.join(folder)).unwrap();
        }
        // The gate answers whichever server is asked.
        let resolver = world.file("resolv.conf", format!("nameserver {ORIGIN_IPV4}\n"));
        let stage = Self { world, gate, inside, resolver, _names: names };
        stage.make_trust(Side::Direct, &world.origin_ca_file());
        stage.make_trust(Side::Through, stage.gate.ca_file());
        stage
    }

    /// Runs a row on both sides.
    pub(crate) fn compare(&self, number: usize, row: Row) -> Compared {
        let version = self.version(row.client);
        let [direct, through] =
            [Side::Direct, Side::Through].map(|side| self.run(side, &format!("{number}-{side:?}"), &row));
        eprintln!("{}, {}: {} and {}", row.protocol, row.client.name, direct.digest(), through.digest());
        Compared { row, version, direct, through }
    }

    /// Fails unless the gate logged that it let something through for every name.
    pub(crate) fn assert_every_name_was_judged(&self) {
        for name in NAMES.map(|(name, _)| name).into_iter().chain(["names.test"]) {
            wait_until(&format!("a record of {name}"), Duration::from_secs(10), || {
                let mut log = self.gate.log().into_iter();
                log.any(|line| line["host"] == name && line["verdict"] == "allowed")
            });
        }
    }

    fn run(&self, side: Side, name: &str, row: &Row) -> Evidence {
        let home = self.world.path(&format!("homes/{name}"));
        let outcome = self.execute(side, &home, &row.script);
        Evidence::collect(&outcome, &home)
    }

    fn version(&self, client: Client) -> String {
        let outcome = self.execute(Side::Direct, &self.world.path("homes/version"), client.version);
        let version = outcome.stdout.trim();
        assert!(outcome.status.success() && !version.is_empty(), "the version of {client:?}: {outcome:?}");
        version.to_owned()
    }

    /// Runs a script on this side, with this folder as its home.
    fn execute(&self, side: Side, home: &Path, script: &str) -> Outcome {
        fs::create_dir_all(home.join("tmp")).unwrap();
        let (inside, trust) = (self.inside.as_path(), self.trust_folder(side));
        let unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
        let folders = [home, inside, &trust, &self.resolver].map(|path| path.display().to_string());
        let line = [&["timeout", "--signal=KILL", ROW_SECONDS], &unshare[..], &["sh", "-ec", ENTER, "sh"]];
        let line = line.concat().into_iter().chain(folders.iter().map(String::as_str)).chain([script]);
        self.prepared(self.world.root_job(self.namespace(side), line)).run()
    }

    /// The environment of every client, which is the same on both sides.
    fn prepared(&self, job: Job<'world>) -> Job<'world> {
        let inside = |path: &str| self.inside.join(path);
        let trust = |file: &str| inside("trust").join(file);
        let job = TRUST.iter().fold(job, |job, (name, file)| job.env(name, trust(file)));
        let java = format!(
            "-Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStorePassword=changeit",
            trust("store.p12").display()
        );
        job.env("JAVA_TOOL_OPTIONS", java)
            .env("HOME", inside("home"))
            .env("TMPDIR", inside("home/tmp"))
            .env("PY", self.world.test_dependency("py/bin/python3"))
            .env("NODE_PATH", self.world.test_dependency("npm/node_modules"))
            .env("CLIENTS", self.world.path("clients"))
            .env("LOCK", concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"))
            .env("TONIC", env!("CARGO_BIN_EXE_tonic-client"))
            .env("ORIGIN_CA", self.world.origin_ca_file())
    }

    fn namespace(&self, side: Side) -> &Namespace {
        match side {
            Side::Direct => self.world.gate_namespace(),
            Side::Through => self.gate.namespace(),
        }
    }

    fn trust_folder(&self, side: Side) -> PathBuf {
        self.world.path(&format!("trust-{side:?}"))
    }

    /// The certificate of the one whom this side trusts, in the forms that clients read.
    fn make_trust(&self, side: Side, authority: &Path) {
        let folder = self.trust_folder(side);
        fs::create_dir(&folder).unwrap();
        fs::copy(authority, folder.join("ca.pem")).unwrap();
        let inside = self.inside.join("trust/ca.pem");
        fs::write(folder.join("wgetrc"), format!("ca_certificate = {}\n", inside.display())).unwrap();
        let keytool =
            "keytool -importcert -noprompt -alias ca -file ca.pem -keystore store.p12 -storepass changeit";
        let job = self.world.root_job(self.world.gate_namespace(), ["sh", "-ec", keytool]).folder(&folder);
        job.run().assert_success();
    }
}
