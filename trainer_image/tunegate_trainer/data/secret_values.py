"""Find secrets in texts: access keys, tokens, passwords and private keys."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.basic_auth import BasicAuthDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.private_key import PrivateKeyDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector

MIN_ENTROPY = 2.8
"""Minimum entropy, in bits a character, of a value that is assigned to a password or a key."""


class _Plugin(Protocol):
    secret_type: str

    def analyze_string(self, string: str) -> Iterator[str]: ...


class _GitHubTokens:
    """Finds tokens of GitHub. The plugin of detect-secrets returns only their prefix."""

    secret_type = GitHubTokenDetector.secret_type
    _pattern = re.compile(r"gh[pousr]_[A-Za-z0-9_]{36,}")

    def analyze_string(self, string: str) -> Iterator[str]:
        yield from self._pattern.findall(string)


class _Tokens:
    """Finds tokens with a known prefix that detect-secrets does not know."""

    secret_type = "Access Token"  # noqa: S105 (not a secret)
    _pattern = re.compile(
        r"\b(?:hf_[A-Za-z]{34}|sk-(?:ant-|proj-|svcacct-)?[A-Za-z0-9_-]{32,}|AIza[\w-]{35}|glpat-[\w-]{20,}|"
        r"github_pat_\w{60,}|pypi-AgEIcHlwaS5vcmc[\w-]{20,}|npm_[A-Za-z0-9]{36}|xapp-\d-[\w-]{20,})"
    )

    def analyze_string(self, string: str) -> Iterator[str]:
        yield from self._pattern.findall(string)


class _Passwords:
    """Finds passwords in URLs, but no placeholders such as ``user:password@``, and none that are masked."""

    secret_type = BasicAuthDetector.secret_type
    _detector = BasicAuthDetector()
    _placeholder = re.compile(
        r"\W|\w{1,4}…|pass(?:w(?:or)?d)?\d*$|pwd$|secret$|token$|your|xxx", re.IGNORECASE
    )

    def analyze_string(self, string: str) -> Iterator[str]:
        if "@" in string:
            found = self._detector.analyze_string(string)
            yield from (value for value in found if not self._placeholder.match(value))


class _AssignedValues:
    """Finds values that are assigned to a password, token or key, such as in ``password = "..."``.

    A value counts if it has letters and digits and enough entropy, but no word of a placeholder. A value
    without quotes could also be the name of a variable, so it needs upper and lower case, or many digits.
    """

    secret_type = "Password or Key"  # noqa: S105 (not a secret)
    _keyword = re.compile(r"passw|secret|token|key|pwd|passphrase", re.IGNORECASE)
    _pattern = re.compile(
        r"(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|auth[_-]?key|private[_-]?key|pwd)"
        r"[\"']?\]?[ \t]{0,3}(?::=|=>|=|:)[ \t]{0,3}([\"']?)([^\s\"'<>{}()\[\],;]{8,128})(\1)(?![(\[])",
        re.IGNORECASE,
    )
    _placeholder = re.compile(
        r"your|example|placeholder|change_?me|dummy|xxx|\*\*\*|\.\.|test|sample|redacted|secret|passw|token|key|"
        r"^(?:[$%.]|1234|abc)|://|\.[a-z]{2,4}$|^(?-i:(?:/[a-z_][\w.-]*)+)$",
        re.IGNORECASE,
    )

    def analyze_string(self, string: str) -> Iterator[str]:
        if not self._keyword.search(string):
            return
        for match in self._pattern.finditer(string):
            quoted, value = bool(match[1]), match[2].rstrip(".")
            digits, letters = sum(map(str.isdigit, value)), sum(map(str.isalpha, value))
            mixed = value.lower() != value != value.upper()
            if (
                digits
                and letters
                and (quoted or mixed or digits >= 5)
                and not self._placeholder.search(value)
                and _entropy(value) >= MIN_ENTROPY
            ):
                yield value


_PLUGINS: tuple[tuple[tuple[str, ...], _Plugin], ...] = (
    (("AKIA", "ASIA", "ABIA", "ACCA", "A3T", "aws", "AWS"), AWSKeyDetector()),
    (("gh",), _GitHubTokens()),
    (("xox", "hooks.slack"), SlackDetector()),
    (("k_live_",), StripeDetector()),
    (("PRIVATE KEY", "PuTTY-User-Key"), PrivateKeyDetector()),
    (("eyJ",), JwtTokenDetector()),
    (("://",), _Passwords()),
    (("SG.",), SendGridDetector()),
    (("-us",), MailchimpDetector()),
    (("sq0csp",), SquareOAuthDetector()),
    (("hf_", "sk-", "AIza", "glpat-", "github_pat_", "pypi-", "npm_", "xapp-"), _Tokens()),
    (("=", ":"), _AssignedValues()),
)
"""Plugins of detect-secrets that rarely mistake other text for a secret, and our own for what it lacks. Each
has words, one of which occurs in every such secret: looking for them is faster."""


def secret_values(text: str) -> Iterator[tuple[str, str]]:
    """Yield the type and the value of each secret in a text. Values may overlap, and may be repeated.

    The plugins for high entropy and for keywords of detect-secrets are not used, because they find much other
    text.
    """
    for needed, plugin in _PLUGINS:
        if any(word in text for word in needed):
            for value in plugin.analyze_string(text):
                yield plugin.secret_type, value.strip()


def _entropy(value: str) -> float:
    """Return the entropy of a text in bits a character."""
    counts = Counter(value).values()
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts)
