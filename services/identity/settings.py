"""Settings of identity (`ROADSTEAD_IDENTITY_…`)."""

import msgspec


class IdentitySettings(msgspec.Struct, kw_only=True, frozen=True):
    """`insecure_test_keys`: the account's key pair is test/test, for throw-away set-ups only."""

    insecure_test_keys: bool = False
    access_key_id: str = ""
    secret: str = ""
