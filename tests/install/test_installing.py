"""`install` and `uninstall` in every host's own configuration: nothing else in the file changes."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest

from inferencesh_mcp.errors import HostFileRefused, InvalidInput
from inferencesh_mcp.hosts import config_file, edit, install
from inferencesh_mcp.hosts.catalogue import HOSTS, KEY, Host, Local, Machine, Remote
from tests.support.systems import POSIX

FIXTURES = Path(__file__).parent / "fixtures"
SERVER = Local("/opt/inference/bin/inferencesh-mcp", (), (("INFERENCE_SAVE_DIR", "/home/you/pictures"),))
SECRET = "inf_test_CANARY_5d02"
NAME = "inference"
BY_NAME = {host.name: host for host in HOSTS}
each_host = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)


def fixture(host: Host) -> str:
    return next(FIXTURES.glob(f"{host.name}.*")).read_text(encoding="utf-8")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine("linux", tmp_path, {})


def placed(host: Host, machine: Machine, raw: bytes) -> Path:
    """The host's file on that machine, with this in it."""
    path = install.place(host, machine)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return path


def folder_of(path: Path) -> set[str]:
    return {entry.name for entry in path.parent.iterdir()}


FORMS: dict[str, Callable[[str], bytes]] = {
    "as it is": lambda text: text.encode(),
    "Windows' line ends": lambda text: text.replace("\n", "\r\n").encode(),
    "a byte order mark": lambda text: text.encode("utf-8-sig"),
    "no line end at the end": lambda text: text.rstrip("\n").encode(),
    "blank lines at the end": lambda text: (text + "\n\n  \n").encode(),
    "UTF-16": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
    "UTF-16, big end first": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
}


@each_host
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_what_is_put_in_is_taken_out_to_the_byte(host: Host, form: Callable[[str], bytes], machine: Machine) -> None:
    """Comments, order, spacing, line ends, encoding and the other servers stay; a second time nothing is done."""
    before = form(fixture(host))
    path = placed(host, machine, before)

    done = install.install(host, NAME, SERVER, machine=machine, key=SECRET)

    now = path.read_bytes()
    assert ("added", path, before) == (done.action, done.path, done.backup.read_bytes() if done.backup else b"")
    assert host.entry(SERVER, SECRET) == install.entry_of(host, NAME, machine)
    assert only_added(before, now)
    assert "unchanged" == install.install(host, NAME, SERVER, machine=machine, key=SECRET).action
    assert now == path.read_bytes()

    assert "removed" == install.uninstall(host, NAME, machine=machine).action
    assert (before, {path.name}) == (path.read_bytes(), folder_of(path))
    assert "unchanged" == install.uninstall(host, NAME, machine=machine).action


def only_added(before: bytes, now: bytes) -> bool:
    """Whether everything is still there, in its order."""
    rest = iter(now)
    return all(byte in rest for byte in before)


@each_host
def test_the_line_ends_and_the_indentation_are_the_files_own(host: Host, machine: Machine) -> None:
    path = placed(host, machine, fixture(host).replace("\n", "\r\n").encode())

    install.install(host, NAME, SERVER, machine=machine)

    assert b"\n" not in path.read_bytes().replace(b"\r\n", b"")
    if host.name == "cursor":
        assert b'\r\n\t\t"inference": {\r\n\t\t\t"command"' in path.read_bytes()
    if host.name == "vscode":
        assert b'\r\n        "inference": {\r\n            "type"' in path.read_bytes()
    if host.name == "windsurf":
        assert 1 == path.read_bytes().count(b"\r\n"), "what is on one line stays on one line"


def otherwise(text: str) -> str:
    """What somebody else made of it."""
    for old, new in {"npx": "bunx", '"Default"': '"Dark"', "One Dark": "Ayu", "184": "185"}.items():
        text = text.replace(old, new)
    return text


@each_host
def test_where_somebody_else_wrote_meanwhile_their_change_stays(host: Host, machine: Machine) -> None:
    """Then the server is cut out; what the file was before the server came is kept beside it."""
    path = placed(host, machine, fixture(host).encode())
    install.install(host, NAME, SERVER, machine=machine)
    edited = otherwise(path.read_text("utf-8"))
    path.write_text(edited, "utf-8")

    done = install.uninstall(host, NAME, machine=machine)

    assert otherwise(fixture(host)) == path.read_text("utf-8")
    assert done.backup
    assert fixture(host) == done.backup.read_text("utf-8")


@each_host
def test_a_missing_file_is_made_for_its_owner_alone_and_goes_again(host: Host, machine: Machine) -> None:
    done = install.install(host, NAME, SERVER, machine=machine, key=SECRET)

    assert ("created", None) == (done.action, done.backup)
    assert sys.platform == "win32" or stat.S_IMODE(done.path.stat().st_mode) == 0o600
    assert {NAME: host.entry(SERVER, SECRET)} == dict(edit.servers(host, done.path.read_text("utf-8")))

    install.uninstall(host, NAME, machine=machine)
    assert set() == folder_of(done.path)


@each_host
@pytest.mark.parametrize("empty", [b"", b"\n", b"\xef\xbb\xbf"], ids=["nothing", "a line end", "a mark"])
def test_an_empty_file_is_as_good_as_none(host: Host, empty: bytes, machine: Machine) -> None:
    path = placed(host, machine, empty)

    install.install(host, NAME, SERVER, machine=machine)

    assert host.entry(SERVER) == install.entry_of(host, NAME, machine)
    install.uninstall(host, NAME, machine=machine)
    assert empty == path.read_bytes()


@each_host
def test_other_settings_take_the_place_of_the_old_ones(host: Host, machine: Machine) -> None:
    before = fixture(host).encode()
    path = placed(host, machine, before)
    install.install(host, NAME, SERVER, machine=machine)
    moved = Local("/new/inferencesh-mcp")

    done = install.install(host, NAME, moved, machine=machine)

    assert ("updated", before) == (done.action, done.backup.read_bytes() if done.backup else b"")
    assert host.entry(moved) == install.entry_of(host, NAME, machine)
    install.uninstall(host, NAME, machine=machine)
    assert before == path.read_bytes()


@each_host
def test_somebody_elses_server_of_that_name_is_left_alone(host: Host, machine: Machine) -> None:
    theirs = edit.put(host, fixture(host), NAME, {"command": "triton", "args": []}).encode()
    path = placed(host, machine, theirs)

    with pytest.raises(HostFileRefused, match="another server named inference"):
        install.install(host, NAME, SERVER, machine=machine)
    with pytest.raises(HostFileRefused, match="It was not changed"):
        install.uninstall(host, NAME, machine=machine)
    assert (theirs, {path.name}) == (path.read_bytes(), folder_of(path))

    install.install(host, "inference-sh", SERVER, machine=machine)
    assert {"command": "triton", "args": []} == install.entry_of(host, NAME, machine)


@each_host
def test_two_of_them_go_as_they_came(host: Host, machine: Machine) -> None:
    before = fixture(host).encode()
    path = placed(host, machine, before)
    for name in ("first", "second"):
        install.install(host, name, SERVER, machine=machine)

    for name in ("first", "second"):
        install.uninstall(host, name, machine=machine)

    assert before == path.read_bytes()


@each_host
def test_the_key_is_in_the_file_only_where_the_host_has_no_other_way(host: Host, machine: Machine) -> None:
    literal = {"claude-desktop", "zed"}
    done = install.install(host, NAME, SERVER, machine=machine, key=SECRET)

    assert (host.name in literal) is (SECRET in done.path.read_text("utf-8"))
    assert SECRET not in install.shown(host, NAME, SERVER)
    assert (SECRET if host.name in literal else "") == install.key_in(install.entry_of(host, NAME, machine))


def test_a_local_server_is_written_as_each_host_wants_it() -> None:
    def started(key: str, **more: object) -> dict[str, object]:
        env = {KEY: key, "INFERENCE_SAVE_DIR": "/home/you/pictures"}
        return {**more, "command": SERVER.command, "args": [], "env": env}

    assert {
        "claude-desktop": started(SECRET),
        "claude-code": started("${INFERENCE_API_KEY:-}", type="stdio"),
        "cursor": started("${env:INFERENCE_API_KEY}"),
        "vscode": started("${input:inference-api-key}", type="stdio"),
        "codex": {
            "command": SERVER.command, "args": [], "env_vars": [KEY], "env": {"INFERENCE_SAVE_DIR": "/home/you/pictures"},
        },
        "gemini": started("${INFERENCE_API_KEY}"),
        "windsurf": started("${env:INFERENCE_API_KEY}"),
        "zed": started(SECRET),
        "opencode": {
            "type": "local", "command": [SERVER.command],
            "environment": {KEY: "{env:INFERENCE_API_KEY}", "INFERENCE_SAVE_DIR": "/home/you/pictures"},
        },
        "copilot": started("${INFERENCE_API_KEY}", type="local", tools=["*"]),
        "cline": {
            "timeout": 60, "command": SERVER.command, "args": [], "env": {"INFERENCE_SAVE_DIR": "/home/you/pictures"},
        },
        "qwen": started("${INFERENCE_API_KEY}"),
    } == {host.name: host.entry(SERVER, SECRET) for host in HOSTS}  # fmt: skip
    sandbox = Local("inferencesh-mcp", (), (("INFERENCE_SANDBOX", "true"),))
    assert not [host for host in HOSTS if KEY in str(host.entry(sandbox))], "the sandbox needs none"


@pytest.mark.parametrize("host", [host for host in HOSTS if host.address_field], ids=lambda host: host.name)
def test_a_remote_server_is_written_as_the_host_wants_it(host: Host, machine: Machine) -> None:
    server = install.remote("https://mcp.example.com/mcp", host)
    done = install.install(host, NAME, server, machine=machine, key=SECRET)

    entry = install.entry_of(host, NAME, machine)
    bearer = {
        "claude-code": "${INFERENCE_API_KEY}", "cursor": "${env:INFERENCE_API_KEY}", "windsurf": "${env:INFERENCE_API_KEY}",
        "vscode": "${input:inference-api-key}", "gemini": "${INFERENCE_API_KEY}", "zed": SECRET, "codex": None,
        "opencode": "{env:INFERENCE_API_KEY}", "copilot": "${INFERENCE_API_KEY}", "cline": SECRET,
        "qwen": "${INFERENCE_API_KEY}",
    }[host.name]  # fmt: skip
    expected = {"headers": {"Authorization": f"Bearer {bearer}"}} if bearer else {"bearer_token_env_var": KEY}
    address = {"gemini": "httpUrl", "qwen": "httpUrl", "windsurf": "serverUrl"}.get(host.name, "url")
    types = {
        "claude-code": "http",
        "vscode": "http",
        "opencode": "remote",
        "copilot": "http",
        "cline": "streamableHttp",
    }
    typed = {"type": types[host.name]} if host.name in types else {}
    typed |= {"tools": ["*"]} if host.name == "copilot" else {}
    assert {**typed, address: server.url, **expected} == entry
    assert "unchanged" == install.install(host, NAME, server, machine=machine, key=SECRET).action
    install.uninstall(host, NAME, machine=machine)
    assert not done.path.exists()


@pytest.mark.parametrize("host", [host for host in HOSTS if host.address_field], ids=lambda host: host.name)
def test_a_server_to_sign_in_to_gets_no_key(host: Host, machine: Machine) -> None:
    before = fixture(host).encode()
    path = placed(host, machine, before)
    server = install.remote("https://mcp.example.com/mcp", host, sign_in=True)

    install.install(host, NAME, server, machine=machine, key=SECRET)

    assert not {KEY, SECRET, "Authorization"} & set(str(install.entry_of(host, NAME, machine)).split('"'))
    assert "headers" not in install.entry_of(host, NAME, machine)
    install.uninstall(host, NAME, machine=machine)
    assert before == path.read_bytes()


@pytest.mark.parametrize("host", [host for host in HOSTS if host.address_field], ids=lambda host: host.name)
def test_the_platforms_own_endpoint_is_left_alone(host: Host, machine: Machine) -> None:
    """Its documentation enters it under the name that is our default."""
    theirs = {host.address_field: install.HOSTED, "headers": {"Authorization": f"Bearer {SECRET}"}}
    placed(host, machine, edit.put(host, "", NAME, theirs).encode())

    for do in (
        lambda: install.install(host, NAME, SERVER, machine=machine),
        lambda: install.uninstall(host, NAME, machine=machine),
    ):
        with pytest.raises(HostFileRefused, match="another server named inference"):
            do()
    assert theirs == install.entry_of(host, NAME, machine)


def test_claude_desktop_takes_no_remote_server_from_its_file() -> None:
    with pytest.raises(InvalidInput, match="cannot use a remote server") as refused:
        install.remote("https://mcp.example.com/mcp", BY_NAME["claude-desktop"])

    assert "Connectors" in refused.value.next_step


@pytest.mark.parametrize(
    "url", ["http://mcp.example.com/mcp", "https://k@mcp.example.com", "mcp.example.com", "ftp://x"]
)
def test_no_key_is_sent_in_the_clear(url: str) -> None:
    with pytest.raises(InvalidInput, match="https://"):
        install.remote(url, BY_NAME["cursor"])
    assert Remote("http://localhost:8000/mcp") == install.remote("http://localhost:8000/mcp", BY_NAME["cursor"])


class TestAFileThatIsNotWhatItShouldBe:
    """It is left as it is, and the sentence says which file, where in it, and what to do."""

    def refused(self, host: Host, machine: Machine, *, path: Path) -> HostFileRefused:
        before = path.read_bytes() if path.is_file() else None
        there = folder_of(path)
        with pytest.raises(HostFileRefused) as refused:
            install.install(host, NAME, SERVER, machine=machine)
        assert (before, there) == (path.read_bytes() if path.is_file() else None, folder_of(path))
        assert str(path) in refused.value.message
        assert refused.value.next_step
        return refused.value

    @pytest.mark.parametrize(
        ("text", "where"),
        [
            ('{\n  "mcpServers": {\n    "a" {}\n  }\n}', "line 3, column 9: expected a colon"),
            ('{"a": 1,}', "line 1, column 8: a comma is not allowed before }"),
            ('{"a": 1} // mine', "line 1, column 10: unexpected text after the end"),
            ('{"a": [1 2]}', "line 1, column 10: expected a comma or ]"),
            ('{"a": NaN}', "line 1, column 7: expected a value"),
            ('{"a": 1' + "0" * 5_000 + "}", "line 1, column 7: a number is too long"),
            ('{"a": "\t"}', "line 1, column 7: expected a value"),
            ('{"a": 1', "line 1, column 8: expected a comma or }"),
            ("{'a': 1}", "line 1, column 2: expected a name in double quotes"),
            ("[" * 1000, "nested too deeply"),
            ("<html>", "line 1, column 1: expected a value"),
            ("[]", "is not a JSON object"),
            ('{"mcpServers": []}', "must have an object at mcpServers"),
        ],
    )
    def test_json(self, text: str, where: str, machine: Machine) -> None:
        host = BY_NAME["claude-desktop"]

        assert where in self.refused(host, machine, path=placed(host, machine, text.encode())).message

    def test_toml(self, machine: Machine) -> None:
        host = BY_NAME["codex"]

        told = self.refused(host, machine, path=placed(host, machine, b"model = 'x'\nmodel = 'y'\n"))
        assert "at line 2, column" in told.message

    @pytest.mark.parametrize("text", [b'mcp_servers = { a = { command = "x" } }\n', b"[[mcp_servers]]\na = 1\n"])
    def test_toml_in_which_a_table_cannot_be_added(self, machine: Machine, text: bytes) -> None:
        host = BY_NAME["codex"]

        told = self.refused(host, machine, path=placed(host, machine, text))
        assert "--print" in told.next_step

    def test_no_text(self, machine: Machine) -> None:
        host = BY_NAME["zed"]

        told = self.refused(host, machine, path=placed(host, machine, b'{"a": "\xff\xfe\x00"}'))
        assert "not UTF-8 text" in told.message

    def test_a_folder(self, machine: Machine) -> None:
        host = BY_NAME["cursor"]
        path = install.place(host, machine)
        path.mkdir(parents=True)

        assert "is a folder" in self.refused(host, machine, path=path).message

    @POSIX
    def test_a_link_that_leads_to_itself(self, machine: Machine) -> None:
        host = BY_NAME["cursor"]
        path = install.place(host, machine)
        path.parent.mkdir()
        path.symlink_to(path)

        assert "a broken link" in self.refused(host, machine, path=path).message

    @POSIX
    @pytest.mark.parametrize("what", ["file", "folder"])
    def test_read_only(self, what: str, machine: Machine) -> None:
        host = BY_NAME["cursor"]
        path = placed(host, machine, fixture(host).encode())
        shut = path if what == "file" else path.parent
        mode = shut.stat().st_mode
        shut.chmod(0o555 if what == "folder" else 0o444)
        try:
            told = self.refused(host, machine, path=path).message
            assert f"{path} cannot be written: {'it' if what == 'file' else 'its folder'} is read-only." == told
        finally:
            shut.chmod(mode)


@POSIX
def test_a_link_is_followed_and_stays_and_so_does_the_mode(machine: Machine, tmp_path: Path) -> None:
    """As people keep their settings in a repository of dotfiles."""
    host = BY_NAME["zed"]
    real = tmp_path / "dotfiles" / "zed.json"
    real.parent.mkdir()
    real.write_text(fixture(host), "utf-8")
    real.chmod(0o640)
    path = install.place(host, machine)
    path.parent.mkdir(parents=True)
    path.symlink_to(Path("../../dotfiles/zed.json"))

    install.install(host, NAME, SERVER, machine=machine)

    assert path.is_symlink()
    assert host.entry(SERVER) == edit.servers(host, real.read_text("utf-8"))[NAME]
    assert (0o640, {"zed.json"}) == (stat.S_IMODE(real.stat().st_mode), folder_of(real))
    install.uninstall(host, NAME, machine=machine)
    assert fixture(host) == real.read_text("utf-8")


def test_what_somebody_else_wrote_in_between_is_not_written_over(machine: Machine) -> None:
    path = placed(BY_NAME["cursor"], machine, b"{}")
    kept = config_file.read(path)
    path.write_bytes(b'{"theirs": 1}')

    with pytest.raises(HostFileRefused, match="changed by another program"):
        config_file.replace(kept, b"ours")
    assert (b'{"theirs": 1}', {path.name}) == (path.read_bytes(), folder_of(path))


def test_what_is_on_one_line_or_has_the_name_twice_is_understood(machine: Machine) -> None:
    host = BY_NAME["cursor"]
    entry = json.dumps(host.entry(SERVER))
    path = placed(host, machine, f'{{"mcpServers":{{"inference":{entry},"b":{{}},"inference":{entry}}}}}'.encode())

    install.uninstall(host, NAME, machine=machine)

    assert b'{"mcpServers":{"b":{}}}' == path.read_bytes()


def test_a_comment_above_the_next_table_is_not_ours(machine: Machine) -> None:
    """It is cut from the header to the last value, and not to the next header."""
    host = BY_NAME["codex"]
    install.install(host, NAME, SERVER, machine=machine)
    path = install.place(host, machine)
    path.write_text(path.read_text("utf-8") + "\n# my own\n[profiles.slow]\nmodel = 'x'\n", "utf-8")

    install.uninstall(host, NAME, machine=machine)

    assert "\n# my own\n[profiles.slow]\nmodel = 'x'\n" == path.read_text("utf-8")


@pytest.mark.parametrize("broken", [b'{"mcpServers": null}', b'{"mcpServers": []}', b"no JSON"])
def test_a_backup_that_somebody_broke_stops_no_removal(machine: Machine, broken: bytes) -> None:
    host = BY_NAME["cursor"]
    path = placed(host, machine, b'{"mcpServers": {"other": {"command": "x"}}}')
    install.install(host, NAME, SERVER, machine=machine)
    Path(f"{path}.before-{NAME}").write_bytes(broken)

    assert "removed" == install.uninstall(host, NAME, machine=machine).action
    assert {"mcpServers": {"other": {"command": "x"}}} == json.loads(path.read_text("utf-8"))


def test_servers_on_one_line_of_toml_are_refused_in_words(machine: Machine) -> None:
    line = b'mcp_servers = { inference = { command = "inferencesh-mcp" } }\n'
    path = placed(BY_NAME["codex"], machine, line)

    with pytest.raises(HostFileRefused, match="has mcp_servers on one line"):
        install.uninstall(BY_NAME["codex"], NAME, machine=machine)
    assert line == path.read_bytes()


def test_the_files_are_where_each_system_has_them() -> None:
    """Computed from the system, home and a few variables, so that all three can be told here."""
    windows = Machine("windows", PureWindowsPath("C:/Users/Zoë"), {})
    macos = Machine("macos", PurePosixPath("/Users/zoe"), {"XDG_CONFIG_HOME": "/xdg"})
    linux = Machine("linux", PurePosixPath("/home/zoe"), {})
    places = {
        system: {host.name: str(host.places(machine)[0]) for host in HOSTS}
        for system, machine in {"windows": windows, "macos": macos, "linux": linux}.items()
    }

    support = "/Users/zoe/Library/Application Support"
    assert {
        "windows": {
            "claude-desktop": r"C:\Users\Zoë\AppData\Roaming\Claude\claude_desktop_config.json",
            "claude-code": r"C:\Users\Zoë\.claude.json",
            "cursor": r"C:\Users\Zoë\.cursor\mcp.json",
            "vscode": r"C:\Users\Zoë\AppData\Roaming\Code\User\mcp.json",
            "codex": r"C:\Users\Zoë\.codex\config.toml",
            "gemini": r"C:\Users\Zoë\.gemini\settings.json",
            "windsurf": r"C:\Users\Zoë\.codeium\windsurf\mcp_config.json",
            "zed": r"C:\Users\Zoë\AppData\Roaming\Zed\settings.json",
            "opencode": r"C:\Users\Zoë\.config\opencode\opencode.json",
            "copilot": r"C:\Users\Zoë\.copilot\mcp-config.json",
            "cline": r"C:\Users\Zoë\.cline\data\settings\cline_mcp_settings.json",
            "qwen": r"C:\Users\Zoë\.qwen\settings.json",
        },
        "macos": {
            "claude-desktop": f"{support}/Claude/claude_desktop_config.json",
            "claude-code": "/Users/zoe/.claude.json",
            "cursor": "/Users/zoe/.cursor/mcp.json",
            "vscode": f"{support}/Code/User/mcp.json",
            "codex": "/Users/zoe/.codex/config.toml",
            "gemini": "/Users/zoe/.gemini/settings.json",
            "windsurf": "/Users/zoe/.codeium/windsurf/mcp_config.json",
            "zed": "/Users/zoe/.config/zed/settings.json",
            "opencode": "/xdg/opencode/opencode.json",
            "copilot": "/Users/zoe/.copilot/mcp-config.json",
            "cline": "/Users/zoe/.cline/data/settings/cline_mcp_settings.json",
            "qwen": "/Users/zoe/.qwen/settings.json",
        },
        "linux": {
            "claude-desktop": "/home/zoe/.config/Claude/claude_desktop_config.json",
            "claude-code": "/home/zoe/.claude.json",
            "cursor": "/home/zoe/.cursor/mcp.json",
            "vscode": "/home/zoe/.config/Code/User/mcp.json",
            "codex": "/home/zoe/.codex/config.toml",
            "gemini": "/home/zoe/.gemini/settings.json",
            "windsurf": "/home/zoe/.codeium/windsurf/mcp_config.json",
            "zed": "/home/zoe/.config/zed/settings.json",
            "opencode": "/home/zoe/.config/opencode/opencode.json",
            "copilot": "/home/zoe/.copilot/mcp-config.json",
            "cline": "/home/zoe/.cline/data/settings/cline_mcp_settings.json",
            "qwen": "/home/zoe/.qwen/settings.json",
        },
    } == places


@pytest.mark.parametrize(
    ("system", "host", "variables", "expected"),
    [
        ("linux", "vscode", {"XDG_CONFIG_HOME": "/x"}, "/x/Code/User/mcp.json"),
        ("linux", "zed", {"XDG_CONFIG_HOME": "/x"}, "/x/zed/settings.json"),
        ("linux", "codex", {"CODEX_HOME": "/c"}, "/c/config.toml"),
        ("linux", "claude-code", {"CLAUDE_CONFIG_DIR": "/k"}, "/k/.claude.json"),
        ("linux", "gemini", {"GEMINI_CLI_HOME": "/g"}, "/g/.gemini/settings.json"),
        ("linux", "opencode", {"XDG_CONFIG_HOME": "/x"}, "/x/opencode/opencode.json"),
        ("linux", "copilot", {"COPILOT_HOME": "/c"}, "/c/mcp-config.json"),
        ("linux", "cline", {"CLINE_MCP_SETTINGS_PATH": "/c/mine.json"}, "/c/mine.json"),
        ("windows", "zed", {"APPDATA": r"D:\Roaming"}, r"D:\Roaming\Zed\settings.json"),
    ],
)
def test_variables_move_them(system: str, host: str, variables: dict[str, str], expected: str) -> None:
    home = PureWindowsPath("C:/Users/z") if system == "windows" else PurePosixPath("/home/z")
    machine = Machine(system, home, variables)  # type: ignore[arg-type]

    assert expected == str(BY_NAME[host].places(machine)[0])


@pytest.mark.parametrize("package", ["Claude_pzs8sxrjxfjjc", "Claude_anotherpublisher"])
@pytest.mark.parametrize("classic", [False, True])
def test_claude_desktop_of_windows_is_found_by_its_package(package: str, classic: bool, tmp_path: Path) -> None:
    """The package reads a folder of its own, before there is a file in it; the older edition may be there too."""
    host, machine = BY_NAME["claude-desktop"], Machine("windows", tmp_path, {})
    usual = tmp_path / "AppData/Roaming/Claude/claude_desktop_config.json"
    assert [usual] == [install.place(edition, machine) for edition in install.editions(host, machine)]

    folder = tmp_path / "AppData/Local/Packages" / package
    folder.mkdir(parents=True)
    stored = folder / "LocalCache/Roaming/Claude" / usual.name
    if classic:
        usual.parent.mkdir(parents=True)
    for edition in install.editions(host, machine):
        install.install(edition, "inference", Local("x"), machine=machine)

    assert [True, classic] == [stored.exists(), usual.exists()]
    for edition in install.editions(host, machine):
        install.uninstall(edition, "inference", machine=machine)
    assert not stored.exists()
    assert not usual.exists()


def test_python_of_the_store_writes_nothing_that_no_host_would_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "base_prefix", "C:/Program Files/WindowsApps/PythonSoftwareFoundation.Python.3.11_x64")
    host, machine = BY_NAME["claude-desktop"], Machine("windows", tmp_path, {})

    with pytest.raises(HostFileRefused, match="Microsoft Store") as refused:
        install.install(host, "inference", Local("x"), machine=machine)
    assert "--print" in refused.value.next_step
    assert not (tmp_path / "AppData").exists()


@POSIX
def test_the_command_is_one_that_a_host_can_start(tmp_path: Path) -> None:
    """Hosts do not search a terminal's PATH, and what uvx has made for one run may be gone tomorrow."""
    script = tmp_path / "bin" / "inferencesh-mcp"
    script.parent.mkdir()
    python = script.with_name("python")
    assert Local(str(python), ("-m", "inferencesh_mcp")) == install.local(python, {}, {})

    script.touch()
    assert Local(str(script)) == install.local(python, {}, {})

    uvx = tmp_path / "uvx"
    uvx.touch(mode=0o755)
    cached = Path("/home/you/.cache/uv/archive-v0/h4sh/bin/python")
    assert Local(str(uvx), ("inferencesh-mcp",)) == install.local(cached, {"PATH": str(tmp_path)}, {})
    assert Local("uvx", ("inferencesh-mcp",)) == install.local(cached, {"PATH": ""}, {})


@pytest.mark.parametrize("name", ["in_ference", "In", "", "a" * 25, "1a", "a b", "a.b"])
def test_a_name_is_one_that_every_host_takes(name: str) -> None:
    with pytest.raises(InvalidInput, match="--name"):
        install.checked_name(name)
