"""What every command works with: an opened site, who works on it, and where results go."""

import getpass
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from restore_lib.cli.output import Invocation, console, print_json
from restore_lib.cli.progress import Board
from restore_lib.errors import Refused
from restore_lib.site import Site


def _speak_json(ctx: typer.Context, wanted: bool) -> bool:
    """Take note of --json before the command begins, so that each error of it is JSON too."""
    ctx.obj.as_json = wanted
    return wanted


Json = Annotated[
    bool,
    typer.Option(
        "--json",
        callback=_speak_json,
        help="Print the result as JSON on stdout, and nothing else there.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed without a terminal.")]


def group(about: str | None = None) -> typer.Typer:
    """Return an application for commands of one kind."""
    return typer.Typer(
        help=about,
        no_args_is_help=about is not None,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )


class Session:
    """One command at work on one site."""

    def __init__(self, site: Site, *, as_json: bool) -> None:
        self.site = site
        self.as_json = as_json
        self.actor = f"cli:{_user()}@{socket.gethostname()}"

    def show(self, data: Mapping[str, Any], *text: RenderableType) -> None:
        """Print a result: ``data`` as JSON where that is asked for, else ``text``."""
        if self.as_json:
            print_json(data)
            return
        for part in text:
            console().print(part, soft_wrap=isinstance(part, str))

    def say(self, message: str) -> None:
        """Tell what goes on, on stderr."""
        console(stderr=True).print(message, soft_wrap=True)

    def board(self) -> Board:
        """Return progress bars on stderr; they show on a terminal only."""
        return Board(console(stderr=True))

    def confirm(self, question: str, *, yes: bool) -> bool:
        """Ask on the terminal, unless ``yes``; Refused where nobody can be asked.

        Ctrl-C, or the end of input, is no answer: it raises KeyboardInterrupt.
        """
        if yes:
            return True
        check_can_ask(as_json=self.as_json)
        try:
            return typer.confirm(question, err=True)
        except typer.Abort:
            typer.echo(err=True)
            raise KeyboardInterrupt from None


def check_can_ask(*, as_json: bool) -> None:
    """Raise Refused unless a person is there to answer."""
    if as_json or not sys.stdin.isatty():
        raise Refused(
            "This has to be confirmed, and nobody can be asked here (no terminal, or --json).",
            remedy="see the plan with --dry-run, then give --yes",
        )


@contextmanager
def opened(ctx: typer.Context, *, as_json: bool = False) -> Iterator[Session]:
    """Open the site that the command line names, for one command."""
    invocation: Invocation = ctx.obj
    site = Site.load(invocation.config)
    try:
        yield Session(site, as_json=as_json)
    finally:
        site.close()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
