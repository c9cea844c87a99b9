"""The package's norms under the names and signatures of torch.nn.functional: what the conformance tests share."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from lnorm import nn, reference


def with_tensors(module, **tensors):
    """Give ``module`` plain tensors for its parameters and buffers: gradients reach them, running ones are updated."""
    for name, tensor in tensors.items():
        delattr(module, name)
        setattr(module, name, tensor)
    return module


def nn_layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    return with_tensors(nn.LayerNorm(normalized_shape, eps), weight=weight, bias=bias)(x)


def nn_rms_norm(x, normalized_shape, weight=None, eps=None):
    return with_tensors(nn.RMSNorm(normalized_shape, eps), weight=weight)(x)


def channels(x):
    return x.shape[1] if x.ndim > 1 else 1


def nn_group_norm(x, num_groups, weight=None, bias=None, eps=1e-5):
    return with_tensors(nn.GroupNorm(num_groups, channels(x), eps), weight=weight, bias=bias)(x)


def nn_batch_norm(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    module = nn.BatchNorm(channels(x), eps, momentum, track_running_stats=running_mean is not None)
    tensors = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    return with_tensors(module, **tensors).train(training)(x)


def nn_instance_norm(
    x, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5
):
    module = nn.InstanceNorm(channels(x), eps, momentum, track_running_stats=running_mean is not None)
    tensors = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    return with_tensors(module, **tensors).train(use_input_stats)(x)


NN = {
    "layer_norm": nn_layer_norm,
    "rms_norm": nn_rms_norm,
    "group_norm": nn_group_norm,
    "batch_norm": nn_batch_norm,
    "instance_norm": nn_instance_norm,
}


def array(tensor):
    """The tensor's memory as a NumPy array, so that a change in place reaches the tensor; None for None."""
    return None if tensor is None else tensor.detach().numpy()


def statistics_eps(x, eps):
    """torch's default for RMSNorm: the machine epsilon of the type that the statistics are taken in."""
    return torch.finfo(torch.promote_types(x.dtype, torch.float32)).eps if eps is None else eps


def reference_layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    return reference.layer_norm(array(x), normalized_shape, array(weight), array(bias), eps)


def reference_rms_norm(x, normalized_shape, weight=None, eps=None):
    return reference.rms_norm(array(x), normalized_shape, array(weight), statistics_eps(x, eps))


def reference_group_norm(x, num_groups, weight=None, bias=None, eps=1e-5):
    return reference.group_norm(array(x), num_groups, array(weight), array(bias), eps)


def reference_batch_norm(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    arrays = [array(each) for each in (x, weight, bias, running_mean, running_var)]
    return reference.batch_norm(*arrays, training, momentum, eps)


def reference_instance_norm(
    x, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5
):
    """The reference keeps no running statistics of instances."""
    if not use_input_stats:
        return reference_batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    return reference.instance_norm(array(x), array(weight), array(bias), eps)


REFERENCE = {
    "layer_norm": (reference_layer_norm, reference.layer_norm_backward),
    "rms_norm": (reference_rms_norm, reference.rms_norm_backward),
    "group_norm": (reference_group_norm, reference.group_norm_backward),
    "batch_norm": (reference_batch_norm, reference.batch_norm_backward),
    "instance_norm": (reference_instance_norm, reference.instance_norm_backward),
}
TORCH = {name: getattr(torch.nn.functional, name) for name in NN}


# --- one problem, solved in every way ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """A call of a norm in training, and a cotangent: arrays of one dtype, ``setting`` between x and the parameters."""

    name: str
    setting: tuple  # (normalized_shape,) or (num_groups,) or no running statistics
    x: np.ndarray
    parameters: tuple[np.ndarray, ...]  # gain, and bias where there is one; or nothing
    dy: np.ndarray
    eps: float = 1e-5

    @property
    def options(self):
        return {"eps": self.eps, **({"training": True} if self.name == "batch_norm" else {})}

    @property
    def centres(self):
        return self.name != "rms_norm"

    def with_x(self, x, **changes):
        return replace(self, x=x, **changes)

    def astype(self, dtype):
        parameters = tuple(each.astype(dtype) for each in self.parameters)
        return replace(self, x=self.x.astype(dtype), parameters=parameters, dy=self.dy.astype(dtype))

    def rows(self, values):
        """Values of the shape of x as a matrix: a row holds those that share their statistics."""
        if self.name in ("layer_norm", "rms_norm"):
            return values.reshape(-1, math.prod(self.setting[0]))
        if self.name == "batch_norm":
            return np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
        groups = self.setting[0] if self.name == "group_norm" else values.shape[1]
        return values.reshape(len(values) * groups, -1)

    def by_torch(self, function, dtype=None):
        """Output and gradients of a function with torch's signature; ``dtype`` is one that NumPy has not."""
        leaves = [torch.from_numpy(each).to(dtype).requires_grad_() for each in (self.x, *self.parameters)]
        y = function(leaves[0], *self.setting, *leaves[1:], **self.options)
        gradients = torch.autograd.grad(y, leaves, torch.from_numpy(self.dy).to(dtype))
        return [each.detach().double().numpy() for each in (y, *gradients)]

    def by_reference(self):
        """The same of lnorm.reference."""
        forward, backward = REFERENCE[self.name]
        tensors = [torch.from_numpy(each) for each in (self.x, *self.parameters)]
        y, cache = forward(tensors[0], *self.setting, *tensors[1:], **self.options)
        gradients = backward(self.dy, cache)[: len(tensors)]
        return [each.astype(float) for each in (y, *gradients)]

    def by(self, ours):
        return self.by_reference() if ours == "reference" else self.by_torch(NN[self.name])

    def exact(self):
        """What torch makes of the same numbers in float64.

        They are laid out afresh: in torch 2.13, instance_norm's gradient on the CPU ends up in the wrong channel when
        input and incoming gradient both have the channel as their fastest axis.
        """
        x, dy, *parameters = (np.array(each, float, order="C") for each in (self.x, self.dy, *self.parameters))
        return replace(self, x=x, dy=dy, parameters=tuple(parameters)).by_torch(TORCH[self.name])


def parameter_shape(name, setting, shape):
    return setting[0] if name in ("layer_norm", "rms_norm") else shape[1:2]
