"""What a caller has set in torch neither breaks encoding nor changes its bytes; forked processes encode too."""

import os
import signal
import subprocess
import sys

import pytest
import torch

import sgacodec
from sgacodec import devices


def encoded(scene, model, message):
    options = sgacodec.EncodeOptions(model=model, iterations=6, device="cpu")
    return sgacodec.encode(scene, options, message=message)


class Default:
    """A setting of the process's, for a while."""

    def __init__(self, setter, value, before):
        self.setter, self.value, self.before = setter, value, before

    def __enter__(self):
        self.setter(self.value)

    def __exit__(self, *_):
        self.setter(self.before)


SURROUNDINGS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "float64": lambda: Default(torch.set_default_dtype, torch.float64, torch.float32),
    "bfloat16": lambda: Default(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "meta device": lambda: Default(torch.set_default_device, "meta", None),
    "meta": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "grad disabled": lambda: Default(torch.set_grad_enabled, False, True),
    "deterministic": lambda: Default(torch.use_deterministic_algorithms, True, False),
}


@pytest.mark.parametrize("name", SURROUNDINGS)
@pytest.mark.parametrize(("model", "message"), [("tiny", None), ("tiny-head", "a"), ("tiny-context", None)])
def test_the_callers_settings_change_nothing(name, model, message, scene):
    expected = encoded(scene, model, message)
    with SURROUNDINGS[name]():
        assert encoded(scene, model, message) == expected
        sgacodec.decode(expected)
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


def test_settings_of_the_caller_stay(scene):
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        encoded(scene, "tiny", None)
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")


FORK = """
import os, sys, numpy as np, sgacodec
from sgacodec.synthetic import render
picture = render(256, 256, np.random.default_rng(0))
options = sgacodec.EncodeOptions(model="tiny", iterations=3, device="cpu")
data = sgacodec.encode(picture, options)
child = os.fork()
if child == 0:
    sgacodec.decode(data)
    sgacodec.decode(sgacodec.encode(picture, options))
    os._exit(7)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_encodes():
    """It would wait for ever for its parent's threads."""
    environment = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONWARNINGS": "ignore"}
    child = subprocess.Popen(
        [sys.executable, "-c", FORK], env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _, errors = child.communicate(timeout=100)
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
    assert child.returncode == 7, errors
    assert "on one thread" in errors


def test_a_forked_process_is_told_once(monkeypatch, caplog):
    monkeypatch.setattr(devices, "_has_forked", True)
    threads = torch.get_num_threads()
    for _ in range(2):
        with devices.as_by_default():
            assert torch.get_num_threads() == 1
    torch.set_num_threads(threads)
    assert len(caplog.records) == 1
