//! Connections to several addresses at once, of which the first wins: Happy Eyeballs (RFC 8305).

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;

use super::UpstreamError;

/// How long one attempt is alone before the next begins: the Connection Attempt Delay of RFC 8305
/// section 8. A broken route to the first address costs this much, and no whole timeout.
pub(super) const STAGGER: Duration = Duration::from_millis(250);

/// The same where a proxy connects for us, which takes its own time: the most that RFC 8305 section 8
/// allows, so that a slow proxy is seldom asked twice.
pub(super) const PROXY_STAGGER: Duration = Duration::from_secs(2);

/// The most addresses of one name that are tried: a name with hundreds must not be a scan.
pub(super) const ADDRESSES_MAX: usize = 8;

/// The addresses to try, in order: IPv6 first, then the families by turns, each in the order in which
/// it came (RFC 8305 section 4). Each address once, [`ADDRESSES_MAX`] in all.
pub(super) fn in_order(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let (ipv6, ipv4): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv6);
    let (mut ipv6, mut ipv4) = (ipv6.into_iter(), ipv4.into_iter());
    let mut ordered: Vec<SocketAddr> = Vec::with_capacity(ADDRESSES_MAX);
    loop {
        let (sixth, fourth) = (ipv6.next(), ipv4.next());
        if ordered.len() == ADDRESSES_MAX || (sixth.is_none() && fourth.is_none()) {
            return ordered;
        }
        for address in sixth.into_iter().chain(fourth) {
            if ordered.len() < ADDRESSES_MAX && !ordered.contains(&address) {
                ordered.push(address);
            }
        }
    }
}

/// Attempts one candidate after the other, each `stagger` after the one before or as soon as that has
/// failed, and returns what the first success gives. The others are dropped, which closes them.
///
/// It takes as long as its attempts do: the caller sets the deadline.
///
/// # Errors
/// The most telling failure when all have failed; at once one that would meet every candidate.
pub(super) async fn race<C, T, Attempt>(
    candidates: &[C],
    stagger: Duration,
    attempt: impl Fn(C) -> Attempt,
) -> Result<T, UpstreamError>
where
    C: Clone,
    Attempt: Future<Output = Result<T, UpstreamError>>,
{
    let mut waiting = candidates.iter();
    let mut running = FuturesUnordered::new();
    let mut failure = UpstreamError::NoAddress;
    loop {
        running.extend(waiting.next().cloned().map(&attempt));
        let ended = if waiting.as_slice().is_empty() {
            running.next().await
        } else {
            match timeout(stagger, running.next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            }
        };
        match ended {
            None => return Err(failure),
            Some(Ok(connection)) => return Ok(connection),
            Some(Err(error)) if !error.is_about_one_address() => return Err(error),
            Some(Err(error)) if error.tells_more_than(&failure) => failure = error,
            Some(Err(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io;

    use tokio::time::{Instant, sleep};

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn ordered(addresses: &[&str]) -> Vec<String> {
        let addresses = addresses.iter().map(|text| address(text)).collect();
        in_order(addresses).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn families_take_turns_and_ipv6_begins() {
        assert_eq!(
            ordered(&["1.1.1.1:1", "2.2.2.2:1", "3.3.3.3:1", "[2::]:1", "[3::]:1"]),
            ["[2::]:1", "1.1.1.1:1", "[3::]:1", "2.2.2.2:1", "3.3.3.3:1"]
        );
        assert_eq!(ordered(&["1.1.1.1:1", "1.1.1.1:1"]), ["1.1.1.1:1"]);
        assert!(ordered(&[]).is_empty());
    }

    #[test]
    fn a_name_with_hundreds_of_addresses_is_no_scan_and_has_both_families() {
        let many: Vec<SocketAddr> = (0..200u16)
            .map(|n| address(&format!("10.0.0.{}:1", n)))
            .chain((0..200).map(|n| address(&format!("[2001:db8::{n:x}]:1"))))
            .collect();
        let ordered = in_order(many);
        assert_eq!(ordered.len(), ADDRESSES_MAX);
        assert_eq!(ordered.iter().filter(|address| address.is_ipv4()).count(), ADDRESSES_MAX / 2);
    }

    /// What becomes of an attempt, and after how many milliseconds.
    #[derive(Clone, Copy)]
    enum Fate {
        Connects(u64),
        Refuses(u64),
        NoRoute,
        Fatal,
    }

    /// Runs a race against a clock that is wound forward: which candidate won or what failed, when, and
    /// when each attempt began.
    async fn run(fates: &[Fate]) -> (Result<usize, String>, u64, Vec<u64>) {
        let began = Instant::now();
        let since = |began: Instant| u64::try_from(began.elapsed().as_millis()).unwrap();
        let starts = RefCell::new(Vec::new());
        let candidates: Vec<usize> = (0..fates.len()).collect();
        let refused = |kind: io::ErrorKind| UpstreamError::Connect {
            address: address("192.0.2.1:443"),
            source: kind.into(),
        };
        let result = race(&candidates, STAGGER, |candidate| {
            let starts = &starts;
            async move {
                starts.borrow_mut().push(since(began));
                match fates[candidate] {
                    Fate::Connects(after) => sleep(Duration::from_millis(after)).await,
                    Fate::Refuses(after) => {
                        sleep(Duration::from_millis(after)).await;
                        return Err(refused(io::ErrorKind::ConnectionRefused));
                    }
                    Fate::NoRoute => return Err(refused(io::ErrorKind::NetworkUnreachable)),
                    Fate::Fatal => return Err(UpstreamError::NoRoots),
                }
                Ok(candidate)
            }
        })
        .await
        .map_err(|error| match error {
            UpstreamError::Connect { source, .. } => source.kind().to_string(),
            error => error.to_string(),
        });
        (result, since(began), starts.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_to_connect_wins_and_a_silent_one_costs_a_quarter_of_a_second() {
        use Fate::{Connects, NoRoute, Refuses};
        assert_eq!(run(&[Connects(100), Connects(0)]).await, (Ok(0), 100, vec![0]));
        assert_eq!(run(&[Connects(9_000), Connects(20)]).await, (Ok(1), 270, vec![0, 250]));
        assert_eq!(run(&[Connects(300), Connects(9_000)]).await, (Ok(0), 300, vec![0, 250]));
        assert_eq!(run(&[NoRoute, Connects(5)]).await, (Ok(1), 5, vec![0, 0]));
        assert_eq!(run(&[Refuses(40), Refuses(10), Connects(5)]).await, (Ok(2), 55, vec![0, 40, 50]));
        assert_eq!(
            run(&[Connects(9_000), Connects(9_000), Connects(0)]).await,
            (Ok(2), 500, vec![0, 250, 500])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn n05_all_failing_takes_no_longer_than_they_do_and_tells_the_most() {
        use Fate::{Fatal, NoRoute, Refuses};
        let refused = io::ErrorKind::ConnectionRefused.to_string();
        assert_eq!(run(&[Refuses(3), NoRoute]).await, (Err(refused.clone()), 3, vec![0, 3]));
        assert_eq!(run(&[NoRoute, Refuses(3)]).await.0, Err(refused));
        assert_eq!(run(&[NoRoute]).await.0, Err(io::ErrorKind::NetworkUnreachable.to_string()));
        assert_eq!(run(&[]).await.0, Err(UpstreamError::NoAddress.to_string()));
        assert_eq!(run(&[Fatal, Refuses(3)]).await, (Err(UpstreamError::NoRoots.to_string()), 0, vec![0]));
    }
}
