"""What is deployed: files parse, fit their schemas, and name only what the program has.

No container engine, cluster or mesh is needed: manifests are held against Kubernetes' own schemas, the compose file
against its specification, and every command line against the program's own flags.
"""

import json
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose
from typer.core import TyperGroup
from typer.main import get_command

from call_initiation.program import settings, sidecar
from call_initiation.program.commands import app
from call_initiation.program.settings import Settings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
UNIT = DEPLOY / "systemd" / "call-initiation-exporter.service"
GUIDE = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
DOCUMENTS = [ROOT / "docs" / "gateway.md", ROOT / "docs" / "deploy.md"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENDS_WITHIN = sidecar._DRAIN + sidecar._FLUSH
OPERATORS_OWN = {"PodMonitor", "VirtualService"}
"""Kinds that Kubernetes itself doesn't know."""


def manifests() -> Iterator[dict[str, Any]]:
    """Yield every Kubernetes object."""
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text(encoding="utf-8"))


def manifest(kind: str) -> dict[str, Any]:
    """Return the one object of a kind."""
    (found,) = (one for one in manifests() if one["kind"] == kind)
    return found


POD: dict[str, Any] = manifest("Deployment")["spec"]["template"]["spec"]
(GATEWAY,) = POD["initContainers"]


def command_lines() -> dict[str, list[str]]:
    """Return, by where it stands, each command line of the program without its name."""
    (unit,) = re.findall(r"^ExecStart=\S+/call-initiation-exporter (.*)$", UNIT.read_text(), re.MULTILINE)
    (readme,) = re.findall(r"call-initiation-exporter (serve .*)", (ROOT / "README.md").read_text(encoding="utf-8"))
    return {
        "compose: gateway": SERVICES["gateway"]["command"],
        "compose: organisation": SERVICES["organisation"]["command"],
        "compose: health": SERVICES["gateway"]["healthcheck"]["test"][2:],
        "kubernetes": GATEWAY["args"],
        "systemd": shlex.split(unit),
        "readme": shlex.split(readme),
    }


def commands() -> dict[str, Any]:
    """Return the program's commands by name."""
    program = get_command(app)
    assert isinstance(program, TyperGroup)
    return dict(program.commands)


def options(command: str) -> dict[str, list[str]]:
    """Return a command's flags by the names of their values."""
    return {parameter.name or "": parameter.opts for parameter in commands()[command].params}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_parses(path: Path) -> None:
    """As what its name says."""
    text = path.read_text(encoding="utf-8")
    match path.suffix:
        case ".yaml" | ".yml":
            assert all(isinstance(one, dict) for one in yaml.safe_load_all(text))
        case ".py":
            compile(text, path.name, "exec")
        case suffix:
            assert ".service" == suffix


@pytest.mark.parametrize("path", [*FILES, *DOCUMENTS], ids=lambda path: path.name)
def test_no_file_names_a_place_of_ours(path: Path) -> None:
    """Neither a folder of a machine that it was written on, nor an index of packages."""
    text = path.read_text(encoding="utf-8")
    assert [] == re.findall(r"/(?:home|root|work|tmp)/\S*|pypi\S*|/simple\b|--(?:extra-)?index-url", text)


# -- Kubernetes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.29", "1.37"])
@pytest.mark.parametrize("found", [*manifests()], ids=lambda found: f"{found['kind']} {found['metadata']['name']}")
def test_every_manifest_fits_kubernetes_schema(found: dict[str, Any], version: str) -> None:
    """Strictly: an unknown key is an error; the first version with native sidecars, and the newest one known."""
    if found["kind"] in OPERATORS_OWN:
        assert {"apiVersion", "kind", "metadata", "spec"} == set(found)
        return
    assert version == ".".join(kubernetes_validate.validate(found, version, strict=True).split(".")[:2])


def test_a_slip_in_a_manifest_is_seen() -> None:
    """The check above can fail."""
    slipped = json.loads(json.dumps(manifest("Deployment")).replace("readinessProbe", "readynessProbe"))
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(slipped, "1.37", strict=True)


def test_the_gateway_is_a_native_sidecar() -> None:
    """Started before the dialer, and ended after it; the dialer waits until it is ready."""
    assert "Always" == GATEWAY["restartPolicy"]
    assert "/-/ready" == GATEWAY["startupProbe"]["httpGet"]["path"]


def test_probes_ask_where_the_program_answers() -> None:
    """On the port of the metrics, which must then listen beyond the pod's loopback."""
    (port,) = GATEWAY["ports"]
    asked = {name: GATEWAY[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert {port["name"]} == {get["port"] for get in asked.values()}
    assert ["/-/ready", "/-/ready", "/-/healthy"] == [get["path"] for get in asked.values()]
    listens = settings.load(flags=_flags(GATEWAY["args"])).metrics_listen
    assert ("0.0.0.0", port["containerPort"]) == listens  # noqa: S104 - a pod's own addresses


def test_nothing_in_the_pod_has_rights() -> None:
    """No root, no escalation, no capability, no root that could be written to."""
    assert POD["securityContext"]["runAsNonRoot"]
    assert not POD["automountServiceAccountToken"]
    for container in (GATEWAY, *POD["containers"]):
        context = container["securityContext"]
        assert (True, False, ["ALL"]) == (
            context["readOnlyRootFilesystem"],
            context["allowPrivilegeEscalation"],
            context["capabilities"]["drop"],
        )


def test_the_journal_is_in_the_one_volume_that_is_written_to() -> None:
    """A folder in it, so that it gets the right mode; pod, compose and unit name one that they have."""
    (mount,) = GATEWAY["volumeMounts"]
    (volume,) = POD["volumes"]
    assert (mount["name"], {"emptyDir"}) == (volume["name"], set(volume) - {"name"})
    (named,) = [one["value"] for one in GATEWAY["env"] if one["name"] == "CALL_INITIATION_JOURNAL"]
    service = SERVICES["gateway"]
    assert [f"journal:{mount['mountPath']}"] == service["volumes"]
    assert f"{mount['mountPath']}/journal" == named == service["environment"]["CALL_INITIATION_JOURNAL"]
    unit = dict(
        re.findall(r"^(StateDirectory|Environment=CALL_INITIATION_JOURNAL)=(.+)$", UNIT.read_text(), re.MULTILINE)
    )
    assert f"%S/{unit['StateDirectory']}/journal" == unit["Environment=CALL_INITIATION_JOURNAL"]


def test_the_volume_has_room_for_the_journal() -> None:
    """And for what an ended container has left of its own, until it is taken over."""
    (volume,) = POD["volumes"]
    assert settings.size(volume["emptyDir"]["sizeLimit"].replace("Mi", "MiB")) >= 2 * Settings().journal_size


def test_the_pod_runs_as_the_image_s_user() -> None:
    """The number that the Dockerfile has."""
    context = GATEWAY["securityContext"]
    assert f"USER {context['runAsUser']}:{context['runAsGroup']}" in (ROOT / "Dockerfile").read_text()


def test_the_secret_holds_what_settings_read() -> None:
    """The client's credentials, by their names in the environment; no value of it is a real one."""
    (source,) = GATEWAY["envFrom"]
    secret = manifest("Secret")
    assert secret["metadata"]["name"] == source["secretRef"]["name"]
    assert {"GENESYS_CLIENT_ID": "put-yours-here", "GENESYS_CLIENT_SECRET": "put-yours-here"} == secret["stringData"]


def test_all_select_the_same_pods() -> None:
    """Deployment, scrape and policy."""
    labels = manifest("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels == manifest("Deployment")["spec"]["selector"]["matchLabels"]
    assert labels == manifest("PodMonitor")["spec"]["selector"]["matchLabels"]
    assert labels == manifest("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    assert manifest("PodMonitor")["spec"]["jobLabel"] in labels


def test_the_scrape_and_the_policy_mean_the_metrics() -> None:
    """And the gateway's own port is in neither."""
    (endpoint,) = manifest("PodMonitor")["spec"]["podMetricsEndpoints"]
    (ingress,) = manifest("NetworkPolicy")["spec"]["ingress"]
    (port,) = GATEWAY["ports"]
    assert ("/metrics", port["name"]) == (endpoint["path"], endpoint["port"])
    assert [{"port": port["containerPort"]}] == ingress["ports"]


def test_a_mesh_sends_call_starts_once() -> None:
    """Its own retries are off, and it waits longer than the gateway does."""
    routes = [route for one in manifests() if one["kind"] == "VirtualService" for route in one["spec"]["http"]]
    assert [{"attempts": 0}] * 2 == [route["retries"] for route in routes]
    assert all(settings.duration(route["timeout"]) > Settings().deadline for route in routes)


# -- compose ----------------------------------------------------------------------------------------------------------


def test_the_compose_file_fits_its_specification() -> None:
    """By a parser that wasn't written here; it knows no merge keys, so it gets them resolved."""
    assert set(SERVICES) == set(PyCompose.from_json(json.dumps(COMPOSE)).service_names())


def test_a_slip_in_the_compose_file_is_seen() -> None:
    """The check above can fail."""
    with pytest.raises(ValueError, match="health"):
        PyCompose.from_json(json.dumps(COMPOSE).replace("service_healthy", "service_in_good_health"))


def test_every_mounted_file_is_there() -> None:
    """Each path of this checkout that a service mounts."""
    mounted = [one.split(":")[0] for service in SERVICES.values() for one in service.get("volumes", ())]
    bound = [DEPLOY / one for one in mounted if one.startswith(".")]
    assert set(mounted) - {one for one in mounted if one.startswith(".")} == set(COMPOSE["volumes"])
    assert [] == [path for path in bound if not path.exists()]
    assert {path.name for path in (DEPLOY / "compose").iterdir() if path.is_file()} == {
        path.name for path in bound if path.parent.name == "compose"
    }


def test_every_published_port_is_on_loopback() -> None:
    """Nothing of a demonstration is shown to a network."""
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ["127.0.0.1"] * len(published) == [port.split(":")[0] for port in published]


def test_every_wait_is_for_a_service_that_can_be_healthy() -> None:
    """Who is waited for says when it is ready, by itself."""
    for service in SERVICES.values():
        waits = service.get("depends_on", {})
        assert set(waits) <= set(SERVICES)
        healthy = [name for name in waits if isinstance(waits, dict) and waits[name]["condition"] == "service_healthy"]
        assert all("test" in SERVICES[name]["healthcheck"] for name in healthy)


def test_the_exporter_s_image_is_this_version() -> None:
    """In the compose file and in the manifest."""
    tag = f"call-initiation-exporter:{PROJECT['version']}"
    assert tag == SERVICES["gateway"]["image"]
    assert GATEWAY["image"].endswith(f"/{tag}")


def test_every_image_has_a_version() -> None:
    """None is whatever was pushed last."""
    images = [service["image"] for service in SERVICES.values()]
    images += [container["image"] for container in (GATEWAY, *POD["containers"])]
    assert [] == [image for image in images if not re.search(r":v?\d+\.\d+\.\d+$", image)]


def test_prometheus_scrapes_the_gateway_and_has_the_rules(engine: Callable[[str], Path], tmp_path: Path) -> None:
    """The target is the compose file's; the configuration is one that Prometheus takes, with the rules it names."""
    text = (DEPLOY / "compose" / "prometheus.yml").read_text(encoding="utf-8")
    (job,) = yaml.safe_load(text)["scrape_configs"]
    listens = settings.load(flags=_flags(SERVICES["gateway"]["command"])).metrics_listen
    assert [f"gateway:{listens.port}"] == job["static_configs"][0]["targets"]
    mounted = dict(volume.split(":")[:2][::-1] for volume in SERVICES["prometheus"]["volumes"])
    for rules in yaml.safe_load(text)["rule_files"]:
        text = text.replace(rules, str((DEPLOY / mounted[rules]).resolve()))
    file = tmp_path / "prometheus.yml"
    file.write_text(text, encoding="utf-8")
    assert b"rules found" in _checked([engine("promtool"), "check", "config", file])


def test_the_collector_s_pipelines_are_made_of_what_it_has() -> None:
    """And each ends at a service of the compose file; the gateway sends to where it listens."""
    config = yaml.safe_load((DEPLOY / "compose" / "collector.yaml").read_text(encoding="utf-8"))
    for pipeline in config["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            assert set(names) <= set(config[kind])
    for exporter in config["exporters"].values():
        assert re.sub(r"^http://", "", exporter["endpoint"]).split(":")[0] in SERVICES
    port = config["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(":")[2]
    assert f"http://collector:{port}" == SERVICES["gateway"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]


def test_grafana_finds_its_data_sources_and_dashboards() -> None:
    """The provisioned addresses are services of the compose file, at the ports that they listen on."""
    folder = ROOT / "dashboards" / "provisioning"
    sources = yaml.safe_load((folder / "datasources" / "call-initiation.yaml").read_text(encoding="utf-8"))
    listening = {
        "prometheus": SERVICES["prometheus"]["ports"][0].rpartition(":")[2],
        "tempo": str(_config("tempo")["server"]["http_listen_port"]),
        "loki": str(_config("loki")["server"]["http_listen_port"]),
    }
    assert {f"http://{name}:{port}" for name, port in listening.items()} == {
        source["url"] for source in sources["datasources"]
    }
    provider = yaml.safe_load((folder / "dashboards" / "call-initiation.yaml").read_text(encoding="utf-8"))
    path = provider["providers"][0]["options"]["path"]
    assert f"../dashboards/grafana:{path}:ro" in SERVICES["grafana"]["volumes"]


def _config(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / f"{name}.yaml").read_text(encoding="utf-8"))
    return found


# -- the program ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [*command_lines().values()], ids=[*command_lines()])
def test_every_command_line_is_one_that_the_program_takes(line: list[str]) -> None:
    """Its command and its flags, with as many values as they have."""
    command = commands()[line[0]]
    command.make_context(line[0], list(line[1:]))
    flags = [word for word in line[1:] if word.startswith("--")]
    assert set(flags) <= {flag for names in options(line[0]).values() for flag in names}


def _flags(line: list[str]) -> dict[str, object]:
    """Return what a line of `serve` sets."""
    return commands()["serve"].make_context("serve", list(line[1:])).params


@pytest.mark.parametrize("line", ["compose: gateway", "kubernetes", "readme"])
def test_every_setting_can_be_used(line: str) -> None:
    """The values on the command line are such that the gateway would start with them."""
    assert sidecar.plan(settings.load(flags=_flags(command_lines()[line]))).port == 8080


def test_every_variable_of_ours_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the compose file and in the manifest; an unknown one would be refused."""
    environment = {**SERVICES["gateway"]["environment"], **{one["name"]: one["value"] for one in GATEWAY["env"]}}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert "json" == settings.load().log_format


@pytest.mark.parametrize("service", ["gateway", "dialer"])
def test_nothing_is_killed_before_it_has_come_to_its_end(service: str) -> None:
    """What is given for an end is more than the gateway takes; a dialer waits for the gateway's answers."""
    assert settings.duration(SERVICES[service]["stop_grace_period"]) > ENDS_WITHIN


def test_the_pod_and_the_unit_are_not_killed_before_their_end_either() -> None:
    """A sidecar ends after its dialer, within the same time."""
    assert POD["terminationGracePeriodSeconds"] > ENDS_WITHIN + Settings().deadline
    (stop,) = re.findall(r"^TimeoutStopSec=(.+)$", UNIT.read_text(), re.MULTILINE)
    assert settings.duration(stop) > ENDS_WITHIN


# -- systemd ----------------------------------------------------------------------------------------------------------


def test_systemd_takes_the_unit_and_finds_it_well_confined(engine: Callable[[str], Path], tmp_path: Path) -> None:
    """With a program that is there in the place of ours; an exposure up to 2.0 of 10 is what systemd calls OK."""
    unit = tmp_path / UNIT.name
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.MULTILINE)
    unit.write_text(text, encoding="utf-8")
    analyze = engine("systemd-analyze")
    assert b"" == _checked([analyze, "verify", "--man=no", unit])
    assert b"OK" in _checked([analyze, "security", "--offline=true", "--threshold=20", unit])


def _checked(command: list[object]) -> bytes:
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run([*map(str, command)], capture_output=True, check=False, timeout=60, env=environment)  # noqa: S603 - an engine
    assert 0 == done.returncode, (done.stdout + done.stderr).decode()
    return done.stdout + done.stderr.strip()


# -- the guide --------------------------------------------------------------------------------------------------------


def test_the_guide_has_every_setting_with_its_names_and_default() -> None:
    """Its row of the table: key, variable, flag, default; and no row more."""
    table = GUIDE.partition("<!-- settings:begin -->\n")[2].partition("\n<!-- settings:end -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")][:4] for line in table.splitlines()[2:]]
    rows = [[cell.strip("|` ") for cell in row] for row in rows]
    flags = options("serve")
    assert sorted(_row(key, flags) for key in Settings.model_fields) == sorted(rows)
    assert {"config"} == set(flags) - set(Settings.model_fields)
    assert "`--config`" in GUIDE


def _row(key: str, flags: dict[str, list[str]]) -> list[str]:
    variable = key.upper() if key in settings._CREDENTIALS else f"CALL_INITIATION_{key.upper()}"
    return [key, variable, flags.get(key, [""])[0], _shown(getattr(Settings(), key))]


def _shown(default: object) -> str:
    match default:
        case None:
            return ""
        case bool():
            return str(default).lower()
        case float():
            return f"{default:g}s"
        case int():
            return f"{default // 2**20}MiB"
        case settings.Address():
            return f"{default.host}:{default.port}"
        case _:
            return str(default)


def test_the_guide_s_example_file_is_one_that_settings_take(tmp_path: Path) -> None:
    """Word for word."""
    (example,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    file = tmp_path / "gateway.toml"
    file.write_text(example, encoding="utf-8")
    assert ("mypurecloud.ie", 20.0) == (settings.load(file).upstream, settings.load(file).deadline)


def test_the_guide_says_how_long_an_end_takes() -> None:
    """The seconds that the program has."""
    assert f"have {sidecar._DRAIN:g} seconds" in GUIDE
    assert f"then {sidecar._FLUSH:g} seconds" in GUIDE
    assert f"these {ENDS_WITHIN:g} seconds" in GUIDE


def test_every_deployed_file_is_in_the_guide() -> None:
    """The table of what there is misses none, but for what the compose file mounts."""
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    named = [path.relative_to(ROOT).as_posix() for path in FILES if path.parent.name != "compose"]
    assert [] == [name for name in named if f"`{name}`" not in text]
