"""Proxies that a job sets in the environment of its pods."""

import pytest

from support.chat_server import ChatServerStub


def use_proxy(monkeypatch: pytest.MonkeyPatch, proxy: ChatServerStub) -> None:
    """Send requests to http:// addresses to ``proxy``, which answers them itself."""
    url = proxy.endpoint["url"].removesuffix("/v1")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
