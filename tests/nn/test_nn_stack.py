import pytest
import torch
from torch import nn

from lnorm.nn import Transformer
from lnorm.nn.stack import Stack
from lnorm.training import Adam, Momentum, token_batches, token_losses, train_language_models, warm_up


def models(copies=3, **settings):
    return [
        Transformer(
            11, features=8, layers=2, heads=2, context=6, generator=torch.Generator().manual_seed(seed), **settings
        )
        for seed in range(copies)
    ]


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    return list(token_batches(torch.randint(11, (500,), generator=generator), 6, 4, 5, generator))


def test_a_stack_computes_what_its_models_compute(batches):
    originals = models()
    logits = Stack(originals)(batches[0][:, :-1])
    for model, ours in zip(originals, logits, strict=True):
        torch.testing.assert_close(ours, model(batches[0][:, :-1]), rtol=1e-4, atol=1e-5)


def test_every_model_may_have_its_own_input(batches):
    originals = models()
    x = torch.stack([batch[:, :-1] for batch in batches[:3]])
    for index, ours in enumerate(Stack(originals)(x, each=True)):
        torch.testing.assert_close(ours, originals[index](x[index]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["adam", "momentum", "clipped"])
def test_training_a_stack_is_training_each_model(batches, kind):
    rates = torch.tensor([1e-3, 3e-3, 1e-2])
    originals = models()
    stack = Stack(originals)
    direction = Momentum(0.9) if kind == "momentum" else Adam()
    clip = 0.5 if kind == "clipped" else None
    history = train_language_models(stack, batches, lambda step: rates, direction, clip)
    assert history.losses.shape == history.gradient_norms.shape == (5, 3)
    for index, model in enumerate(models()):
        rate = float(rates[index])
        optimizer = (
            torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
            if kind == "momentum"
            else torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.98))
        )
        for step, batch in enumerate(batches):
            optimizer.zero_grad()
            loss = token_losses(model(batch[:, :-1])[None], batch[:, 1:])[0]
            loss.backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            assert abs(loss.item() - history.losses[step, index]) < 1e-4
    stack.write_back()
    logits = stack(batches[0][:, :-1])
    torch.testing.assert_close(originals[1](batches[0][:, :-1]), logits[1], rtol=1e-4, atol=1e-5)


def test_a_model_that_overflows_does_not_disturb_the_others(batches):
    stack = Stack(models())
    rates = torch.tensor([1e-3, 1e30, 1e-3])
    history = train_language_models(stack, batches, lambda step: rates, Momentum())
    calm = train_language_models(Stack(models()), batches, lambda step: 1e-3, Momentum())
    assert not (history.losses[-1, 1] < 1e3)
    assert (history.losses[:, [0, 2]] == calm.losses[:, [0, 2]]).all()


def test_models_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="model 1 differs from model 0"):
        Stack([nn.Linear(2, 3), nn.Linear(3, 2)])


def test_warm_up_rises_linearly_and_stays():
    schedule = warm_up(0.2, 4)
    assert [schedule(step) for step in (1, 2, 4, 5, 100)] == [0.05, 0.1, 0.2, 0.2, 0.2]
    assert warm_up(0.2, 0)(1) == 0.2
