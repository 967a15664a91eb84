"""The resolved parameters of stages, for the model card and the report."""

from collections.abc import Sequence

from tunegate_api.contract.plan import StagePlan


def parameter_rows(stages: Sequence[StagePlan]) -> list[tuple[str, list[str]]]:
    """Return the name of each resolved parameter that at least one stage has, and its value in each stage."""
    values = [
        stage.parameters.model_dump() | stage.model_dump(include={"total_steps", "checkpoint_steps", "gates"})
        for stage in stages
    ]
    names = [name for name in (values[0] if values else ()) if any(v[name] is not None for v in values)]
    return [(name, [_plain(v[name]) for v in values]) for name in names]


def _plain(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
