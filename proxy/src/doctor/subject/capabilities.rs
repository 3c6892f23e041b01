//! The capabilities of a process that lead past a gate or weaken it (capabilities(7)).

use crate::doctor::report::State;

/// A set of capabilities, one bit each, as `/proc/PID/status` writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities(pub(super) u64);

/// One that matters.
#[derive(Debug)]
struct Known {
    number: u32,
    name: &'static str,
    state: State,
}

/// Those that matter: the problems lead out of a container by themselves; with the others something is
/// weaker than it has to be.
const KNOWN: [Known; 10] = [
    // Opens any file of the machine's by its number (open_by_handle_at(2)).
    known(2, "DAC_READ_SEARCH", State::Problem),
    // Changes rules and routes; unless interfaces were kept, there is still none to leave by.
    known(12, "NET_ADMIN", State::Warning),
    // Forges and overhears packets of the container's own, and writes frames to interfaces where there are any.
    known(13, "NET_RAW", State::Warning),
    known(16, "SYS_MODULE", State::Problem),
    known(17, "SYS_RAWIO", State::Problem),
    // Takes over processes, as far as it sees any.
    known(19, "SYS_PTRACE", State::Warning),
    // Mounts, and enters other namespaces.
    known(21, "SYS_ADMIN", State::Problem),
    known(22, "SYS_BOOT", State::Warning),
    known(38, "PERFMON", State::Warning),
    known(39, "BPF", State::Warning),
];

const fn known(number: u32, name: &'static str, state: State) -> Known {
    Known { number, name, state }
}

impl Capabilities {
    /// `CAP_SYS_PTRACE`.
    pub(super) const SYS_PTRACE: u32 = 19;

    /// Reads hexadecimal digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text.trim(), 16).ok().map(Self)
    }

    pub(super) fn has(self, number: u32) -> bool {
        self.0 & (1 << number) != 0
    }

    /// What only `--privileged` gives together.
    pub(super) fn is_everything(self) -> bool {
        KNOWN.iter().filter(|known| known.state == State::Problem).all(|known| self.has(known.number))
    }

    /// Those by which a process sends by an interface what no rule has seen, by name.
    pub(super) fn that_pass_rules(self) -> Vec<&'static str> {
        const PASSING: [&str; 3] = ["NET_ADMIN", "NET_RAW", "SYS_ADMIN"];
        let held = KNOWN.iter().filter(|known| self.has(known.number)).map(|known| known.name);
        held.filter(|name| PASSING.contains(name)).collect()
    }

    /// Those that matter, by name, and how much the worst of them does.
    pub(super) fn that_matter(self) -> Option<(State, Vec<&'static str>)> {
        let held: Vec<_> = KNOWN.iter().filter(|known| self.has(known.number)).collect();
        let worst = if held.iter().any(|known| known.state == State::Problem) {
            State::Problem
        } else {
            State::Warning
        };
        (!held.is_empty()).then(|| (worst, held.iter().map(|known| known.name).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_docker_are_a_warning_for_raw_sockets() {
        let docker = Capabilities::parse("00000000a80425fb\n").unwrap();
        assert_eq!(docker.that_matter(), Some((State::Warning, vec!["NET_RAW"])));
        assert!(!docker.is_everything());
    }

    #[test]
    fn all_are_a_problem_and_none_are_none() {
        let all = Capabilities::parse("000001ffffffffff").unwrap();
        let (state, names) = all.that_matter().unwrap();
        assert_eq!((state, names.len()), (State::Problem, KNOWN.len()));
        assert!(all.is_everything() && all.has(Capabilities::SYS_PTRACE));
        assert_eq!(Capabilities(0).that_matter(), None);
        for wrong in ["", "x", "-1", "1ffffffffffffffff"] {
            assert_eq!(Capabilities::parse(wrong), None, "{wrong:?}");
        }
    }
}
