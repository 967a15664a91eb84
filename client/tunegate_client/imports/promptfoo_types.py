"""The assertion types of promptfoo 0.123."""

_CODE = "runs code, which golden sets do not have; write a scorer of your own"
_MODEL = "asks a model to judge, which is not deterministic"
_PROVIDER = "measures the call of a provider, not its text"
_CALLS = "judges tool calls as objects of a provider; use tool_calls_equal"
_TRACE = "needs traces of an agent"
_OWN_RULES = "has its own rules, which no expectation has"
_SCORE = "computes a score that no expectation has"

REFUSED = {
    **dict.fromkeys(("javascript", "python", "ruby"), _CODE),
    "webhook": "sends the output to a server",
    **dict.fromkeys(
        (
            "agent-rubric",
            "answer-relevance",
            "classifier",
            "context-faithfulness",
            "context-recall",
            "context-relevance",
            "conversation-relevance",
            "factuality",
            "g-eval",
            "llm-rubric",
            "model-graded-closedqa",
            "model-graded-factuality",
            "moderation",
            "pi",
            "search-rubric",
            "similar",
            "similar:cosine",
            "similar:dot",
            "similar:euclidean",
        ),
        _MODEL,
    ),
    **dict.fromkeys(("cost", "latency", "finish-reason", "guardrails"), _PROVIDER),
    **dict.fromkeys(("perplexity", "perplexity-score"), "needs the probabilities of tokens"),
    **dict.fromkeys(
        (
            "is-valid-function-call",
            "is-valid-openai-function-call",
            "is-valid-openai-tools-call",
            "tool-call-f1",
        ),
        _CALLS,
    ),
    **dict.fromkeys(
        (
            "skill-used",
            "trace-error-spans",
            "trace-span-count",
            "trace-span-duration",
            "trajectory:goal-success",
            "trajectory:step-count",
            "trajectory:tool-args-match",
            "trajectory:tool-sequence",
            "trajectory:tool-used",
        ),
        _TRACE,
    ),
    **dict.fromkeys(
        ("contains-html", "contains-sql", "contains-xml", "is-html", "is-sql", "is-xml"), _OWN_RULES
    ),
    "contains-json": "also accepts parts of the text that are YAML but not JSON; use json_schema",
    "is-refusal": "has its own list of phrases; use refusal",
    **dict.fromkeys(("bleu", "gleu", "levenshtein", "meteor", "rouge-n"), _SCORE),
    **dict.fromkeys(("select-best", "max-score"), "compares the outputs of several prompts"),
    "human": "asks a person",
    "assert-set": "sets inside sets are not allowed",
}
"""Why assertions of a type are not carried over."""

CARRIED = (
    "contains",
    "contains-all",
    "contains-any",
    "equals",
    "icontains",
    "icontains-all",
    "icontains-any",
    "is-json",
    "regex",
    "starts-with",
    "word-count",
)

IN_CSV = (set(REFUSED) | set(CARRIED)) - {"select-best", "max-score", "human", "assert-set"}
"""The types that an ``__expected`` column can name."""
