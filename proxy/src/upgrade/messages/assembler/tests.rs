//! Frames in every cut and with every fault.

use super::*;

const MASK: [u8; 4] = [1, 2, 3, 4];
const MOST: usize = 200_000;

/// A frame that may be a part, with bits and lengths as they are given.
fn part(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut bytes = frame(Opcode::Ping, payload, mask);
    bytes[0] = first;
    bytes
}

fn text(text: &str) -> Event {
    Event::Message(MessageContent::Text(text.into()))
}

fn binary(bytes: &[u8]) -> Event {
    Event::Message(MessageContent::Binary(Bytes::copy_from_slice(bytes)))
}

/// Every kind of frame, with what comes out, and where each event is whole.
fn conversation(mask: Option<[u8; 4]>) -> (Vec<u8>, Vec<(usize, Event)>) {
    let long: Vec<u8> = (0..70_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let (mut bytes, mut events) = (Vec::new(), Vec::new());
    let mut add = |part: Vec<u8>, event: Option<Event>| {
        bytes.extend(part);
        events.extend(event.map(|event| (bytes.len(), event)));
    };
    add(frame(Opcode::Text, "grüße".as_bytes(), mask), Some(text("grüße")));
    add(frame(Opcode::Binary, b"", mask), Some(binary(b"")));
    for length in [1, 125, 126, 300, 0xffff, 0x1_0000, 70_000] {
        add(frame(Opcode::Binary, &long[..length], mask), Some(binary(&long[..length])));
    }
    // A character in two pieces, with control frames between them.
    add(part(0x01, b"a\xc3", mask), None);
    add(frame(Opcode::Ping, b"there?", mask), Some(Event::Control(Opcode::Ping, b"there?".to_vec())));
    add(part(0x00, b"", mask), None);
    add(part(0x00, b"\xbc", mask), None);
    add(frame(Opcode::Pong, b"", mask), Some(Event::Control(Opcode::Pong, Vec::new())));
    add(part(0x80, b"z", mask), Some(text("aüz")));
    add(part(0x02, b"", mask), None);
    add(part(0x80, b"", mask), Some(binary(b"")));
    add(frame(Opcode::Close, b"\x03\xe8", mask), Some(Event::Control(Opcode::Close, b"\x03\xe8".to_vec())));
    (bytes, events)
}

/// Gives bytes in these pieces; what came of it, and after how many bytes.
fn events(assembler: &mut Assembler, pieces: &[&[u8]]) -> Result<Vec<(usize, Event)>, Violation> {
    let (mut seen, mut at) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let (taken, event) = assembler.take(rest)?;
            assert!(taken > 0 && taken <= rest.len());
            rest = &rest[taken..];
            at += taken;
            seen.extend(event.map(|event| (at, event)));
        }
    }
    Ok(seen)
}

fn fault(bytes: &[u8], is_masked: bool) -> Violation {
    events(&mut Assembler::new(is_masked, MOST), &[bytes]).unwrap_err()
}

/// Linear congruential, so that the numbers are the same in every run (Knuth, MMIX).
fn numbers() -> impl FnMut() -> usize {
    let mut seed: u64 = 7;
    move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 40).unwrap()
    }
}

#[test]
fn messages_and_control_frames_come_out_in_order() {
    for mask in [None, Some(MASK)] {
        let (bytes, expected) = conversation(mask);
        let mut whole = Assembler::new(mask.is_some(), MOST);
        assert_eq!(events(&mut whole, &[&bytes]).unwrap(), expected);
        assert!(matches!(whole.state, State::Head { length: 0, .. }) && whole.held() == 0);
        let one_by_one: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(events(&mut Assembler::new(mask.is_some(), MOST), &one_by_one).unwrap(), expected);
    }
}

#[test]
fn however_it_is_cut_the_same_comes_out() {
    let (bytes, expected) = conversation(Some(MASK));
    let mut random = numbers();
    for _ in 0..200 {
        let (mut pieces, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let end = (at + 1 + random() % 30_000).min(bytes.len());
            pieces.push(&bytes[at..end]);
            at = end;
        }
        assert_eq!(events(&mut Assembler::new(true, MOST), &pieces).unwrap(), expected);
    }
}

#[test]
fn every_prefix_holds_what_is_whole_and_no_more() {
    let (bytes, expected) = conversation(Some(MASK));
    let short = bytes.len() - 300..bytes.len();
    for end in (0..60).chain(short) {
        let seen = events(&mut Assembler::new(true, MOST), &[&bytes[..end]]).unwrap();
        let whole: Vec<_> = expected.iter().filter(|(at, _)| *at <= end).cloned().collect();
        assert_eq!(seen, whole, "{end}");
    }
}

#[test]
fn what_is_changed_at_random_never_panics_nor_makes_more_than_came() {
    let (bytes, _) = conversation(Some(MASK));
    let (mut random, mut faults) = (numbers(), 0);
    for _ in 0..2_000 {
        let begins = random() % bytes.len();
        let mut changed = bytes[begins..bytes.len().min(begins + 400)].to_vec();
        for _ in 0..1 + random() % 4 {
            let at = random() % changed.len();
            changed[at] ^= 1 << (random() % 8);
        }
        let mut assembler = Assembler::new(true, 1_000);
        match events(&mut assembler, &[&changed]) {
            Ok(seen) => {
                let made: usize = seen
                    .iter()
                    .map(|(_, event)| match event {
                        Event::Message(content) => content.bytes().len(),
                        Event::Control(_, payload) => payload.len(),
                    })
                    .sum();
                assert!(made <= changed.len());
            }
            Err(_) => faults += 1,
        }
        assert!(assembler.held() <= 4_096);
    }
    assert!(faults > 1_000, "{faults}");
}

#[test]
fn our_own_frames_are_read_as_they_were_meant() {
    for length in [0, 1, 125, 126, 0xffff, 0x1_0000, 100_000] {
        let payload = vec![0x5a; length];
        for mask in [None, Some([9, 8, 7, 6])] {
            let bytes = frame(Opcode::Binary, &payload, mask);
            let seen = events(&mut Assembler::new(mask.is_some(), MOST), &[&bytes]).unwrap();
            assert_eq!(seen, [(bytes.len(), binary(&payload))], "{length}");
        }
    }
    assert_eq!(frame(Opcode::Text, b"Hello", None), [0x81, 5, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    // RFC 6455 section 5.7.
    let masked = frame(Opcode::Text, b"Hello", Some([0x37, 0xfa, 0x21, 0x3d]));
    assert_eq!(masked, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
}

#[test]
fn frames_that_break_the_rfc_are_1002() {
    let table: [(&[u8], &str); 17] = [
        (&[0xc1, 0], "an extension"),
        (&[0xa1, 0], "an extension"),
        (&[0x91, 0], "an extension"),
        (&[0x83, 0], "opcode"),
        (&[0x87, 0], "opcode"),
        (&[0x8b, 0], "opcode"),
        (&[0x8f, 0], "opcode"),
        (&[0x81, 0x80], "it is masked"),
        (&[0x80, 0], "has not begun"),
        (&[0x00, 0], "has not begun"),
        (&[0x01, 0, 0x81, 0], "within another"),
        (&[0x01, 0, 0x02, 0], "within another"),
        (&[0x09, 0], "in pieces"),
        (&[0x89, 126, 0, 126], "more than 125"),
        (&[0x82, 126, 0, 125], "length"),
        (&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], "length"),
        (&[0x88, 1, 3], "half a code"),
    ];
    for (bytes, message) in table {
        let fault = fault(bytes, false);
        assert_eq!(fault.code(), 1002, "{bytes:?}");
        assert!(fault.to_string().contains(message), "{bytes:?}: {fault}");
    }
    assert!(fault(&[0x81, 5], true).to_string().contains("it is not masked"));
    let negative = [0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0];
    assert!(fault(&negative, false).to_string().contains("length"));
}

#[test]
fn text_is_utf_8_when_it_is_whole() {
    for bad in [&b"\xff"[..], b"a\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"] {
        assert_eq!(fault(&frame(Opcode::Text, bad, Some(MASK)), true).code(), 1007, "{bad:?}");
    }
    let pieces = [part(0x01, b"\xc3", None), part(0x80, b"x", None)].concat();
    assert_eq!(fault(&pieces, false), Violation::NotText);
}

#[test]
fn a_message_that_is_too_long_is_refused_before_it_is_there() {
    let mut assembler = Assembler::new(false, 1_000);
    let exactly = frame(Opcode::Binary, &[7; 1_000], None);
    assert_eq!(events(&mut assembler, &[&exactly]).unwrap().len(), 1);
    // The head alone says so.
    assert_eq!(assembler.take(&[0x82, 126, 0x03, 0xe9]), Err(Violation::TooLong(1_000)));
    let huge = [0x82, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(Assembler::new(false, 1_000).take(&huge), Err(Violation::TooLong(1_000)));
    let mut assembler = Assembler::new(false, 1_000);
    events(&mut assembler, &[&part(0x02, &[7; 600], None)]).unwrap();
    assert_eq!(assembler.take(&part(0x80, &[7; 401], None)), Err(Violation::TooLong(1_000)));
}
