"""A model behind OpenAI-compatible servers (vLLM, SGLang, llama.cpp, hosted ones): prompts go as they are, answers come as text.

One rule says how: a prompt goes to the chat endpoint, where the server's own template applies; with `chat_template` none it goes
to the endpoint of plain completions as the text that it is. Imports neither torch nor transformers.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from llmkit.engines.base import Check, Completion, ModelFacts, ModelIdentity, Notify, Request, TokenScore, never_stop, notify_nobody
from llmkit.engines.chat import ChatSettings, is_chat, whole_conversation
from llmkit.engines.decoding import DEFAULT_NEW_TOKENS, Decoding
from llmkit.engines.detokenize import find_stop
from llmkit.engines.openai import ENGINE, protocol
from llmkit.engines.openai.client import Client, Clock, NoAnswerError
from llmkit.engines.turns import Turns
from llmkit.errors import InputError, UnavailableError, UsageError, counted
from llmkit.models.settings import ModelSettings, ServerSettings, check_base
from llmkit.rows.fields import Prompt

T = TypeVar("T")

_OPENAI = "https://api.openai.com/v1"
#: Bytes of text that are about a token, where only a server can count.
_BYTES_A_TOKEN = 3


@dataclass(frozen=True)
class ServerRequest(Request):
    """A prompt as a server reads it; the tokens are the server's business."""

    prompt: Prompt = field(default_factory=Prompt)


class OpenAIEngine:
    """The model `name` of the servers at `bases`. key: what they want to see, None for none. context: tokens, where it is known."""

    name = ENGINE.name
    token_ids = False
    encoder_decoder = False

    def __init__(
        self, name: str, bases: tuple[str, ...], *, key: str | None = None, server: ServerSettings | None = None,
        chat: ChatSettings | None = None, clock: Clock | None = None, warn: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        settings = server or ServerSettings()
        self._name, self._warn = name, warn
        self.chat = chat or ChatSettings()
        if self.chat.template not in ("auto", "none"):
            raise UsageError("a server has its own chat template", hint="`chat_template` auto, or none for plain completions")
        if self.chat.template == "none" and self.chat.system is not None:
            raise UsageError("`system` needs the server's chat template", hint="remove `chat_template` none")
        if self.chat.template == "none" and self.chat.values:
            raise UsageError("`chat_template_kwargs` needs the server's chat template", hint="remove `chat_template` none")
        self.concurrency, self.servers = settings.concurrency, bases
        self.turns: Turns | None = None  # each waits for its own answer
        self.context: int | None = None
        self._client = Client(bases, key, settings, clock=clock or Clock(), warn=warn)
        self._unknown: set[str] = set()  # optional fields that the server does not know
        self._limit = protocol.LIMIT
        self._scores: protocol.Scores | None = None  # how it gives those of given texts, once that is known
        self._said: set[str] = set()

    @cached_property
    def identity(self) -> ModelIdentity:
        """The model's name and the endpoint: a server shows no hash, so two models of one name count as the same."""
        return ModelIdentity(engine=self.name, model=f"openai:{self._name}", endpoint="chat" if self._chats else "text")

    @property
    def _chats(self) -> bool:
        return self.chat.template == "auto"

    def check(self) -> None:
        """Asks the servers for their models, and learns the context. Raises UnavailableError when none answers, or refuses the key."""
        listed = self._client.run(self._client.models())
        about = listed.get(self._name, {})
        context = about.get("max_model_len")
        self.context = context if isinstance(context, int) and context > 0 else None
        if listed and not about:
            self._warn(f"the server lists no model '{self._name}'; it lists {', '.join(list(listed)[:8])}")

    def facts(self) -> ModelFacts:
        """The name, and whether a chat template applies; a server tells no languages and no tokens."""
        return ModelFacts(f"openai:{self._name}", "openai", False, self._chats, (), (), ())

    def length(self, text: str) -> int:
        """An estimate: three bytes of UTF-8 a token."""
        return len(text.encode("utf-8", "replace")) // _BYTES_A_TOKEN + 1

    def make_request(self, prompt: Prompt, decoding: Decoding, number: int = 0) -> Request:
        """As `TextEngine.make_request`, without tokens: whether a prompt fits, the server says.

        Raises InputError for an empty prompt or a conversation to be continued, UsageError for what needs a template.
        """
        if prompt.continue_last:
            raise InputError("a server can't continue a conversation's last message", hint="let the conversation end with the user's turn")
        if prompt.messages is not None and not self._chats:
            raise UsageError("the prompt is a conversation, which needs the server's chat template", hint="remove `chat_template` none")
        if prompt.messages is None and not prompt.text:
            raise InputError("the prompt is empty", hint="give it some text")
        is_chat(prompt, self.chat)
        return ServerRequest((), decoding.max_new_tokens or DEFAULT_NEW_TOKENS, number, prompt=prompt)

    def generate(self, requests: Sequence[Request], decoding: Decoding, *, check: Check = never_stop) -> list[list[Completion]]:
        """As `TextEngine.generate`. Each sample is a request of its own, so that its seed and its tokens are known."""
        ENGINE.check_decoding(decoding)
        samples = range(decoding.num_samples)

        async def all_answers() -> list[Completion]:
            return await asyncio.gather(*(self._answer(request, decoding, sample) for request in requests for sample in samples))

        done = self._client.run(all_answers(), check)
        each = decoding.num_samples
        return [done[i : i + each] for i in range(0, len(done), each)]

    def stream(self, request: Request, decoding: Decoding, write: Callable[[str], None]) -> Completion:
        """As `TextEngine.stream`. Raises UnavailableError when it breaks off; warns of an end that is none of a model's."""
        path, body = self._body(request, decoding, 0)
        shown, streamed = _Shown(decoding.stop, write), protocol.Streamed(chat=path == protocol.CHAT)

        async def ask(sent: Mapping[str, Any]) -> None:
            await self._client.stream(path, sent, lambda event: shown.add(streamed.add(event)))

        try:
            self._client.run(self._learning(ask, body | {"stream": True}))
        except NoAnswerError as exc:
            raise UnavailableError(str(exc)) from None
        shown.finish()
        answer = streamed.completion(shown.text, replace(decoding, logprobs=False))
        if answer.error is None and answer.finish_reason not in protocol.ENDS:
            self._warn(f"the server ended the answer: {answer.finish_reason}")
        elif answer.error is None and not answer.text:
            self._warn("the answer is empty")
        return answer

    def score_answers(self, items: Sequence[tuple[Prompt, str]], *, check: Check = never_stop) -> list[list[TokenScore]]:
        """As `TextEngine.score_answers`: the server gives the log-probabilities of a text, in one of the forms of `protocol.SCORES`.

        An answer begins with the first token after as many as the prompt has by itself, trailing spaces aside, which is the rule
        of the engines here. Raises UnavailableError for a server that gives none, InputError for a text that it gives no answer to,
        UsageError for a prompt that needs a template.
        """
        befores = []
        for prompt, _ in items:
            if prompt.messages is not None or (self._chats and (prompt.text or "") != ""):
                raise UsageError("a server scores plain text alone, not what follows a chat template", hint="`chat_template` none")
            befores.append((prompt.plain or prompt.text or "").rstrip(" "))

        async def all_scores() -> tuple[dict[str, int], list[list[tuple[str, float | None]]]]:
            wanted = list(dict.fromkeys(before for before in befores if before))
            texts = [(prompt.plain or prompt.text or "") + answer for prompt, answer in items]
            counts, scores = await asyncio.gather(
                asyncio.gather(*(self._count(text) for text in wanted)), asyncio.gather(*(self._given(text) for text in texts))
            )
            return dict(zip(wanted, counts, strict=True)), scores

        try:
            counts, scores = self._client.run(all_scores(), check)
        except NoAnswerError as exc:
            raise InputError(str(exc)) from None
        return [
            [TokenScore(token, value) for token, value in tokens[counts.get(before, 0) :] if value is not None]
            for before, tokens in zip(befores, scores, strict=True)
        ]

    async def _answer(self, request: Request, decoding: Decoding, sample: int) -> Completion:
        path, body = self._body(request, decoding, sample)

        async def ask(sent: Mapping[str, Any]) -> Completion:
            return await self._client.ask(path, sent, lambda content: protocol.completion_of(content, decoding, chat=path == protocol.CHAT))

        try:
            answer = await self._learning(ask, body)
        except NoAnswerError as exc:
            return Completion("", "error", 0, 0, error=str(exc))
        if decoding.logprobs and answer.error is None and answer.logprobs is None:
            raise UnavailableError("the server gives no log-probabilities", hint="remove `logprobs`")
        if answer.error is None and answer.prompt_tokens == 0:
            self._say_once("the server does not say how many tokens it used; they are counted as 0")
        return answer

    async def _count(self, text: str) -> int:
        """The tokens of a text, those that begin it included."""
        tokens = (await self._plain(text, {}, protocol.usage))[0]
        if tokens == 0:
            raise UnavailableError("the server does not count the tokens of a prompt, so it can't score what follows one")
        return tokens

    async def _given(self, text: str) -> list[tuple[str, float | None]]:
        """The tokens of a text with their log-probabilities, in the form that the server has. Raises UnavailableError for none."""
        forms = protocol.SCORES if self._scores is None else (self._scores,)
        refusals = []
        for form in forms:
            try:
                kept = await self._plain(text, form.fields, form.read)
            except NoAnswerError as exc:
                if exc.status not in (400, 422):
                    raise
                refusals.append(exc)
                continue
            if kept is not None:
                self._scores = form
                return kept
        if len(refusals) == len(forms):
            raise refusals[0]  # the text is at fault
        raise UnavailableError(
            "the server gives no log-probabilities of given texts ('echo' with 'logprobs', or 'prompt_logprobs')",
            hint="vLLM and SGLang do; or use the model itself with -m",
        )

    async def _plain(self, text: str, more: Mapping[str, Any], read: Callable[[dict[str, Any]], T]) -> T:
        body = {"model": self._name, "prompt": text, **protocol.fields(Decoding(), 1, 0, chat=False), **more}

        async def ask(sent: Mapping[str, Any]) -> T:
            return await self._client.ask(protocol.TEXT, sent, read)

        return await self._learning(ask, body)

    def _body(self, request: Request, decoding: Decoding, sample: int) -> tuple[str, dict[str, Any]]:
        """The endpoint, and the fields for it."""
        if not isinstance(request, ServerRequest):
            raise TypeError("a request of another engine")
        prompt, seed = request.prompt, protocol.seed_of(decoding, request.number, sample)
        chats = self._chats and is_chat(prompt, self.chat)
        said = protocol.fields(decoding, request.max_new_tokens, seed, chat=chats)
        if not chats:
            return protocol.TEXT, {"model": self._name, "prompt": prompt.plain or prompt.text, **said}
        messages = whole_conversation(prompt, self.chat)
        tools = {"tools": list(prompt.tools)} if prompt.tools else {}
        values = {**self.chat.values, **(prompt.template_values or {})}
        shown = {protocol.TEMPLATE_VALUES: values} if values else {}
        return protocol.CHAT, {"model": self._name, "messages": messages, **tools, **shown, **said}

    async def _learning(self, ask: Callable[[Mapping[str, Any]], Awaitable[T]], body: dict[str, Any]) -> T:
        """`ask` with the fields of `body` that the server knows, learning from its refusals which those are."""
        while True:
            sent = {name: value for name, value in body.items() if name not in self._unknown}
            if self._limit != protocol.LIMIT and protocol.LIMIT in sent:
                sent[self._limit] = sent.pop(protocol.LIMIT)
            try:
                return await ask(sent)
            except NoAnswerError as exc:
                if exc.status not in (400, 422) or not self._learns(str(exc), sent):
                    raise

    def _learns(self, refusal: str, sent: Mapping[str, Any]) -> bool:
        """Whether a refusal says that another request may be answered. Raises UsageError for a field that was asked for."""
        if "chat template" in refusal and self._chats:
            raise UsageError(refusal, hint="`chat_template` none sends plain completions")
        if protocol.TEMPLATE_VALUES in refusal and protocol.TEMPLATE_VALUES in sent:
            raise UsageError(f"the server does not take `{protocol.TEMPLATE_VALUES}`: {refusal}", hint="remove it")
        if protocol.OTHER_LIMIT in refusal and protocol.LIMIT in sent:
            self._limit = protocol.OTHER_LIMIT
            return True
        neutral = protocol.OPTIONAL | ({"seed": sent.get("seed")} if sent.get("temperature") == 0 else {})  # which decides nothing then
        named = [name for name in neutral if name in sent and re.search(rf"\b{name}\b", refusal)]
        if asked := [name for name in named if sent[name] != neutral[name]]:
            raise UsageError(f"the server does not accept {', '.join(f'`{name}`' for name in asked)}: {refusal}")
        self._unknown |= set(named)
        if named:
            self._say_once(f"the server does not know {', '.join(named)}, so they are left out of its requests")
        return bool(named)

    def _say_once(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            self._warn(message)


class _Shown:
    """Text that arrives in parts and may be shown: nothing of a stop string, also where the server does not stop there."""

    def __init__(self, stops: Sequence[str], write: Callable[[str], None]) -> None:
        self._stops, self._write, self.text, self._shown = tuple(stops), write, "", 0
        self._longest = max(map(len, self._stops), default=1) - 1

    def add(self, part: str) -> None:
        self.text += part
        self._show(len(self.text) - self._longest)

    def finish(self) -> None:
        self._show(len(self.text))

    def _show(self, end: int) -> None:
        stop = find_stop(self.text, self._stops)
        end = end if stop is None else min(stop, len(self.text))
        if end > self._shown:
            self._write(self.text[self._shown : end])
            self._shown = end


def open_engine(
    settings: ModelSettings, *, chat: ChatSettings | None = None, draft: str | None = None, report: Notify = notify_nobody,
    warn: Notify = notify_nobody,
) -> OpenAIEngine:  # fmt: skip
    """The engine for `openai:MODEL`, once a server has answered. The key is that of OPENAI_API_KEY.

    Raises UsageError without a server's address or key, UnavailableError without the client library, or when no server answers.
    """
    if draft is not None:
        raise UsageError(f"the engine {ENGINE.name} has no speculation")
    key = os.environ.get("OPENAI_API_KEY", "").strip() or None
    bases = settings.server.bases
    if not bases and (named := os.environ.get("OPENAI_BASE_URL", "").strip()):
        check_base(named, "OPENAI_BASE_URL")
        bases = (named,)
    if not bases and key is None:
        raise UsageError("no server given", hint="name one with `api_base`, for example http://localhost:8000/v1, or set OPENAI_API_KEY")
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):  # which the client library sends
        value = os.environ.get(name, "").strip()
        if not (value.isascii() and value.isprintable()):
            raise UnavailableError(f"{name} contains a character that is not allowed in a header of HTTP", hint="copy it again")
    try:
        import openai
    except ImportError as exc:
        raise UnavailableError("the client library of OpenAI's protocol is not installed", hint='pip install "llmkit[openai]"') from exc
    _ = openai
    bases = tuple(dict.fromkeys(base.rstrip("/") for base in bases)) or (_OPENAI,)
    engine = OpenAIEngine(settings.reference.removeprefix("openai:"), bases, key=key, server=settings.server, chat=chat, warn=warn)
    report(f"{settings.reference}: {', '.join(bases)}; {counted(engine.concurrency, 'request')} at once")
    engine.check()
    return engine
