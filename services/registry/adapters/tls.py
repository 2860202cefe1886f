"""What the registry serves HTTPS with."""

from __future__ import annotations

import datetime
import socket
import ssl
from pathlib import Path

from services.registry.settings import RegistrySettings
from services.shared.certificates import Authority
from services.shared.settings import SettingsError

LEAF_FILE = "registry.pem"


def serving_context(settings: RegistrySettings, folder: Path, now: float) -> ssl.SSLContext:
    """TLS 1.2 and newer with the certificate of the settings, or one of the authority in `folder`, which is made when
    there is none. Raises SettingsError, naming what can't be used."""
    certificate, key = Path(settings.tls_certificate), Path(settings.tls_key)
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise SettingsError("registry: tls_certificate and tls_key go together")
    if not settings.tls_certificate:
        certificate = key = folder / LEAF_FILE
        today = datetime.datetime.fromtimestamp(now, datetime.UTC)
        Authority.open(folder, today).issue(certificate, _names(settings), "Roadstead registry", today)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"registry: the certificate {certificate} with the key {key}: {error}") from error
    return context


def _names(settings: RegistrySettings) -> set[str]:
    host = settings.advertised.rpartition(":")[0] or settings.advertised
    given = {name.strip() for name in settings.tls_names.split(",")}
    return ({"localhost", "127.0.0.1", "::1", socket.gethostname(), host.strip("[]")} | given) - {""}
