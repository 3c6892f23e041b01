//! Path patterns, and the one reading of a request's path that they are compared with.
//!
//! **Invariant:** a path that servers are known to read in different ways is either refused, or
//! compared in both readings: an allowing pattern must match both, a denying one either.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use thiserror::Error;

/// A pattern over the path without its query: `*` within a segment, `**` for any number of
/// segments, none included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathPattern {
    text: Box<str>,
    segments: Vec<Segment>,
    /// Whether the pattern ends in `/`, as in `/v1/`.
    trailing_slash: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// `**`.
    Any,
    /// Bytes, where `*` stands for any number of any bytes.
    Glob(Box<[u8]>),
}

/// How narrow a path pattern is; the greater, the narrower: no `*` at all, then the longer text
/// before the first `*`, then more text in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PathSpecificity {
    literal: bool,
    front: usize,
    bytes: usize,
}

/// The path of a request, decoded, in the one or two ways in which servers read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestPath<'raw> {
    decoded: Cow<'raw, [u8]>,
    /// Without `;parameters`, repeated slashes and trailing slash, where that makes a difference.
    folded: Option<Vec<u8>>,
}

/// The path can be read in ways too different to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the path can be read in more than one way: {0}")]
pub(crate) struct AmbiguousPath(&'static str);

/// Why a text is no path pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum PathPatternError {
    #[error("a path pattern begins with `/`")]
    NoSlash,
    #[error("a path pattern is matched against the path without its query or fragment")]
    Query,
    #[error("`**` stands for whole segments only")]
    DoubleStar,
    #[error("a path pattern has no `;parameters` and no empty segment")]
    Folds,
    #[error(transparent)]
    Ambiguous(#[from] AmbiguousPath),
}

impl PathPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, PathPatternError> {
        let inner = text.strip_prefix('/').ok_or(PathPatternError::NoSlash)?;
        if inner.contains(['?', '#']) {
            return Err(PathPatternError::Query);
        }
        let decoded = decode(text)?;
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        if decoded.contains(&b';') || (inner.split('/').any(str::is_empty) && text != "/") {
            return Err(PathPatternError::Folds);
        }
        if inner.split('/').any(|segment| segment.contains("**") && segment != "**") {
            return Err(PathPatternError::DoubleStar);
        }
        let segments = segments(&decoded)
            .map(|segment| if segment == b"**" { Segment::Any } else { Segment::Glob(segment.into()) })
            .collect();
        Ok(Self { text: text.into(), segments, trailing_slash: decoded.ends_with(b"/") })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern, read as one that allows, matches: in every reading of the path.
    pub(crate) fn admits(&self, path: &RequestPath<'_>) -> bool {
        self.matches(&path.decoded) && path.folded.as_deref().is_none_or(|folded| self.matches_folded(folded))
    }

    /// Whether the pattern, read as one that denies, matches: in any reading of the path.
    pub(crate) fn catches(&self, path: &RequestPath<'_>) -> bool {
        // A pattern `/a/` denies `/a` too: many servers make no difference.
        self.matches(&path.decoded) || self.matches_folded(path.folded.as_deref().unwrap_or(&path.decoded))
    }

    pub(crate) fn specificity(&self) -> PathSpecificity {
        PathSpecificity {
            literal: !self.text.contains('*'),
            front: self.text.find('*').unwrap_or(self.text.len()),
            bytes: self.text.bytes().filter(|&byte| byte != b'*').count(),
        }
    }

    fn matches(&self, path: &[u8]) -> bool {
        matches_segments(&self.segments, path)
    }

    /// As [`Self::matches`] for a path without a trailing slash, which the pattern then loses too.
    fn matches_folded(&self, path: &[u8]) -> bool {
        match self.segments.split_last() {
            Some((_, front)) if self.trailing_slash && !front.is_empty() => matches_segments(front, path),
            _ => matches_segments(&self.segments, path),
        }
    }
}

impl Segment {
    fn matches(&self, segment: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Glob(pattern) => {
                glob(pattern, segment.iter(), |&byte| byte == b'*', |own, other| own == *other)
            }
        }
    }
}

impl<'raw> RequestPath<'raw> {
    /// Decodes a path once.
    ///
    /// # Errors
    /// The path holds encoded slashes, backslashes, control characters, dot segments in any
    /// spelling, something encoded twice, or both `;` and `//`.
    pub(crate) fn read(raw: &'raw str) -> Result<Self, AmbiguousPath> {
        // `*` (RFC 9112 section 3.2.4) is outside every pattern, those that deny included.
        if !raw.starts_with('/') {
            return Err(AmbiguousPath("no slash at its start"));
        }
        let decoded = decode(raw)?;
        let parameters = decoded.contains(&b';');
        let slashes = decoded.windows(2).any(|pair| pair == b"//");
        if parameters && slashes {
            return Err(AmbiguousPath("`;` and an empty segment"));
        }
        let trailing = decoded.len() > 1 && decoded.ends_with(b"/");
        let folded = (parameters || slashes || trailing).then(|| fold(&decoded));
        Ok(Self { decoded, folded })
    }
}

fn matches_segments(pattern: &[Segment], path: &[u8]) -> bool {
    path.starts_with(b"/")
        && glob(pattern, segments(path), |own| *own == Segment::Any, |own, segment| own.matches(segment))
}

/// The path percent-decoded once, if that leaves one meaning.
fn decode(raw: &str) -> Result<Cow<'_, [u8]>, AmbiguousPath> {
    let bytes = raw.as_bytes();
    if bytes.contains(&b'\\') {
        return Err(AmbiguousPath("a backslash"));
    }
    if escapes(bytes).any(|escape| escape.is_none_or(|byte| byte == b'/' || byte == b'\\')) {
        return Err(AmbiguousPath("an encoded slash or backslash, or `%` without two digits"));
    }
    let decoded: Cow<'_, [u8]> = percent_decode_str(raw).into();
    if decoded.iter().any(u8::is_ascii_control) {
        return Err(AmbiguousPath("a control character"));
    }
    if matches!(decoded, Cow::Owned(_)) && escapes(&decoded).any(|escape| escape.is_some()) {
        return Err(AmbiguousPath("something encoded twice"));
    }
    if segments(&decoded).any(|segment| matches!(without_parameters(segment), b"." | b"..")) {
        return Err(AmbiguousPath("a dot segment"));
    }
    Ok(decoded)
}

/// The byte behind each `%`, or `None` where two hexadecimal digits do not follow.
fn escapes(bytes: &[u8]) -> impl Iterator<Item = Option<u8>> {
    bytes.iter().enumerate().filter(|&(_, &byte)| byte == b'%').map(|(at, _)| {
        let digit = |offset: usize| bytes.get(at + offset).and_then(|&byte| char::from(byte).to_digit(16));
        let value = digit(1)? * 16 + digit(2)?;
        u8::try_from(value).ok()
    })
}

fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    path.strip_prefix(b"/").unwrap_or(path).split(|&byte| byte == b'/')
}

fn without_parameters(segment: &[u8]) -> &[u8] {
    segment.split(|&byte| byte == b';').next().unwrap_or(segment)
}

/// The path as a server sees it that drops parameters, repeated slashes and the trailing one.
fn fold(path: &[u8]) -> Vec<u8> {
    let mut folded = Vec::with_capacity(path.len());
    for segment in segments(path).map(without_parameters).filter(|segment| !segment.is_empty()) {
        folded.push(b'/');
        folded.extend_from_slice(segment);
    }
    if folded.is_empty() {
        folded.push(b'/');
    }
    folded
}

/// Whether the items match the pattern, where parts that `is_star` accepts stand for any number of
/// items. Goes back to the last star only, so the time is at most the product of both lengths.
fn glob<P, I: Iterator + Clone>(
    pattern: &[P],
    mut items: I,
    is_star: impl Fn(&P) -> bool,
    matches: impl Fn(&P, &I::Item) -> bool,
) -> bool {
    let mut rest = pattern;
    // What follows the last star, and the items from the first that the star may leave to it.
    let mut star: Option<(&[P], I)> = None;
    loop {
        if let Some((own, after)) = rest.split_first()
            && is_star(own)
        {
            star = Some((after, items.clone()));
            rest = after;
            continue;
        }
        match (rest.split_first(), items.next()) {
            (None, None) => return true,
            (Some(_), None) => return false,
            (Some((own, after)), Some(item)) if matches(own, &item) => rest = after,
            (_, Some(_)) => {
                let Some((after, from)) = &mut star else { return false };
                from.next();
                items = from.clone();
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> PathPattern {
        PathPattern::parse(text).unwrap()
    }

    fn read(raw: &str) -> RequestPath<'_> {
        RequestPath::read(raw).unwrap()
    }

    #[test]
    fn patterns_match_paths() {
        let table = [
            ("/v1/**", "/v1/a", true),
            ("/v1/**", "/v1/a/b/", true),
            ("/v1/**", "/v1/", true),
            ("/v1/**", "/v1", true),
            ("/v1/**", "/v10", false),
            ("/v1/**", "/V1/a", false),
            ("/v1/**", "/a/v1/b", false),
            ("/v1/*", "/v1/a", true),
            ("/v1/*", "/v1/a/b", false),
            ("/v1/*", "/v1", false),
            ("/**/info/refs", "/a/b.git/info/refs", true),
            ("/**/info/refs", "/info/refs", true),
            ("/**/info/refs", "/info/refs/x", false),
            ("/*.git/info/refs", "/a.git/info/refs", true),
            ("/*.git/info/refs", "/a/b.git/info/refs", false),
            ("/a*b*c", "/axxbyyc", true),
            ("/a*b*c", "/axxbyy", false),
            ("/a/**/b/**/c", "/a/x/b/y/b/c", true),
            ("/a/**/b/**/c", "/a/x/c", false),
            ("/", "/", true),
            ("/", "/a", false),
            ("/**", "/", true),
            ("/**", "/a/b", true),
            ("/a%20b", "/a b", true),
            ("/a b", "/a%20b", true),
            ("/caf\u{e9}", "/caf%C3%A9", true),
            ("/a", "/%61", true),
        ];
        for (text, path, expected) in table {
            assert_eq!(pattern(text).admits(&read(path)), expected, "{text} {path}");
        }
    }

    #[test]
    fn two_readings_are_allowed_only_together_and_denied_alone() {
        // pattern, path, allowed, denied
        let table = [
            ("/admin/**", "//admin/x", false, true),
            ("/admin/**", "/admin;a=1/x", false, true),
            ("/v1/**", "/v1//x", true, true),
            ("/v1/**", "/v1/x;v=2", true, true),
            ("/v1/*/x", "/v1//x", false, true),
            ("/a", "/a/", false, true),
            ("/a/", "/a", false, true),
            ("/a/", "/a/", true, true),
            ("/a/*", "/a/", false, true),
        ];
        for (text, path, allowed, denied) in table {
            let (pattern, path) = (pattern(text), read(path));
            assert_eq!(pattern.admits(&path), allowed, "{text} allows {path:?}");
            assert_eq!(pattern.catches(&path), denied, "{text} denies {path:?}");
        }
    }

    #[test]
    fn ambiguous_paths_are_not_read() {
        for path in [
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%00b",
            "/a%0d%0ab",
            "/a%7f",
            "/a\tb",
            "/a/../b",
            "/a/./b",
            "/..",
            "/a/%2e%2e/b",
            "/a/.%2E/b",
            "/a/..;/b",
            "/a/%2e;x=1/b",
            "/a%252fb",
            "/a%252e",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a//b;c",
            "*",
            "a/b",
            "",
        ] {
            assert!(RequestPath::read(path).is_err(), "{path}");
        }
        for path in ["/", "/a.b/..c/...", "/.well-known/x", "/100%25", "/a+b", "/a:b@c", "/%e2%82%ac"] {
            assert!(RequestPath::read(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn bad_patterns_are_refused() {
        let table = [
            ("v1", PathPatternError::NoSlash),
            ("", PathPatternError::NoSlash),
            ("**", PathPatternError::NoSlash),
            ("/a?b", PathPatternError::Query),
            ("/a#b", PathPatternError::Query),
            ("/a**", PathPatternError::DoubleStar),
            ("/***", PathPatternError::DoubleStar),
            ("/a//b", PathPatternError::Folds),
            ("//", PathPatternError::Folds),
            ("/a;b", PathPatternError::Folds),
        ];
        for (text, error) in table {
            assert_eq!(PathPattern::parse(text), Err(error), "{text}");
        }
        for text in ["/a/../b", "/a%2fb", "/a\\b", "/a%"] {
            assert!(matches!(PathPattern::parse(text), Err(PathPatternError::Ambiguous(_))), "{text}");
        }
    }

    #[test]
    fn the_narrower_pattern_is_greater() {
        let order = ["/**", "/v1/**", "/v1/users/*", "/v1/users/me*", "/v1"];
        for pair in order.windows(2) {
            assert!(pattern(pair[0]).specificity() < pattern(pair[1]).specificity(), "{pair:?}");
        }
    }
}
