"""The measurements of speed: its shapes are the models they stand for, and its rows hold what
their heads say."""

import pytest
import torch

import measure_speed
from model import GPT, GPTConfig

pytest.importorskip("transformers")


@pytest.mark.parametrize(
    "shape, parameters",
    [
        ("0.2M", 217e3),
        ("135M", 134.5e6),
        ("0.5B", 494e6),
        ("1.5B", 1.54e9),
    ],
)
def test_shapes_have_the_parameters_of_their_models(shape, parameters):
    """A width or a number of layers mistyped: the table would name a model that was not
    measured."""
    vocabulary, width, hidden, layers, heads, kv_heads = measure_speed.SHAPES[shape]
    config = GPTConfig(
        vocabulary, layers, width, heads, kv_heads, width // heads, hidden, tied=True
    )
    with torch.device("meta"):
        model = GPT(config)
    counted = sum(weight.numel() for weight in model.parameters())
    assert counted == pytest.approx(parameters, rel=0.01)


def test_rows(capsys, monkeypatch):
    """Columns in another order than the table's, or a ratio upside down."""
    main = measure_speed.main
    monkeypatch.setitem(measure_speed.SHAPES, "135M", (50, 32, 48, 2, 4, 2))
    common = "--shape 135M --batch 2 --repeats 1 --device cpu".split()
    main(["decode", *common, *"--prompt 3 --new 4".split()])
    main(["step", *common, *"--new 8 --micro-batch 1 --recompute".split()])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    decode, step = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    assert decode[:4] == ["decode", "135M", "bfloat16", "2"] and len(decode) == 8
    ours, theirs, ratio = (float(cell.replace(",", "")) for cell in decode[4:7])
    assert ratio == pytest.approx(ours / theirs, rel=0.1)
    assert step[:4] == ["step", "135M", "bfloat16", "2 x 8"] and step[6].endswith("GiB")
