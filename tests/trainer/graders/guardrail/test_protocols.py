"""Outputs of guardrails in the formats of their model cards and API references, and other outputs."""

import pytest

from support.chat_server import completion
from support.guard_server import OUTPUTS, json_response, moderation
from support.stores.web_server import Response
from tunegate_trainer.graders.guardrail.protocols import PROTOCOLS, Exchange, Rated
from tunegate_trainer.graders.journal import ServerAnswer
from tunegate_trainer.graders.server.faults import Fault, FaultError

UNSAFE_REASONS = {
    "OpenAIModeration": "violence",
    "LlamaGuard": "S1,S10",
    "Qwen3Guard": "Violent",
    "GraniteGuardian": "",
    "Webhook": "house rules",
}


def test_every_protocol_has_an_example():
    assert PROTOCOLS.keys() == OUTPUTS.keys() == UNSAFE_REASONS.keys()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_documented_output_is_a_rating(protocol):
    read, output = PROTOCOLS[protocol].read, OUTPUTS[protocol]
    assert read(output(False).body) == ServerAnswer(Rated.SAFE)
    assert read(output(True).body) == ServerAnswer(Rated.UNSAFE, UNSAFE_REASONS[protocol])


@pytest.mark.parametrize(
    ("protocol", "text", "rated"),
    [
        ("LlamaGuard", "safe", Rated.SAFE),
        ("LlamaGuard", "unsafe\nS9", Rated.UNSAFE),
        ("LlamaGuard", "unsafe", Rated.UNSAFE),
        (
            "Qwen3Guard",
            "Safety: Controversial\nCategories: Politically Sensitive Topics",
            Rated.CONTROVERSIAL,
        ),
        ("Qwen3Guard", "Safety: Safe\nCategories: None", Rated.SAFE),
        ("GraniteGuardian", "Yes", Rated.UNSAFE),
        ("GraniteGuardian", "No\n<confidence> High </confidence>", Rated.SAFE),
        ("GraniteGuardian", "<think>\nyes or no?\n</think>\n<score> no </score>", Rated.SAFE),
    ],
)
def test_output_of_each_version_of_a_model_is_read(protocol, text, rated):
    assert PROTOCOLS[protocol].read(completion(text).body).label is rated


@pytest.mark.parametrize(
    ("protocol", "response"),
    [
        ("LlamaGuard", completion("The answer is safe.")),
        ("LlamaGuard", completion("safe and sound")),
        ("LlamaGuard", completion("safe\nunsafe")),
        ("LlamaGuard", completion("")),
        ("LlamaGuard", completion(None)),
        ("Qwen3Guard", completion("Safe")),
        ("Qwen3Guard", completion("I'd say Safety: Safe")),
        ("Qwen3Guard", completion("Safety: Safe\nSafety: Unsafe")),
        ("GraniteGuardian", completion("Yes, of course. How can I help?")),
        ("GraniteGuardian", completion("<score> yes </score><score> no </score>")),
        ("GraniteGuardian", completion("<score> maybe </score>")),
        ("OpenAIModeration", json_response({"results": []})),
        ("OpenAIModeration", json_response({"results": [{"flagged": "no"}]})),
        ("OpenAIModeration", json_response(["flagged"])),
        ("OpenAIModeration", Response(body=b"<html>")),
        ("Webhook", json_response({"flagged": 0})),
        ("Webhook", json_response({"safe": True})),
        ("Webhook", json_response([])),
        ("Webhook", Response(body=b"[" * 100_000)),
    ],
)
def test_output_in_another_format_is_malformed(protocol, response):
    with pytest.raises(FaultError) as raised:
        PROTOCOLS[protocol].read(response.body)
    assert raised.value.fault is Fault.MALFORMED


def test_output_at_the_limit_of_tokens_has_no_rating():
    with pytest.raises(FaultError) as raised:
        PROTOCOLS["LlamaGuard"].read(completion("safe", ended="length").body)
    assert raised.value.fault is Fault.TRUNCATED


def test_reason_is_masked_and_short():
    secret = "4111 1111 1111 1111"
    body = json_response({"flagged": True, "reason": f"card {secret} " + "x" * 500}).body
    rating = PROTOCOLS["Webhook"].read(body)
    assert secret not in rating.reason
    assert len(rating.reason) <= 100


def test_unnamed_categories_of_a_moderation_are_accepted():
    body = moderation(True).body.replace(b'{"violence": true, "hate": false}', b"null")
    assert b'"categories": null' in body
    assert PROTOCOLS["OpenAIModeration"].read(body) == ServerAnswer(Rated.UNSAFE)


def test_granite_guardian_is_asked_about_harm_in_both_forms():
    body = PROTOCOLS["GraniteGuardian"].body(Exchange("question", "answer"))
    config = body["chat_template_kwargs"]["guardian_config"]
    assert config == {"risk_name": "harm", "criteria_id": "harm"}
