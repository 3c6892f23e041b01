//! Real programs over raw TCP: databases, mail and SSH, each as it would be without the gate.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use e2e::{ORIGIN_IPV4, Running, World, sha256_hex};
use nix::unistd::{Gid, Uid, chown};

use crate::support::{PYTHON, flow, policy};

/// Somebody who is not root, for servers that refuse to be.
const SERVER_USER: u32 = 65_534;

fn own(path: &Path) {
    chown(path, Some(Uid::from_raw(SERVER_USER)), Some(Gid::from_raw(SERVER_USER))).unwrap();
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A PostgreSQL with TLS of its own.
fn postgres(world: &World) -> (Running<'_>, SocketAddr) {
    const BIN: &str = "/usr/lib/postgresql/15/bin";
    let folder = world.path("pg");
    fs::create_dir(&folder).unwrap();
    own(&folder);
    let as_user = |command: &[&str]| {
        let user = SERVER_USER.to_string();
        let line = [&["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"], command].concat();
        world.root_job(world.origin_namespace(), line)
    };
    let (data, sockets) = (text(&folder.join("data")), text(&folder));
    let initdb = format!("{BIN}/initdb");
    as_user(&[&initdb, "-D", &data, "-U", "app", "--auth=trust", "--no-sync"]).run().assert_success();
    let (certificate, key) = world.certificate_files(&["db.internal"]);
    for (from, to) in [(certificate, "server.crt"), (key, "server.key")] {
        let to = folder.join("data").join(to);
        fs::copy(from, &to).unwrap();
        own(&to);
    }
    fs::write(folder.join("data/pg_hba.conf"), "hostssl all all 0.0.0.0/0 trust\n").unwrap();
    let address: SocketAddr = (ORIGIN_IPV4, 5432).into();
    let (postgres, listen) = (format!("{BIN}/postgres"), format!("listen_addresses={}", ORIGIN_IPV4));
    let server =
        as_user(&[&postgres, "-D", &data, "-k", &sockets, "-c", &listen, "-c", "ssl=on", "-c", "fsync=off"])
            .spawn();
    world.wait_for_listener(address);
    (server, address)
}

#[test]
fn psql_speaks_to_a_real_postgresql_with_its_own_tls() {
    let world = World::new("psql");
    let (_server, address) = postgres(&world);
    let text = "tcp = [\"db.internal:5432\"]";
    let mut gate = world.gate(&policy(&world, text, &[("db.internal:5432", address)])).attach();
    let ca = world.origin_ca_file().display().to_string();
    let target = format!("host=db.internal user=app dbname=postgres sslmode=verify-full sslrootcert={ca}");
    let query = "create table t as select g, md5(g::text) m from generate_series(1, 20000) g; \
                 select count(*), md5(string_agg(m, '' order by g)) from t; \
                 select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    // The server starts before it takes connections.
    let ready = ["pg_isready", "-q", "-t", "20", "-h", "db.internal", "-U", "app"];
    gate.run(ready).assert_success();
    let outcome = gate.run(["psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", "-c", query, &target]);
    // The same sum, by Python.
    let sum = "import hashlib as h; m = lambda t: h.md5(t.encode()).hexdigest(); \
               print(m(''.join(m(str(n)) for n in range(1, 20001))))";
    let sum = gate.run([PYTHON, "-c", sum]).assert_success().stdout.trim().to_owned();
    assert!(outcome.assert_success().stdout.ends_with(&format!("20000|{sum}\nt\n")), "{outcome:?}");
    assert_eq!(flow(&mut gate, "db.internal", 5432)["verdict"], "allowed");
}

#[test]
fn redis_cli_speaks_to_a_real_redis() {
    let world = World::new("redis-flow");
    let address: SocketAddr = (ORIGIN_IPV4, 6379).into();
    let bind = ORIGIN_IPV4.to_string();
    let server = ["redis-server", "--save", "", "--bind", &bind, "--protected-mode", "no"];
    let _server = world.root_job(world.origin_namespace(), server).spawn();
    world.wait_for_listener(address);
    let text = "tcp = [\"cache.internal:6379\"]";
    let gate = world.gate(&policy(&world, text, &[("cache.internal:6379", address)])).attach();
    let cli = ["redis-cli", "-h", "cache.internal"];
    gate.run([&cli[..], &["SET", "greeting", "hello"]].concat()).assert_success().assert_stdout("OK\n");
    gate.run([&cli[..], &["GET", "greeting"]].concat()).assert_success().assert_stdout("hello\n");
    let piped = (0..5_000).map(|n| format!("SET key{n} {n}\r\n")).collect::<String>();
    let outcome = gate.job([&cli[..], &["--pipe"]].concat()).stdin(piped).run();
    assert!(outcome.assert_success().stdout.contains("errors: 0, replies: 5000"), "{outcome:?}");
}

#[test]
fn smtp_is_spoken_with_a_server_that_greets_first() {
    let world = World::new("smtp");
    let address: SocketAddr = (ORIGIN_IPV4, 25).into();
    let listen = address.to_string();
    let server =
        [PYTHON, "-m", "aiosmtpd", "-n", "-l", &listen, "-c", "aiosmtpd.handlers.Debugging", "stdout"];
    let mut server = world.root_job(world.origin_namespace(), server).env("PYTHONUNBUFFERED", "1").spawn();
    world.wait_for_listener(address);
    let text = "tcp = [\"mail.internal:25\"]";
    let gate = world.gate(&policy(&world, text, &[("mail.internal:25", address)])).attach();
    let script = "
import smtplib
with smtplib.SMTP('mail.internal', 25, local_hostname='inside', timeout=20) as mail:
    mail.sendmail('a@inside', ['b@mail.internal'], 'Subject: x\\r\\n\\r\\nthrough the gate\\r\\n')
print('sent')
";
    gate.run([PYTHON, "-c", script]).assert_success().assert_stdout("sent\n");
    server.wait_for_output("through the gate");
}

/// An sshd with a key of its own, and the client's flags that trust it and nobody else.
fn sshd(world: &World) -> (Running<'_>, SocketAddr, Vec<String>) {
    let keygen = |file: &str| {
        let path = text(&world.path(file));
        let line = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &path];
        world.root_job(world.origin_namespace(), line).run().assert_success();
        path
    };
    let (host_key, client_key) = (keygen("host_key"), keygen("client_key"));
    let public = fs::read_to_string(format!("{client_key}.pub")).unwrap();
    let authorized = world.file("authorized_keys", public).display().to_string();
    let private = fs::read(&client_key).unwrap();
    let identity = text(&world.home_file("identity", private));
    let host_public = fs::read_to_string(format!("{host_key}.pub")).unwrap();
    let known = text(&world.home_file("known_hosts", format!("git.internal {host_public}")));
    let port = ORIGIN_IPV4.to_string();
    let config = format!(
        "ListenAddress {port}:22\nHostKey {host_key}\nAuthorizedKeysFile {authorized}\nStrictModes no\n\
         PermitRootLogin prohibit-password\nPasswordAuthentication no\nUsePAM no\nPidFile none\n\
         Subsystem sftp internal-sftp\n"
    );
    let config = world.file("sshd_config", config).display().to_string();
    // sshd insists on this folder, which is made where the package's service starts.
    fs::create_dir_all("/run/sshd").unwrap();
    let server =
        world.root_job(world.origin_namespace(), ["/usr/sbin/sshd", "-D", "-e", "-f", &config]).spawn();
    let address: SocketAddr = (ORIGIN_IPV4, 22).into();
    world.wait_for_listener(address);
    let options = [
        format!("IdentityFile={identity}"),
        format!("UserKnownHostsFile={known}"),
        String::from("GlobalKnownHostsFile=/dev/null"),
        String::from("StrictHostKeyChecking=yes"),
        String::from("BatchMode=yes"),
    ];
    let flags = options.into_iter().flat_map(|option| [String::from("-o"), option]).collect();
    (server, address, flags)
}

#[test]
fn ssh_scp_and_git_over_ssh_reach_a_real_sshd() {
    let world = World::new("ssh");
    let (_server, address, flags) = sshd(&world);
    let text_of = "tcp = [\"git.internal:22\"]";
    let mut gate = world.gate(&policy(&world, text_of, &[("git.internal:22", address)])).attach();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let ssh = [&["ssh", "-F", "none"], &flags[..]].concat();
    // By somebody who has a name: ssh refuses to work for anybody else.
    let inside = |command: &[&str]| world.root_job(gate.namespace(), command);
    let said =
        inside(&[&ssh[..], &["root@git.internal", "echo through; cat >/dev/null; exit 3"]].concat()).run();
    assert_eq!((said.code(), said.stdout.as_str()), (3, "through\n"), "{said:?}");

    let body: Vec<u8> = (0..3_000_000_u32).map(|at| at.to_le_bytes()[at as usize % 4]).collect();
    let sent = text(&world.home_file("sent", &body));
    let back = text(&world.home().join("back"));
    let far = format!("root@git.internal:{}", text(&world.path("far")));
    for (from, to) in [(&sent, &far), (&far, &back)] {
        let scp = [&["scp", "-q", "-F", "none"], &flags[..], &[from.as_str(), to.as_str()]].concat();
        inside(&scp).run().assert_success();
    }
    assert_eq!(sha256_hex(&fs::read(&back).unwrap()), sha256_hex(&body));

    let repository = text(&world.path("project.git"));
    world
        .root_job(world.origin_namespace(), ["git", "init", "-q", "--bare", "-b", "main", &repository])
        .run();
    let command = ssh.join(" ");
    let url = format!("ssh://root@git.internal{repository}");
    let script = format!(
        "set -e; git init -q -b main work; cd work; git config user.email a@b; git config user.name a; \
         echo one > file; git add file; git commit -qm one; git push -q {url} main; cd ..; \
         git clone -q {url} again; cat again/file"
    );
    let outcome = inside(&["sh", "-c", &script]).env("GIT_SSH_COMMAND", command).run();
    outcome.assert_success().assert_stdout("one\n");
    assert_eq!(flow(&mut gate, "git.internal", 22)["verdict"], "allowed");
}
