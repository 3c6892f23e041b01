//! Which handler a request is given to.

use e2e::{Site, World};
use serde_json::json;

use crate::support::{
    answer, assert_answer, assert_line, assert_refused, catch_all, curl, handler, of_kind, public_origin,
    with_names,
};

/// Says its own name and the host it was called for.
fn named(world: &World, name: &str) {
    handler(world, name, &format!("log(\"info\", \"ran\");\nreply(200, `{name}: ${{request.host}}`)"));
}

#[test]
fn p03_allowed_host_with_a_handler_of_its_own_is_answered_by_it() {
    let world = World::new("p03");
    let site = Site::start(&world);
    named(&world, "by_host");
    let text =
        "allowed_hosts = [\"by-host.com\"]\noutbound_by_host.\"by-host.com\" = \"handlers/by_host.rhai\"";
    let policy = site.policy(&world, text, &["by-host.com"]);
    for url in ["http://by-host.com/", "https://by-host.com/", "https://BY-host.com./x?y"] {
        let outcome = world.run(&policy, curl(&[url]));
        assert_answer(&outcome, "by_host: by-host.com");
        assert_line(
            outcome.only_exchange(),
            &json!({"verdict": "answered", "status": 200, "handler": "handlers/by_host.rhai", "upstream": null}),
        );
    }
    site.assert_untouched();
}

#[test]
fn p04_catch_all_answers_for_an_allowed_host() {
    let world = World::new("p04");
    let site = Site::start(&world);
    named(&world, "all");
    let text = "allowed_hosts = [\"allowed.com\"]\noutbound = \"handlers/all.rhai\"";
    let policy = site.policy(&world, text, &["allowed.com"]);
    for scheme in ["http", "https"] {
        let outcome = world.run(&policy, curl(&[&format!("{scheme}://allowed.com/")]));
        assert_answer(&outcome, "all: allowed.com");
    }
    site.assert_untouched();
}

#[test]
fn p06_p07_a_suffix_pattern_gives_its_handler_every_name_below() {
    let world = World::new("p06");
    let site = Site::start(&world);
    named(&world, "glob");
    let names = ["api.globtest.com", "a.b.globtest.com", "globtest.com", "evilglobtest.com"];
    let text = "outbound_by_host.\"*.globtest.com\" = \"handlers/glob.rhai\"";
    let policy = site.policy(&world, text, &names);
    for host in ["api.globtest.com", "a.b.globtest.com"] {
        let outcome = world.run(&policy, curl(&[&format!("https://{host}/")]));
        assert_answer(&outcome, &format!("glob: {host}"));
    }
    for host in ["globtest.com", "evilglobtest.com"] {
        assert_refused(&world.run(&policy, curl(&[&format!("https://{host}/")])), "not_named");
    }
    site.assert_untouched();
}

#[test]
fn p10_a_handler_does_not_run_for_a_host_outside_the_allow_list() {
    let world = World::new("p10");
    let site = Site::start(&world);
    named(&world, "outside");
    let text = "allowed_hosts = [\"allowed.com\"]\noutbound = \"handlers/outside.rhai\"\n\
                outbound_by_host.\"outside.com\" = \"handlers/outside.rhai\"";
    let policy = site.policy(&world, text, &["allowed.com", "outside.com", "other.com"]);
    for host in ["outside.com", "other.com"] {
        let outcome = world.run(&policy, curl(&[&format!("https://{host}/")]));
        assert_refused(&outcome, "not_in_allowed_hosts");
        assert!(outcome.lines("handler").is_empty(), "it ran: {outcome:#?}");
        assert_line(outcome.only_exchange(), &json!({"handler": null}));
    }
    let denied = "denied_hosts = [\"denied.com\"]\noutbound = \"handlers/outside.rhai\"\n\
                  outbound_by_host.\"denied.com\" = \"handlers/outside.rhai\"";
    let outcome = world.run(&site.policy(&world, denied, &["denied.com"]), curl(&["http://denied.com/"]));
    assert_refused(&outcome, "denied_host");
    assert!(outcome.lines("handler").is_empty(), "it ran: {outcome:#?}");
    site.assert_untouched();
}

#[test]
fn p11_p12_a_runtime_handler_wins_until_it_is_taken_away() {
    let world = World::new("p11");
    let site = Site::start(&world);
    for name in ["static", "runtime"] {
        named(&world, name);
    }
    let text = "outbound_by_host.\"h.test\" = \"handlers/static.rhai\"\n\
                outbound_handlers.runtime = \"handlers/runtime.rhai\"";
    let gate = world.gate(&site.policy(&world, text, &["h.test"])).named("box").attach();
    let ask = || answer(&gate.run(curl(&["https://h.test/"]))).0.to_owned();
    assert_eq!(ask(), "static: h.test");
    gate.operator(["handler", "set", "runtime", "--host", "h.test"]).run().assert_success();
    assert_eq!(ask(), "runtime: h.test");
    gate.operator(["handler", "clear", "--host", "h.test"]).run().assert_success();
    assert_eq!(ask(), "static: h.test");
    site.assert_untouched();
}

#[test]
fn t01_over_tls_the_nearest_handler_answers_also_when_the_catch_all_is_replaced() {
    let world = World::new("t01");
    let site = Site::start(&world);
    for name in ["exact", "suffix", "static", "runtime"] {
        named(&world, name);
    }
    let text = "outbound = \"handlers/static.rhai\"\n\
                outbound_by_host.\"own.h.test\" = \"handlers/exact.rhai\"\n\
                outbound_by_host.\"*.h.test\" = \"handlers/suffix.rhai\"\n\
                outbound_handlers.runtime = \"handlers/runtime.rhai\"";
    let names = ["own.h.test", "x.h.test", "any.test"];
    let gate = world.gate(&site.policy(&world, text, &names)).named("box").attach();
    let ask = || names.map(|host| answer(&gate.run(curl(&[&format!("https://{host}/")]))).0.to_owned());
    assert_eq!(ask(), ["exact: own.h.test", "suffix: x.h.test", "static: any.test"]);
    gate.operator(["handler", "set", "runtime"]).run().assert_success();
    assert_eq!(ask(), ["exact: own.h.test", "suffix: x.h.test", "runtime: any.test"]);
    site.assert_untouched();
}

#[test]
fn p13_a_host_of_its_own_before_the_catch_all() {
    let world = World::new("p13");
    let site = Site::start(&world);
    for name in ["own", "rest"] {
        named(&world, name);
    }
    let text = "outbound = \"handlers/rest.rhai\"\noutbound_by_host.\"own.test\" = \"handlers/own.rhai\"";
    let policy = site.policy(&world, text, &["own.test", "other.test"]);
    for (host, body) in [("own.test", "own: own.test"), ("other.test", "rest: other.test")] {
        assert_answer(&world.run(&policy, curl(&[&format!("https://{host}/")])), body);
    }
    site.assert_untouched();
}

#[test]
fn p14_a_runtime_catch_all_before_the_static_one() {
    let world = World::new("p14");
    let site = Site::start(&world);
    for name in ["static", "runtime", "own"] {
        named(&world, name);
    }
    let text = "outbound = \"handlers/static.rhai\"\n\
                outbound_by_host.\"own.test\" = \"handlers/own.rhai\"\n\
                outbound_handlers.runtime = \"handlers/runtime.rhai\"";
    let gate = world.gate(&site.policy(&world, text, &["any.test", "own.test"])).named("box").attach();
    let ask = |host: &str| answer(&gate.run(curl(&[&format!("http://{host}/")]))).0.to_owned();
    assert_eq!(ask("any.test"), "static: any.test");
    gate.operator(["handler", "set", "runtime"]).run().assert_success();
    assert_eq!(ask("any.test"), "runtime: any.test");
    // What the document says of one host is more specific than any catch-all.
    assert_eq!(ask("own.test"), "own: own.test");
    site.assert_untouched();
}

#[test]
fn p22_p23_handlers_of_addresses_ranges_and_ports() {
    let world = World::new("p22");
    let site = Site::start(&world);
    named(&world, "address");
    let text = "[outbound_by_host]\n\"10.1.0.0/16\" = \"handlers/address.rhai\"\n\
                \"2001:db8::/32\" = \"handlers/address.rhai\"\n\
                \"11.0.0.1:9999\" = \"handlers/address.rhai\"";
    let policy = site.policy(&world, text, &[]);
    for (url, host) in [
        ("http://10.1.0.0/", "10.1.0.0"),
        ("http://10.1.255.255/", "10.1.255.255"),
        ("http://[2001:db8::5]/", "2001:db8::5"),
        ("http://11.0.0.1:9999/", "11.0.0.1"),
    ] {
        let outcome = world.run(&policy, curl(&["-g", url]));
        assert!(
            [format!("address: {host}"), format!("address: [{host}]")]
                .contains(&answer(&outcome).0.to_owned()),
            "{outcome:?}"
        );
        assert_eq!(answer(&outcome).1, "200 ");
    }
    for url in ["http://11.0.0.1:9998/", "http://11.0.0.1/", "http://10.2.0.1/", "http://[2001:db9::5]/"] {
        let outcome = world.run(&policy, curl(&["-g", url]));
        assert_refused(&outcome, "not_named");
        assert!(outcome.lines("handler").is_empty(), "it ran: {outcome:#?}");
    }
}

#[test]
fn p24_the_most_specific_wins_whatever_the_order() {
    let world = World::new("p24");
    let site = Site::start(&world);
    for name in ["host", "suffix", "rest"] {
        named(&world, name);
    }
    let own = "\"a.b.test\" = \"handlers/host.rhai\"\n";
    let suffix = "\"*.b.test\" = \"handlers/suffix.rhai\"\n";
    let expected = [("a.b.test", "host"), ("c.b.test", "suffix"), ("d.test", "rest")];
    for table in [[own, suffix], [suffix, own]] {
        let text = format!("outbound = \"handlers/rest.rhai\"\n[outbound_by_host]\n{}", table.concat());
        let policy = site.policy(&world, &text, &["a.b.test", "c.b.test", "d.test"]);
        for (host, name) in expected {
            let outcome = world.run(&policy, curl(&[&format!("http://{host}/")]));
            assert_answer(&outcome, &format!("{name}: {host}"));
        }
    }
    let text = "[outbound_handlers]\nhost = \"handlers/host.rhai\"\nsuffix = \"handlers/suffix.rhai\"\n\
                rest = \"handlers/rest.rhai\"";
    let mut settings = [
        vec!["handler", "set", "rest"],
        vec!["handler", "set", "suffix", "--host", "*.b.test"],
        vec!["handler", "set", "host", "--host", "a.b.test"],
    ];
    for number in 0..2 {
        let name = format!("box-{number}");
        let gate = world.gate(&site.policy(&world, text, &[])).named(&name).attach();
        for setting in &settings {
            gate.operator(setting).run().assert_success();
        }
        for (host, name) in expected {
            assert_answer(&gate.run(curl(&[&format!("http://{host}/")])), &format!("{name}: {host}"));
        }
        settings.reverse();
    }
    site.assert_untouched();
}

#[test]
fn d04_a_host_that_only_a_handler_has_resolves_with_the_internet_on() {
    let world = World::new("d04");
    handler(&world, "kv", "reply(200, `kv: ${request.path}`)");
    let origin = public_origin(&world, "141.101.128.9");
    let text = "internet = true\noutbound_by_host.\"my.kv\" = \"handlers/kv.rhai\"";
    let (dns, policy) = with_names(&world, text, &[("real.test", "141.101.128.9")]);
    for url in ["http://my.kv/key", "https://my.kv/key"] {
        assert_answer(&world.run(&policy, curl(&[url])), "kv: /key");
    }
    assert!(dns.questions().iter().all(|question| !question.starts_with("my.kv")), "{:?}", dns.questions());
    assert_answer(&world.run(&policy, curl(&["http://real.test/"])), "origin: real.test");
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_rule_that_closes_a_host_closes_it_for_handlers_too() {
    let world = World::new("closed");
    let site = Site::start(&world);
    named(&world, "all");
    handler(&world, "passes", "log(\"info\", \"ran\");\nfetch(request)");
    let text = "outbound = \"handlers/all.rhai\"\n[[rules]]\nname = \"read\"\nhost = \"api.test\"\n\
                methods = [\"GET\"]\nhandler = \"handlers/passes.rhai\"";
    let policy = site.policy(&world, text, &["api.test", "other.test"]);
    assert_answer(&world.run(&policy, curl(&["https://api.test/"])), "origin: api.test");
    let closed = world.run(&policy, curl(&["-d", "x", "https://api.test/"]));
    assert_refused(&closed, "no_rule_matches");
    assert!(closed.lines("handler").is_empty(), "it ran: {closed:#?}");
    assert_answer(&world.run(&policy, curl(&["-d", "x", "http://other.test/"])), "all: other.test");
    assert_eq!(site.requests().len(), 1);
}

#[test]
fn a_handler_that_only_refuses_needs_no_script() {
    let world = World::new("deny-entry");
    let site = Site::start(&world);
    let policy = site.policy(&world, "outbound = { deny = \"the network is closed\" }", &["h.test"]);
    let outcome = world.run(&policy, curl(&["https://h.test/"]));
    assert_refused(&outcome, "denied_by_handler");
    assert!(outcome.stdout.contains("the network is closed"), "{outcome:?}");
    assert_line(outcome.only_exchange(), &json!({"verdict": "refused", "reason": "denied_by_handler"}));
    site.assert_untouched();
}

#[test]
fn two_scripts_of_one_name_in_two_folders_are_two_handlers() {
    let world = World::new("folders");
    let site = Site::start(&world);
    for folder in ["a", "b"] {
        let text = format!("fn outbound(request, env, ctx) {{ reply(200, `{folder} ${{ctx.handler}}`) }}");
        world.file(&format!("handlers/{folder}/same.rhai"), text);
    }
    let text = "outbound_by_host.\"a.test\" = \"handlers/a/same.rhai\"\n\
                outbound_by_host.\"b.test\" = \"handlers/b/same.rhai\"";
    let policy = site.policy(&world, text, &[]);
    for folder in ["a", "b"] {
        let outcome = world.run(&policy, curl(&[&format!("http://{folder}.test/")]));
        assert_answer(&outcome, &format!("{folder} handlers/{folder}/same.rhai"));
        assert_line(
            outcome.only_exchange(),
            &json!({"handler": format!("handlers/{folder}/same.rhai"), "verdict": "answered"}),
        );
    }
}

#[test]
fn a_catch_all_opens_what_no_list_closes() {
    let world = World::new("opens");
    let site = Site::start(&world);
    handler(&world, "passes", "fetch(request)");
    let gate = world.gate(&catch_all(&world, &site, "passes", &["any.test"])).attach();
    assert_answer(&gate.run(curl(&["https://any.test/"])), "origin: any.test");
    let log = gate.log();
    assert_eq!(of_kind(&log, "exchange").len(), 1, "{log:#?}");
}
