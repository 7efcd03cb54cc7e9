"""Signature keys: ECDSA on P-256 in PEM, cosign's default. Needs an optional extra."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from wheelyard.errors import SettingsError, ToolMissingError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey
    PublicKey: TypeAlias = ec.EllipticCurvePublicKey

PASSPHRASE = "WHEELYARD_SIGN_PASSPHRASE"  # noqa: S105 - a variable's name
_MAKE = (
    "make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -aes256 "
    "-out sign.pem`, and its public half, which cosign reads too, with "
    "`openssl pkey -in sign.pem -pubout -out sign.pub`"
)
# What `cosign generate-key-pair` writes: scrypt and NaCl's secretbox around the key.
_OF_COSIGN = (b"ENCRYPTED SIGSTORE PRIVATE KEY", b"ENCRYPTED COSIGN PRIVATE KEY")


def load_private_key(path: Path, environ: Mapping[str, str] = os.environ) -> PrivateKey:
    """Load the signing key; the passphrase of an encrypted one is in PASSPHRASE.

    Raises SettingsError for any other file, and ToolMissingError without the extra.
    """
    data = _read(path)
    if any(words in data for words in _OF_COSIGN):
        raise SettingsError(f"{path} is in cosign's own format, which only cosign reads; {_MAKE}")
    _require_library()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    password = _passphrase(path, environ) if b"ENCRYPTED" in data else None
    try:
        key = load_pem_private_key(data, password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        doubt = f"the passphrase in {PASSPHRASE} is wrong, or " if password else ""
        raise SettingsError(f"{path}: {doubt}it is not a private key in PEM; {_MAKE}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not _is_p256(key.curve.name):
        raise SettingsError(f"{path} is not an ECDSA key on the curve P-256; {_MAKE}")
    return key


def load_public_key(path: Path) -> PublicKey:
    """Load the key that verifies signatures (`cosign.pub`); errors as for the private one."""
    data = _read(path)
    if b"PRIVATE KEY" in data:
        raise SettingsError(f"{path} is a private key; verification needs the public one")
    _require_library()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"{path} is not a public key in PEM, such as cosign.pub") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not _is_p256(key.curve.name):
        raise SettingsError(f"{path} is not an ECDSA key on the curve P-256")
    return key


def sign(key: PrivateKey, data: bytes) -> bytes:
    """Return the signature of `data` with SHA-256, in DER."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def is_signed(key: PublicKey, data: bytes, signature: bytes) -> bool:
    """Tell whether `signature` is the key's signature of `data`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read the key {path}: {error.strerror}") from error


def _passphrase(path: Path, environ: Mapping[str, str]) -> bytes:
    if not environ.get(PASSPHRASE):
        raise SettingsError(f"{path} is encrypted; set {PASSPHRASE} to its passphrase")
    return environ[PASSPHRASE].encode()


def _is_p256(curve: str) -> bool:
    return curve == "secp256r1"


def _require_library() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise ToolMissingError(
            "signatures need the cryptography library: pip install 'wheelyard[sign]'"
        ) from None
