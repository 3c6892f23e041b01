//! A library that names a file of certificates to the process that loads it, as `NODE_EXTRA_CA_CERTS`, and does
//! nothing else. OpenSSL loads it for Node.js, which asks for that variable only afterwards.

use std::path::Path;

use crate::elf::{
    self, DYNAMIC, EXECUTE, LIBRARY, LOAD, PAGE_BYTES, PLAIN_STACK, READ, Segment, WRITE, headers_bytes, put,
};

const SEGMENTS: u64 = 4;

/// What it calls, and by what names it is called: of a provider (provider-base(7)), and of a module of OpenSSL 1.1
/// (`CONF_module_add(3)`), without which Node.js 14, that reads the settings too, would not start.
const CALLED: &str = "setenv";
const NAMES: [&str; 3] = ["OSSL_provider_init", "OPENSSL_init", "OPENSSL_finish"];

/// The length of a symbol, and of a relocation.
const SYMBOL_BYTES: u64 = 24;
const RELOCATION_BYTES: u64 = 24;
/// The number of the first symbol, which is what it calls: there is always one before, of nothing.
const FIRST_SYMBOL: u64 = 1;
/// A function that others see.
const GLOBAL_FUNCTION: u64 = 0x12;
/// A section that is not ours, and one that would be if there were any.
const UNDEFINED: u64 = 0;
const DEFINED: u64 = 1;

/// What the loader is told (elf(5), `Elf64_Dyn`).
const HASH: u64 = 4;
const STRINGS: u64 = 5;
const SYMBOLS: u64 = 6;
const RELOCATIONS: u64 = 7;
const RELOCATIONS_LENGTH: u64 = 8;
const RELOCATION_LENGTH: u64 = 9;
const STRINGS_LENGTH: u64 = 10;
const SYMBOL_LENGTH: u64 = 11;

/// Where the function's instructions find what they need.
#[derive(Clone, Copy)]
struct Addresses {
    code: u64,
    variable: u64,
    value: u64,
    /// Where the loader writes the address of what is called.
    slot: u64,
}

/// An architecture, how a slot is filled on it (`R_*_GLOB_DAT`), and the function.
#[derive(Clone, Copy)]
struct Machine {
    architecture: u64,
    fill: u64,
    code: fn(Addresses) -> Vec<u8>,
}

const X86_64: Machine = Machine { architecture: elf::X86_64, fill: 6, code: x86_64 };
const AARCH64: Machine = Machine { architecture: elf::AARCH64, fill: 1025, code: aarch64 };

/// The library for this machine, which names `certificates` unless another file is named already. None on an
/// architecture that it is not written for.
pub(super) fn library(certificates: &Path) -> Option<Vec<u8>> {
    let machine = match std::env::consts::ARCH {
        "x86_64" => X86_64,
        "aarch64" => AARCH64,
        _ => return None,
    };
    Some(assemble(machine, certificates.to_str()?))
}

fn assemble(machine: Machine, certificates: &str) -> Vec<u8> {
    let mut strings = vec![0];
    let mut string = |text: &str| {
        let at = strings.len() as u64;
        strings.extend(text.bytes().chain([0]));
        at
    };
    let called = string(CALLED);
    let names = NAMES.map(&mut string);
    let [variable, value] = [super::ADDING, certificates].map(&mut string);
    strings.resize(strings.len().next_multiple_of(8), 0);

    let count = FIRST_SYMBOL + 1 + names.len() as u64;
    let symbols_at = headers_bytes(SEGMENTS);
    let relocation_at = symbols_at + count * SYMBOL_BYTES;
    let hash_at = relocation_at + RELOCATION_BYTES;
    // One list for all: how many lists, how many symbols, where the list begins, and what follows each.
    let strings_at = hash_at + (3 + count).next_multiple_of(2) * 4;
    let code_at = strings_at + strings.len() as u64;
    let addresses =
        |slot| Addresses { code: code_at, variable: strings_at + variable, value: strings_at + value, slot };
    // The code is as long wherever the slot is.
    let data_offset = (code_at + (machine.code)(addresses(0)).len() as u64).next_multiple_of(8);
    let data_at = PAGE_BYTES + data_offset;
    let dynamic = [
        (HASH, hash_at),
        (STRINGS, strings_at),
        (STRINGS_LENGTH, strings.len() as u64),
        (SYMBOLS, symbols_at),
        (SYMBOL_LENGTH, SYMBOL_BYTES),
        (RELOCATIONS, relocation_at),
        (RELOCATIONS_LENGTH, RELOCATION_BYTES),
        (RELOCATION_LENGTH, RELOCATION_BYTES),
        (0, 0),
    ];
    let dynamic_length = dynamic.len() as u64 * 16;
    let slot = data_at + dynamic_length;

    let part = |kind, flags, offset, address, length, alignment| Segment {
        kind,
        flags,
        offset,
        address,
        length,
        alignment,
    };
    let segments = [
        part(LOAD, READ | EXECUTE, 0, 0, data_offset, PAGE_BYTES),
        part(LOAD, READ | WRITE, data_offset, data_at, dynamic_length + 8, PAGE_BYTES),
        part(DYNAMIC, READ | WRITE, data_offset, data_at, dynamic_length, 8),
        PLAIN_STACK,
    ];
    let mut library = elf::headers(LIBRARY, machine.architecture, 0, &segments);
    put(&mut library, &[(0, 8); 3]);
    for (name, section, address) in
        [(called, UNDEFINED, 0)].into_iter().chain(names.map(|name| (name, DEFINED, code_at)))
    {
        put(&mut library, &[(name, 4), (GLOBAL_FUNCTION, 1), (0, 1), (section, 2), (address, 8), (0, 8)]);
    }
    put(&mut library, &[(slot, 8), (machine.fill, 4), (FIRST_SYMBOL, 4), (0, 8)]);
    put(&mut library, &[(1, 4), (count, 4), (FIRST_SYMBOL, 4), (0, 4)]);
    for next in FIRST_SYMBOL + 1..=count {
        put(&mut library, &[(next % count, 4)]);
    }
    library.resize(usize::try_from(strings_at).unwrap_or_default(), 0);
    library.extend(strings);
    library.extend((machine.code)(addresses(slot)));
    library.resize(library.len().next_multiple_of(8), 0);
    for (tag, value) in dynamic {
        put(&mut library, &[(tag, 8), (value, 8)]);
    }
    put(&mut library, &[(0, 8)]);
    library
}

/// `setenv(variable, value, 0)`, and 1 for success.
fn x86_64(at: Addresses) -> Vec<u8> {
    let mut code = Vec::new();
    // push rax, which aligns the stack; xor edx, edx
    put(&mut code, &[(0x50, 1), (0xd231, 2)]);
    // lea rdi, [variable]; lea rsi, [value]; call [slot]: each from the end of the instruction
    put(&mut code, &[(0x3d_8d48, 3), (at.variable.wrapping_sub(at.code + 10), 4)]);
    put(&mut code, &[(0x35_8d48, 3), (at.value.wrapping_sub(at.code + 17), 4)]);
    put(&mut code, &[(0x15ff, 2), (at.slot.wrapping_sub(at.code + 23), 4)]);
    // mov eax, 1; pop rdx; ret
    put(&mut code, &[(0xb8, 1), (1, 4), (0x5a, 1), (0xc3, 1)]);
    code
}

/// The same.
fn aarch64(at: Addresses) -> Vec<u8> {
    // How far it is from the instruction of this number, of four bytes each, in bits 5 to 23, by words; `adr` has
    // the rest in bits 29 and 30.
    let words = |to: u64, number: u64| (to.wrapping_sub(at.code + 4 * number) >> 2 & 0x7_ffff) << 5;
    let rest = |to: u64, number: u64| (to.wrapping_sub(at.code + 4 * number) & 3) << 29;
    let adr = |register, to, number| 0x1000_0000 | rest(to, number) | words(to, number) | register;
    let code = [
        // stp x29, x30, [sp, -16]!
        0xa9bf_7bfd,
        adr(0, at.variable, 1),
        adr(1, at.value, 2),
        // mov w2, 0; ldr x9, [slot]; blr x9
        0x5280_0002,
        0x5800_0009 | words(at.slot, 4),
        0xd63f_0120,
        // mov w0, 1; ldp x29, x30, [sp], 16; ret
        0x5280_0020,
        0xa8c1_7bfd,
        0xd65f_03c0,
    ];
    let mut bytes = Vec::new();
    put(&mut bytes, &code.map(|instruction| (instruction, 4)));
    bytes
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    /// Loads the library, calls each of its functions, and says what the variable is then.
    const LOADS: &str = "
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
assert [library[name]() for name in sys.argv[2:]] == [1, 1, 1]
process = ctypes.CDLL(None)
process.getenv.restype = ctypes.c_char_p
print(process.getenv(b'NODE_EXTRA_CA_CERTS').decode(), end='')
";

    #[test]
    fn t02_who_loads_it_is_told_of_the_certificates_unless_it_was_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.so");
        fs::write(&file, library(Path::new("/some/where/ca.pem")).unwrap()).unwrap();
        let told = |before: Option<&str>| {
            let mut python = Command::new("python3");
            python.args(["-c", LOADS]).arg(&file).args(NAMES).env_remove(super::super::ADDING);
            python.envs(before.map(|value| (super::super::ADDING, value)));
            let output = python.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(told(None), "/some/where/ca.pem");
        assert_eq!(told(Some("/theirs.pem")), "/theirs.pem");
    }

    #[test]
    fn t02_both_libraries_are_small_and_say_what_they_are() {
        for (machine, length) in [(X86_64, 752), (AARCH64, 760)] {
            let library = assemble(machine, "/dev/sluicegate/ca.pem");
            assert_eq!(library.len(), length);
            assert_eq!(u64::from(library[18]), machine.architecture);
        }
    }
}
