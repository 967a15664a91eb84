"""Requests to an OCI registry, with Basic authentication or Bearer tokens from its token service."""

import base64
import binascii
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from tunegate_trainer.fetch.address import Address
from tunegate_trainer.fetch.network import TIMEOUT, check_status, is_loopback, tls, transient_http_errors
from tunegate_trainer.process.errors import CredentialsError

DOCKER_CONFIG = ".dockerconfigjson"
"""The key of a Secret of type kubernetes.io/dockerconfigjson."""
_DOCKER_HUB_API = "registry-1.docker.io"
_DOCKER_HUB = ("docker.io", "index.docker.io", _DOCKER_HUB_API)
"""Host names that stand for Docker Hub: the first in image names, the second in the keys of logins, and the
third for API requests."""
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Repository:
    """A repository: the host of a registry, with its port if any, and the repository's name."""

    host: str
    name: str

    @property
    def url(self) -> str:
        host = _DOCKER_HUB_API if self.host in _DOCKER_HUB else self.host
        return f"{'http' if self.is_local else 'https'}://{host}"

    @property
    def is_local(self) -> bool:
        """Whether the host is this machine. Like other clients, we use plain HTTP for it."""
        return is_loopback(urlsplit(f"//{self.host}").hostname or "")


@dataclass(frozen=True)
class Login:
    """A user and a password."""

    user: str
    password: str

    @property
    def header(self) -> str:
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"

    def __repr__(self) -> str:
        return "Login()"


class Registry:
    """A client for one repository of a registry."""

    def __init__(self, address: Address, repository: Repository) -> None:
        self._address, self._repository = address, repository
        self._authorization: str | None = None

    @contextmanager
    def get(self, path: str, headers: Mapping[str, str]) -> Iterator[httpx2.Response]:
        """Request ``path`` of the repository, and authenticate if the registry requires it.

        Raises :class:`SourceNotFoundError` for status 404, :class:`CredentialsError` if access is refused,
        :class:`TransientError` for errors that a retry may fix, and :class:`UserError` for other statuses.
        """
        with transient_http_errors():
            with self._request(path, headers) as response:
                is_own = response.url.origin == httpx2.URL(self._repository.url).origin
                # Credentials are not sent to another host that the registry redirects to.
                if response.status_code != httpx2.codes.UNAUTHORIZED or not is_own:
                    yield self._checked(response)
                    return
                challenge = response.headers.get("WWW-Authenticate", "")
            # This is the first request, or the token has expired.
            self._authorization = self._authenticate(challenge)
            with self._request(path, headers) as response:
                yield self._checked(response)

    @contextmanager
    def _request(self, path: str, headers: Mapping[str, str]) -> Iterator[httpx2.Response]:
        url = f"{self._repository.url}/v2/{self._repository.name}/{path}"
        authorization = {"Authorization": self._authorization} if self._authorization else {}
        sent = {**headers, **authorization}
        with httpx2.stream(
            "GET", url, headers=sent, follow_redirects=True, timeout=TIMEOUT, verify=tls()
        ) as response:
            yield response

    def _checked(self, response: httpx2.Response) -> httpx2.Response:
        status = response.status_code
        if status in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
            raise self._address.refused(f"the registry answered with status {status}")
        if status == httpx2.codes.NOT_FOUND:
            raise self._address.not_found(f"{self._address.uri} does not exist")
        check_status(status, response.headers)
        if not response.is_success:
            raise self._address.wrong(f"the registry answered with status {status}")
        return response

    def _authenticate(self, challenge: str) -> str:
        """Return the Authorization header that a WWW-Authenticate challenge asks for."""
        kind = challenge.partition(" ")[0].lower()
        login = self._login()
        if kind == "basic":
            if login is None:
                raise self._address.refused("the registry requires a user and a password")
            return login.header
        if kind != "bearer":
            raise self._address.refused(
                f"the registry requires the authentication scheme {kind or '(none named)'}, which is not "
                "supported",
                "configure Basic or Bearer authentication on the registry",
            )
        parameters = dict(_PARAMETER.findall(challenge))
        realm = httpx2.URL(parameters.pop("realm", ""))
        if realm.scheme != "https" and not self._repository.is_local:
            raise self._address.refused(
                "the registry's token service does not use https",
                "configure an https token service on the registry",
            )
        asked = {
            "service": parameters.get("service", ""),
            "scope": f"repository:{self._repository.name}:pull",
        }
        headers = {"Authorization": login.header} if login else {}
        response = httpx2.get(realm, params=asked, headers=headers, timeout=TIMEOUT, verify=tls())
        if response.status_code in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
            raise self._address.refused(
                f"the registry's token service answered with status {response.status_code}"
            )
        check_status(response.status_code, response.headers)
        try:
            answer = response.json()
            return f"Bearer {answer.get('token') or answer['access_token']}"
        except (ValueError, KeyError, AttributeError) as error:
            raise self._address.refused("the registry's token service sent no token") from error

    def _login(self) -> Login | None:
        secret = self._address.secret
        if secret is None:
            return login_of(_user_config(), self._repository.host)
        if DOCKER_CONFIG not in secret:
            return Login(secret["username"], secret["password"])
        try:
            login = login_of(json.loads(secret[DOCKER_CONFIG]), self._repository.host)
        except (ValueError, AttributeError, TypeError):
            login = None
        if login is None:
            raise CredentialsError(
                f"Secret {secret.name}: {DOCKER_CONFIG} has no user and password for {self._repository.host}",
                "create the Secret with: kubectl create secret docker-registry NAME --docker-server=…",
            )
        return login


def _user_config() -> Any:
    """Return Docker's configuration on this machine, or ``{}`` if it is missing or cannot be read. Logins
    that a credential helper stores are not supported, because they are not in this configuration."""
    folder = os.environ.get("DOCKER_CONFIG") or str(Path.home() / ".docker")
    try:
        return json.loads((Path(folder) / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}


def login_of(config: Any, host: str) -> Login | None:
    """Return the login for a registry in Docker's configuration, or None."""
    names = _DOCKER_HUB if host in _DOCKER_HUB else (host,)
    for name, entry in (config.get("auths") or {}).items():
        if name.removeprefix("https://").partition("/")[0] not in names:
            continue
        if entry.get("username") and entry.get("password"):
            return Login(entry["username"], entry["password"])
        try:
            user, _, password = base64.b64decode(entry.get("auth", "")).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            continue
        if user:
            return Login(user, password)
    return None
