"""Chat templates give what transformers gives, and can take neither memory nor time from a run."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, Run

from llmkit.engines.templates import apply, render
from llmkit.errors import InputError, ModelError

SHORT = ("--max-new-tokens", "4")
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Where is the 'old' <house>? Ünïcode 日本"},
    {"role": "assistant", "content": "By the sea.", "reasoning": "the king said so"},
    {"role": "user", "content": [{"type": "text", "text": "And the queen?"}], "name": None},
]
TOOLS = [{"type": "function", "function": {"name": "look", "description": "é", "parameters": {"type": "object", "properties": {}}}}]
#: The devices of templates in the field: ChatML, Llama 2, Llama 3.1, Qwen 3, DeepSeek, Gemma.
TEMPLATES = {
    "chatml": (
        "{% for message in messages %}\n  {{'<|im_start|>' + message['role'] + '\\n' + message['content']|string + '<|im_end|>' + '\\n'}}\n"
        "{% endfor %}\n{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "trimmed blocks and a namespace": (
        "{{- bos_token }}\n{%- set ns = namespace(last=none, seen=[]) %}\n    {%- for m in messages %}\n"
        "        {%- set ns.last = loop.index0 %}\n"
        "        {%- if m.role == 'system' %}{% continue %}{% endif %}\n"
        "{{ m.role.upper() | trim }}:{{ m.get('content')|tojson }}\n{%- endfor %}\n"
        "{{ ns.last }}{{ eos_token }}"
    ),
    "tools": (
        "{% if tools is not none %}{% for t in tools %}{{ t | tojson(indent=2) }}{{ t|tojson(sort_keys=True, separators=(',', ':')) }}"
        "{% endfor %}{% endif %}{{ documents is none }}"
    ),
    "reasoning": "{% for m in messages %}{% if m.reasoning_content is defined %}"
    "<think>{{ m.reasoning_content }}{{ m.thinking }}</think>{% endif %}{% endfor %}",
    "null fields": "{% for m in messages %}{{ 'name' in m }}{{ m.keys()|list }}{% endfor %}",
    "generation": "{% for m in messages %}{% generation %}{{ m.role }}\n  {% endgeneration %}"
    "{% if loop.last %}{% break %}{% endif %}{% endfor %}",
    "macro": "{% macro show(m, mark='#') %}{{ mark }}{{ m.role[0] }}{% endmacro %}{% for m in messages[::-1] %}{{ show(m) }}{% endfor %}",
    "functions": "{{ strftime_now('%Y') }}{{ dict(a=1) }}{{ dict.fromkeys(['x']) }}{{ range(3)|list }}{{ messages|length }}{{ nothing }}",
    "special tokens": "{{ bos_token }}{{ eos_token }}{{ unk_token }}{{ pad_token }}",
    "a value of its own": "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{{ enable_thinking }}",
}


@pytest.fixture(scope="module")
def tokenizer(llama: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(llama)


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("ask", [True, False])
def test_a_template_gives_what_transformers_gives(tokenizer: Any, template: str, ask: bool) -> None:
    more: dict[str, Any] = {"tools": TOOLS, "add_generation_prompt": ask, "enable_thinking": False}
    expected = tokenizer.apply_chat_template(MESSAGES, chat_template=template, tokenize=False, **more)
    assert apply(template, MESSAGES, tokenizer, **more) == expected


@pytest.mark.parametrize("content", ["By the", "By the ", [{"type": "text", "text": "By the"}]])
@pytest.mark.parametrize("filtered", ["", "|trim"])
def test_a_last_message_is_continued_as_transformers_does(tokenizer: Any, content: Any, filtered: str) -> None:
    text = "(m.content if m.content is string else m.content[0].text)" + filtered
    template = "{% for m in messages %}[{{ m.role }}] {{ " + text + " }}</s>\n{% endfor %}"
    messages = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": content}]
    # transformers changes the parts that it is given
    expected = tokenizer.apply_chat_template(
        json.loads(json.dumps(messages)), chat_template=template, tokenize=False, continue_final_message=True
    )
    assert apply(template, messages, tokenizer, continue_last=True) == expected


TOO_MUCH = {
    "repetition": "{{ 'a' * 2000000000 }}",
    "a repetition that is not shown": "{% set n = (messages|length) * 2000000000 %}{{ ('a' * n)|length }}",
    "width": "{{ '%2000000000d' % 1 }}",
    "format": "{{ '{:2000000000d}'.format(1) }}",
    "center": "{{ 'a'|center(2000000000) }}",
    "a method": "{{ 'a'.ljust(2000000000) }}",
    "a list": "{{ ([0] * 2000000000)|length }}",
    "doubling": "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "many pieces": "{% for i in range(99999) %}{{ 'a' * 20000 }}{% endfor %}",
}


@pytest.mark.parametrize("template", TOO_MUCH.values(), ids=TOO_MUCH)
def test_a_template_that_takes_too_much_memory_is_an_error(template: str) -> None:
    with pytest.raises(ModelError, match="chat template"):
        render(template, {"messages": [1]})
    assert render("{{ messages }}", {"messages": [1]}) == "[1]"


ENDLESS = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "one long operation": "{{ 7 ** 9999999999 }}",
    "indent": "{{ {'a': [1, [2, {'b': 3}]]}|tojson(indent=100000000) }}{% for i in range(99999) %}{{ 9 ** 999999 }}{% endfor %}",
}


@pytest.mark.parametrize("template", ENDLESS.values(), ids=ENDLESS)
def test_a_template_that_does_not_end_is_an_error_also_off_the_main_thread(template: str) -> None:
    raised: list[BaseException] = []

    def call() -> None:
        try:
            render(template, {}, seconds=1)
        except BaseException as exc:
            raised.append(exc)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(PATIENCE)
    assert [type(exc) for exc in raised] == [ModelError]


def test_templates_of_several_threads_do_not_mix() -> None:
    answers: dict[int, str] = {}

    def call(number: int) -> None:
        answers[number] = "".join(render("{{ n }};", {"n": number}) for _ in range(50))

    threads = [threading.Thread(target=call, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert answers == {n: f"{n};" * 50 for n in range(8)}


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ namespace(__init__=1) }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception('no') }}",
        "{% include 'x' %}",
        "{{ 1 / 0 }}",
    ],
)
def test_what_the_sandbox_forbids_refuses_the_conversation(template: str) -> None:
    try:
        text = render(template, {"messages": []})
    except InputError:
        return
    assert text == ""


def test_a_template_sees_no_environment_and_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    from llmkit.engines.templates import Renderer

    renderer = Renderer()
    assert renderer.render("{{ 1 }}", {}, 10) == "1"
    child = renderer._child
    assert child is not None
    environment = Path(f"/proc/{child.pid}/environ")
    if environment.exists():
        assert b"hf_secret" not in environment.read_bytes()


def test_a_run_with_a_hostile_template_ends_with_one_line(run: Run, llama: Path, tmp_path: Path) -> None:
    shutil.copytree(llama, tmp_path / "m")
    (tmp_path / "m" / "chat_template.jinja").write_text("{{ 'a' * 2000000000 }}")
    ran = run("generate", "-m", tmp_path / "m", "the king", *SHORT)
    assert ran.code == 5
    assert "chat template" in ran.err
    assert len(ran.err.splitlines()) <= 3
