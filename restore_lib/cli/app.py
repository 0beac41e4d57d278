"""The command's root: which commands there are, and how their errors end.

Each command's module, and all that it needs, is imported only when that command is given.
"""

import importlib
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from restore_lib.cli.output import Invocation, print_error
from restore_lib.errors import TapeflowError

COMMANDS = {
    "init": "Set up a first cluster: config, keys, virtual library, catalog.",
    "keys": "Make age keys.",
    "catalog": "Set up, check and rebuild the catalog's database.",
    "library": "The tape library: its drives, its slots, new volumes.",
    "volumes": "The volumes, and the history of each.",
    "backup": "Back up a store to tape, and see its recovery points.",
    "vault": "Send volumes offsite, and call them back.",
    "loss-scan": "Find what a store has lost, by name.",
    "incident": "The losses that scans have found.",
    "restore": "Bring objects back from tape, each verified.",
    "verify": "Read volumes again, and compare them with what was written.",
    "verifications": "The verifications, and what each has found.",
    "repair": "Write a lost or damaged volume anew from the others of its set.",
    "retention": "Let recovery points expire by the rules of their policies.",
    "repack": "Move live objects off tape sets that hold mostly what has expired.",
    "reclaim": "Reclaim the volumes of tape sets that nothing needs any more.",
    "drill": "Rehearse: restore into a scratch store, and measure.",
    "audit": "The audit trail: who did what, and that nobody has altered it.",
}


class Commands(TyperGroup):
    """The commands by name, each imported when it is run."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - Typer gives it
        """Return the names of the commands in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - Typer gives it
        """Return what the help and shell completion need to know of a command."""
        if cmd_name not in COMMANDS:
            return None
        return TyperCommand(name=cmd_name, help=COMMANDS[cmd_name])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the command to run."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, None if command is None else load_command(command.name or ""), rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an error that is raised on purpose ends it with its own exit code."""
        try:
            return super().invoke(ctx)
        except TapeflowError as error:
            print_error(error, as_json=isinstance(ctx.obj, Invocation) and ctx.obj.as_json)
            raise typer.Exit(error.exit_code) from error


def load_command(name: str) -> Any:
    """Import the module of a command and return the command."""
    module = importlib.import_module(f"restore_lib.cli.{name.replace('-', '_')}")
    command: Any = typer.main.get_command(module.app)
    command.name = name
    return command


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tapeflow {version('tapeflow')}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            envvar="TAPEFLOW_CONFIG",
            show_envvar=True,
            help="The cluster's tapeflow.toml; ./tapeflow.toml when not given.",
        ),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Back up object stores to tape, and bring back what is lost, verified."""
    ctx.obj = Invocation(config)


def main() -> None:
    """Run the command with the arguments of this process; does not return."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # both are text
    app(prog_name="tapeflow")
