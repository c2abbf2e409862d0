"""What does not go with rounds that train and rank anew while they ask (`ask.live_answers`)."""

from __future__ import annotations

from labelwise.config.sections import AskRule


def unfit(ask: AskRule, model: str, *, solved: bool) -> list[str]:
    """`solved`: the model is solved in one go, in a second, and not trained over epochs."""
    if ask.live_answers is None:
        return []
    found = []
    if not solved:
        found.append(
            f"ask.live_answers trains after every few answers, and {model} takes minutes: take a model that is solved "
            'in a second, "frozen" or "head" (`labelwise init --model frozen`), or ask in rounds, without '
            "ask.live_answers (`labelwise run --oracle people` beside `labelwise serve`)"
        )
    if ask.again:
        found.append("ask.again mixes questions into a round's ranking, which ask.live_answers renews: set one of them")
    return found
