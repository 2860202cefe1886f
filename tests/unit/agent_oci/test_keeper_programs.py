"""Which programs of the node can run in any image."""

import shutil

import pytest

from services.agent.runtimes.oci.keeper import is_static


@pytest.mark.skipif(shutil.which("busybox") is None, reason="busybox-static is not installed")
def test_a_static_program_is_told_from_one_that_needs_libraries():
    assert (is_static(shutil.which("busybox")), is_static(shutil.which("ls"))) == (True, False)


def test_a_script_is_no_static_program(tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n" + "#" * 80)
    assert not is_static(str(script))
