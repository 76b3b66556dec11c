"""Help, version and error messages of the command line."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
from cli_commands import invoke
from typer.main import get_command

import kalmanssl
from kalmanssl.cli import app
from kalmanssl.cli._errors import one_line
from kalmanssl.data import Recording
from kalmanssl.data._binning import BIN_SIZE
from kalmanssl.errors import InputError


def test_help_and_import_load_nothing_heavy():
    code = (
        "import sys, kalmanssl, kalmanssl.cli as c\n"
        "from typer.testing import CliRunner\n"
        "for arguments in (['--help'], ['fit', '--help'], ['fetch', '--help'], ['--version']):\n"
        "    assert CliRunner().invoke(c.app, arguments).exit_code == 0\n"
        "print([m for m in ('torch', 'pynwb', 'h5py', 'matplotlib', 'sklearn', 'numpy') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["demo", "info", "fit", "decode", "evaluate", "report", "fetch", "bench"])
def test_help_of_every_command_has_an_example(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"kalmanssl {command}" in result.output.split("Options")[0].split("Usage:")[1].split("\n", 1)[1]


def test_paragraphs_of_the_help_are_wrapped_at_the_width_of_the_terminal_alone():
    commands = get_command(app)
    for one in (commands, *commands.commands.values()):
        for paragraph in one.help.split("\n\n"):
            assert "\n" not in paragraph or paragraph.startswith(" ")
    assert "\n     kalmanssl fit REC.nwb --out RUN --until 1800" in invoke("--help").output  # still indented


def test_help_shows_the_defaults_of_the_library():
    from kalmanssl.decoding import PositionDecoder
    from kalmanssl.estimator import KalmanSSL

    shown = {o.name: o.show_default for o in get_command(app).commands["fit"].params}
    model, decoder = inspect.signature(KalmanSSL).parameters, inspect.signature(PositionDecoder).parameters
    for option in ("latent_dim", "state_dim", "noise", "epochs"):
        assert shown[option] == str(model[option].default)
    assert shown["level"] == str(decoder["level"].default)
    assert shown["decoder"] == decoder["regressor"].default
    assert inspect.signature(Recording.from_nwb).parameters["bin_size"].default is None
    assert shown["bin_size"].startswith(f"{BIN_SIZE};")


def test_assumption_checks_are_exported_at_the_top_level():
    import kalmanssl as ks
    from kalmanssl.identifiability import check_assumptions

    assert ks.check_assumptions is check_assumptions
    assert ks.identifiability.check_assumptions is check_assumptions
    assert {"check_assumptions", "identifiability"} <= set(dir(ks))


def test_version_option_prints_the_version():
    import kalmanssl

    assert invoke("--version").stdout == f"kalmanssl {kalmanssl.__version__}\n"


@pytest.mark.parametrize(
    ("message", "parameter", "shown"),
    [
        ("bin_size must be positive; got -1", "bin_size", "--bin-size must be positive; got -1"),
        ("epoch='x' is not in the file", "epoch", "--epoch='x' is not in the file"),
        ("there are no spikes;\nchoose others", "units", "--units: there are no spikes; choose others"),
        ("units_of_time are wrong", "units", "--units: units_of_time are wrong"),
        ("latents has shape (3,)", "latents", "latents has shape (3,)"),
        ("the file is damaged", None, "the file is damaged"),
        ("bin_size must be larger, or set units", "bin_size", "--bin-size must be larger, or set --units"),
        ("choose another set of units", None, "choose another set of units"),
    ],
)
def test_errors_name_the_option_of_the_wrong_argument(message, parameter, shown):
    options = {"bin_size": "--bin-size", "epoch": "--epoch", "units": "--units"}
    assert one_line(InputError(message, parameter=parameter), options) == shown


def test_the_package_can_be_run_as_a_module() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "kalmanssl", "--version"], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout == f"kalmanssl {kalmanssl.__version__}\n"


@pytest.mark.parametrize("command", [(), ("info",), ("fit",), ("decode",)])
def test_help_of_flags_names_no_type_because_no_value_follows_them(command):
    shown = invoke(*command, "--help").output
    assert "<bool" not in shown
    assert "<int>" in shown or command != ("fit",)  # options with a value have their type
