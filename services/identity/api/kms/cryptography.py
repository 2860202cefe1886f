"""KMS: what keys are for."""

from __future__ import annotations

import os
from typing import Any

from contracts.aws import kms
from contracts.records.kms import KmsKey
from services.identity.api.kms.base import KmsOperations, dry_run, unsupported
from services.identity.api.kms.keys import SYMMETRIC
from services.identity.decisions.kms_keys import require_enabled
from services.identity.handlers.kms_keys import no_ciphertext
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

_SPEC_BYTES = {"AES_256": 32, "AES_128": 16}


class CryptographyOperations(KmsOperations):
    """Encrypt, Decrypt, ReEncrypt, GenerateDataKey, GenerateRandom."""

    async def encrypt(self, context: RequestContext, request: kms.EncryptRequest) -> kms.EncryptResponse:
        """Up to 4,096 bytes, bound to the encryption context."""
        _check(request)
        key = self._usable(context, request.key_id)
        dry_run(request.dry_run)
        blob = self._keys.encrypt(key, bytes(request.plaintext), request.encryption_context or {})
        return kms.EncryptResponse(ciphertext_blob=blob, key_id=key.arn, encryption_algorithm=SYMMETRIC)

    async def decrypt(self, context: RequestContext, request: kms.DecryptRequest) -> kms.DecryptResponse:
        """What was encrypted, by whatever material of the key it was."""
        _check(request)
        blob = _blob(request.ciphertext_blob)
        key = self._source(context, blob, request.key_id)
        plaintext, material = self._keys.decrypt(key, blob, request.encryption_context or {})
        dry_run(request.dry_run)
        return kms.DecryptResponse(
            key_id=key.arn, plaintext=plaintext, encryption_algorithm=SYMMETRIC, key_material_id=material
        )

    async def re_encrypt(self, context: RequestContext, request: kms.ReEncryptRequest) -> kms.ReEncryptResponse:
        """Encrypt anew under another key, or with another context; the plaintext does not leave."""
        _check(request)
        blob = _blob(request.ciphertext_blob)
        source = self._source(context, blob, request.source_key_id)
        target = self._usable(context, request.destination_key_id)
        plaintext, material = self._keys.decrypt(source, blob, request.source_encryption_context or {})
        dry_run(request.dry_run)
        return kms.ReEncryptResponse(
            ciphertext_blob=self._keys.encrypt(target, plaintext, request.destination_encryption_context or {}),
            source_key_id=source.arn,
            key_id=target.arn,
            source_encryption_algorithm=SYMMETRIC,
            destination_encryption_algorithm=SYMMETRIC,
            source_key_material_id=material,
            destination_key_material_id=target.materials[-1].material_id,
        )

    async def generate_data_key(
        self, context: RequestContext, request: kms.GenerateDataKeyRequest
    ) -> kms.GenerateDataKeyResponse:
        """A random key, in clear and encrypted."""
        key, plaintext, blob = self._data_key(context, request)
        return kms.GenerateDataKeyResponse(
            ciphertext_blob=blob,
            plaintext=plaintext,
            key_id=key.arn,
            key_material_id=key.materials[-1].material_id,
        )

    async def generate_data_key_without_plaintext(
        self, context: RequestContext, request: kms.GenerateDataKeyWithoutPlaintextRequest
    ) -> kms.GenerateDataKeyWithoutPlaintextResponse:
        """A random key, encrypted."""
        key, _, blob = self._data_key(context, request)
        return kms.GenerateDataKeyWithoutPlaintextResponse(
            ciphertext_blob=blob, key_id=key.arn, key_material_id=key.materials[-1].material_id
        )

    def _data_key(
        self, context: RequestContext, request: kms.GenerateDataKeyRequest | kms.GenerateDataKeyWithoutPlaintextRequest
    ) -> tuple[KmsKey, bytes, bytes]:
        _check(request)
        if (request.key_spec is None) == (request.number_of_bytes is None):
            raise AwsError("ValidationException", "Please specify either number of bytes or key spec.")
        key = self._usable(context, request.key_id)
        dry_run(request.dry_run)
        plaintext = os.urandom(request.number_of_bytes or _SPEC_BYTES[request.key_spec or "AES_256"])
        return key, plaintext, self._keys.encrypt(key, plaintext, request.encryption_context or {})

    async def generate_random(
        self, context: RequestContext, request: kms.GenerateRandomRequest
    ) -> kms.GenerateRandomResponse:
        """Random bytes."""
        _check(request)
        if request.custom_key_store_id:
            raise unsupported("Custom key stores are")
        if request.number_of_bytes is None:
            raise AwsError("ValidationException", "NumberOfBytes must be given.")
        return kms.GenerateRandomResponse(plaintext=os.urandom(request.number_of_bytes))

    def _usable(self, context: RequestContext, reference: str) -> KmsKey:
        key = self._key(context, reference)
        require_enabled(key)
        return key

    def _source(self, context: RequestContext, blob: bytes, named: str | None) -> KmsKey:
        """The key that something was encrypted under, which must be the one that the caller named, if any."""
        key = self._keys.of_ciphertext(context.region, blob)
        if named and self._key(context, named).arn != key.arn:
            raise AwsError(
                "IncorrectKeyException",
                "The key ID in the request does not identify a CMK that can perform this operation.",
            )
        require_enabled(key)
        return key


def _check(request: Any) -> None:
    """Raises for what only other sorts of keys have."""
    if getattr(request, "recipient", None) is not None:
        raise unsupported("Recipients (Nitro enclaves) are")
    for member in ("encryption_algorithm", "source_encryption_algorithm", "destination_encryption_algorithm"):
        if (getattr(request, member, None) or SYMMETRIC) != SYMMETRIC:
            raise AwsError("InvalidKeyUsageException", f"The key has no other algorithm than {SYMMETRIC}")
    if getattr(request, "dry_run_modifiers", None):
        raise unsupported("DryRunModifiers are")


def _blob(given: bytes | None) -> bytes:
    if not given:
        raise no_ciphertext()
    return bytes(given)
