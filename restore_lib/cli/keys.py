"""`tapeflow keys`: age keys, made without a cluster."""

import os
from pathlib import Path
from typing import Annotated

import typer

from restore_lib.cli.output import print_json
from restore_lib.cli.session import Json, group
from restore_lib.errors import ConfigError, DiskFull, Refused
from restore_lib.tape.age import new_identity

app = group("Make age keys.")


@app.callback()
def keys() -> None:
    """Make age keys."""


@app.command()
def generate(
    file: Annotated[Path, typer.Argument(help="Where the secret key goes; it must not exist.")],
    as_json: Json = False,
) -> None:
    """Make a key pair: the secret goes to FILE, readable by its owner only; the public is shown.

    The public key belongs in [keys] recipients. Who has the file can read the tapes; who loses all
    such files can't.
    """
    recipient = new_key(file)
    if as_json:
        print_json({"file": str(file), "recipient": recipient})
    else:
        typer.echo(recipient)


def new_key(file: Path) -> str:
    """Make a key pair, write the secret one to ``file`` and return the public one.

    Refused when the file is there already: a key is never overwritten.
    """
    text, recipient = new_identity()
    write_new(file, text, mode=0o600)
    return recipient


def write_new(file: Path, text: str, *, mode: int) -> None:
    """Write a new file and flush it to the disk; Refused when it exists, and nothing is changed."""
    try:
        if not file.parent.is_dir():
            file.parent.mkdir(parents=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        if not file.exists():
            raise _unwritable(file, "a folder in its path is a file") from None
        raise Refused(
            f"{file} exists already; it is not overwritten.", remedy="choose another name"
        ) from None
    except OSError as error:
        raise _unwritable(file, error.strerror or str(error)) from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        file.unlink(missing_ok=True)
        raise DiskFull(f"{file} can't be written: {error.strerror}.") from error


def _unwritable(file: Path, why: str) -> ConfigError:
    return ConfigError(f"{file} can't be written: {why}.", remedy="choose another folder")
