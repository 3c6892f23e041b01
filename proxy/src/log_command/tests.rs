//! The commands on logs that a gate wrote.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use clap::Parser;

use super::*;
use crate::audit::{AuditRecord, Destination, Log, OpenedLog, Verdict};

const SOON: Duration = Duration::from_secs(20);

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: LogCommand,
}

fn parse(arguments: &[&str]) -> Result<LogCommand, clap::Error> {
    Cli::try_parse_from([&["log"], arguments].concat()).map(|cli| cli.command)
}

fn open(path: &Path) -> Log {
    let opened = OpenedLog::new(&Destination::File(path.to_owned())).unwrap();
    opened.start("box-1".to_owned(), "abc".to_owned()).unwrap()
}

fn exchange(log: &Log, host: &str, verdict: Verdict) -> AuditRecord {
    let addresses = ("10.0.0.1:5000".parse().unwrap(), "192.0.2.1:443".parse().unwrap());
    let mut record = log.exchange(addresses.0, addresses.1);
    record.host = Some(host.to_owned());
    record.verdict = Some(verdict);
    record
}

fn write_log(path: &Path) {
    let log = open(path);
    for number in 0..5 {
        drop(exchange(&log, &format!("h{number}.example.test"), Verdict::Allowed));
    }
    drop(exchange(&log, "other.test", Verdict::Refused));
    log.close(SOON).unwrap();
}

fn hosts(json_lines: &[u8]) -> Vec<String> {
    let lines = std::str::from_utf8(json_lines).unwrap().lines();
    lines
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter_map(|record| Some(record["host"].as_str()?.to_owned()))
        .collect()
}

fn get_printed(arguments: &[&str], log: &Path) -> Vec<u8> {
    let LogCommand::Get(mut options) = parse(&[&["get"], arguments].concat()).unwrap() else { panic!() };
    options.show.log = Some(log.to_owned());
    let mut out = Vec::new();
    assert_eq!(get(&options, &mut out).unwrap(), 0);
    out
}

/// Exit code, standard output and standard error of `log verify`.
fn verify_printed(arguments: &[&str], log: &Path) -> (u8, String, String) {
    let LogCommand::Verify(mut options) = parse(&[&["verify"], arguments].concat()).unwrap() else {
        panic!()
    };
    options.log = Some(log.to_owned());
    let (mut out, mut warnings) = (Vec::new(), Vec::new());
    let code = verify(&options, &mut out, &mut warnings).unwrap();
    (code, String::from_utf8(out).unwrap(), String::from_utf8(warnings).unwrap())
}

#[test]
fn o02_get_shows_what_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gate.jsonl");
    write_log(&path);
    assert_eq!(get_printed(&["--json"], &path), fs::read(&path).unwrap());
    assert_eq!(hosts(&get_printed(&["--json", "--verdict", "refused"], &path)), ["other.test"]);
    let last_two = get_printed(&["--json", "--host", "*.example.test", "--limit", "2"], &path);
    assert_eq!(hosts(&last_two), ["h3.example.test", "h4.example.test"]);
    assert_eq!(hosts(&get_printed(&["--json", "--since", "1h"], &path)).len(), 6);
    assert_eq!(hosts(&get_printed(&["--json", "--kind", "exchange"], &path)).len(), 6);
    assert_eq!(get_printed(&["--json", "--kind", "control"], &path).split(|byte| *byte == b'\n').count(), 3);
    assert!(get_printed(&["--since", "2999-01-01T00:00:00Z"], &path).is_empty());
    let text = String::from_utf8(get_printed(&[], &path)).unwrap();
    assert_eq!(text.lines().count(), 8);
    assert!(text.lines().nth(6).unwrap().contains("  refused   -        other.test  "), "{text}");
}

#[test]
fn o04_get_shows_what_would_have_been_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gate.jsonl");
    let log = open(&path);
    drop(exchange(&log, "named.test", Verdict::Allowed));
    let mut record = exchange(&log, "trial.test", Verdict::Allowed);
    record.would_refuse = Some("not_named");
    drop(record);
    log.close(SOON).unwrap();
    assert_eq!(hosts(&get_printed(&["--json", "--would-refuse"], &path)), ["trial.test"]);
    let text = String::from_utf8(get_printed(&["--would-refuse"], &path)).unwrap();
    assert!(text.contains("  allowed  ") && text.contains("  would refuse: not_named"), "{text}");
}

#[test]
fn lines_that_are_not_records_are_not_printed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gate.jsonl");
    write_log(&path);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [b"\x1b[2Jhello\n", whole.as_slice(), b"{\"kind\":\"exch"].concat()).unwrap();
    assert_eq!(get_printed(&["--json"], &path), whole);
}

#[test]
fn options_are_checked_before_anything_is_read() {
    for arguments in [
        ["get", "--host", "a.*"],
        ["get", "--verdict", "denied"],
        ["get", "--kind", "request"],
        ["get", "--since", "yesterday"],
        ["get", "--limit", "0"],
        ["verify", "--head", "abc"],
    ] {
        assert!(parse(&arguments).is_err(), "{arguments:?}");
    }
    for verdict in [Verdict::Allowed, Verdict::Refused, Verdict::Answered, Verdict::Failed] {
        let word = serde_json::to_string(&verdict).unwrap();
        assert!(parse(&["get", "--verdict", word.trim_matches('"')]).is_ok(), "{word}");
    }
}

#[test]
fn verify_prints_the_head_that_it_later_takes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gate.jsonl");
    write_log(&path);
    let (code, out, warnings) = verify_printed(&["--closed"], &path);
    assert_eq!((code, warnings.as_str()), (0, ""));
    assert!(out.contains(": 8 records, unchanged\n"), "{out}");
    let head = out.trim().rsplit(' ').next().unwrap().to_owned();
    write_log(&path);
    let (code, out, _) = verify_printed(&["--json", "--head", &head], &path);
    let result: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &result["noted_head"], &result["records"]), (0, &json!(8), &json!(16)));
    let (code, _, warnings) = verify_printed(&["--head", &"0".repeat(64)], &path);
    assert_eq!(code, 1);
    assert!(warnings.contains("no record up to here has the hash 000"), "{warnings}");
}

#[test]
fn verify_names_file_and_line_of_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gate.jsonl");
    write_log(&path);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("h2.example", "hx.example")).unwrap();
    let (code, out, warnings) = verify_printed(&[], &path);
    assert_eq!((code, out.as_str()), (1, ""));
    let place = format!("error: {}:4: was changed after it was written", path.display());
    assert!(warnings.starts_with(&place), "{warnings}");
    let (code, out, _) = verify_printed(&["--json"], &path);
    let result: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &result["ok"], &result["line"]), (1, &json!(false), &json!(4)));
}

#[test]
fn verify_warns_of_a_log_that_is_not_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gate.jsonl");
    let _log = open(&path);
    let (code, _, warnings) = verify_printed(&[], &path);
    assert_eq!(code, 0);
    assert!(warnings.starts_with("warning: "), "{warnings}");
    let (code, _, warnings) = verify_printed(&["--closed"], &path);
    assert_eq!(code, 1);
    assert!(warnings.starts_with("error: "), "{warnings}");
    let (code, out, _) = verify_printed(&["--closed", "--json"], &path);
    assert_eq!(code, 1);
    assert!(out.contains(r#""ok":false"#) && out.contains(r#""closed":false"#), "{out}");
}

#[test]
fn follow_shows_the_last_records_then_new_ones_until_nobody_reads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gate.jsonl");
    let log = open(&path);
    for number in 0..12 {
        drop(exchange(&log, &format!("h{number}.test"), Verdict::Allowed));
    }
    log.close(SOON).unwrap();
    let options = ShowOptions {
        log: Some(path.clone()),
        host: Some(HostFilter::parse("*.test").unwrap()),
        json: true,
        ..ShowOptions::default()
    };
    let (mut reader, mut writer) = UnixStream::pair().unwrap();
    reader.set_read_timeout(Some(SOON)).unwrap();
    let follower = thread::spawn(move || follow(&options, &mut writer));
    let first = read_hosts(&mut reader, 10);
    assert_eq!((first[0].as_str(), first[9].as_str()), ("h2.test", "h11.test"));

    let log = open(&path);
    drop(exchange(&log, "new.test", Verdict::Allowed));
    assert_eq!(read_hosts(&mut reader, 1), ["new.test"]);
    log.close(SOON).unwrap();

    fs::remove_file(&path).unwrap();
    let log = open(&path);
    drop(exchange(&log, "replaced.test", Verdict::Allowed));
    assert_eq!(read_hosts(&mut reader, 1), ["replaced.test"]);

    drop(reader);
    let deadline = Instant::now() + SOON;
    while !follower.is_finished() {
        assert!(Instant::now() < deadline);
        drop(exchange(&log, "unread.test", Verdict::Allowed));
        thread::sleep(Duration::from_millis(10));
    }
    let error = follower.join().unwrap().unwrap_err();
    assert!(matches!(error, LogCommandError::Print(error) if error.kind() == ErrorKind::BrokenPipe));
}

fn read_hosts(reader: &mut UnixStream, count: usize) -> Vec<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    while text.iter().filter(|byte| **byte == b'\n').count() < count {
        reader.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    hosts(&text)
}

#[test]
fn the_newest_log_of_the_folder_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(newest_log(folder.path()).unwrap_err(), LogCommandError::NoLog { .. }));
    assert!(matches!(newest_log(&folder.path().join("none")).unwrap_err(), LogCommandError::NoLog { .. }));
    let now = SystemTime::now();
    for (name, age) in [("old.jsonl", 20), ("new.jsonl", 10), ("newest.txt", 0)] {
        let file = File::create(folder.path().join(name)).unwrap();
        file.set_modified(now - Duration::from_secs(age)).unwrap();
    }
    assert_eq!(newest_log(folder.path()).unwrap(), folder.path().join("new.jsonl"));
}

#[test]
fn a_log_that_is_not_there_is_told_with_a_hint() {
    let options = GetOptions {
        show: ShowOptions { log: Some("/nowhere/gate.jsonl".into()), ..ShowOptions::default() },
        limit: None,
    };
    let error = get(&options, &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the audit log /nowhere/gate.jsonl");
    assert!(newest_log(Path::new("/nowhere")).unwrap_err().hint().is_some());
}
