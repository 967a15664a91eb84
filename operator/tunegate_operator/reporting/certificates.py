"""TLS certificates for the report address: a long-lived certificate authority, and short-lived serving
certificates.

The operator creates the authority at its first start and keeps it in a Secret, so that running pods still
trust the operator after it restarts. Serving certificates are in memory only: each operator process makes its
own certificate, and replaces it before it expires.
"""

import base64
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tunegate_operator.engine.cluster import AlreadyExistsError, Cluster, Key, Object

logger = logging.getLogger(__name__)

AUTHORITY_DAYS = 3650
SERVING_DAYS = 7
CLOCK_SKEW = timedelta(minutes=5)
"""How far a pod's clock may be behind the operator's clock."""


@dataclass(frozen=True)
class KeyPair:
    """A private key and its certificate, both in PEM format."""

    key: bytes
    certificate: bytes


def make_authority(now: datetime) -> KeyPair:
    """Create a certificate authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tunegate reports")])
    certificate = (
        _builder(name, name, key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _key_pair(key, certificate)


def make_serving(authority: KeyPair, host: str, now: datetime) -> KeyPair:
    """Create a serving certificate for ``host``, signed by ``authority``."""
    signer = serialization.load_pem_private_key(authority.key, password=None)
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise ValueError("the authority's key is not an elliptic-curve key")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    certificate = (
        _builder(subject, issuer.subject, key, now, SERVING_DAYS)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    return _key_pair(key, certificate)


def is_due(serving: KeyPair, now: datetime) -> bool:
    """Return whether a serving certificate is due for renewal: two thirds of its lifetime have passed."""
    certificate = x509.load_pem_x509_certificate(serving.certificate)
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return now >= certificate.not_valid_before_utc + life * 2 / 3


def load_authority(cluster: Cluster, namespace: str, name: str, now: datetime) -> KeyPair:
    """Return the certificate authority in the Secret ``name``. If there is no such Secret, create an
    authority and the Secret.

    Raises ClusterError, and ValueError if the Secret has no valid authority or an expired one. A person then
    has to delete the Secret, because running pods would not trust a new authority.
    """
    key = Key("Secret", namespace, name)
    secret = cluster.get(key)
    if secret is None:
        made = make_authority(now)
        try:
            cluster.create(_secret(key, made))
        except AlreadyExistsError:  # another operator created it first
            return load_authority(cluster, namespace, name, now)
        logger.info("created a certificate authority for reports: Secret %s/%s", namespace, name)
        return made
    data = secret.get("data") or {}
    try:
        found = KeyPair(base64.b64decode(data["tls.key"]), base64.b64decode(data["tls.crt"]))
        expires = x509.load_pem_x509_certificate(found.certificate).not_valid_after_utc
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"Secret {namespace}/{name} has no valid certificate authority: delete the Secret, so that the "
            "operator creates a new one"
        ) from error
    if expires <= now:
        raise ValueError(
            f"the certificate authority in Secret {namespace}/{name} has expired: delete the Secret, so that "
            "the operator creates a new one"
        )
    return found


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    since = now.astimezone(UTC) - CLOCK_SKEW
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(since + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pair(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> KeyPair:
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return KeyPair(key.private_bytes(pem, pkcs8, serialization.NoEncryption()), certificate.public_bytes(pem))


def _secret(key: Key, pair: KeyPair) -> Object:
    data = {"tls.key": pair.key, "tls.crt": pair.certificate}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": key.name, "namespace": key.namespace},
        "type": "kubernetes.io/tls",
        "data": {name: base64.b64encode(pem).decode() for name, pem in data.items()},
    }
