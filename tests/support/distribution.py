"""The comparison of training inputs with production inputs, as data/report.json has it."""

from typing import Any

MESSAGE = "a classifier distinguishes 400 training inputs from 120 production inputs"


def distribution(*, wide: bool = False) -> dict[str, Any]:
    """Return the keys of data/report.json. With ``wide``, the words are as long as a page allows."""
    end = "w" * 80 if wide else ""
    return {
        "distribution": {
            "training_inputs": 400,
            "production_inputs": 120,
            "auc": 0.8312,
            "interval": [0.7951, 0.8673],
            "training_has_more": [f'"lamps{end}"', "digits"],
            "production_has_more": ['"<refund>"', f'"invoices{end}"'],
            "examples": [],
            "lengths": {
                "percentiles": {
                    "training": {"5": 12.0, "50": 31.5, "95": 80.0},
                    "production": {"5": 20.0, "50": 64.0, "95": 140.0},
                },
                "ks_distance": 0.41,
                "ks_p_value": 0.0001,
                "longer_than_training": 0.08,
                "bin_edges": [float(edge) for edge in range(0, 210, 10)],
                "training": [0, 40, 80, 120, 80, 40, 20, 12, 8, *[0] * 11],
                "production": [0, 2, 6, 12, 20, 25, 20, 12, 8, 5, 4, 3, 2, 1, *[0] * 6],
            },
            "unknown_words": {
                "production": 0.124,
                "between_training_halves": 0.013,
                "most_frequent": ["asap", f"rma{end}"],
            },
        },
        "checks": [
            {"check": "distribution_shift", "result": "Refused", "message": MESSAGE, "count": 30}
            | {"share": "0.7951", "examples": [], "remedy": "Add training rows like them"}
        ],
    }
