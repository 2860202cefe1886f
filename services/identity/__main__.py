"""`python -m services.identity`: identity as a process of its own."""

from services.identity.app import IdentityApp
from services.identity.settings import IdentitySettings
from services.shared.runner import main
from services.shared.s3 import S3Settings
from services.shared.settings import load

if __name__ == "__main__":
    main(
        "identity",
        4571,
        lambda host: IdentityApp(
            host, load(IdentitySettings, "ROADSTEAD_IDENTITY_"), load(S3Settings, "ROADSTEAD_S3_")
        ),
    )
