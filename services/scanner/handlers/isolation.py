"""Whether workers can give up what they should: asked of one, once."""

from __future__ import annotations

import msgspec
import structlog

from services.scanner.adapters.workers import Workers
from services.scanner.ports import WorkerFailed

log = structlog.get_logger()


class Confinement(msgspec.Struct, frozen=True):
    """What workers of this machine keep although they should not; empty: they read in full isolation. `known` is false
    until one was asked."""

    known: bool = False
    missing: list[str] = []


_decoder = msgspec.json.Decoder(Confinement)


class Isolation:
    """How much workers are kept from. `told` is what is known of it."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self.told = Confinement()

    async def look(self) -> None:
        """Ask a worker, and say in the log what is missing. Scans go on in any case."""
        try:
            text = await self._workers.run("confinement", apart=True)
            self.told = msgspec.structs.replace(_decoder.decode(text), known=True)
        except (WorkerFailed, TimeoutError, msgspec.DecodeError) as error:
            self.told = Confinement(True, [f"not known: {error or 'it took too long'}"])
        if self.told.missing:
            log.warning("workers.not_confined", keep=self.told.missing)
