"""A simulated accelerator: a device that computes nothing, and checks devices, precisions and memory formats.

PyTorch's key for devices of other packages, PrivateUse1, is given a device module in Python, and `FakeTensorMode` runs
each operator by its meta kernel. An operator on tensors of two devices raises, and so does one whose result depends on
values, such as ``item``. What this cannot show: the values, the kernels of a real device, and their speed.

The device is set up once per process and has no clean exit, so that the tests run this file as a script.
"""

import contextlib
import functools
import os
from collections import Counter
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = "gpu"
HALF = {
    *("conv1d", "conv2d", "conv3d", "convolution", "conv_transpose2d.input", "linear", "matmul", "mm", "bmm"),
    *("addmm", "addbmm", "baddbmm", "mv", "scaled_dot_product_attention"),
}
"""The operators that autocast runs in half precision; those of a CUDA device in the networks of this package."""
FULL = {
    *("layer_norm", "group_norm", "native_layer_norm", "softmax.int", "log_softmax.int", "cosine_similarity"),
    *("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div", "binary_cross_entropy_with_logits"),
    *("norm.Scalar", "norm.ScalarOpt_dim", "pow.Tensor_Scalar", "pow.Tensor_Tensor", "exp", "log", "sum", "prod"),
    *("rsqrt", "reciprocal", "softplus", "erfinv", "expm1", "log1p", "acos", "asin", "cumsum", "dist", "renorm"),
}
"""The operators that autocast runs in float32."""


class DeviceModule:
    """What PyTorch asks the module of a device for."""

    get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16, torch.float16])
    is_available = is_initialized = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 1)
    current_device = staticmethod(lambda: 0)
    _is_in_bad_fork = staticmethod(lambda: False)
    manual_seed_all = staticmethod(lambda seed: None)


def set_up() -> None:
    """Register the device and its autocast kernels."""
    backend_registration._setup_privateuseone_for_python_backend(DEVICE, DeviceModule)
    nn.Module._apply = apply_by_replacement(nn.Module._apply)
    others = torch.library.Library("_", "IMPL", "AutocastPrivateUse1")
    others.fallback(torch.library.fallthrough_kernel)
    library = torch.library.Library("aten", "IMPL", "AutocastPrivateUse1")
    for names, dtype in ((HALF, None), (FULL, torch.float32)):
        for name in names:
            library.impl(name, functools.partial(_run_in, _find_operator(name), dtype))
    _LIBRARIES.extend([library, others])
    import lossmith.device
    from lossmith.lenses.any_network import AnyNetwork
    from lossmith.pretrained import locate

    lossmith.device.NO_FLOAT64 += (DEVICE,)
    torch.tensor, torch.as_tensor = make_on_cpu(torch.tensor), make_on_cpu(torch.as_tensor)
    torch.randint = draw_on_host(torch.randint)
    torch.Generator, torch.rand = HostGenerator, without_generator(torch.rand)
    locate._read = outside_simulation(locate._read)
    AnyNetwork._init_random = moved(AnyNetwork._init_random)


_LIBRARIES: list[torch.library.Library] = []


def _find_operator(name: str) -> Callable[..., object]:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def _run_in(operator: Callable[..., object], dtype: torch.dtype | None, *args: object, **kwargs: object) -> object:
    """Run an operator with its floating-point arguments in a precision; None for that of autocast."""
    wanted = dtype or torch.get_autocast_dtype(DEVICE)

    def cast(tensor: Tensor) -> Tensor:
        is_cast = tensor.is_floating_point() and tensor.device.type == DEVICE and tensor.dtype != torch.float64
        return tensor.to(wanted) if is_cast else tensor

    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)):
        args, kwargs = tree_map_only(Tensor, cast, (args, kwargs))
        return operator(*args, **kwargs)


def outside_simulation(function: Callable[..., object]) -> Callable[..., object]:
    """Return a function that computes on real tensors even inside the simulation, as the reading of a file does."""

    @functools.wraps(function)
    def run(*args: object, **kwargs: object) -> object:
        with unset_fake_temporarily():
            return function(*args, **kwargs)

    return run


def apply_by_replacement(apply: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Return `Module._apply` that, inside the simulation, makes new parameters: simulated ones cannot be changed."""

    def replace(module: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        if detect_fake_mode() is None:
            return apply(module, function, recurse)
        for each in module.modules():
            for name, parameter in each._parameters.items():
                if parameter is not None:
                    each._parameters[name] = nn.Parameter(function(parameter.detach()), parameter.requires_grad)
            each._buffers.update({name: function(each) for name, each in each._buffers.items() if each is not None})
        return module

    return replace


def moved(function: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Return a function that builds a module on the CPU and, inside the simulation, moves it to the device."""

    @functools.wraps(function)
    def build(*args: object, **kwargs: object) -> nn.Module:
        is_simulated = detect_fake_mode() is not None
        module = outside_simulation(function)(*args, **kwargs)
        if is_simulated:
            move(module)
        return module

    return build


NO_KERNEL = {"empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided", "lift_fresh", "_unsafe_view"}


def is_launch(func: torch._ops.OpOverload) -> bool:
    """Return whether an operator launches a kernel: it returns a tensor and is no view and no allocation."""
    has_tensor = any("Tensor" in str(each.type) for each in func._schema.returns)
    is_view = any(each.alias_info is not None and not each.alias_info.is_write for each in func._schema.returns)
    return func.namespace == "aten" and has_tensor and not is_view and func.overloadpacket.__name__ not in NO_KERNEL


class OperatorLog(TorchDispatchMode):
    """Records the operators on the device, the kernels that they launch, and the dtypes of their results."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()  # without views, allocations and copies from the host
        self.dtypes: set[str] = set()
        self.converted = 0  # convolutions of maps that are not channels last, depthwise ones left out

    def clear(self) -> None:
        """Forget all operators."""
        self.operators.clear()
        self.launches.clear()
        self.dtypes.clear()
        self.converted = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default and args[0].dim() == 4:
            is_last = any(each.is_contiguous(memory_format=torch.channels_last) for each in args[:2])
            is_depthwise = args[8] == args[0].shape[1] > 1  # whose kernels in PyTorch take contiguous maps
            self.converted += not (is_last or is_depthwise)
            if is_last:  # as on a real device; the meta kernel loses the format
                result = torch.empty_like(result, memory_format=torch.channels_last)
        tensors = [each for each in tree_leaves((args, result)) if isinstance(each, Tensor)]
        if any(each.device.type == DEVICE for each in tensors):
            self.operators[func.name()] += 1
            self.launches[func.overloadpacket.__name__] += is_launch(func)
            self.dtypes |= {str(each.dtype).removeprefix("torch.") for each in tensors if each.device.type == DEVICE}
        return result


def make_on_cpu(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a function that makes tensors of Python numbers, which the device in Python cannot make."""

    @functools.wraps(function)
    def make(*args: object, device: torch.device | str | None = None, **kwargs: object) -> Tensor:
        if torch.device(device or "cpu").type != DEVICE:
            return function(*args, device=device, **kwargs)
        if isinstance(args[0], Tensor):
            return args[0].to(DEVICE, kwargs.get("dtype"))
        return torch.empty_like(outside_simulation(function)(*args, device="cpu", **kwargs), device=DEVICE)

    return make


def draw_on_host(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return `torch.randint`, which draws a single number of the host really even inside the simulation."""

    @functools.wraps(function)
    def draw(*args: object, **kwargs: object) -> Tensor:
        is_host_number = args[-1] == () and "device" not in kwargs
        return (outside_simulation(function) if is_host_number else function)(*args, **kwargs)

    return draw


class HostGenerator(torch.Generator):
    """A generator of the CPU, whatever its device, since the simulated device has none."""

    def __new__(cls, device: torch.device | str = "cpu") -> "HostGenerator":
        return super().__new__(cls)


def without_generator(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a function that draws without a generator on the simulated device, where nothing is drawn."""

    @functools.wraps(function)
    def draw(*args: object, generator: torch.Generator | None = None, **kwargs: object) -> Tensor:
        is_simulated = torch.device(kwargs.get("device") or "cpu").type == DEVICE
        return function(*args, generator=None if is_simulated else generator, **kwargs)

    return draw


@contextlib.contextmanager
def simulation() -> Iterator[OperatorLog]:
    """Run what is inside on simulated tensors; yield the log of the operators."""
    with FakeTensorMode(allow_non_fake_inputs=True), OperatorLog() as log:
        yield log


def move(module: nn.Module) -> None:
    """Put empty simulated tensors in the place of the parameters and buffers of a module."""
    module._apply(lambda tensor: torch.empty_like(tensor, device=DEVICE))


def copy_kept_weights(lens: object) -> None:
    """Add, to what a lens keeps for the CPU by (device, ...), the same for the simulated device."""
    for kept in vars(lens).values():
        if not (isinstance(kept, dict) and kept and all(isinstance(key, tuple) for key in kept)):
            continue
        for (device, *rest), value in list(kept.items()):
            if device == torch.device("cpu"):
                empty = tree_map_only(Tensor, lambda each: torch.empty_like(each, device=DEVICE), value)
                kept[torch.device(DEVICE, 0), *rest] = empty


def leave(code: int) -> None:
    """End the process at once."""
    os._exit(code)
