"""Images: pulled by the engine and named by digest: a container gets what was pulled, not what a tag means later."""

from __future__ import annotations

import asyncio
from typing import Any

from services.agent.ports import CannotPullContainerError, Image, RegistryAuth, RuntimeFailure
from services.agent.runtimes.docker import bodies, pause
from services.agent.runtimes.docker.engine import Engine, EngineError, failing_as, registry_header


class Images:
    """The images of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pulls: dict[tuple[str, RegistryAuth, bool], asyncio.Task[Image]] = {}

    async def pull(self, reference: str, auth: RegistryAuth | None, always: bool) -> Image:
        """As the port says. Pulls of one image at one time are one."""
        key = (reference, auth or RegistryAuth(), always)
        running = self._pulls.get(key)
        if running is None:
            running = self._pulls[key] = asyncio.create_task(self._pull(*key))
            running.add_done_callback(lambda _: self._pulls.pop(key, None))
        # One caller that gives up must not take the pull from the others.
        return await asyncio.shield(running)

    async def _pull(self, reference: str, auth: RegistryAuth, always: bool) -> Image:
        with failing_as(CannotPullContainerError):
            if not always and (shown := await self._inspect(reference)):
                return bodies.image_from(reference, _digest(reference, shown), shown)
            lines = await self._fetch(reference, auth)
            shown = await self._engine.call("GET", f"images/{reference}/json")
        said = [line["status"] for line in lines if str(line.get("status", "")).startswith("Digest: ")]
        digest = said[-1].removeprefix("Digest: ") if said else _digest(reference, shown)
        return bodies.image_from(reference, digest, shown)

    async def _fetch(self, reference: str, auth: RegistryAuth) -> list[dict[str, Any]]:
        """Let the engine pull; what it says. Docker takes plain HTTP from localhost by itself, Podman only when asked,
        and that only through its own API."""
        repository, tag = bodies.split_reference(reference)
        registry = bodies.registry_of(reference)
        headers = registry_header(auth.username, auth.password, registry)
        plain = auth.insecure or registry.partition(":")[0] in ("localhost", "127.0.0.1")
        if plain and await self._engine.is_podman():
            params = {"reference": reference, "tlsVerify": "false"}
            return await self._engine.progress("libpod/images/pull", params=params, headers=headers)
        params = {"fromImage": repository, "tag": tag}
        return await self._engine.progress("images/create", params=params, headers=headers)

    async def _inspect(self, name: str) -> dict[str, Any] | None:
        try:
            return await self._engine.call("GET", f"images/{name}/json")
        except EngineError as error:
            if error.missing:
                return None
            raise

    async def name_of(self, image: Image) -> str:
        """What to call an image when a container is made of it: by digest where the engine knows it by one."""
        repository, _ = bodies.split_reference(image.reference)
        for name in (f"{repository}@{image.digest}", image.digest):
            if image.digest and await self._inspect(name):
                return name
        return image.reference

    async def remove(self, digest: str) -> None:
        """Drop every name of the image with this manifest digest, and with the last one the image."""
        with failing_as(RuntimeFailure):
            for shown in await self._engine.call("GET", "images/json", params={"digests": True}) or []:
                names = [*(shown.get("RepoDigests") or []), *(shown.get("RepoTags") or [])]
                if shown["Id"] != digest and not any(name.endswith(f"@{digest}") for name in names):
                    continue
                used = await self._engine.call(
                    "GET", "containers/json", params={"all": True, "filters": {"ancestor": [shown["Id"]]}}
                )
                if used:
                    raise RuntimeFailure(f"the image {digest} is used by {len(used)} container(s)")
                await self._engine.call("DELETE", f"images/{shown['Id']}", params={"force": True})

    async def provide_pause(self) -> None:
        """Import the pause image unless the engine has it."""
        if await self._inspect(pause.IMAGE):
            return
        info = await self._engine.call("GET", "info")
        try:
            root = pause.root_file_system(info.get("Architecture", ""))
        except ValueError as error:
            raise RuntimeFailure(str(error)) from error
        params = {"fromSrc": "-", "repo": pause.IMAGE}  # Podman 4.3 overlooks a tag of its own
        await self._engine.progress(
            "images/create", params=params, headers={"Content-Type": "application/x-tar"}, body=root
        )


def _digest(reference: str, shown: dict[str, Any]) -> str:
    """The manifest's digest in the reference's repository; the image's own id where it was never in a registry."""
    repository, _ = bodies.split_reference(reference)
    digests = [name.rpartition("@") for name in shown.get("RepoDigests") or []]
    own = [digest for name, _, digest in digests if name == repository]
    return (own or [digest for _, _, digest in digests] or [shown["Id"]])[0]
