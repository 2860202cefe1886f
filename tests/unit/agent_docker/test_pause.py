"""The hand-made program that holds a task's network."""

from __future__ import annotations

import io
import struct
import tarfile

import pytest

from services.agent.runtimes.docker import pause


@pytest.mark.parametrize(("architecture", "machine"), [("x86_64", 62), ("arm64", 183)])
def test_it_is_an_elf_program_whose_entry_lies_in_its_only_segment(architecture: str, machine: int) -> None:
    program = pause.program(architecture)
    assert program[:7] == b"\x7fELF\x02\x01\x01"
    kind, for_machine, _, entry, header_offset = struct.unpack_from("<HHIQQ", program, 16)
    assert (kind, for_machine, header_offset) == (2, machine, 64)
    load, flags, offset, address, _, size, in_memory, _ = struct.unpack_from("<IIQQQQQQ", program, 64)
    assert (load, flags, offset, size, in_memory) == (1, 5, 0, len(program), len(program))
    assert entry == address + 120


def test_it_waits_for_ever_and_ignores_the_children_that_are_left_to_it() -> None:
    ignored = struct.pack("<4Q", 1, 0, 0, 0)
    x86 = pause.program("amd64")
    code = x86[120:-32]
    assert x86[-32:] == ignored
    assert 120 + 17 + struct.unpack_from("<i", code, 13)[0] == len(x86) - 32  # lea, from behind itself
    assert (code[-3], code[-1]) == (0xEB, 0x90)
    assert code[len(code) - 1 + struct.unpack("b", code[-2:-1])[0] :].startswith(b"\xb8\x22")  # mov eax, pause
    arm = pause.program("aarch64")
    words = struct.unpack(f"<{(len(arm) - 152) // 4}I", arm[120:-32])
    assert arm[-32:] == ignored
    assert 4 + ((words[1] >> 5 & 0x7FFFF) << 2 | words[1] >> 29 & 3) == 4 * len(words)  # adr, from itself
    back = (words[-2] & 0x3FFFFFF) - (1 << 26)
    assert words[len(words) - 2 + back] == 0xD2800000  # mov x0, #0, of ppoll


def test_an_architecture_without_a_program_is_named() -> None:
    with pytest.raises(ValueError, match="no pause program for riscv64"):
        pause.program("riscv64")


def test_the_image_holds_one_executable_file() -> None:
    with tarfile.open(fileobj=io.BytesIO(pause.root_file_system("x86_64"))) as tar:
        assert [(each.name, each.mode, each.size) for each in tar] == [("pause", 0o755, 189)]
