//! Databases, mail, SSH and names: what is judged by host and port, or answered by the gate's own resolver.

use std::net::SocketAddr;

use e2e::{Postgres, Running, Sshd, World};

use crate::packages::GIT;
use crate::row::{Client, Row};
use crate::stage::address;

const PSQL: Client = Client { name: "psql", version: "psql --version | cut -d' ' -f3" };
const REDIS: Client = Client { name: "redis-cli", version: "redis-cli --version | cut -d' ' -f2" };
const SSH: Client = Client { name: "ssh", version: "ssh -V 2>&1 | cut -d' ' -f1" };
const SCP: Client = Client { name: "scp", version: SSH.version };
const SMTPLIB: Client = Client { name: "Python smtplib", version: "/usr/bin/python3 -V | cut -d' ' -f2" };
const DIG: Client = Client { name: "dig", version: "dig -v 2>&1 | cut -d' ' -f2" };

/// `db.test`, `cache.test`, `mail.test` and `ssh.test`.
pub(crate) struct Flows<'world> {
    ssh: Sshd<'world>,
    repository: String,
    far: String,
    _database: Postgres<'world>,
    _cache: Running<'world>,
    _mail: Running<'world>,
}

impl<'world> Flows<'world> {
    pub(crate) fn start(world: &'world World) -> Self {
        let server = |line: &[&str], address: SocketAddr| {
            let running = world.root_job(world.origin_namespace(), line).spawn();
            world.wait_for_listener(address);
            running
        };
        let (mail, cache) = (address("mail.test", 25), address("cache.test", 6379));
        let (mail_host, cache_host) = (mail.ip().to_string(), cache.ip().to_string());
        let program = world.file("mail_server.py", include_str!("mail_server.py")).display().to_string();
        world.file("clients/mail.py", include_str!("clients/mail.py"));
        let repository = world.path("over-ssh.git").display().to_string();
        let seed = format!(
            "git init -q -b main seed-over-ssh; cd seed-over-ssh; seq 100000 >numbers; git add numbers
             export GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'
             git -c user.name=a -c user.email=a@b commit -q -m 'Over SSH'; git clone -q --bare . {repository}"
        );
        let seed = world.root_job(world.origin_namespace(), ["sh", "-ec", &seed]).folder(world.path(""));
        seed.run().assert_success();
        Self {
            ssh: Sshd::start(world, "ssh.test", address("ssh.test", 22)),
            repository,
            far: world.path("far").display().to_string(),
            _database: Postgres::start(world, "db.test", address("db.test", 5432)),
            _cache: server(
                &["redis-server", "--save", "", "--bind", &cache_host, "--protected-mode", "no"],
                cache,
            ),
            _mail: server(&["/usr/bin/python3", &program, &mail_host], mail),
        }
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        [vec![database(), cache(), mail()], self.ssh_rows(), names()].concat()
    }

    fn ssh_rows(&self) -> Vec<Row> {
        let (flags, far, repository) = (self.ssh.flags().join(" "), &self.far, &self.repository);
        vec![
            Row::new(
                "SSH: command, input, exit code",
                SSH,
                format!(
                    "seq 100000 | ssh {flags} root@ssh.test 'sort -r | sha256sum; echo told >&2; exit 3' \
                     && exit 1 || echo \"code $?\""
                ),
                "code 3",
            ),
            Row::new(
                "SSH: file there and back",
                SCP,
                format!(
                    "mkdir got; seq 300000 >sent; scp -q {flags} sent root@ssh.test:{far}
                     scp -q {flags} root@ssh.test:{far} got/back; ssh {flags} root@ssh.test \
                     'sha256sum <{far}; rm {far}'; cmp sent got/back && echo same"
                ),
                "same",
            ),
            Row::new(
                "git over SSH: clone",
                GIT,
                format!(
                    "mkdir got; export GIT_SSH_COMMAND='ssh {flags}'
                     git clone -q ssh://root@ssh.test{repository} work; git -C work log --format='%H %s'
                     git -C work archive HEAD >got/tree.tar"
                ),
                "Over SSH",
            ),
        ]
    }
}

fn database() -> Row {
    Row::new(
        "PostgreSQL with its own TLS",
        PSQL,
        "psql -X -At -v ON_ERROR_STOP=1 \"host=db.test user=app dbname=postgres sslmode=verify-full \
         sslrootcert=$ORIGIN_CA\" <<'END'
create temp table t as select g, md5(g::text) m from generate_series(1, 50000) g;
select count(*), md5(string_agg(m, '' order by g)) from t;
copy (select * from t where g <= 20000) to stdout;
select ssl, version from pg_stat_ssl where pid = pg_backend_pid();
END",
        "t|TLSv1.3",
    )
}

fn cache() -> Row {
    Row::new(
        "Redis",
        REDIS,
        "ask() { redis-cli -h cache.test \"$@\"; }
         ask FLUSHALL; ask SET greeting hello; ask GET greeting
         seq 5000 | sed 's/.*/SET key& value&/' | ask --pipe | tail -n 1
         ask --scan --pattern 'key*' | sort; seq 5000 | sed 's/.*/GET key&/' | ask | sha256sum",
        "errors: 0, replies: 5000",
    )
}

fn mail() -> Row {
    let script = "/usr/bin/python3 \"$CLIENTS/mail.py\"";
    Row::new("SMTP", SMTPLIB, script, "taken, SHA-256")
}

fn names() -> Vec<Row> {
    let ask = |transport: &str| {
        format!(
            "for question in 'names.test TXT' 'names.test MX' '_sip._tcp.names.test SRV'; do
             dig @10.77.0.2 {transport} +noall +answer +time=10 +tries=1 $question; done"
        )
    };
    vec![
        Row::new("DNS over UDP: forwarded records", DIG, ask("+notcp"), "Second Text"),
        Row::new("DNS over TCP: forwarded records", DIG, ask("+tcp"), "Second Text"),
    ]
}
