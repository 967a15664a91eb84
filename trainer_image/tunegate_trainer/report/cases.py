"""Compare two models of a job case by case."""

from collections.abc import Sequence

from tunegate_api.contract.results import Subject
from tunegate_api.judging.case_comparison import Comparison, checkpoint_models, compare, final_models
from tunegate_trainer.report.collect import Collected, read_lines
from tunegate_trainer.report.stages import StageHistory


def comparisons(job: Collected, stages: Sequence[StageHistory]) -> list[Comparison]:
    """Compare the two models that matter most at this time, once for each set of cases.

    After the final gate, these are the base model and the artifact. Before it, they depend on the last stage
    that has an evaluated checkpoint. If this stage stopped, they are the checkpoint at which it stopped, and
    the model with which this was compared. Otherwise, they are its starting model and its newest checkpoint.
    """
    evaluated = [stage for stage in stages if len(stage.checkpoints) > 1]
    if job.results.find(Subject.FINAL):
        gates = job.request.final_gates
        safety = [gate.name for gate in gates if gate.spec.safety]
        models = final_models(job.paths, [gate.name for gate in gates], safety)
    elif evaluated:
        stage = evaluated[-1]
        stop, gates = stage.stop, job.request.gates_of(stage.name)
        models = checkpoint_models(
            job.paths,
            stage.name,
            stop.assessment.best_step if stop else 0,
            stop.step if stop else stage.checkpoints[-1].step,
            [gate.name for gate in gates],
            with_safety=[gate.name for gate in gates if gate.safety_at_checkpoints],
            stopped=stop is not None,
            is_best=stop is not None and not stop.safety,
        )
    else:
        return []
    return compare(models, lambda path: read_lines(job.workspace / path))
