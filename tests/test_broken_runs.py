"""Every fault can be told from behaviour alone, without reading the source, names of classes or attributes."""

import copy
import math

import pytest
import torch

from lnorm.broken_runs import (
    CONTEXT,
    DIAGNOSES,
    PADDING,
    RUNS,
    VOCABULARY,
    accuracy,
    broken_model,
    diagnosis,
    sentences,
    symptoms,
    train,
    training_batches,
    watch,
)

GRADED = [run for run in RUNS if run != "example"]


@torch.no_grad()
def diagnose(model):
    """Say what is wrong with a model. It may only be run, in both modes, and its signals seen and changed by hooks."""
    model = copy.deepcopy(model)
    batch = next(training_batches(7, 1)).tokens
    full = torch.randint(VOCABULARY, (16, CONTEXT), generator=torch.Generator().manual_seed(7))

    model.train()
    if not model(batch).isfinite().all():
        return "eps is lost in half precision" if model(full).isfinite().all() else "something else"

    longer = torch.nn.functional.pad(batch, (0, CONTEXT), value=PADDING)
    if differ(model(batch), model(longer)):
        return "padding counts in the statistics"

    model.eval()
    if differ(model(batch), torch.cat([model(row) for row in batch.split(1)])):
        return "statistics over the wrong axis"

    before = model(batch)
    model.train()
    for other in training_batches(8, 20):
        model(other.tokens)
    model.eval()
    if not differ(before, model(batch)):
        return "running statistics are never updated"

    louder = changed(model.blocks[-1], lambda x: 100 * x, lambda: model(batch))
    if differ(model(batch), louder):
        return "the final norm is missing"

    # A Pre-LN block adds something to its input that does not depend on the input's size.
    x = torch.randn(4, CONTEXT, model.tokens.embedding_dim, generator=torch.Generator().manual_seed(7))
    added = [model.blocks[0](scale * x) - scale * x for scale in (1, 100)]
    if differ(*added):
        return "the skip path is normalized"
    return "healthy"


def differ(a, b):
    return (a - b).abs().max() > 1e-2 * a.abs().max()


def changed(module, change, compute):
    """Return what ``compute`` gives while the output of ``module`` is changed."""
    hook = module.register_forward_hook(lambda module, inputs, output: change(output))
    result = compute()
    hook.remove()
    return result


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("run", GRADED)
def test_a_diagnosis_by_behaviour_alone_is_possible_before_training(run, seed):
    assert diagnose(broken_model(run, seed)) == diagnosis(run)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("run", GRADED)
def test_and_after_training(run, seed):
    model = broken_model(run, seed)
    train(model, seed)
    assert diagnose(model) == diagnosis(run)


def test_the_models_look_alike():
    """Modules, their names, classes and printed forms, parameters and buffers are those of the healthy one."""
    healthy = broken_model("healthy", 0)
    for run in RUNS:
        model = broken_model(run, 0)
        assert repr(model) == repr(healthy)
        assert all(type(a) is type(b) for a, b in zip(model.modules(), healthy.modules(), strict=True))
        for name, value in model.state_dict().items():
            assert torch.equal(value, healthy.state_dict()[name])
    assert not torch.equal(broken_model("healthy", 1).head.weight, healthy.head.weight)


def test_the_names_of_the_diagnoses_do_not_give_the_order_away():
    assert sorted({diagnosis(run) for run in RUNS}) == list(DIAGNOSES)
    assert len(DIAGNOSES) == len(RUNS) == 8


def test_steps_without_a_finite_loss_change_nothing():
    model = broken_model("C", 0)
    losses = train(model, 0, steps=2)
    assert not any(map(math.isfinite, losses))
    before = broken_model("C", 0).state_dict()
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


def test_an_unknown_run_is_refused():
    with pytest.raises(ValueError, match="which: expected one of healthy, A"):
        broken_model("G", 0)


def test_sentences_are_what_they_are_said_to_be():
    for part in sentences():
        real = part.tokens != PADDING
        length = real.sum(dim=1)
        assert (length.min(), length.max()) == (4, CONTEXT)
        assert torch.equal(real, torch.arange(CONTEXT) < length[:, None])  # padding stands at the end
        assert part.tokens.shape == (8 * 256, CONTEXT)
        assert len(part.language.bincount()) == 8


def test_measuring_leaves_the_model_alone():
    model = broken_model("healthy", 0)
    before = copy.deepcopy(model.state_dict())
    watch(model, next(training_batches(0, 1)))
    accuracy(model, sentences()[1].part(slice(64)), 32, "train")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_symptoms_are_the_same_for_the_same_seed_and_say_what_their_names_say():
    first, second = (symptoms(broken_model("A", 1), 1, steps=5) for _ in range(2))
    assert first == second
    assert len(first["loss"]) == 5
    assert len(first["long"]["stream"]) == len(first["long"]["gradient"]) == 9
    assert first["long"]["head"] == pytest.approx([1] * 32, abs=0.01)
    assert first["short"]["stream"][0] == pytest.approx(1, abs=0.01)
    assert all(0 <= first[name] <= 1 for name in ("train mode", "eval mode", "one at a time"))
