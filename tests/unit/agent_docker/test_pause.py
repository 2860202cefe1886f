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


def test_its_last_instruction_jumps_back_to_the_first() -> None:
    x86 = pause.program("amd64")
    assert x86[-2] == 0xEB
    assert struct.unpack("b", x86[-1:])[0] == -(len(x86) - 120)
    arm = pause.program("aarch64")
    (branch,) = struct.unpack("<I", arm[-4:])
    assert (branch & 0x3FFFFFF) - (1 << 26) == -(len(arm) - 120 - 4) // 4


def test_an_architecture_without_a_program_is_named() -> None:
    with pytest.raises(ValueError, match="no pause program for riscv64"):
        pause.program("riscv64")


def test_the_image_holds_one_executable_file() -> None:
    with tarfile.open(fileobj=io.BytesIO(pause.root_file_system("x86_64"))) as tar:
        assert [(each.name, each.mode, each.size) for each in tar] == [("pause", 0o755, 129)]
