"""LoRA: train low-rank updates of a backbone's linear layers, and nothing else of it.

::

    y = W x + b + alpha / rank * B A x        A: rank x in, random; B: out x rank, zero before the training

Source: LoRA (arXiv:2106.09685). The layers are those of Hugging Face's ``peft``, so its tools work on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

from ..checks import mapping, near_names, positive_int, positive_number, probability, sequence, text
from ..extras import needed_for
from ..weights.layouts import ADAPTER, LoadHook, left_out_of
from ..weights.shapes import check_shapes
from .base import Backbone

ATTENTION = ("attn.qkv", "attn.proj")
ARGUMENTS = ("rank", "alpha", "targets", "dropout")
_BASE = ".base_layer."  # marks the adapted layer, in peft's names
# convolutions that detection adds to a block: they have no pre-training
_NEW = ".residual."

Model = TypeVar("Model", bound=nn.Module)


def add_lora(
    backbone: Backbone,
    rank: int = 8,
    alpha: float | None = None,
    targets: Sequence[str] = ATTENTION,
    dropout: float = 0.0,
) -> None:
    """Freeze a backbone, and add LoRA adapters to its linear layers, in place; the maps stay the same at first.

    `ViT` calls it with the entries of its ``lora``, after loading weights. Convolutions that detection has added to
    the blocks (``residual``) stay trainable; layers in ``frozen_stages`` get no adapters.

    Afterwards, ``load_state_dict`` takes weights with adapters, and, in every layout that the backbone supports,
    weights without any, which leave the adapters unchanged.

    Args:
        backbone: backbone with layers of the type ``nn.Linear``.
        rank: rank of the updates.
        alpha: the updates are multiplied by ``alpha / rank``; ``None`` is ``2 * rank``.
        targets: ends of the names of the layers to adapt, such as ``"attn.qkv"``, ``"attn.proj"`` and ``"mlp.fc1"``.
        dropout: probability of dropping an entry of an adapter's input in training.

    Raises:
        ImportError: ``peft`` is not installed.
        TypeError: an argument of another type.
        ValueError: an argument out of range, a target without a layer that is not frozen, or a backbone that already
            has adapters.
    """
    positive_int("rank", rank)
    scale = 2 * rank if alpha is None else positive_number("alpha", alpha)
    names = _target_layers(backbone, targets)
    new = [p for name, p in backbone.named_parameters() if _NEW in name and p.requires_grad]
    with needed_for("LoRA adapters"):
        from peft import LoraConfig, inject_adapter_in_model
    config = LoraConfig(
        r=rank,
        lora_alpha=scale,  # type: ignore[arg-type]
        target_modules=names,
        lora_dropout=probability("dropout", dropout),
        bias="none",
    )
    inject_adapter_in_model(config, backbone)
    for p in new:
        p.requires_grad_()
    AdapterHook.replace_hooks(backbone)


def add_lora_from(backbone: Backbone, lora: Mapping[str, Any]) -> None:
    """Call `add_lora` with the entries of the argument ``lora`` of a backbone.

    Raises:
        TypeError: not a mapping, or an unknown key; also the errors of `add_lora`.
    """
    unknown = [key for key in mapping("lora", lora, '{"rank": 8}') if key not in ARGUMENTS]
    if unknown:
        near = near_names(unknown[0], ARGUMENTS)
        raise TypeError(f"lora has no {unknown[0]!r}{near}; it takes {', '.join(ARGUMENTS)}")
    add_lora(backbone, **lora)


def merge_lora(model: Model) -> Model:
    """Add all adapters to the weights of their layers, in place; return the model, which is then one without LoRA.

    The maps stay equal up to rounding, the names of the state dict are those of a model built without ``lora``, and
    export, TorchScript and conversion work as for that one. What was frozen stays frozen.

    Args:
        model: a backbone or a whole detector.

    Raises:
        ValueError: there are no adapters.
    """
    layers = adapted_layers(model)
    if not layers:
        raise ValueError(f"{type(model).__name__} has no LoRA adapters; build its backbone with lora=, or use it as is")
    for name, layer in layers.items():
        layer.merge()
        _set_layer(model, name, layer.get_base_layer())
    return model


def adapted_layers(model: nn.Module) -> dict[str, Any]:
    """Return the layers that hold an adapter, by name."""
    return {name: m for name, m in model.named_modules() if hasattr(m, "lora_A") and hasattr(m, "get_base_layer")}


def _target_layers(backbone: nn.Module, targets: Sequence[str]) -> list[str]:
    ends = [text("targets", target, "attn.qkv") for target in sequence("targets", targets, "names of layers")]
    if adapted_layers(backbone):
        raise ValueError(f"{type(backbone).__name__} already has LoRA adapters; add them once, with all targets")
    linear = {name: m for name, m in backbone.named_modules() if isinstance(m, nn.Linear)}
    free = [name for name, layer in linear.items() if layer.weight.requires_grad]
    if not ends:
        raise ValueError('targets=[] must name layers, such as "attn.qkv"')
    for end in ends:
        if not any(f".{name}".endswith(f".{end}") for name in free):
            found = ", ".join(sorted({".".join(name.split(".")[-2:]) for name in free})) or "none"
            raise ValueError(
                f"targets={list(ends)}: no linear layer that is not frozen is named {end!r}; there are: {found}"
            )
    return [name for name in free if f".{name}".endswith(tuple(f".{end}" for end in ends))]


def _set_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, layer)


@contextmanager
def _without_adapters(module: nn.Module, layers: Mapping[str, Any]) -> Iterator[None]:
    """Put the adapted layers in the place of their adapters for a while, so that names are those without LoRA."""
    for name, layer in layers.items():
        _set_layer(module, name, layer.get_base_layer())
    try:
        yield
    finally:
        for name, layer in layers.items():
            _set_layer(module, name, layer)


@dataclass
class AdapterHook(LoadHook):
    """Load hook of a backbone with adapters: other layouts are translated as if it had none.

    Attributes:
        inner: the backbone's own hooks, in the order in which they run.
    """

    inner: list[LoadHook]

    @classmethod
    def replace_hooks(cls, module: nn.Module) -> None:
        """Put one hook in the place of all load hooks of this package that a module has."""
        hooks = module._load_state_dict_pre_hooks
        own = {key: getattr(wrapped, "hook", wrapped) for key, wrapped in hooks.items()}
        inner = {key: hook for key, hook in own.items() if isinstance(hook, LoadHook)}
        for key in inner:
            del hooks[key]
        module._register_load_state_dict_pre_hook(cls(list(inner.values())), with_module=True)

    def translate(self, module: nn.Module, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """Translate the weights without adapters, and rename them; keep the module's adapters if there are none."""
        layers, gone = adapted_layers(module), left_out_of(module)
        removed = gone | {key.replace(_BASE, ".") for key in gone}
        adapters = {key: value for key, value in given.items() if ADAPTER in key and key not in gone}
        plain = {key.replace(_BASE, "."): value for key, value in given.items() if ADAPTER not in key}
        weights = {key: value for key, value in plain.items() if key not in removed}
        with _without_adapters(module, layers):
            for hook in self.inner if weights else ():
                translated = hook.translate(module, weights)
                weights = weights if translated is None else translated
        own = {key: value for key, value in module.state_dict().items() if ADAPTER in key}
        _check_adapters(adapters, own)
        adapters = adapters or own
        return {**{_base_name(key, layers): value for key, value in weights.items()}, **adapters}


def _check_adapters(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Raise ``ValueError`` for adapters of another ``lora``, also for callers that only warn of missing keys."""
    if not given:
        return
    remedy = "build the backbone with the lora of the checkpoint (rank, targets), or load the weights of merge_lora"
    check_shapes(given, own, remedy.capitalize())
    for problem, keys in (("lacks", own.keys() - given.keys()), ("has also", given.keys() - own.keys())):
        if keys:
            few = ", ".join(sorted(keys)[:3]) + (f", ... ({len(keys) - 3} more)" if len(keys) > 3 else "")
            raise ValueError(f"the checkpoint has adapters (LoRA) of other layers: it {problem} {few}; {remedy}")


def _base_name(key: str, layers: Mapping[str, Any]) -> str:
    layer, _, leaf = key.rpartition(".")
    return f"{layer}{_BASE}{leaf}" if layer in layers else key
