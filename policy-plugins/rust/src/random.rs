//! Chance, from the operating system's generator. A component has none of its own: what the standard
//! library begins its hash maps with is the same in every instance.

use crate::bindings::sluicegate::policy::random;
use crate::hex;

/// Random bytes, 65536 at most.
#[must_use]
pub fn bytes(count: u32) -> Vec<u8> {
    random::bytes(count)
}

/// A random UUID (RFC 9562, version 4).
#[must_use]
pub fn uuid() -> String {
    uuid_of(&random::bytes(16))
}

fn uuid_of(random: &[u8]) -> String {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(random).for_each(|(to, from)| *to = *from);
    let mut value = u128::from_be_bytes(bytes);
    // Section 4: version 4 and the variant of the standard.
    value = value & !(0xf << 76) | 0x4 << 76;
    value = value & !(0b11 << 62) | 0b10 << 62;
    let text = hex(value.to_be_bytes());
    let mut digits = text.chars();
    let groups = [8, 4, 4, 4, 12].map(|length| digits.by_ref().take(length).collect::<String>());
    groups.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_of_version_4() {
        assert_eq!(uuid_of(&[0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid_of(&[0; 16]), "00000000-0000-4000-8000-000000000000");
    }
}
