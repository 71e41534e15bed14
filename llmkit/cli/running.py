"""What the commands that run a model share: opening its engine, and the closing summary.

Knows options and notices; not what is asked of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from llmkit.cli.console import Console
from llmkit.engines.chat import ChatSettings
from llmkit.engines.elsewhere import Elsewhere
from llmkit.errors import UsageError, counted
from llmkit.models.builtin import DEFAULT, demonstration

if TYPE_CHECKING:
    from llmkit.cli.session import Session
    from llmkit.engines.base import Engine, TextEngine
    from llmkit.engines.decoding import Decoding
    from llmkit.engines.registry import Model
    from llmkit.jobs.outcome import Tally
    from llmkit.jobs.output import Output
    from llmkit.jobs.workers import WorkerSettings
    from llmkit.models.settings import ModelSettings
    from llmkit.rows import Rows


#: What the built-in writer does better with: it repeats itself when the likeliest token is always taken.
_BETTER = ", which writes better with --temperature 0.6 --repetition-penalty 1.1"


def open_model(
    settings: ModelSettings,
    out: Console,
    *,
    engine: str,
    decoding: Decoding | None = None,
    default: str = DEFAULT,
    chat: ChatSettings | None = None,
    draft: str | None = None,
    kept: Session | None = None,
) -> Engine:
    """The engine for a model reference; says so when the model is `default`, a small one.

    engine: its name, or 'auto'. decoding: how answers will be decoded, where that is known. kept: models that were opened before.
    Raises what `llmkit.engines.registry.open_engine` raises.
    """
    from llmkit.engines.registry import choose, open_engine

    if kept is not None:
        chosen, _ = choose(settings, engine, decoding)
        adapts = chosen.capabilities.token_ids  # only such an engine has `with_chat`
        place = (settings, chosen.name, "" if adapts else repr(chat))
        if place not in kept.models:
            kept.models[place] = open_model(settings, out, engine=chosen.name, decoding=decoding, default=default, chat=chat)
        return kept.models[place].with_chat(chat or ChatSettings()) if adapts else kept.models[place]

    _tell_default(settings, out, default, decoding)
    with out.phase("loading libraries") as phase:

        def report(line: str) -> None:  # what an engine says when all is there but the weights
            phase(f"loading {settings.reference}")
            out.detail(line)

        return open_engine(
            settings, engine=engine, decoding=decoding, chat=chat, draft=draft, report=report, warn=out.warn, notice=out.notice
        )


@contextmanager
def models_open(
    models: Sequence[Model], workers: WorkerSettings | None, out: Console, *, default: str = DEFAULT, kept: Session | None = None
) -> Iterator[list[Engine]]:
    """The engines of models that a job asks, here or in workers, until the end of the block. kept: see `open_model`.

    Raises what `open_model` raises, and UsageError for a model that no worker can run.
    """
    if workers is None:
        yield [
            open_model(m.settings, out, engine=m.engine, decoding=m.decoding, default=default, chat=m.chat, draft=m.draft, kept=kept)
            for m in models
        ]
        return
    from llmkit.engines.registry import choose
    from llmkit.jobs.ray import crew

    for model in models:
        kind, _ = choose(model.settings, model.engine, model.decoding)
        if kind.prefixes:
            raise UsageError("`workers` run a model on this or your machines, not one that servers run", hint="use `concurrency`")
        _tell_default(model.settings, out, default, model.decoding)
    with ExitStack() as stack:
        with out.phase(f"starting {counted(workers.count, 'worker')}"):
            ray_crew = stack.enter_context(crew(workers, models, out))
        yield list(ray_crew.engines)


def _tell_default(settings: ModelSettings, out: Console, default: str, decoding: Decoding | None) -> None:
    """Says so when the model is the one that nobody chose, which is small."""
    if settings.reference == default:
        better = _BETTER if settings.reference == DEFAULT and decoding is not None and _is_plain(decoding) else ""
        out.notice(demonstration(default, better) or "")


def model_identity(engine: TextEngine) -> dict[str, Any]:
    """What the engine adds to the identity of a run."""
    return {f"model.{name}": value for name, value in engine.identity.as_dict().items()}


def _is_plain(decoding: Decoding) -> bool:
    """Greedy, without anything that keeps a small model from repeating itself."""
    return decoding.temperature == 0 and decoding.num_beams == 1 and decoding.repetition_penalty == 1 and not decoding.no_repeat_ngram_size


def summarize(tally: Tally, engine: TextEngine, out: Console, output: Output | None = None, *, answer: str | None = None) -> int:
    """The closing lines of a run that read rows, and its exit code.

    output: where the answers are. answer: the field of an answer that the user can name with `--output-field`.
    """
    if tally.replaced:
        names = ", ".join(f"'{name}'" for name in sorted(tally.replaced))
        another = "; choose another name with --output-field" if answer in tally.replaced else ""
        out.notice(f"fields of the answer replace fields of the input: {names}{another}")
    if tally.failed:
        first = f"; the first: {tally.first_error}" if tally.first_error else ""
        out.warn(f"{tally.failed:,} of {counted(tally.rows, 'row')} failed{first}", hint=tally.first_hint)
    tell_limit(engine, out)
    about = engine.identity.as_dict()
    where = [about["engine"], about.get("device"), about.get("quantize", about.get("dtype"))]
    where += [engine.crew.label] if isinstance(engine, Elsewhere) else []
    asked = f"; {counted(tally.prompt_tokens, 'token')} in prompts" if engine.servers and tally.prompt_tokens else ""
    wrote = "" if output is None or tally.complete_before else f"; wrote {output.name} and {output.record_path.name}"
    out.notice(f"{tally}{asked}; {about['model']} on {', '.join(filter(None, where))}{wrote}")
    return tally.exit_code


def tell_speed(engine: TextEngine, tokens: int, seconds: float, out: Console) -> None:
    """Tokens per second of one answer, for who asked for details."""
    if tokens and seconds > 0:
        out.detail(f"{counted(tokens, 'token')} in {seconds:.2f} s, {tokens / seconds:,.1f} tokens/s")
    tell_limit(engine, out)


def tell_limit(engine: TextEngine, out: Console) -> None:
    """How near the model came to what this machine can do, where that was measured, for who asked for details."""
    from llmkit.engines.utilization import describe

    if (line := describe(engine)) is not None:
        out.detail(line)


def tell_no_rows(rows: Rows, out: Console) -> None:
    """Why nothing was answered: the input is empty, or this shard of it is. Nothing where no row was wanted."""
    if rows.max_rows == 0:
        return
    message = f"none of the {counted(rows.count, 'row')} in {rows.name} is in this shard" if rows.count else f"no rows in {rows.name}"
    out.notice(message)
