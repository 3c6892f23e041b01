//! The program that holds a namespace and does nothing else, and the image that it is alone in.

use std::io;

use crate::elf::{self, EXECUTE, LOAD, PAGE_BYTES, PLAIN_STACK, PROGRAM, READ, Segment};

/// Where the program is in its image.
pub(super) const PATH: &str = "/pause";

/// What the image is called, with the version of this program: another one may make another image.
pub(super) const IMAGE: &str = concat!("sluicegate-pause:", env!("CARGO_PKG_VERSION"));

/// Where the program is in memory, which is a multiple of every size of pages (elf(5)).
const BASE: u64 = 0x40_0000;

/// An architecture, and `pause` in a loop in its instructions: a signal ends
/// the process, or nothing does.
#[derive(Clone, Copy)]
struct Machine {
    architecture: u64,
    code: &'static [u8],
}

/// `mov eax, SYS_pause; syscall; jmp` to the beginning.
const X86_64: Machine = Machine { architecture: elf::X86_64, code: b"\xb8\x22\0\0\0\x0f\x05\xeb\xf7" };

/// `movz x0..x3, 0; movz x8, SYS_ppoll; svc 0; b` to the beginning: there is no pause(2), and ppoll(2) of nothing is
/// the same.
const AARCH64: Machine = Machine {
    architecture: elf::AARCH64,
    code: b"\x00\x00\x80\xd2\x01\x00\x80\xd2\x02\x00\x80\xd2\x03\x00\x80\xd2\x28\x09\x80\xd2\x01\x00\x00\xd4\xfa\xff\xff\x17",
};

/// The image for this machine, as the archive of its files that engines import: the program alone. None on an
/// architecture that it is not written for.
pub(super) fn image() -> Option<io::Result<Vec<u8>>> {
    let program = program(match std::env::consts::ARCH {
        "x86_64" => X86_64,
        "aarch64" => AARCH64,
        _ => return None,
    });
    Some(archive(&program))
}

fn archive(program: &[u8]) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_size(program.len() as u64);
    header.set_mode(0o555);
    header.set_mtime(0);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, PATH.trim_start_matches('/'), program)?;
    archive.into_inner()
}

/// A whole program of one segment, for reading and executing.
fn program(machine: Machine) -> Vec<u8> {
    let headers = elf::headers_bytes(2);
    let length = headers + machine.code.len() as u64;
    let whole = Segment {
        kind: LOAD,
        flags: READ | EXECUTE,
        offset: 0,
        address: BASE,
        length,
        alignment: PAGE_BYTES,
    };
    let mut program = elf::headers(PROGRAM, machine.architecture, BASE + headers, &[whole, PLAIN_STACK]);
    program.extend(machine.code);
    program
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_program_waits_until_it_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pause");
        let mut archive = tar::Archive::new(io::Cursor::new(image().unwrap().unwrap()));
        archive.entries().unwrap().next().unwrap().unwrap().unpack(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions(), Permissions::from_mode(0o100_555));
        let mut process = Command::new(&path).spawn().unwrap();
        // The number of the call that it is in; what runs has none.
        let waits = || {
            fs::read_to_string(format!("/proc/{}/syscall", process.id()))
                .unwrap()
                .starts_with(if cfg!(target_arch = "x86_64") { "34 " } else { "73 " })
        };
        let began = Instant::now();
        while !waits() {
            assert!(began.elapsed() < Duration::from_secs(10), "it does not wait");
        }
        process.kill().unwrap();
        assert_eq!(process.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn both_programs_are_small_and_say_what_they_are() {
        for (machine, length) in [(X86_64, 185), (AARCH64, 204)] {
            let program = program(machine);
            assert_eq!(program.len(), length);
            assert_eq!(u64::from(program[18]), machine.architecture);
            assert!(program.ends_with(machine.code));
        }
        // Every instruction of this one has four bytes; the last leads back by six.
        assert_eq!(AARCH64.code.len(), 28);
        let last = u32::from_le_bytes(AARCH64.code[24..].try_into().unwrap());
        assert_eq!(last, 0x1400_0000 | (0x0400_0000 - 6));
    }
}
