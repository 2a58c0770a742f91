"""`sgacodec models`: list, show, import."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from sgacodec import strict_json
from sgacodec.errors import ModelError, TrainError
from sgacodec.models import store
from sgacodec.models.entropy import ContextModel
from sgacodec.models.file import dump_model, load_model
from sgacodec.models.model import Model
from sgacodec_cli import completion
from sgacodec_cli.files import check_distinct, check_input, check_output, show, write_output
from sgacodec_cli.interrupts import leaving_at_once

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from sgacodec.train.data.weights import Weights
    from sgacodec.train.families.base import Family


@click.group("models")
def command() -> None:
    """List, show and import models."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON list.")
def list_models(as_json: bool) -> None:
    """List the installed models: name, id, where they are."""
    entries = store.installed()
    if as_json:
        show(strict_json.dumps([{**dataclasses.asdict(entry), "path": str(entry.path)} for entry in entries]))
        return
    for entry in entries:
        default = " (default)" if entry.name == store.DEFAULT_MODEL else ""
        show(f"{entry.name:<24}{entry.model_id}  {'packaged' if entry.packaged else entry.path}{default}")


@command.command("show")
@click.argument("name", default=store.DEFAULT_MODEL, shell_complete=completion.models)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show_model(name: str, as_json: bool) -> None:
    """Show a model's id, levels, networks and card. NAME is a name, an id or a path."""
    facts = _facts(store.load_by_name(name))
    if as_json:
        show(strict_json.dumps(facts))
        return
    for key, value in facts.items():
        if value is not None:
            show(f"{key:<14}{value}")


def _facts(model: Model) -> dict[str, object]:
    prior = model.decoder.entropy
    networks = {"g_a": model.encoder.g_a, "h_a": model.encoder.h_a, "h_s": prior.h_s, "g_s": model.decoder.g_s}
    groups = [group.stop - group.start for group in prior.groups] if isinstance(prior, ContextModel) else None
    if model.bits_back is not None:
        networks |= {"bits-back h_a": model.bits_back.h_a, "bits-back h_s": model.bits_back.h_s}
    return {
        "name": model.name,
        "id": model.model_id.hex(),
        "bits-back id": None if model.bits_back_id is None else model.bits_back_id.hex(),
        "levels": model.decoder.n_levels,
        "lambdas": ", ".join(f"{value:g}" for value in model.lambdas),
        "N": model.decoder.n_channels,
        "M": model.decoder.m_channels,
        "stride": model.decoder.z_stride,
        "entropy model": prior.kind,
        "groups": None if groups is None else " ".join(map(str, groups)),
        **{name: " ".join(layer.kind for layer in network) for name, network in networks.items()},
        **model.card,
    }


@command.command("import")
@click.argument("source", shell_complete=completion.files)
@click.option("--quality", type=click.IntRange(1, 8), default=None, help="Quality of a CompressAI zoo model.")
@click.option("--lambda", "lambdas", type=float, multiple=True,
              help="R-D trade-off of a state dict, once per level; for one level the default is 0.013.")  # fmt: skip
@click.option("--name", default=None, help="Name of the model.  [default: from SOURCE]")
@click.option("--calibrate", type=click.Path(exists=True, path_type=Path), default=None,
              help="Folder of photographs that set the integer ranges.  [default: rendered scenes]")  # fmt: skip
@click.option("-o", "--output", default=None, shell_complete=completion.files,
              help="Model file.  [default: the user's model folder]")  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Overwrite the model file.")
def import_model(
    source: str,
    quality: int | None,
    lambdas: tuple[float, ...],
    name: str | None,
    calibrate: Path | None,
    output: str | None,
    force: bool,
) -> None:
    """Convert trained weights to an integer model.

    SOURCE is 'mbt2018-mean' with --quality 1 to 8 (downloaded by CompressAI), a state dict with the parameter names of
    CompressAI's mean-scale hyperprior (of torch.save or safetensors, bare or in a checkpoint), or a checkpoint of
    sgacodec train.
    """
    check_input(source)
    try:
        with leaving_at_once():
            from sgacodec.train.data.weights import ZOO, calibration_images, state_file, zoo
    except ImportError as err:
        raise ModelError(
            "importing models needs torch and CompressAI; install them with: pip install 'sgacodec[train]'"
        ) from err
    weights = zoo(source, quality) if source in ZOO else state_file(Path(source))
    name = _checked_name(weights.name if name is None else name)
    target = _default_target(name) if output is None else output
    _check_target(source, target, is_cached=output is None, force=force)
    family = _family(source, weights)
    images = calibration_images(calibrate, np.random.default_rng(0))
    model = family.to_model(weights.state, lambdas or weights.lambdas, images, name, {"source": weights.origin})
    _warn_of_conversion(weights, model, images)
    data = dump_model(model)
    load_model(data)  # what no decoder would take is not written
    if output is None:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
    write_output(target, data, force)
    show(f"{target}: {name}, id {model.model_id.hex()}")


def _family(source: str, weights: Weights) -> Family:
    from sgacodec.train.families import registry

    try:
        return registry.family(registry.of_state(weights.state))
    except TrainError as err:
        raise ModelError(f"{source}: {err}") from err


def _warn_of_conversion(weights: Weights, model: Model, images: Sequence[npt.NDArray[np.uint8]]) -> None:
    from sgacodec.train.export import cost
    from sgacodec.train.families import registry

    try:
        net = registry.network(weights.state, model.lambdas)
    except TrainError:
        return  # training knows no such network, and there is nothing to compare with
    cost.warn_of_loss(net, model, images)


def _checked_name(name: str) -> str:
    if name in ("", "..") or Path(name).name != name:
        raise click.UsageError(
            f"{name!r} is no name of a model; --name takes what a file may be called, without folders"
        )
    return name


def _default_target(name: str) -> str:
    folder = store.cache_folder()
    if folder is None:
        raise click.UsageError("you have no home folder to keep models in; name the model file with -o")
    return str(folder / f"{name}{store.SUFFIX}")


def _check_target(source: str, target: str, *, is_cached: bool, force: bool) -> None:
    if not is_cached or Path(target).parent.is_dir():
        check_output(target, force)
    check_distinct({"the model file": target}, {"the weights": source})
