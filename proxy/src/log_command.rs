//! The commands that read the audit log: `log get`, `log follow`, `log verify`.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use serde_json::json;
use thiserror::Error;

use crate::audit::view::{Filter, HostFilter, LineReader, Shown};
use crate::audit::{self, Kind, Verified, VerifyError};
use crate::exit;

/// What `log follow` shows of the past.
const FOLLOW_LINES: usize = 10;

/// How often `log follow` looks for more: soon enough for a reader, too seldom to be noticed.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

/// The commands below `sluicegate log`.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Show records of the audit log
    #[command(after_help = "Examples:\n  \
        sluicegate log get --verdict refused --since 10m\n  \
        sluicegate log get --host '*.example.org' --limit 20\n  \
        sluicegate log get --would-refuse\n  \
        sluicegate log get --json | jq -r .host | sort | uniq -c")]
    Get(GetOptions),
    /// Show the last records of the audit log, and new ones as they come
    #[command(after_help = "Example:\n  sluicegate log follow --verdict refused")]
    Follow(ShowOptions),
    /// Check that no record was changed, cut out, put in or moved
    #[command(
        after_help = "The hash chain cannot show that the end of the log was cut off. For that, note the head \
        that this command prints, and give it as --head later; or ask for --closed.\n\n\
        Examples:\n  sluicegate log verify --closed\n  sluicegate log verify --log old.jsonl --head 9f86d081…"
    )]
    Verify(VerifyOptions),
}

/// Which log, which of its records, and how they are printed.
#[derive(Args, Clone, Debug, Default)]
pub struct ShowOptions {
    /// The log file; if not given, the newest in the default folder
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Only records of this kind
    #[arg(long, value_name = "KIND", value_parser = parse_kind)]
    kind: Option<Kind>,
    /// Only records of this host, or of every name below one with *.example.org
    #[arg(long, value_name = "PATTERN", value_parser = HostFilter::parse)]
    host: Option<HostFilter>,
    /// Only records with this verdict
    #[arg(long, value_name = "VERDICT", value_parser = ["allowed", "refused", "answered", "failed"])]
    verdict: Option<String>,
    /// Only records of what would have been refused, had it not been for mode = "audit"
    #[arg(long)]
    would_refuse: bool,
    /// Only records that began in this last span (10m, 2h) or since this time (2026-01-31T12:00:00Z)
    #[arg(long, value_name = "SINCE", value_parser = parse_since)]
    since: Option<SystemTime>,
    /// Print the records as they are in the log, one JSON object a line
    #[arg(long)]
    json: bool,
}

/// The options of `log get`.
#[derive(Args, Clone, Debug, Default)]
pub struct GetOptions {
    #[command(flatten)]
    show: ShowOptions,
    /// Only the last so many of them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// The options of `log verify`.
#[derive(Args, Clone, Debug, Default)]
pub struct VerifyOptions {
    /// The log file; if not given, the newest in the default folder
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// A head noted earlier: the log must hold, unchanged, everything up to it
    #[arg(long, value_name = "HASH", value_parser = parse_head)]
    head: Option<String>,
    /// The log must end with the record that an orderly stop writes
    #[arg(long)]
    closed: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs a command and returns its exit code: 0, or 1 when `verify` found something wrong.
///
/// # Errors
/// When there is no log, or it cannot be read, or the result cannot be printed. A reader of our
/// output that went away is not an error.
pub fn run(command: &LogCommand) -> Result<u8, LogCommandError> {
    let mut out = BufWriter::new(io::stdout().lock());
    let result = match command {
        LogCommand::Get(options) => get(options, &mut out),
        LogCommand::Follow(options) => follow(options, &mut out),
        LogCommand::Verify(options) => verify(options, &mut out, &mut io::stderr().lock()),
    };
    let result = result.and_then(|code| out.flush().map_err(LogCommandError::Print).map(|()| code));
    match result {
        Err(LogCommandError::Print(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
        result => result,
    }
}

/// Why a log command did not come to its end.
#[derive(Debug, Error)]
pub enum LogCommandError {
    /// Neither `XDG_STATE_HOME` nor `HOME` says where the default folder is.
    #[error("there is no default folder for logs")]
    NoFolder,
    /// Nothing has run with the default log yet, or it ran as another user.
    #[error("there is no audit log in {}", folder.display())]
    NoLog {
        /// The default folder.
        folder: PathBuf,
    },
    /// The file is not there, may not be opened, or the disk failed.
    #[error("cannot read the audit log {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Our own standard output is full or closed.
    #[error("cannot print")]
    Print(#[source] io::Error),
}

impl LogCommandError {
    /// What the operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoFolder | Self::NoLog { .. } => Some("name the log with --log FILE"),
            Self::Read { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
                Some("a log may be read only by the user whose gate wrote it")
            }
            Self::Read { .. } | Self::Print(_) => None,
        }
    }
}

fn get(options: &GetOptions, out: &mut impl Write) -> Result<u8, LogCommandError> {
    let path = log_file(options.show.log.as_deref())?;
    let limit = options.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut lines = open_lines(&path)?;
    show_last(&mut lines, &path, &options.show, limit, out)?;
    Ok(0)
}

fn follow(options: &ShowOptions, out: &mut impl Write) -> Result<u8, LogCommandError> {
    let path = log_file(options.log.as_deref())?;
    let mut lines = open_lines(&path)?;
    show_last(&mut lines, &path, options, FOLLOW_LINES, out)?;
    loop {
        out.flush().map_err(LogCommandError::Print)?;
        thread::sleep(FOLLOW_PAUSE);
        if was_replaced(&mut lines, &path).map_err(cannot_read(&path))? {
            // Between a removal and the new file there may be none for a while.
            match File::open(&path) {
                Ok(file) => lines = LineReader::new(file),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(cannot_read(&path)(error)),
            }
        }
        each_wanted(&mut lines, &path, options, |text| out.write_all(&text).map_err(LogCommandError::Print))?;
    }
}

fn verify(
    options: &VerifyOptions,
    out: &mut impl Write,
    warnings: &mut impl Write,
) -> Result<u8, LogCommandError> {
    let path = log_file(options.log.as_deref())?;
    let file = File::open(&path).map_err(cannot_read(&path))?;
    match audit::verify(BufReader::new(file), options.head.as_deref()) {
        Ok(verified) => report_whole(options, &path, &verified, out, warnings),
        Err(VerifyError { problem: audit::Problem::Read(source), .. }) => {
            Err(LogCommandError::Read { path, source })
        }
        Err(error) => report_broken(options, &path, &error, out, warnings),
    }
    .map(|wrong| if wrong { exit::NO } else { exit::OK })
}

/// Reports a log whose chain is whole; true when it is not closed and was to be.
fn report_whole(
    options: &VerifyOptions,
    path: &Path,
    verified: &Verified,
    out: &mut impl Write,
    warnings: &mut impl Write,
) -> Result<bool, LogCommandError> {
    let is_refused = options.closed && !verified.closed;
    let printed = if options.json {
        let result = json!({
            "ok": !is_refused,
            "file": path.display().to_string(),
            "records": verified.records,
            "first_sequence": verified.first_sequence,
            "last_sequence": verified.last_sequence,
            "head": verified.head,
            "noted_head": verified.noted_head,
            "closed": verified.closed,
        });
        writeln!(out, "{result}")
    } else {
        writeln!(out, "{}: {} records, unchanged\nhead {}", path.display(), verified.records, verified.head)
    };
    printed.map_err(LogCommandError::Print)?;
    if !verified.closed && (is_refused || !options.json) {
        let level = if is_refused { "error" } else { "warning" };
        writeln!(
            warnings,
            "{level}: {} does not end with the record of an orderly stop: the gate is still running, or it was \
             killed, or the end was cut off",
            path.display()
        )
        .map_err(LogCommandError::Print)?;
    }
    Ok(is_refused)
}

/// Reports what is wrong with a log; true, because something is.
fn report_broken(
    options: &VerifyOptions,
    path: &Path,
    error: &VerifyError,
    out: &mut impl Write,
    warnings: &mut impl Write,
) -> Result<bool, LogCommandError> {
    let printed = if options.json {
        let result = json!({
            "ok": false,
            "file": path.display().to_string(),
            "line": error.line,
            "problem": error.problem.to_string(),
        });
        writeln!(out, "{result}")
    } else {
        writeln!(warnings, "error: {}:{}: {}", path.display(), error.line, error.problem)
    };
    printed.map_err(LogCommandError::Print)?;
    Ok(true)
}

/// Prints the last `limit` wanted records of what is there now.
fn show_last(
    lines: &mut LineReader,
    path: &Path,
    options: &ShowOptions,
    limit: usize,
    out: &mut impl Write,
) -> Result<(), LogCommandError> {
    if limit == usize::MAX {
        return each_wanted(lines, path, options, |text| {
            out.write_all(&text).map_err(LogCommandError::Print)
        });
    }
    let mut last = VecDeque::new();
    each_wanted(lines, path, options, |text| {
        if last.len() >= limit {
            last.pop_front();
        }
        last.push_back(text);
        Ok(())
    })?;
    last.iter().try_for_each(|text| out.write_all(text)).map_err(LogCommandError::Print)
}

/// Calls `show` with the text of every wanted record that there is for now.
fn each_wanted(
    lines: &mut LineReader,
    path: &Path,
    options: &ShowOptions,
    mut show: impl FnMut(Vec<u8>) -> Result<(), LogCommandError>,
) -> Result<(), LogCommandError> {
    let filter = Filter {
        kind: options.kind,
        host: options.host.clone(),
        would_refuse: options.would_refuse,
        verdict: options.verdict.clone(),
        since: options.since,
    };
    while let Some(line) = lines.next_line().map_err(cannot_read(path))? {
        // What is not a record is `log verify`'s to report; printing it raw could be an attack.
        let Some(record) = Shown::parse(line).filter(|record| filter.admits(record)) else {
            continue;
        };
        let mut text = if options.json { line.to_vec() } else { record.to_string().into_bytes() };
        text.push(b'\n');
        show(text)?;
    }
    Ok(())
}

/// Whether the file at `path` is another than the one being read, or shorter than what was read.
fn was_replaced(lines: &mut LineReader, path: &Path) -> io::Result<bool> {
    let (file, position) = lines.position()?;
    let read = file.metadata()?;
    Ok(match fs::metadata(path) {
        Ok(named) => (named.dev(), named.ino()) != (read.dev(), read.ino()) || read.len() < position,
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    })
}

/// The log that was named, or else the newest in the default folder.
fn log_file(named: Option<&Path>) -> Result<PathBuf, LogCommandError> {
    match named {
        Some(path) => Ok(path.to_owned()),
        None => newest_log(&audit::default_log_folder().ok_or(LogCommandError::NoFolder)?),
    }
}

fn newest_log(folder: &Path) -> Result<PathBuf, LogCommandError> {
    let none = || LogCommandError::NoLog { folder: folder.to_owned() };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(none()),
        Err(error) => return Err(cannot_read(folder)(error)),
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "jsonl"))
        .filter_map(|entry| {
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((metadata.modified().ok()?, entry.path()))
        })
        .max()
        .map(|(_, path)| path)
        .ok_or_else(none)
}

fn open_lines(path: &Path) -> Result<LineReader, LogCommandError> {
    File::open(path).map(LineReader::new).map_err(cannot_read(path))
}

fn cannot_read(path: &Path) -> impl Fn(io::Error) -> LogCommandError {
    let path = path.to_owned();
    move |source| LogCommandError::Read { path: path.clone(), source }
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == text);
    kind.ok_or_else(|| format!("expected one of {}", Kind::ALL.map(Kind::as_str).join(", ")))
}

fn parse_since(text: &str) -> Result<SystemTime, String> {
    if let Ok(span) = humantime::parse_duration(text) {
        return SystemTime::now().checked_sub(span).ok_or_else(|| "the span is too long".to_owned());
    }
    humantime::parse_rfc3339_weak(text).map_err(|_| {
        "expected a span such as 10m or 2h, or a UTC time such as 2026-01-31T12:00:00Z".to_owned()
    })
}

fn parse_head(text: &str) -> Result<String, String> {
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err("expected the 64 hexadecimal digits that `log verify` prints".to_owned())
}

#[cfg(test)]
mod tests;
