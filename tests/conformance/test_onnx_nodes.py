"""ONNX's own test cases for its norms, from the package onnx: every case that is a single node of one of the five.

Each operator is a function of the case's inputs and the node's attributes that yields what we compute: a name, and the
outputs in ONNX's order, as many as we have. Defaults of the attributes are those of the operators' specifications.
"""

import warnings

import numpy as np
import onnx
import pytest
import torch
from conformance_helpers import NN

from lnorm import reference

pytestmark = pytest.mark.slow  # loading the cases takes seconds
KIND = "ONNX node cases"


def with_nn(name, *args, **kwargs):
    tensors = [torch.from_numpy(each.copy()) if isinstance(each, np.ndarray) else each for each in args]
    return NN[name](*tensors, **kwargs).detach().numpy()


def layer_normalization(x, scale, bias=None, *, axis=-1, epsilon=1e-5, stash_type=1):
    y, cache = reference.layer_norm(x, x.shape[axis:], scale, bias, epsilon)
    mean = (x - cache.x_hat / cache.rstd).mean(axis=cache.axes, keepdims=True)
    yield "reference", [y, mean, cache.rstd]
    yield "nn", [with_nn("layer_norm", x, x.shape[axis:], scale, bias, epsilon)]


def rms_normalization(x, scale, *, axis=-1, epsilon=1e-5, stash_type=1):
    yield "reference", [reference.rms_norm(x, x.shape[axis:], scale, epsilon)[0]]
    yield "nn", [with_nn("rms_norm", x, x.shape[axis:], scale, epsilon)]


def group_normalization(x, scale, bias, *, num_groups, epsilon=1e-5, stash_type=1):
    yield "reference", [reference.group_norm(x, num_groups, scale, bias, epsilon)[0]]
    yield "nn", [with_nn("group_norm", x, num_groups, scale, bias, epsilon)]


def instance_normalization(x, scale, bias, *, epsilon=1e-5):
    yield "reference", [reference.instance_norm(x, scale, bias, epsilon)[0]]
    yield "nn", [with_nn("instance_norm", x, None, None, scale, bias, eps=epsilon)]


def batch_normalization(x, scale, bias, mean, var, *, epsilon=1e-5, momentum=0.9, training_mode=0):
    """ONNX's momentum is the share of the old statistics, and its running variance is the biased one."""
    share = 1 - momentum  # of the batch: our momentum
    running = [mean.copy(), var.copy()]
    y, _ = reference.batch_norm(
        x, scale, bias, *running, bool(training_mode), share, epsilon, unbiased_running_var=False
    )
    yield "reference", [y, *running]

    tensors = [torch.from_numpy(each.copy()) for each in (x, mean, var, scale, bias)]
    y = NN["batch_norm"](*tensors, bool(training_mode), share, epsilon)
    _, running_mean, running_var, _, _ = (each.numpy() for each in tensors)
    if training_mode:  # torch's convention has no option: what the batch contributed is n / (n - 1) times too large
        n = x.size / x.shape[1]
        running_var = (running_var - momentum * var) * (n - 1) / n + momentum * var
    yield "nn", [y.numpy(), running_mean, running_var]


OPERATORS = {
    "LayerNormalization": layer_normalization,
    "RMSNormalization": rms_normalization,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "BatchNormalization": batch_normalization,
}


@pytest.fixture(scope="module")
def node_cases():
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases of other operators overflow on purpose
        return load_model_tests(kind="node")


def single_nodes(node_cases, operator):
    for each in node_cases:
        nodes = each.model.graph.node
        if len(nodes) == 1 and nodes[0].op_type == operator:
            yield each, {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in nodes[0].attribute}


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_single_node_case(node_cases, operator, case):
    for each, attributes in single_nodes(node_cases, operator):
        with case(KIND, each.name):
            for inputs, outputs in each.data_sets:
                for name, ours in OPERATORS[operator](*inputs, **attributes):
                    expected = outputs if name == "reference" else outputs[: len(ours)]
                    for our, their in zip(ours[: len(expected)], expected, strict=True):
                        assert our.shape == their.shape
                        np.testing.assert_allclose(our, their, each.rtol, each.atol, err_msg=name)


def test_nothing_is_left_out_but_the_same_cases_written_out_in_other_nodes(node_cases, tally):
    selected = {each.name for operator in OPERATORS for each, _ in single_nodes(node_cases, operator)}
    others = [
        each.name
        for each in node_cases
        if each.name not in selected and {node.op_type for node in each.model.graph.node} & set(OPERATORS)
    ]
    assert others == []
    for each in node_cases:
        name, expanded, _ = each.name.partition("_expanded")
        if expanded and name in selected:
            tally.exclude(each.name, "ONNX writes the same case out in primitive nodes, none of them a norm")


def test_the_readme_tells_the_count(tally):
    tally.check_readme(KIND, tests=len(OPERATORS))
