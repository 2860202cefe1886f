"""Text in XML."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

#: What XML 1.0 has no way to say, surrogates among it.
_IMPOSSIBLE = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


def xml_text(text: str) -> str:
    """The text escaped; a character XML cannot carry becomes U+FFFD."""
    return escape(_IMPOSSIBLE.sub("\ufffd", text))
