//! DNS over TLS and over HTTPS by the workload, to name servers of its own choice.

use e2e::{Dns, Origin, OriginConfig, Reply, World, dig};
use serde_json::json;

use crate::support::{asking, curl, dns_line, refusal};

/// A world whose name server sends every public resolver to an origin that would answer.
fn world_with_resolvers(test: &str) -> (World, Origin, Dns) {
    let world = World::new(test);
    let config = OriginConfig { port: 443, ..OriginConfig::default() };
    let origin = Origin::start_with(&world, config, |_| Reply::text("hello"));
    let names = ["dns.google", "cloudflare-dns.com", "web.test"];
    let names = names.map(|name| (name, origin.address().ip()));
    let dns = Dns::start(&world, &names);
    (world, origin, dns)
}

const QUERY: [&str; 6] =
    ["-X", "POST", "-H", "content-type: application/dns-message", "--data-binary", "question"];

#[test]
fn e13_public_resolvers_are_refused_with_the_internet_on() {
    let (world, origin, dns) = world_with_resolvers("e13");
    let mut gate = world.gate(&asking(&world, &["10.77.0.2"], "internet = true\n")).attach();
    let encrypted = || ("403".to_owned(), "encrypted_dns".to_owned());
    for url in ["https://dns.google/dns-query?dns=AAAA", "https://cloudflare-dns.com/", "http://dns.google/"]
    {
        assert_eq!(refusal(&gate, &[url]), encrypted(), "{url}");
    }
    // By address, where the name is only in the certificate.
    let to_google = ["--connect-to", "::8.8.8.8:443", "https://dns.google/dns-query"];
    assert_eq!(refusal(&gate, &to_google), encrypted());
    // By what a request to any host carries.
    let post = [&QUERY[..], &["https://web.test/anything"]].concat();
    assert_eq!(refusal(&gate, &post), encrypted());
    assert_eq!(refusal(&gate, &["-H", "accept: application/dns-json", "https://web.test/"]), encrypted());
    assert_eq!(refusal(&gate, &["https://web.test/dns-query?dns=AAAA"]), encrypted());
    assert_eq!(refusal(&gate, &["https://web.test/%64ns-query?dns=AAAA"]), encrypted());
    let line = dns_line(&mut gate, "dns.google", Some("encrypted_dns"));
    assert_eq!(line["verdict"], "refused");
    dig(&gate, &["@192.0.2.53", "use-application-dns.net"]).assert_is("NXDOMAIN", 0);
    assert_eq!((origin.requests().len(), dns.questions().len()), (0, 0));
    curl(&gate, &["https://web.test/"]).assert_success().assert_stdout("hello");
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn e13_dns_over_tls_is_refused_by_its_port() {
    let (world, origin, dns) = world_with_resolvers("e13-dot");
    let mut gate = world.gate(&asking(&world, &["10.77.0.2"], "internet = true\n")).attach();
    let text = "
import ssl, socket
context = ssl._create_unverified_context()
for address, name in (('1.1.1.1', 'one.one.one.one'), ('10.77.0.2', 'web.test')):
    try:
        s = context.wrap_socket(socket.create_connection((address, 853), 10), server_hostname=name)
        s.sendall(b'\\x00\\x1d\\x00\\x07\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x03web\\x04test\\x00\\x00\\x01\\x00\\x01')
        print('answered' if b'\\x00\\x07\\x81' in s.recv(4096) else 'refused')
    except (OSError, ssl.SSLError): print('refused')
";
    let outcome = gate.run(["/usr/bin/python3", "-c", text]);
    outcome.assert_success().assert_stdout("refused\nrefused\n");
    for name in ["one.one.one.one", "web.test"] {
        let line = gate.wait_for_log(|line| line["host"] == name && line["kind"] == "flow");
        assert_eq!((&line["verdict"], &line["reason"]), (&json!("refused"), &json!("encrypted_dns")));
    }
    // A request in the clear is told why.
    assert_eq!(refusal(&gate, &["http://web.test:853/"]).1, "encrypted_dns");
    assert_eq!((origin.requests().len(), dns.questions().len()), (0, 0));
}

#[test]
fn e13_a_resolver_that_is_named_or_meant_passes() {
    let (world, origin, _dns) = world_with_resolvers("e13-named");
    let named = asking(&world, &["10.77.0.2"], "allowed_hosts = [\"dns.google\"]\n");
    let meant = asking(&world, &["10.77.0.2"], "internet = true\n[dns]\nencrypted = \"allow\"\n");
    for policy in [named, meant] {
        let gate = world.gate(&policy).attach();
        let post = [&QUERY[..], &["https://dns.google/dns-query"]].concat();
        curl(&gate, &post).assert_success().assert_stdout("hello");
    }
    assert_eq!(origin.requests().len(), 2);
    // A pattern that happens to catch it is not meant.
    let wide = asking(&world, &["10.77.0.2"], "allowed_hosts = [\"*.cloudflare-dns.com\"]\n");
    let gate = world.gate(&wide).attach();
    assert_eq!(refusal(&gate, &["https://a.cloudflare-dns.com/"]).1, "encrypted_dns");
}
