"""A chat template gives the same text with Jinja alone as through transformers' tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest

from llmkit.engines.template import render_template

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief. <b>&amp;</b>"},
    {"role": "user", "content": "Hello 'you'"},
    {"role": "assistant", "content": "Hi.", "reasoning": "Greet."},
    {"role": "user", "content": "Bye\n"},
]
TEMPLATES = {
    "roles": "{% for m in messages %}<|{{ m['role'] }}|>{{ m.content | trim }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|a|>{% endif %}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{% endfor %}",
    "json": "{{ messages[:2] | tojson }} {{ messages[0] | tojson(indent=2) }}",
    "loop controls": "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}{% break %}{% endfor %}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "blocks": "{% for m in messages %}\n    {% if true %}\n  {{ m.role }}\n    {% endif %}\n{% endfor %}",
    "reasoning": "{% for m in messages %}{{ m.reasoning_content }}{{ m.thinking }}{% endfor %}",
    "defaults": "{{ bos_token }}{% if tools is none %}no tools{% endif %}{% if documents %}documents{% endif %}{{ unknown is defined }}",
}


@pytest.mark.parametrize("ask", [True, False])
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_template_gives_the_text_that_transformers_gives(template: str, ask: bool, gpt2: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gpt2)
    theirs = tokenizer.apply_chat_template(MESSAGES, chat_template=template, tokenize=False, add_generation_prompt=ask)
    assert render_template(template, MESSAGES, tokenizer.special_tokens_map, ask=ask) == theirs


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ strftime_now.__globals__.keys() }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    ],
)
def test_a_template_can_not_leave_its_sandbox(template: str) -> None:
    with pytest.raises(jinja2.TemplateError):
        render_template(template, MESSAGES, {}, ask=False)


def test_a_template_refuses_a_conversation_in_its_own_words() -> None:
    with pytest.raises(jinja2.TemplateError, match="roles must alternate"):
        render_template("{{ raise_exception('roles must alternate') }}", MESSAGES, {}, ask=False)
