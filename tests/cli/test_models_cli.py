"""`sgacodec models import`: the files that people have, and what is left behind where it fails."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support import golden

from sgacodec.models import store
from sgacodec.models.file import load_model_file
from sgacodec.train.data import state_dicts
from sgacodec.train.data.weights import state_file
from sgacodec.train.families import registry
from sgacodec.train.options import TrainOptions


@pytest.fixture(scope="module")
def state():
    models = pytest.importorskip("compressai.models")
    torch.manual_seed(0)
    return {name: value.clone() for name, value in models.MeanScaleHyperprior(8, 12).state_dict().items()}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sgacodec.train.export.tables._FIT_STEPS", 20)
    monkeypatch.setattr("sgacodec.train.data.weights._N_CALIBRATION", 2)


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


WRAPPINGS = {
    "bare": lambda state: state,
    "DataParallel": lambda state: prefixed(state, "module."),
    "compiled": lambda state: prefixed(state, "_orig_mod.module."),
    "Lightning": lambda state: {
        "state_dict": prefixed(state, "model.net.") | {"loss.weight": torch.zeros(3)},
        "epoch": 3,
    },
    "state_dict": lambda state: {"epoch": 1, "state_dict": state, "optimizer": {"lr": 1.0}},
    "model": lambda state: {"model": state, "step": 5},
    "net": lambda state: {"net": prefixed(state, "module.")},
    "nested": lambda state: {"model": {"state_dict": state}},
}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_state_dicts_as_people_keep_them(name, state):
    torch.save(WRAPPINGS[name](state), "weights.pt")
    found = state_file(Path("weights.pt")).state
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_safetensors(state):
    save_file(prefixed(state, "module."), "weights.safetensors")
    found = state_file(Path("weights.safetensors")).state
    assert found.keys() == state.keys()


@pytest.mark.slow
def test_an_import_of_safetensors_is_a_model(run, state):
    save_file(state, "weights.safetensors")
    result = run("models", "import", "weights.safetensors", "--name", "mine")
    assert result.exit_code == 0, result.stderr
    assert load_model_file(store.cache_folder() / "mine.safetensors").name == "mine"


ARCHITECTURES = {
    "bmshj2018-factorized": ("FactorizedPrior", (8, 12)),
    "bmshj2018-hyperprior": ("ScaleHyperprior", (8, 12)),
    "mbt2018,": ("JointAutoregressiveHierarchicalPriors", (8, 8)),
    "cheng2020-anchor": ("Cheng2020Anchor", (8,)),
    "cheng2020-attn": ("Cheng2020Attention", (8,)),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_other_architectures_are_refused_by_name(run, name):
    models = pytest.importorskip("compressai.models")
    kind, sizes = ARCHITECTURES[name]
    torch.save({"state_dict": getattr(models, kind)(*sizes).state_dict()}, "weights.pt")
    result = run("models", "import", "weights.pt", "-o", "out.safetensors")
    assert result.exit_code == 5
    assert f"CompressAI's {name}" in result.stderr.replace(" or cheng2020-attn", "") or name in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert os.listdir() == ["weights.pt"]


def test_the_families_that_are_known_are_not_foreign(state):
    context = registry.family("context").create(TrainOptions(family="context", steps=1, N=8, M=20)).state_dict()
    assert state_dicts.foreign_architecture(state) is None
    assert state_dicts.foreign_architecture(context) is None
    assert state_dicts.find({"ema": context}).keys() == context.keys()


def damaged(state):
    return {**state, "g_a.0.weight": torch.full_like(state["g_a.0.weight"], np.nan)}


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (lambda _: {"weight": torch.zeros(3)}, 5, "no family that sgacodec knows"),
        (lambda _: [torch.zeros(3)], 5, "holds no state dict"),
        (damaged, 5, "not finite, in g_a.0.weight"),
        (lambda state: {"state_dict": state, "lambdas": "many"}, 5, "its lambdas or seen_pixels are no numbers"),
        (lambda state: {name: value for name, value in state.items() if "h_s" not in name}, 5, ""),
        (lambda state: {**state, "h_s.4.weight": torch.zeros(3)}, 5, ""),
    ],
)
@pytest.mark.parametrize("output", [[], ["-o", "out.safetensors"]])
def test_a_failing_import_leaves_nothing_behind(run, state, content, code, message, output):
    torch.save(content(state), "weights.pt")
    result = run("models", "import", "weights.pt", *output)
    assert (result.exit_code, len(result.stderr.splitlines())) == (code, 1), (result.stderr, result.exception)
    assert message in result.stderr
    assert os.listdir() == ["weights.pt"]
    assert not store.cache_folder().exists()


def test_what_is_no_weights(run):
    Path("cut.safetensors").write_bytes((golden.V1 / "tiny.safetensors").read_bytes()[:1000])
    Path("text.pt").write_text("hello")
    for name, message in {
        "cut.safetensors": "is damaged",
        "text.pt": "not a file of torch.save",
        str(golden.V1 / "tiny.safetensors"): "is a model of sgacodec already",
    }.items():
        result = run("models", "import", name, "-o", "out.safetensors")
        assert result.exit_code == 5
        assert message in result.stderr
    assert not Path("out.safetensors").exists()


@pytest.mark.parametrize("name", ["", "a/b", "..", "/tmp/x"])
def test_names_of_models(run, state, name):
    torch.save(state, "weights.pt")
    result = run("models", "import", "weights.pt", "--name", name)
    assert result.exit_code == 2
    assert "is no name of a model" in result.stderr


def test_the_extra_that_is_missing_is_named(run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sgacodec.train.data.weights", None)
    result = run("models", "import", "weights.pt")
    assert result.exit_code == 5
    assert "pip install 'sgacodec[train]'" in result.stderr


def test_a_user_without_a_home_names_the_file(run, state, monkeypatch):
    torch.save(state, "weights.pt")
    monkeypatch.setattr(store, "cache_folder", lambda: None)
    result = run("models", "import", "weights.pt")
    assert result.exit_code == 2
    assert "name the model file with -o" in result.stderr
