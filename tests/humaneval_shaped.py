"""A small set of problems of HumanEval's shape, with a right solution to each and several wrong ones.

Each problem: its name, the head of its function with the docstring, the body of `check(candidate)`, a right body, and wrong bodies
that a careless test lets through: off by one, the empty case, a changed argument, the last of equals, an early exit.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    name: str
    head: str
    test: str
    right: str
    wrong: tuple[str, ...]

    def row(self, body: str) -> dict[str, object]:
        """A row as HumanEval has it, answered with `body`."""
        test = "METADATA = {'author': 'llmkit'}\n\n\ndef check(candidate):\n" + "".join(f"    {line}\n" for line in self.test.splitlines())
        head = f'{self.head}\n    """See the test."""\n'
        answer = "".join(f"    {line}\n" for line in body.splitlines())
        return {"task_id": f"set/{self.name}", "prompt": head, "entry_point": self.name, "test": test, "text": answer}


PROBLEMS = (
    Problem(
        "running_total",
        "def running_total(numbers: list) -> list:",
        "assert candidate([]) == []\nassert candidate([1, 2, 3]) == [1, 3, 6]\nassert candidate([-1, 1, 5]) == [-1, 0, 5]",
        "out, total = [], 0\nfor n in numbers:\n    total += n\n    out.append(total)\nreturn out",
        ("return [sum(numbers[:i]) for i in range(len(numbers))]", "return numbers", "return [sum(numbers)]"),
    ),
    Problem(
        "second_largest",
        "def second_largest(numbers: list):",
        "assert candidate([3, 1, 2]) == 2\nassert candidate([5, 5, 4]) == 4\n"
        "assert candidate([7]) is None\nassert candidate([2, 2]) is None",
        "found = sorted(set(numbers))\nreturn found[-2] if len(found) > 1 else None",
        ("return sorted(numbers)[-2]", "return sorted(numbers)[-2] if len(numbers) > 1 else None", "return max(numbers)"),
    ),
    Problem(
        "vowel_free",
        "def vowel_free(text: str) -> str:",
        "assert candidate('') == ''\nassert candidate('Apple Pie') == 'ppl P'\nassert candidate('xyz\\nuo') == 'xyz\\n'",
        "return ''.join(c for c in text if c.lower() not in 'aeiou')",
        ("return ''.join(c for c in text if c not in 'aeiou')", "return text", "return ''.join(c for c in text if c in 'aeiouAEIOU')"),
    ),
    Problem(
        "is_balanced",
        "def is_balanced(text: str) -> bool:",
        "assert candidate('')\nassert candidate('(()())')\nassert not candidate(')(')\nassert not candidate('((')",
        "depth = 0\nfor c in text:\n    depth += 1 if c == '(' else -1\n    if depth < 0:\n        return False\nreturn depth == 0",
        ("return text.count('(') == text.count(')')", "return True", "return text[:1] != ')'"),
    ),
    Problem(
        "digits_sum",
        "def digits_sum(number: int) -> int:",
        "assert candidate(0) == 0\nassert candidate(1234) == 10\nassert candidate(-52) == 7",
        "return sum(int(c) for c in str(abs(number)))",
        ("return number % 9", "return sum(int(c) for c in str(number) if c != '-') - 1", "return abs(number)"),
    ),
    Problem(
        "merge_sorted",
        "def merge_sorted(one: list, other: list) -> list:",
        "a, b = [1, 4], [2, 3, 9]\nassert candidate(a, b) == [1, 2, 3, 4, 9]\n"
        "assert (a, b) == ([1, 4], [2, 3, 9])\nassert candidate([], []) == []",
        "return sorted([*one, *other])",
        ("one.extend(other)\none.sort()\nreturn one", "return one + other", "return sorted(set(one) | set(other))[1:]"),
    ),
    Problem(
        "roman",
        "def roman(number: int) -> str:",
        "assert [candidate(n) for n in (1, 4, 9, 14, 40)] == ['I', 'IV', 'IX', 'XIV', 'XL']",
        "out = ''\nfor value, sign in ((40, 'XL'), (10, 'X'), (9, 'IX'), (5, 'V'), (4, 'IV'), (1, 'I')):\n"
        "    while number >= value:\n        out, number = out + sign, number - value\nreturn out",
        ("return 'I' * number", "return {1: 'I', 4: 'IV', 9: 'IX', 14: 'XIIII', 40: 'XL'}[number]", "return ''"),
    ),
    Problem(
        "longest_run",
        "def longest_run(text: str) -> int:",
        "assert candidate('') == 0\nassert candidate('aabbbc') == 3\nassert candidate('abab') == 1\nassert candidate('zzzz') == 4",
        "import itertools\nreturn max((len(list(g)) for _, g in itertools.groupby(text)), default=0)",
        ("return max(text.count(c) for c in text) if text else 0", "return len(set(text))", "return 1"),
    ),
    Problem(
        "median",
        "def median(numbers: list) -> float:",
        "assert candidate([3]) == 3\nassert candidate([4, 1, 3]) == 3\nassert candidate([1, 2, 3, 10]) == 2.5",
        "s = sorted(numbers)\nm = len(s) // 2\nreturn s[m] if len(s) % 2 else (s[m - 1] + s[m]) / 2",
        ("return sorted(numbers)[len(numbers) // 2]", "return sum(numbers) / len(numbers)", "return numbers[len(numbers) // 2]"),
    ),
    Problem(
        "chunks",
        "def chunks(items: list, size: int) -> list:",
        "assert candidate([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4], [5]]\nassert candidate([], 3) == []\nassert candidate([1], 5) == [[1]]",
        "return [items[i:i + size] for i in range(0, len(items), size)]",
        ("return [items[i:i + size] for i in range(0, len(items) - size + 1, size)]", "return [items]", "return [[i] for i in items]"),
    ),
)  # fmt: skip
#: Ends of a program that would be taken for success by who looks at the exit status alone; they stand behind a wrong body.
EARLY_ENDS = (
    "import sys\nsys.exit(0)\n",
    "import os\nos._exit(0)\n",
    "raise SystemExit\n",
    "if __name__ == '__main__':\n    raise SystemExit(0)\n",
    "def check(candidate):\n    return True\nexit()\n",
)
