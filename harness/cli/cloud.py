"""Commands about rented machines: cloud plan."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.help import Group
from harness.cli.options import Json, Wide, form, prices

app = typer.Typer(name="cloud", cls=Group, no_args_is_help=True, help="Plan a run on rented machines.")


@app.command("plan")
def plan_(
    cluster: Annotated[str, typer.Argument(metavar="FILE", help="Cluster file, such as clusters/aws.yaml.")],
    types: Annotated[str | None, typer.Option(help="Types to rent: t4,l4; all of the file if not given.")] = None,
    profile: Annotated[str, typer.Option(help="quick, article, thorough, or a TOML file.")] = "quick",
    image: Annotated[str | None, typer.Option(help="sparse, dense, or a 2-D TIFF file.")] = None,
    crops: Annotated[str | None, typer.Option(help="Sides of centred squares in px, or full: 224,448,full.")] = None,
    devices: Annotated[str | None, typer.Option(help="auto, or some of cpu, cuda, cuda:0.")] = None,
    models: Annotated[str | None, typer.Option(help="Models to run; cellbench models lists them.")] = None,
    budget: Annotated[float | None, typer.Option(min=0, help="Fail if the run may cost more than this.")] = None,
    price: Annotated[
        list[str] | None, typer.Option(help="Price of an hour, as TYPE=PRICE: t4=0.20; may be repeated.")
    ] = None,
    json: Json = False,
    wide: Wide = False,
) -> None:
    """Print the hours and the money that a run on rented machines takes, and start nothing.

    Prices are your own: those of the cluster file, and those of --price.
    """
    from harness.fleet import cloud
    from harness.plan import config
    from harness.terminal import cloud_view

    flags = {"image": image, "crops": config.split(crops), "devices": config.split(devices)}
    flags |= {"models": config.split(models)}
    offer = cloud.read(cluster, prices(price or [], "t4=0.20"))
    items = cloud.plan(config.load(profile, flags), offer, config.split(types) or tuple(offer.types))
    cloud_view.show(items, offer, form(json, False, False, wide))
    if budget is not None:
        cloud.check_budget(items, budget, offer.currency)
