"""What of the section `budget` goes with the questions that are asked: what it counts is a price of each of them."""

from __future__ import annotations

from labelwise.config.query_rule import QueryRule
from labelwise.config.sections import AskRule


def unfit(query: QueryRule, counted: str, ask: AskRule, classifies: bool, own_detector: bool) -> list[str]:
    """Why these questions don't go with what `budget.unit` counts, in words; nothing if they do."""
    asked, found = query.asked, list[str]()
    if len(asked) > 1 and counted != "seconds":
        found.append(
            f'query.units = {list(asked)} are ranked by what a second brings, and budget.unit = "{counted}" counts '
            'something else, by which an image may be as dear as a box; set budget.unit = "seconds"'
        )
    elif counted == "images" and not query.one_per_image:
        found.append(f'budget.unit = "images" counts image queries; with {asked[0]} queries take boxes')
    if len(asked) > 1 and ask.again:
        found.append("ask.again sets a question beside others of its unit; with several query.units leave it out")
    if ask.review_share and (own_detector or (counted == "images" and not classifies)):
        found.append(
            "ask.review_share is of the rounds of `labelwise run`, and of a budget in boxes, queries or seconds "
            "(a question about one box costs no image); remove it, or set another budget.unit"
        )
    return found
