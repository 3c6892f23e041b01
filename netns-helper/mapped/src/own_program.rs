//! The pages of the gate's own program.

use std::ffi::c_void;
use std::fs;
use std::io;
use std::path::Path;

use rustix::mm::{Advice, madvise};

/// Takes the program's code and constants out of this process's resident set. What starting needed is most of it, and is not
/// needed again; what is comes back page by page from the kernel's cache, which keeps it for all instances.
///
/// # Errors
/// The kernel does not say what is mapped where, or refuses; nothing is lost by it.
pub fn let_go_of_code() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    for code in maps.lines().filter_map(|line| code_of(line, &program)) {
        #[expect(unsafe_code, reason = "memory is named by its address")]
        // SAFETY: the range is a whole mapping of this program's code or constants, which stays mapped until the
        // process ends. It is private, and neither this process nor the loader writes to it (it is not writable, and
        // a position-independent program has no relocations in it), so each page is still the file's and is read from
        // there again when it is next touched (madvise(2), MADV_DONTNEED on a private file mapping).
        unsafe {
            madvise(code.address, code.length, Advice::LinuxDontNeed)?;
        }
    }
    Ok(())
}

/// A mapping.
#[derive(Debug, PartialEq, Eq)]
struct Code {
    address: *mut c_void,
    length: usize,
}

/// The mapping of a line of /proc/PID/maps (proc_pid_maps(5)), if it is private, not writable, and code of this
/// program; or what its file begins with, which is constants. What else may only be read now was written to when
/// the program was relocated.
fn code_of(line: &str, program: &Path) -> Option<Code> {
    // Range, mode, offset, device, inode, and a path that may have spaces.
    let mut fields = line.splitn(6, ' ');
    let (first, end) = fields.next()?.split_once('-')?;
    let (mode, offset) = (fields.next()?, fields.next()?);
    let is_code = match mode {
        "r-xp" => true,
        "r--p" => offset.bytes().all(|digit| digit == b'0'),
        _ => false,
    } && Path::new(fields.nth(2)?.trim_start()) == program;
    let (first, end) = (usize::from_str_radix(first, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let code =
        Code { address: std::ptr::with_exposed_provenance_mut(first), length: end.checked_sub(first)? };
    is_code.then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_program_is_named() {
        let program = Path::new("/opt/a gate/sluicegate");
        let line = |range: &str, mode: &str, path: &str| {
            code_of(&format!("{range} {mode} 00bce000 fe:00 42                         {path}"), program)
        };
        let range = "7f0000001000-7f0000003000";
        let code = Code { address: std::ptr::with_exposed_provenance_mut(0x7f00_0000_1000), length: 0x2000 };
        assert_eq!(line(range, "r-xp", "/opt/a gate/sluicegate"), Some(code));
        for mode in ["r--p", "rw-p", "rwxp", "r-xs", "---p"] {
            assert_eq!(line(range, mode, "/opt/a gate/sluicegate"), None, "{mode}");
        }
        let first = format!("{range} r--p 00000000 fe:00 42     /opt/a gate/sluicegate");
        assert!(code_of(&first, program).is_some(), "what the file begins with");
        for path in ["/opt/a", "/opt/a gate/sluicegate (deleted)", "[vdso]", ""] {
            assert_eq!(line(range, "r-xp", path), None, "{path}");
        }
        for broken in ["", "7f00-", "zz-7f00", "7f00-7e00", "7e00"] {
            assert_eq!(line(broken, "r-xp", "/opt/a gate/sluicegate"), None, "{broken:?}");
        }
        assert_eq!(code_of("7f00-7f01 r-xp 0", program), None);
    }

    #[test]
    fn this_program_goes_on_without_its_code_in_memory() {
        let resident = || {
            let program = fs::read_link("/proc/self/exe").unwrap();
            let maps = fs::read_to_string("/proc/self/smaps").unwrap();
            let mut lines = maps.lines().skip_while(|line| code_of(line, &program).is_none());
            let line = lines.find(|line| line.starts_with("Rss:")).unwrap();
            line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        let before = resident();
        let_go_of_code().unwrap();
        let after = resident();
        assert!(before > 0 && after < before, "{before} KiB, then {after} KiB");
    }
}
