"""The gateway's certificate, of the local authority: for the names of App Runner's and of Express services."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from pathlib import Path

from services.app_runner_gateway.decisions.names import DOMAIN, TOP
from services.shared import certificates
from services.shared.certificates import CA_FILE

__all__ = ["CA_FILE", "REGIONS", "Authority"]

#: The regions that the certificate is for from the start; others are added with their first service.
REGIONS = (
    "ap-northeast-1", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ca-central-1", "eu-central-1", "eu-north-1",
    "eu-west-1", "eu-west-2", "eu-west-3", "sa-east-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2",
)  # fmt: skip


class Authority(certificates.Authority):
    """Open it with `Authority.open`."""

    def leaf(self, path: Path, regions: Iterable[str], now: datetime.datetime) -> bool:
        """See to it that `path` holds a certificate, with its key, for these regions too; whether it had to be made."""
        all_of_them = {*REGIONS, *regions}
        names = {f"*.{region}.{DOMAIN}" for region in all_of_them}
        names |= {f"*.ecs.{region}.{TOP}" for region in all_of_them}
        return self.issue(path, names, f"*.{DOMAIN}", now)
