"""Prometheus metrics of the operator, and of the resources that it manages. docs/metrics.md lists them."""
