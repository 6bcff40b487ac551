"""Compile a module in place with ``torch.compile``; without a working compiler, run it as it is and say so once.

module(x) -> CompiledCall -> compiled call, one for training and one for evaluation -> maps
                          -> the module's own call, if something else records it or nothing can be compiled
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import Variable
from torch.nn.parallel import DistributedDataParallel

from ..compat import compiled_graphs
from .compiler import REMEDIES, check_compile, missing_compiler
from .distributed import watch_first_step
from .tracing import traced

logger = logging.getLogger("fpn_plugins")
_numbers = count(1)


class CompiledInPlace:
    """Mixin for an ``nn.Module`` whose call is compiled in place: the names of its weights stay as they are.

    Copies (``deepcopy``, ``pickle``) are compiled, too, each at its own first call. While ``torch.compile``,
    ``torch.export``, ``torch.jit`` or ``torch.fx`` record the module, and on the meta device, it runs uncompiled.

    Attributes:
        compile_options: options of ``torch.compile``; ``None`` if the module is not compiled.
    """

    compile_options: dict[str, Any] | None = None
    _compiled_call_impl: Callable | None = None

    def compile(self: Any, *args: Any, **options: Any) -> None:
        """Compile the module in place, at its first call.

        Graphs are compiled for training and for evaluation, for the first size of images, then for dynamic sizes. Each
        takes from seconds to minutes, which the log states. Without a working compiler, a warning says what to install,
        and the module runs uncompiled.

        Args:
            *args: none; options are given by name.
            **options: options of ``torch.compile``.

        Raises:
            TypeError: an option that ``torch.compile`` does not have.
            ValueError: a value that ``torch.compile`` refuses.
        """
        if args:
            raise TypeError(f"compile() got {args[0]!r} by position; give the options of torch.compile by name")
        self.compile_options = check_compile("compile", options)
        self._compiled_call_impl = CompiledCall(self, self.compile_options or {})

    def _compile_if(self: Any, argument: bool | Mapping[str, Any]) -> None:
        """Compile the module if the constructor's ``compile`` says so."""
        options = check_compile("compile", argument)
        if options is not None:
            self.compile(**options)

    def _replicate_for_data_parallel(self) -> Any:
        """Let the copies of ``nn.DataParallel`` run uncompiled; the compiled call is that of this module's weights."""
        replica = super()._replicate_for_data_parallel()  # type: ignore[misc]
        replica._compiled_call_impl = None
        return replica

    def compile_log(self, level: int, message: str) -> None:
        """Log a message of compilation; adapters override this with their toolbox's logger."""
        logger.log(level, message)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        if self.compile_options is not None:
            self._compiled_call_impl = CompiledCall(self, self.compile_options)


class CompiledCall:
    """Replace the call of a module by a compiled one; see `CompiledInPlace`.

    ``torch.compile`` counts graphs per code object and stops compiling after eight. Here each module has code of its
    own for training and for evaluation, so that a second detector in the process does not use up the first one's.

    Args:
        module: the module.
        options: options of ``torch.compile``.

    Attributes:
        graphs: number of graphs compiled so far; those of the backward pass are not counted.
    """

    def __init__(self, module: Any, options: dict[str, Any]) -> None:
        self.module, self.options = module, options
        self.graphs = 0
        self._number = next(_numbers)
        self._calls: dict[tuple[bool, bool], Callable[..., Any]] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module."""
        if traced():
            return self.module._call_impl(*args, **kwargs)
        x = _first_tensor((*args, *kwargs.values()))
        if x is None or not self._can_compile(x):
            return self.module._call_impl(*args, **kwargs)
        watch_first_step(self.module)
        with _whole_graphs():
            before, start = compiled_graphs(), time.perf_counter()
            outputs = self._compiled()(*args, **kwargs)
            number = compiled_graphs() - before
        if number:
            self._report(x, number, time.perf_counter() - start, outputs)
        return outputs

    def _can_compile(self, x: Tensor) -> bool:
        if x.is_meta or isinstance(x, FakeTensor):
            return False
        device, backend = x.device.type, self.options.get("backend", "inductor")
        if not isinstance(backend, str):
            return True
        reason = missing_compiler(device, backend)
        if reason and (device, backend) not in _warned:
            _warned.add((device, backend))
            self._log(
                logging.WARNING,
                f"runs without torch.compile: its backend {backend!r} does not work on {device} ({reason}); "
                f"{REMEDIES.get(device, 'install what the backend needs')}, or leave out compile",
            )
        return not reason

    def _compiled(self) -> Callable[..., Any]:
        module = self.module
        mode = module.training, torch.is_grad_enabled()
        if mode not in self._calls:

            def call(*args: Any, **kwargs: Any) -> Any:
                return module._call_impl(*args, **kwargs)

            call.__code__ = call.__code__.replace(co_name=f"call_{self._number}")
            self._calls[mode] = torch.compile(call, **self.options)
        return self._calls[mode]

    def _report(self, x: Tensor, number: int, seconds: float, outputs: Any) -> None:
        self.graphs += number
        mode = "training" if self.module.training else "evaluation"
        maps = "x".join(map(str, x.shape))
        self._log(logging.INFO, f"compiled for {mode} at {maps} in {seconds:.1f} s (graphs: {self.graphs})")
        entries = outputs.values() if isinstance(outputs, Mapping) else outputs
        differentiable = [y for y in entries if isinstance(y, Tensor) and y.requires_grad]
        if differentiable:
            _FirstBackward(differentiable, self._log)

    def _log(self, level: int, message: str) -> None:
        self.module.compile_log(level, f"{type(self.module).__name__} {message}")


_warned: set[tuple[str, str]] = set()


class _FirstBackward:
    """Log how long the backward pass of a new graph takes, in which it is compiled."""

    def __init__(self, outputs: Sequence[Tensor], log: Callable[[int, str], None]) -> None:
        self.log = log
        self.start: float | None = None
        self.hooks = [y.register_hook(self._started) for y in outputs]

    def _started(self, _: Tensor) -> None:
        if self.start is None:
            self.start = time.perf_counter()
            Variable._execution_engine.queue_callback(self._finished)  # runs at the end of this backward pass

    def _finished(self) -> None:
        for hook in self.hooks:
            hook.remove()
        assert self.start is not None
        self.log(
            logging.INFO, f"took {time.perf_counter() - self.start:.1f} s for the first backward pass of this graph"
        )


def _whole_graphs() -> AbstractContextManager[Any]:
    """Keep `DistributedDataParallel` from splitting a graph at its buckets, unless it was configured otherwise."""
    if DistributedDataParallel._active_ddp_module is None or torch._dynamo.config.optimize_ddp is not True:
        return nullcontext()
    return torch._dynamo.config.patch(optimize_ddp=False)


def _first_tensor(given: Sequence[Any]) -> Tensor | None:
    """Return the image, or the first of the maps, of a call; ``None`` where forward will report a mistake."""
    first = given[0] if given else None
    if isinstance(first, (list, tuple)):
        first = first[0] if first else None
    return first if isinstance(first, Tensor) else None
