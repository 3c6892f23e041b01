//! The log as a whole: files, threads, failing sinks.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;
use sluicegate_policy::LogLevel;

use super::queue::{BULK_MAX, CAPACITY, HIGH_WATER};
use super::*;

const SOON: Duration = Duration::from_secs(20);

fn try_open(path: &Path) -> Result<Log, AuditError> {
    OpenedLog::new(&Destination::File(path.to_owned()))?.start("box-1".to_owned(), "abc".to_owned())
}

fn start(sink: impl Write + Send + 'static) -> Log {
    let identity = Identity { instance: "box-1".to_owned(), generation: "abc".to_owned() };
    Log::start(sink, Chain::genesis(), 0, identity).unwrap()
}

fn exchange(log: &Log) -> AuditRecord {
    log.exchange("10.0.0.1:5000".parse().unwrap(), "192.0.2.1:443".parse().unwrap())
}

fn refusal(log: &Log) -> AuditRecord {
    let mut record = exchange(log);
    record.verdict = Some(Verdict::Refused);
    record.reason = Some(AUDIT_UNAVAILABLE);
    record
}

fn records(bytes: &[u8]) -> Vec<Value> {
    verify(bytes, None).unwrap();
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A sink whose disk can be full and whose reader can stand still.
#[derive(Clone, Default)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    is_full: Arc<AtomicBool>,
    is_stuck: Arc<AtomicBool>,
    writes: Arc<AtomicUsize>,
    /// Bytes that one write takes; 0 stands for all.
    piece: usize,
}

impl Disk {
    fn contents(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        while self.is_stuck.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        let mut kept = self.bytes.lock().unwrap();
        if self.is_full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let count = if self.piece == 0 { bytes.len() } else { self.piece.min(bytes.len()) };
        kept.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn o01_each_record_is_written_once_when_it_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/gate.jsonl");
    let log = try_open(&path).unwrap();
    let mut record = exchange(&log);
    record.verdict = Some(Verdict::Allowed);
    record.host = Some("api.example.test".to_owned());
    assert!(format!("{record:?}").contains("api.example.test"));
    drop(log.dns("example.test", "AAAA"));
    drop(record);
    let mut flow = log.flow(Protocol::Tcp, "10.0.0.1:1".parse().unwrap(), "192.0.2.1:22".parse().unwrap());
    flow.verdict = Some(Verdict::Refused);
    drop(flow);
    drop(exchange(&log));
    log.close(SOON).unwrap();

    let bytes = fs::read(&path).unwrap();
    let written = records(&bytes);
    let kinds: Vec<_> = written.iter().map(|record| record["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["control", "dns", "exchange", "flow", "exchange", "control"]);
    assert_eq!(written[0]["action"], "started");
    assert_eq!(written[0]["instance"], "box-1");
    assert_eq!(written[2]["verdict"], "allowed");
    assert_eq!(written[2]["generation"], "abc");
    assert_eq!(written[3]["original_destination"], "192.0.2.1:22");
    assert_eq!(written[4]["reason"], ABANDONED);
    assert_eq!(written[5]["action"], "stopped");
    assert_eq!(written[5]["records"], 6);
    assert!(verify(bytes.as_slice(), None).unwrap().closed);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn counters_may_be_moved_on_by_other_threads() {
    let disk = Disk::default();
    let log = start(disk.clone());
    let mut record = exchange(&log);
    let counter = record.request_bytes_counter();
    let adder = thread::spawn(move || counter.fetch_add(70_000, Ordering::Relaxed));
    record.response_bytes_counter().fetch_add(5, Ordering::Relaxed);
    adder.join().unwrap();
    drop(record);
    log.close(SOON).unwrap();
    let written = records(&disk.contents());
    assert_eq!(written[1]["request_bytes"], 70_000);
    assert_eq!(written[1]["response_bytes"], 5);
}

#[test]
fn records_of_many_threads_are_all_there_in_one_chain() {
    let disk = Disk { piece: 1000, ..Disk::default() };
    let log = start(disk.clone());
    thread::scope(|scope| {
        for _ in 0..4 {
            let log = log.clone();
            scope.spawn(move || (0..500).for_each(|_| drop(exchange(&log))));
        }
    });
    log.close(SOON).unwrap();
    assert_eq!(records(&disk.contents()).len(), 2002);
}

#[test]
fn a_log_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gate.jsonl");
    for _ in 0..3 {
        let log = try_open(&path).unwrap();
        drop(exchange(&log));
        log.close(SOON).unwrap();
        log.close(SOON).unwrap();
    }
    let verified = verify(fs::read(&path).unwrap().as_slice(), None).unwrap();
    assert_eq!((verified.records, verified.closed), (9, true));
}

#[test]
fn a_torn_last_line_is_cut_off_wherever_it_was_torn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gate.jsonl");
    let log = try_open(&path).unwrap();
    log.close(SOON).unwrap();
    let whole = fs::read(&path).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for length in (0..whole.len()).filter(|length| *length != first) {
        fs::write(&path, &whole[..length]).unwrap();
        try_open(&path).unwrap().close(SOON).unwrap();
        let torn = if length < first { length } else { length - first };
        let written = records(&fs::read(&path).unwrap());
        let started = &written[written.len() - 2];
        assert_eq!(started["action"], "started");
        if torn == 0 {
            assert_eq!(started.get("torn_bytes"), None, "{length}");
        } else {
            assert_eq!(started["torn_bytes"], torn, "{length}");
        }
    }
}

#[test]
fn what_is_not_a_log_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gate.jsonl");
    let long = vec![b'x'; 3 * LINE_LIMIT];
    for contents in [b"hello".as_slice(), b"hello\n", b"{}\n{\"seq", b"\n", &long] {
        fs::write(&path, contents).unwrap();
        let error = try_open(&path).unwrap_err();
        assert!(matches!(error, AuditError::NotALog { .. }), "{error:?}");
        assert_eq!(fs::read(&path).unwrap(), contents);
    }
}

#[test]
fn a_link_a_folder_and_a_device_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link.jsonl");
    let target = folder.path().join("target");
    symlink(&target, &link).unwrap();
    for path in [link.as_path(), folder.path(), Path::new("/dev/null")] {
        let error = try_open(path).unwrap_err();
        assert!(matches!(error, AuditError::NotARegularFile { .. }), "{error:?}");
        assert!(error.hint().is_some());
    }
    assert!(!target.exists());
}

#[test]
fn a_log_has_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gate.jsonl");
    let log = try_open(&path).unwrap();
    assert!(matches!(try_open(&path).unwrap_err(), AuditError::InUse { .. }));
    log.close(SOON).unwrap();
    try_open(&path).unwrap().close(SOON).unwrap();
}

#[test]
fn a_full_disk_stops_the_start() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let identity = Identity { instance: String::new(), generation: String::new() };
    let error = Log::start(full, Chain::genesis(), 0, identity).unwrap_err();
    let AuditError::Write(source) = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    let disk = Disk { piece: 100, ..Disk::default() };
    let log = start(disk.clone());
    assert!(log.is_healthy());
    disk.is_full.store(true, Ordering::SeqCst);
    drop(exchange(&log));
    wait_until("unhealthy", || !log.is_healthy());
    for _ in 0..100 {
        drop(exchange(&log));
    }
    // Many refusals take no room, and one record tells their number.
    for _ in 0..3 * CAPACITY {
        drop(refusal(&log));
    }
    disk.is_full.store(false, Ordering::SeqCst);
    wait_until("healthy", || log.is_healthy());
    log.close(SOON).unwrap();
    let written = records(&disk.contents());
    assert_eq!(written.iter().filter(|record| record["kind"] == "exchange").count(), 101);
    let recovered: Vec<_> = written.iter().filter(|record| record["action"] == "recovered").collect();
    assert_eq!(recovered.len(), 1);
    assert_eq!(recovered[0]["count"], 3 * CAPACITY);
    assert_eq!(recovered[0].get("lost"), None);
}

#[test]
fn a_reader_that_stands_still_is_told_before_the_queue_is_full() {
    let disk = Disk::default();
    let log = start(disk.clone());
    disk.is_stuck.store(true, Ordering::SeqCst);
    drop(exchange(&log));
    // The second write is the one of that record; the writer has taken it and holds no other.
    wait_until("stuck", || disk.writes.load(Ordering::SeqCst) == 2);
    for _ in 0..HIGH_WATER - 1 {
        drop(exchange(&log));
    }
    assert!(log.is_healthy());
    drop(exchange(&log));
    assert!(!log.is_healthy());
    for _ in 0..CAPACITY - HIGH_WATER + 5 {
        drop(exchange(&log));
    }
    assert!(matches!(log.close(Duration::from_millis(10)).unwrap_err(), AuditError::CloseTimedOut));
    disk.is_stuck.store(false, Ordering::SeqCst);
    wait_until("written", || verify(disk.contents().as_slice(), None).is_ok_and(|log| log.closed));
    let written = records(&disk.contents());
    assert_eq!(written.iter().filter(|record| record["kind"] == "exchange").count(), CAPACITY + 1);
    let lost: Vec<_> = written.iter().filter_map(|record| record.get("lost")).collect();
    assert_eq!(lost, [5]);
}

#[tokio::test]
async fn handlers_wait_for_room_for_their_lines_and_leave_the_rest_to_others() {
    let disk = Disk::default();
    let log = start(disk.clone());
    disk.is_stuck.store(true, Ordering::SeqCst);
    drop(exchange(&log));
    wait_until("stuck", || disk.writes.load(Ordering::SeqCst) == 2);
    let mut room = log.room_for_lines(HANDLER_LINES_MAX + 1).await.unwrap();
    while let Some(one) = room.split(1) {
        log.handler_line().room = Some(one);
    }
    assert!(log.room_for_lines(1).await.is_none());
    assert!(log.is_healthy());
    disk.is_stuck.store(false, Ordering::SeqCst);
    // What was written takes no room, once it is.
    let deadline = Instant::now() + SOON;
    while log.room_for_lines(HANDLER_LINES_MAX).await.is_none() {
        assert!(Instant::now() < deadline);
    }
    log.close(SOON).unwrap();
    assert_eq!(records(&disk.contents()).len(), HANDLER_LINES_MAX + 3);
}

#[test]
fn closing_a_log_that_cannot_be_written_ends_in_time_with_the_cause() {
    let disk = Disk::default();
    let log = start(disk.clone());
    disk.is_full.store(true, Ordering::SeqCst);
    drop(exchange(&log));
    wait_until("unhealthy", || !log.is_healthy());
    let begun = Instant::now();
    let error = log.close(Duration::from_millis(50)).unwrap_err();
    assert!(
        matches!(&error, AuditError::Write(source) if source.kind() == io::ErrorKind::StorageFull),
        "{error:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(!log.is_healthy());
    drop(exchange(&log));
}

#[test]
fn a_deleted_log_makes_the_gate_refuse() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gate.jsonl");
    let log = try_open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    drop(exchange(&log));
    wait_until("unhealthy", || !log.is_healthy());
    assert!(matches!(log.close(Duration::from_millis(10)).unwrap_err(), AuditError::Write(_)));
}

#[test]
fn a_log_that_nobody_closed_is_closed_with_its_last_handle() {
    let disk = Disk::default();
    let log = start(disk.clone());
    let record = exchange(&log);
    drop(log);
    drop(record);
    wait_until("closed", || verify(disk.contents().as_slice(), None).is_ok_and(|log| log.closed));
    assert_eq!(records(&disk.contents()).len(), 3);
}

#[test]
fn what_a_handler_does_is_in_the_same_log() {
    let disk = Disk::default();
    let log = start(disk.clone());
    let mut line = log.handler_line();
    let fields = serde_json::Map::from_iter([("n".to_owned(), 1.into())]);
    line.set_handler_line(LogLevel::Info, "seen", fields);
    line.request_id = Some("r1".to_owned());
    drop(line);
    let mut fetch = log.fetch();
    fetch.request_id = Some("r1".to_owned());
    drop(fetch);
    let mut control = log.control("policy_published");
    control.actor = Some("uid 0".to_owned());
    drop(control);
    log.close(SOON).unwrap();
    let written = records(&disk.contents());
    let kinds: Vec<_> = written.iter().map(|record| record["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["control", "handler", "fetch", "control", "control"]);
    assert_eq!((&written[1]["message"], &written[1]["fields"]["n"]), (&"seen".into(), &1.into()));
    assert_eq!(written[1].get("verdict"), None);
    assert_eq!(written[2]["reason"], ABANDONED);
    assert!(written[2]["duration_ms"].is_number());
    assert_eq!((&written[3]["action"], &written[3]["actor"]), (&"policy_published".into(), &"uid 0".into()));
}

#[test]
fn bulk_that_waits_is_bounded_and_costs_no_record() {
    let disk = Disk::default();
    let log = start(disk.clone());
    disk.is_stuck.store(true, Ordering::SeqCst);
    drop(exchange(&log));
    wait_until("stuck", || disk.writes.load(Ordering::SeqCst) == 2);
    let body = vec![b'x'; crate::tap::TAP_BYTES_MAX];
    let fitting = BULK_MAX / body.len();
    for _ in 0..fitting + 3 {
        let mut record = exchange(&log);
        record.tap_response(usize::MAX).take(&body);
    }
    disk.is_stuck.store(false, Ordering::SeqCst);
    // Once what waited is written there is room again.
    wait_until("written", || records(&disk.contents()).len() == fitting + 5);
    exchange(&log).tap_response(9).take(b"again");
    log.close(SOON).unwrap();
    let written = records(&disk.contents());
    let taps: Vec<_> = written.iter().filter_map(|record| record.get("response_tap")).collect();
    assert_eq!(taps.len(), fitting + 4);
    assert_eq!(taps[fitting + 3]["text"], "again");
    let is_whole = |tap: &&&Value| tap["text"].as_str().is_some_and(|text| text.len() == body.len());
    assert_eq!(taps.iter().filter(is_whole).count(), fitting);
    assert_eq!(taps[fitting], &serde_json::json!({"text": "", "truncated": true}));
}
