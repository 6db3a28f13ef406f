"""Count memory and work of a computation that never runs: floats without values, integers with.

Under a `Meter` a model is built and trained on tensors that have a shape but no values (PyTorch's
fake tensors, on the meta device), so that neither memory nor time depends on its size. Integers
are real: token numbers, grids and masks decide which way a model's code goes. PyTorch's own
autograd and checkpointing run, so the peak is that of the code, not of a formula about it.

Work is counted in floating point operations by PyTorch's own formulas (`torch.utils.flop_counter`):
an m x k by k x n product is 2 m n k of them, and what is not a product is none. Unlike PyTorch's
counter, causal attention counts the pairs that are seen, about half of the square.

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    with Meter() as meter:
        meter.adopt(model)
        model(**inputs).loss.backward()
    meter.peak, meter.flops
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten
_CREATE = (aten.empty, aten.empty_strided, aten.zeros, aten.ones, aten.full, aten.rand, aten.randn)
_INDEX = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)


def _attention(query, key, value, dropout=0.0, is_causal=False, **kwargs) -> int:
    whole = sdpa_flop_count(query.shape, key.shape, value.shape)
    return _seen(whole, query.shape[-2]) if is_causal else whole


def _attention_backward(grad, query, key, value, out, sums, dropout, is_causal, **kwargs) -> int:
    whole = sdpa_backward_flop_count(grad.shape, query.shape, key.shape, value.shape)
    return _seen(whole, query.shape[-2]) if is_causal else whole


def _seen(whole: int, length: int) -> int:
    return whole * (length + 1) // (2 * length)


# PyTorch's, and what it lacks: attention on a CPU, as which fake tensors pass, and sums in place.
_FLOPS: dict[Callable, Callable] = flop_registry | {
    aten.addmm_: flop_registry[aten.addmm],
    aten.baddbmm_: flop_registry[aten.baddbmm],
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


class Meter(TorchDispatchMode):
    """Bytes of all tensors made under it, `live` now and at most, `peak`; the `flops` so far.

    `part_flops` are those of the modules that `tell_apart` was told of.

    >>> layer = torch.nn.Linear(1000, 1000, bias=False, device="meta")
    >>> with Meter() as meter:
    ...     meter.adopt(layer)
    ...     loss = layer(torch.randn(10, 1000)).sum()
    ...     loss.backward()
    >>> meter.live >= 2 * 4_000_000, layer.weight.grad.shape
    (True, torch.Size([1000, 1000]))
    >>> meter.flops == 2 * 10 * 1000 * 1000 * 2  # the product, and the gradient of the weight
    True
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = self.flops = self.part_flops = 0
        self._inside = 0  # of the modules of the part
        self._of_part: set[int] = set()  # storages that were made in them
        self._storages: dict[int, weakref.ref] = {}
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)

    @property
    def work(self) -> np.ndarray:
        """`flops` and `part_flops` so far, `(2,)`."""
        return np.array([self.flops, self.part_flops], dtype=float)

    def adopt(self, module: torch.nn.Module) -> None:
        """Count the weights of a module on the meta device, and let it compute with them."""
        adopted: dict[int, torch.Tensor] = {}
        for part in module.modules():
            for kept in (part._parameters, part._buffers):
                for name, tensor in kept.items():
                    if tensor is None or tensor.device.type != "meta":
                        continue
                    if id(tensor) not in adopted:  # tied weights stay one
                        adopted[id(tensor)] = self._adopted(tensor)
                    kept[name] = adopted[id(tensor)]

    def _adopted(self, tensor: torch.Tensor) -> torch.Tensor:
        fake = self.emptied(tensor)
        if isinstance(tensor, torch.nn.Parameter):
            return torch.nn.Parameter(fake, requires_grad=tensor.requires_grad)
        return fake

    def emptied(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of this shape without values."""
        fake = FakeTensor(self._fake, tensor.detach().to("meta"), torch.device("cpu"))
        self._note(fake)
        return fake

    def tell_apart(self, part: torch.nn.Module) -> None:
        """Count the work of a module, forward and backward, in `part_flops` too.

        An operation is the part's if it runs inside, or computes with what was made inside: so is
        its backward, for that takes the part's weights or what its forward kept.
        """

        def enter(*_) -> None:
            self._inside += 1

        def leave(*_) -> None:
            self._inside -= 1

        for module in part.modules():  # checkpointing calls inner ones again, alone
            module.register_forward_pre_hook(enter)
            module.register_forward_hook(leave, always_call=True)
        self._of_part |= {_key(weight) for weight in part.parameters()}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [*_tensors(args), *_tensors(kwargs.values())]
        if tensors:
            fake = any(isinstance(tensor, FakeTensor) for tensor in tensors)
        else:
            dtype = kwargs.get("dtype") or torch.get_default_dtype()
            fake = func.overloadpacket in _CREATE and dtype.is_floating_point
        if not fake:
            out = func(*args, **kwargs)
        else:
            if func in _INDEX:
                args = (args[0], _whole_numbers(args[1]), *args[2:])
            out = self._fake.__torch_dispatch__(func, types, args, kwargs)
            if func is aten.multinomial.default:  # whichever token is drawn, it is a number
                out = torch.zeros(out.shape, dtype=out.dtype)
            self._count(func.overloadpacket, args, kwargs, out, tensors)
        for tensor in _tensors((out,)):
            self._note(tensor)
        return out

    def _count(self, packet, args, kwargs, out, tensors) -> None:
        if packet in _FLOPS:
            flops = _FLOPS[packet](*args, **kwargs, out_val=out)
            self.flops += flops
            if self._inside or any(_key(tensor) in self._of_part for tensor in tensors):
                self.part_flops += flops

    def _note(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = _key(tensor), storage.nbytes()
        if key in self._storages:
            return

        def freed(_) -> None:
            self.live -= size
            del self._storages[key]
            self._of_part.discard(key)

        self._storages[key] = weakref.ref(storage, freed)
        if self._inside:
            self._of_part.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)


def _tensors(values: Iterable) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _whole_numbers(indices) -> list:
    """Masks as the places where they are true, which only real values tell."""
    found = []
    for index in indices:
        real_mask = index is not None and index.dtype is torch.bool
        if real_mask and not isinstance(index, FakeTensor):
            found.extend(index.nonzero(as_tuple=True))
        else:
            found.append(index)
    return found
