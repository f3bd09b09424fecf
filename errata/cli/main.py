"""The `errata` command: its parts, put together."""

from typing import Annotated

import typer

from errata.cli import look, measure, orders, states
from errata.cli.bench import bench
from errata.cli.data import data
from errata.cli.demo import demo
from errata.cli.health import guard, health
from errata.cli.train import train
from errata.cli.up import up
from errata.cli.watch import watch

app = typer.Typer(
    name="errata",
    help="Correct facts inside a language model, measure what moved, and take it back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
COMMANDS = {
    "Run": (up, demo),
    "Change": (
        orders.edit,
        orders.retract,
        orders.restore,
        orders.compact,
        orders.cancel,
        orders.stats,
        states.label,
        guard,
    ),
    "Look": (
        look.probe,
        look.models,
        look.editors,
        look.edits,
        states.snapshots,
        states.diff,
        health,
        watch,
    ),
    "Measure": (measure.forecast, measure.suites, measure.evals),
}
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.command("eval", rich_help_panel="Measure")(measure.evaluate)
app.command(
    "bench",
    rich_help_panel="Measure",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(bench)
app.add_typer(data, name="data", rich_help_panel="Measure")
app.add_typer(train, name="train", rich_help_panel="Run")


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # noqa: PLC0415 - slow, and seldom asked

        print(version("errata"))
        raise typer.Exit


@app.callback()
def options(
    _show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Correct facts inside a language model, measure what moved, and take it back."""


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()
