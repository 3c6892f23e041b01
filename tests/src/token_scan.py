"""Looks for credentials in the memory, environment and arguments of every process it may read.

Arguments: PREFIX:LENGTH:SHA256 each. The credential itself is never given, so that this process does
not hold it: a candidate begins with PREFIX, and its LENGTH bytes have that hash.
"""
import hashlib
import os
import sys

STEP = 1 << 22


def hits(data, needles):
    for prefix, length, digest in needles:
        at = data.find(prefix)
        while at >= 0:
            if hashlib.sha256(data[at:at + length]).hexdigest() == digest:
                return True
            at = data.find(prefix, at + 1)
    return False


def regions(pid):
    with open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            fields = line.split()
            if fields[1].startswith("r") and "[v" not in line:
                yield tuple(int(end, 16) for end in fields[0].split("-"))


def memory_hits(pid, needles, overlap):
    size, found = 0, False
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for start, end in regions(pid):
            for at in range(start, end, STEP):
                try:
                    memory.seek(at)
                    data = memory.read(min(STEP + overlap, end - at))
                except OSError:
                    continue  # a guard page
                size += len(data)
                found = found or hits(data, needles)
    return size, found


def main():
    needles = []
    for argument in sys.argv[1:]:
        prefix, length, digest = argument.split(":")
        needles.append((prefix.encode(), int(length), digest))
    overlap = max(length for _, length, _ in needles)
    read, size, found = 0, 0, []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("environ", "cmdline"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    if hits(file.read(), needles):
                        found.append(f"{pid}/{name}")
            except OSError:
                pass
        try:
            more, hit = memory_hits(pid, needles, overlap)
        except OSError:
            continue
        read, size = read + 1, size + more
        if hit:
            found.append(f"{pid}/mem")
    # Its own memory is always readable; less means that the scan did not work.
    if read == 0 or size < 1 << 20:
        found.append("nothing could be read")
    print("found: " + ", ".join(found) if found else f"clean: {read} processes, {size} bytes")


main()
