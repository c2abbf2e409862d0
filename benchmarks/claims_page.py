"""Puts the figures of claims_SET.csv into docs/claims.md, where its cells ask for them.

    uv run python benchmarks/claims_page.py           # writes; the verdicts are written by hand
    uv run python benchmarks/claims_page.py --check   # says which figures differ

A cell asks by a comment: <!-- low: herding - random_image, accuracy, mean --> stands behind "+8.5 (7.7 to 9.3; 50)",
the paired difference with its Student's t interval and the seeds; <!-- low: herding, accuracy, 4 --> behind mean and
standard deviation. What was not run says "not run".
"""

from __future__ import annotations

import csv
import re
import sys
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "claims.md"
VALUE = r"(?:not run|[+\N{MINUS SIGN}]?\d[\d.]* (?:± (?:[\d.]+|nan) )?\([^()|]*\)) ?"
WANTED = re.compile(
    rf"(?P<value>{VALUE})?<!-- (?P<set>[\w.]+): (?P<row>[\w ]+?)(?: - (?P<base>[\w ]+))?, "
    r"(?P<quantity>\w+), (?P<round>\w+) -->"
)
"""A figure, if there is one yet, and the comment that asks for it."""


@cache
def lines(name: str, folder: Path = HERE / "results") -> tuple[dict[str, str], ...]:
    """The lines of a set's table; none if it was not run."""
    path = folder / f"claims_{name}.csv"
    if not path.exists():
        return ()
    with path.open(encoding="utf-8") as file:
        return tuple(csv.DictReader(line for line in file if not line.startswith("#")))


def figure(table: tuple[dict[str, str], ...], row: str, base: str | None, quantity: str, number: str) -> str:
    """One figure as text.

    >>> found = {"row": "a", "against": "b", "quantity": "accuracy", "round": "mean", "seeds": "9", "mean": "50.0"}
    >>> found |= {"std": "1.2", "minus": "2.04", "t_low": "-0.16", "t_high": "3", "bootstrap_low": "0"}
    >>> figure((found,), "a", "b", "accuracy", "mean"), figure((found,), "a", None, "accuracy", "mean")
    ('+2.0 (−0.2 to 3.0; 9)', '50.0 ± 1.2 (9)')
    >>> figure((), "a", "b", "accuracy", "mean")
    'not run'
    """
    wanted = {"row": row, "quantity": quantity, "round": number} | ({} if base is None else {"against": base})
    found = next((one for one in table if all(one[k] == v for k, v in wanted.items())), None)
    if found is None or (base is not None and not found.get("minus")):
        return "not run"
    places = 2 if quantity.endswith("_l1") else 1
    if base is None:
        text = f"{float(found['mean']):.{places}f} ± {float(found['std'] or 'nan'):.{places}f} ({found['seeds']})"
    else:
        ends = f"{float(found['t_low']):.{places}f} to {float(found['t_high']):.{places}f}"
        text = f"{float(found['minus']):+.{places}f} ({ends}; {found['seeds']})"
    return text.replace("-", "\N{MINUS SIGN}")


def filled(page: str) -> str:
    """The page with its figures as the tables have them; a comment keeps the place."""

    def put(asked: re.Match[str]) -> str:
        value = figure(lines(asked["set"]), asked["row"], asked["base"], asked["quantity"], asked["round"])
        return f"{value} {asked[0][len(asked['value'] or '') :]}"

    return WANTED.sub(put, page)


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    new = filled(page)
    changed = [b for a, b in zip(page.splitlines(), new.splitlines(), strict=True) if a != b]
    print(f"{len(changed)} lines differ" if changed else "nothing differs")
    if "--check" in sys.argv:
        sys.exit(bool(changed))
    PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
