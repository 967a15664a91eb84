"""The kinds that a new leader lists again before its first decision."""

from tunegate_operator.engine.listing import Listing
from tunegate_operator.manager import FRESH_SECONDS, kinds_to_list


def listed(kind: str, at: float) -> Listing:
    listing = Listing(kind, None, lambda: None)
    listing.listed_at = at
    return listing


def test_takeover_does_not_relist_kinds_that_were_just_listed():
    listings = [listed(kind, 100.0) for kind in ("Job", "Pod", "ConfigMap", "FineTuneJob", "EvalGate")]
    assert kinds_to_list(listings, 100 + FRESH_SECONDS) == []


def test_takeover_relists_kinds_not_listed_recently_children_first():
    """The watches of a process that waited to lead may hang on a dead connection, and so miss the last writes
    of the previous leader."""
    listings = [
        listed("EvalGate", 99.0),
        listed("ConfigMap", 100.0),
        listed("Job", 50.0),
        listed("Job", 100.0),
        listed("FineTuneJob", 100.0),
        listed("Pod", 99.0),
    ]
    assert kinds_to_list(listings, 100 + FRESH_SECONDS) == ["Job", "Pod", "EvalGate"]
