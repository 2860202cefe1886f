"""The AWS protocols as a server speaks them: signatures, routing, decoding, dispatch, encoding, errors.

Nothing here knows what an operation does. Read `server` first, then `routing` and `protocols`.
"""
