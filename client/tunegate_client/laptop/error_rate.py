"""Measure the error rates of gates with the files of a job that has ended on this machine."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from tunegate_api.contract.process import ROOT_VARIABLE
from tunegate_api.contract.results import GateErrorRates
from tunegate_client.laptop.plan import ForecastError, run_role
from tunegate_client.laptop.pod_folder import CannotStartError, FindObject, FindVolume, build, environment
from tunegate_operator.engine.cluster import Object


def measure(
    pod: Object,
    gates: Sequence[str],
    repeats: int,
    *,
    find: FindObject,
    find_volume: FindVolume,
    show: Callable[[str], None],
) -> GateErrorRates:
    """Return the outcomes of repeated and planted evaluations of the model that a final gate has judged.

    ``pod`` is the pod of the final gate; its files are made again in a temporary folder. ``show`` gets a text
    before each evaluation. Raises ForecastError.
    """
    with tempfile.TemporaryDirectory(prefix="tunegate-error-rate-") as temporary:
        folder = Path(temporary) / "pod"
        try:
            build(pod, folder, find, find_volume)
            variables = environment(pod, folder, find)
        except CannotStartError as error:
            raise ForecastError(f"the gate's pod cannot be started again: {error}") from error
        # As in a pod. Otherwise PyTorch's threads wait for each other by spinning.
        variables.setdefault("GOMP_SPINCOUNT", "10000")
        root = Path(variables[ROOT_VARIABLE])
        options = (*gates, "--repeats", str(repeats))
        with closing(run_role(root, variables, "error_rate", *options)) as lines:
            for line in lines:
                show(line.strip())
        return GateErrorRates.model_validate_json((root / "error-rates.json").read_bytes())
