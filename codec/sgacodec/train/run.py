"""Where a run starts: from nothing, from weights, from a model, or from the checkpoint that it goes on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgacodec.errors import OptionError, TrainError
from sgacodec.models import store
from sgacodec.models.model import Model
from sgacodec.train import checkpoint, trainer
from sgacodec.train.checkpoint import Checkpoint
from sgacodec.train.data.images import Dataset
from sgacodec.train.data.weights import Weights, state_file
from sgacodec.train.events import Listener
from sgacodec.train.export import publish
from sgacodec.train.families import registry
from sgacodec.train.families.registry import family
from sgacodec.train.options import DEFAULT_FAMILY, RunOptions, TrainOptions, continue_with
from sgacodec.train.stages import bits_back
from sgacodec.train.trainer import Job, Trained
from sgacodec.train.workers import Worker


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        given: attributes of `TrainOptions` that were named.
        model: name, id or path of the model that training starts from or that gets a bits-back model, or None.
        resume: checkpoint, or None.
        warm: whether only its weights are taken.
    """

    given: Mapping[str, Any]
    model: str | None = None
    resume: Path | None = None
    warm: bool = False

    @property
    def trains_bits_back(self) -> bool:
        """Whether a model's bits-back model is asked for."""
        return self.given.get("stage") == "bits-back"


@dataclass(frozen=True)
class Start:
    """Options of a run, the state or weights that it starts from, and the model that gets a bits-back model."""

    options: TrainOptions
    model: Model | None
    resume: Checkpoint | None = None
    weights: Weights | None = None

    def job(self, run: RunOptions, dataset: Dataset, worker: Worker) -> Job:
        """Return what is to be trained."""
        common = (self.options, run, dataset, worker, self.resume, self.weights)
        return Job(*common) if self.model is None else bits_back.BitsBackJob(*common, model=self.model)


def start(request: Request) -> Start:
    """Return how a run starts.

    Raises:
        TrainError, OptionError: options do not fit what it starts from.
        ModelError: there is no such model.
    """
    model = None if request.model is None else store.load_by_name(request.model)
    if request.resume is not None and not request.warm:
        return _resumed(request, request.resume, model)
    if request.trains_bits_back:
        if model is not None:
            _check_stage(registry.of_model(model), "bits-back")
        weights = None if request.resume is None else state_file(request.resume)
        return Start(TrainOptions(**request.given, **_facts(request, model)), model, weights=weights)
    if request.resume is not None:
        weights = state_file(request.resume)
        return _further(request, registry.of_state(weights.state), weights)
    if model is not None:
        name = registry.of_model(model)
        return _further(request, name, family(name).from_model(model))
    name = request.given.get("family", DEFAULT_FAMILY)
    return Start(_options(name, {}, request.given), None)


def _resumed(request: Request, path: Path, model: Model | None) -> Start:
    resumed = checkpoint.read(path)
    options = continue_with(resumed.options, {**request.given, **_facts(request, model)})
    if options.model is not None and model is None:
        model = store.load_by_name(options.model)
    return Start(options, model, resume=resumed)


def _further(request: Request, name: str, weights: Weights) -> Start:
    if request.given.get("family", name) != name:
        raise OptionError(f"the weights are of the family {name}, not {request.given['family']}; leave --family out")
    implied = {**family(name).options_of(weights.state), "lambdas": weights.lambdas}
    return Start(_options(name, implied, request.given), None, weights=weights)


def _options(name: str, implied: Mapping[str, Any], given: Mapping[str, Any]) -> TrainOptions:
    """Return options: what is given, else what the weights imply, else what the family prefers.

    Raises:
        TrainError: the family has no such stage.
    """
    chosen = family(name)
    options = TrainOptions(**{**chosen.defaults, **implied, **given, "family": name})
    _check_stage(name, options.stage)
    return options


def _check_stage(name: str, stage: str) -> None:
    if stage not in (stages := family(name).stages):
        raise TrainError(f"the family {name} has no stage {stage}; it has: {', '.join(stages)}")


def _facts(request: Request, model: Model | None) -> dict[str, Any]:
    """Return what a bits-back model takes over from its model."""
    if model is None:
        return {}
    if named := {"N", "M", "blocks", "lambdas"} & set(request.given):
        raise OptionError(f"a bits-back model's {', '.join(sorted(named))} are those of its model; leave them out")
    decoder = model.decoder
    widths = {"N": decoder.n_channels, "M": decoder.m_channels}
    return {"model": model.model_id.hex(), **widths, "lambdas": model.lambdas}


def train(job: Job, listeners: Sequence[Listener] = (), stop: Callable[[], bool] = lambda: False) -> Trained:
    """Train whatever the job is; see `trainer.train`."""
    if isinstance(job, bits_back.BitsBackJob):
        return bits_back.train(job, listeners, stop)
    return trainer.train(job, listeners, stop)


def export(job: Job, trained: Trained, name: str) -> Model:
    """Return the integer model of what was trained.

    Raises:
        ModelError: the weights cannot be converted.
    """
    if isinstance(job, bits_back.BitsBackJob):
        return publish.with_trained_bits_back(job, trained)
    return publish.to_model(job, trained, name)
