"""The generic tests of graders. A test file of an assignment is a subclass of Grading with a table of right answers."""

import re
from pathlib import Path

import numpy as np

from lnorm.checks import assignment, mark
from lnorm.checks.exercise import run
from lnorm.checks.marking import VISIBLE_SEED

ROOT = Path(__file__).resolve().parents[2]
GRADED_SEEDS = (5, 6, 7)


def marked(exercise, answer, level="graded", seed=5):
    """Mark an answer as a student's: with the time limit, without forbidden calls."""
    return mark(exercise, lambda inputs: exercise.run(answer, inputs), seed, level)


def marked_as_ours(exercise, answer, level="graded", seed=5):
    """Mark an answer from the catalogue, which may use the reference."""
    return mark(exercise, lambda inputs: run(exercise.probe, answer, inputs), seed, level)


def section(name, exercise):
    """The part of an assignment's text that belongs to an exercise: from its heading to its check."""
    text = (ROOT / "solutions" / name / f"{name}.md").read_text()
    parts = [part for part in re.split(r"^## ", text, flags=re.MULTILINE) if f'check("{exercise.name}"' in part]
    assert len(parts) == 1, f'expected one section with check("{exercise.name}", …), found {len(parts)}'
    return parts[0]


def numbers(outputs):
    """The first values of some arrays, as a message might print them."""
    for values in outputs.values():
        if isinstance(values, np.ndarray) and values.dtype.kind == "f":
            yield from (f"{value:.4g}" for value in values.ravel()[:20] if len(f"{abs(value):.4g}") >= 5)


def tables(cls):
    """What the tests below run over: their argument names, and the values with ids."""
    exercises = assignment(cls.assignment)
    by_name = {each.name: each for each in exercises}
    return {
        "exercise": [(each.name, each) for each in exercises],
        "mistake": [(f"{e.name}: {name[:60]}", (e, name)) for e in exercises for name in e.mistakes],
        "variant": [
            (f"{name}-{number}", (by_name[name], answer))
            for name, answers in cls.correct.items()
            for number, answer in enumerate(answers)
        ],
        "wrong": [(f"{name}: {says[:60]}", (by_name[name], answer, says)) for name, answer, says in cls.wrong],
    }


class Grading:
    """Subclass it, named Test…, with the tables; pytest runs all that follows on them.

    ``correct`` maps the name of an exercise to three or more right answers, written differently. ``wrong`` lists
    further wrong answers: name of the exercise, the answer, and what the feedback on graded cases must say.
    """

    assignment: str
    correct: dict = {}  # noqa: RUF012
    wrong: tuple = ()

    def pytest_generate_tests(self, metafunc):
        for argument, values in tables(metafunc.cls).items():
            if argument in metafunc.fixturenames:
                ids = [each for each, _ in values]
                metafunc.parametrize(argument, [value for _, value in values], ids=ids)

    # --- right answers ---

    def test_the_solution_keeps_full_marks(self, exercise):
        for level, seed in [("visible", VISIBLE_SEED), *(("graded", seed) for seed in GRADED_SEEDS)]:
            verdict = marked_as_ours(exercise, exercise.solution, level, seed)
            assert verdict.points == verdict.possible == exercise.points, str(verdict)
            assert not verdict.reasons

    def test_right_answers_keep_full_marks_however_they_are_written(self, variant):
        exercise, answer = variant
        for level, seed in [("visible", VISIBLE_SEED), *(("graded", seed) for seed in GRADED_SEEDS)]:
            verdict = marked(exercise, answer, level, seed)
            assert verdict.points == verdict.possible, str(verdict)

    def test_there_are_three_right_answers(self, exercise):
        assert len(self.correct.get(exercise.name, ())) >= 3, exercise.name

    # --- wrong answers ---

    def test_known_mistakes_lose_points(self, mistake):
        exercise, name = mistake
        for seed in GRADED_SEEDS[:2]:
            verdict = marked_as_ours(exercise, exercise.mistakes[name], "graded", seed)
            assert verdict.points < verdict.possible, name

    def test_feedback_names_at_least_four_of_five_mistakes(self, exercise):
        unnamed = [
            name
            for name, wrong in exercise.mistakes.items()
            if name not in str(marked_as_ours(exercise, wrong, "graded"))
        ]
        assert len(unnamed) <= 0.2 * len(exercise.mistakes), unnamed

    def test_there_are_enough_mistakes(self, exercise):
        assert len(exercise.mistakes) >= 3

    def test_other_wrong_answers_lose_points_and_are_told_why(self, wrong):
        exercise, answer, says = wrong
        verdict = marked(exercise, answer)
        assert verdict.points < verdict.possible
        assert says in str(verdict), str(verdict)

    def test_answers_that_are_no_answers_get_nothing_and_a_reason(self, exercise):
        for answer in (not_started, returns_nothing, returns_text, raises, "text", None, one_argument_too_many):
            verdict = marked(exercise, answer, "visible")
            assert verdict.points == 0, f"{answer}: {verdict}"
            assert all(line.reason for line in verdict.lines)
        assert "nothing here yet" in str(marked(exercise, not_started))
        assert exercise.signature in str(marked(exercise, one_argument_too_many))

    # --- cases ---

    def test_the_probe_leaves_the_cases_as_they_are(self, exercise):
        for answer in (exercise.solution, *exercise.mistakes.values()):
            for case, fresh in zip(exercise.cases(5, "graded"), exercise.cases(5, "graded"), strict=True):
                run(exercise.probe, answer, case.inputs)
                for name, value in fresh.inputs.items():
                    np.testing.assert_equal(case.inputs[name], value, err_msg="the probe must copy what it hands over")

    def test_graded_cases_differ_from_the_visible_ones_and_by_seed(self, exercise):
        visible, graded = exercise.cases(VISIBLE_SEED, "visible"), exercise.cases(VISIBLE_SEED, "graded")
        assert repr(visible) != repr(graded)
        assert repr(graded) == repr(exercise.cases(VISIBLE_SEED, "graded"))
        if any(isinstance(value, (np.ndarray, float)) for case in graded for value in case.inputs.values()):
            assert repr(graded) != repr(exercise.cases(VISIBLE_SEED + 1, "graded"))
        assert {case.tests for case in visible} == {case.tests for case in graded} == set(exercise.properties)

    def test_feedback_on_graded_cases_shows_none_of_their_numbers(self, exercise):
        cases = exercise.cases(5, "graded")
        hidden = {n for case in cases for n in numbers(case.inputs)}
        if exercise.verify is None:
            hidden |= {n for case in cases for n in numbers(exercise.probe(exercise.solution, case.inputs))}

        def quotes_its_input(*args):
            raise ValueError(f"{args}")

        for answer in (quotes_its_input, *exercise.mistakes.values()):
            verdict = str(marked_as_ours(exercise, answer, "graded"))
            assert not [n for n in hidden if re.search(rf"(?<![\d.]){re.escape(n)}", verdict)], verdict

    # --- the text ---

    def test_the_text_says_what_it_must(self, exercise):
        text = section(self.assignment, exercise)
        assert re.search(r"^\*\d+ points? · \d+ minutes · (easy|medium|hard)", text, re.MULTILINE), "the line of facts"
        assert re.search(rf"^\*{exercise.points} point", text, re.MULTILINE), f"{exercise.points} points"
        assert re.findall(r"<summary>Hint (\d)</summary>", text) == ["1", "2", "3"]
        assert f"`{exercise.signature}" in text, exercise.signature
        for name in exercise.forbids:
            assert f"`{name}`" in text, f"the text must say that {name} is not allowed"
        assert re.search(rf"^(def|class) {exercise.signature.split('(')[0]}\b", text, re.MULTILINE)

    def test_the_text_asks_two_written_questions(self):
        text = (ROOT / "solutions" / self.assignment / f"{self.assignment}.md").read_text()
        questions = re.split(r'^\+\+\+ \{.*"written".*\}$', text, flags=re.MULTILINE)[1:]
        assert len(questions) == 2
        for question in questions:
            for word in ("BEGIN SOLUTION", "**Rubric.**", "**Full", "**Half", "**Little", "END SOLUTION"):
                assert question.count(word) == 1, word


def not_started(*args, **kwargs):
    raise NotImplementedError


def returns_nothing(*args, **kwargs):
    pass


def returns_text(*args, **kwargs):
    return "done"


def raises(*args, **kwargs):
    raise ValueError("no such luck")


def one_argument_too_many(one, two, three, four, five, six, seven, eight, nine):
    return one
