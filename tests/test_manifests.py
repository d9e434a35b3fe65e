"""The Kubernetes manifests are what Kubernetes' own schemas ask for, and fit each other and the settings."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.settings import Settings

FOLDER = Path(__file__).parents[1] / "docs/kubernetes"
VERSION = "1.31"


def documents() -> list[dict[str, Any]]:
    return [document for path in sorted(FOLDER.glob("*.yaml")) for document in yaml.safe_load_all(path.read_text())]


def label(document: dict[str, Any]) -> str:
    return f"{document['kind']}-{document['metadata']['name']}"


def pods() -> list[dict[str, Any]]:
    return [document["spec"]["template"] for document in documents() if document["kind"] in ("Deployment", "Job")]


@pytest.mark.parametrize("document", documents(), ids=label)
def test_a_manifest_satisfies_the_schema(document: dict[str, Any]) -> None:
    assert kubernetes_validate.validate(document, VERSION, strict=True) == VERSION


def test_the_schema_refuses_a_member_that_does_not_exist() -> None:
    (service,) = (document for document in documents() if document["kind"] == "Service")
    service["spec"]["port"] = 80
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service, VERSION, strict=True)


def test_what_pods_name_is_there() -> None:
    names = {(document["kind"], document["metadata"]["name"]) for document in documents()}
    for pod in pods():
        for container in pod["spec"]["containers"]:
            for source in container["envFrom"]:
                assert ("ConfigMap", source["configMapRef"]["name"]) in names
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounted <= {volume["name"] for volume in pod["spec"].get("volumes", [])}
        for volume in pod["spec"].get("volumes", []):
            claim = volume.get("persistentVolumeClaim")
            assert claim is None or ("PersistentVolumeClaim", claim["claimName"]) in names


def test_variables_are_settings() -> None:
    known = {f"FORERANK_{name.upper()}" for name in Settings.model_fields}
    given = {name for document in documents() if document["kind"] == "ConfigMap" for name in document["data"]}
    given |= {
        variable["name"] for pod in pods() for container in pod["spec"]["containers"] for variable in container["env"]
    }
    assert {name for name in given if name.startswith("FORERANK_")} <= known


def test_selectors_select_their_pods() -> None:
    found = [document for document in documents() if document["kind"] in ("Deployment", "Service")]
    for document in found:
        selector = document["spec"]["selector"]
        wanted = selector.get("matchLabels", selector)
        assert any(wanted.items() <= pod["metadata"]["labels"].items() for pod in pods())
