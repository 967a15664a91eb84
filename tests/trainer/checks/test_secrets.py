"""The check secrets finds keys, tokens and passwords in all texts of a row, and does not show them.

Secrets are put together at run time, so that no scanner of this repository takes them for a leak.
"""

import base64
import json

import pytest

from support.usable_rows import NO_CONTEXT, chat_of, prompted, usable_rows
from tunegate_trainer.checks import secrets

RANDOM = "q7Rk2ZxV9mB4tYc8LwJ5hNd3sGf6PaUe1QoX0iTz"
DIGITS = "739104628517"
HEX = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b"
JWT = ".".join(
    base64.urlsafe_b64encode(part).decode().rstrip("=")
    for part in (json.dumps({"alg": "HS256"}).encode(), json.dumps({"sub": "7"}).encode(), b"signature")
)


@pytest.mark.parametrize(
    ("text", "type", "shown"),
    [
        ("AKIA" + "Q4ZX7MNB2WPLK5TR", "AWS Access Key", "AKIA…"),
        ("AKIA" + "IOSFODNN7EXAMPLE", "AWS Access Key", "AKIA…"),
        ("ghp_" + RANDOM[:36], "GitHub Token", "ghp_…"),
        ("xoxb-" + f"{DIGITS}-{DIGITS}-{RANDOM[:24]}", "Slack Token", "xoxb…"),
        ("sk_live_" + RANDOM[:24], "Stripe Access Key", "sk_l…"),
        (f"-----BEGIN RSA PRIVATE{' '}KEY-----\n{RANDOM}", "Private Key", "q7Rk…"),
        (JWT, "JSON Web Token", "eyJh…"),
        (f"postgresql://reader:{RANDOM[:16]}@db.example.com/orders", "Basic Auth Credentials", "q7Rk…"),
        ("hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH", "Access Token", "hf_a…"),
        ("sk-proj-" + RANDOM, "Access Token", "sk-p…"),
        ("SG." + f"{RANDOM[:22]}.{RANDOM}abc", "SendGrid API Key", "SG.q…"),
        (f'password = "{RANDOM[:12]}!"', "Password or Key", "q7Rk…"),
        (f"API_KEY={HEX}", "Password or Key", "9f86…"),
        (f'{{"token": "{HEX}"}}', "Password or Key", "9f86…"),
    ],
)
def test_secret_is_found_by_its_type_and_masked(text, type, shown):
    (finding,) = secrets.run(prompted("1 mug", f"Use {text} now."), NO_CONTEXT)
    (example,) = finding.examples
    assert example.startswith(f"line 2: {type} ")
    assert shown is None or example == f"line 2: {type} {shown}"
    assert RANDOM[:12] not in str(finding)
    assert HEX[:8] not in str(finding)


@pytest.mark.parametrize(
    "text",
    [
        f"The fault was fixed in commit {HEX}.",
        "The request has the ID 123e4567-e89b-12d3-a456-426614174000.",
        'Set api_key="<your key>" or password="your-password-1" first.',
        "Call login(password=read_password_2(), token=os.environ['TOKEN_1']).",
        "https://user:password@example.com and https://user:${PASS}@example.com/",
        "The key is in secret=/run/secrets/key_1.pem",
        "max_tokens: 4096, pad_token: end_of_text_1",
        "-----BEGIN PUBLIC KEY-----",
        "eyJub3QgYSB0b2tlbg.Zm9v",
    ],
)
def test_text_that_only_resembles_a_secret_is_not_found(text):
    assert secrets.run(prompted(text), NO_CONTEXT) == []


SECRET = "ghp_" + RANDOM[:36]
CHAT = [
    ("system", "Be brief."),
    ("user", "1 mug"),
    ("assistant", "yes"),
    ("user", "why"),
    ("assistant", "no"),
]
LOGIN = {"name": "login", "arguments": json.dumps({"token": SECRET})}
TOOL = {
    "type": "function",
    "function": {"name": "login", "description": "Log in.", "parameters": {"type": "object"}},
}


@pytest.mark.parametrize("i", range(len(CHAT)))
def test_secret_in_any_turn_of_a_chat_is_found(i):
    turns = [(role, f"{text} {SECRET}" if n == i else text) for n, (role, text) in enumerate(CHAT)]
    assert secrets.run(usable_rows([chat_of(*turns)]), NO_CONTEXT)


@pytest.mark.parametrize("field", ["prompt", "chosen", "rejected"])
def test_secret_in_any_text_of_a_pair_is_found(field):
    pair = {"prompt": "1 mug", "chosen": "yes", "rejected": "no", field: SECRET}
    (finding,) = secrets.run(usable_rows(pairs=[pair]), NO_CONTEXT)
    assert finding.examples[0].startswith("line 1 of preference: GitHub Token")


def test_secret_in_reasoning_or_tool_calls_is_found():
    thinking, calling = {"reasoning_content": SECRET}, {"tool_calls": [{"function": LOGIN}]}
    *prompt, answer = chat_of(*CHAT)["messages"]
    rows = [{"messages": [*prompt, answer | added], "tools": [TOOL]} for added in ({}, thinking, calling)]
    (finding,) = secrets.run(usable_rows(rows), NO_CONTEXT)
    assert [example.partition(":")[0] for example in finding.examples] == ["line 2", "line 3"]
