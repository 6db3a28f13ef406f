"""Count the memory of a computation that never runs: floats without values, integers with.

Under a `Meter` a model is built and trained on tensors that have a shape but no values (PyTorch's
fake tensors, on the meta device), so that neither memory nor time depends on its size. Integers
are real: token numbers, grids and masks decide which way a model's code goes. PyTorch's own
autograd and checkpointing run, so the peak is that of the code, not of a formula about it.

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    with Meter() as meter:
        meter.adopt(model)
        model(**inputs).loss.backward()
    meter.peak
"""

from __future__ import annotations

import weakref

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
_CREATE = (aten.empty, aten.empty_strided, aten.zeros, aten.ones, aten.full, aten.rand, aten.randn)
_INDEX = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)


class Meter(TorchDispatchMode):
    """Bytes of all tensors made under it: `live` now, and at most, `peak`.

    >>> layer = torch.nn.Linear(1000, 1000, bias=False, device="meta")
    >>> with Meter() as meter:
    ...     meter.adopt(layer)
    ...     loss = layer(torch.randn(10, 1000)).sum()
    ...     loss.backward()
    >>> meter.live >= 2 * 4_000_000, layer.weight.grad.shape
    (True, torch.Size([1000, 1000]))
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._storages: dict[int, weakref.ref] = {}
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)

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
        fake = FakeTensor(self._fake, tensor.detach(), torch.device("cpu"))
        self._note(fake)
        if isinstance(tensor, torch.nn.Parameter):
            return torch.nn.Parameter(fake, requires_grad=tensor.requires_grad)
        return fake

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
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
            with self._fake:
                out = func(*args, **kwargs)
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._note(leaf)
        return out

    def _note(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._storages:
            return

        def freed(_) -> None:
            self.live -= size
            del self._storages[key]

        self._storages[key] = weakref.ref(storage, freed)
        self.live += size
        self.peak = max(self.peak, self.live)


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
