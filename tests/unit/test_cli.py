"""The command line: exit statuses, lookup of files, what is printed where."""

import subprocess
import sys
from pathlib import Path

import pytest

from edge import __version__, cli
from edge.commands import places
from edge.commands.arguments import EXIT_STATUSES, make_parser
from edge.config import Config, decode_config
from edge.errors import ConfigError

GOOD = '[relay]\nworkers = 1\n[signal]\npage = "off"\n'
BAD = "[relay]\nworkers = 0\n"


@pytest.fixture(autouse=True)
def no_system_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "system" / "edge.toml"
    monkeypatch.setattr(places, "SYSTEM_CONFIG", path)
    monkeypatch.setattr(places, "SYSTEM_RUNTIME", tmp_path / "run")
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"], {}) == 0
    assert capsys.readouterr().out == f"edge {__version__}\n"


def test_good_file_is_summed_up_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "edge.toml", GOOD)
    assert cli.main(["check-config", str(path)], {}) == 0
    assert capsys.readouterr().out == (
        f"{path}: good: 1 relay worker on udp 127.0.0.1:3478; 2 transceiver workers; "
        "signaling on tcp 127.0.0.1:8080, page off; routes: default (echo)\n"
    )


@pytest.mark.parametrize("command", [["check-config"], ["run", "--config"]])
def test_bad_file_exits_78_with_path_and_line(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "edge.toml", BAD)
    assert cli.main([*command, str(path)], {}) == 78
    printed = capsys.readouterr()
    assert printed.err == f"{path}:2: relay.workers: expected an integer >= 1\n"
    assert printed.out == ""


@pytest.mark.parametrize("command", [["check-config"], ["run", "--config"]])
def test_missing_file_exits_66(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "edge.toml"
    assert cli.main([*command, str(path)], {}) == 66
    assert capsys.readouterr().err == f"{path}: No such file or directory\n"
    assert cli.main([*command, str(tmp_path)], {}) == 66


def test_file_that_is_not_text_exits_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "edge.toml"
    path.write_bytes(b"# \xff")
    assert cli.main(["check-config", str(path)], {}) == 78
    assert "not UTF-8 text (byte 2)" in capsys.readouterr().err


def test_lookup_order(
    tmp_path: Path, no_system_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def source(*arguments: str, environment: dict[str, str]) -> str:
        assert cli.main(["check-config", *arguments], environment) == 0
        return capsys.readouterr().out.split(": good")[0]

    assert source(environment={}) == "built-in defaults"
    write(no_system_config, GOOD)
    assert source(environment={}) == str(no_system_config)
    assert source(environment={"EDGE_CONFIG": ""}) == str(no_system_config)
    by_environment = write(tmp_path / "environment.toml", GOOD)
    environment = {"EDGE_CONFIG": str(by_environment)}
    assert source(environment=environment) == str(by_environment)
    named = write(tmp_path / "named.toml", GOOD)
    assert source(str(named), environment=environment) == str(named)


def test_file_named_by_the_environment_must_exist(tmp_path: Path) -> None:
    assert cli.main(["check-config"], {"EDGE_CONFIG": str(tmp_path / "none.toml")}) == 66


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"STATE_DIRECTORY": "/var/lib/edge:/var/lib/more", "HOME": "/h"}, "/var/lib/edge"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/edge"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/edge"),
        ({"HOME": "/h"}, "/h/.local/state/edge"),
    ],
)
def test_state_directory(environment: dict[str, str], expected: str) -> None:
    assert places.state_directory(Config(), environment) == Path(expected)
    configured = decode_config('[supervisor]\nstate_directory = "/srv/edge"', "edge.toml")
    assert places.state_directory(configured, environment) == Path("/srv/edge")


def test_no_state_directory() -> None:
    with pytest.raises(ConfigError, match=r"supervisor\.state_directory"):
        places.state_directory(Config(), {"XDG_STATE_HOME": "relative", "HOME": ""})


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["run", "--workers", "3"],
        ["session"],
        ["sessions", "--limit", "0"],
        ["sessions", "--limit", "5001"],
        ["drain", "--deadline", "-1"],
        ["drain", "--deadline", "soon"],
        ["top", "--interval", "nan"],
        ["completion", "fish"],
    ],
)
def test_wrong_arguments_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments, {})
    assert caught.value.code == 2
    assert "usage: edge" in capsys.readouterr().err


def test_module_runs_and_checking_loads_no_network_code(tmp_path: Path) -> None:
    """Checking a file is quick because the supervisor and what it needs are not imported."""
    path = write(tmp_path / "edge.toml", GOOD)
    command = [sys.executable, "-X", "importtime", "-m", "edge", "check-config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "edge.config.decode" in imported
    assert not imported & {"trio", "edge.supervisor", "OpenSSL", "numpy"}


@pytest.mark.parametrize(
    ("config", "environment", "expected"),
    [
        ("", {"RUNTIME_DIRECTORY": "/run/edge:/run/more", "HOME": "/h"}, "/run/edge"),
        ('state_directory = "/srv/edge"', {"RUNTIME_DIRECTORY": "/run/edge"}, "/run/edge"),
        ('state_directory = "/srv/edge"', {"XDG_RUNTIME_DIR": "/run/user/7"}, "/srv/edge"),
        ("", {"XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/h"}, "/run/user/7/edge"),
        ("", {"XDG_RUNTIME_DIR": "relative", "HOME": "/h"}, "/h/.local/state/edge"),
    ],
)
def test_control_socket(config: str, environment: dict[str, str], expected: str) -> None:
    configured = decode_config(f"[supervisor]\n{config}", "edge.toml")
    path = places.control_socket(configured, environment)
    assert path == Path(expected, "control.sock")


def test_commands_look_for_the_users_own_appliance_and_then_for_the_service(
    tmp_path: Path,
) -> None:
    environment = {"XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/h"}
    assert places.control_sockets(None, None, environment) == [
        Path("/run/user/7/edge/control.sock"),
        Path("/h/.local/state/edge/control.sock"),
        tmp_path / "run" / "control.sock",
    ]


def test_commands_look_nowhere_but_where_they_are_told(tmp_path: Path) -> None:
    assert places.control_sockets(Path("/s"), None, {}) == [Path("/s")]
    named = write(tmp_path / "own.toml", '[supervisor]\nstate_directory = "/srv/own"\n')
    assert places.control_sockets(None, named, {}) == [Path("/srv/own/control.sock")]


def test_a_system_file_with_a_mistake_is_no_obstacle(
    tmp_path: Path, no_system_config: Path
) -> None:
    write(no_system_config, BAD)
    assert places.control_sockets(None, None, {})[-1] == tmp_path / "run" / "control.sock"
    with pytest.raises(ConfigError):
        places.control_sockets(None, no_system_config, {})


def test_no_appliance_exits_69(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    socket = tmp_path / "control.sock"
    assert cli.main(["status", "--socket", str(socket)], {}) == 69
    assert capsys.readouterr().err == (
        f"edge is not running: no control socket at {socket}; start it with edge run\n"
    )


def test_a_service_that_does_not_run_is_started_by_systemctl(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(places, "SYSTEM_RUNTIME", Path("/run/edge/none"))
    assert cli.main(["top"], {}) == 69
    assert capsys.readouterr().err.endswith("; start it with systemctl start edge\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completions_know_the_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell], {}) == 0
    script = capsys.readouterr().out
    for word in ("check-config", "undrain", "deadline"):
        assert word in script
    if shell == "bash":
        assert "_shtab_edge_status___config_COMPGEN=_shtab_compgen_files" in script


def test_a_reader_that_has_enough_is_no_error() -> None:
    command = f"{sys.executable} -m edge completion zsh | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_exit_statuses_are_documented() -> None:
    """docs/operating.md has a line for each."""
    text = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    for number, meaning in EXIT_STATUSES.items():
        assert f"| {number} | {meaning} |" in text


def test_commands_are_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    for name in cli._COMMANDS:
        assert f"| `edge {name}" in text


def test_every_command_is_there() -> None:
    """What the parser knows, modules have; they are imported by name."""
    for name in cli._COMMANDS:
        assert callable(cli._find(name))
        with pytest.raises(SystemExit) as caught:
            make_parser().parse_args([name, "--help"])
        assert caught.value.code == 0


def test_the_manual_page_has_every_command() -> None:
    script = Path(__file__).parents[2] / "scripts" / "make-man"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    page = done.stdout.replace("\\-", "-")
    for name in cli._COMMANDS:
        assert f"\\fBedge {name}" in page
    for number in EXIT_STATUSES:
        assert f"\n.B {number}\n" in page


def test_run_with_unusable_keys_exits_78(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.touch(mode=0o644)
    path = write(tmp_path / "edge.toml", f'[keys]\nfile = "{keys}"\n')
    command = [sys.executable, "-m", "edge", "run", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert "chmod 600" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[steering]\ndatabase = "{folder}/none.mmdb"\n', "No such file"),
        ('[steering]\ndatabase = "{folder}/edge.toml"\n', "not a usable database"),
        (
            '[signal]\ntls_certificate = "{folder}/none.pem"\ntls_key = "{folder}/none.key"\n',
            "none.key: No such file",
        ),
    ],
)
def test_files_that_it_names_are_looked_at(
    table: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "edge.toml", table.format(folder=tmp_path))
    assert cli.main(["check-config", str(path)], {}) == 78
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""
