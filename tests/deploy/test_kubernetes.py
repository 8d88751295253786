"""deploy/kubernetes against the schemas of Kubernetes, put together as kustomize does; no cluster has seen it."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.postgres_places import REPOSITORY

from kinfolk.kit.settings import PREFIX, every_setting

FOLDER = REPOSITORY / "deploy/kubernetes"
VERSIONS = ["1.31", "1.34"]
ROLES = {"kinfolk-api", "kinfolk-work", "kinfolk-schedule", "kinfolk-consume"}

Document = dict[str, Any]


def put_together(folder: Path) -> list[Document]:
    """What kustomize makes of a folder, as far as ours uses it: resources, namespace, labels, images, secrets."""
    said = yaml.safe_load((folder / "kustomization.yaml").read_text())
    known = {"apiVersion", "kind", "namespace", "resources", "labels", "images", "secretGenerator", "patches"}
    assert set(said) <= known, "this reader knows less than kustomize"
    documents: list[Document] = []
    for name in said["resources"]:
        path = (folder / name).resolve()
        documents += put_together(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    for secret in said.get("secretGenerator", []):
        data = {name: (folder / name).read_text() for name in secret["files"]}
        documents.append(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret["name"]}, "stringData": data}
        )
    for document in documents:
        name_as_told(document, said)
    for patch in said.get("patches", []):
        [patched] = [each for each in documents if matches(each, patch["target"])]
        for change in yaml.safe_load(patch["patch"]):
            replace(patched, change)
    return documents


def name_as_told(document: Document, said: dict[str, Any]) -> None:
    """Labels, namespace and image."""
    for label in said.get("labels", []):
        document["metadata"].setdefault("labels", {}).update(label["pairs"])
    if "namespace" in said and document["kind"] != "Namespace":
        document["metadata"]["namespace"] = said["namespace"]
    for container in containers(document):
        for image in said.get("images", []):
            if container["image"] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"


def replace(patched: Any, change: dict[str, Any]) -> None:
    *above, last = change["path"].strip("/").split("/")
    for step in above:
        patched = patched[step]
    assert change["op"] == "replace"
    assert last in patched
    patched[last] = change["value"]


def matches(document: Document, target: dict[str, str]) -> bool:
    return document["kind"] == target["kind"] and document["metadata"]["name"] == target["name"]


def pod(document: Document) -> Document:
    return document.get("spec", {}).get("template", {}).get("spec", {})


def containers(document: Document) -> list[Document]:
    return pod(document).get("containers", [])


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return put_together(FOLDER / "overlays/example")


def of_kind(documents: list[Document], kind: str) -> dict[str, Document]:
    return {each["metadata"]["name"]: each for each in documents if each["kind"] == kind}


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_all_of_it(version: str, documents: list[Document]) -> None:
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)


def test_it_would_not_know_a_misspelt_word(documents: list[Document]) -> None:
    wrong = yaml.safe_load(yaml.safe_dump(of_kind(documents, "Deployment")["kinfolk-api"]))
    wrong["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenessProb"):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_each_role_has_a_deployment_a_budget_and_probes(documents: list[Document]) -> None:
    assert set(of_kind(documents, "Deployment")) == set(of_kind(documents, "PodDisruptionBudget")) == ROLES
    for deployment in of_kind(documents, "Deployment").values():
        [container] = containers(deployment)
        assert {"startupProbe", "livenessProbe"} <= set(container)
        ports = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert probe not in container or container[probe]["httpGet"]["port"] in ports
        assert pod(deployment)["terminationGracePeriodSeconds"] > 20 + 5  # --grace-seconds, and the pause before it


def test_nothing_selects_what_is_not_there(documents: list[Document]) -> None:
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in documents if pod(each)]
    selectors = [each["spec"]["selector"] for each in of_kind(documents, "Service").values()]
    for kind in ("Deployment", "PodDisruptionBudget"):
        selectors += [each["spec"]["selector"]["matchLabels"] for each in of_kind(documents, kind).values()]
    for selector in selectors:
        assert [each for each in labels if selector.items() <= each.items()], selector
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]: each for each in of_kind(documents, "HorizontalPodAutoscaler").values()
    }
    assert set(scaled) == {"kinfolk-api", "kinfolk-consume"}
    for name in scaled:  # else each `apply` would set the number back
        assert "replicas" not in of_kind(documents, "Deployment")[name]["spec"]
    assert scaled["kinfolk-api"]["spec"]["maxReplicas"] == 4  # the overlay's patch
    assert scaled["kinfolk-api"]["spec"]["metrics"][0]["resource"]["name"] == "cpu"
    assert scaled["kinfolk-consume"]["spec"]["metrics"][0]["external"]["metric"]["selector"]["matchLabels"] == {
        "queue": "example.main"
    }


def test_pods_may_little(documents: list[Document]) -> None:
    running = [each for each in documents if pod(each)]
    assert len(running) == 5
    for document in running:
        assert pod(document)["securityContext"]["runAsNonRoot"] is True
        assert pod(document)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod(document)["automountServiceAccountToken"] is False
        for container in containers(document):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["image"] == "registry.example.org/kinfolk:0.1.0"
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]


def test_words_and_variables_are_those_of_kinfolk(documents: list[Document]) -> None:
    words = {containers(each)[0]["args"][0] for each in documents if pod(each)}
    assert words == {"api", "consume", "db", "schedule", "work"}
    names = {
        each["name"]
        for document in documents
        for container in containers(document)
        for each in container.get("env", [])
    }
    settings = {name.removeprefix(PREFIX).lower() for name in names if name.startswith(PREFIX)}
    assert settings <= set(every_setting())
    [secret] = of_kind(documents, "Secret").values()
    assert set(re.findall(r"^(\w+) = ", secret["stringData"]["kinfolk.toml"], re.MULTILINE)) <= set(every_setting())
