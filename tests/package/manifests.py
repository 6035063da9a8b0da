"""The manifests for running many: they are valid, hardened, and agree with the code."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dockerfile import DOCKERFILE, ROOT

from inferencesh_mcp import __version__
from inferencesh_mcp.http.app import PATH
from inferencesh_mcp.settings import FIELDS, PREFIX, Settings

DRAIN = Settings().drain_seconds
TOOLS = ROOT / ".venv" / "package" / "bin"
MANIFESTS = ROOT / "manifests"
KUBERNETES = sorted((MANIFESTS / "kubernetes").glob("*.yaml"))
TO_JSON = Path(__file__).parent / "to_json.py"
IMAGE = f"inferencesh-mcp:{__version__}"
USER = int(re.findall(r"^USER (\d+)", DOCKERFILE.read_text("utf-8"), re.MULTILINE)[0])


def judge(check: Callable[[str, Callable[[], object]], None], done: Callable[..., str]) -> None:
    """Every check of the manifests; `done` runs a command and returns what it wrote."""
    read = json.loads(done(TOOLS / "python", TO_JSON, *KUBERNETES, MANIFESTS / "compose.yaml"))
    objects = {item["kind"]: item for documents in read[:-1] for item in documents}
    compose = read[-1][0]
    check("kubernetes: the schemas", lambda: done(TOOLS / "kubernetes-validate", "--strict", *KUBERNETES))
    check("kubernetes: one picks the other", lambda: belong_together(objects))
    check("kubernetes: nothing is allowed that is not needed", lambda: hardened(objects["Deployment"]))
    check("kubernetes: settings, probes and drain are the code's", lambda: true_to_the_code(objects["Deployment"]))
    check("compose: valid, hardened, true to the code", lambda: composed(compose))
    check("nginx: streams, and never sends a run twice", lambda: proxied(compose, done))


def belong_together(objects: dict[str, Any]) -> None:
    deployment, labels = objects["Deployment"], objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    port = deployment["spec"]["template"]["spec"]["containers"][0]["ports"][0]

    assert {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"} == set(objects)
    assert labels == deployment["spec"]["selector"]["matchLabels"] == objects["Service"]["spec"]["selector"]
    assert labels == objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]
    assert labels == objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    assert port["name"] == objects["Service"]["spec"]["ports"][0]["targetPort"]
    assert [port["containerPort"]] == [p["port"] for p in objects["NetworkPolicy"]["spec"]["ingress"][0]["ports"]]
    target = objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert ("Deployment", deployment["metadata"]["name"]) == (target["kind"], target["name"])
    assert "replicas" not in deployment["spec"], "the autoscaler decides"


def hardened(deployment: dict[str, Any]) -> None:
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    context = container["securityContext"]

    assert (True, USER, USER) == tuple(pod["securityContext"][f"runAs{kind}"] for kind in ("NonRoot", "User", "Group"))
    assert "RuntimeDefault" == pod["securityContext"]["seccompProfile"]["type"]
    assert pod["automountServiceAccountToken"] is False
    assert {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    } == context
    assert {"memory"} == set(container["resources"]["limits"])


def true_to_the_code(deployment: dict[str, Any]) -> None:
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    settings = {env["name"]: env.get("value") for env in container["env"]}
    names = [env["name"] for env in container["env"]]
    assert len(names) == len(settings), "the last of two with one name would count"
    secret = {name for name, value in settings.items() if value is None}

    assert IMAGE == container["image"]
    assert "http" == container["args"][0]
    assert pod["terminationGracePeriodSeconds"] >= pause + DRAIN + 5, "it would be killed in its drain"
    Settings.from_environ({name: value for name, value in settings.items() if value})
    assert not secret - {PREFIX + name.upper() for name in FIELDS}
    assert not [name for name in settings.keys() - secret if name.endswith(("KEY", "KEYS", "URL"))], (
        "secrets by reference"
    )
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"} == {
        n: p["path"] for n, p in probes.items()
    }


def composed(compose: dict[str, Any]) -> None:
    services = compose["services"]
    servers = [service for name, service in services.items() if name.startswith("server-")]

    assert len(servers) >= 2
    for service in services.values():
        assert service["read_only"] is True
        assert ["ALL"] == service["cap_drop"]
        assert ["no-new-privileges:true"] == service["security_opt"]
        assert set(service["networks"]) <= set(compose["networks"])
        assert set(service.get("depends_on", {})) <= set(services)
    for server in servers:
        assert IMAGE == server["image"]
        plain = {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for name, value in server["environment"].items()}
        Settings.from_environ({name: value for name, value in plain.items() if "${" not in value})
        assert int(server["stop_grace_period"].removesuffix("s")) >= DRAIN + 5
    for name in ("redis", "proxy"):
        assert re.search(r":[\d.]+-alpine@sha256:[0-9a-f]{64}$", services[name]["image"])


def proxied(compose: dict[str, Any], done: Callable[..., str]) -> None:
    text = (MANIFESTS / "nginx.conf").read_text("utf-8")
    spoken = re.sub(r"#.*", "", text)
    named = re.findall(r"^\s+server (\S+):8000 ", spoken, re.MULTILINE)

    assert named == [name for name in compose["services"] if name.startswith("server-")]
    rules = re.findall(r"proxy_next_upstream ([^;]+);", spoken)
    assert "proxy_buffering off;" in spoken
    assert ["error timeout", "http_503 non_idempotent"] == rules, "a POST is sent again only where none took it"
    assert PATH == "/mcp", "the one that README and compose.yaml name"
    if nginx := shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin"):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as local:
            local.write(re.sub(r"server-\d:", "127.0.0.1:", text))
            local.flush()
            done(Path(nginx), "-t", "-q", "-c", local.name)
