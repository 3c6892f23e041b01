//! What the workload sees of secrets, policy document and log, and what it can do to them: nothing.

use std::fs;

use e2e::{World, new_token};

use crate::support::{SLOTS, Site, bearers, credential_gate, read_lines, shown, sluicegate};

#[test]
fn secret_variable_is_absent_from_the_workload() {
    let world = World::new("variable");
    let site = Site::start(&world);
    let token = new_token();
    let policy = site.credential_policy(&world, "env", SLOTS[0].rule, "");
    let script = "env; tr '\\0' '\\n' </proc/self/environ; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; true";
    let gate = world.gate(&policy).env("TOKEN", &token).env("HARMLESS", "kept");
    let outcome = gate.run(["sh", "-c", script]);
    outcome.assert_success();
    assert!(outcome.stdout.matches("HARMLESS=kept").count() >= 2, "{outcome:?}");
    assert!(!outcome.stdout.contains("TOKEN") && !outcome.stdout.contains(&token), "{outcome:?}");
}

#[test]
fn secret_file_reads_as_empty_in_the_workload() {
    let world = World::new("hidden");
    let site = Site::start(&world);
    let token = new_token();
    let policy = site.credential_policy(&world, "file", SLOTS[0].rule, "");
    let attempts = "
cat \"$0\"; cp \"$0\" copy; cat copy; ln \"$0\" link; cat link
echo forged >\"$0\"; rm -f \"$0\"; mv \"$0\" moved; cat moved; umount \"$0\"
unshare -Urm sh -c 'umount \"$0\"; cat \"$0\"; mkdir bound; mount --bind \"$(dirname \"$0\")\" bound; cat bound/*' \"$0\"
cat \"$0\" | wc -c";
    let file = world.path("secrets/token");
    let gate = credential_gate(&world, &policy, "file", &token);
    let outcome = gate.run(["sh", "-c", attempts, shown(&file)]);
    outcome.assert_success();
    assert_eq!(outcome.stdout, "0\n", "{outcome:?}");
    assert_eq!(fs::read_to_string(file).unwrap(), token);
    // The same commands do read it where no gate hides it.
    let outcome = world.job(world.gate_namespace(), ["cat", shown(&world.path("secrets/token"))]).run();
    assert_eq!(outcome.stdout, token);
}

#[test]
fn c04_secret_written_anew_stays_hidden_from_the_workload() {
    let world = World::new("c04-written");
    assert_rotation_is_hidden(&world, |token| drop(world.secret_file("token", token)));
}

#[test]
fn c04_secret_replaced_by_a_rename_stays_hidden_from_the_workload() {
    let world = World::new("c04-renamed");
    assert_rotation_is_hidden(&world, |token| {
        fs::rename(world.secret_file("token.new", token), world.path("secrets/token")).unwrap();
    });
}

/// Fails unless a workload that runs on while its secret is rotated gets the new one at the origin,
/// and reads nothing in the file.
#[track_caller]
fn assert_rotation_is_hidden(world: &World, rotate: impl Fn(&str)) {
    let site = Site::start(world);
    let tokens = [new_token(), new_token()];
    let policy = site.credential_policy(world, "file", SLOTS[0].rule, "");
    let script = "for turn in 1 2; do curl -sS -o /dev/null https://api.test/; cat \"$0\"; echo done $turn; read -r _; done";
    let gate = credential_gate(world, &policy, "file", &tokens[0]);
    let mut running = gate.job(["sh", "-c", script, shown(&world.path("secrets/token"))]).spawn();
    running.wait_for_output("done 1\n");
    rotate(&tokens[1]);
    running.write("\n");
    running.wait_for_output("done 2\n");
    let outcome = running.wait();
    assert_eq!(bearers(&site), tokens, "{outcome:?}");
    outcome.assert_stdout("done 1\ndone 2\n");
}

#[test]
fn policy_document_is_read_only_for_the_workload() {
    let world = World::new("document");
    let text = "version = 1\ninternet = false\n";
    let document = world.home_file("sluicegate.toml", text);
    let attempts = "
echo 'internet = true' >>\"$0\"; echo >\"$0\"; chmod 666 \"$0\"; rm -f \"$0\"; mv \"$0\" \"$0.old\"
echo other >new; mv -f new \"$0\"; sed -i s/false/true/ \"$0\"; umount \"$0\"; unshare -Urm umount \"$0\"
unshare -Urm sh -c 'mount -o remount,rw,bind \"$0\"; echo >>\"$0\"' \"$0\"
cat \"$0\"";
    let gate = world.gate("").flag("--policy").flag(shown(&document));
    let outcome = gate.run(["sh", "-c", attempts, shown(&document)]);
    outcome.assert_success().assert_stdout(text);
    assert_eq!(fs::read_to_string(&document).unwrap(), text);
    // It is the workload's own file: without the gate it gives way.
    world.job(world.gate_namespace(), ["rm", shown(&document)]).run().assert_success();
}

#[test]
fn log_is_out_of_the_workloads_reach() {
    let world = World::new("reach");
    let attempts = "
curl -sS -o /dev/null http://refused.test/
cat \"$0\"; echo forged >>\"$0\"; truncate -s 0 \"$0\"; rm -f \"$0\"; mv \"$0\" moved; cat moved
echo other >new; mv -f new \"$0\"; chmod 666 \"$0\"; unshare -Urm sh -c 'umount \"$0\"; umount \"$(dirname \"$0\")\"; cat \"$0\"; rm -f \"$0\"' \"$0\"
ls -A \"$(dirname \"$0\")\" | grep -v \"$(basename \"$0\")\" | grep jsonl
true";
    let state = world.home().join(".local/state/sluicegate");
    for log in [world.home().join("named.jsonl"), state.join("box-1.jsonl")] {
        let line = [world.program("sluicegate"), "run".to_owned(), "--name".to_owned(), "box-1".to_owned()];
        let named = (!log.starts_with(&state)).then(|| ["--log".to_owned(), shown(&log).to_owned()]);
        let workload = ["--", "sh", "-c", attempts, shown(&log)].map(str::to_owned);
        let line = line.into_iter().chain(named.into_iter().flatten()).chain(workload);
        let outcome = world.job(world.gate_namespace(), line).run();
        outcome.assert_success().assert_stdout("");
        assert!(outcome.stderr.contains(shown(&log)), "it does not say where the log is: {outcome:?}");
        let verified = sluicegate(&world, &["log", "verify", "--closed", "--log", shown(&log)]);
        verified.assert_success();
        let records = read_lines(&log);
        assert_eq!(records.iter().filter(|line| line["kind"] == "exchange").count(), 1, "{records:#?}");
        world.job(world.gate_namespace(), ["rm", shown(&log)]).run().assert_success();
    }
}
