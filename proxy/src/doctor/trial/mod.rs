//! Whether a gate works on this machine: judged from what a throwaway workload saw of one.

mod canary;
mod probe;
mod stage;

pub use probe::{ProbeOptions, run_probe};
pub(super) use stage::{Stage, by_attach, by_run};

use super::report::{Check, State};
use probe::{Answer, Asked, Seen, Sent};

/// The subcommand of the workload; for the doctor alone.
pub const SUBCOMMAND: &str = "doctor-probe";

/// The host that the policy of the trial allows. Nobody has a name under `test` (RFC 6761).
const ALLOWED: &str = "allowed.doctor.test";
/// The host that it refuses.
const REFUSED: &str = "refused.doctor.test";

/// How a gate was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A command of `run`.
    Run,
    /// A namespace that was there.
    Attach,
}

/// What came of a trial.
#[derive(Debug)]
pub(super) enum Trial {
    /// It could not be tried, for this reason.
    Untried(String),
    /// No workload ran behind a gate.
    Failed {
        /// What went wrong.
        why: String,
        /// What the gate advises.
        hint: Option<String>,
    },
    /// A workload ran.
    Done {
        /// Whether the kernel keeps others from changing the rules.
        exclusive: bool,
        /// What the workload saw.
        seen: Seen,
        /// Whether a datagram of the workload's arrived outside.
        leaked: bool,
    },
}

/// Judges a trial.
pub(super) fn judge(way: Way, trial: &Trial) -> Vec<Check> {
    let word = way.word();
    let started = started(way, trial);
    let Trial::Done { seen, leaked, .. } = trial else { return vec![started] };
    let mut checks = vec![
        started,
        allowed(
            (format!("{word}_allowed"), &seen.allowed),
            "what the policy allows is reached over IPv4: TPROXY and the gate work",
        ),
        allowed(
            (format!("{word}_allowed_ipv6"), &seen.allowed_ipv6),
            "what the policy allows is reached over IPv6: TPROXY and the gate work",
        ),
        allowed(
            (format!("{word}_https"), &seen.https),
            "HTTPS is opened by the gate, trusted by the program, and verified outside",
        ),
        refused(format!("{word}_refused"), &seen.refused),
        datagram(
            (format!("{word}_udp"), &seen.udp, *leaked),
            "datagrams that no policy names get nowhere, and do not arrive outside",
        ),
        datagram((format!("{word}_icmp"), &seen.icmp, false), "ICMP gets nowhere"),
    ];
    if way == Way::Run {
        checks.push(names(&seen.names));
    }
    checks
}

impl Trial {
    /// Whether a workload ran behind a gate.
    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Done { .. })
    }

    fn failed(why: impl Into<String>) -> Self {
        Self::Failed { why: why.into(), hint: None }
    }
}

impl Way {
    fn word(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Attach => "attach",
        }
    }
}

fn started(way: Way, trial: &Trial) -> Check {
    let word = way.word();
    let meaning = match way {
        Way::Run => {
            "a throwaway `sluicegate run`: its namespaces, nftables rules and routes are made, and a command runs"
        }
        Way::Attach => {
            "a throwaway `sluicegate attach`, to a namespace that was made for it and is gone again"
        }
    };
    match trial {
        Trial::Untried(why) => {
            Check::not_ok(State::Unknown, (word, why.clone()), meaning, "try it by hand, as docs/cli.md says")
        }
        Trial::Failed { why, hint } => {
            let hint = hint.clone();
            let remedy = hint.unwrap_or_else(|| "see the other lines, and docs/cli.md on exit codes".into());
            Check::not_ok(State::Problem, (word, why.clone()), meaning, remedy)
        }
        Trial::Done { exclusive: true, .. } => {
            Check::ok(word, "captured, and the rules are the gate's own", meaning)
        }
        Trial::Done { .. } => Check::ok(word, "captured; another gate could replace the rules", meaning),
    }
}

fn allowed((id, asked): (String, &Asked), meaning: &'static str) -> Check {
    match asked {
        Ok(Answer { status: 200, canary: true, .. }) => Check::ok(id, "answered with 200", meaning),
        other => {
            let remedy =
                "see that the kernel has nft_tproxy, and that SLUICEGATE_TRACE=debug says nothing unusual";
            Check::not_ok(State::Problem, (id, in_words(other)), meaning, remedy)
        }
    }
}

fn refused(id: String, asked: &Asked) -> Check {
    const MEANING: &str = "what the policy does not allow is refused, and told why";
    match asked {
        Ok(Answer { status: 403, reason: Some(reason), canary: false }) => {
            Check::ok(id, format!("refused with 403, {reason}"), MEANING)
        }
        other => {
            let remedy = "do not rely on gates on this machine, and report it as SECURITY.md says";
            Check::not_ok(State::Problem, (id, in_words(other)), MEANING, remedy)
        }
    }
}

fn datagram((id, sent, leaked): (String, &Sent, bool), meaning: &'static str) -> Check {
    let found = match sent {
        _ if leaked => "it arrived outside",
        Sent::Answered => "it was answered",
        Sent::NoSocket => return Check::ok(id, "no socket for it is to be had", meaning),
        Sent::Refused(error) => return Check::ok(id, format!("refused: {error}"), meaning),
        Sent::Silent => return Check::ok(id, "nothing came back", meaning),
    };
    let remedy = "do not rely on gates on this machine, and report it as SECURITY.md says";
    Check::not_ok(State::Problem, (id, found), meaning, remedy)
}

fn names(names: &Result<String, String>) -> Check {
    const ID: &str = "run_names";
    const MEANING: &str = "programs find the addresses of names by the gate";
    match names {
        Ok(address) => Check::ok(ID, format!("{ALLOWED} is {address}"), MEANING),
        Err(why) => {
            let remedy =
                "see that `hosts` in /etc/nsswitch.conf has `dns`, and that /etc/resolv.conf can be read";
            Check::not_ok(State::Problem, (ID, why.clone()), MEANING, remedy)
        }
    }
}

fn in_words(asked: &Asked) -> String {
    match asked {
        Err(why) => format!("no answer: {why}"),
        Ok(Answer { status, canary: true, .. }) => format!("the server outside answered with {status}"),
        Ok(Answer { status, reason: Some(reason), .. }) => format!("refused with {status}, {reason}"),
        Ok(Answer { status, .. }) => format!("somebody else answered with {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered() -> Asked {
        Ok(Answer { status: 200, reason: None, canary: true })
    }

    fn seen() -> Seen {
        Seen {
            names: Ok("198.18.0.1".into()),
            allowed: answered(),
            allowed_ipv6: answered(),
            https: answered(),
            refused: Ok(Answer { status: 403, reason: Some("no_rule_matches".into()), canary: false }),
            udp: Sent::Refused("Connection refused".into()),
            icmp: Sent::NoSocket,
        }
    }

    fn states(seen: Seen, leaked: bool) -> Vec<State> {
        let trial = Trial::Done { exclusive: true, seen, leaked };
        judge(Way::Run, &trial).iter().map(|check| check.state).collect()
    }

    /// The positions of what is not well, of eight.
    fn wrong(change: impl FnOnce(&mut Seen)) -> Vec<usize> {
        let mut seen = seen();
        change(&mut seen);
        let states = states(seen, false);
        (0..8).filter(|position| states[*position] == State::Problem).collect()
    }

    #[test]
    fn a_gate_that_works_is_well() {
        assert_eq!(states(seen(), false), [State::Ok; 8]);
        assert_eq!(
            judge(Way::Attach, &Trial::Done { exclusive: false, seen: seen(), leaked: false }).len(),
            7
        );
    }

    #[test]
    fn each_thing_that_does_not_hold_is_a_problem_of_its_own() {
        assert_eq!(wrong(|seen| seen.allowed = Err("reset".into())), [1]);
        assert_eq!(wrong(|seen| seen.allowed = Ok(Answer { status: 200, reason: None, canary: false })), [1]);
        assert_eq!(wrong(|seen| seen.allowed_ipv6 = Err("unreachable".into())), [2]);
        assert_eq!(wrong(|seen| seen.https = Err("unknown issuer".into())), [3]);
        assert_eq!(wrong(|seen| seen.refused = answered()), [4]);
        assert_eq!(wrong(|seen| seen.refused = Err("reset".into())), [4], "not told why");
        assert_eq!(wrong(|seen| seen.udp = Sent::Answered), [5]);
        assert_eq!(wrong(|seen| seen.icmp = Sent::Answered), [6]);
        assert_eq!(wrong(|seen| seen.names = Err("none".into())), [7]);
        assert_eq!(wrong(|seen| (seen.udp, seen.icmp) = (Sent::Silent, Sent::Silent)), [0; 0]);
        assert_eq!(states(seen(), true)[5], State::Problem, "it arrived, whatever the sender saw");
    }

    #[test]
    fn what_did_not_start_is_a_problem_and_what_was_not_tried_is_unknown() {
        let failed = Trial::Failed { why: "w".into(), hint: Some("h".into()) };
        let checks = judge(Way::Run, &failed);
        assert_eq!((checks.len(), checks[0].state), (1, State::Problem));
        assert_eq!(checks[0].remedy.as_deref(), Some("h"));
        let checks = judge(Way::Attach, &Trial::Untried("w".into()));
        assert_eq!((checks.len(), checks[0].state), (1, State::Unknown));
        assert!(!failed.is_done());
    }
}
