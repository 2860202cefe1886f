"""What KMS encrypts: it opens with its material and context, and with nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity.decisions.ciphertexts import (
    RANDOM_BYTES,
    Head,
    NoCiphertext,
    canonical,
    decrypt,
    encrypt,
    read_head,
)

HEAD = Head("000000000042", "0d6d9d43-7f4e-4e4e-8a3f-5f0c6f4f4a11", "ab" * 32)
MATERIAL, RANDOM = bytes(range(32)), bytes(range(RANDOM_BYTES))
CONTEXTS = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4)


@given(st.binary(max_size=4096), CONTEXTS)
def test_what_was_encrypted_is_decrypted_and_says_with_which_key(plaintext, context):
    sealed = encrypt(HEAD, MATERIAL, plaintext, context, RANDOM)
    assert (read_head(sealed), decrypt(MATERIAL, sealed, context)) == (HEAD, plaintext)
    assert plaintext == b"" or plaintext not in sealed or len(plaintext) < 4


@given(CONTEXTS, CONTEXTS)
def test_contexts_are_the_same_bytes_only_when_they_are_the_same(one, other):
    assert (canonical(one) == canonical(other)) == (one == other)


@given(st.data())
def test_any_flipped_bit_is_found(data):
    sealed = bytearray(encrypt(HEAD, MATERIAL, b"hello", {"a": "b"}, RANDOM))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(NoCiphertext):
        read_head(bytes(sealed))
        decrypt(MATERIAL, bytes(sealed), {"a": "b"})


@given(st.integers(0, 140))
def test_a_shortened_one_is_found(length):
    sealed = encrypt(HEAD, MATERIAL, b"x" * 64, {}, RANDOM)
    with pytest.raises(NoCiphertext):
        read_head(sealed[:length])
        decrypt(MATERIAL, sealed[:length], {})
