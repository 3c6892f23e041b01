//! What the exit codes mean, in one table.
//!
//! A command that ran under `sluicegate run` passes its own code on (128 + N for a signal). The
//! codes of the gate itself are those of `sysexits.h`, which few programs use for themselves.

/// Everything went well.
pub const OK: u8 = 0;
/// The answer is no: the request would be refused, the policy changes something, the log is damaged,
/// something is wrong with a machine or a container.
pub const NO: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 64;
/// Something that is needed is not there: the helper, a namespace, a running instance.
pub const UNAVAILABLE: u8 = 69;
/// A bug of ours.
pub const BUG: u8 = 70;
/// The audit log, or another file, cannot be read or written.
pub const IO: u8 = 74;
/// Another gate serves this namespace, or has this name.
pub const TAKEN: u8 = 75;
/// A privilege is missing; the message says which.
pub const PRIVILEGE: u8 = 77;
/// The policy document or a secret is wrong.
pub const CONFIGURATION: u8 = 78;

/// The table as `--help` shows it.
pub const HELP: &str = "\
Exit codes:
    0      all well; `run` passes its command's code on instead
    1      the answer is no: `policy test` refuses, `policy diff` finds changes, `log verify`
           damage, `doctor` a problem
    64     wrong command line
    69     something needed is not there, such as sluicegate-netns or a running instance
    70     a bug in sluicegate
    74     the audit log or another file cannot be read or written
    75     another gate serves this namespace, or has this name
    77     a privilege is missing
    78     the policy document or a secret is wrong
    126    the command of `run` cannot be executed
    127    the command of `run` was not found
    128+N  the command of `run` was ended by signal N";
