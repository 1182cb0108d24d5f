"""What the server needs to speak HTTPS, built before anything slow happens.

`beamline serve` checks it at once and hands the settings to `app/process/server.py`. TLS 1.2 and
newer, with the ciphers that Python chooses.
"""

import ssl

from app.settings import Settings


class TlsError(Exception):
    """The certificate or key cannot be used; the message says which and why."""


def build_tls_context(settings: Settings) -> ssl.SSLContext | None:
    """The context that the settings ask for; None: plain HTTP.

    Raises:
        TlsError: a file is missing, no PEM, or does not belong to the other.
    """
    if settings.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secret = settings.tls_key_password
    password = "" if secret is None else secret.get_secret_value()  # else OpenSSL asks for one
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password)
    except OSError as error:
        files = " and ".join(str(path) for path in (settings.tls_cert, settings.tls_key) if path)
        raise TlsError(f"cannot use {files} for TLS ({_reason(error)})") from error
    if settings.tls_client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(settings.tls_client_ca)
        except OSError as error:
            raise TlsError(
                f"cannot use {settings.tls_client_ca} to check clients ({_reason(error)})"
            ) from error
    return context


def _reason(error: OSError) -> str:
    """Of an `ssl.SSLError` too, which is an `OSError` without a message of the system's."""
    return error.strerror or str(error)
