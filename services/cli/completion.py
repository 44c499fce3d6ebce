"""Completion: the script of each shell, and ids and names asked of the control plane while typing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from services.cli.commands import LocalCommand, session_of

if TYPE_CHECKING:
    from tunesmith.client.client import Client

PATIENCE_S = 0.25  # then silence: a slow completion is worse than none

HOW = {
    "bash": "tunesmith completion bash > ~/.local/share/bash-completion/completions/tunesmith",
    "zsh": "tunesmith completion zsh > ~/.zfunc/_tunesmith    # with fpath+=~/.zfunc before compinit",
    "fish": "tunesmith completion fish > ~/.config/fish/completions/tunesmith.fish",
}


@click.command(cls=LocalCommand)
@click.argument("shell", type=click.Choice(list(HOW)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell to stdout.

    Completes commands, options, and the ids and names that the control plane knows.
    """
    from services.cli.terminal import is_interactive

    kind = get_completion_class(shell)
    assert kind is not None, "click knows the three shells"
    session = session_of(ctx)
    print(kind(ctx.find_root().command, {}, "tunesmith", "_TUNESMITH_COMPLETE").source())
    import sys

    if is_interactive(sys.stdout):
        session.out.note(f"to install it: {HOW[shell]}")


Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def completer(find: Callable[[Client, str], Iterator[tuple[str, str]]]) -> Completer:
    """A completion that asks the control plane. find: (client, typed) → (what to type, what it is)."""

    def complete(ctx: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
        from tunesmith.client.client import Client
        from tunesmith.client.errors import ApiError

        server = ctx.find_root().params.get("server") or session_of(ctx).server
        try:
            with Client(server, total_timeout_s=PATIENCE_S) as client:
                found = list(find(client, typed))
        except ApiError:
            return []
        return [CompletionItem(text, help=help_text) for text, help_text in found if text.startswith(typed)]

    return complete


def _recent(method: Any, request: Any) -> Any:
    from tunesmith.client.lists import entries, read_list

    return entries(read_list(method, request, limit=50))


def _runs(client: Client, typed: str) -> Iterator[tuple[str, str]]:
    from services.cli.output import enum_text
    from tunesmith.v1 import run_pb2

    for run in _recent(client.runs.ListRuns, run_pb2.ListRunsRequest()):
        yield run.run_id, f"{enum_text(run, 'state')} {run.display_name}"


def _experiments(client: Client, typed: str) -> Iterator[tuple[str, str]]:
    from tunesmith.v1 import experiment_pb2

    for one in _recent(client.experiments.ListExperiments, experiment_pb2.ListExperimentsRequest()):
        yield one.experiment_id if typed.startswith("exp_") else one.name, one.description[:60]


def _datasets(client: Client, typed: str) -> Iterator[tuple[str, str]]:
    from tunesmith.v1 import dataset_pb2

    for one in _recent(client.datasets.ListDatasets, dataset_pb2.ListDatasetsRequest()):
        yield one.dataset_id if typed.startswith("dst_") else one.name, f"{one.sample_count} samples"


def _adapters(client: Client, typed: str) -> Iterator[tuple[str, str]]:
    from tunesmith.v1 import adapter_pb2

    for one in _recent(client.adapters.ListAdapters, adapter_pb2.ListAdaptersRequest()):
        yield one.adapter_id if typed.startswith("adp_") else f"{one.name}@{one.version}", one.base_model


def _models(client: Client, typed: str) -> Iterator[tuple[str, str]]:
    from tunesmith.v1 import model_pb2

    for one in _recent(client.models.ListModels, model_pb2.ListModelsRequest()):
        yield one.model_id if typed.startswith("mdl_") else f"{one.name}@{one.version}", f"loss {one.best_loss:.4g}"


def _nodes(client: Client, typed: str) -> Iterator[tuple[str, str]]:
    from tunesmith.v1 import node_pb2

    for one in _recent(client.nodes.ListNodes, node_pb2.ListNodesRequest()):
        yield one.node_id if typed.startswith("nod_") else one.name, one.device


RUNS = completer(_runs)
EXPERIMENTS = completer(_experiments)
DATASETS = completer(_datasets)
ADAPTERS = completer(_adapters)
MODELS = completer(_models)
NODES = completer(_nodes)
