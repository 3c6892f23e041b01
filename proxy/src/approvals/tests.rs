use std::sync::Arc;
use std::task::Poll;

use super::memory::REMEMBERED_MAX;
use super::*;

const SOON: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(30);

fn approvals() -> (Arc<Approvals>, broadcast::Receiver<Event>) {
    let (events, told) = broadcast::channel(256);
    (Arc::new(Approvals::new(events)), told)
}

fn question(target: &str) -> Question {
    Question {
        request_id: "00000001-1".into(),
        instance: "agent".into(),
        method: Method::POST,
        scheme: Scheme::Https,
        authority: Authority::parse("api.test:443", 443).unwrap(),
        target: target.into(),
        reason: "really write?".into(),
        asked_by: "rules[0]".into(),
        patience: LONG,
    }
}

/// Asks on a task of its own, and returns when the question waits.
async fn asked(approvals: &Arc<Approvals>, question: Question) -> tokio::task::JoinHandle<Verdict> {
    let waiting =
        |approvals: &Approvals| -> usize { approvals.pending().iter().map(|pending| pending.waiting).sum() };
    let before = waiting(approvals);
    let asking = Arc::clone(approvals);
    let asker = tokio::spawn(async move { asking.ask(question).await });
    while waiting(approvals) == before {
        tokio::task::yield_now().await;
    }
    asker
}

fn decide(approvals: &Approvals, id: &str, allow: bool, remember: Remember) -> Result<(), DecideError> {
    approvals.prepare(id, allow, remember).and_then(|decision| approvals.settle(decision, "uid 1000"))
}

fn drained(told: &mut broadcast::Receiver<Event>) -> Vec<Event> {
    std::iter::from_fn(|| told.try_recv().ok()).collect()
}

#[tokio::test]
async fn an_answer_lets_the_request_go_on_or_not() {
    let (approvals, mut told) = approvals();
    for (allow, expected) in [
        (true, Verdict::Allowed { id: "a1".into(), remembered: false }),
        (false, Verdict::Denied { id: "a2".into() }),
    ] {
        let asker = asked(&approvals, question("/v1/x?y=1")).await;
        let pending = approvals.pending();
        let [pending] = pending.as_slice() else { panic!("{pending:?}") };
        assert_eq!(pending.subject.authority, "api.test:443");
        assert_eq!(pending.subject.target, "/v1/x?y=1");
        decide(&approvals, &pending.id, allow, Remember::Once).unwrap();
        assert_eq!(asker.await.unwrap(), expected);
        assert_eq!(approvals.pending(), []);
        let events = drained(&mut told);
        let [Event::ApprovalAsked(asked), Event::ApprovalDecided { id, allow: decided, by }] =
            events.as_slice()
        else {
            panic!("{events:?}")
        };
        assert_eq!((asked, id, *decided, by.as_str()), (pending, &pending.id, allow, "uid 1000"));
    }
    assert_eq!(approvals.remembered(), []);
}

#[tokio::test]
async fn without_an_answer_nothing_goes_on() {
    let (approvals, mut told) = approvals();
    let verdict = approvals.ask(Question { patience: SOON, ..question("/") }).await;
    assert_eq!(verdict, Verdict::TimedOut { id: "a1".into() });
    assert_eq!(approvals.pending(), []);
    assert_eq!(drained(&mut told).pop(), Some(Event::ApprovalLapsed { id: "a1".into() }));
    assert_eq!(decide(&approvals, "a1", true, Remember::Once), Err(DecideError::NotPending));
    for id in ["", "a", "a0", "a01", "1", "r1"] {
        assert_eq!(decide(&approvals, id, true, Remember::Always), Err(DecideError::NotPending), "{id}");
    }
}

#[tokio::test]
async fn the_patience_of_a_question_has_a_limit() {
    let (approvals, _told) = approvals();
    let asker = asked(&approvals, Question { patience: Duration::MAX, ..question("/") }).await;
    let [pending] = approvals.pending().try_into().unwrap();
    assert_eq!(pending.expires.duration_since(pending.asked).unwrap(), PATIENCE_MAX);
    asker.abort();
}

#[tokio::test]
async fn the_same_question_is_asked_once_and_answered_for_all_who_wait() {
    let (approvals, mut told) = approvals();
    let first = asked(&approvals, question("/")).await;
    let second = asked(&approvals, Question { request_id: "00000001-2".into(), ..question("/") }).await;
    let [pending] = approvals.pending().try_into().unwrap();
    assert_eq!((pending.waiting, pending.request_id.as_str()), (2, "00000001-1"));
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert_eq!(approvals.pending()[0].waiting, 1);
    decide(&approvals, &pending.id, true, Remember::Once).unwrap();
    assert_eq!(second.await.unwrap(), Verdict::Allowed { id: "a1".into(), remembered: false });
    assert_eq!(drained(&mut told).len(), 2, "asked once and decided once");
}

#[tokio::test]
async fn with_the_last_who_waits_the_question_goes() {
    let (approvals, mut told) = approvals();
    let asker = asked(&approvals, question("/")).await;
    asker.abort();
    assert!(asker.await.unwrap_err().is_cancelled());
    assert_eq!(approvals.pending(), []);
    assert_eq!(drained(&mut told).pop(), Some(Event::ApprovalLapsed { id: "a1".into() }));
}

#[tokio::test]
async fn there_is_an_end_to_what_waits() {
    let (approvals, _told) = approvals();
    let mut askers = Vec::new();
    for number in 0..PENDING_MAX {
        askers.push(asked(&approvals, question(&format!("/{number}"))).await);
    }
    assert_eq!(approvals.ask(question("/one-more")).await, Verdict::Full);
    // What waits already is no new question.
    let again = asked(&approvals, question("/0")).await;
    decide(&approvals, "a1", true, Remember::Once).unwrap();
    assert_eq!(again.await.unwrap(), Verdict::Allowed { id: "a1".into(), remembered: false });
    asked(&approvals, question("/one-more")).await.abort();
    for asker in askers {
        asker.abort();
    }
}

/// Questions that differ from `question("/v1/x?y=1")` in one thing each.
fn others() -> Vec<Question> {
    let same = || question("/v1/x?y=1");
    vec![
        Question { instance: "other".into(), ..same() },
        Question { method: Method::PUT, ..same() },
        Question { scheme: Scheme::Http, ..same() },
        Question { authority: Authority::parse("api.test:444", 443).unwrap(), ..same() },
        Question { authority: Authority::parse("api.tests:443", 443).unwrap(), ..same() },
        Question { reason: "really write 1000?".into(), ..same() },
        question("/v1/x?y=2"),
        question("/v1/x"),
        question("/v1/X?y=1"),
        question("/v1/x/?y=1"),
    ]
}

#[tokio::test]
async fn an_answer_is_remembered_for_exactly_what_was_asked() {
    for allow in [true, false] {
        let (approvals, _told) = approvals();
        let asker = asked(&approvals, question("/v1/x?y=1")).await;
        decide(&approvals, "a1", allow, Remember::Always).unwrap();
        asker.await.unwrap();
        let same = Question {
            request_id: "00000001-9".into(),
            asked_by: "rules[7]".into(),
            ..question("/v1/x?y=1")
        };
        let expected = match allow {
            true => Verdict::Allowed { id: "r1".into(), remembered: true },
            false => Verdict::Denied { id: "r1".into() },
        };
        assert_eq!(approvals.ask(same).await, expected);
        for other in others() {
            let verdict = approvals.ask(Question { patience: Duration::ZERO, ..other.clone() }).await;
            assert!(matches!(verdict, Verdict::TimedOut { .. }), "{other:?}");
        }
    }
}

#[tokio::test]
async fn only_the_same_question_joins_those_who_wait() {
    let (approvals, _told) = approvals();
    let asker = asked(&approvals, question("/v1/x?y=1")).await;
    for other in others() {
        let other_asker = asked(&approvals, other.clone()).await;
        assert_eq!(approvals.pending().len(), 2, "{other:?}");
        other_asker.abort();
        drop(other_asker.await);
    }
    asker.abort();
}

#[tokio::test]
async fn what_is_remembered_ends_with_its_time_or_when_it_is_forgotten() {
    let while_looked_at = Duration::from_secs(2);
    let (approvals, _told) = approvals();
    let asker = asked(&approvals, question("/")).await;
    decide(&approvals, "a1", true, Remember::For(while_looked_at)).unwrap();
    asker.await.unwrap();
    assert_eq!(approvals.remembered().len(), 1);
    tokio::time::sleep(while_looked_at).await;
    assert_eq!(approvals.remembered(), []);
    let asker = asked(&approvals, question("/")).await;
    decide(&approvals, "a2", true, Remember::Always).unwrap();
    asker.await.unwrap();
    assert!(!approvals.forget("r1"));
    assert!(approvals.forget("r2"));
    let verdict = approvals.ask(Question { patience: Duration::ZERO, ..question("/") }).await;
    assert!(matches!(verdict, Verdict::TimedOut { .. }));
}

#[tokio::test]
async fn nothing_counts_before_it_is_settled() {
    let (approvals, mut told) = approvals();
    let asking = Arc::clone(&approvals);
    let mut ask = std::pin::pin!(asking.ask(question("/")));
    assert_eq!(std::future::poll_fn(|cx| Poll::Ready(ask.as_mut().poll(cx))).await, Poll::Pending);
    let decision = approvals.prepare("a1", true, Remember::Always).unwrap();
    assert_eq!(approvals.remembered(), []);
    assert_eq!(approvals.pending().len(), 1);
    assert_eq!(drained(&mut told).len(), 1);
    approvals.settle(decision.clone(), "uid 0").unwrap();
    assert_eq!(ask.await, Verdict::Allowed { id: "a1".into(), remembered: false });
    assert_eq!(approvals.settle(decision, "uid 0"), Err(DecideError::NotPending));
    assert_eq!(approvals.remembered().len(), 1);
}

#[tokio::test]
async fn what_was_remembered_is_taken_over_by_the_next_run() {
    let (before, _told) = approvals();
    let asker = asked(&before, question("/")).await;
    decide(&before, "a1", true, Remember::Always).unwrap();
    asker.await.unwrap();
    let asker = asked(&before, question("/short")).await;
    decide(&before, "a2", true, Remember::For(LONG)).unwrap();
    asker.await.unwrap();

    let kept = serde_json::to_string(&before.remembered()).unwrap();
    let mut kept: Vec<Remembered> = serde_json::from_str(&kept).unwrap();
    kept[1].expires = Some(SystemTime::now() - SOON);
    let (after, _told) = approvals();
    after.restore(kept);
    let answer = after.ask(question("/")).await;
    assert_eq!(answer, Verdict::Allowed { id: "r1".into(), remembered: true });
    assert_eq!(after.remembered().len(), 1, "the other has ended");
    let asker = asked(&after, question("/new")).await;
    decide(&after, "a1", false, Remember::Always).unwrap();
    asker.await.unwrap();
    assert_eq!(after.remembered()[1].id, "r3", "ids go on");
}

#[tokio::test]
async fn there_is_an_end_to_what_is_remembered() {
    let (approvals, _told) = approvals();
    let subject = Subject {
        instance: "agent".into(),
        method: "POST".into(),
        scheme: "https".into(),
        authority: "api.test:443".into(),
        target: "/".into(),
        reason: "really write?".into(),
    };
    let known = |number: usize| Remembered {
        id: format!("r{number}"),
        subject: Subject { target: format!("/{number}"), ..subject.clone() },
        allow: true,
        decided: SystemTime::now(),
        expires: None,
    };
    approvals.restore((1..=REMEMBERED_MAX + 5).map(known).collect());
    assert_eq!(approvals.remembered().len(), REMEMBERED_MAX);
    let asker = asked(&approvals, question("/")).await;
    assert_eq!(decide(&approvals, "a1", true, Remember::Always), Err(DecideError::MemoryFull));
    assert_eq!(approvals.pending().len(), 1, "it still waits");
    assert!(approvals.forget("r7"));
    decide(&approvals, "a1", true, Remember::Always).unwrap();
    asker.await.unwrap();

    let long = "/".repeat(REMEMBERED_BYTES_MAX);
    let asker = asked(&approvals, question(&long)).await;
    assert_eq!(decide(&approvals, "a2", true, Remember::Always), Err(DecideError::TooLong));
    assert_eq!(decide(&approvals, "a2", true, Remember::For(Duration::MAX)), Err(DecideError::NoSuchTime));
    decide(&approvals, "a2", true, Remember::Once).unwrap();
    assert_eq!(asker.await.unwrap(), Verdict::Allowed { id: "a2".into(), remembered: false });
}
