"""Run in each of two connected processes by ``tests/test_sharding.py``: a sharded model against one that is whole."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from benchmarks.distributed import SWIN, TINY
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from fpn_plugins import Pyramid
from fpn_plugins.sharding import shard, shard_on_load, whole_parameters, whole_state, wrap_units
from fpn_plugins.training import layer_lr_factors

VIT = {**TINY["ViT"], "type": "ViT", "gradient_checkpointing": True}
PYRAMID = {"type": "SimpleFeaturePyramid", "out_channels": 8}
FPN = {"type": "FPN", "out_channels": 8}
# name -> (backbone, neck, number of units)
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "ViT": (VIT, PYRAMID, 4),
    "ViT, frozen": ({**VIT, "frozen_stages": 2}, PYRAMID, 4),
    "ViT, bfloat16": (VIT, PYRAMID, 4),
    "DINOv3": (
        {"type": "ViT", "name": "vit_small_plus_patch16_dinov3", "embed_dim": 16, "depth": 2, "num_heads": 2}
        | {"gradient_checkpointing": True},
        PYRAMID,
        2,
    ),
    "Swin": (
        {**SWIN, "type": "Swin", "drop_path_rate": 0.0, "gradient_checkpointing": True},
        FPN,
        5,
    ),
    "MViT": ({**TINY["MViT"], "type": "MViT"}, FPN, 4),
    "timm's ViT": ({"type": "TimmBackbone", "name": "test_vit", "out_indices": (5,)}, PYRAMID, 6),
}
MAX_NORM = 0.05


def build(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    backbone, neck, _ = MODELS[name]
    autocast = "bfloat16" if "bfloat16" in name else None
    return Pyramid(backbone, neck, autocast=autocast, channels_last=name == "Swin").train()


def images(iteration: int) -> Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(iteration))


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    return torch.stack([m.float().square().mean() for m in model(x)]).sum()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    """SGD with layer-wise rates; Adam's first steps are the sign of gradients, also where they are rounding errors."""
    factors = layer_lr_factors(model, 0.8)
    groups = [{"params": [p], "lr": 0.3 * factors[name]} for name, p in model.named_parameters() if p.requires_grad]
    return torch.optim.SGD(groups, momentum=0.9)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, split: int) -> tuple[float, float]:
    """One step on as many equal parts of a batch; return the mean loss, over all processes, and the gradient's norm."""
    optimizer.zero_grad()
    losses = []
    for part in x.chunk(split):
        loss = loss_of(model, part)
        (loss / split).backward()
        losses.append(loss.detach() / split)
    norm = clip_grad_norm_(model.parameters(), MAX_NORM)
    optimizer.step()
    return float(sum(losses)), float(getattr(norm, "full_tensor", lambda: norm)())


def difference(own: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert list(own) == list(other)
    assert all(own[key].shape == other[key].shape and own[key].dtype == other[key].dtype for key in own)
    return max(float((own[key].double() - other[key].double()).abs().max()) for key in own)


def momentum_of(state: dict[str, Any]) -> dict[str, Tensor]:
    return {key: value["momentum_buffer"] for key, value in state["state"].items()}


def trains_as_one(rank: int, name: str) -> dict[str, Any]:
    """Three steps of two processes, each with half of the images, and of one process with all of them."""
    whole, sharded = build(name), shard(build(name, seed=rank))  # the first process decides the values
    ours, theirs = sgd(sharded), sgd(whole)
    found: dict[str, Any] = {"losses": [], "norms": [], "units": len(wrap_units(sharded))}
    for iteration in range(3):
        x = images(iteration)
        loss, norm = step(sharded, ours, x[rank : rank + 1], 1)
        mean = torch.tensor(loss)
        dist.all_reduce(mean)
        expected = step(whole, theirs, x, 2)
        found["losses"].append([float(mean) / 2, expected[0]])
        found["norms"].append([norm, expected[1]])
    parts = sum(p.to_local().numel() for p in sharded.parameters())
    found["share"] = parts / sum(p.numel() for p in whole.parameters())
    found["gradients"] = [p.grad is None for p in sharded.parameters()] == [p.grad is None for p in whole.parameters()]
    weights, state = whole_state(sharded.state_dict()), whole_state(ours.state_dict())
    if rank == 0:
        found["weights"] = difference(weights, whole.state_dict())
        found["metadata"] = weights._metadata == whole.state_dict()._metadata
        build(name).load_state_dict(weights)
        expected_state = theirs.state_dict()
        found["momentum"] = difference(momentum_of(state), momentum_of(expected_state))
        theirs.load_state_dict(state)
    else:
        found["empty"] = set(weights.values()) == {None}
    return found


def resumes(rank: int) -> dict[str, Any]:
    """Whole states load into a fresh sharded model, and into a whole one; both go on as the first would have."""
    first = shard(build("ViT"))
    optimizer = sgd(first)
    step(first, optimizer, images(0)[rank : rank + 1], 1)
    states = [whole_state(first.state_dict()), whole_state(optimizer.state_dict())]
    dist.broadcast_object_list(states)
    again = shard(build("ViT", seed=3))
    other = sgd(again)
    shard_on_load(other)
    again.load_state_dict(copy.deepcopy(states[0]))
    other.load_state_dict(copy.deepcopy(states[1]))
    for model, its in ((first, optimizer), (again, other)):
        step(model, its, images(1)[rank : rank + 1], 1)
    pairs = zip(first.state_dict().values(), again.state_dict().values(), strict=True)
    return {"equal": all(torch.equal(own.to_local(), theirs.to_local()) for own, theirs in pairs)}


def layouts(rank: int) -> dict[str, Any]:
    """timm's weights, with positions of another image size, load as into a whole model."""
    import timm

    whole, sharded = (Pyramid({**VIT, "img_size": 96}, PYRAMID) for _ in range(2))
    shard(sharded)
    weights = timm.create_model("vit_tiny_patch16_224", img_size=64, embed_dim=16, depth=4, num_heads=2).state_dict()
    for model in (whole, sharded):
        model.backbone.load_state_dict(copy.deepcopy(weights), strict=False)
    found, expected = whole_state(sharded.backbone.state_dict()), whole.backbone.state_dict()
    keys = [key for key in expected if "rel_pos" not in key]  # which the file lacks
    same = rank == 1 or difference({k: found[k] for k in keys}, {k: expected[k] for k in keys}) == 0
    return {
        "same": same,
        "blocks": rank == 1 or torch.equal(found["blocks.1.mlp.fc1.weight"], weights["blocks.1.mlp.fc1.weight"]),
    }


def evaluates(rank: int) -> dict[str, Any]:
    """The processes evaluate different numbers of images between two training steps."""
    sharded, whole = shard(build("ViT")), build("ViT")
    optimizer, other = sgd(sharded), sgd(whole)
    found = []
    for iteration in range(2):
        with whole_parameters(sharded), torch.no_grad():
            sharded.eval()
            for number in range(2 - rank):
                x = images(10 + number)[:1]
                found.append(max(float((a - b).abs().max()) for a, b in zip(sharded(x), whole(x), strict=True)))
            sharded.train()
        step(sharded, optimizer, images(iteration)[rank : rank + 1], 1)
        step(whole, other, images(iteration), 2)
    divided = all(hasattr(parameter, "full_tensor") for parameter in sharded.parameters())
    return {"differences": found, "divided": divided}


def scales(rank: int) -> dict[str, Any]:
    """An overflow in the part of one process skips the step of both."""
    sharded = shard(build("ViT"))
    optimizer, scaler = sgd(sharded), torch.amp.GradScaler("cpu", init_scale=1024.0)
    before = whole_state(sharded.state_dict())
    scaler.scale(loss_of(sharded, images(0))).backward()
    if rank == 1:
        next(p for p in sharded.parameters() if p.to_local().numel()).grad.to_local().fill_(torch.inf)
    scaler.step(optimizer)
    scaler.update()
    after = whole_state(sharded.state_dict())
    return {"scale": scaler.get_scale(), "kept": rank == 1 or difference(before, after) == 0}


def refuses(rank: int) -> dict[str, str]:
    """A parameter without dimensions."""
    model = nn.Module()
    model.scale = nn.Parameter(torch.tensor(1.0))
    try:
        shard(model)
    except ValueError as error:
        return {"error": str(error)}
    return {"error": ""}


OTHERS: dict[str, Callable[[int], dict[str, Any]]] = {
    function.__name__: function for function in (resumes, layouts, evaluates, scales, refuses)
}


def everything(rank: int) -> dict[str, Any]:
    found: dict[str, Any] = {name: trains_as_one(rank, name) for name in MODELS}
    return found | {name: case(rank) for name, case in OTHERS.items()}
