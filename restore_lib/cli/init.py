"""`tapeflow init`: from nothing to a cluster that can back up."""

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from restore_lib.catalog.engine import Catalog
from restore_lib.cli.keys import new_key, write_new
from restore_lib.cli.library import create_library
from restore_lib.cli.output import console, facts, print_json
from restore_lib.cli.session import Json, group
from restore_lib.config_tables import ClusterConfig, LibraryConfig
from restore_lib.errors import Refused
from restore_lib.tape.age import load_identities

app = group()
_TEMPLATE = """\
# Tapeflow's config; docs/configuration.md lists every key. Relative paths begin at this folder.
[cluster]
id = "{cluster}"  # on every tape label

[keys]
recipients = [
    "{operating}",  # keys/operating.txt
    "{escrow}",  # keys/escrow.txt, which belongs in another place
]
identity_file = "keys/operating.txt"  # needed by restores only

[stores.live]
kind = "local"
path = {store}

[policies.live]
store = "live"
k = 4  # data volumes of a tape set
m = 2  # parity volumes: as many can be lost

[library]
kind = "virtual"
path = "tapes"
"""


@app.command()
def init(
    store: Annotated[
        Path, typer.Option(help="The folder to back up.", exists=True, file_okay=False)
    ],
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where the cluster's files go.")
    ] = Path(),
    cluster: Annotated[
        str, typer.Option(help="The cluster's name: a letter, then a-z, 0-9, _ and -.")
    ] = "tapeflow",
    as_json: Json = False,
) -> None:
    """Set up a first cluster in DIR, which protects one folder on virtual tapes.

    Writes tapeflow.toml, an operating and an escrow key, a catalog and a virtual library. Nothing
    that exists is overwritten; when it was interrupted, it goes on where it was.
    """
    config = folder / "tapeflow.toml"
    if config.exists():
        raise Refused(
            f"{config} exists already; it is not overwritten.",
            remedy="edit it, or name another folder",
        )
    _check_cluster(cluster)
    quoted = _quoted(store.absolute())
    text = _TEMPLATE.format(
        cluster=cluster,
        operating=_key(folder / "keys" / "operating.txt"),
        escrow=_key(folder / "keys" / "escrow.txt"),
        store=quoted,
    )
    create_library(LibraryConfig(path=folder / "tapes"))
    catalog = Catalog(f"sqlite:///{folder.absolute() / 'catalog.db'}")
    catalog.migrate()
    catalog.close()
    write_new(config, text, mode=0o644)
    made = {
        "config": str(config),
        "operating_key": str(folder / "keys" / "operating.txt"),
        "escrow_key": str(folder / "keys" / "escrow.txt"),
        "library": str(folder / "tapes"),
    }
    if as_json:
        print_json(made)
        return
    console().print(facts(made))
    typer.echo(
        "Keep a copy of the escrow key in another place: without one of the two keys, nobody can\n"
        "read the tapes. Next: `tapeflow library add-blank TF{0001..0006}L9`, and then\n"
        "`tapeflow backup run live`.",
        err=True,
    )


def _key(file: Path) -> str:
    """Return the public key of ``file``, making it where an interrupted run has not yet."""
    return load_identities(file)[0].recipient if file.exists() else new_key(file)


def _check_cluster(name: str) -> None:
    try:
        ClusterConfig(id=name)
    except ValidationError:
        raise Refused(
            f"{name!r} can't be the name of a cluster.",
            remedy="use a letter, then letters, digits, _ and -, all in lower case",
        ) from None


def _quoted(path: Path) -> str:
    """Return a path as a string of TOML, which JSON's is too; Refused when it is not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise Refused(
            "The path of the folder to back up is not UTF-8, which a config file is.",
            remedy="give it another name, or a symbolic link of another name",
        ) from None
    return json.dumps(str(path), ensure_ascii=False)
