//! The headers of programs and libraries that are written here (elf(5)): 64 bits, little-endian, of any system.

/// The length of the file's header.
const HEADER_BYTES: u64 = 64;
/// The length of each segment's description, behind it.
const SEGMENT_BYTES: u64 = 56;

/// The largest size of pages there is, of some aarch64: a segment that fits it fits every other.
pub(crate) const PAGE_BYTES: u64 = 0x1_0000;

/// What a file is: a program at its own place, or a library.
pub(crate) const PROGRAM: u64 = 2;
pub(crate) const LIBRARY: u64 = 3;

/// Architectures.
pub(crate) const X86_64: u64 = 62;
pub(crate) const AARCH64: u64 = 183;

/// What a segment is: contents, what the loader is told, or how the stack is to be.
pub(crate) const LOAD: u64 = 1;
pub(crate) const DYNAMIC: u64 = 2;
pub(crate) const STACK: u64 = 0x6474_e551;

/// What it is for.
pub(crate) const EXECUTE: u64 = 1;
pub(crate) const WRITE: u64 = 2;
pub(crate) const READ: u64 = 4;

/// A part of a file, and where it is in memory.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) kind: u64,
    pub(crate) flags: u64,
    /// Where it begins in the file.
    pub(crate) offset: u64,
    pub(crate) address: u64,
    pub(crate) length: u64,
    /// What address and offset are alike by, a power of two.
    pub(crate) alignment: u64,
}

/// A stack that is not executed.
pub(crate) const PLAIN_STACK: Segment =
    Segment { kind: STACK, flags: READ | WRITE, offset: 0, address: 0, length: 0, alignment: 16 };

/// How long the headers of a file with so many segments are.
pub(crate) const fn headers_bytes(segments: u64) -> u64 {
    HEADER_BYTES + segments * SEGMENT_BYTES
}

/// The headers of a file of this kind, which begins at `entry` if it is a program. It has no sections.
pub(crate) fn headers(kind: u64, architecture: u64, entry: u64, segments: &[Segment]) -> Vec<u8> {
    let mut headers = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // Version 1; no sections and no flags.
    put(&mut headers, &[(kind, 2), (architecture, 2), (1, 4), (entry, 8), (HEADER_BYTES, 8), (0, 8), (0, 4)]);
    let count = segments.len() as u64;
    put(&mut headers, &[(HEADER_BYTES, 2), (SEGMENT_BYTES, 2), (count, 2), (0, 2), (0, 2), (0, 2)]);
    for segment in segments {
        let Segment { kind, flags, offset, address, length, alignment } = *segment;
        put(&mut headers, &[(kind, 4), (flags, 4), (offset, 8), (address, 8), (address, 8)]);
        put(&mut headers, &[(length, 8), (length, 8), (alignment, 8)]);
    }
    headers
}

/// Adds numbers, each in so many bytes, of eight at most.
pub(crate) fn put(bytes: &mut Vec<u8>, fields: &[(u64, usize)]) {
    for (value, width) in fields {
        bytes.extend(value.to_le_bytes().iter().take(*width));
    }
}
