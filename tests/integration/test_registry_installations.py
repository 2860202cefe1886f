"""Another installation that lies, hangs or is none."""

from __future__ import annotations

import asyncio
import base64
import time

import pytest
from aiohttp import web

from contracts.records.registry import Peer, Place
from services.registry.adapters.installations import HttpsInstallations
from services.registry.adapters.tls import serving_context
from services.registry.decisions.manifests import MAX_MANIFEST
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.peers import Destination, sealed_about
from services.registry.ports import PeerAway, PeerRefused
from services.registry.settings import RegistrySettings
from services.shared.sealing import Vault
from tests.builders.images import digest_of

ROOT = "arn:aws:iam::000000000000:root"
SHOP = RepositoryId("000000000000", "eu-west-1", "shop")


class Blob:
    """A blob to be sent."""

    data = b"content" * 1000
    digest = digest_of(data)
    size = len(data)

    async def read(self, start: int):
        yield self.data[start:]


class Liar:
    """A server over TLS: `answers` by method (arguments of a response, or `hang`), else 404; `asked` is what came."""

    def __init__(self) -> None:
        self.answers: dict[str, object] = {}
        self.token: object = {"token": "t", "expires_in": 3600}
        self.asked: list[str] = []
        self.over = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if request.path == "/peers/token":
            return web.json_response(self.token)
        answer = self.answers.get(request.method)
        if answer == "hang":
            await self.over.wait()
        return web.Response(**answer) if isinstance(answer, dict) else web.Response(status=404)


@pytest.fixture
async def liar(tmp_path):
    liar = Liar()
    application = web.Application(client_max_size=2**30)
    application.router.add_route("*", "/{path:.*}", liar.handle)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    context = serving_context(RegistrySettings(), tmp_path / "tls", time.time())
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    liar.port = runner.addresses[0][1]
    liar.ca = (tmp_path / "tls" / "ca.pem").read_text()
    yield liar
    liar.over.set()
    await runner.cleanup()


@pytest.fixture
async def installations(tmp_path):
    vault = Vault.open(tmp_path / "peers.key")
    opened = HttpsInstallations(vault, time.time)
    opened.vault = vault
    yield opened
    await opened.close()


def to(liar: Liar, installations) -> Destination:
    sealed = base64.b64encode(installations.vault.seal(b"here:key", sealed_about("there"))).decode()
    peer = Peer(
        name="there",
        url=f"https://127.0.0.1:{liar.port}",
        destinations=[Place(SHOP.account, SHOP.region)],
        sealed_key=sealed,
        added_at=0.0,
        ca=liar.ca,
    )
    return Destination(peer, SHOP, ROOT)


@pytest.mark.parametrize("location", ["@127.0.0.1:1/v2/x", "https://127.0.0.1:1/v2/x", ".evil.example/v2/", ""])
async def test_an_upload_leads_nowhere_but_to_the_installation(liar, installations, location):
    liar.answers["POST"] = {"status": 202, "headers": {"Location": location}}
    with pytest.raises(PeerRefused, match="began an upload at"):
        await installations.send_blob(to(liar, installations), Blob())
    assert not [each for each in liar.asked if each.startswith("PATCH")]


async def test_what_gives_no_token_is_no_registry_of_roadstead(liar, installations):
    liar.token = ["nonsense"]
    with pytest.raises(PeerAway, match="no registry of Roadstead"):
        await installations.has_image(to(liar, installations), Blob.digest)


async def test_one_that_hangs_is_given_up(liar, installations):
    liar.answers["HEAD"] = "hang"
    hasty = HttpsInstallations(installations.vault, time.time, stall_s=2.0)
    with pytest.raises(PeerAway, match="did not go on"):
        await hasty.has_image(to(liar, installations), Blob.digest)
    await hasty.close()


async def test_a_manifest_of_more_than_four_mebibytes_is_refused(liar, installations):
    liar.answers["GET"] = {"body": b" " * (MAX_MANIFEST + 1)}
    with pytest.raises(PeerRefused, match="more than"):
        await installations.manifest(to(liar, installations), "1")


@pytest.mark.parametrize(
    ("status", "kind"), [(400, PeerRefused), (403, PeerRefused), (429, PeerAway), (500, PeerAway), (507, PeerAway)]
)
async def test_what_it_answers_is_for_now_or_for_ever(liar, installations, status, kind):
    liar.answers["PUT"] = {"status": status, "headers": {"x-amzn-ErrorType": "SomeException"}}
    with pytest.raises(kind) as refused:
        await installations.put_manifest(to(liar, installations), "1", "application/x", b"{}")
    assert str(status) in str(refused.value)
    assert kind is PeerAway or refused.value.code == "SomeException"


async def test_a_key_that_was_sealed_elsewhere_is_told(liar, installations, tmp_path):
    there = to(liar, installations)
    others = HttpsInstallations(Vault.open(tmp_path / "other.key"), time.time)
    with pytest.raises(PeerAway, match="sealed with another key"):
        await others.has_image(there, Blob.digest)
    await others.close()


async def test_a_token_that_is_refused_is_traded_for_once_more_and_then_it_is_told(liar, installations):
    liar.answers["HEAD"] = {"status": 401}
    there = to(liar, installations)
    with pytest.raises(PeerAway, match="401"):
        await installations.has_image(there, Blob.digest)
    assert liar.asked.count("GET /peers/token") == 2
