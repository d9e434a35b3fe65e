"""`forerank finetune`: fine-tune models through the API, follow it, print what they reached."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli_client import Output, OutputOption, UrlOption, connected, print_rows

FINAL = {"succeeded", "failed", "cancelled"}
POLLING_SECONDS = 0.5
COLUMNS = ("model", "accuracy", "accuracy_spread", "log_loss", "recommended_rate", "state")


def finetune(
    target: Annotated[
        str | None, typer.Argument(help="A folder of images, or id, name or location; default: the ranking's.")
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="Id or name; may be given again.")] = None,
    ranking: Annotated[str | None, typer.Option(help="Fine-tune what this ranking advises.")] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 8,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each model.")] = 1,
    size: Annotated[int, typer.Option(min=32, help="Side of the images in pixels.")] = 96,
    rate: Annotated[
        list[float] | None, typer.Option(help="A multiple of the usual learning rate to try; may be given again.")
    ] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror images at random.")] = False,
    max_samples: Annotated[int | None, typer.Option(help="Images of a stratified sample.")] = None,
    weights: Annotated[bool, typer.Option("--weights", help="Keep the fine-tuned weights.")] = False,
    estimate: Annotated[bool, typer.Option("--estimate", help="Only say how long it will take.")] = False,
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
) -> None:
    """Fine-tune models on part of the images and test them on the rest. Without a server, one is started."""
    body: dict[str, Any] = {
        "models": model,
        "ranking": ranking,
        "epochs": epochs,
        "seeds": seeds,
        "size": size,
        "flip": flip,
        "sample": {"max_samples": max_samples},
        "weights": weights,
    } | ({"rate_multiples": rate} if rate else {})
    with connected(url, target=target, zoo="offline") as client:
        if target is not None:
            location = str(Path(target).resolve()) if Path(target).is_dir() else target
            body["target"] = client.dataset(location)["id"]
        if estimate:
            typer.echo(json.dumps(client.call("POST", "/v1/finetunes/estimates", body), indent=1))
            return
        found = client.call("POST", "/v1/finetunes", body)
        if found["seconds_expected"] is not None:
            typer.echo(f"about {found['seconds_expected']:.0f} s by the measured speed of these models", err=True)
        found = _follow(client, found)
    print_rows(found["models"], COLUMNS, output, found)
    for row in found["models"]:
        for run in row["runs"]:
            if run["problem"]:
                typer.echo(f"{row['model']}, run {run['number']}: {run['problem']['detail']}", err=True)
            if run["weights"]:
                typer.echo(f"{row['model']}, seed {run['seed']}: weights at {run['weights']}", err=True)
    if found["state"] != "succeeded":
        raise typer.Exit(1)


def _follow(client: Any, found: dict[str, Any]) -> dict[str, Any]:
    """Say each run that ends; the fine-tuning when it has ended."""
    said: set[int] = set()
    while True:
        found = client.call("GET", found["links"]["self"])
        for row in found["models"]:
            for run in row["runs"]:
                if run["accuracy"] is not None and run["number"] not in said:
                    said.add(run["number"])
                    what = f"rate x {run['rate_multiple']:g}" if run["purpose"] == "rate" else f"seed {run['seed']}"
                    reached = f"{100 * run['accuracy']:.1f} % of {run['images']} images in {run['seconds']:.0f} s"
                    typer.echo(f"{row['model']}, {what}: {reached}", err=True)
        if found["state"] in FINAL:
            return found
        time.sleep(POLLING_SECONDS)
