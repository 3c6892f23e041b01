//! The program that holds a namespace and does nothing else, and the image that it is alone in.

use std::io;

/// Where the program is in its image.
pub(super) const PATH: &str = "/pause";

/// What the image is called, with the version of this program: another one may make another image.
pub(super) const IMAGE: &str = concat!("sluicegate-pause:", env!("CARGO_PKG_VERSION"));

/// Where the program is in memory, which is a multiple of every size of pages (elf(5)).
const BASE: u64 = 0x40_0000;

/// The size of pages that its one segment is made for: the largest there is, of some aarch64.
const PAGE_BYTES: u64 = 0x1_0000;

/// The length of the file's header.
const HEADER_BYTES: u64 = 64;
/// How many segments are described behind it, and the length of each description.
const SEGMENTS: u64 = 2;
const SEGMENT_BYTES: u64 = 56;

/// What a segment is: contents, or how the stack is to be.
const LOAD: u64 = 1;
const STACK: u64 = 0x6474_e551;
/// What it is for.
const EXECUTE: u64 = 1;
const WRITE: u64 = 2;
const READ: u64 = 4;

/// An architecture by its number in a program (elf(5)), and `pause` in a loop in its instructions: a signal ends
/// the process, or nothing does.
#[derive(Clone, Copy)]
struct Machine {
    number: u64,
    code: &'static [u8],
}

/// `mov eax, SYS_pause; syscall; jmp` to the beginning.
const X86_64: Machine = Machine { number: 62, code: b"\xb8\x22\0\0\0\x0f\x05\xeb\xf7" };

/// `movz x0..x3, 0; movz x8, SYS_ppoll; svc 0; b` to the beginning: there is no pause(2), and ppoll(2) of nothing is
/// the same.
const AARCH64: Machine = Machine {
    number: 183,
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

/// A whole program (elf(5)) of one segment, for reading and executing, and a stack that is not executed.
fn program(machine: Machine) -> Vec<u8> {
    let headers = HEADER_BYTES + SEGMENTS * SEGMENT_BYTES;
    let length = headers + machine.code.len() as u64;
    // 64 bits, little-endian, version 1; of any system.
    let mut program = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let mut put = |fields: &[(u64, usize)]| {
        for (value, width) in fields {
            program.extend(value.to_le_bytes().iter().take(*width));
        }
    };
    // An executable of this machine, version 1; it begins behind the headers; no sections and no flags.
    put(&[(2, 2), (machine.number, 2), (1, 4), (BASE + headers, 8), (HEADER_BYTES, 8), (0, 8), (0, 4)]);
    put(&[(HEADER_BYTES, 2), (SEGMENT_BYTES, 2), (SEGMENTS, 2), (0, 2), (0, 2), (0, 2)]);
    put(&[
        (LOAD, 4),
        (READ | EXECUTE, 4),
        (0, 8),
        (BASE, 8),
        (BASE, 8),
        (length, 8),
        (length, 8),
        (PAGE_BYTES, 8),
    ]);
    put(&[(STACK, 4), (READ | WRITE, 4), (0, 8), (0, 8), (0, 8), (0, 8), (0, 8), (16, 8)]);
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
            assert_eq!(u64::from(program[18]), machine.number);
            assert!(program.ends_with(machine.code));
        }
        // Every instruction of this one has four bytes; the last leads back by six.
        assert_eq!(AARCH64.code.len(), 28);
        let last = u32::from_le_bytes(AARCH64.code[24..].try_into().unwrap());
        assert_eq!(last, 0x1400_0000 | (0x0400_0000 - 6));
    }
}
