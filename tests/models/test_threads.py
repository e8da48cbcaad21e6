"""On a CPU predictions do not depend on the number of threads, to the last bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys

SCRIPT = """
import hashlib, json
import gexpr.cli.main
import torch
from gexpr import checkpoints
from gexpr.models import registry

def drawn(architecture, **settings):
    torch.manual_seed(4)
    model = registry.build(architecture, settings).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3)
    return model

common = dict(context_length=4096, target_length=200, heads={"tracks": 3})
borzoi = dict(**common, stem_channels=40, tower_channels=(44, 52, 64), depth=2, attention_heads=4,
              key_size=16, relative_features=8, final_channels=50)
convolutions = dict(channels=[40, 44, 52, 60], kernels=[22, 1, 6, 3], pools=[1, 4, 4, 1],
                    final_channels=100)
models = {
    "yeast-tss": checkpoints.load("yeast-tss"),
    "enformer": drawn("enformer", **common, channels=96, num_downsamples=4, divisible_by=8, depth=2,
                      attention_heads=4, key_size=8, dilated_layers=3),
    "borzoi": drawn("borzoi", **borzoi),
    "flashzoi": drawn("borzoi", **borzoi, positions="rotary", key_value_heads=2, rotary_features=4,
                      projection_bias=True),
    "basenji": drawn("basenji", **common, stem_channels=48, num_downsamples=4, tower_start=56,
                     dilated_layers=5, dilated_channels=32, final_channels=100),
    "basenji of 2018": drawn("basenji", **common, **convolutions, form="dense", activation="relu",
                             dilated_layers=4, dilated_channels=24, dilated_rate=2.0, link="exp_linear"),
    "standard": drawn("standard", **common, **convolutions),
    "exp_decay": drawn("exp_decay", **common, **convolutions),
    "exp_decay, softmax": drawn("exp_decay", **common, **convolutions, learned=True, weights="softmax"),
    "decay_attention": drawn("decay_attention", **common, **convolutions, attention_heads=[3, 2]),
    "decay_attention, exponential": drawn("decay_attention", **common, **convolutions, decay="exponential",
                                          own_bin=False, relu_scores=True),
    "mini_enformer": drawn("mini_enformer"),
    "multiscale": drawn("multiscale"),
    "multiscale, tanh": drawn("multiscale", lstm_activation="tanh", link="softplus"),
    "cnn": drawn("cnn"),
}
found = {}
with torch.inference_mode():
    for name, model in models.items():
        generator = torch.Generator().manual_seed(1)
        x = torch.eye(4)[torch.randint(0, 4, (2, model.context_length), generator=generator)]
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            digest = hashlib.sha256(model(x).numpy().tobytes()).hexdigest()
            found.setdefault(name, []).append(digest)
print(json.dumps(found))
"""


def test_predictions_do_not_depend_on_the_number_of_threads() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MKL", "OMP"))}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    for name, digests in json.loads(ran.stdout).items():
        assert len(set(digests)) == 1, name
