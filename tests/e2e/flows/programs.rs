//! Real programs over raw TCP: databases, mail and SSH, each as it would be without the gate.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use e2e::{ORIGIN_IPV4, Postgres, Sshd, World, sha256_hex};

use crate::support::{PYTHON, flow, policy};

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn psql_speaks_to_a_real_postgresql_with_its_own_tls() {
    let world = World::new("psql");
    let address: SocketAddr = (ORIGIN_IPV4, 5432).into();
    let _server = Postgres::start(&world, "db.internal", address);
    let text = "tcp = [\"db.internal:5432\"]";
    let mut gate = world.gate(&policy(&world, text, &[("db.internal:5432", address)])).attach();
    let ca = world.origin_ca_file().display().to_string();
    let target = format!("host=db.internal user=app dbname=postgres sslmode=verify-full sslrootcert={ca}");
    let query = "create table t as select g, md5(g::text) m from generate_series(1, 20000) g; \
                 select count(*), md5(string_agg(m, '' order by g)) from t; \
                 select ssl from pg_stat_ssl where pid = pg_backend_pid()";
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

#[test]
fn ssh_scp_and_git_over_ssh_reach_a_real_sshd() {
    let world = World::new("ssh");
    let address: SocketAddr = (ORIGIN_IPV4, 22).into();
    let server = Sshd::start(&world, "git.internal", address);
    let text_of = "tcp = [\"git.internal:22\"]";
    let mut gate = world.gate(&policy(&world, text_of, &[("git.internal:22", address)])).attach();
    let flags = server.flags();
    let ssh = [&["ssh"], &flags[..]].concat();
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
        let scp = [&["scp", "-q"], &flags[..], &[from.as_str(), to.as_str()]].concat();
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
