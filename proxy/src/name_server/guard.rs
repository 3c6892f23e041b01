//! Sees when questions carry data: many names below one domain, each with a label that is no word.
//!
//! No question for an address leaves, so that nothing is lost by answering; but a program that tries is
//! worth knowing of, and forwarded questions do leave.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

/// Names that look like data which are answered below one domain within [`WINDOW`]. The hashed names of
/// a content network that one program meets stay far below; 64 names of 200 bytes carry 12 KiB.
const NAMES_MAX: usize = 64;

/// For how long names are counted together, and refused after there were too many.
const WINDOW: Duration = Duration::from_secs(600);

/// Domains watched at once; beyond it the one that has been watched the longest is forgotten.
const DOMAINS_MAX: usize = 256;

/// A label from here on may be data: a part of a UUID, an account number or a word is shorter.
const LABEL_BYTES_MIN: usize = 20;

/// The entropy from which on a long label is not one character again and again, in bits for each byte.
/// Hexadecimal digits have up to 4 and seldom less than 3, base32 up to 5.
const ENTROPY_MIN: f64 = 2.8;

/// A name with more than this before its domain may be data whatever its labels are; labels are cut to
/// evade a limit of theirs.
const FRONT_BYTES_MAX: usize = 80;

/// The domains that many names were asked below.
#[derive(Debug, Default)]
pub(super) struct Guard {
    domains: HashMap<Box<str>, Watched>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Watched {
    since: Instant,
    /// Hashes of the names, so that a domain costs half a kibibyte.
    names: HashSet<u64>,
    reported: bool,
}

/// What is to be done about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding<'name> {
    /// Nothing.
    Plain,
    /// One too many below this domain; the first one is worth a line in the log.
    Tunnel { domain: &'name str, is_first: bool },
}

impl Guard {
    /// Looks at a name that is asked for: normalised, without a last dot.
    pub(super) fn look_at<'name>(&mut self, name: &'name str, now: Instant) -> Finding<'name> {
        let (front, domain) = split(name);
        if !looks_like_data(front) {
            return Finding::Plain;
        }
        let hash = self.hasher.hash_one(name);
        let watched = self.watched(domain, now);
        if watched.names.contains(&hash) {
            return Finding::Plain;
        }
        if watched.names.len() < NAMES_MAX {
            watched.names.insert(hash);
            return Finding::Plain;
        }
        let is_first = !watched.reported;
        watched.reported = true;
        Finding::Tunnel { domain, is_first }
    }

    fn watched(&mut self, domain: &str, now: Instant) -> &mut Watched {
        if self.domains.len() >= DOMAINS_MAX && !self.domains.contains_key(domain) {
            let oldest = self.domains.iter().min_by_key(|(_, watched)| watched.since);
            if let Some(oldest) = oldest.map(|(domain, _)| domain.clone()) {
                self.domains.remove(&oldest);
            }
        }
        let new = || Watched { since: now, names: HashSet::new(), reported: false };
        match self.domains.entry(domain.into()) {
            Entry::Occupied(watched) => {
                let watched = watched.into_mut();
                if now.saturating_duration_since(watched.since) >= WINDOW {
                    *watched = new();
                }
                watched
            }
            Entry::Vacant(place) => place.insert(new()),
        }
    }
}

/// The last two labels are the domain, which somebody has to own.
fn split(name: &str) -> (&str, &str) {
    let mut dots = name.rmatch_indices('.').map(|(at, _)| at);
    match (dots.next(), dots.next()) {
        (Some(_), Some(at)) => {
            let (front, domain) = name.split_at(at);
            (front, domain.trim_start_matches('.'))
        }
        _ => ("", name),
    }
}

fn looks_like_data(front: &str) -> bool {
    let is_data = |label: &str| label.len() >= LABEL_BYTES_MIN && entropy(label) >= ENTROPY_MIN;
    front.len() > FRONT_BYTES_MAX || front.split('.').any(is_data)
}

/// Shannon's entropy of the bytes of a label, in bits for each.
fn entropy(label: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in label.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }
    let length: f64 = counts.iter().map(|&count| f64::from(count)).sum();
    counts
        .iter()
        .filter(|&&count| count > 0)
        .map(|&count| {
            let share = f64::from(count) / length;
            -share * share.log2()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of content networks, clouds and registries that one program may well ask for.
    const REAL: [&str; 22] = [
        "d111111abcdef8.cloudfront.net",
        "e4578.dscb.akamaiedge.net",
        "a1887.dscq.akamai.net",
        "rr3---sn-4g5e6nsz.googlevideo.com",
        "r4---sn-4g5ednsl.gvt1.com",
        "my-bucket-2f1a9c0d7e.s3.eu-central-1.amazonaws.com",
        "internal-k8s-default-web-0a1b2c3d4e-1234567890.eu-west-1.elb.amazonaws.com",
        "abcdefghij1234567890klmnopqrstuv.lambda-url.us-east-1.on.aws",
        "00e9e64bac18f2a1b3c4d5e6f70819.apps.googleusercontent.com",
        "production.cloudflare.docker.com",
        "docker-images-prod.6aa30f8b08e16409b46e0173d6de2f56.r2.cloudflarestorage.com",
        "pkg-containers.githubusercontent.com",
        "objects-origin.githubusercontent.com",
        "productionresultssa0.blob.core.windows.net",
        "k8s-istio-ingress-0123456789ab.australiasoutheast.cloudapp.azure.com",
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301.prod.example.com",
        "files.pythonhosted.org",
        "registry.npmjs.org",
        "static.crates.io",
        "deb.debian.org",
        "xn--fiqs8s.example.com",
        "_acme-challenge.www.example.com",
    ];

    fn name(number: usize) -> String {
        // What iodine and dnscat2 send: base32 or hexadecimal, changing with each question.
        format!(
            "{:032x}.t.evil.test",
            (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) % (1 << 127)
        )
    }

    #[test]
    fn names_of_content_networks_pass_however_often_they_are_asked() {
        let (mut guard, start) = (Guard::default(), Instant::now());
        for round in 0..200 {
            for real in REAL {
                assert_eq!(guard.look_at(real, start + Duration::from_secs(round)), Finding::Plain, "{real}");
            }
        }
    }

    #[test]
    fn many_names_of_data_below_one_domain_are_a_tunnel() {
        let (mut guard, now) = (Guard::default(), Instant::now());
        for number in 0..NAMES_MAX {
            assert_eq!(guard.look_at(&name(number), now), Finding::Plain, "{number}");
        }
        let tunnel = |is_first| Finding::Tunnel { domain: "evil.test", is_first };
        assert_eq!(guard.look_at(&name(NAMES_MAX), now), tunnel(true));
        assert_eq!(guard.look_at(&name(NAMES_MAX + 1), now), tunnel(false));
        // Short labels do not help, once there are many of them in a name.
        let cut = format!("{}x.evil.test", "abc0123.".repeat(11));
        assert_eq!(guard.look_at(&cut, now), tunnel(false));
        // What was asked before is still there, and so is what is no data, and every other domain.
        for plain in [&*name(0), "www.evil.test", "evil.test", "00112233445566778899aabbccddeeff.good.test"] {
            assert_eq!(guard.look_at(plain, now), Finding::Plain, "{plain}");
        }
        assert_eq!(guard.look_at(&name(NAMES_MAX), now + WINDOW), Finding::Plain);
    }

    #[test]
    fn many_words_are_no_tunnel() {
        let (mut guard, now) = (Guard::default(), Instant::now());
        for number in 0..10_000 {
            let plain = format!("customer-{number}.shop.example.com");
            assert_eq!(guard.look_at(&plain, now), Finding::Plain, "{plain}");
        }
        assert!(guard.domains.is_empty());
    }

    #[test]
    fn few_domains_are_remembered() {
        let (mut guard, start) = (Guard::default(), Instant::now());
        for number in 0..DOMAINS_MAX * 2 {
            let at = start + Duration::from_millis(number as u64);
            guard.look_at(&format!("0123456789abcdef0123456789abcdef.d{number}.test"), at);
        }
        assert_eq!(guard.domains.len(), DOMAINS_MAX);
        assert!(guard.domains.contains_key("d511.test") && !guard.domains.contains_key("d0.test"));
    }

    #[test]
    fn entropy_is_of_shannon() {
        for (label, bits) in [("aaaa", 0.0), ("abab", 1.0), ("abcd", 2.0), ("0123456789abcdef", 4.0)] {
            assert!((entropy(label) - bits).abs() < 1e-9, "{label}");
        }
        assert!(entropy("").abs() < 1e-9);
    }
}
