"""packaging/kubernetes.yaml: its parts fit together, and the configuration in it is right. No cluster is asked."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import waypost
from rig.waypost import waypost as run_waypost
from waypost.config.load import load
from waypost.config.settings import Settings

FILE = Path(__file__).parent.parent / "packaging" / "kubernetes.yaml"

Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def manifests() -> dict[tuple[str, str], Manifest]:
    """All documents of the file, by kind and name."""
    documents = list(yaml.safe_load_all(FILE.read_text("utf-8")))
    found = {(document["kind"], document["metadata"]["name"]): document for document in documents}
    assert len(found) == len(documents)
    return found


@pytest.fixture(scope="module")
def pod(manifests: dict[tuple[str, str], Manifest]) -> Manifest:
    spec: Manifest = manifests["StatefulSet", "waypost"]["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def container(pod: Manifest) -> Manifest:
    (only,) = pod["containers"]
    assert isinstance(only, dict)
    return only


@pytest.fixture
def environ(container: Manifest, manifests: dict[tuple[str, str], Manifest], tmp_path: Path) -> dict[str, str]:
    """The container's variables, its files put where a test can write: the configuration and the secrets."""
    secrets = manifests["Secret", "waypost"]["stringData"]
    environ = {}
    for variable in container["env"]:
        path = Path(variable["value"])
        if path.parent == Path("/run/secrets/waypost"):
            content = secrets[path.name]
        else:
            assert path.parent == Path("/etc/waypost")
            content = manifests["ConfigMap", "waypost"]["data"][path.name]
        (tmp_path / path.name).write_text(content)
        environ[variable["name"]] = str(tmp_path / path.name)
    assert len(environ) == 1 + len(secrets)
    return environ


@pytest.fixture
def settings(environ: dict[str, str]) -> Settings:
    return load(None, environ)


def test_the_configuration_is_right_with_the_secrets_that_are_mounted(environ: dict[str, str]) -> None:
    checked = run_waypost("check", env=environ)
    assert checked.returncode == 0, checked.stderr
    (warning,) = checked.stderr.splitlines()  # probes come from the node, and a policy keeps others away
    assert "admin.address: :8025 has no password" in warning


def test_the_arguments_name_the_file_that_is_mounted(container: Manifest, pod: Manifest) -> None:
    assert container["args"] == ["run", "--config", "/etc/waypost/waypost.yaml"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert mounts.keys() == volumes.keys() | {"spool"}
    assert mounts["configuration"] == "/etc/waypost"
    assert volumes["configuration"]["configMap"]["name"] == "waypost"
    assert mounts["secrets"] == "/run/secrets/waypost"
    assert volumes["secrets"]["secret"] == {"secretName": "waypost", "defaultMode": 0o440}
    assert mounts["tmp"] == "/tmp"


def test_the_spool_is_on_a_volume_that_stays(
    manifests: dict[tuple[str, str], Manifest], container: Manifest, settings: Settings
) -> None:
    (claim,) = manifests["StatefulSet", "waypost"]["spec"]["volumeClaimTemplates"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts[claim["metadata"]["name"]] == settings.spool.path
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert manifests["StatefulSet", "waypost"]["spec"]["replicas"] == 1


def test_ports_and_probes_are_those_of_the_configuration(container: Manifest, settings: Settings) -> None:
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert settings.admin is not None
    assert settings.admin.host == ""  # on loopback, no probe would reach it
    assert ports == {"submission": settings.listeners[0].port, "admin": settings.admin.port}
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "admin"}
    assert container["startupProbe"]["httpGet"] == {"path": "/livez", "port": "admin"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "admin"}


def test_there_is_time_to_stop(pod: Manifest, container: Manifest, settings: Settings) -> None:
    command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    assert pod["terminationGracePeriodSeconds"] > int(seconds) + settings.shutdown_timeout + 5


def test_it_runs_without_privileges(pod: Manifest, container: Manifest) -> None:
    dockerfile = (FILE.parent.parent / "Dockerfile").read_text("utf-8")
    assert f"\nUSER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}\n" in dockerfile
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["image"].endswith(f":{waypost.__version__}")


def test_services_and_policy_lead_to_the_pod(manifests: dict[tuple[str, str], Manifest], container: Manifest) -> None:
    labels = manifests["StatefulSet", "waypost"]["spec"]["template"]["metadata"]["labels"]
    named = {port["name"] for port in container["ports"]}
    for name in ("waypost", "waypost-pods"):
        service = manifests["Service", name]["spec"]
        assert service["selector"].items() <= labels.items()
        assert {port["targetPort"] for port in service["ports"]} == {"submission"}
    assert manifests["StatefulSet", "waypost"]["spec"]["serviceName"] == "waypost-pods"
    assert manifests["StatefulSet", "waypost"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    policy = manifests["NetworkPolicy", "waypost"]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == named
