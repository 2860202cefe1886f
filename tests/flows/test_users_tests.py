"""The package as its users have it: a wheel outside of this repository, and the test of its README run by pytest."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.builders.images import File, busybox_image
from tests.builders.platform import ROOT

README = ROOT / "services/testing/README.md"
LIMIT_S = 150


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the wheel's content in it, as site-packages would have it."""
    if os.geteuid() != 0:
        pytest.skip("real containers take root")
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("services", "contracts"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", source)
    build = [*(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
             *("--no-deps", "--no-build-isolation", "--wheel-dir", str(made), str(source))]  # fmt: skip
    done = subprocess.run(build, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    (wheel,) = made.glob("roadstead-*.whl")
    target = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(target)
    return target


@pytest.fixture
def project(tmp_path) -> Path:
    """A user's project: an image that was saved, and the test of the README."""
    serve = File("#!/bin/sh\nexec httpd -f -p 80 -h /www\n", mode=0o755)
    image = busybox_image({"/www/index.html": File("hello"), "/serve": serve}, command=["/serve"])
    image.write_docker_archive(tmp_path / "web.tar", "web:1")
    (tmp_path / "test_web.py").write_text(example("def test_"))
    return tmp_path


def example(part: str) -> str:
    """The block of the README with this in it."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (found,) = (block for block in blocks if part in block)
    return found


def run_pytest(project: Path, installed: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(project), *options]
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S
    )


def test_the_readmes_test_passes_outside_of_the_repository(project, installed):
    test = example("def test_").partition("def test_")[2].strip()
    assert len(test.splitlines()) <= 10
    done = run_pytest(project, installed)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_failing_test_shows_what_the_platform_said_and_leaves_nothing(project, installed):
    (project / "conftest.py").write_text("import pytest\n\n\n" + example("roadstead_options"))
    (project / "test_web.py").write_text(
        "import services\n\ndef test_it(roadstead):\n    print(services.__file__)\n    print(roadstead.data)\n"
        "    assert roadstead.info['zones'] == 1\n"
    )
    done = run_pytest(project, installed)
    assert "assert 3 == 1" in done.stdout, done.stdout + done.stderr
    assert str(installed) in done.stdout, "not the installed package was used"
    assert "--- scheduler.log" in done.stdout
    data = re.search(r"/\S*/roadstead-\w+", done.stdout)
    assert data is not None and not Path(data[0]).exists()


def test_the_package_is_light_for_test_runs_that_do_not_use_it(installed):
    costly = "{'boto3', 'nats', 'aiohttp', 'testcontainers'}"
    program = f"import sys, services.testing.pytest_plugin; print(sorted({costly} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
