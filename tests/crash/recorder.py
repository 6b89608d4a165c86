"""What a disk may hold after a power cut: system calls recorded by strace, replayed up to any point.

The model is the strictest that POSIX allows: a write is on the disk after an fsync of its file, a name after an fsync
of its folder, and not before. At a crash everything else is dropped, or kept, or torn: each 512-byte sector of each
unsynced write is there or not, in any combination, and names up to some point.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

SECTOR = 512
CALLS = "openat,open,creat,close,dup,dup2,pwrite64,write,pwritev,writev,fsync,fdatasync,ftruncate,unlink,unlinkat,"
CALLS += "link,linkat,rename,renameat,renameat2,sync_file_range,fallocate"
_LINE = re.compile(r"^(?:\d+\s+)?(\w+)\((.*)\)\s+=\s+(-?\d+)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


@dataclass
class Inode:
    """A file: what is durable, and what was written since."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    def sync(self) -> None:
        for at, data in self.pending:
            _apply(self.durable, at, data)
        self.pending.clear()


@dataclass
class Disk:
    """Inodes and names: ``names`` as they are, ``durable`` as they were at the last fsync of the folder."""

    names: dict[str, Inode] = field(default_factory=dict)
    durable: dict[str, Inode] = field(default_factory=dict)
    renamed: list[tuple[str, Inode | None]] = field(default_factory=list)

    def name(self, path: str, inode: Inode | None) -> None:
        self.renamed.append((path, inode))
        _rename(self.names, path, inode)

    def sync_names(self) -> None:
        self.durable = dict(self.names)
        self.renamed.clear()

    def left(self, chance: random.Random | None, *, keep: bool = False) -> dict[str, bytes]:
        """The files after a crash: nothing unsynced (no ``chance``), all of it (``keep``), or a part by chance."""
        names = dict(self.durable)
        for path, inode in self.renamed[
            : len(self.renamed) if keep else chance.randint(0, len(self.renamed)) if chance else 0
        ]:
            _rename(names, path, inode)
        found = {}
        for path, inode in names.items():
            content = bytearray(inode.durable)
            for at, data in inode.pending if keep or chance else ():
                for start, part in [(at, data)] if keep or data is None else _sectors(at, data):
                    if keep or chance.random() < 0.5:
                        _apply(content, start, part)
            found[path] = bytes(content)
        return found


def available() -> bool:
    """Whether strace is here, and may trace."""
    strace = shutil.which("strace")
    return (
        bool(strace)
        and subprocess.run([strace, "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0
    )


def record(folder: Path, count: int, *, mode: str = "traced") -> list[str]:
    """The trace of ``tests.crash.worker`` in an empty folder."""
    out = folder.with_name(folder.name + ".strace")
    command = [sys.executable, "-m", "tests.crash.worker", mode, str(folder / "l.db"), str(count)]
    strace = ["strace", "-f", "-xx", "-s", "10000000", "-e", f"trace={CALLS}", "-o", str(out)]
    subprocess.run([*strace, *command], check=True, capture_output=True, timeout=300)
    return out.read_text().splitlines()


def replay(trace: list[str], folder: Path) -> Iterator[tuple[Disk, bytes | None]]:
    """The disk after each call that concerns ``folder``; with each acknowledgement, what it said."""
    disk, files, inside = Disk(), {}, str(folder)
    for line in trace:
        found = _LINE.match(line)
        if found is None:
            assert "unfinished" not in line, "two threads wrote at once: the order is not known"
            continue
        call, arguments, result = found[1], found[2], int(found[3])
        strings = [bytes.fromhex(each[1].replace("\\x", "")) for each in _STRING.finditer(arguments)]
        assert not any(each[2] for each in _STRING.finditer(arguments)), "strace cut a string"
        if result < 0:
            continue
        first = arguments.split(",")[0]
        number = int(first) if first.lstrip("-").isdigit() else -1
        if call in ("openat", "open", "creat"):
            path = strings[0].decode()
            files.pop(result, None)
            if path == inside or path.startswith(inside + "/"):
                files[result] = path if path == inside else _opened(disk, path, arguments)
                yield disk, None
        elif call == "close":
            files.pop(number, None)
        elif call == "write" and number == 1:
            yield disk, strings[0]
        elif call in ("unlink", "unlinkat", "link", "linkat") and strings[0].decode().startswith(inside):
            paths = [each.decode() for each in strings]
            disk.name(paths[-1], disk.names[paths[0]] if call.startswith("link") else None)
            yield disk, None
        elif number in files:
            assert call in ("pwrite64", "fsync", "fdatasync", "ftruncate"), f"{call} is not replayed"
            _file_call(disk, files[number], call, arguments, strings)
            yield disk, None


def write_out(files: dict[str, bytes], source: Path, target: Path) -> None:
    """The files of a state into a fresh folder; shared memory does not survive a power cut."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for path, content in files.items():
        if not path.endswith("-shm"):
            (target / Path(path).relative_to(source)).write_bytes(content)


def _opened(disk: Disk, path: str, arguments: str) -> Inode:
    if path not in disk.names:
        assert "O_CREAT" in arguments, f"{path} came from nowhere"
        disk.name(path, Inode())
    elif "O_TRUNC" in arguments:
        disk.names[path].pending.append((0, None))
    return disk.names[path]


def _file_call(disk: Disk, file: Inode | str, call: str, arguments: str, strings: list[bytes]) -> None:
    if isinstance(file, str):
        disk.sync_names()
    elif call == "pwrite64":
        file.pending.append((int(arguments.rsplit(",", 1)[1]), strings[0]))
    elif call == "ftruncate":
        file.pending.append((int(arguments.split(",")[1]), None))
    else:
        file.sync()


def _sectors(at: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        size = SECTOR - at % SECTOR
        yield at, data[:size]
        at, data = at + size, data[size:]


def _apply(content: bytearray, at: int, data: bytes | None) -> None:
    if data is None:
        del content[at:]
        content.extend(bytes(max(0, at - len(content))))
        return
    content.extend(bytes(max(0, at - len(content))))
    content[at : at + len(data)] = data


def _rename(names: dict[str, Inode], path: str, inode: Inode | None) -> None:
    if inode is None:
        names.pop(path, None)
    else:
        names[path] = inode
