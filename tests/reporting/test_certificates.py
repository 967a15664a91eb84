"""The certificate authority is kept in a Secret, and serving certificates are rotated."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from support.fake_cluster import FakeCluster
from tunegate_operator.engine.cluster import Key
from tunegate_operator.reporting.certificates import (
    AUTHORITY_DAYS,
    SERVING_DAYS,
    is_due,
    load_authority,
    make_authority,
    make_serving,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = Key("Secret", "tunegate", "ca")


def test_certificate_authority_is_created_once_and_then_kept():
    cluster = FakeCluster()
    made = load_authority(cluster, "tunegate", "ca", NOW)
    assert load_authority(cluster, "tunegate", "ca", NOW + timedelta(days=400)) == made
    assert [(w.verb, w.kind) for w in cluster.writes] == [("create", "Secret")]


def test_two_operators_that_start_together_share_a_certificate_authority():
    cluster = FakeCluster()
    real_get, theirs = cluster.get, []

    def get_before_the_other_operator_creates_it(_):
        cluster.get = real_get  # type: ignore[method-assign]
        theirs.append(load_authority(cluster, "tunegate", "ca", NOW))

    cluster.get = get_before_the_other_operator_creates_it  # type: ignore[method-assign]
    ours = load_authority(cluster, "tunegate", "ca", NOW)
    assert [ours] == theirs


@pytest.mark.parametrize("data", [None, {"tls.crt": "", "tls.key": ""}, {"tls.crt": "bm9uZQ=="}])
def test_secret_without_a_valid_certificate_authority_is_refused(data):
    cluster = FakeCluster()
    metadata = {"name": SECRET.name, "namespace": SECRET.namespace}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata} | ({"data": data} if data else {})
    cluster.as_user.create(secret)
    with pytest.raises(ValueError, match="Secret tunegate/ca has no valid certificate authority: delete"):
        load_authority(cluster, "tunegate", "ca", NOW)


def test_expired_certificate_authority_is_refused():
    cluster = FakeCluster()
    load_authority(cluster, "tunegate", "ca", NOW)
    with pytest.raises(ValueError, match="has expired"):
        load_authority(cluster, "tunegate", "ca", NOW + timedelta(days=AUTHORITY_DAYS))


def test_serving_certificate_is_due_for_renewal_before_it_expires():
    serving = make_serving(make_authority(NOW), "reports.tunegate.svc", NOW)
    assert not is_due(serving, NOW + timedelta(days=SERVING_DAYS / 2))
    assert is_due(serving, NOW + timedelta(days=SERVING_DAYS * 0.7))


def test_serving_certificate_is_signed_for_the_host_only():
    authority = make_authority(NOW)
    serving = x509.load_pem_x509_certificate(make_serving(authority, "reports.tunegate.svc", NOW).certificate)
    serving.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate))
    names = serving.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["reports.tunegate.svc"]
    assert not serving.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
