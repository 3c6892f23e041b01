//! Values in every spelling, cut at every place.

use super::*;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

const SECRET: &[u8] = b"ghp_q/W+e\"r t%\\y";

fn scrubber(values: &[&str]) -> Scrubber {
    Scrubber::new(&values.iter().map(|value| value.as_bytes()).collect::<Vec<_>>())
}

fn masked(scrubber: &Scrubber, text: &str) -> String {
    let mut text = text.to_owned();
    scrubber.text(&mut text);
    text
}

/// What comes out of a stream that is cut at these places, and the most that was held back.
fn streamed(scrubber: &Scrubber, text: &[u8], cuts: &[usize]) -> (Vec<u8>, usize) {
    let mut scrubbing = Scrubbing::new(scrubber.clone());
    let (mut out, mut held, mut from) = (Vec::new(), 0, 0);
    for &to in cuts {
        out.extend_from_slice(&scrubbing.pass(Bytes::copy_from_slice(&text[from..to]), false));
        held = held.max(scrubbing.held());
        from = to;
    }
    out.extend_from_slice(&scrubbing.pass(Bytes::copy_from_slice(&text[from..]), true));
    assert_eq!(scrubbing.held(), 0);
    (out, held)
}

#[test]
fn c05_a_value_is_masked_in_every_spelling() {
    let scrubber = Scrubber::new(&[SECRET, "pässwörd😀".as_bytes()]);
    let spellings = [
        "ghp_q/W+e\"r t%\\y",
        "ghp_q%2FW%2Be%22r%20t%25%5Cy",
        "ghp_q%2fW%2be%22r+t%25%5cy",
        "%67%68%70%5F%71%2f%57%2b%65%22%72%20%74%25%5c%79",
        r#"ghp_q/W+e\"r t%\\y"#,
        r#"ghp_q\/W\u002Be\u0022r t\u0025\\y"#,
        "pässwörd😀",
        "p%C3%A4ssw%c3%b6rd%F0%9F%98%80",
        r"p\u00e4ssw\u00F6rd\ud83d\uDE00",
        &STANDARD.encode(SECRET).replace('=', ""),
        &URL_SAFE.encode(SECRET).replace('=', ""),
        &STANDARD.encode(SECRET).replace('=', "").replace('+', "%2B").replace('/', "%2F"),
        &STANDARD.encode("pässwörd😀").replace('=', "").replace('/', r"\/"),
    ];
    for spelling in spellings {
        for (before, after) in [("", ""), ("{\"token\":\"", "\"}"), ("gh%", "ghp_q"), ("\\", "%6")] {
            let stars = "*".repeat(spelling.len());
            let text = format!("{before}{spelling}{after}");
            assert_eq!(masked(&scrubber, &text), format!("{before}{stars}{after}"), "{text}");
        }
    }
}

#[test]
fn c05_a_value_that_was_encoded_with_its_neighbours_is_masked_but_for_what_they_share() {
    let scrubber = scrubber(&["correct-horse"]);
    for user in ["", "1", "12", "123", "1234"] {
        for rest in ["", "?", "!!", "5678"] {
            for engine in [STANDARD, URL_SAFE] {
                let encoded = engine.encode(format!("{user}:correct-horse{rest}"));
                let text = masked(&scrubber, &format!("Basic {encoded}"));
                let kept = text.strip_prefix("Basic ").unwrap();
                let decodable: String =
                    kept.chars().map(|kept| if kept == '*' { 'A' } else { kept }).collect();
                let decoded = engine.decode(decodable).unwrap();
                let told = decoded.windows(2).any(|pair| b"correct-horse".windows(2).any(|own| own == pair));
                assert!(kept.len() == encoded.len() && !told, "{user} {rest}: {text}");
            }
        }
    }
}

#[test]
fn c05_where_a_stream_is_cut_makes_no_difference() {
    let scrubber = Scrubber::new(&[SECRET, b"aab", b"bcc"]);
    let texts = [
        "x ghp_q/W+e\"r t%\\y ghp_q%2FW%2be%22r+t%25%5Cy gh".to_owned(),
        format!(r#"{{"a":"ghp_q\/W\u002be\u0022r t%\\y","b":"{}"}}"#, STANDARD.encode(SECRET)),
        "aaab aaaabccc aabccaab aab%62cc %6%61%61b".to_owned(),
    ];
    for text in texts {
        let text = text.as_bytes();
        let (whole, _) = streamed(&scrubber, text, &[]);
        assert_ne!(whole, text);
        assert_eq!(whole.len(), text.len());
        for first in 0..=text.len() {
            for second in first..=text.len() {
                assert_eq!(streamed(&scrubber, text, &[first, second]).0, whole, "{first} {second}");
            }
        }
        let every: Vec<_> = (1..text.len()).collect();
        assert_eq!(streamed(&scrubber, text, &every).0, whole);
    }
}

#[test]
fn values_that_overlap_are_masked_both() {
    let scrubber = scrubber(&["aab", "bcc", "long", "longer"]);
    let cases =
        [("xaabccx", "x*****x"), ("aaab", "a***"), ("aabaab", "******"), ("longerlong", "**********")];
    for (text, expected) in cases {
        assert_eq!(masked(&scrubber, text), expected);
    }
}

#[test]
fn no_more_is_held_back_than_may_be_the_beginning_of_a_value() {
    let scrubber = scrubber(&["ghp_0123456789"]);
    let mut scrubbing = Scrubbing::new(scrubber.clone());
    for (chunk, given, held) in [
        ("data: gh\n\n", "data: gh\n\n", 0),
        ("data: gh", "data: ", 2),
        ("p_01234567", "", 12),
        ("x", "ghp_01234567x", 0),
        ("100%", "100", 1),
        (" of it", "% of it", 0),
    ] {
        assert_eq!(scrubbing.pass(Bytes::from(chunk), false), given);
        assert_eq!(scrubbing.held(), held, "{chunk}");
    }
    let escaped: String = "ghp_0123456789".bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    let every: Vec<_> = (1..escaped.len()).collect();
    let (out, held) = streamed(&scrubber, escaped.as_bytes(), &every);
    assert_eq!((out, held), (vec![b'*'; escaped.len()], escaped.len() - 1));
}

#[test]
fn what_holds_no_value_passes_as_it_is() {
    let scrubber = scrubber(&["ghp_0123456789"]);
    let texts =
        ["", "%", "%zz%6", "\\", r"\u12", r"\ud83d", r"\ud83dx", r"\ud83d\u0041", r"\udc00", "ghp_0%31x"];
    for text in texts {
        assert_eq!(masked(&scrubber, text), text);
        assert_eq!(streamed(&scrubber, text.as_bytes(), &[text.len() / 2]).0, text.as_bytes());
    }
    let chunk = Bytes::from("untouched");
    let passed = Scrubbing::new(scrubber).pass(chunk.clone(), false);
    assert_eq!(passed.as_ptr(), chunk.as_ptr());
    assert_eq!(masked(&Scrubber::new(&[b""]), "% a \\"), "% a \\");
}

#[test]
fn c05_heads_and_trailers_are_masked() {
    let scrubber = scrubber(&["s3cr3t-token", "77"]);
    let mut response = http::Response::builder()
        .header("location", "https://a.test/?t=s3cr3t%2Dtoken")
        .header("set-cookie", "a=s3cr3t-token")
        .header("set-cookie", "b=1")
        .header("content-length", "77")
        .body(())
        .unwrap();
    response.extensions_mut().insert(ReasonPhrase::from_static(b"OK s3cr3t-token"));
    let (mut head, ()) = response.into_parts();
    scrubber.head(&mut head);
    assert_eq!(head.headers["location"], "https://a.test/?t=**************");
    let cookies: Vec<_> = head.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=************", "b=1"]);
    assert_eq!(head.headers["content-length"], "77");
    assert!(head.extensions.get::<ReasonPhrase>().is_none());
}

#[test]
fn only_a_body_without_content_coding_can_be_read() {
    for (codings, can_read) in [
        (vec![], true),
        (vec!["identity"], true),
        (vec![" Identity "], true),
        (vec!["gzip"], false),
        (vec!["identity", "br"], false),
        (vec!["identity, gzip"], false),
        (vec![""], false),
    ] {
        let mut headers = HeaderMap::new();
        for coding in &codings {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        assert_eq!(Scrubber::can_read(&headers), can_read, "{codings:?}");
    }
}

#[test]
fn a_start_does_not_end_in_the_beginning_of_a_value() {
    let scrubber = scrubber(&["ghp_0123456789"]);
    for (text, kept) in [
        ("a ghp_0123456789 b", "a ************** b"),
        ("a ghp_012345678", "a "),
        ("a g", "a "),
        ("a b", "a b"),
        ("a ghp_0123456789 %67h", "a ************** "),
    ] {
        let mut start = text.as_bytes().to_vec();
        scrubber.start(&mut start);
        assert_eq!(start, kept.as_bytes());
    }
}

#[test]
fn no_value_is_shown_when_printed_for_debugging() {
    let scrubber = scrubber(&["ghp_0123456789"]);
    let mut scrubbing = Scrubbing::new(scrubber.clone());
    scrubbing.pass(Bytes::from("ghp_01234567"), false);
    assert_eq!(format!("{scrubber:?} {scrubbing:?}"), "<scrubber> Scrubbing { held: 12, .. }");
}
