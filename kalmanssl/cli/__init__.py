"""The command line."""

from kalmanssl.cli._main import app as app
from kalmanssl.cli._main import main as main
