"""Pushes, deletions, mounts, lifecycle policies and collections at once: whatever comes between whatever, every tag
resolves, a push that was told "it is there" can be completed, what is told of images is true, and nothing that nobody
needs stays."""

from __future__ import annotations

import json
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.registry.adapters import blobs as files
from services.registry.adapters.s3 import S3BlobStore
from services.registry.adapters.s3 import blobs as objects
from services.registry.decisions.names import RepositoryId
from services.shared.clock import ManualClock
from services.shared.errors import AwsError
from tests.builders.images import BuiltImage, digest_of
from tests.builders.registry import ACCOUNT, REGION, RunningRegistry, descriptor, registry_at, small_image
from tests.builders.turns import Turns
from tests.fakes.s3 import FakeBucket, FakeS3

TICK_S = 0.012
"""Longer than the kernel's clock for ctimes takes to move on."""

EXAMPLES = 30 if settings.default.derandomize else 500

INDEX = "application/vnd.oci.image.index.v1+json"
GRACE_S = 24 * 3600.0
KEEP_ONE = {
    "rules": [
        {
            "rulePriority": 1,
            "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1},
            "action": {"type": "expire"},
        }
    ]
}

REPOSITORY = st.sampled_from([0, 1])
IMAGE = st.sampled_from([0, 1, 2])
TAG = st.sampled_from(["a", "b"])
OPERATION = st.one_of(
    st.tuples(st.just("push"), REPOSITORY, IMAGE, TAG),
    st.tuples(st.just("push"), REPOSITORY, IMAGE, TAG),
    st.tuples(st.just("push_index"), REPOSITORY, TAG),
    st.tuples(st.just("untag"), REPOSITORY, TAG),
    st.tuples(st.just("delete_tag"), REPOSITORY, TAG),
    st.tuples(st.just("delete_image"), REPOSITORY, IMAGE),
    st.tuples(st.just("delete_blob"), REPOSITORY, IMAGE),
    st.tuples(st.just("delete_repository"), REPOSITORY),
    st.tuples(st.just("create_repository"), REPOSITORY),
    st.tuples(st.just("expire"), REPOSITORY),
    st.tuples(st.just("age")),
    st.tuples(st.just("collect")),
    st.tuples(st.just("collect")),
)
CHOICES = st.lists(st.integers(0, 5), max_size=80)


class InFiles:
    """Blobs in files: their ages are the kernel's."""

    def __init__(self, data: Path) -> None:
        self.root = data / "registry"

    def fresh(self) -> None:
        """Begin anew."""
        for part in ("repositories", "blobs"):
            for path in (self.root / part).rglob("*"):
                if path.is_file():
                    path.unlink()

    def age(self) -> float:
        """Let all that is there be older than what comes; the time between."""
        time.sleep(TICK_S)
        between = time.time()
        time.sleep(TICK_S)
        return between

    def links(self) -> list[str]:
        """What repositories have, uploads included."""
        return self.files("repositories")

    def contents(self) -> list[str]:
        """What is kept."""
        return self.files("blobs")

    def files(self, part: str) -> list[str]:
        """The files in a part of the directory."""
        return [path.name for path in (self.root / part).rglob("*") if path.is_file()]


class InS3(InFiles):
    """Blobs in an S3 in memory, whose requests are turns too: ages are its own, behind those of the uploads' files."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self.s3 = FakeS3()

    def fresh(self) -> None:
        """Begin anew."""
        super().fresh()
        self.s3.now = time.time() - 3600
        for key in [key for key in self.s3.objects if key != "registry"]:
            del self.s3.objects[key]

    def age(self) -> float:
        """S3 tells times to the second."""
        self.s3.now += 10
        return self.s3.now - 5

    def links(self) -> list[str]:
        """What repositories have, uploads included."""
        return [*self.keys("repositories/"), *self.files("repositories")]

    def contents(self) -> list[str]:
        """What is kept."""
        assert len(self.keys("data/")) == len(self.keys("content/"))
        return self.keys("data/")

    def keys(self, prefix: str) -> list[str]:
        """The objects that begin with this."""
        return [key for key in self.s3.objects if key.startswith(prefix)]

    async def open(self, root: Path, _: object) -> S3BlobStore:
        """In place of open_storage."""
        store = S3BlobStore(root, self.s3, "bucket", clock=lambda: self.s3.now)  # type: ignore[arg-type]
        await store.open_bucket()
        return store


@dataclass
class Done:
    """An operation, and when it began and ended, in the order of all beginnings and ends."""

    what: str
    repository: int = -1
    tag: str = ""
    digest: str = ""
    began: int = 0
    ended: float = float("inf")
    right: bool = False


@dataclass
class World:
    """One registry with some repositories of its own, what was done there, and what must hold."""

    registry: RunningRegistry
    clock: ManualClock
    kept: InFiles
    number: int
    history: list[Done] = field(default_factory=list)
    before: float = 0.0
    moment: int = 0

    def __post_init__(self) -> None:
        base, one, two, three = (f"{self.number} {part}".encode() * 50 for part in ("base", "one", "two", "three"))
        self.images = [small_image((base, one)), small_image((base, two)), small_image((three,))]
        children = [descriptor(image.manifest, image.media_type) for image in self.images[:2]]
        manifest = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).encode()
        self.index = BuiltImage(manifest, INDEX, b"", (), {})
        self.manifests = {digest_of(each.manifest): each for each in (*self.images, self.index)}
        self.names = [f"{self.number}/shop", f"{self.number}/bank"]
        self.repositories = [RepositoryId(ACCOUNT, REGION, name) for name in self.names]
        self.password = self.registry.auth(self.registry.parts.access.issue(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root")[0])

    async def ask(self, method: str, path: str, data: bytes | None = None, **headers: str) -> tuple[int, str, Any]:
        """A request to the routes: status, code of an error, headers."""
        named = {"Authorization": self.password, "Host": "localhost"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        options: dict[str, Any] = {}
        if data is not None:
            named["Content-Length"] = str(len(data))
            options["payload"] = StreamReader(BaseProtocol(None), 2**20)  # type: ignore[arg-type]
            options["payload"].feed_data(data)
            options["payload"].feed_eof()
        request = make_mocked_request(method, f"/v2/{path}", headers=named, **options)
        answer: Any = await self.registry.app._distribution.handle(request)
        code = json.loads(answer.body)["errors"][0]["code"] if answer.status >= 400 and method != "HEAD" else ""
        assert answer.status < 500, (method, path, answer.status, answer.body)
        return answer.status, code, answer.headers

    def now(self) -> int:
        self.moment += 1
        return self.moment

    async def do(self, what: str, *how: Any) -> None:
        """Do it, and remember."""
        done = Done(what, *how[:1], began=self.now())
        self.history.append(done)
        await getattr(self, what)(done, *how)
        done.ended = self.now()

    async def push(self, done: Done, repository: int, image: int, tag: str) -> None:
        """As clients push: what is there or can be mounted is not sent."""
        built, name = self.images[image], self.names[repository]
        done.tag, done.digest = tag, digest_of(built.manifest)
        for digest, data in built.blobs.items():
            if not await self._place(done, repository, digest, data):
                return
        status, code, _ = await self.ask(
            "PUT", f"{name}/manifests/{tag}", built.manifest, Content_Type=built.media_type
        )
        assert status == 201 or (code in ("MANIFEST_BLOB_UNKNOWN", "NAME_UNKNOWN") and self._spoilt(done)), (code, done)
        done.right = status == 201

    async def _place(self, done: Done, repository: int, digest: str, data: bytes) -> bool:
        name = self.names[repository]
        if (await self.ask("HEAD", f"{name}/blobs/{digest}"))[0] == 200:
            return True
        query = f"mount={digest}&from={self.names[1 - repository]}"
        status, code, headers = await self.ask("POST", f"{name}/blobs/uploads/?{query}")
        if status == 201:
            return True
        half = len(data) // 2
        if status == 202:
            path = headers["Location"].removeprefix("/v2/")
            status, code, _ = await self.ask("PATCH", path, data[:half])
        if status == 202:
            status, code, _ = await self.ask("PUT", f"{path}?digest={digest}", data[half:])
        gone = code in ("NAME_UNKNOWN", "BLOB_UPLOAD_UNKNOWN") and self._spoilt(done)
        assert status == 201 or gone, (status, code, done)
        return status == 201

    async def push_index(self, done: Done, repository: int, tag: str) -> None:
        """Its manifests first, untagged."""
        name, done.tag, done.digest = self.names[repository], tag, digest_of(self.index.manifest)
        for image in self.images[:2]:
            for digest, data in image.blobs.items():
                if not await self._place(done, repository, digest, data):
                    return
            path = f"{name}/manifests/{digest_of(image.manifest)}"
            status, code, _ = await self.ask("PUT", path, image.manifest, Content_Type=image.media_type)
            assert status == 201 or self._spoilt(done), (code, done)
        status, code, _ = await self.ask("PUT", f"{name}/manifests/{tag}", self.index.manifest, Content_Type=INDEX)
        assert status == 201 or self._spoilt(done), (code, done)
        done.right = status == 201

    async def untag(self, done: Done, repository: int, tag: str) -> None:
        done.tag = tag
        await self.ask("DELETE", f"{self.names[repository]}/manifests/{tag}")

    async def delete_tag(self, done: Done, repository: int, tag: str) -> None:
        """As ECR does: an image that loses its last tag goes."""
        done.tag = tag
        await self._aws("BatchDeleteImage", repository, imageIds=[{"imageTag": tag}])

    async def delete_image(self, done: Done, repository: int, image: int) -> None:
        done.digest = digest_of(self.images[image].manifest)
        await self.ask("DELETE", f"{self.names[repository]}/manifests/{done.digest}")

    async def delete_blob(self, done: Done, repository: int, image: int) -> None:
        digest = digest_of(self.images[image].layers[0])
        status, _, _ = await self.ask("DELETE", f"{self.names[repository]}/blobs/{digest}")
        assert status in (202, 404, 405)

    async def delete_repository(self, done: Done, repository: int) -> None:
        await self._aws("DeleteRepository", repository, force=True)

    async def create_repository(self, done: Done, repository: int) -> None:
        await self._aws("CreateRepository", repository)

    async def expire(self, done: Done, repository: int) -> None:
        """Its lifecycle policy leaves one image."""
        await self._aws("PutLifecyclePolicy", repository, lifecyclePolicyText=json.dumps(KEEP_ONE))
        try:
            await self.registry.app.lifecycle.evaluate(self.repositories[repository])
            await self.registry.app.lifecycle.put(self.repositories[repository], "")
        except AwsError as error:
            assert error.code == "RepositoryNotFoundException", error

    async def age(self, done: Done) -> None:
        """All that is there is older than the grace from here on."""
        self.before = self.kept.age()
        self.clock.advance(1.0)

    async def collect(self, done: Done) -> None:
        await self.registry.app.cleaner.clean(self.before + GRACE_S)

    async def _aws(self, operation: str, repository: int, **members: Any) -> Any:
        try:
            return await self.registry.aws(operation, repositoryName=self.names[repository], **members)
        except AwsError as error:
            assert error.code in ("RepositoryNotFoundException", "RepositoryAlreadyExistsException"), error

    def _spoilt(self, push: Done) -> bool:
        """Whether somebody took away what the push had found or brought, or it took longer than the grace."""
        mine = [each for each in self.history if each.repository in (-1, push.repository) and each.ended > push.began]
        takes = {"delete_blob", "delete_repository", "age"}
        if push.what == "push_index":
            takes |= {"delete_image", "delete_tag", "expire"}
        return any(each.what in takes for each in mine) or not self._there_since(push)

    def _there_since(self, push: Done) -> bool:
        """Whether its repository was there when it began."""
        of_it = [e for e in self.history if e.repository == push.repository and e.what.endswith("e_repository")]
        return not of_it or not any(e.what == "delete_repository" and e.began < push.began for e in of_it)

    async def check(self) -> None:
        """Every tag resolves, to content that has its digest."""
        parts = self.registry.parts
        for repository in self.repositories:
            if parts.repositories.find(repository) is None:
                continue
            for digest in parts.images.tags(repository):
                await self._whole(repository, digest)

    async def _whole(self, repository: RepositoryId, digest: str) -> None:
        parts = self.registry.parts
        image = parts.images.find(repository, digest)
        assert image is not None, (repository.name, digest)
        manifest = await parts.blobs.read(repository, digest, "manifests")
        assert manifest == self.manifests[digest].manifest, (repository.name, digest)
        for blob in [*image.layers, *([image.config] if image.config else [])]:
            data = await parts.blobs.read(repository, blob.digest)
            assert data is not None and digest_of(data) == blob.digest, (repository.name, blob)
        for child in image.manifests:
            await self._whole(repository, child.digest)

    async def check_end(self) -> None:
        """What was acknowledged and not taken back is there, and both APIs tell the same, which is true."""
        for done in self.history:
            if done.right and not any(self._undoes(each, done) for each in self.history):
                found = self.registry.parts.images.tagged(self.repositories[done.repository], done.tag)
                assert found == done.digest, done
        for number, name in enumerate(self.names):
            if self.registry.parts.repositories.find(self.repositories[number]) is None:
                continue
            told = msgspec.to_builtins(await self.registry.aws("DescribeImages", repositoryName=name))
            shown = {
                d["imageDigest"]: (set(d.get("imageTags", ())), d["imageSizeInBytes"]) for d in told["imageDetails"]
            }
            assert len(shown) == len(told["imageDetails"])
            assert shown == {d: (await self._tags(name, d), self._size(d)) for d in await self._answered(name)}

    def _undoes(self, other: Done, push: Done) -> bool:
        if other is push or other.repository != push.repository or other.ended < push.began:
            return False
        if other.what in ("push", "push_index", "untag", "delete_tag"):
            return other.tag == push.tag
        if other.what == "delete_image":
            return other.digest == push.digest
        return other.what in ("delete_repository", "expire")

    async def _answered(self, name: str) -> list[str]:
        return [d for d in self.manifests if (await self.ask("HEAD", f"{name}/manifests/{d}"))[0] == 200]

    async def _tags(self, name: str, digest: str) -> set[str]:
        heads = {tag: (await self.ask("HEAD", f"{name}/manifests/{tag}"))[2] for tag in ("a", "b")}
        return {tag for tag, head in heads.items() if head.get("Docker-Content-Digest") == digest}

    def _size(self, digest: str) -> int:
        """What a pull transfers."""
        return max(sum(len(b) for b in image.blobs.values()) for image in self._of(digest))

    def _of(self, digest: str) -> list[BuiltImage]:
        return self.images[:2] if digest == digest_of(self.index.manifest) else [self.manifests[digest]]

    async def collected(self) -> None:
        """Collect until nothing more can go: taking one link makes the content look young. Uploads are old by now."""
        if isinstance(self.kept, InS3):
            self.kept.s3.now = max(self.kept.s3.now, time.time() + 3600)
        for _ in range(3):
            await self.age(Done("age"))
            await self.collect(Done("collect"))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000.0)


@pytest.fixture
def kept(tmp_path, request, monkeypatch) -> InFiles:
    """Where blobs are kept; being asked for leaves a mark at once."""
    monkeypatch.setattr(files, "_TOUCH_S", 0.0)
    monkeypatch.setattr(objects, "_TOUCH_S", 0.0)
    if getattr(request, "param", InFiles) is InFiles:
        return InFiles(tmp_path / "data")
    found = InS3(tmp_path / "data")
    monkeypatch.setattr("services.registry.app.open_storage", found.open)
    return found


@pytest.fixture
async def registry(nats_platform, tmp_path, clock, kept) -> AsyncIterator[RunningRegistry]:
    class Nothing:
        async def images(self) -> set[Any]:
            return set()

    async with registry_at(
        nats_platform, tmp_path / "data", clock=clock, lifecycle_delay_s=1e6, sweep_every_s=1e6
    ) as running:
        running.app.lifecycle._running = Nothing()
        yield running


NUMBERS = iter(range(1_000_000))


async def tried(
    registry: RunningRegistry, clock: ManualClock, kept: InFiles, first: list, actors: list, choices: list[int]
) -> None:
    """One after the other what is done `first`, then the actors at once; what holds then, and when all is deleted."""
    kept.fresh()
    world = World(registry, clock, kept, next(NUMBERS))
    turns = Turns(choices)

    async def act(operations: list) -> None:
        for what, *how in operations:
            await world.do(what, *how)

    with turns.over(registry), patch.object(FakeBucket, "turn", lambda _: turns.turn()):
        for name in world.names:
            await registry.aws("CreateRepository", repositoryName=name)
        await act(first)
        await turns.run([act(operations) for operations in actors], world.check)
        await world.check_end()
        await world.collected()
        await world.check_end()
        await world.check()
        named = {r.name: registry.parts.images.named(r) for r in world.repositories}
        assert len(kept.links()) == sum(map(len, named.values()))
        assert len(kept.contents()) == len(set().union(*named.values()))
        for number in (0, 1):
            await world.delete_repository(Done(""), number)
        await world.collected()
        assert (kept.links(), kept.contents(), kept.files("trash")) == ([], [], [])


@pytest.mark.parametrize("kept", [InFiles, InS3], indirect=True)
@settings(
    max_examples=EXAMPLES,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    first=st.lists(OPERATION, max_size=5),
    actors=st.lists(st.lists(OPERATION, min_size=1, max_size=3), min_size=2, max_size=4),
    choices=CHOICES,
)
async def test_whatever_comes_between_every_tag_resolves_and_nothing_stays_that_nobody_needs(
    registry, clock, kept, first, actors, choices
):
    await tried(registry, clock, kept, first, actors, choices)


async def none(*_: object) -> int:
    """A part of the collection that is left out."""
    return 0


MISTAKES = {
    "what is young goes too": (
        "_take",
        lambda take: lambda store, path, before, links=0: take(store, path, float("inf"), links),
        [[("push", 0, 1, "a")], [("collect",)] * 9],
    ),
    "what comes as its repository goes stays": (
        "drop_strays",
        lambda _: none,
        [[("push", 1, 0, "b")], [("delete_repository", 1)]],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_collection_that_is_wrong_is_found_out(registry, clock, kept, monkeypatch, mistake):
    name, wrong, actors = MISTAKES[mistake]
    monkeypatch.setattr(files.FileBlobStore, name, wrong(getattr(files.FileBlobStore, name)))
    with pytest.raises(AssertionError):
        for seed in range(40):
            choices = [random.Random(seed + turn).randrange(2) for turn in range(0, 90_000, 1_000)]
            await tried(registry, clock, kept, [("push", 0, 0, "a")], actors, choices)
