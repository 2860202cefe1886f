"""The shop's images, built on this machine without pulling anything.

The base layer is the Python that runs this: the interpreter, what the shop imports of the standard library, and the
libraries they are linked with, together with what dpkg says of the packages that those come from, so that a scanner
sees what is there. Both images share it. On top of it each has its program.
"""

from __future__ import annotations

import py_compile
import re
import subprocess
import sys
import sysconfig
import tempfile
from functools import lru_cache
from pathlib import Path

from tests.builders.images import BuiltImage, Directory, Entry, File, Symlink, image, tar_layer

HERE = Path(__file__).resolve().parent
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
LATE = ("encodings.ascii", "encodings.idna", "encodings.latin_1", "unicodedata", "zlib")
"""What is imported only while a request is answered."""
OLD_LIBRARY = """Metadata-Version: 2.1
Name: PyYAML
Version: 5.3
Summary: YAML parser and emitter for Python
License: MIT
"""
"""What version 1.0 of the frontend brings along: the metadata of an old library, standing in for the library."""


def backend() -> BuiltImage:
    """The backend."""
    return _image({"/app/app.py": (HERE / "backend" / "app.py").read_text()}, {})


def frontend(version: str) -> BuiltImage:
    """The frontend. Version 1.0 has a dependency with a critical finding; later ones do not."""
    files: dict[str, Entry] = {"/app/app.py": (HERE / "frontend" / "app.py").read_text()}
    if version == "1.0":
        files["/app/lib/PyYAML-5.3.dist-info/METADATA"] = OLD_LIBRARY
    return _image(files, {"VERSION": version})


def _image(files: dict[str, Entry], environment: dict[str, str]) -> BuiltImage:
    return image(
        [base_layer(), tar_layer(files)],
        entry_point=["/usr/bin/python3", "-S", "/app/app.py"],
        environment={"PYTHONHOME": "/usr", "PYTHONDONTWRITEBYTECODE": "1", **environment},
        user="1000:1000",
        exposed_ports=["8080/tcp"],
    )


@lru_cache(maxsize=1)
def base_layer() -> bytes:
    """The Python of this machine, as much of it as the shop imports, as an uncompressed layer."""
    interpreter = Path(sys.executable).resolve()
    sources, extensions = _imported()
    linked = _linked(interpreter, *extensions.values())
    entries: dict[str, Entry] = {
        "/tmp": Directory(mode=0o1777),
        "/etc/passwd": "root:x:0:0:root:/:/bin/false\nshop:x:1000:1000:shop:/app:/bin/false\n",
        "/etc/os-release": Path("/etc/os-release").read_text(),
        "/var/lib/dpkg/status": _packages(linked),
        f"/usr/bin/python{VERSION}": File(interpreter.read_bytes(), mode=0o755),
        "/usr/bin/python3": Symlink(f"python{VERSION}"),
        **{str(path): File(path.read_bytes(), mode=0o755) for path in linked},
    }
    library = f"/usr/lib/python{VERSION}"
    entries |= {f"{library}/lib-dynload/{path.name}": path.read_bytes() for path in extensions.values()}
    for within, path in sources.items():
        entries[f"{library}/{within}"] = path.read_bytes()
        folder, _, name = within.rpartition("/")
        cached = f"{folder}/__pycache__/{name[:-3]}.{sys.implementation.cache_tag}.pyc".lstrip("/")
        entries[f"{library}/{cached}"] = _compiled(path, f"{library}/{within}")
    return tar_layer(entries)


def _imported() -> tuple[dict[str, Path], dict[str, Path]]:
    """The modules of the standard library that both programs import, by their place in it: sources, and extensions."""
    programs = [HERE / name / "app.py" for name in ("backend", "frontend")]
    lines = [line for path in programs for line in path.read_text().splitlines() if re.match(r"(import|from) ", line)]
    code = [*dict.fromkeys(lines), *(f"import {name}" for name in LATE), "import sys"]
    code.append("print(*{m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)}, sep='\\n')")
    asked = subprocess.run([sys.executable, "-S", "-c", "\n".join(code)], capture_output=True, text=True, check=True)
    library = Path(sysconfig.get_path("stdlib"))
    files = sorted(Path(line) for line in asked.stdout.split())
    sources = {str(path.relative_to(library)): path for path in files if path.suffix == ".py"}
    return sources, {path.name: path for path in files if path.suffix == ".so"}


def _compiled(path: Path, name: str) -> bytes:
    """The bytecode of a module, which Python takes as it is: a layer's files have no time to compare."""
    with tempfile.NamedTemporaryFile() as file:
        py_compile.compile(
            str(path), file.name, dfile=name, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
        )
        return Path(file.name).read_bytes()


def _linked(*programs: Path) -> list[Path]:
    """The shared libraries of these programs, the loader among them."""
    listed = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=True).stdout
    return sorted({Path(found) for found in re.findall(r"(/\S+\.so\S*) \(0x", listed)})


def _packages(files: list[Path]) -> str:
    """What dpkg knows of the packages that these files come from; nothing where there is no dpkg."""
    try:
        names = {str(path) for path in files} | {str(path).removeprefix("/usr") for path in files}
        names |= {f"/usr{path}" for path in files}
        owned = subprocess.run(["dpkg-query", "--search", *sorted(names)], capture_output=True, text=True, check=False)
        packages = sorted({line.partition(": ")[0] for line in owned.stdout.splitlines() if line.startswith("lib")})
        return subprocess.run(
            ["dpkg-query", "--status", *packages], capture_output=True, text=True, check=bool(packages)
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
