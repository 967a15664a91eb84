"""The objects that the chart installs, and the values that it refuses."""

from typing import Any

import pytest
import yaml

from support.helm import CHART, Helm, Objects
from tunegate_operator.settings import Settings, read_settings

pytestmark = pytest.mark.cluster

NAME = "tunegate"


def container(objects: Objects) -> dict[str, Any]:
    (found,) = objects["Deployment", NAME]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment(objects: Objects) -> dict[str, Any]:
    return {entry["name"]: entry.get("value") for entry in container(objects)["env"]}


def test_operator_pod_is_unprivileged_and_limited(helm: Helm) -> None:
    objects = helm.render()
    pod = objects["Deployment", NAME]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(objects)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container(objects)["resources"]["limits"]["memory"] == "512Mi"


def test_probes_use_the_health_port(helm: Helm) -> None:
    objects = helm.render()
    ports = {port["name"]: str(port["containerPort"]) for port in container(objects)["ports"]}
    settings = environment(objects)
    assert ports == {"health": settings["TUNEGATE_HEALTH_PORT"], "reports": settings["TUNEGATE_REPORT_PORT"]}
    for probe, path in (("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert container(objects)[probe]["httpGet"] == {"path": path, "port": "health"}


def test_every_operator_setting_is_documented_and_set_if_required(helm: Helm) -> None:
    page = (CHART.parents[1] / "docs" / "install.md").read_text()
    for name, field in Settings.model_fields.items():
        variable = name.upper() if name.startswith("pod_") else f"TUNEGATE_{name.upper()}"
        assert f"`{variable}`" in page, variable
        assert variable in environment(helm.render()) or not field.is_required()


def test_helm_lint_reports_no_problems(helm: Helm) -> None:
    done = helm("lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


def test_report_service_has_no_selector(helm: Helm) -> None:
    objects = helm.render()
    settings = environment(objects)
    service = objects["Service", settings["TUNEGATE_REPORT_SERVICE"]]["spec"]
    assert "selector" not in service
    assert [(port["port"], str(port["targetPort"])) for port in service["ports"]] == [
        (443, settings["TUNEGATE_REPORT_PORT"])
    ]


def test_image_tag_defaults_to_the_app_version(helm: Helm) -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    objects = helm.render()
    assert container(objects)["image"] == f"mine/operator:{version}"
    assert environment(objects)["TUNEGATE_TRAINER_IMAGE"] == f"mine/trainer:{version}"


def test_image_digest_is_used_instead_of_a_tag(helm: Helm) -> None:
    digest = "sha256:" + "a" * 64
    objects = helm.render("trainerImage.tag=v1", f"trainerImage.digest={digest}")
    assert environment(objects)["TUNEGATE_TRAINER_IMAGE"] == f"mine/trainer@{digest}"


def test_crds_are_kept_on_uninstall(helm: Helm) -> None:
    crds = [obj for (kind, _), obj in helm.render().items() if kind == "CustomResourceDefinition"]
    assert [crd["metadata"]["annotations"]["helm.sh/resource-policy"] for crd in crds] == ["keep", "keep"]


def test_crds_are_not_installed_if_disabled(helm: Helm) -> None:
    objects = helm.render("crds.install=false")
    assert not [name for kind, name in objects if kind == "CustomResourceDefinition"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("replica=2", "additional properties 'replica' not allowed"),
        ("image.name=mine", "additional properties 'name' not allowed"),
        (
            "image.repository=mine",
            "trainerImage.repository: set the repository that the image was pushed to",
        ),
        ("replicas=0", "at '/replicas': minimum: got 0, want 1"),
        ("log.level=LOUD", "at '/log/level': value must be one of"),
        ("trainerImage.digest=abc", "at '/trainerImage/digest': 'abc' does not match pattern"),
        ("watchNamespaces={Team_A}", "at '/watchNamespaces/0': 'Team_A' does not match pattern"),
        ("requiredGates={Gate_A}", "at '/requiredGates/0': 'Gate_A' does not match pattern"),
        ("requiredGates={a,a}", "at '/requiredGates': items at 0 and 1 are equal"),
    ],
)
def test_error_names_the_invalid_helm_value(helm: Helm, value: str, message: str) -> None:
    done = helm("template", NAME, CHART, "--set", value)
    assert done.returncode != 0
    assert message in done.stderr


def test_operator_accepts_the_settings_of_the_chart(helm: Helm) -> None:
    objects = helm.render(
        "replicas=2",
        "watchNamespaces={team-a,team-b}",
        "requiredGates={privacy,policy}",
        "allowedLocalAddresses={169.254.20.10/32,::1/128}",
        "log.level=DEBUG",
        "workers=8",
    )
    given = {name: value if value is not None else "10.0.0.1" for name, value in environment(objects).items()}
    settings = read_settings(given)
    assert settings.watch_namespaces == ("team-a", "team-b")
    assert settings.required_gates == ("privacy", "policy")
    assert settings.allowed_local_addresses == ("169.254.20.10/32", "::1/128")
    assert (settings.log_format, settings.log_level, settings.workers) == ("json", "DEBUG", 8)
    assert settings.report_service == "tunegate-reports"


@pytest.mark.parametrize(
    ("values", "namespaces"),
    [((), "in all namespaces."), (("watchNamespaces={team-a,team-b}",), "in team-a, team-b.")],
)
def test_install_notes_name_watched_namespaces_and_deployment(
    helm: Helm, values: tuple[str, ...], namespaces: str
) -> None:
    sets = [
        argument
        for value in ("image.repository=a", "trainerImage.repository=b", *values)
        for argument in ("--set", value)
    ]
    done = helm("install", "tunegate", CHART, "--namespace", "tunegate-system", "--dry-run=client", *sets)
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:\n")[2]
    assert f"watches FineTuneJobs {namespaces}" in notes
    assert "deployment/tunegate" in notes
    assert "{{" not in notes
