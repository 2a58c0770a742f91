"""Where a result comes from; imports nothing heavy."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sgacodec

if TYPE_CHECKING:
    import torch

    from sgacodec.models.model import Model


def commit() -> str:
    """Return the commit of the checkout this runs from, or 'unknown'."""
    here = Path(__file__).parent
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def model_header(model: Model, device: torch.device) -> dict[str, Any]:
    """Return what a result of torch code records of software, model and machine."""
    import torch

    return {
        "version": sgacodec.__version__,
        "commit": commit(),
        "model": model.name,
        "model_id": model.model_id.hex(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
