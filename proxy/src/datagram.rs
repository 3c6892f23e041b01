//! UDP and ICMP packets as bytes, with the original destination as their source. Pure.

use std::net::{IpAddr, SocketAddr};

/// IP protocol numbers (IANA).
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Hops that a packet of ours may make; it makes one.
const HOPS: u8 = 64;

/// The UDP packet that answers from `from` to `to`; `None` when the families differ or the payload
/// is too long for one packet.
pub fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let segment = udp_segment(from, to, payload)?;
    ip(from.ip(), to.ip(), UDP, &segment)
}

/// The ICMP error "port unreachable" that tells `to` that its datagram for `from` was refused: what
/// a closed port says, on which every client gives up at once (RFC 1122 section 3.2.2.1, RFC 4443
/// section 3.1).
pub fn port_unreachable(from: SocketAddr, to: SocketAddr) -> Option<Vec<u8>> {
    // The refused packet's headers, which name the socket that is to be told.
    let refused = udp(to, from, &[])?;
    let (protocol, kind, code) = match from.ip() {
        IpAddr::V4(_) => (ICMP, 3, 3),
        IpAddr::V6(_) => (ICMPV6, 1, 4),
    };
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&refused);
    let pseudo = match from.ip() {
        IpAddr::V4(_) => Vec::new(),
        IpAddr::V6(_) => pseudo_header(from.ip(), to.ip(), protocol, message.len())?,
    };
    put_checksum(&mut message, 2, checksum(&[&pseudo]));
    ip(from.ip(), to.ip(), protocol, &message)
}

/// RFC 768.
fn udp_segment(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(8 + payload.len()).ok()?;
    let mut segment = Vec::with_capacity(usize::from(length));
    segment.extend_from_slice(&from.port().to_be_bytes());
    segment.extend_from_slice(&to.port().to_be_bytes());
    segment.extend_from_slice(&length.to_be_bytes());
    segment.extend_from_slice(&[0, 0]);
    segment.extend_from_slice(payload);
    let pseudo = pseudo_header(from.ip(), to.ip(), UDP, segment.len())?;
    put_checksum(&mut segment, 6, checksum(&[&pseudo]));
    if segment.get(6..8) == Some(&[0, 0]) {
        // Zero means "no checksum"; the other zero of ones' complement means zero.
        segment.get_mut(6..8)?.copy_from_slice(&[0xff, 0xff]);
    }
    Some(segment)
}

/// RFC 791 and RFC 8200. The kernel fills in the IPv4 checksum and identification (raw(7)).
fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Option<Vec<u8>> {
    let mut packet = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let [high, low] = u16::try_from(20 + payload.len()).ok()?.to_be_bytes();
            let mut header = vec![0x45, 0, high, low, 0, 0, 0x40, 0, HOPS, protocol, 0, 0];
            header.extend_from_slice(&from.octets());
            header.extend_from_slice(&to.octets());
            let sum = checksum(&[&header]);
            header.get_mut(10..12)?.copy_from_slice(&fold(sum));
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let [high, low] = u16::try_from(payload.len()).ok()?.to_be_bytes();
            let mut header = vec![0x60, 0, 0, 0, high, low, protocol, HOPS];
            header.extend_from_slice(&from.octets());
            header.extend_from_slice(&to.octets());
            header
        }
        _ => return None,
    };
    packet.extend_from_slice(payload);
    Some(packet)
}

/// RFC 768, and RFC 8200 section 8.1.
fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> Option<Vec<u8>> {
    let length = u16::try_from(length).ok()?.to_be_bytes();
    let mut header = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
        (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
        _ => return None,
    };
    header.extend_from_slice(&[0, protocol]);
    header.extend_from_slice(&length);
    Some(header)
}

/// RFC 1071: the sum of 16-bit words, not yet folded.
fn checksum(parts: &[&[u8]]) -> u32 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    words
        .map(|word| {
            let high = u32::from(word.first().copied().unwrap_or(0));
            let low = u32::from(word.get(1).copied().unwrap_or(0));
            (high << 8) | low
        })
        .sum()
}

fn fold(mut sum: u32) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [_, _, high, low] = (!sum).to_be_bytes();
    [high, low]
}

/// Sums `message`, whose checksum field at `at` is zero, onto `pseudo` and stores the result.
fn put_checksum(message: &mut [u8], at: usize, pseudo: u32) {
    let sum = fold(pseudo + checksum(&[message]));
    if let Some(field) = message.get_mut(at..at + 2) {
        field.copy_from_slice(&sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verifies(parts: &[&[u8]]) -> bool {
        fold(checksum(parts)) == [0, 0]
    }

    #[test]
    fn checksums_verify() {
        for (from, to) in [("198.51.100.7:53", "100.64.0.2:40000"), ("[2001:db8::1]:53", "[fd00::2]:40000")] {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let header = if from.is_ipv4() { 20 } else { 40 };
            for payload in [&b""[..], b"odd", b"even"] {
                let packet = udp(from, to, payload).unwrap();
                let segment = &packet[header..];
                let pseudo = pseudo_header(from.ip(), to.ip(), UDP, segment.len()).unwrap();
                assert!(verifies(&[&pseudo, segment]), "{from} {payload:?}");
                assert_eq!(&segment[8..], payload);
            }
            let packet = port_unreachable(from, to).unwrap();
            let message = &packet[header..];
            let pseudo = match from {
                SocketAddr::V4(_) => Vec::new(),
                SocketAddr::V6(_) => pseudo_header(from.ip(), to.ip(), ICMPV6, message.len()).unwrap(),
            };
            assert!(verifies(&[&pseudo, message]), "{from}");
            assert_eq!(&message[8 + header..][..2], &to.port().to_be_bytes());
        }
    }

    #[test]
    fn what_fits_in_no_packet_is_none() {
        let (v4, v6) = ("10.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap());
        assert!(udp(v4, v6, b"").is_none());
        assert!(udp(v4, v4, &vec![0; 65_536]).is_none());
    }
}
