//! Keys as stores can hold them: the prefix before them, and names that no key can climb out of.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sluicegate_policy::Identity;

use super::{Fault, KEY_BYTES_MAX};

/// What a file's name has as it is. The full stop is not in it, so that no name is special.
const FILE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// What an id that is filled into a prefix has as it is: no `/`, so that no id can be the beginning
/// of another's prefix.
const ID: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b':');

/// The longest part of a file's name, in bytes: with what is added it fits into the usual 255.
const PART_BYTES_MAX: usize = 200;

/// What stands before every key of a binding, so that a handler sees no other keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prefix(Box<str>);

impl Prefix {
    /// Fills in whose prefix it is.
    pub(super) fn new(template: &str, identity: &Identity) -> Self {
        let id = |text: &str| utf8_percent_encode(text, ID).to_string();
        let filled = template
            .replace("{instance_id}", &id(&identity.instance_id))
            .replace("{container_id}", &id(&identity.container_id));
        Self(filled.into())
    }

    /// The key as the store knows it.
    pub(super) fn before(&self, key: &str) -> Result<String, Fault> {
        if key.is_empty() {
            return Err(Fault::Key);
        }
        self.before_start(key)
    }

    /// The beginning of keys as the store knows it; unlike a key it may be empty.
    pub(super) fn before_start(&self, start: &str) -> Result<String, Fault> {
        if start.len() > KEY_BYTES_MAX {
            return Err(Fault::Key);
        }
        Ok(format!("{}{start}", self.0))
    }

    /// The key as the handler knows it; `None` for a key of somebody else's.
    pub(super) fn strip(&self, key: &str) -> Option<Box<str>> {
        key.strip_prefix(&*self.0).filter(|key| !key.is_empty()).map(Box::from)
    }
}

/// The path of a key's file. Every key has its own, below the folder whatever the key is.
///
/// A name that is too long for a file goes on in a folder: `AAA+/BBB`. `+` is in no name as such.
pub(super) fn to_path(key: &str) -> String {
    let name = utf8_percent_encode(key, FILE).to_string();
    let parts = name.as_bytes().chunks(PART_BYTES_MAX).map(String::from_utf8_lossy);
    parts.collect::<Vec<Cow<'_, str>>>().join("+/")
}

/// The key whose file this is; `None` for a file of somebody else's.
pub(super) fn from_path(path: &str) -> Option<String> {
    let name = path.replace("+/", "");
    let key = percent_decode_str(&name).decode_utf8().ok()?.into_owned();
    (!key.is_empty() && to_path(&key) == path).then_some(key)
}

/// The name of a key in a bucket: the key itself, but for what a path cannot say. Those are empty
/// and dotted segments, a `/` at either end, blanks at either end, control characters, `\\` and `%`.
pub(super) fn to_object(key: &str) -> String {
    let mut name = String::with_capacity(key.len());
    let mut before: Option<&str> = None;
    let mut segments = key.split('/').peekable();
    while let Some(segment) = segments.next() {
        if let Some(before) = before {
            // A slash that begins or ends the key, or follows another, would be taken away.
            let is_lost = before.is_empty() || (segment.is_empty() && segments.peek().is_none());
            name.push_str(if is_lost { "%2F" } else { "/" });
        }
        match segment {
            "." => name.push_str("%2E"),
            ".." => name.push_str("%2E%2E"),
            segment => segment.chars().for_each(|character| push(&mut name, character)),
        }
        before = Some(segment);
    }
    encode_ends(name)
}

/// The key whose object this is; `None` for an object of somebody else's.
pub(super) fn from_object(name: &str) -> Option<String> {
    let key = percent_decode_str(name).decode_utf8().ok()?.into_owned();
    (!key.is_empty() && to_object(&key) == name).then_some(key)
}

/// What the names of all keys that begin with `start` begin with.
pub(super) fn to_object_start(start: &str) -> String {
    // What is written in another way at the end of a key than within it is left off.
    to_object(start.trim_end_matches(|c: char| c == '/' || c == '.' || c.is_whitespace()))
}

fn push(name: &mut String, character: char) {
    if character.is_control() || matches!(character, '%' | '\\') {
        let mut bytes = [0; 4];
        name.extend(utf8_percent_encode(character.encode_utf8(&mut bytes), NON_ALPHANUMERIC));
    } else {
        name.push(character);
    }
}

fn encode_ends(name: String) -> String {
    let kept = name.trim();
    if kept.len() == name.len() {
        return name;
    }
    let begin = name.len() - name.trim_start().len();
    let (before, rest) = name.split_at(begin);
    let (kept, after) = rest.split_at(kept.len());
    let all = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    format!("{}{kept}{}", all(before), all(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &[&str] = &[
        "a",
        "a/b",
        "a//b",
        "/a",
        "//a",
        "a/",
        "a//",
        "/",
        "//",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        "./a",
        "a/..",
        "..a",
        "a.",
        ".a",
        "...",
        " ",
        " a",
        "a ",
        "\u{a0}a\u{a0}",
        "  /  ",
        "/ ",
        " /",
        "%",
        "%2F",
        "%2E%2E",
        "%252F",
        "a\0b",
        "\n",
        "a\\b",
        "ä/ö",
        "+",
        "a+",
        "a+/b",
        "+/",
        "~",
        "*",
        "?",
        "#",
        "a?b#c",
        ".partial",
        ".partial/a",
        "con",
        "é",
        "e\u{301}",
        "\u{202e}a",
        "🦀",
    ];

    fn identity(container_id: &str) -> Identity {
        Identity {
            container_id: container_id.into(),
            instance_id: "instance".into(),
            labels: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn every_key_has_a_file_of_its_own_below_the_folder() {
        let long: Vec<String> = [199, 200, 201, 400, 512].iter().map(|&n| "a".repeat(n)).collect();
        let longest = "é".repeat(256);
        let keys = HOSTILE.iter().copied().chain(long.iter().map(String::as_str)).chain([longest.as_str()]);
        let mut seen = std::collections::HashSet::new();
        for key in keys {
            let path = to_path(key);
            assert_eq!(from_path(&path).as_deref(), Some(key), "{path}");
            for part in path.split('/') {
                assert!((1..=255).contains(&part.len()) && !part.starts_with('.'), "{path}");
                assert!(part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_%+".contains(&byte)));
            }
            assert!(seen.insert(path), "{key:?}");
        }
    }

    #[test]
    fn no_file_is_another_keys_folder() {
        let (short, long) = (to_path(&"a".repeat(200)), to_path(&"a".repeat(201)));
        assert!(!long.starts_with(&format!("{short}/")), "{long}");
    }

    #[test]
    fn foreign_files_are_not_keys() {
        for path in ["", ".partial/a.1", "a.b", "a%2f", "%61", "a/b", "a+", "a+/b", "%ff"] {
            assert_eq!(from_path(path), None, "{path}");
        }
    }

    #[test]
    fn every_key_has_an_object_of_its_own_that_is_a_plain_path() {
        let mut seen = std::collections::HashSet::new();
        for key in HOSTILE {
            let name = to_object(key);
            assert_eq!(from_object(&name).as_deref(), Some(*key), "{name:?}");
            assert_eq!(name.trim(), name);
            assert!(name.split('/').all(|part| !matches!(part, "" | "." | "..")), "{key:?} is {name:?}");
            assert!(seen.insert(name), "{key:?}");
        }
    }

    #[test]
    fn usual_keys_are_their_own_names() {
        for key in ["a", "logs/2026-11-21/a.txt", "a b/c", "ä/ö", "a+b=c&d", "...", ".hidden/x"] {
            assert_eq!(to_object(key), key);
        }
    }

    #[test]
    fn the_start_of_a_name_covers_all_keys_that_begin_so() {
        for start in HOSTILE {
            for key in HOSTILE.iter().map(|rest| format!("{start}{rest}")).chain([(*start).to_owned()]) {
                let name = to_object(&key);
                assert!(name.starts_with(&to_object_start(start)), "{start:?}: {key:?} is {name:?}");
            }
        }
    }

    #[test]
    fn prefixes_are_filled_and_kept_apart() {
        let prefix = Prefix::new("{container_id}/{instance_id}:", &identity("c1"));
        assert_eq!(prefix.before("a").unwrap(), "c1/instance:a");
        assert_eq!(prefix.strip("c1/instance:a").as_deref(), Some("a"));
        assert_eq!(prefix.strip("c2/instance:a"), None);
        assert_eq!(prefix.strip("c1/instance:"), None);
        // An id can neither end its prefix early nor climb out.
        assert_eq!(Prefix::new("{container_id}/", &identity("a/b")).before("c").unwrap(), "a%2Fb/c");
        // Nor can one id be written so that the other is filled into it.
        assert_eq!(
            Prefix::new("{container_id}/", &identity("{instance_id}")).before("c").unwrap(),
            "%7Binstance_id%7D/c"
        );
    }

    #[test]
    fn keys_are_bounded() {
        let prefix = Prefix::new("", &identity("c"));
        assert_eq!(prefix.before(""), Err(Fault::Key));
        assert_eq!(prefix.before(&"a".repeat(513)), Err(Fault::Key));
        assert!(prefix.before(&"a".repeat(512)).is_ok());
        assert!(prefix.before_start("").is_ok());
    }
}
