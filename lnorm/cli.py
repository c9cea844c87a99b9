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
    no_args_is_help=True, add_completion=False, help="Normalization in deep learning: run the experiments."
)
console = Console()


@app.callback()
def main() -> None:
    """Keep `run` a subcommand while it is the only one."""


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
