"""What hosts, registries and stores are given agrees with the code."""

from __future__ import annotations

import base64
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from inferencesh_mcp import __version__
from inferencesh_mcp.cli import HOSTS as NAMES
from inferencesh_mcp.hosts import edit
from inferencesh_mcp.hosts.catalogue import HOSTS, KEY, Host
from inferencesh_mcp.settings import FIELDS, PREFIX
from tests import licences
from tests.generated import INSIDE, LICENCES, README, ROOT, VERSIONED, contract, with_version
from tests.manifests import DESCRIPTION, FOLDER, REGISTERED, UVX, manifests

PAGES = (README, INSIDE, FOLDER / "README.md")
VARIABLES = {PREFIX + name.upper() for name in FIELDS}


def read(name: str) -> Any:
    return json.loads((FOLDER / name).read_text("utf-8"))


def test_the_manifests_are_up_to_date() -> None:
    """`make generate` writes them."""
    expected = manifests(contract())
    folders = [FOLDER / "hosts", FOLDER / "mcpb"]
    there = {*FOLDER.glob("*.json"), *(path for folder in folders for path in folder.rglob("*") if path.is_file())}

    assert set(expected) == {path.relative_to(FOLDER).as_posix() for path in there}
    assert expected == {name: (FOLDER / name).read_text("utf-8") for name in expected}


def test_the_manifests_agree_with_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    assert (project["description"], project["name"]) == (DESCRIPTION, read("mcpb/manifest.json")["name"])
    assert f"<!-- mcp-name: {REGISTERED} -->" in README.read_text("utf-8")
    assert [{"name": read("mcpb/manifest.json")["author"]["name"].partition(" (")[0]}] == project["authors"]
    assert len(DESCRIPTION) <= 100, "the registry takes no more"


@pytest.mark.parametrize("name", ["server.json", "mcpb/manifest.json", "gemini-extension.json"])
def test_every_manifest_has_this_version(name: str) -> None:
    found = re.findall(r'"version": "([^"]+)"', (FOLDER / name).read_text("utf-8"))

    assert {__version__} == set(found)


def test_the_image_has_this_version_wherever_it_is_named() -> None:
    """`make generate` writes it from `__version__`."""
    texts = [path.read_text("utf-8") for path in VERSIONED]

    assert texts == [with_version(text) for text in texts]
    assert [] == [path for path, text in zip(VERSIONED, texts, strict=True) if __version__ not in text]


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="newer versions need fewer packages")
def test_the_licences_of_all_dependencies_are_listed_and_allow_their_use() -> None:
    table = licences.as_markdown()

    assert table == LICENCES.read_text("utf-8")
    assert not re.search(r"unknown|GPL", table)


def test_every_variable_in_the_manifests_is_a_setting() -> None:
    """On the pages and in all of `manifests/`."""
    texts = [path.read_text("utf-8") for path in (*PAGES, *FOLDER.rglob("*")) if path.is_file()]

    assert set() == {name for text in texts for name in re.findall(r"\bINFERENCE_[A-Z_]+\b", text)} - VARIABLES


def test_every_tool_in_the_manifests_is_a_tool() -> None:
    tools = contract()
    named = {tool["name"]: tool["description"] for tool in read("mcpb/manifest.json")["tools"]}
    text = "".join(page.read_text("utf-8") for page in PAGES)
    on_pages = set(re.findall(r"`((?:app|task|file|session|agent|chat)_\w+)[`(]", text))

    assert {name: tool["description"] for name, tool in tools.items()} == named
    assert set() == on_pages - set(tools) - {"task_id", "chat_id", "session_id", "file_id"}


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_an_example_is_readable_by_its_host_and_holds_no_key(host: Host) -> None:
    path = next((FOLDER / "hosts").glob(f"{host.name}.*"))

    found = edit.servers(host, path.read_text("utf-8"))
    assert {"inference": host.entry(UVX, "inf_your_key")} == dict(found)
    assert set(re.findall(r"inf_\w+", path.read_text("utf-8"))) <= {"inf_your_key"}


def test_the_badges_add_what_install_would_write() -> None:
    links = re.findall(r"\)\]\((https://\S+)\)$", _between("badges"), re.MULTILINE)
    cursor, vscode = (urlsplit(link) for link in links)
    by_name = {host.name: host for host in HOSTS}

    asked = parse_qs(cursor.query)
    assert ("cursor.com", "/en/install-mcp", ["inference"]) == (cursor.hostname, cursor.path, asked["name"])
    assert by_name["cursor"].entry(UVX) == json.loads(base64.b64decode(asked["config"][0]))

    [target] = parse_qs(vscode.query)["url"]
    assert target.startswith("vscode:mcp/install?")
    told = json.loads(unquote(target.partition("?")[2]))
    written = edit.content(by_name["vscode"], edit.put(by_name["vscode"], "", "inference", told_entry(told)))
    assert ("inference", by_name["vscode"].entry(UVX)) == (told["name"], told_entry(told))
    assert written["inputs"] == told["inputs"]
    assert told["inputs"][0]["password"] is True


def told_entry(told: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in told.items() if key not in {"name", "inputs"}}


def test_secrets_are_marked_as_secret() -> None:
    registry, bundle, gemini = read("server.json"), read("mcpb/manifest.json"), read("gemini-extension.json")
    keys = [next(v for v in p["environmentVariables"] if v["name"] == KEY) for p in registry["packages"]]

    assert all(key["isSecret"] and key["isRequired"] for key in (*keys, *registry["remotes"][0]["headers"]))
    assert bundle["user_config"]["api_key"]["sensitive"]
    assert "${user_config.api_key}" == bundle["server"]["mcp_config"]["env"][KEY]
    assert {"envVar": KEY, "sensitive": True}.items() <= gemini["settings"][0].items()


def test_the_pages_name_every_host_and_only_commands_that_exist() -> None:
    from inferencesh_mcp.cli import _group

    text = "".join(page.read_text("utf-8") for page in PAGES)
    named = re.findall(r"inferencesh-mcp install ([a-z-]+)", _between("hosts"))
    commands = {
        name for name in re.findall(r"inferencesh-mcp ([a-z]+)\b", text) if name not in {"install", "uninstall"}
    }

    assert list(NAMES) == named
    assert commands <= set(_group.commands)


def _between(name: str) -> str:
    text = "".join(page.read_text("utf-8") for page in PAGES)
    return text.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0]


def test_every_file_of_the_bundle_exists() -> None:
    manifest = read("mcpb/manifest.json")

    assert Path(ROOT, manifest["server"]["entry_point"]).is_file()
    assert manifest["server"]["mcp_config"]["args"][-1] == "inferencesh-mcp"


def test_every_file_named_in_a_page_exists() -> None:
    """Names go from the root; `make lint` follows the links."""
    text = "".join(page.read_text("utf-8") for page in (*PAGES, ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md"))
    named = {ROOT / name for name in re.findall(r"`((?:tests|manifests)/[\w./-]*)`", text)}

    assert [] == [path for path in named if not path.exists()]
