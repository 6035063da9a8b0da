"""One server in the text of a host's configuration: look it up, put it in, take it out. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from inferencesh_mcp.errors import HostFileRefused
from inferencesh_mcp.hosts import jsonc, toml
from inferencesh_mcp.hosts.catalogue import INPUT, array, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferencesh_mcp.hosts.catalogue import Host

INPUT_REFERENCE = f"${{input:{INPUT}}}"
_INPUT = {"type": "promptString", "id": INPUT, "description": "Your inference.sh key", "password": True}


def servers(host: Host, text: str) -> Mapping[str, Any]:
    """The servers that the text names, by name."""
    return table(content(host, text).get(host.section))


def content(host: Host, text: str) -> dict[str, Any]:
    """What the text says.

    Raises:
        HostFileRefused: it is not what a configuration of this host is.
    """
    if host.format == "toml":
        return toml.parse(text)
    node = jsonc.parse(text, comments=host.format == "jsonc")
    value: Any = {} if node is None else node.value
    if not isinstance(value, dict):
        raise HostFileRefused(message="is not a JSON object: it must begin with {.")
    return cast("dict[str, Any]", value)


def put(host: Host, text: str, name: str, entry: dict[str, Any]) -> str:
    """The text with the server in it, and with what its entry refers to."""
    path = (host.section, name)
    if host.format == "toml":
        return text if servers(host, text).get(name) == entry else toml.put(text, path, entry)
    comments = host.format == "jsonc"
    if INPUT_REFERENCE in repr(entry) and INPUT not in _inputs(host, text):
        text = jsonc.append(text, "inputs", _INPUT, comments=comments)
    return jsonc.put(text, path, entry, comments=comments)


def take(host: Host, text: str, name: str, *, before: Mapping[str, Any]) -> str:
    """The text without the server. What then holds nothing goes too, unless it was there `before`."""
    if host.format == "toml":
        return toml.take(text, (host.section, name))
    comments = host.format == "jsonc"
    while name in servers(host, text):  # the name may be there twice
        text = jsonc.take(text, (host.section, name), comments=comments)
    inputs = _inputs(host, text)
    if INPUT in inputs and INPUT_REFERENCE not in text and INPUT not in repr(before.get("inputs")):
        text = jsonc.take(text, ("inputs", inputs.index(INPUT)), comments=comments)
    now = content(host, text)
    for section in (host.section, "inputs"):
        if section in now and not now[section] and section not in before:
            text = jsonc.take(text, (section,), comments=comments)
    return text


def changes_only(host: Host, old: str, new: str, name: str) -> bool:
    """Whether two texts say the same about all but this server. It is asked before anything is written."""
    new_rest, old_rest = (_without(host, content(host, text), name) for text in (new, old))
    return new_rest == old_rest


def _without(host: Host, configuration: dict[str, Any], name: str) -> dict[str, Any]:
    rest: Any = configuration.get(host.section, {})
    if isinstance(rest, dict):
        rest = {key: value for key, value in table(rest).items() if key != name}
    inputs = [item for item in array(configuration.get("inputs")) if table(item).get("id") != INPUT]
    return {**configuration, host.section: rest} | ({"inputs": inputs} if host.asks_for_key else {})


def _inputs(host: Host, text: str) -> list[Any]:
    """The names of what VS Code asks for, in the order of the file."""
    if not host.asks_for_key:
        return []
    return [table(item).get("id") for item in array(content(host, text).get("inputs"))]
