"""The Docker suites need no helper container of testcontainers: its image can't be pulled everywhere, and each suite
removes what it made."""

import os

os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
