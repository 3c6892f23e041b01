//! A handler in JavaScript as a component: our engine, with the text in a section at its end.
//!
//! Such a file travels as components do, and the gate runs it as it runs the text.

/// The engine: QuickJS with the objects of `sluicegate-policy.d.ts`, as its generator made it.
pub(crate) const ENGINE: &[u8] = include_bytes!("../../javascript/engine.wasm");
/// What every component begins with: the magic number, the version, the layer of components.
pub(crate) const PREAMBLE: &[u8; 8] = b"\0asm\x0d\0\x01\0";
/// The name of the section that holds the handler.
const SECTION: &str = "sluicegate:handler";
/// The kind of sections that engines of WebAssembly pass over.
const CUSTOM: u8 = 0;
/// The bytes of a number in a file: LEB128 of 32 bits.
const NUMBER_BYTES_MAX: usize = 5;

/// The text in a component that [`embed_text`] made, by this version or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddedText<'content> {
    /// The name of the file that the text was in.
    pub file: &'content str,
    /// The text.
    pub text: &'content str,
    /// The component without it.
    engine: &'content [u8],
}

impl EmbeddedText<'_> {
    /// Whether the component is the engine of this version, so that running the text is running the
    /// component.
    #[must_use]
    pub fn is_of_this_version(&self) -> bool {
        self.engine == ENGINE
    }
}

/// A component of a handler in JavaScript. `file` is the name of the file that the text was in, for
/// messages.
#[must_use]
pub fn embed_text(file: &str, text: &str) -> Vec<u8> {
    append(ENGINE, file, text)
}

/// The text in a component, where its last section is one that [`embed_text`] made. Reads the lengths of
/// the sections and nothing else of it.
#[must_use]
pub fn embedded_text(content: &[u8]) -> Option<EmbeddedText<'_>> {
    let mut rest = content.strip_prefix(PREAMBLE)?;
    loop {
        let begins = content.len() - rest.len();
        let (kind, after_kind) = rest.split_first()?;
        let (section, after) = counted(after_kind)?;
        if after.is_empty() {
            let (name, section) = counted(section)?;
            if *kind != CUSTOM || name != SECTION.as_bytes() {
                return None;
            }
            let (file, text) = counted(section)?;
            let (file, text) = (std::str::from_utf8(file).ok()?, std::str::from_utf8(text).ok()?);
            return Some(EmbeddedText { file, text, engine: content.get(..begins)? });
        }
        rest = after;
    }
}

fn append(engine: &[u8], file: &str, text: &str) -> Vec<u8> {
    let mut section = Vec::with_capacity(SECTION.len() + file.len() + text.len() + 2 * NUMBER_BYTES_MAX);
    for named in [SECTION, file] {
        put_number(&mut section, named.len());
        section.extend_from_slice(named.as_bytes());
    }
    section.extend_from_slice(text.as_bytes());
    let mut component = Vec::with_capacity(engine.len() + section.len() + 1 + NUMBER_BYTES_MAX);
    component.extend_from_slice(engine);
    component.push(CUSTOM);
    put_number(&mut component, section.len());
    component.extend_from_slice(&section);
    component
}

/// As many bytes as the number before them says, and what follows.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = number(bytes)?;
    rest.split_at_checked(length)
}

/// LEB128, the low seven bits first, and what follows.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(NUMBER_BYTES_MAX).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let rest = bytes.get(index + 1..)?;
            return Some((usize::try_from(u32::try_from(value).ok()?).ok()?, rest));
        }
    }
    None
}

fn put_number(to: &mut Vec<u8>, mut value: usize) {
    while let Some(byte) = u8::try_from(value & 0x7f).ok().filter(|_| value > 0x7f) {
        to.push(byte | 0x80);
        value >>= 7;
    }
    to.extend(u8::try_from(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component with one section of each of these kinds and lengths.
    fn component(sections: &[(u8, usize)]) -> Vec<u8> {
        let mut bytes = PREAMBLE.to_vec();
        for (kind, length) in sections {
            bytes.push(*kind);
            put_number(&mut bytes, *length);
            bytes.extend(std::iter::repeat_n(0x5a, *length));
        }
        bytes
    }

    #[test]
    fn a_text_comes_out_as_it_went_in() {
        for engine in [component(&[]), component(&[(1, 300), (4, 0), (0, 70_000)])] {
            for text in ["", "export default {}", &"ü\0".repeat(100_000)] {
                let whole = append(&engine, "github.js", text);
                let found = embedded_text(&whole).unwrap();
                assert_eq!((found.file, found.text, found.engine), ("github.js", text, &*engine));
                assert!(!found.is_of_this_version());
            }
        }
    }

    #[test]
    fn a_text_in_our_engine_is_known_as_such() {
        let whole = embed_text("a.js", "export default {}");
        assert!(whole.starts_with(PREAMBLE), "the engine is a component");
        let found = embedded_text(&whole).unwrap();
        assert_eq!((found.file, found.text), ("a.js", "export default {}"));
        assert!(found.is_of_this_version());
        // One byte of the engine is another: it is not what this version would run.
        let mut other = whole.clone();
        other[ENGINE.len() - 1] ^= 1;
        assert!(embedded_text(&other).is_none_or(|found| !found.is_of_this_version()));
    }

    #[test]
    fn what_has_no_text_at_its_end_has_none() {
        assert_eq!(embedded_text(ENGINE), None);
        let engine = component(&[(1, 3)]);
        let whole = append(&engine, "a.js", "text");
        // Whatever is cut off, nothing is left that could be read wrongly.
        for length in 0..whole.len() {
            assert_eq!(embedded_text(&whole[..length]), None, "{length}");
        }
        assert_eq!(embedded_text(&[&whole[..], &[1, 0]].concat()), None, "another section follows");
        assert_eq!(embedded_text(&[&whole[..], &[0]].concat()), None, "a byte follows");
        let mut module = whole.clone();
        module[4..8].copy_from_slice(&[1, 0, 0, 0]);
        assert_eq!(embedded_text(&module), None, "no component");
        let mut named = whole.clone();
        named[engine.len() + 3] = b'S';
        assert_eq!(embedded_text(&named), None, "another section");
        let mut kind = whole;
        kind[engine.len()] = 1;
        assert_eq!(embedded_text(&kind), None, "not a custom section");
        let mut unread = append(&engine, "a.js", "text");
        *unread.last_mut().unwrap() = 0xff;
        assert_eq!(embedded_text(&unread), None, "not UTF-8");
    }

    #[test]
    fn numbers_are_of_32_bits() {
        for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u32::MAX as usize] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, value);
            assert!(bytes.len() <= NUMBER_BYTES_MAX);
            bytes.push(9);
            assert_eq!(number(&bytes), Some((value, &[9][..])), "{value}");
        }
        assert_eq!(number(&[0xff, 0xff, 0xff, 0xff, 0x1f]), None, "more than 32 bits");
        assert_eq!(number(&[0x80, 0x80, 0x80, 0x80, 0x80, 0]), None, "six bytes");
        assert_eq!(number(&[0x80]), None);
        assert_eq!(number(&[]), None);
    }
}
