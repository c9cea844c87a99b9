"""The `lnorm` command."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Normalization in deep learning: run the experiments, check the exercises.",
)
console = Console()


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="Which experiment; without a name, list them.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Run seeds 0 to SEEDS - 1.")] = 5,
    workers: Annotated[int, typer.Option(min=1, help="Processes at once.")] = os.cpu_count() or 1,
    out: Annotated[Path, typer.Option(help="Folder for the JSON file.")] = Path("results"),
) -> None:
    """Run an experiment over seeds, print its claims and write NAME.json."""
    from lnorm import experiments
    from lnorm.experiments.catalogue import title

    if name not in experiments.names():
        if name:
            console.print(f"[red]No experiment is called {escape(repr(name))}.[/red] There are:")
        width = max(map(len, experiments.names()))
        for each in experiments.names():
            console.print(f"  [bold]{each:{width}}[/bold]  {escape(title(each))}")
        raise typer.Exit(2 if name else 0)

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # before the work, not after it
        raise typer.BadParameter(
            f"expected a folder that can be written, got {out} ({error.strerror})", param_hint="--out"
        ) from error
    with Progress(
        *Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn(), console=console
    ) as bar:
        task = bar.add_task(f"{name}, seeds", total=seeds)
        results = experiments.run(
            name, seeds=seeds, workers=min(workers, seeds), on_done=lambda done: bar.update(task, completed=done)
        )

    table = Table(title=title(name), title_justify="left", show_lines=True)
    for heading in ("Claim", "Published", "Ours, ± over seeds", "Holds if", "Verdict"):
        table.add_column(heading)
    colours = {"holds": "green", "not robust": "yellow", "does not hold": "red"}
    for c in results.claims:
        source = ", ".join(filter(None, (c.source, c.where))) or "this book"
        verdict = f"[{colours[c.verdict]}]{c.verdict}[/]"
        table.add_row(
            escape(c.sentence), f"{escape(c.published)}\n[dim]{escape(source)}[/]", escape(c.ours), c.condition, verdict
        )
    console.print(table)

    path = out / f"{name}.json"
    results.save(path)
    console.print(f"Measurements, claims and settings: {path}")
    if any(c.verdict == "does not hold" for c in results.claims):
        raise typer.Exit(1)


@app.command()
def check(
    notebook: Annotated[str, typer.Argument(help="An assignment, say 03-layer-norm, or the path of its notebook.")],
) -> None:
    """Run an assignment's notebook and its checks: points, reasons, and the next hint."""
    from lnorm.checks.notebook import check_notebook, find, hints
    from lnorm.checks.progress import FILE, remember

    try:
        name, path = find(notebook)
        folded = hints(path)
    except LookupError as error:
        console.print(f"[red]{escape(str(error.args[0]))}[/red]")
        raise typer.Exit(2) from error
    with console.status(f"Running {path.name}"):
        results = check_notebook(name, path)
    try:
        failed = remember(name, results)
    except OSError as error:
        console.print(f"[yellow]{FILE} cannot be written ({error.strerror}): this check is not remembered.[/yellow]")
        failed = {}

    table = Table(title=f"{name}, visible checks", title_justify="left", show_lines=True)
    table.add_column("Exercise")
    table.add_column("Points", justify="right")
    table.add_column("What is missing, and the next hint")
    for each in results:
        colour = "green" if each.points == each.possible else "yellow" if each.points else "red"
        text = escape("\n".join(each.reasons if each.started else ["not started yet"]))
        known = folded.get(each.name, [])
        if known and (tries := failed.get(each.name, 0)):
            number = min(tries, len(known))
            text += f"\n[cyan]Hint {number}:[/cyan] {escape(' '.join(known[number - 1].split()))}"
        table.add_row(escape(each.name), f"[{colour}]{each.points} of {each.possible}[/]", text)
    console.print(table)
    points, possible = sum(each.points for each in results), sum(each.possible for each in results)
    console.print(f"{points} of {possible} points. Written questions are read by a person and do not count here.")


@app.command()
def progress() -> None:
    """Show what you have done so far: all assignments, as they were last checked."""
    from lnorm.checks import ASSIGNMENTS, assignment
    from lnorm.checks.progress import load

    remembered = load()
    table = Table(title="Your progress", title_justify="left")
    for heading, side in (
        ("Assignment", "left"),
        ("Points", "right"),
        ("Exercises", "right"),
        ("Last checked", "left"),
    ):
        table.add_column(heading, justify=side)  # type: ignore[arg-type]
    for name in ASSIGNMENTS:
        exercises = assignment(name)
        last = remembered.get(name, {})
        done = [each for each in last.get("exercises", {}).values() if each["points"] == each["possible"]]
        table.add_row(
            name,
            f"{last.get('points', 0)} of {sum(each.points for each in exercises)}",
            f"{len(done)} of {len(exercises)}",
            last["checked"].replace("T", " ")[:16] if last else "not yet",
        )
    console.print(table)
    console.print("`lnorm check NAME` checks an assignment.")


@app.command()
def bench(
    quick: Annotated[bool, typer.Option(help="Two shapes and one thread: half a minute.")] = False,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = Path("results/bench.json"),
) -> None:
    """Measure the fused kernels against torch, other libraries and the memory of this machine."""
    from lnorm.kernels.bench import bench as measure
    from lnorm.kernels.bench import show

    show(measure(out, quick=quick), console)
