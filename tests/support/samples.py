"""The metrics that a process serves, as Prometheus reads them."""

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""The value of each series, by name and labels."""


def scrape(port: int) -> Samples:
    """Return the value of each series at /metrics on a port of this machine."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def labels_of(samples: Samples, name: str) -> dict[frozenset[tuple[str, str]], float]:
    """Return the value of each series of a metric, by labels."""
    return {labels: value for (found, labels), value in samples.items() if found == name}
