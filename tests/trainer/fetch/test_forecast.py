"""``tunegate plan`` for a remote model: its configuration is fetched, but not its weights."""

from support.command import manifests
from tunegate_api.v1alpha2 import FineTuneJob
from tunegate_trainer.models.safetensors import count_parameters
from tunegate_trainer.roles.forecast import forecast


def test_forecast_for_the_plan_command_downloads_no_weights(hf_store, tiny_model, tmp_path):
    secret = tmp_path / "secrets" / "store"
    secret.mkdir(parents=True)
    for key, value in hf_store.secret.items():
        (secret / key).write_text(value)
    objects = manifests(tiny_model, model=hf_store.source())
    job = FineTuneJob.model_validate(next(obj for obj in objects if obj["kind"] == "FineTuneJob"))

    found = forecast(tmp_path, job, [])

    assert found.failure is None
    assert found.model.parameters == count_parameters(tiny_model)
    assert found.stages[0].memory is not None
    assert 0 < hf_store.proxy.served < (tiny_model / "model.safetensors").stat().st_size
    assert not list(tmp_path.rglob("*.safetensors"))


def test_forecast_for_the_plan_command_reports_a_missing_model(hf_store, tiny_model, tmp_path):
    objects = manifests(tiny_model, model=hf_store.source(secretName=None))
    job = FineTuneJob.model_validate(next(obj for obj in objects if obj["kind"] == "FineTuneJob"))
    found = forecast(tmp_path, job, [])
    assert found.failure is not None
    assert found.failure.reason == "NotFound"
