"""The outputs of endpoints. They are published as evidence, because the live model cannot be asked again
later."""

from pathlib import Path

from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.workspace import endpoint_file
from tunegate_api.meta import StatusModel
from tunegate_trainer.artifacts.evidence import EndpointEvidence
from tunegate_trainer.artifacts.gate_result import GateRoleResult
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.process.files import write_atomic


class EndpointOutput(StatusModel):
    """One line of evidence/endpoint-GATE.jsonl: what the endpoint answered to a golden case. The prompt and
    what the case expects are left out, so that they do not leave with the model."""

    id: str
    output: str
    truncated: bool
    outcomes: dict[str, str]
    """The outcome letter of the measure ``golden``."""


def endpoint_evidence(gate: str, measured: GateRoleResult) -> EndpointEvidence | None:
    """Return the endpoint that ``gate`` compared with; None if it named none, or none that answered."""
    found = measured.endpoints.get(gate)
    if found is None:
        return None
    return EndpointEvidence(url=found.url, model=found.model, outputs=_evidence_file(gate))


def _evidence_file(gate: str) -> str:
    return f"evidence/endpoint-{gate}.jsonl"


def write_endpoint_outputs(folder: Path, gate_folder: Path, measured: GateRoleResult) -> None:
    """Write the outputs in ``gate_folder`` as evidence of the version in ``folder``, one file for each gate.

    Raises :class:`UserError` if a file was changed after the gate role had written it.
    """
    for gate, outputs in measured.endpoints.items():
        path = gate_folder / endpoint_file(gate)
        try:
            text = path.read_bytes().decode()
        except (FileNotFoundError, UnicodeDecodeError):
            text = ""
        if sha256_text(text) != outputs.sha256:
            raise UserError(
                f"not published: gate/{path.name} is missing, or was changed after the gate had written it",
                "create the job again",
            )
        lines = text.removesuffix("\n").split("\n")
        found = (EndpointOutput.model_validate_json(line) for line in lines)
        write_atomic(
            folder / _evidence_file(gate),
            "".join(each.model_dump_json(by_alias=True) + "\n" for each in found),
        )
