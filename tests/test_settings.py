"""Settings: strings in, one frozen value or one sentence out."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from inferencesh_mcp.errors import SettingsError
from inferencesh_mcp.settings import Settings, unknown_variables

OF_THIS_SYSTEM = (
    ("\\\\?\\{home}", "{upper}", "C:\\", "\\\\?\\C:\\", "{home}.", "file:///{home}")
    if sys.platform == "win32"
    else ("/proc/self/root", "{alias}", "/{home}", "file://{home}")
)
SRV = "C:\\srv\\a" if sys.platform == "win32" else "/srv/a"


def test_the_defaults_are_valid() -> None:
    """No key does not stop the start, and does not lead into the sandbox."""
    settings = Settings.from_environ({"PATH": "/bin", "INFERENCE_BASE_URL": " "})

    assert (None, False, "https://api.inference.sh") == (settings.api_key, settings.sandbox, settings.base_url)


@pytest.mark.parametrize(
    "placeholder", ["${INFERENCE_API_KEY}", "$INFERENCE_API_KEY", "${env:INFERENCE_API_KEY}", "${A:-}"]
)
def test_an_unfilled_placeholder_is_not_a_value(placeholder: str) -> None:
    """The server starts without it, and its tools say where to get a key."""
    assert Settings() == Settings.from_environ(
        {"INFERENCE_API_KEY": placeholder, "INFERENCE_SAVE_DIR": "${user_config.dir}"}
    )


def test_every_variable_is_read() -> None:
    settings = Settings.from_environ(
        {
            "INFERENCE_API_KEY": "inf_k",
            "INFERENCE_WAIT_SECONDS": "12.5",
            "INFERENCE_STREAM": "false",
            "INFERENCE_ALLOWED_DIRS": f"{SRV}{os.pathsep}~/b",
            "INFERENCE_TOOLSETS": "files, apps",
            "INFERENCE_LOG_LEVEL": "debug",
        }
    )

    assert (12.5, False, "DEBUG") == (settings.wait_seconds, settings.stream, settings.log_level)
    assert (Path(SRV), Path.home() / "b") == settings.allowed_dirs
    assert ("files", "apps") == settings.toolsets
    assert "inf_k" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("WAIT_SECONDS", "soon", 'INFERENCE_WAIT_SECONDS is "soon", but must be a number from 1 to 3600.'),
        ("WAIT_SECONDS", "0", 'INFERENCE_WAIT_SECONDS is "0", but must be a number from 1 to 3600.'),
        ("POLL_INTERVAL_MS", "5", 'INFERENCE_POLL_INTERVAL_MS is "5", but must be a whole number from 100 to 60000.'),
        ("ON_CANCEL", "stop", 'INFERENCE_ON_CANCEL is "stop", but must be cancel or keep.'),
        ("STREAM", "maybe", 'INFERENCE_STREAM is "maybe", but must be true or false.'),
        (
            "TOOLSETS",
            "apps,agent",
            'INFERENCE_TOOLSETS is "apps,agent", but must be some of apps,tasks,files,sessions,agents,account.',
        ),
        (
            "MAX_CONCURRENT_RUNS",
            "0",
            'INFERENCE_MAX_CONCURRENT_RUNS is "0", but must be a whole number from 1 to 1000.',
        ),
        ("HTTP_AUTH", "none", 'INFERENCE_HTTP_AUTH is "none", but must be caller, tokens or oauth.'),
        (
            "ALLOWED_HOSTS",
            "*",
            'INFERENCE_ALLOWED_HOSTS is "*", but must be host names such as mcp.example.com.',
        ),
        (
            "ALLOWED_ORIGINS",
            "https://app.example.com/",
            'INFERENCE_ALLOWED_ORIGINS is "https://app.example.com/", but must be origins such as https://app.example.com.',
        ),
        (
            "TRUSTED_PROXIES",
            "0.0.0.0/0",
            'INFERENCE_TRUSTED_PROXIES is "0.0.0.0/0", but must be IP addresses and networks such as 10.0.0.0/8.',
        ),
        (
            "HTTP_TOKENS",
            "igw_pasted_by_mistake",
            "INFERENCE_HTTP_TOKENS must be name:sha256 pairs, separated by commas.",
        ),
        (
            "OAUTH_ISSUER",
            "http://login.example.com",
            'INFERENCE_OAUTH_ISSUER is "http://login.example.com", but must be an https:// address, or http:// on this machine.',
        ),
        ("DRAIN_SECONDS", "1", 'INFERENCE_DRAIN_SECONDS is "1", but must be a number from 2 to 600.'),
        (
            "REDIS_URL",
            "http://:password@redis.example",
            "INFERENCE_REDIS_URL must be a redis://, rediss:// or unix:// address.",
        ),
        ("LOG_FORMAT", "xml", 'INFERENCE_LOG_FORMAT is "xml", but must be text or json.'),
        (
            "BASE_URL",
            "http://api.inference.sh",
            'INFERENCE_BASE_URL is "http://api.inference.sh", but must be an https:// address, or http:// on this machine.',
        ),
        (
            "PROXY_URL",
            "https://me:secret@proxy.example",
            'INFERENCE_PROXY_URL is "https://***@proxy.example", but must be an https:// address, or http:// on this machine.',
        ),
        (
            "ALLOWED_DIRS",
            "/",
            'INFERENCE_ALLOWED_DIRS is "/", but must be absolute paths of folders; not your home folder or a folder that contains it.',
        ),
        (
            "SAVE_DIR",
            "~",
            'INFERENCE_SAVE_DIR is "~", but must be the absolute path of a folder; not your home folder or a folder that contains it.',
        ),
        ("API_KEY", "inf_a b", "INFERENCE_API_KEY must be a key without spaces."),
    ],
)
def test_a_wrong_value_is_reported_in_one_sentence(name: str, value: str, sentence: str) -> None:
    """It names the variable, what it holds and what is allowed; a key is never shown."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({f"INFERENCE_{name}": value})

    assert sentence == str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BASE_URL", "https://api.example.com:99999"),
        ("BASE_URL", "https://api.example.com:0"),
        ("BASE_URL", "https://api.example.com/?v=2"),
        ("PROXY_URL", "https://proxy.example.com/#here"),
        ("OAUTH_RESOURCE", "https://mcp example.com/mcp"),
        ("OAUTH_ISSUER", "https://login^example.com"),
        ("REDIS_URL", "redis://user:word:more"),
    ],
)
def test_an_invalid_address_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"INFERENCE_{name} .*must be"):
        Settings.from_environ({f"INFERENCE_{name}": value})


@pytest.mark.finding("S10", "B11")
@pytest.mark.parametrize("setting", ["ALLOWED_DIRS", "SAVE_DIR", "CACHE_DIR"])
@pytest.mark.parametrize(
    "folder", ["/", "//", "///", "{home}", "{home}/.", "{above}", '"{home}"', "~", *OF_THIS_SYSTEM]
)
def test_a_folder_that_is_or_holds_the_home_is_refused(
    setting: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By device and inode: a folder has many names."""
    home = tmp_path / "homes/ada"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    if "{alias}" in folder:
        (tmp_path / "alias").symlink_to(home)
    path = folder.format(home=home, above=home.parent, alias=tmp_path / "alias", upper=str(home).upper())

    with pytest.raises(SettingsError, match="home folder"):
        Settings.from_environ({f"INFERENCE_{setting}": path})
    assert Settings.from_environ({f"INFERENCE_{setting}": f"{home}/below"})


def test_a_folder_is_written_as_people_write_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts pass on what stands in their files: no shell has filled in the home or taken the quotes away."""
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    pics = tmp_path / "pics"

    for written in ("~/pics", "%USERPROFILE%/pics", "$HOME/pics", '"~/pics"', f"'{pics}'", pics.as_uri()):
        assert pics == Settings.from_environ({"INFERENCE_SAVE_DIR": written}).save_dir, written
        if written.startswith("file:"):
            continue  # a colon separates folders on POSIX
        several = os.pathsep.join((written, f'"{tmp_path / "b c"}"'))
        assert (pics, tmp_path / "b c") == Settings.from_environ({"INFERENCE_ALLOWED_DIRS": several}).allowed_dirs
    for written in ("pics", "file://elsewhere/pics", "a\0b"):
        with pytest.raises(SettingsError):
            Settings.from_environ({"INFERENCE_SAVE_DIR": written})


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="the name of the folder is in another place there")
def test_the_downloads_folder_is_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Téléchargements").mkdir()
    (tmp_path / ".config").mkdir()
    (tmp_path / ".config/user-dirs.dirs").write_text('XDG_DOWNLOAD_DIR="$HOME/Téléchargements"\n', encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("XDG_DOWNLOAD_DIR", raising=False)

    assert tmp_path / "Téléchargements/inference" == Settings().saving_to


def test_a_mistyped_setting_stops_the_start() -> None:
    """A misspelled limit must not be no limit (I-21)."""
    with pytest.raises(
        SettingsError, match=r"INFERENCE_WAIT_SECOND is not a setting. Did you mean INFERENCE_WAIT_SECONDS\?"
    ):
        Settings.from_environ({"INFERENCE_WAIT_SECOND": "9"})


@pytest.mark.finding("B12", "F26")
@pytest.mark.parametrize("name", ["MODEL", "PORT", "GATEWAY_SERVICE_HOST", "PORT_80_TCP_ADDR", "NOPE"])
def test_a_variable_of_another_program_is_ignored(name: str) -> None:
    """llama-stack has INFERENCE_MODEL, and a Kubernetes service called inference sets INFERENCE_PORT."""
    environ = {f"INFERENCE_{name}": "tcp://10.0.0.1:80"}

    assert Settings() == Settings.from_environ(environ)
    assert [f"INFERENCE_{name}"] == unknown_variables(environ)


@pytest.mark.finding("B3")
def test_without_a_home_there_is_still_a_save_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is in no list, or whose HOME belongs to somebody else."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert Settings().saving_to.is_absolute()


def test_variables_of_the_official_sdks_are_ignored() -> None:
    assert Settings() == Settings.from_environ(
        {"INFERENCE_SSE_MODE": "x", "INFERENCE_API_BASE_URL": "https://x.example"}
    )


@pytest.mark.parametrize("keys", ["short", "k" * 32 + ",short", "k" * 32 + "," + "k" * 32])
def test_a_state_key_must_be_long_and_is_never_shown(keys: str) -> None:
    """One that is short, or there twice, stops the start with a sentence that does not show any."""
    with pytest.raises(SettingsError) as refused:
        Settings.from_environ({"INFERENCE_STATE_KEYS": keys})
    two = Settings.from_environ({"INFERENCE_STATE_KEYS": f" {'a' * 32} , {'b' * 40}"})

    assert (
        "INFERENCE_STATE_KEYS must be different secrets of 32 bytes or more, separated by commas."
        == str(refused.value)
    )  # fmt: skip
    assert ["a" * 32, "b" * 40] == [key.get_secret_value() for key in two.state_keys]
    assert "aaa" not in repr(two)


@pytest.mark.finding("S14")
@pytest.mark.parametrize("tail", ["?token=inf_CANARY_1", "/v1?a=1&key=inf_CANARY_2#x", "#inf_CANARY_3"])
def test_a_secret_in_a_wrong_address_is_not_quoted(tail: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({"INFERENCE_BASE_URL": f"https://api.example.com{tail}"})

    assert "CANARY" not in str(caught.value)
    assert "https://api.example.com" in str(caught.value)
