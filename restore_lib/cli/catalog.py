"""`tapeflow catalog`: the database that knows where everything is."""

import typer

from restore_lib.catalog.engine import Catalog
from restore_lib.cli.session import Json, group, opened

app = group("Set up and check the catalog's database.")


@app.command()
def migrate(ctx: typer.Context, as_json: Json = False) -> None:
    """Create the catalog, or bring an older one up to date; all rows are kept."""
    with opened(ctx, as_json=as_json) as session:
        catalog = Catalog(session.site.config.catalog.url)
        try:
            catalog.migrate()
            catalog.check()
        finally:
            catalog.close()
        session.show({"catalog": "ready"}, "The catalog is ready.")


@app.command()
def check(ctx: typer.Context, as_json: Json = False) -> None:
    """Say whether the catalog answers, and is of this version."""
    with opened(ctx, as_json=as_json) as session:
        session.site.catalog.check()
        session.show({"catalog": "ready"}, "The catalog is ready.")
