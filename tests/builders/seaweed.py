"""A real S3 server: SeaweedFS, all of it one process on loopback ports, with its data in a directory of its own."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from services.shared.s3 import S3Client, S3Error, S3Settings
from tests.builders.processes import free_ports

KEY, SECRET = "AKIASEAWEEDFSTEST001", "a/secret+of=tests"
READER = "AKIASEAWEEDFSREADER1"
BUCKET = "tests"
EACH_STORAGE = pytest.mark.parametrize("kept", ["files", "s3"], indirect=True)
"""Marks a test whose registry is to keep blobs in each way in turn; its fixture takes `kept`."""
_KINDS = ("master", "volume", "filer", "s3")
_LIMIT_S = 60.0


class Seaweed:
    """The server. `settings` are what a client of it takes; READER's keys may read and nothing else."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._places = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: dict[str, int] = {}
        self.port = 0
        data.mkdir(parents=True, exist_ok=True)

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"

    def settings(self, **others: Any) -> S3Settings:
        """Settings that lead here."""
        return S3Settings(
            **{
                "endpoint": self.endpoint,
                "access_key_id": KEY,
                "secret_access_key": SECRET,
                "timeout_s": 60.0,
                **others,
            }
        )

    def environment(self, port: int = 0, **others: str) -> dict[str, str]:
        """The variables of a registry that keeps its blobs here, reached through `port` if it is given."""
        return {
            "ROADSTEAD_S3_ENDPOINT": f"http://127.0.0.1:{port or self.port}",
            "ROADSTEAD_S3_ACCESS_KEY_ID": KEY,
            "ROADSTEAD_S3_SECRET_ACCESS_KEY": SECRET,
            "ROADSTEAD_S3_ATTEMPTS": "3",
            "ROADSTEAD_REGISTRY_STORAGE": "s3",
            "ROADSTEAD_REGISTRY_BUCKET": BUCKET,
            "ROADSTEAD_REGISTRY_BUCKET_PREFIX": self.prefix(),
            **others,
        }

    def start(self) -> None:
        """Start it, and wait until objects can be written."""
        deadline = time.monotonic() + _LIMIT_S
        while not self._started(deadline):
            if time.monotonic() > deadline:
                raise RuntimeError(f"weed did not start: {(self._data / 'log').read_text()[-2000:]}")

    def stop(self) -> None:
        """Kill it: what it acknowledged stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            for kind in _KINDS:  # weed leaves these behind, and takes no other place for them
                Path(f"/tmp/seaweedfs-{kind}-grpc-{self._ports[f'{kind}.port.grpc']}.sock").unlink(missing_ok=True)

    def prefix(self) -> str:
        """A prefix of BUCKET that nobody has used yet: a bucket takes longer to make, and there can't be many."""
        return f"place-{next(self._places)}"

    def bucket(self) -> str:
        """The name of a new bucket, for who needs all of one."""
        name = f"bucket-{next(self._places)}"

        async def make() -> None:
            client = S3Client(self.settings())
            await client.bucket(name).create()
            await client.close()

        asyncio.run(make())
        return name

    def _started(self, deadline: float) -> bool:
        """Whether it came up; a port that somebody else took meanwhile ends it."""
        self._process = subprocess.Popen(
            self._command(),
            stdout=(self._data / "log").open("wb"),
            stderr=subprocess.STDOUT,
            cwd=self._data,
            env={**os.environ, "HOME": str(self._data)},
        )
        while self._process.poll() is None and time.monotonic() < deadline:
            if self._answers() and asyncio.run(self._takes()):
                return True
            time.sleep(0.02)
        self.stop()
        return False

    def _command(self) -> list[str]:
        keys = {
            KEY: ["Admin", "Read", "Write", "List", "Tagging"],
            READER: ["Read", "List"],
        }
        identities = [
            {"name": key, "credentials": [{"accessKey": key, "secretKey": SECRET}], "actions": actions}
            for key, actions in keys.items()
        ]
        config = self._data / "s3.json"
        config.write_text(json.dumps({"identities": identities}))
        options = [f"{kind}.port{end}" for kind in _KINDS for end in ("", ".grpc")]
        self._ports = dict(zip(options, free_ports(len(options)), strict=True))
        self.port = self._ports["s3.port"] = self.port or self._ports["s3.port"]
        return [
            str(Path(sys.executable).parent / "weed"),
            *("server", "-filer", "-s3", f"-dir={self._data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *(f"-{option}={port}" for option, port in self._ports.items()),
            *("-master.peers=none", "-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=100"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", "-s3.autoCreateBucket=false"),
            *(f"-s3.config={config}", f"-s3.localSocket={self._data}/s3", f"-filer.localSocket={self._data}/filer"),
        ]

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/healthz", timeout=5):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    async def _takes(self) -> bool:
        client = S3Client(self.settings(attempts=1))
        probe = client.bucket(BUCKET)
        try:
            await probe.create()
        except S3Error:
            pass  # it may be there
        try:
            await probe.put("probe", b"probe")
        except S3Error:
            return False
        finally:
            await client.close()
        return True
