"""Which apps have a tool, and what it is called: strings in, names or one sentence out."""

from __future__ import annotations

import pytest

from inferencesh_mcp.errors import SettingsError
from inferencesh_mcp.pins import MAX_NAME_LENGTH, MAX_PINS, parsed
from inferencesh_mcp.server import NAME, build
from inferencesh_mcp.settings import Settings

SHAPE = "[alias=]namespace/name[@version][:function]"


@pytest.mark.parametrize(
    ("pin", "name", "app"),
    [
        ("infsh/flux-schnell", "flux-schnell", "infsh/flux-schnell"),
        (" hero = bfl/flux-3-video@abc:generate ", "hero", "bfl/flux-3-video@abc:generate"),
        ("app/bfl/flux@latest", "flux", "bfl/flux"),
        ("sandbox/memory:get_value", "memory_get_value", "sandbox/memory:get_value"),
        ("acme/v2.5", "v2_5", "acme/v2.5"),
        ("acme/3d-model", "app_3d-model", "acme/3d-model"),
    ],
)
def test_a_pin_is_a_name_and_an_app(pin: str, name: str, app: str) -> None:
    (parsed_pin,) = parsed(pin)

    assert (name, app) == (parsed_pin.name, str(parsed_pin.app))


def test_a_long_name_is_cut_so_that_two_long_names_stay_apart() -> None:
    first, other = parsed(f"acme/{'x' * 60}1,acme/{'x' * 60}2")

    assert first.name != other.name
    assert MAX_NAME_LENGTH == len(first.name) == len(other.name)
    assert len(f"mcp__{NAME}__{first.name}") < 60


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("flux", f'INFERENCE_PIN has "flux", but takes {SHAPE}.'),
        ("a/b=c", f'INFERENCE_PIN has "a/b=c", but takes {SHAPE}.'),
        (
            "my tool=a/b",
            'INFERENCE_PIN has the alias "my tool", but an alias is a letter and up to 39 letters, digits, _ or -.',
        ),
        (
            f"{'x' * 41}=a/b",
            f'INFERENCE_PIN has the alias "{"x" * 41}", but an alias is a letter and up to 39 letters, digits, _ or -.',
        ),
        (
            "infsh/flux, bfl/flux",
            'INFERENCE_PIN has two tools called "flux": give one of them another name, for example bfl_flux=bfl/flux.',
        ),
        (
            "a-b=x/y,A_B=x/z",
            'INFERENCE_PIN has two tools called "A_B": give one of them another name, for example x_A_B=x/z.',
        ),
        (
            "acme/app_run",
            (
                'INFERENCE_PIN has a tool called "app_run", but the server already has a tool of that name: '
                "give it another name, for example acme_app_run=acme/app_run."
            ),
        ),
        (
            ",".join(f"a/b{number}" for number in range(MAX_PINS + 1)),
            "INFERENCE_PIN names 65 apps, but may name 64 at most.",
        ),
    ],
)
def test_a_wrong_pin_stops_the_start_with_one_sentence(value: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build(Settings.from_environ({"INFERENCE_PIN": value}))

    assert sentence == str(caught.value)


def test_an_app_that_may_not_be_run_is_not_pinned() -> None:
    """A pinned tool spends, and belongs to the apps; a mistake in it is one all the same."""
    assert (
        ()
        == Settings(pin="a/b", read_only=True).pins
        == Settings(pin="a/b", toolsets=("files",)).pins
        == Settings().pins
    )
    with pytest.raises(SettingsError):
        Settings.from_environ({"INFERENCE_PIN": "flux", "INFERENCE_READ_ONLY": "true"})
