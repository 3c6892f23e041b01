//! What `docker run` and `podman run` are told, looked through: what a container that joins a namespace cannot have
//! is refused, and what belongs to the namespace goes to the container that holds it.
//!
//! **Invariant:** every option is written anew as one word with its value. Whatever the engine takes it for, no
//! value becomes an option of its own, and no second `--network` is among them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::container::Engine;

/// The arguments of the two containers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    /// Options of the container that holds the namespace.
    pub(super) infra: Vec<OsString>,
    /// Options of the workload.
    pub(super) workload: Vec<OsString>,
    /// The image, and the command in it.
    pub(super) command: Vec<OsString>,
    /// The workload's name, if it has one.
    pub(super) name: Option<String>,
    /// The first of its options that opens a way out beside the network.
    pub(super) opening: Option<&'static str>,
    /// Which of an image's platforms is meant.
    pub(super) platform: Option<OsString>,
    /// Whether an image that is not here is an error.
    pub(super) is_never_pulled: bool,
    /// Where something else is than in the image.
    pub(super) covered: Vec<PathBuf>,
    /// The first of its options by which it has other files than the image that is here.
    pub(super) other_files: Option<&'static str>,
    /// Whether who sits at it could leave it alone, by the engine's own keys.
    pub(super) is_attended: bool,
}

/// An option that a sealed container cannot have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sealed container cannot have {option}")]
pub struct RefusedOption {
    option: String,
    /// What to do instead.
    pub(super) hint: &'static str,
}

const NETWORK: &str = "leave it out: the container has the network that the gate serves";
const INWARDS: &str =
    "publish ports by the gate: --publish [ADDRESS:]PORT[:PORT] before --docker or --podman";
const NAMES: &str =
    "leave it out: the gate answers every question for a name; see [dns] and [upstream] in the policy";
const GROUND: &str =
    "leave it out: the container ends with this command; to leave it alone, put this into the background";
const OURS: &str = "leave it out: it is used to find the container";
const POD: &str = "leave it out: a pod has a network of its own; give its infra container to `sluicegate attach podman:NAME`";

/// What cannot be had, and what instead.
const REFUSED: [(&str, &str); 23] = [
    ("network", NETWORK),
    ("net", NETWORK),
    ("ip", NETWORK),
    ("ip6", NETWORK),
    ("link", NETWORK),
    ("link-local-ip", NETWORK),
    ("mac-address", NETWORK),
    ("network-alias", NETWORK),
    ("net-alias", NETWORK),
    ("publish", INWARDS),
    ("publish-all", INWARDS),
    ("expose", INWARDS),
    ("dns", NAMES),
    ("dns-opt", NAMES),
    ("dns-option", NAMES),
    ("dns-search", NAMES),
    ("detach", GROUND),
    ("restart", GROUND),
    ("sig-proxy", GROUND),
    ("cidfile", OURS),
    ("pod", POD),
    ("pod-id-file", POD),
    ("help", "ask the engine itself: `docker run --help`, `podman run --help`"),
];

/// Options that stand alone, of either engine. All others have a value, in the same word or the next.
const ALONE: [&str; 26] = [
    "detach",
    "disable-content-trust",
    "env-host",
    "help",
    "http-proxy",
    "init",
    "interactive",
    "no-healthcheck",
    "no-hostname",
    "no-hosts",
    "oom-kill-disable",
    "passwd",
    "privileged",
    "publish-all",
    "quiet",
    "read-only",
    "read-only-tmpfs",
    "replace",
    "rm",
    "rmi",
    "rootfs",
    "sig-proxy",
    "tls-verify",
    "tty",
    "unsetenv-all",
    "use-api-socket",
];

/// What a letter stands for, in both engines.
const LETTERS: [(char, &str); 15] = [
    ('a', "attach"),
    ('c', "cpu-shares"),
    ('d', "detach"),
    ('e', "env"),
    ('h', "hostname"),
    ('i', "interactive"),
    ('l', "label"),
    ('m', "memory"),
    ('P', "publish-all"),
    ('p', "publish"),
    ('q', "quiet"),
    ('t', "tty"),
    ('u', "user"),
    ('v', "volume"),
    ('w', "workdir"),
];

/// Looks through what follows `--docker` or `--podman`.
///
/// # Errors
/// The first option that a sealed container cannot have.
pub(super) fn look(engine: Engine, arguments: Vec<OsString>) -> Result<Arguments, RefusedOption> {
    let mut found = Arguments::default();
    let mut rest = arguments.into_iter().peekable();
    while let Some(word) = rest.next_if(|word| is_option(word)) {
        for (name, value) in options(word.as_bytes())? {
            // One without its value is for the engine to complain about.
            let value = value.or_else(|| if ALONE.contains(&&*name) { None } else { rest.next() });
            found.place(engine, &name, value)?;
        }
    }
    found.command = rest.collect();
    Ok(found)
}

fn is_option(word: &OsStr) -> bool {
    let bytes = word.as_bytes();
    bytes.len() > 1 && bytes.starts_with(b"-") && bytes != b"--"
}

/// The options of a word by their long names, each with its value if that is in the word too.
fn options(word: &[u8]) -> Result<Vec<(String, Option<OsString>)>, RefusedOption> {
    let owned = |value: &[u8]| OsString::from_vec(value.to_vec());
    if let Some(long) = word.strip_prefix(b"--") {
        let (name, value) = match long.iter().position(|byte| *byte == b'=') {
            Some(end) => (long.get(..end), long.get(end + 1..)),
            None => (Some(long), None),
        };
        let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
        return Ok(vec![(name, value.map(owned))]);
    }
    let mut options = Vec::new();
    let mut letters = word.get(1..).unwrap_or_default().iter();
    while let Some(letter) = letters.next() {
        let letter = char::from(*letter);
        let Some((_, name)) = LETTERS.iter().find(|(known, _)| *known == letter) else {
            let hint = "write it with two hyphens and its long name";
            return Err(RefusedOption { option: format!("-{}", letter.escape_default()), hint });
        };
        if ALONE.contains(name) {
            options.push(((*name).to_owned(), None));
            continue;
        }
        let rest = letters.as_slice();
        let value = rest.strip_prefix(b"=").unwrap_or(rest);
        options.push(((*name).to_owned(), Some(owned(value)).filter(|_| !rest.is_empty())));
        break;
    }
    Ok(options)
}

impl Arguments {
    /// The image, where there is one.
    pub(super) fn image(&self) -> Option<&OsStr> {
        self.command.iter().map(OsString::as_os_str).find(|word| *word != "--")
    }

    /// Refuses what cannot be together with trust in the files of the image.
    pub(super) fn with_files_of_image(self) -> Result<Self, RefusedOption> {
        match self.other_files {
            Some(option) => {
                let hint = "leave it out, or --trust; pull the image beforehand";
                Err(RefusedOption { option: format!("{option} together with --trust"), hint })
            }
            None => Ok(self),
        }
    }

    fn place(&mut self, engine: Engine, name: &str, value: Option<OsString>) -> Result<(), RefusedOption> {
        // Podman writes the hosts of each container by itself, and of one that joins another no more than those.
        let by_engine = engine == Engine::Podman && name == "add-host";
        let refused = REFUSED.iter().find(|(refused, _)| *refused == name).map(|(_, hint)| *hint);
        if let Some(hint) = refused.or_else(|| by_engine.then_some(NAMES)) {
            return Err(RefusedOption { option: format!("--{name}"), hint });
        }
        let value = value.as_deref();
        match (name, value.and_then(OsStr::to_str)) {
            ("name", name) => self.name = name.map(str::to_owned),
            ("privileged", value) if value != Some("false") => self.opening = Some("--privileged"),
            ("pid", Some("host")) => self.opening = Some("--pid=host"),
            ("interactive" | "tty", _) => self.is_attended = true,
            ("platform", _) => self.platform = value.map(OsStr::to_owned),
            ("pull", Some("never")) => self.is_never_pulled = true,
            ("pull", how) if how != Some("missing") => self.other_files = Some("--pull"),
            ("volumes-from", _) => self.other_files = Some("--volumes-from"),
            ("rootfs", _) => self.other_files = Some("--rootfs"),
            ("volume" | "mount" | "tmpfs", Some(value)) => self.covered.extend(covered(name, value)),
            _ => {}
        }
        // With Docker, a container that joins a namespace has the names of the one that holds it.
        let is_of_namespace =
            engine == Engine::Docker && ["add-host", "domainname", "hostname"].contains(&name);
        let list = if is_of_namespace { &mut self.infra } else { &mut self.workload };
        list.push(option(name, value));
        Ok(())
    }
}

/// Where in the container the value of an option that mounts something leads to.
fn covered(name: &str, value: &str) -> Option<PathBuf> {
    let path = match name {
        "volume" => value.split(':').nth(1).unwrap_or(value),
        "tmpfs" => value.split(':').next()?,
        _ => value.split(',').find_map(|part| match part.split_once('=') {
            Some(("destination" | "dst" | "target", path)) => Some(path),
            _ => None,
        })?,
    };
    Some(PathBuf::from(path))
}

/// An option in one word.
pub(super) fn option(name: &str, value: Option<&OsStr>) -> OsString {
    let mut word = OsString::from(format!("--{name}"));
    if let Some(value) = value {
        word.push("=");
        word.push(value);
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_at(engine: Engine, line: &str) -> Result<[String; 3], RefusedOption> {
        let found = look(engine, line.split(' ').filter(|word| !word.is_empty()).map(Into::into).collect())?;
        let joined = |words: Vec<OsString>| words.join(OsStr::new(" ")).into_string().unwrap();
        Ok([joined(found.infra), joined(found.workload), joined(found.command)])
    }

    fn docker(line: &str) -> Result<[String; 3], RefusedOption> {
        look_at(Engine::Docker, line)
    }

    #[test]
    fn options_end_where_the_image_is() {
        let plain = |workload: &str, command: &str| Ok([String::new(), workload.into(), command.into()]);
        assert_eq!(docker("alpine sh -c id"), plain("", "alpine sh -c id"));
        assert_eq!(docker("-it --rm alpine -p 80"), plain("--interactive --tty --rm", "alpine -p 80"));
        assert_eq!(
            docker("-ite A=b -v /a:/b --rm=false -uroot -w=/x i"),
            plain("--interactive --tty --env=A=b --volume=/a:/b --rm=false --user=root --workdir=/x", "i")
        );
        assert_eq!(docker("--memory-swap -1 i"), plain("--memory-swap=-1", "i"));
        assert_eq!(docker("--init -- i --net"), plain("--init", "-- i --net"));
        assert_eq!(docker("-e"), plain("--env", ""));
        assert_eq!(docker(""), plain("", ""));
        assert_eq!(docker("- x"), plain("", "- x"));
    }

    #[test]
    fn what_a_sealed_container_cannot_have_is_refused_however_it_is_written() {
        for line in [
            "--network host i",
            "--network=host i",
            "--net=host i",
            "-p 80:80 i",
            "-p80 i",
            "-itp 80 i",
            "-P i",
            "-d i",
            "-itd i",
            "--detach=true i",
            "--dns 1.1.1.1 i",
            "--restart=always i",
            "--name x --link y i",
            "--pod p i",
            "--cidfile f i",
            "--sig-proxy=false i",
        ] {
            let refused = docker(line).unwrap_err();
            assert!(refused.to_string().contains(" --") && !refused.hint.is_empty(), "{line}: {refused:?}");
        }
        assert_eq!(docker("-itx i").unwrap_err().option, "-x");
        assert!(docker("-p 80 i").unwrap_err().hint.contains("before --docker"));
    }

    #[test]
    fn what_is_not_known_cannot_hide_an_option() {
        // If it stands alone, the engine refuses it with a value.
        let line = docker("--new --network host i").unwrap();
        assert_eq!(line, ["", "--new=--network", "host i"]);
        assert_eq!(docker("-e --network i").unwrap()[1], "--env=--network");
    }

    #[test]
    fn names_go_where_the_engine_takes_them() {
        let line = "--add-host a:1.2.3.4 -h box --rm i";
        assert_eq!(docker(line).unwrap(), ["--add-host=a:1.2.3.4 --hostname=box", "--rm", "i"]);
        assert_eq!(look_at(Engine::Podman, "-h box --rm i").unwrap()[1], "--hostname=box --rm");
        let refused = look_at(Engine::Podman, line).unwrap_err();
        assert!(refused.hint.contains("in the policy"), "{refused:?}");
    }

    #[test]
    fn what_is_said_of_the_workload_is_noticed() {
        let look = |line: &[&str]| look(Engine::Docker, line.iter().map(Into::into).collect()).unwrap();
        assert_eq!(look(&["--name", "a", "--name=b", "i", "--name=c"]).name.as_deref(), Some("b"));
        assert_eq!(look(&["--privileged", "i"]).opening, Some("--privileged"));
        assert_eq!(look(&["--privileged=false", "--pid=container:x", "i"]).opening, None);
        let files = look(&[
            "-v",
            "/a:/etc/ssl:ro",
            "--tmpfs=/x:size=1m",
            "--mount",
            "type=bind,src=/a,dst=/y",
            "-v=/z",
            "i",
        ]);
        assert_eq!(files.covered, ["/etc/ssl", "/x", "/y", "/z"].map(PathBuf::from));
        assert!(files.with_files_of_image().is_ok());
        for other in [
            &["--pull=always", "i"][..],
            &["--volumes-from", "x", "i"],
            &["--pull", "never", "--rootfs", "/r"],
        ] {
            let refused = look(other).with_files_of_image().unwrap_err();
            assert!(refused.to_string().contains("with --trust"), "{refused}");
        }
        assert!(
            look(&["--pull=missing", "--", "i"]).with_files_of_image().unwrap().image() == Some("i".as_ref())
        );
        assert_eq!(look(&["--pid", "host", "i"]).opening, Some("--pid=host"));
        assert!(look(&["--rm", "-t", "i"]).is_attended && look(&["--interactive", "i"]).is_attended);
        assert!(!look(&["--rm", "i", "-t"]).is_attended);
        let odd = OsString::from_vec(b"-v=/\xff:/x".to_vec());
        let odd_written = OsString::from_vec(b"--volume=/\xff:/x".to_vec());
        assert_eq!(super::look(Engine::Docker, vec![odd]).unwrap().workload, [odd_written]);
    }
}
