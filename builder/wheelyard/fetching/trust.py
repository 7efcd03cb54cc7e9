"""TLS trust for programs that we start: the system's certificates plus the user's extra CA."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from wheelyard.errors import SettingsError
from wheelyard.settings import Settings

CA_ADVICE = (
    "if a proxy or a mirror signs its certificates with a private CA, pass that CA: --ca-bundle "
    "FILE, WHEELYARD_CA_BUNDLE=FILE or `ca-bundle` in the config file (PEM)"
)
# Where distributions keep the bundle when OpenSSL's own default points nowhere.
_SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


def trust_file(settings: Settings, folder: Path) -> Path | None:
    """Return one PEM file with the system's CAs and the extra CA, written to `folder` if needed.

    Programs take a CA file *instead of* the system's, so an extra CA alone would cut them off from
    everything else; and uv may ship its own CAs, without a corporate proxy's. None if the system
    has no bundle and the settings add none. Raises SettingsError if the extra bundle cannot be
    read.
    """
    system = system_bundle()
    if settings.ca_bundle is None:
        return system
    try:
        extra = settings.ca_bundle.read_bytes()
    except OSError as refused:
        raise SettingsError(
            f"cannot read the CA bundle {settings.ca_bundle}: {refused.strerror}"
        ) from refused
    merged = folder / "trust.pem"
    merged.write_bytes(b"\n".join((b"" if system is None else system.read_bytes(), extra)))
    return merged


def system_bundle() -> Path | None:
    """Return the bundle in use: SSL_CERT_FILE, OpenSSL's default, or one of the usual places."""
    candidates = (
        os.environ.get("SSL_CERT_FILE"),
        ssl.get_default_verify_paths().cafile,
        *_SYSTEM_BUNDLES,
    )
    return next((Path(name) for name in candidates if name and Path(name).is_file()), None)
