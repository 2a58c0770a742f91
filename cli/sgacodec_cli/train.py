"""`sgacodec train`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from sgacodec.errors import OptionError, TrainError
from sgacodec.models.file import dump_model
from sgacodec.models.store import SUFFIX
from sgacodec.train.options import DEFAULT_FAMILY, FAMILIES, LEARNING_RATES, STAGES, RunOptions, TrainOptions
from sgacodec_cli import completion
from sgacodec_cli.files import check_distinct, check_output, write_output
from sgacodec_cli.interrupts import leaving_at_once
from sgacodec_cli.progress import is_hidden

if TYPE_CHECKING:
    from sgacodec.train.events import Listener, Record
    from sgacodec.train.loss import LevelLoss
    from sgacodec.train.trainer import Job, Trained

_RATES = ", ".join(f"{name} {rate:g}" for name, rate in LEARNING_RATES.items())
_N_COST_IMAGES = 8
_PATH = click.Path(path_type=Path)


@dataclass(frozen=True)
class _Request:
    """What was asked for on the command line.

    Attributes:
        run: how to train here.
        given: attributes of `TrainOptions` that were named.
        model: the model that training starts from or that gets a bits-back model, or None.
        resume: checkpoint, or None.
        warm: whether only its weights are taken.
        tensorboard, model_file: outputs, or None.
        force: whether outputs may be overwritten.
        quiet: whether nothing is shown.
        progress: whether a bar is shown even where standard error is no terminal.
    """

    run: RunOptions
    given: dict[str, Any]
    model: str | None
    resume: Path | None
    warm: bool
    tensorboard: Path | None
    model_file: Path | None
    force: bool
    quiet: bool
    progress: bool

    @property
    def log(self) -> Path:
        """The course of the run, a line of JSON for every record."""
        return self.run.output.with_suffix(".jsonl")

    @property
    def goes_on(self) -> bool:
        """Whether the output is the resumed run's own checkpoint."""
        return self.resume is not None and not self.warm and self.run.output.resolve() == self.resume.resolve()


@click.command("train")
@click.argument("sources", metavar="DATA...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=_PATH, default=None, help="Checkpoint file, .pt.  [default: that of --resume]")
@click.option("--resume", type=_PATH, default=None, help="Checkpoint to go on from; it keeps its options.")
@click.option("--warm", is_flag=True, help="Take only the weights of --resume, and start a new schedule.")
@click.option("--stage", type=click.Choice(STAGES), default=None,
              help=f"hyper: the hyperprior alone, on the rate; refined: the decoder alone, on refined latents; "
                   f"bits-back: a bits-back model for --model.  "
                   f"[default: {TrainOptions.stage}]")  # fmt: skip
@click.option("--model", default=None, shell_complete=completion.models,
              help="Model to start from, or with --stage bits-back the one that gets a bits-back model: name, id or "
                   "path; it stays as it is.")  # fmt: skip
@click.option("--refine-steps", type=click.IntRange(min=0), default=None,
              help=f"Refinement of each batch of --stage refined; 0 is for files without.  "
                   f"[default: {TrainOptions.refine_steps}]")  # fmt: skip
@click.option("--refined-updates", type=click.IntRange(min=1), default=None,
              help=f"Updates on each refined batch.  [default: {TrainOptions.refined_updates}]")  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), default=None, help="Length of the whole schedule in steps.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=None,
              help="Length of the whole schedule in seconds of training, instead of --steps.")  # fmt: skip
@click.option("--stop-after", type=click.FloatRange(min=0), default=None,
              help="End this piece after so many seconds; --resume goes on.")  # fmt: skip
@click.option("--optimizer", type=click.Choice(list(LEARNING_RATES)), default=None,
              help=f"[default: {TrainOptions.optimizer}]")  # fmt: skip
@click.option("--lr", type=float, default=None, help=f"Learning rate after warm-up.  [default: {_RATES}]")
@click.option("--warmup-steps", type=click.IntRange(min=0), default=None,
              help=f"[default: {TrainOptions.warmup_steps}]")  # fmt: skip
@click.option("--final-lr", type=click.FloatRange(0, 1, min_open=True), default=None,
              help=f"The cosine ends at this fraction of the learning rate; 1 keeps the rate constant.  "
                   f"[default: {TrainOptions.final_lr:g}]")  # fmt: skip
@click.option("--lambda", "lambdas", type=float, multiple=True,
              help="R-D trade-off: once for a single rate, or once per level.  "
                   "[default: ten levels; mean-scale: eight]")  # fmt: skip
@click.option("--family", type=click.Choice(FAMILIES), default=None,
              help=f"Kind of network: a hyperprior, or a context model, which learns faster on a CPU.  "
                   f"[default: {DEFAULT_FAMILY}, or that of the weights]")  # fmt: skip
@click.option("--N", "N", type=int, default=None,
              help=f"Channels of the hyper-latents.  [default: 96; mean-scale: {TrainOptions.N}]")  # fmt: skip
@click.option("--M", "M", type=int, default=None,
              help=f"Channels of the latents.  [default: 320; mean-scale: {TrainOptions.M}]")  # fmt: skip
@click.option("--blocks", type=int, nargs=4, default=None, metavar="A8 A16 S16 S8",
              help="Residual blocks: of the analysis at an eighth and a sixteenth of the size, of the synthesis at a "
                   "sixteenth and an eighth.  [default: 3 2 2 3, or those of the weights; more than the weights have "
                   "start as nothing]")  # fmt: skip
@click.option("--batch-size", type=int, default=None,
              help=f"Patches per step, all processes together.  [default: {TrainOptions.batch_size}]")  # fmt: skip
@click.option("--patch-size", type=int, default=None,
              help=f"Side of a patch, a multiple of 64.  [default: {TrainOptions.patch_size}]")  # fmt: skip
@click.option("--zoom", type=click.FloatRange(1, 4), default=None,
              help=f"Enlarge half of the patches by up to this factor: photographs of many pixels are smooth.  "
                   f"[default: 2; mean-scale: {TrainOptions.zoom:g}]")  # fmt: skip
@click.option("--evenness", type=click.FloatRange(0, 1, max_open=True), default=None,
              help=f"0: patches count by their loss, so busy ones most; towards 1: all count the same.  "
                   f"[default: 0.5; mean-scale: {TrainOptions.evenness:g}]")  # fmt: skip
@click.option("--drawn", type=click.FloatRange(0, 0.5), default=None,
              help=f"Share of patches that are drawn over with shapes, as in screenshots; in as many colours are "
                   f"swapped.  [default: 0.04; mean-scale: {TrainOptions.drawn:g}]")  # fmt: skip
@click.option("--n-validation", type=int, default=None,
              help=f"Held-out images, at most a fifth of all.  [default: {TrainOptions.n_validation}]")  # fmt: skip
@click.option("--init", type=click.Choice(["klt", "default"]), default=None,
              help=f"Start of the transforms.  [default: {TrainOptions.init}]")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=None, help=f"[default: {TrainOptions.seed}]")
@click.option("--device", default=RunOptions.device, show_default=True, help="Torch device: auto, cpu, cuda ...")
@click.option("--compile", is_flag=True, help="Use torch.compile.")
@click.option("--autocast/--no-autocast", default=None, help="Convolve in bfloat16.  [default: where it is faster]")
@click.option("--save-every", type=float, default=RunOptions.save_every, show_default=True,
              help="Seconds between checkpoints.")  # fmt: skip
@click.option("--validate-every", type=float, default=RunOptions.validate_every, show_default=True,
              help="Seconds between validations.")  # fmt: skip
@click.option("--tensorboard", type=_PATH, default=None, help="Folder for TensorBoard's event files.")
@click.option("--export", "model_file", type=_PATH, default=None,
              help="Write the integer model too (.safetensors), and say what integers cost.")  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Overwrite output, log and model file.")
@click.option("--quiet", is_flag=True, help="No progress bar and no tables.")
@click.option("--progress", is_flag=True, help="A progress bar even where standard error is no terminal.")
def command(
    sources: tuple[Path, ...],
    output: Path | None,
    resume: Path | None,
    warm: bool,
    model: str | None,
    tensorboard: Path | None,
    model_file: Path | None,
    force: bool,
    quiet: bool,
    progress: bool,
    **options: Any,
) -> None:
    """Train a variable-rate model, or a model's bits-back model, on the images in folders and zip archives DATA.

    The state goes to the checkpoint file, the course to a .jsonl file beside it. Ctrl-C saves and ends; --resume goes
    on as if nothing had happened. Several GPUs: torchrun --nproc-per-node 4 -m sgacodec_cli train ...
    """
    output = output or (None if warm else resume)
    if output is None:
        raise click.UsageError("name the checkpoint file with -o")
    if warm and resume is None:
        raise click.UsageError("--warm starts from the weights of --resume; name its file")
    if warm and model is not None and options["stage"] != "bits-back":
        raise click.UsageError("--model and --resume both name weights to start from; leave one out")
    if options["stage"] in ("hyper", "refined") and resume is None and model is None:
        raise click.UsageError(
            f"--stage {options['stage']} starts from trained weights; name a --model, or a file with --resume and "
            "--warm"
        )
    run_names = ("device", "compile", "autocast", "save_every", "validate_every", "stop_after")
    run = RunOptions(output, **{name: options.pop(name) for name in run_names})
    given = {name: value for name, value in options.items() if value not in (None, ())}
    _train(sources, _Request(run, given, model, resume, warm, tensorboard, model_file, force, quiet, progress))


def _train(sources: tuple[Path, ...], request: _Request) -> None:
    try:
        with leaving_at_once():
            from sgacodec.train import run, workers
            from sgacodec.train.data.images import load_images
    except ImportError as err:
        raise TrainError(
            "training needs torch and CompressAI; install them with: pip install 'sgacodec[train]'"
        ) from err
    if workers.leads():
        _check_outputs(sources, request)
    try:
        start = run.start(run.Request(request.given, request.model, request.resume, request.warm))
    except OptionError as err:
        raise click.UsageError(str(err)) from err
    options = start.options
    with workers.join(request.run.device) as worker, _stop_flag() as stop:
        dataset = load_images(sources, options.patch_size, options.n_validation, worker.device)
        job = start.job(request.run, dataset, worker)
        trained = _with_listeners(request, job, stop)
        if worker.leads:
            _finish(request, job, trained)


def _check_outputs(sources: Sequence[Path], request: _Request) -> None:
    output = request.run.output
    if not request.goes_on:
        _check_checkpoint(output)
        check_output(str(output), request.force)
        check_output(str(request.log), request.force)
    if request.model_file is not None:
        if request.model_file.suffix != SUFFIX:
            raise click.UsageError(f"{request.model_file}: a model file's name ends in {SUFFIX}")
        check_output(str(request.model_file), request.force)
    model_file = None if request.model_file is None else str(request.model_file)
    outputs = {"the checkpoint": str(output), "the log": str(request.log), "the model file": model_file}
    resumed = None if request.resume is None or request.goes_on else str(request.resume)
    inputs = {f"the data in {path}": str(path) for path in sources if path.is_file()}
    check_distinct(outputs, {"the checkpoint to go on from": resumed, "the model": request.model, **inputs})


def _check_checkpoint(output: Path) -> None:
    """Refuse what a checkpoint, which is written again and again, cannot go to."""
    if str(output) == "-" or (output.exists() and not output.is_file() and not output.is_dir()):
        raise click.UsageError(f"a checkpoint is a file, and {output} is none; name a file with -o")


@contextmanager
def _stop_flag() -> Iterator[Callable[[], bool]]:
    """Make the first interrupt or termination signal a request to save and end; a second one ends at once."""
    asked: list[int] = []

    def ask(number: int, frame: Any) -> None:
        if asked:
            raise TrainError("interrupted twice; the last saved state stands")
        asked.append(number)

    older = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in older.items():
            signal.signal(number, handler)


def _with_listeners(request: _Request, job: Job, stop: Callable[[], bool]) -> Trained:
    from sgacodec.train import events, run

    if job.worker.leads and not request.goes_on and request.log.exists():
        request.log.write_bytes(b"")  # emptied rather than removed: it may be a link
    quiet = request.quiet or not job.worker.leads
    layout = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    with tqdm(
        total=1.0, disable=is_hidden(quiet, request.progress), leave=False, bar_format=layout, file=sys.stderr
    ) as bar:
        listeners = [events.json_log(request.log), _bar_listener(bar, quiet)]
        if request.tensorboard is not None and job.worker.leads:
            listeners.append(events.tensorboard(request.tensorboard))
        return run.train(job, listeners, stop)


def _bar_listener(bar: tqdm[Any], quiet: bool) -> Listener:
    from sgacodec.train.events import Averaged, Stepped, Validated

    def show(record: Record) -> None:
        if isinstance(record, Stepped):
            bar.update(record.fraction - bar.n)
        elif isinstance(record, Averaged):
            speed = record.pixels_per_second / 1e6
            bar.set_postfix_str(f"step {record.step} loss {record.loss:.4f} bpp {record.bpp:.4f} {speed:.2f} Mpx/s")
        elif isinstance(record, Validated) and not quiet:
            refined = "" if record.refined_loss is None else f", after refinement {record.refined_loss:.4f}"
            bar.write(f"step {record.step}: validation loss {record.loss:.4f}{refined}", file=sys.stderr)

    return show


def _finish(request: _Request, job: Job, trained: Trained) -> None:
    tables: list[str] = []
    if trained.validation is not None:
        tables += _level_table(trained.validation.levels)
    if request.model_file is not None:
        tables += _export(request, request.model_file, job, trained)
    output = request.run.output
    end = "finished" if trained.finished else f"stopped before its end; go on with --resume {output}"
    if not request.quiet:
        click.echo("\n".join([*tables, f"{output}: step {trained.step}, {end}"]), err=True)


def _level_table(levels: Sequence[LevelLoss]) -> list[str]:
    names = {"lmbda": "lambda", "psnr_db": "PSNR dB"}
    rows = ["".join(f"{names.get(name, name):>12}" for name in vars(levels[0]))]
    return rows + ["".join(f"{value:12.4f}" for value in vars(level).values()) for level in levels]


def _export(request: _Request, path: Path, job: Job, trained: Trained) -> list[str]:
    """Write the model file; return what it is, and a table of what integers cost on held-out images."""
    from sgacodec.train import run

    model = run.export(job, trained, path.stem)
    write_output(str(path), dump_model(model), request.force)
    if model.bits_back_id is None:
        return [f"{path}: id {model.model_id.hex()}", *_cost_table(path, job, trained)]
    return [f"{path}: id {model.model_id.hex()}, with its bits-back model {model.bits_back_id.hex()}"]


def _cost_table(path: Path, job: Job, trained: Trained) -> list[str]:
    from sgacodec.train import loss
    from sgacodec.train.export import cost, publish

    images = job.dataset.validation[:_N_COST_IMAGES]
    levels = loss.validate(trained.net, images, job.options.lambdas, len(images))
    rows = [f"float against integers on {len(images)} held-out images:"]
    rows += [f"{'lambda':>8}{'bpp':>9}{'integer':>9}{'file':>9}{'PSNR dB':>9}{'integer':>9}"]
    rows += [
        f"{row.lmbda:8.4g}{row.float_bpp:9.4f}{row.integer_bpp:9.4f}{row.file_bpp:9.4f}"
        f"{row.float_psnr_db:9.3f}{row.integer_psnr_db:9.3f}"
        for row in cost.measure(levels, path, publish.to_images(images))
    ]
    return rows
