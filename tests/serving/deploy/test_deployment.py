"""serving/deploy/configs, docker-compose and Kubernetes files: all that can be checked without a cluster."""

from __future__ import annotations

import re
from pathlib import Path

import kubernetes.client
import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.model_server.core import server_core
from serving.model_server.core.version_manager import VersionManager
from serving.model_server.process import config_files

SERVING = Path(__file__).resolve().parents[3] / "serving" / "deploy"
CONFIG, KUBERNETES = SERVING / "configs", SERVING / "kubernetes"
# Flags of tensorflow_model_server that our files use.
FLAGS = {
    "port",
    "rest_api_port",
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "file_system_poll_wait_seconds",
    "allow_version_labels_for_unavailable_models",
    "monitoring_config_file",
}
KINDS = {
    "PersistentVolumeClaim": "V1PersistentVolumeClaim",
    "ConfigMap": "V1ConfigMap",
    "Deployment": "V1Deployment",
    "Service": "V1Service",
    "HorizontalPodAutoscaler": "V2HorizontalPodAutoscaler",
    "PodDisruptionBudget": "V1PodDisruptionBudget",
}


def manifests() -> list[tuple[str, dict]]:
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    return [
        (f"{name}: {document['metadata']['name']}", document)
        for name in listed
        for document in yaml.safe_load_all((KUBERNETES / name).read_text())
    ]


def one(kind: str) -> dict:
    return next(document for _, document in manifests() if document["kind"] == kind)


# ---- TensorFlow Serving's configuration


@pytest.mark.parametrize("name", ["models.config", "models-labels.config"])
def test_models_parse_with_tf_serving_s_message_and_are_taken_over(name: str) -> None:
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse((CONFIG / name).read_text(), config)
    core = server_core.ServerCore(
        lambda model, base, policy: VersionManager(model, base, None, policy=policy),
        allow_labels_for_unavailable=True,
    )
    core.reload(config)
    core.stop()
    assert core.models() == ["shelfwise"]
    (model,) = config.model_config_list.config
    assert model.base_path == "/models/shelfwise"
    assert set(model.version_labels) == ({"stable", "canary"} if "labels" in name else set())


def test_the_other_files_parse() -> None:
    assert config_files.read_batching(str(CONFIG / "batching.config")).max_batch_size == 32
    assert config_files.read_monitoring(str(CONFIG / "monitoring.config")) == config_files.PROMETHEUS_PATH
    assert config_files.read_ssl(str(CONFIG / "ssl.config.example")).client_authority is not None


# ---- Compose


def test_compose_file_has_the_form_and_paths_it_should() -> None:
    document = yaml.safe_load((SERVING / "docker-compose.yml").read_text())
    assert set(document) == {"name", "services", "volumes"}
    allowed = {
        *("image", "entrypoint", "command", "ports", "volumes", "healthcheck", "restart"),
        *("stop_grace_period", "depends_on"),
    }
    for name, service in document["services"].items():
        assert set(service) <= allowed, name
        assert re.fullmatch(r"[a-z/-]+:\$\{[A-Z_]+:-v?\d+\.\d+\.\d+\}", service["image"])
        assert all(re.fullmatch(r"\d+:\d+", port) for port in service["ports"])
        assert set(service.get("depends_on", [])) <= set(document["services"])
        for volume in service["volumes"]:
            source, target = re.fullmatch(r"(.+?):(/[^:]+)(?::ro)?", volume).groups()
            assert target.startswith("/")
            if source.startswith("./"):
                assert (SERVING / source).exists(), source
            elif not source.startswith("$"):
                assert source in document["volumes"]
    server = document["services"]["tensorflow-serving"]
    check_flags(server["command"], CONFIG)
    assert server["healthcheck"]["test"][0] == "CMD"


def test_prometheus_scrapes_the_page_that_monitoring_config_names() -> None:
    document = yaml.safe_load((SERVING / "prometheus" / "prometheus.yml").read_text())
    (job,) = document["scrape_configs"]
    assert job["metrics_path"] == config_files.read_monitoring(str(CONFIG / "monitoring.config"))
    services = yaml.safe_load((SERVING / "docker-compose.yml").read_text())["services"]
    assert [target.split(":")[0] in services for target in job["static_configs"][0]["targets"]] == [True]


def check_flags(arguments: list[str], folder: Path) -> None:
    """Known flags, and files that exist in `folder` where they name one of /config."""
    for argument in arguments:
        name, _, value = argument.partition("=")
        assert name.removeprefix("--") in FLAGS, argument
        if value.startswith("/config/"):
            assert (folder / value.removeprefix("/config/")).exists()


# ---- Kubernetes


@pytest.mark.parametrize(("name", "document"), manifests(), ids=[name for name, _ in manifests()])
def test_manifest_is_what_the_kubernetes_client_understands(name: str, document: dict) -> None:
    """Typed models refuse missing fields; what they do not know is lost on the way through."""
    client = kubernetes.client.ApiClient()
    typed = client._ApiClient__deserialize(document, KINDS[document["kind"]])
    assert client.sanitize_for_serialization(typed) == document, name


def test_unknown_fields_would_be_seen() -> None:
    document = one("Service")
    document["spec"]["portz"] = []
    client = kubernetes.client.ApiClient()
    typed = client._ApiClient__deserialize(document, "V1Service")
    assert client.sanitize_for_serialization(typed) != document


def test_manifests_fit_each_other() -> None:
    deployment = one("Deployment")
    pod = deployment["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    (container,) = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for _, document in manifests():
        if document["kind"] == "Service":
            assert document["spec"]["selector"] == labels
            assert all(ports[port["targetPort"]] == port["port"] for port in document["spec"]["ports"])
    target = one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    assert "replicas" not in deployment["spec"]
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    claim = one("PersistentVolumeClaim")["metadata"]["name"]
    assert volumes["models"]["persistentVolumeClaim"]["claimName"] == claim
    assert volumes["config"]["configMap"]["name"] == one("ConfigMap")["metadata"]["name"]
    check_flags(container["args"], CONFIG)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        (action,) = (container[probe][kind] for kind in ("httpGet", "tcpSocket") if kind in container[probe])
        assert action["port"] in ports
    asked = {argument.partition("=")[0]: argument.partition("=")[2] for argument in container["args"]}
    assert (int(asked["--port"]), int(asked["--rest_api_port"])) == (ports["grpc"], ports["http"])


def test_config_map_equals_the_config_folder() -> None:
    for name, text in one("ConfigMap")["data"].items():
        assert text == (CONFIG / name).read_text(), name


def test_kserve_resource_has_the_form_it_should() -> None:
    document = yaml.safe_load((KUBERNETES / "kserve" / "inferenceservice.yaml").read_text())
    assert (document["apiVersion"], document["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = document["spec"]["predictor"]
    assert set(predictor) == {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "model"}
    assert predictor["model"]["modelFormat"] == {"name": "tensorflow"}
    assert document["metadata"]["name"] == "shelfwise"
    claim = one("PersistentVolumeClaim")["metadata"]["name"]
    assert predictor["model"]["storageUri"] == f"pvc://{claim}/shelfwise"
    resources = kubernetes.client.ApiClient()._ApiClient__deserialize(
        predictor["model"]["resources"], "V1ResourceRequirements"
    )
    assert resources.requests["cpu"] == "1"
