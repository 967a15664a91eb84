"""TLS servers on localhost whose certificate authority no machine trusts by itself."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

from tunegate_operator.reporting.certificates import make_authority, make_serving


def own_authority(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Return the settings of a server, and the file with the certificate of its authority."""
    authority = make_authority(datetime.now(UTC))
    serving = make_serving(authority, "localhost", datetime.now(UTC))
    (folder / "serving.pem").write_bytes(serving.key + serving.certificate)
    (folder / "authority.pem").write_bytes(authority.certificate)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "serving.pem")
    return tls, folder / "authority.pem"
